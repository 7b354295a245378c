"""Each fault of the lab is met in an upgrade: it is named, the other nodes finish, and nothing waits for ever.

One lab with six compute nodes; several of them are ill at once, each with its own illness.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from lab.commands import wait_until
from lab.control import machine
from tests.chaos.side_by_side import say
from tests.support.controllers import Books, Controller, controller, within
from tests.support.labs import TestLab, lab_up
from tests.support.undisturbed import NAME, boots, slow, transactions

pytestmark = pytest.mark.lab

CELL = "c01-ctl01"
# By hand and not promoted: Puppet would update by itself where it is not disabled yet.
HAVANA = "sed s/grizzly/havana/ /etc/yum.repos.d/grizzly.repo > /etc/yum.repos.d/havana.repo"
NODES = tuple(f"c01-n{number:02}" for number in range(1, 7))
STEP = "Update the RPMs on the compute nodes"
REBOOT = "Reboot the cell controllers for the new kernel"
GATE = "Check out the service communications"
ALL_MAY_BE_LOST = tuple(
    word
    for name in ("failed", "failed-per-cell", "unreachable", "unreachable-per-cell")
    for word in ("--budget", f"{name}=100%")
)
# In the lab's cloud.yaml, so that waits are short and all nodes go at once.
QUICK = {"canary: 1": "canary: 6", "reboot_timeout_s: 120": "reboot_timeout_s: 15", "settle_s: 60": "settle_s: 10"}
QUICK["stale_after_s: 60"] = "stale_after_s: 15"
OLD, NEW = "2013.1.4-1.el6", "2013.2.1-1.el6"


@pytest.fixture(scope="module")
def lab() -> Iterator[TestLab]:
    with lab_up(NAME, 1, len(NODES)) as up:
        cloud = up.cloud / "cloud.yaml"
        text = cloud.read_text(encoding="utf-8")
        for was, will_be in QUICK.items():
            assert text.count(was) == 1, was
            text = text.replace(was, will_be)
        cloud.write_text(text, encoding="utf-8")
        yield up


def each(function: Callable[[str], object], hosts: tuple[str, ...] = NODES) -> None:
    """Call a function for several hosts at once."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        list(pool.map(function, hosts))


def test_a_frozen_heartbeat_is_named_and_blocks_the_gate(lab: TestLab) -> None:
    ill = NODES[1]
    lab.fault(ill, "frozen-heartbeat")
    age = f"select timestampdiff(second, updated_at, utc_timestamp()) from nova.services where host='{ill}'"  # noqa: S608 - our own name
    wait_until(lambda: int(lab.sql(CELL, age)) > 20, timeout=60, what="a stale heartbeat", every=1)
    said = lab.cellstep("run", "nova", "--step", GATE, "--yes", expect=4)
    assert re.search(rf"{ill}: openstack-nova-compute is stale", said), said
    assert said.count("is stale") == 1
    say(f"frozen-heartbeat: {said.strip().splitlines()[-1]}")
    lab.clear(ill)
    wait_until(lambda: int(lab.sql(CELL, age)) < 10, timeout=60, what="a fresh heartbeat", every=1)
    lab.cellstep("resume", "--yes")


def test_a_controller_that_does_not_reboot_is_named_and_told_to_only_once(lab: TestLab) -> None:
    lab.on(CELL, "puppet agent --disable 'the faults'; service monit stop")
    lab.on(CELL, f"{HAVANA}; yum -y update kernel")
    lab.fault(CELL, "no-reboot")
    reboot = machine(lab.name, CELL).root() / "usr/sbin/reboot"
    reboot.write_text("#!/bin/sh\necho asked >> /srv/lab/asked-to-reboot\nexit 0\n", encoding="utf-8")
    began = time.monotonic()
    said = lab.cellstep("run", "nova", "--step", REBOOT, "--yes", expect=4)
    took = within(90, began, "a reboot that does not happen")
    assert f"{CELL}: not back 15 s after its reboot" in said
    assert "it still has the boot id" in said
    assert lab.on(CELL, "cat /srv/lab/asked-to-reboot").split() == ["asked"]
    say(f"no-reboot, after {took:.0f} s: {said.strip().splitlines()[-1]}")
    before = boots(lab, CELL)
    lab.clear(CELL)
    lab.cellstep("resume", "--yes")
    assert boots(lab, CELL) == before + 1
    assert "2.6.32-431.5.1.el6" in lab.on(CELL, "uname -r")


@pytest.fixture(scope="module")
def at_the_step(lab: TestLab) -> None:
    """The compute nodes as they are before the step: with Havana's repository, at rest, and nobody interferes."""

    def prepare(host: str) -> None:
        lab.on(host, "puppet agent --disable 'the faults'; service monit stop; service openstack-nova-compute stop")
        lab.on(host, HAVANA)

    each(prepare)


@pytest.fixture
def sound(lab: TestLab, at_the_step: None) -> None:  # noqa: ARG001 - first that, then this
    """All nodes sound, and their packages what they were before the step."""

    def one(host: str) -> None:
        lab.clear(host)
        lab.on(host, "service monit stop; service openstack-nova-compute stop")
        if NEW in lab.on(host, "rpm -q openstack-nova-compute"):
            names = " ".join(
                f"{name}-{OLD}" for name in ("python-nova", "openstack-nova-common", "openstack-nova-compute")
            )
            lab.on(host, f"yum -y downgrade {names}; service openstack-nova-compute stop")
        assert OLD in lab.on(host, "rpm -q openstack-nova-compute")

    each(one)


@dataclass(frozen=True)
class Ill:
    """What becomes of an ill node.

    Attributes:
        states: one of those.
        words: that are in what it says (a regular expression), where it is not done.
    """

    states: tuple[str, ...]
    words: str


def outcome(lab: TestLab, run: Controller, ill: Mapping[str, tuple[str, Ill]], well: tuple[str, ...]) -> None:
    """Each node of the step has ended as it should, and says why.

    Args:
        lab: the lab.
        run: has ended.
        ill: node to its fault and what becomes of it.
        well: the nodes that are updated.
    """
    with Books(lab).open() as journal:
        last = journal.last_run()
        assert last is not None
        rows = {row["host"]: row for row in journal.hosts(last.id, STEP)}
        quarantined = journal.left_out(last.id)
    assert set(rows) == set(NODES), run.said
    wrong = []
    for host, (kind, expected) in ill.items():
        state, detail = rows[host]["state"], rows[host]["detail"]
        say(f"{kind}: {host} {state}: {detail.strip().splitlines()[0] if detail else ''}")
        done = state == "changed"
        if state not in expected.states or not (done or re.search(expected.words, detail)):
            wrong.append(f"{kind}: {host} is {state}, not {expected.states} with “{expected.words}”: {detail}")
        if not done and host not in quarantined:
            wrong.append(f"{kind}: {host} is not in quarantine")
    wrong += [
        f"{host} is {rows[host]['state']}: {rows[host]['detail']}" for host in well if rows[host]["state"] != "changed"
    ]
    assert not wrong, "\n".join(wrong)
    for host in well:
        assert NEW in lab.on(host, "rpm -q openstack-nova-compute")


UNREACHABLE = ("unreachable",)


@pytest.mark.usefixtures("sound")
def test_nodes_that_are_ill_before_the_update_are_named(lab: TestLab) -> None:
    ill = {
        NODES[0]: ("refuse-ssh", Ill(UNREACHABLE, "no TCP connection: Connection refused")),
        NODES[1]: ("new-host-key", Ill(UNREACHABLE, "its host key has CHANGED")),
        NODES[2]: ("refused-key", Ill(UNREACHABLE, "refuses the login as root")),
        NODES[3]: ("no-repository", Ill(("failed",), "yum update: .*(404|repodata|No match|Unable to find)")),
        NODES[4]: ("broken-rpmdb", Ill(("failed",), "reading the RPM database.*(malformed|not a database|corrupt)")),
    }
    for host, (kind, _) in ill.items():
        lab.fault(host, kind)
    lab.on(NODES[5], "true")
    began = time.monotonic()
    with controller(lab, "run", "nova", "--step", STEP, "--yes", *ALL_MAY_BE_LOST) as run:
        run.wait(expect=3)
    took = within(120, began, "a step with five ill nodes")
    outcome(lab, run, ill, NODES[5:])
    say(f"five ill nodes at once: {took:.0f} s")


@pytest.mark.usefixtures("sound")
def test_nodes_with_a_bad_link_or_none_are_named_and_hold_up_nobody(lab: TestLab) -> None:
    bad_link = ("changed", "unreachable", "unknown")
    silent = "no sign of life|no SSH|no TCP|no answer|channel|the connection"
    no_power = "no TCP connection(: No route to host| within 5 s; is it powered on)"
    ill = {
        NODES[0]: ("packet-loss", Ill(bad_link, silent)),
        NODES[1]: ("slow-link", Ill(bad_link, silent)),
        NODES[2]: ("power-off", Ill(UNREACHABLE, no_power)),
        NODES[3]: ("power-cut", Ill(UNREACHABLE, no_power)),
        NODES[4]: ("hang", Ill(UNREACHABLE, "no SSH banner within 10 s; its sshd hangs")),
    }
    for host, (kind, _) in ill.items():
        lab.fault(host, kind)
    began = time.monotonic()
    with controller(lab, "run", "nova", "--step", STEP, "--yes", *ALL_MAY_BE_LOST) as run:
        run.wait(expect=3)
    took = within(240, began, "a step with bad links")
    outcome(lab, run, ill, NODES[5:])
    say(f"five bad links at once: {took:.0f} s")


@pytest.mark.usefixtures("sound")
def test_nodes_that_fall_ill_in_the_middle_of_the_update_are_named(lab: TestLab) -> None:
    lost = ("unknown",)
    ill = {
        NODES[0]: ("power-off", Ill(lost, "in mid-command|no TCP connection.*runs on there or has ended")),
        NODES[1]: ("power-cut", Ill(lost, "no sign of life|no TCP connection.*runs on there or has ended")),
        NODES[2]: ("hang", Ill(lost, "no sign of life|no SSH banner.*runs on there or has ended")),
        NODES[3]: ("rpm-lock", Ill(("failed",), "lock")),
        NODES[4]: ("full-var", Ill(("failed",), "No space left")),
    }
    in_the_middle = NODES[:3]
    for host in in_the_middle:
        slow(lab, host, "yum", 30)
    for host in NODES[3:5]:
        lab.fault(host, ill[host][0])
    began = time.monotonic()
    with controller(lab, "run", "nova", "--step", STEP, "--yes", *ALL_MAY_BE_LOST) as run:
        for host in in_the_middle:
            run.until(lambda host=host: transactions(lab, host)[-1] == "begun update", f"yum on {host}")  # type: ignore[misc] # mypy knows no defaults
            lab.fault(host, ill[host][0])
        run.wait(expect=3)
    took = within(240, began, "a step whose nodes fall ill")
    outcome(lab, run, ill, NODES[5:])
    say(f"five illnesses at once: {took:.0f} s")
    assert "in quarantine since" in lab.cellstep("status")


@pytest.mark.usefixtures("at_the_step")
def test_nodes_that_come_back_are_asked_what_became_of_the_update_and_get_no_second_one(lab: TestLab) -> None:
    cut_off, hung = NODES[0], NODES[2]
    for host in (cut_off, hung):
        slow(lab, host, "yum", 0)
        lab.clear(host)
    nodes = ("--limit", f"{cut_off},{hung}")
    said = lab.cellstep("run", "nova", "--step", STEP, "--yes", *nodes, *ALL_MAY_BE_LOST, expect=3)
    states = Books(lab).nodes(STEP)
    assert states[hung] in {"changed", "skipped"}, said
    assert transactions(lab, hung)[-2:] == ["begun update", "done update"]
    assert NEW in lab.on(hung, "rpm -q openstack-nova-compute")
    say(f"hang: {hung} {states[hung]}, by the update that went on when it was thawed")
    assert states[cut_off] == "failed"
    assert "installed twice, after a cut-off transaction: python-nova" in " ".join(said.split())
    say(f"power-off: {cut_off} {states[cut_off]}: installed twice, after a cut-off transaction")
