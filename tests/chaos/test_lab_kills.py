"""A real upgrade of a real lab whose controller is killed again and again ends like an undisturbed one."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import pytest

from lab.control import machine
from tests.chaos.side_by_side import say
from tests.support.controllers import Books, Controller
from tests.support.labs import TestLab, lab_up
from tests.support.secrecy import search_lab
from tests.support.snapshot import differences
from tests.support.undisturbed import (
    CELLS,
    COMPUTES,
    NAME,
    RUN,
    Undisturbed,
    at_rest,
    boots,
    files_of,
    settle,
    slow,
    transactions,
    undisturbed,
)

pytestmark = pytest.mark.lab

TOP, DATABASE, CELL = "top-api01", "top-infra01", "c01-ctl01"
COMPUTE_NODES = ("c01-n01", "c01-n02")
HOLD = "Compute nodes: stop the daemons"
DUMP = "Back up all DBs and create a local dump of each in case we need a rapid restore"
UPDATE = "Update all the Nova RPMs and the kernel on top controllers"
SYNC = "Update the top DB"
REBOOT = "Reboot the cell controllers for the new kernel"
ENABLE = "Enable nova-compute"


@pytest.fixture(scope="module")
def reference() -> Undisturbed:
    return undisturbed()


@pytest.fixture(scope="module")
def lab(reference: Undisturbed) -> Iterator[TestLab]:  # noqa: ARG001 - one lab at a time: that one is down by now
    with lab_up(NAME, CELLS, COMPUTES) as up:
        yield up


@dataclass(frozen=True)
class Place:
    """Where the controller is killed.

    Attributes:
        words: for it.
        reached: whether it is there.
        hit: looks, after the kill, that it was, and says what was found.
        doomed: the step with holds after whose journal entry it kills itself; "" where we kill it.
    """

    words: str
    reached: Callable[[], bool]
    hit: Callable[[], str]
    doomed: str = ""


class Places:
    """The places of one lab, in the order of the runbook.

    Args:
        lab: the lab.
        random: for the moments between them.
    """

    def __init__(self, lab: TestLab, random: Random) -> None:
        self.lab, self.books, self.random = lab, Books(lab), random
        self.looks = 0

    def all(self) -> list[Place]:
        """All of them, with moments that are left to chance in between."""
        return [
            Place("a hold is in the journal and on no node", self.never, self.hit_hold, doomed=HOLD),
            Place("in the middle of a dump", self.in_dump, self.hit_dump),
            Place("in the middle of yum update on a controller", self.in_update, self.hit_update),
            Place("attached again to the same yum update", self.in_update_again, self.hit_update_again),
            Place("in the middle of db sync", self.in_sync, self.hit_sync),
            self.chance(),
            Place("in the middle of a controller's reboot", self.in_reboot, self.hit_reboot),
            self.chance(),
            Place("during “Enable nova-compute”", self.in_enable, self.hit_enable),
            self.chance(),
        ]

    def chance(self) -> Place:
        """A moment that only the seed knows: so many looks at the journal after the one before."""
        seconds = round(self.random.uniform(1.5, 9.0), 1)
        looks = iter(range(round(seconds / 0.05)))
        return Place(f"after {seconds} s", lambda: next(looks, None) is None, self.books.where)

    def prepare(self) -> None:
        """Make room for the kills in mid-command."""
        slow(self.lab, CELL, "mysqldump", 4)
        slow(self.lab, TOP, "yum", 20)
        slow(self.lab, TOP, "db-sync", 0.2)

    @staticmethod
    def never() -> bool:
        """It kills itself."""
        return False

    def hit_hold(self) -> str:
        with self.books.open() as journal:
            held = journal.open_holds("daemons")
        assert set(COMPUTE_NODES) <= set(held)
        assert self.books.under_way(HOLD) == set(COMPUTE_NODES)
        for host in COMPUTE_NODES:
            services = self.lab.snapshot(host)[host]["services"]
            assert services["openstack-nova-compute"] == "running on", f"{host}: {services}"
        return f"held in the journal: {', '.join(COMPUTE_NODES)}; nova-compute runs on both"

    def in_dump(self) -> bool:
        part = "var/lib/cellstep/backups/*/nova.part"
        return CELL in self.books.under_way(DUMP) and any(
            path.stat().st_size >= 0 for path in machine(self.lab.name, CELL).root().glob(part)
        )

    def hit_dump(self) -> str:
        running = self.lab.on(CELL, "pgrep -f '^/bin/bash .*mysqldump|^mysqldump|/usr/bin/mysqldump' | wc -l").strip()
        assert int(running) > 0, "no mysqldump runs any more"
        assert CELL in self.books.under_way(DUMP)
        services = self.lab.snapshot(CELL)[CELL]["services"]
        stopped = [name for name, state in services.items() if name.startswith("openstack") and state == "inactive off"]
        assert len(stopped) == 3, services
        slow(self.lab, CELL, "mysqldump", 0)
        return f"mysqldump runs on {CELL}; stopped and out of its boot sequence: {', '.join(stopped)}"

    def in_update(self) -> bool:
        return TOP in self.books.under_way(UPDATE) and transactions(self.lab, TOP)[-1] == "begun update"

    def hit_update(self) -> str:
        assert self.in_update()
        twice = self.lab.on(TOP, "rpm -q python-nova").split()
        assert len(twice) == 2, twice
        return f"yum is in its transaction on {TOP}: {' and '.join(twice)}"

    def in_update_again(self) -> bool:
        return self.books.tries(UPDATE, TOP) == 2 and self.in_update()

    def hit_update_again(self) -> str:
        assert self.books.tries(UPDATE, TOP) == 2
        assert transactions(self.lab, TOP).count("begun update") == 1
        said = self.hit_update()
        slow(self.lab, TOP, "yum", 0)
        return f"{said}, still the first one"

    def version(self) -> int:
        """The top database's, in the middle of its migrations."""
        question = "select version from nova.migrate_version where repository_id='nova'"
        return int(self.lab.sql(DATABASE, question))

    def in_sync(self) -> bool:
        return TOP in self.books.under_way(SYNC) and 162 <= self.version() <= 205

    def hit_sync(self) -> str:
        version = self.version()
        assert 161 < version < 216, version
        assert TOP in self.books.under_way(SYNC)
        slow(self.lab, TOP, "db-sync", 0)
        return f"the top database is at version {version}"

    def in_reboot(self) -> bool:
        return CELL in self.books.under_way(REBOOT) and machine(self.lab.name, CELL).state() != "running"

    def hit_reboot(self) -> str:
        state = machine(self.lab.name, CELL).state()
        assert state == "booting", state
        assert CELL in self.books.under_way(REBOOT)
        return f"{CELL} is {state}, after {boots(self.lab, CELL)} boot(s)"

    def in_enable(self) -> bool:
        return bool(self.books.under_way(ENABLE))

    def hit_enable(self) -> str:
        nodes = self.books.under_way(ENABLE)
        assert nodes
        return f"not known: {', '.join(sorted(nodes))}"


def test_killed_in_many_places_the_upgrade_ends_like_an_undisturbed_one(
    lab: TestLab, reference: Undisturbed, seed: int
) -> None:
    before = lab.snapshot()
    places = Places(lab, Random(seed))  # noqa: S311 - no secret
    places.prepare()
    command: tuple[str, ...] = RUN
    for place in places.all():
        run = Controller(lab, *command, doomed=place.doomed)
        try:
            if place.doomed:
                run.wait(expect=-9)
            else:
                run.until(place.reached, place.words)
                run.kill()
        finally:
            run.end()
        say(f"killed {place.words}: {place.hit()}")
        command = ("resume", "--yes")
    say(lab.cellstep("resume", "--yes").strip().splitlines()[-1])
    places.books.check()
    at_rest(lab)
    settle(lab)
    after = lab.snapshot()
    assert differences(reference.snapshot, after, ignore=("processes",)) == []
    guests = {host: {"processes": before[host]["processes"]} for host in COMPUTE_NODES}
    assert differences(guests, {host: {"processes": after[host]["processes"]} for host in COMPUTE_NODES}) == []
    counters = {host: after[host]["counters"] for host in after}
    assert counters[DATABASE]["db syncs"] == counters[CELL]["db syncs"] == 1
    assert [counters[host]["boots"] for host in (TOP, "top-api02", CELL, *COMPUTE_NODES)] == [2, 2, 2, 1, 1]
    assert all(of.get("yum update") == of.get("yum update begun") for of in counters.values())
    say("as undisturbed: packages, services, boot sequence, schemas, guests; each transaction, db sync and reboot once")
    left = {host: sorted(set(files) ^ set(reference.files[host])) for host, files in files_of(lab).items()}
    assert {host: files for host, files in left.items() if files} == {}
    found = search_lab(lab)
    assert found.leaks == []
    say(f"nothing is left on the hosts but logs; no secret in {found.files} files")
