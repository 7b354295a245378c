"""Settling what a run left in place, and ending it: on the real runbook, with outcomes told by the test."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellstep import runs, settling
from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.dispatch import Outcome
from cellstep.engine.journal import Journal
from cellstep.engine.run import Interrupted
from cellstep.errors import Locked, UsageError
from tests.engine.conftest import Recorder, ScriptedDispatcher
from tests.support.folders import lab_folder

CHANGED = Outcome("changed", "did it", "did it")
PRIOR = {"openstack-nova-compute": {"actual": "running", "boot": "on"}}
STOP, FENCE_IT = (
    "Compute nodes: stop the daemons",
    "Top API controllers: block requests to stop new operations arriving",
)
COMPUTES = ["c01-n01", "c01-n02", "c02-n01", "c02-n02"]


class Nobody:
    """Stands for the operator: nothing is asked while holds are lifted."""

    def confirm(self, crossing: Any) -> bool:
        raise AssertionError(f"asked at {crossing}")

    def accept(self, changes: Any) -> bool:
        raise AssertionError(f"asked about {changes}")


@dataclass
class Place:
    """A cloud's folder in which a run has left something."""

    cloud: Cloud
    monkeypatch: pytest.MonkeyPatch
    shown: Recorder = field(default_factory=Recorder)
    stopping: threading.Event = field(default_factory=threading.Event)
    arguments: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    dispatcher: ScriptedDispatcher | None = None

    @property
    def journal(self) -> Journal:
        return runs.open_journal(self.cloud)

    def left(self, *holds: tuple[str, str, list[str], Mapping[str, Any]], end: str = "stopped") -> str:
        """A run that placed holds (name, step, nodes, prior) and ended, or was killed (`running`)."""
        journal = self.journal
        run = journal.begin_run("nova", "grizzly-havana", "d", {})
        cells = {node.name: node.cell for node in self.cloud.nodes}
        for number, (name, title, hosts, prior) in enumerate(holds, 1):
            journal.begin_step(run, number, title, [(cells.get(host, "gone"), host) for host in hosts])
            journal.place_holds(run, "nova", title, name, dict.fromkeys(hosts, prior))
            journal.end_hosts(run, title, [(host, "changed", "") for host in hosts])
            journal.end_step(run, title, "done")
        if end != "running":
            journal.end_run(run, end, 4, "stopped by the test")
        return run

    def lift(
        self, script: Callable[[str, str], Outcome], expression: str = "", name: str = "", accepted: str = ""
    ) -> settling.Settled:
        def answers(task: str, host: str, arguments: Mapping[str, Any]) -> Outcome:
            self.arguments[task, host] = arguments
            return script(task, host)

        def dispatcher(_cloud: Cloud, *, stopping: threading.Event) -> "Scripted":
            self.dispatcher = Scripted(answers, stopping)
            return self.dispatcher

        self.monkeypatch.setattr(settling, "Dispatcher", dispatcher)
        wanted = settling.chosen(self.cloud, self.journal, expression, name)
        return settling.lift(self.cloud, runs.Watch(self.shown, Nobody(), self.stopping), wanted, accepted)

    @property
    def sent(self) -> list[tuple[str, str]]:
        return self.dispatcher.sent if self.dispatcher else []


class Scripted(ScriptedDispatcher):
    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None: ...


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Place:
    return Place(load_cloud(lab_folder(tmp_path / "cloud")), monkeypatch)


def well(_task: str, _host: str) -> Outcome:
    return CHANGED


def test_holds_are_lifted_as_the_runbook_does_with_their_prior_states_and_in_its_order(place: Place):
    """The order is that of going back to service, not that in which they were placed."""
    place.left(
        ("puppet", "Stop Puppet running on all nodes", ["c01-n01", "top-api01"], {"enabled": True, "reason": ""}),
        ("fence", FENCE_IT, ["top-infra01"], {"servers": {"a/b": "UP"}}),
        ("daemons", STOP, COMPUTES, PRIOR),
    )
    settled = place.lift(well)
    assert place.sent == [
        *(("restore", host) for host in COMPUTES),
        ("enable_agent", "top-api01"),
        ("enable_agent", "c01-n01"),
        ("open_", "top-infra01"),
    ]
    assert place.arguments["restore", "c01-n01"]["prior"] == PRIOR
    assert "openstack-nova-compute" in place.arguments["restore", "c01-n01"]["services"]
    assert place.arguments["open_", "top-infra01"]["prior"] == {"servers": {"a/b": "UP"}}
    assert settled.lifted == {
        "puppet": ["c01-n01", "top-api01"], "fence": ["top-infra01"], "daemons": COMPUTES
    }  # fmt: skip
    assert settled.left == {}
    assert place.journal.holds() == []


def test_it_is_journalled_like_a_run_but_resume_has_nothing_to_do_with_it(place: Place):
    run = place.left(("daemons", STOP, COMPUTES, PRIOR))
    settled = place.lift(well)
    journal = place.journal
    assert [(row["step"], row["state"]) for row in journal.hosts(settled.run)] == [
        ("Enable nova-compute", "changed")
    ] * 4
    unfinished = journal.unfinished_run()
    assert unfinished is not None
    assert unfinished.id == run
    record = next(each for each in journal.runs() if each.id == settled.run)
    assert (record.state, record.exit_code, record.whole) == ("settled", 0, False)
    assert journal.quarantined() == {}


def test_a_run_that_is_resumed_places_again_what_was_lifted(place: Place):
    run = place.left(("daemons", STOP, COMPUTES, PRIOR))
    place.lift(well, "c01-n01,c02-n01")
    states = {row["host"]: row["state"] for row in place.journal.hosts(run, STOP)}
    assert states == {"c01-n01": "not_run", "c01-n02": "changed", "c02-n01": "not_run", "c02-n02": "changed"}
    assert place.journal.open_holds("daemons").keys() == {"c01-n02", "c02-n02"}
    assert "holds lifted on c[01-02]-n01: daemons" in place.journal.events(run)[0]["what"]


def test_the_run_knows_it_before_anything_is_lifted(place: Place):
    run = place.left(("daemons", STOP, ["c01-n01"], PRIOR))

    def look(_task: str, host: str) -> Outcome:
        rows = {row["host"]: row["state"] for row in place.journal.hosts(run, STOP)}
        assert rows[host] == "not_run"
        return CHANGED

    assert place.lift(look).left == {}


def test_a_node_that_fails_keeps_no_other_back_but_the_apis_stay_closed(place: Place):
    place.left(
        ("fence", FENCE_IT, ["top-infra01"], {"servers": {}}),
        ("monitoring", "m", ["c01-n01", "c01-n02"], {"services": {}, "alarms": ""}),
        ("daemons", STOP, COMPUTES, PRIOR),
    )
    bad = {
        ("restore", "c01-n01"): Outcome("failed", "will not start"),
        ("lift", "c01-n02"): Outcome("unreachable", "off"),
    }
    settled = place.lift(lambda task, host: bad.get((task, host), CHANGED))
    assert settled.lifted == {"monitoring": ["c01-n01"], "daemons": COMPUTES[1:]}
    assert settled.left["daemons"] == {"c01-n01": "failed: will not start"}
    assert settled.left["monitoring"] == {"c01-n02": "unreachable: off"}
    assert settled.left["fence"]["top-infra01"].startswith("kept")
    assert ("open_", "top-infra01") not in place.sent
    assert place.journal.quarantined() == {}
    assert place.lift(well, name="fence").left == {}
    assert {row["name"] for row in place.journal.holds()} == {"monitoring", "daemons"}


def test_a_hold_that_no_step_lifts_there_is_told(place: Place):
    place.left(("daemons", STOP, ["c01-n01", "c09-gone"], PRIOR))
    settled = place.lift(well)
    assert settled.lifted == {"daemons": ["c01-n01"]}
    assert "still in the inventory" in settled.left["daemons"]["c09-gone"]


def test_what_is_still_under_way_on_a_node_is_waited_for_first(place: Place):
    run = place.left(("daemons", STOP, COMPUTES, PRIOR), end="running")
    place.journal.begin_step(run, 9, "Update the RPMs on the compute nodes", [("cell01", host) for host in COMPUTES])
    place.journal.start_hosts(run, "Update the RPMs on the compute nodes", {"c01-n01": 2, "c02-n02": 1})
    busy = Outcome("unknown", "the update still runs")
    settled = place.lift(lambda task, host: busy if (task, host) == ("_take_token", "c01-n01") else CHANGED)
    assert place.sent[:2] == [("_take_token", "c01-n01"), ("_take_token", "c02-n02")]
    assert place.dispatcher is not None
    asked = place.dispatcher.bound["_take_token", "c01-n01"]
    assert (asked.run, asked.step, asked.generation, asked.again) == (
        run,
        "Update the RPMs on the compute nodes",
        2,
        True,
    )
    assert asked.token == place.journal.newest_token()
    assert settled.lifted == {"daemons": COMPUTES[1:]}
    assert "may still be under way there: unknown: the update still runs" in settled.left["daemons"]["c01-n01"]


def test_a_hold_whose_placing_had_no_known_end_is_known_once_it_is_lifted(place: Place):
    run = place.left(("daemons", STOP, COMPUTES, PRIOR), end="running")
    place.journal.start_hosts(run, STOP, {"c01-n01": 1, "c01-n02": 1})
    place.journal.begin_step(run, 9, "Update the RPMs on the compute nodes", [("cell01", "c01-n02")])
    place.journal.start_hosts(run, "Update the RPMs on the compute nodes", {"c01-n02": 1})
    failing = ("restore", "c01-n02")
    place.lift(lambda task, host: Outcome("failed", "no") if (task, host) == failing else CHANGED)
    unknown = place.journal.unknown_hosts(run)
    assert unknown == {STOP: ["c01-n02"], "Update the RPMs on the compute nodes": ["c01-n02"]}
    place.lift(well)
    assert place.journal.unknown_hosts(run) == {"Update the RPMs on the compute nodes": ["c01-n02"]}
    with pytest.raises(UsageError, match="--accept 'c01-n02/unknown'"):
        settling.abandon(place.cloud)


def test_ctrl_c_drains_and_the_rest_is_still_held(place: Place):
    place.left(("daemons", STOP, COMPUTES, PRIOR))

    def interrupted(_task: str, _host: str) -> Outcome:
        place.stopping.set()
        return CHANGED

    with pytest.raises(Interrupted, match="cellstep holds"):
        place.lift(interrupted)
    assert place.journal.open_holds("daemons").keys() == set(COMPUTES[1:])
    assert next(place.journal.runs()).state == "settled"


def test_what_has_changed_since_it_was_shown_is_not_lifted(place: Place):
    place.left(("daemons", STOP, COMPUTES, PRIOR))
    wanted = settling.chosen(place.cloud, place.journal)
    place.journal.end_hosts("", "", [(host, "changed", "") for host in ["c01-n01"]], lifted="daemons")
    with pytest.raises(UsageError, match="have changed since"):
        settling.lift(place.cloud, runs.Watch(place.shown, Nobody(), place.stopping), wanted)


def test_while_a_run_is_under_way_nothing_is_lifted_and_nothing_abandoned(place: Place):
    place.left(("daemons", STOP, COMPUTES, PRIOR), end="running")
    with runs.lock_of(place.cloud).held(place.journal, "run nova"):
        with pytest.raises(Locked, match="run nova"):
            place.lift(well)
        with pytest.raises(Locked, match="run nova"):
            settling.abandon(place.cloud)


def test_only_holds_and_nodes_that_there_are_can_be_chosen(place: Place):
    place.left(("daemons", STOP, COMPUTES, PRIOR), ("puppet", "p", ["c01-n01", "top-api01"], {}))
    journal = place.journal
    assert len(settling.chosen(place.cloud, journal)) == 6
    assert [row["host"] for row in settling.chosen(place.cloud, journal, "cell01", "daemons")] == COMPUTES[:2]
    with pytest.raises(UsageError, match="those that are: daemons, puppet"):
        settling.chosen(place.cloud, journal, "", "fence")
    with pytest.raises(UsageError, match="c77-n01"):
        settling.chosen(place.cloud, journal, "c77-n01")


# Ending a run for good


def test_a_run_that_left_nothing_is_abandoned_and_resume_offers_it_no_more(place: Place):
    run = place.left()
    assert settling.abandon(place.cloud).id == run
    journal = place.journal
    record = next(journal.runs())
    assert (record.state, record.exit_code, record.message) == ("abandoned", None, "abandoned")
    assert journal.unfinished_run() is None
    assert journal.events(run)[0]["what"] == "abandoned; left in place, and accepted: nothing"
    with pytest.raises(UsageError, match="no run is unfinished"):
        settling.abandon(place.cloud)


def test_a_run_that_left_something_is_abandoned_with_exactly_that_list(place: Place):
    run = place.left(("daemons", STOP, COMPUTES, PRIOR), ("fence", FENCE_IT, ["top-infra01"], {}))
    place.journal.begin_step(run, 9, "Update the RPMs on the compute nodes", [("cell01", "c01-n02")])
    place.journal.start_hosts(run, "Update the RPMs on the compute nodes", {"c01-n02": 1})
    exact = "c[01-02]-n[01-02]/daemons top-infra01/fence c01-n02/unknown"
    with pytest.raises(UsageError) as refused:
        settling.abandon(place.cloud)
    said = str(refused.value)
    assert f"cellstep abandon --accept '{exact}'" in said
    assert "cellstep holds lift" in said
    assert "cellstep resume" in said
    for other, words in [
        ("c[01-02]-n[01-02]/daemons top-infra01/fence", "not in your list: c01-n02/unknown"),
        (f"{exact} c01-n01/puppet", "not in place: c01-n01/puppet"),
        ("c01-n01/daemons", "top-infra01/fence"),
        ("daemons", "not NODES/HOLD"),
        ("c01-n[01-/daemons", "--accept"),
    ]:
        with pytest.raises(UsageError, match=r"not|--accept") as refused:
            settling.abandon(place.cloud, other)
        assert words in str(refused.value)
        assert place.journal.unfinished_run() is not None
    settling.abandon(place.cloud, exact)
    assert place.journal.unfinished_run() is None
    assert exact in place.journal.events(run)[0]["what"]
    assert place.journal.open_holds("fence"), "what was accepted is not forgotten"


def test_a_list_for_a_run_that_left_nothing_is_refused(place: Place):
    place.left()
    with pytest.raises(UsageError, match="without --accept"):
        settling.abandon(place.cloud, "c01-n01/daemons")


HELD = st.sampled_from(["daemons", "puppet", "puppet-updates", "unknown"])
NAMES = st.from_regex(r"[a-z][a-z0-9]{0,5}-n[0-9]{2}", fullmatch=True)


@settings(max_examples=30)
@given(st.dictionaries(HELD, st.sets(NAMES, min_size=1, max_size=12)))
def test_the_list_of_what_is_left_reads_back(left):
    from plugins.inventory.ranges import fold  # noqa: PLC0415 - all that the list needs of a cloud

    class Folds:
        @staticmethod
        def fold(names: Any) -> str:
            return fold(names)

    assert settling.read_list(settling.as_list(Folds(), left)) == left
