"""The stages before Nova's on a real lab, their controller killed again and again: they end like undisturbed ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import pytest

from tests.chaos import component_stages
from tests.chaos.component_stages import CELL, CLIENT, DATABASE, RUN, STAGES, TOP, Left, component_lab, undisturbed
from tests.chaos.side_by_side import say
from tests.chaos.strikes import Strike
from tests.support.controllers import KILLED, Books, Controller
from tests.support.labs import TestLab
from tests.support.undisturbed import slow, transactions

pytestmark = pytest.mark.lab

NAME = "stagekills"
TOPS = (TOP, "top-api02")
PLACE_REPOSITORY = "Place the Havana repository, for the packages of this stage alone"
UPDATE_CEILOMETER = "Update the RPMs on top controllers"
SYNC_GLANCE = "Perform the database upgrade from the staging node, which has Havana's code"
LOOK_AT_POLICIES = "Look for rules that Glance's and Nova's policies lack"
UPDATE_CELL = "cell01: update the RPMs"
UPDATE_MAIN = "main servers: update the RPMs"
START_MAIN = "Start all main servers"
SYNC_CINDER = "Update the DB: cinder-manage db sync"
UPDATE_CLIENTS = "Update the clients"
RESUME = ("resume", "--yes")


@pytest.fixture(scope="module")
def reference() -> Left:
    return undisturbed(NAME)


@pytest.fixture
def lab(reference: Left) -> Iterator[TestLab]:  # noqa: ARG001 - one lab at a time: that one is down by now
    with component_lab(NAME) as up:
        yield up


@dataclass(frozen=True)
class Place:
    """Where the controller is killed.

    Attributes:
        words: for it.
        reached: whether it is there.
        hit: looks, after the kill, that it was, and says what was found.
        doomed: the step with holds after whose journal entry it kills itself; "" where it is not that.
        strike: another end by its own hand.
        command: how it is gone on with before this place.
    """

    words: str
    reached: Callable[[], bool]
    hit: Callable[[], str]
    doomed: str = ""
    strike: Strike | None = None
    command: tuple[str, ...] = RUN


class Places:
    """The places of one lab, in the order of the stages.

    Args:
        lab: the lab.
    """

    def __init__(self, lab: TestLab) -> None:
        self.lab, self.books = lab, Books(lab)

    def all(self) -> list[Place]:
        """All of them."""
        return [
            Place("a hold is in the journal and on no node", self.never, self.hit_hold, doomed=PLACE_REPOSITORY),
            Place("daemons stopped, API closed, yum in its transaction", self.in_ceilometer, self.hit_ceilometer),
            Place("in glance's db sync from the staging node", self.in_glance, self.hit_glance),
            Place("between packages and start", self.before_start, self.hit_before_start, command=RESUME),
            Place("in a cell's keystone update", self.in_cell, self.hit_cell),
            Place("in the update of all main keystones", self.in_main, self.hit_main, command=RESUME),
            Place("while the main keystones start", self.in_start, self.hit_start),
            Place("in cinder's db sync", self.in_cinder, self.hit_cinder),
            Place("between two stages", self.never, self.hit_between, strike=Strike("begin_run", 1, "before")),
            Place("in the clients' yum", self.in_clients, self.hit_clients),
        ]

    def prepare(self) -> None:
        """Make room for the kills in mid-command."""
        for host in (TOP, CELL, CLIENT):
            slow(self.lab, host, "yum", 15)
        for host in (TOP, DATABASE):
            slow(self.lab, host, "db-sync", 0.3)

    @staticmethod
    def never() -> bool:
        """It kills itself."""
        return False

    def in_yum(self, title: str, host: str) -> bool:
        """Whether a step's yum is in its transaction."""
        begun = transactions(self.lab, host)[-1:] == ["begun update"]
        return host in self.books.under_way(title) and begun

    def stopped(self, component: str, *hosts: str) -> str:
        """Looks that a component's daemons are stopped on these hosts, and will not start at boot; names them."""
        found = []
        for host, seen in self.lab.snapshot(*hosts).items():
            services = {name: s for name, s in seen["services"].items() if f"-{component}" in name}
            assert services, f"{host} has no service of {component}"
            assert set(services.values()) == {"inactive off"}, f"{host}: {services}"
            found += [f"{host}: {', '.join(services)}"]
        return f"stopped on {'; '.join(found)}"

    def closed(self, backend: str) -> str:
        """Looks that an API is closed."""
        states = {n: s for n, s in self.lab.snapshot(DATABASE)[DATABASE]["haproxy"].items() if n.startswith(backend)}
        assert states, backend
        assert all(state.startswith("MAINT") for state in states.values()), states
        return f"{backend} is closed"

    def version(self, component: str) -> int:
        """A top database's."""
        return int(self.lab.sql(DATABASE, f"select version from {component}.migrate_version limit 1"))  # noqa: S608

    def hit_hold(self) -> str:
        with self.books.open() as journal:
            held = sorted(journal.open_holds("repository"))
        assert set(TOPS) < set(held)
        for host in held:
            assert "cellstep-" not in self.lab.on(host, "ls /etc/yum.repos.d")
        return f"held in the journal: {', '.join(held)}; no node has the repository"

    def in_ceilometer(self) -> bool:
        return self.in_yum(UPDATE_CEILOMETER, TOP)

    def hit_ceilometer(self) -> str:
        assert self.in_ceilometer()
        said = f"{self.closed('ceilometer-api')}; {self.stopped('ceilometer', *TOPS)}"
        slow(self.lab, TOP, "yum", 0)
        return said

    def in_glance(self) -> bool:
        return DATABASE in self.books.under_way(SYNC_GLANCE)

    def hit_glance(self) -> str:
        assert self.in_glance()
        said = f"glance's database is at {self.version('glance')}; {self.closed('nova-images')}"
        slow(self.lab, DATABASE, "db-sync", 0)
        return f"{said}; {self.stopped('glance', *TOPS, CELL)}"

    def before_start(self) -> bool:
        return bool(self.books.nodes(LOOK_AT_POLICIES))

    def hit_before_start(self) -> str:
        new = self.lab.on(TOP, "rpm -q openstack-glance").strip()
        assert "2013.2" in new
        slow(self.lab, TOP, "yum", 15)
        return f"{new}; {self.stopped('glance', *TOPS, CELL)}"

    def in_cell(self) -> bool:
        return self.in_yum(UPDATE_CELL, CELL)

    def hit_cell(self) -> str:
        assert self.in_cell()
        slow(self.lab, CELL, "yum", 0)
        return self.stopped("keystone", CELL)

    def in_main(self) -> bool:
        return self.in_yum(UPDATE_MAIN, TOP)

    def hit_main(self) -> str:
        assert self.in_main()
        said = f"{self.closed('keystone-api')}; {self.stopped('keystone', *TOPS)}"
        slow(self.lab, TOP, "yum", 0)
        return said

    def in_start(self) -> bool:
        return bool(self.books.under_way(START_MAIN))

    def hit_start(self) -> str:
        said = f"not known: {', '.join(sorted(self.books.under_way(START_MAIN)))}; {self.closed('keystone-api')}"
        assert self.in_start()
        return said

    def in_cinder(self) -> bool:
        return TOP in self.books.under_way(SYNC_CINDER) and self.version("cinder") in range(10, 20)

    def hit_cinder(self) -> str:
        version = self.version("cinder")
        assert 9 < version < 20, version
        slow(self.lab, TOP, "db-sync", 0)
        return f"cinder's database is at version {version}; {self.stopped('cinder', *TOPS)}"

    def hit_between(self) -> str:
        with self.books.open() as journal:
            runs = [(run.stage, run.state) for run in journal.runs()]
            held = journal.all_open_holds()
        assert runs == [(stage, "complete") for stage in reversed(STAGES[:-1])]
        assert held == {}
        return "cinder is complete, clients has no run"

    def in_clients(self) -> bool:
        return self.in_yum(UPDATE_CLIENTS, CLIENT)

    def hit_clients(self) -> str:
        assert self.in_clients()
        slow(self.lab, CLIENT, "yum", 0)
        twice = self.lab.on(CLIENT, "rpm -q python-novaclient").split()
        return f"yum is in its transaction on {CLIENT}: {' and '.join(twice)}"


def test_killed_in_many_places_all_stages_end_like_undisturbed_ones(lab: TestLab, reference: Left) -> None:
    keys = component_stages.keys_before(lab)
    places = Places(lab)
    places.prepare()
    for place in places.all():
        strike = place.strike.as_json() if place.strike else ""
        run = Controller(lab, *place.command, doomed=place.doomed, struck=strike)
        try:
            if place.doomed or strike:
                run.wait(expect=KILLED)
            else:
                run.until(place.reached, place.words)
                run.kill()
        finally:
            run.end()
        say(f"killed {place.words}: {place.hit()}")
    component_stages.up_to_nova(lab)
    component_stages.assert_moved(lab, keys)
    component_stages.same(lab, reference)
    say("as undisturbed: packages, services, boot sequence, schemas, keys, policies, APIs; each change once")


# Each lets a resumed controller come on by a step at least, but for the first: the next one does.
STRIKES = (
    *(Strike("begin_step", 1, "after"), Strike("begin_step", 2, "before"), Strike("begin_step", 2, "after")),
    *(Strike("end_step", 1, "after"), Strike("end_step", 2, "before"), Strike("end_step", 2, "after")),
    *(Strike("command", 2, "after"), Strike("command", 3, "before"), Strike("job", 1, "after", delay_s=0.2)),
)


def relay(lab: TestLab, stage: str, random: Random, most: int) -> int:
    """A stage whose controller is killed at about every step, resumed each time; how often it was."""
    command: tuple[str, ...] = ("run", stage, "--yes")
    for kills in range(most):
        strike = random.choice(STRIKES)
        run = Controller(lab, *command, struck=strike.as_json())
        try:
            code = run.wait()
        finally:
            run.end()
        if code == 0:
            return kills
        where = Books(lab).where() if Books(lab).path.exists() else "before its run"
        assert code == KILLED, f"{strike}, exit {code}, at {where}:\n{run.said[-3000:]}"
        command = RESUME if stage in component_stages.begun(lab) else command
    lab.cellstep(*command)
    return most


def test_killed_at_about_every_step_each_stage_ends_like_an_undisturbed_one(
    lab: TestLab, reference: Left, seed: int
) -> None:
    keys = component_stages.keys_before(lab)
    random = Random(seed)  # noqa: S311 - no secret
    for stage in STAGES:
        say(f"{stage}: {relay(lab, stage, random, 80)} kills")
    component_stages.assert_moved(lab, keys)
    component_stages.same(lab, reference)
    say("as undisturbed: packages, services, boot sequence, schemas, keys, policies, APIs; each change once")
