"""The stages before Nova's on a lab: one run undisturbed, and what disturbed ones are compared with it."""

import re
import time
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache

from tests.chaos.side_by_side import say
from tests.chaos.strikes import Strike
from tests.support.controllers import KILLED, Books, Controller
from tests.support.labs import TestLab, lab_up
from tests.support.snapshot import Snapshot, differences
from tests.support.undisturbed import at_rest, files_of, settle

CELLS, COMPUTES = 1, 1
STAGES = ("ceilometer", "glance", "keystone", "cinder", "clients")
RUN = ("run", "all", "--yes")
TOP, DATABASE, CELL, CLIENT = "top-api01", "top-infra01", "c01-ctl01", "cli01"
_RUN_ID = re.compile(r"\b\d{8}-\d{6}(?:-\d+)?\b")
_KEYS = "select sha2(access, 256) from keystone.ec2_credential order by 1"
_MOVED = "select id from keystone.credential where type = 'ec2' order by 1"
_CONTENTS = "cd /etc; sha256sum */policy.json* 2>/dev/null || :"


@dataclass(frozen=True)
class Left:
    """What the stages left, after a run of Puppet on each host.

    Attributes:
        snapshot: of all hosts, with what was done to each how often.
        files: the files on each host, as `files_of` tells them, without the runs' ids.
        policies: on each host the SHA-256 of each policy, and of what was kept of it.
    """

    snapshot: Snapshot
    files: dict[str, list[str]]
    policies: dict[str, list[str]]


def component_lab(name: str) -> AbstractContextManager[TestLab]:
    """A lab with all components of these stages."""
    return lab_up(name, CELLS, COMPUTES, STAGES)


def left(lab: TestLab) -> Left:
    """Look at a lab whose stages are done, and at its journal: each run complete, each step accounted for."""
    at_rest(lab)
    books = Books(lab)
    with books.open() as journal:
        runs = [(run.stage, run.state, run.exit_code) for run in journal.runs()]
    assert sorted(runs) == sorted((stage, "complete", 0) for stage in STAGES), runs
    for stage in STAGES:
        books.check(stage=stage)
    settle(lab)
    files = {host: [_RUN_ID.sub("RUN", name) for name in names] for host, names in files_of(lab).items()}
    policies = {
        host.name: sorted(_RUN_ID.sub("RUN", lab.on(host.name, _CONTENTS)).splitlines()) for host in lab.spec.hosts()
    }
    return Left(lab.snapshot(), {host: sorted(names) for host, names in files.items()}, policies)


@cache
def undisturbed(name: str) -> Left:
    """Bring a lab up, carry the stages through up to Nova's, look, take it down; once for all tests of a session."""
    with component_lab(name) as lab:
        keys = keys_before(lab)
        began = time.monotonic()
        up_to_nova(lab)
        say(f"undisturbed: {', '.join(STAGES)} in {time.monotonic() - began:.0f} s")
        found = left(lab)
        assert_moved(lab, keys)
        return found


def up_to_nova(lab: TestLab) -> None:
    """`run all`, killed where the run of nova would begin: what is not done is done, and all of it once."""
    strike = Strike("begin_run", len(set(STAGES) - begun(lab)) + 1, "before")
    run = Controller(lab, *RUN, struck=strike.as_json())
    try:
        run.wait(expect=KILLED, timeout=900)
    finally:
        run.end()


def begun(lab: TestLab) -> set[str]:
    """The stages that have a run."""
    books = Books(lab)
    if not books.path.exists():
        return set()
    with books.open() as journal:
        return {run.stage for run in journal.runs()}


def same(lab: TestLab, reference: Left) -> None:
    """All is as an undisturbed run leaves it."""
    found = left(lab)
    assert differences(reference.snapshot, found.snapshot, ignore=("processes",)) == []
    for what, has, wanted in (
        ("files", found.files, reference.files),
        ("policies", found.policies, reference.policies),
    ):
        odd = {host: sorted(set(has[host]) ^ set(wanted[host])) for host in wanted}
        assert {host: names for host, names in odd.items() if names} == {}, what


def keys_before(lab: TestLab) -> dict[str, list[str]]:
    """The EC2 keys of each of Grizzly's databases, as Havana names them."""
    return {host: lab.sql(host, _KEYS).split() for host in (DATABASE, CELL)}


def assert_moved(lab: TestLab, keys: dict[str, list[str]]) -> None:
    """Each key is where Havana looks for it, and no other is."""
    assert all(keys.values()), keys
    assert {host: lab.sql(host, _MOVED).split() for host in keys} == keys
