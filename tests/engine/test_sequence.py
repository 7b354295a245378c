"""All stages one after the other: small stages, the product's own runs and journal, outcomes told by the test."""

import json
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellstep import runs, sequence
from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.context import Options
from cellstep.engine.dispatch import Outcome
from cellstep.engine.journal import Journal
from cellstep.engine.steps import Finding, Nodes, Runbook, gate, step
from cellstep.errors import Stopped, UsageError
from cellstep.stages import STAGES
from tests.engine.conftest import Recorder, ScriptedDispatcher
from tests.support import clouds

SMALL = ("cinder", "nova", "glance")  # on purpose in another order than they are run in
IN_ORDER = ["glance", "cinder", "nova"]
TOP = Nodes("top controllers", lambda nodes: [node for node in nodes if node.tier == "top"][:1])
DID = Outcome("changed", "did it", "did it")


def _stage(name: str, findings: Mapping[str, str]) -> Callable[[Cloud], Runbook]:
    """A stage of one step that judges as well: what is found is in `findings`."""

    def work(task: Any) -> None:
        raise AssertionError(task)

    work.__name__ = name

    def judge(_context: Any, _results: Any) -> list[Finding]:
        return [Finding(findings[name], blocking=False)] if name in findings else []

    def runbook(_cloud: Cloud) -> Runbook:
        made = gate(f"Upgrade {name}", work, on=TOP, judge=judge, per_node=lambda *_: {})
        return Runbook(name, (made,), may_miss=lambda _: False)

    return runbook


@dataclass
class Place:
    """A cloud, what its stages answer, and what a conductor hears."""

    cloud: Cloud
    findings: dict[str, str] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)
    told_: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    yes: bool = True

    def script(self, stage: str, _node: str, _arguments: Mapping[str, Any]) -> Outcome:
        self.sent.append(stage)
        return Outcome("failed", "no") if stage in self.failing else DID

    # The conductor

    def told(self, line: str) -> None:
        self.told_.append(line.strip())

    def begin(self, question: str) -> None:
        self.asked.append(question)

    def go_on(self, question: str) -> bool:
        self.asked.append(question)
        return self.yes

    def carry(self, call: Callable[[runs.Watch], runs.Finished | None]) -> runs.Finished | None:
        return call(runs.Watch(Recorder(), self, threading.Event()))

    # The operator of a run

    def confirm(self, crossing: Any) -> bool:
        return crossing is not None

    def accept(self, changes: Any) -> bool:
        raise AssertionError(f"asked about {changes}")

    # The test

    def run(self, *, afresh: bool = False, **options: Any) -> int:
        self.sent, self.told_, self.asked = [], [], []
        return sequence.run(self.cloud, runs.Request("all", afresh=afresh, options=Options(**options)), self)

    @property
    def journal(self) -> Journal:
        return runs.open_journal(self.cloud)

    @property
    def runs(self) -> list[tuple[str, str, int | None]]:
        return [(run.stage, run.state, run.exit_code) for run in self.journal.runs()][::-1]


def make(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    inventory = clouds.INVENTORY.replace("controller: c02-ctl01,", "controller: c02-ctl01, database: c02-ctl01,")
    clouds.write(folder, inventory=inventory)
    (folder / "secret").write_text("secret\n")
    (folder / "secret").chmod(0o600)
    place = Place(load_cloud(folder))
    for name in list(STAGES):
        monkeypatch.delitem(STAGES, name)
    for name in SMALL:
        monkeypatch.setitem(STAGES, name, _stage(name, place.findings))

    class Dispatcher(ScriptedDispatcher):
        def __enter__(self) -> "Dispatcher":
            return self

        def __exit__(self, *_: object) -> None: ...

    def dispatcher(_cloud: Cloud, *, dry_run: bool, stopping: threading.Event) -> Dispatcher:
        assert dry_run in {True, False}
        return Dispatcher(place.script, stopping)

    monkeypatch.setattr(runs, "Dispatcher", dispatcher)
    return place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return make(tmp_path, monkeypatch)


def test_every_stage_has_its_place_in_the_order():
    assert set(STAGES) <= set(sequence.ORDER)


def test_each_stage_is_a_run_of_its_own_in_the_order_of_the_upgrade(place: Place):
    assert place.run() == 0
    assert place.sent == IN_ORDER
    assert place.runs == [(stage, "complete", 0) for stage in IN_ORDER]
    assert place.asked == ["Run glance, cinder, nova (3 steps) now?"]


def test_it_stops_at_the_first_that_fails_and_goes_on_there(place: Place):
    place.failing = {"cinder"}
    with pytest.raises(Stopped):
        place.run()
    assert place.sent == ["glance", "cinder"]
    assert place.told_[-1] == "not begun: nova; `cellstep run all` goes on"
    stopped = place.journal.unfinished_run()
    assert stopped is not None
    with pytest.raises(Stopped):
        place.run()
    assert place.sent == ["cinder"]
    place.failing = set()
    assert place.run() == 0
    assert place.asked == [f"Go on with run {stopped.id} of cinder (stopped), then run nova (1 steps) now?"]
    assert place.sent == ["cinder", "nova"]
    assert place.runs == [(stage, "complete", 0) for stage in IN_ORDER]


def test_what_is_done_is_skipped_and_said_and_done_again_afresh(place: Place):
    place.run()
    glance = place.journal.last_run("glance")
    assert glance is not None
    assert place.run() == 0
    assert place.sent == []
    assert place.asked == []
    assert f"glance: done in run {glance.id}: skipped (--afresh does it again)" in place.told_
    assert place.told_[-1] == "all stages are done"
    assert place.run(afresh=True) == 0
    assert place.sent == IN_ORDER


@pytest.mark.parametrize("state", ["backed-out", "abandoned", "superseded"])
def test_a_stage_that_was_taken_back_or_given_up_is_to_be_done(place: Place, state: str):
    place.run()
    nova = place.journal.last_run("nova")
    assert nova is not None
    place.journal.end_run(nova.id, state, None)
    assert place.run() == 0
    assert place.sent == ["nova"]


def test_a_stage_whose_database_was_restored_since_is_to_be_done(place: Place):
    place.journal.keep_record("restore", "cinder", "top-db01/cinder", {"state": "changed"}, "restore")
    assert place.run() == 0
    assert place.sent == IN_ORDER, "one that was restored before its run is done by it"
    place.journal.keep_record("restore", "cinder", "top-db01/cinder", {"state": "changed"}, "restore")
    assert place.run() == 0
    assert place.sent == ["cinder"]


def test_what_an_upgrade_to_another_release_did_is_not_done(place: Place):
    place.journal.end_run(place.journal.begin_run("glance", "havana-icehouse", "d", {}), "complete", 0)
    place.journal.end_run(place.journal.begin_run("cinder", "grizzly-havana", "d", {"limit": "top"}), "complete", 0)
    place.run()
    assert place.sent == IN_ORDER


def test_a_stage_that_is_not_compliant_is_asked_about(place: Place):
    place.findings["cinder"] = "a volume is gone"
    place.yes = False
    assert place.run() == 3
    assert place.asked[1:] == ["cinder is done, but not compliant. Go on with nova?"]
    assert place.sent == ["glance", "cinder"]
    assert place.told_[-1] == "not begun: nova; `cellstep run all` goes on"
    assert place.run() == 3, "called again it goes on, and does not forget"
    assert place.sent == ["nova"]
    assert any(line.startswith("cinder: done in run") and "not compliant: skipped" in line for line in place.told_)
    place.yes = True
    assert place.run(afresh=True) == 3
    assert place.sent == IN_ORDER
    place.findings.clear()
    assert place.run(afresh=True) == 0


def test_the_last_stage_is_not_asked_about(place: Place):
    place.findings["nova"] = "a guest is gone"
    assert place.run() == 3
    assert len(place.asked) == 1


def test_a_run_that_is_none_of_a_stage_must_be_ended_first(place: Place):
    run = place.journal.begin_run("nova-backout", "grizzly-havana", "d", {})
    place.journal.end_run(run, "stopped", 4)
    with pytest.raises(UsageError, match=f"run {run} of nova-backout is not finished .*cellstep abandon"):
        place.run()
    assert place.sent == []


def test_afresh_beside_an_unfinished_run_is_refused(place: Place):
    place.failing = {"cinder"}
    with pytest.raises(Stopped):
        place.run()
    with pytest.raises(UsageError, match="`cellstep run all` without --afresh, too"):
        place.run(afresh=True)
    assert place.sent == []


def test_a_single_step_that_stopped_is_gone_on_with_and_its_stage_is_still_to_do(place: Place):
    run = place.journal.begin_run("cinder", "grizzly-havana", STAGES["cinder"](place.cloud).digest(place.cloud.nodes),
                                  {"step": "1"})  # fmt: skip
    place.journal.end_run(run, "stopped", 4)
    assert place.run() == 0
    assert place.asked == [f"Go on with run {run} of cinder (stopped), then run glance, cinder, nova (3 steps) now?"]
    assert place.sent == ["cinder", *IN_ORDER]


def test_a_dry_run_leaves_no_run_behind(place: Place):
    assert place.run(dry_run=True) == 0
    assert place.sent == IN_ORDER
    assert place.runs == []


@pytest.mark.parametrize(
    "request_",
    [
        runs.Request("all", only="1"),
        runs.Request("all", begin="1"),
        runs.Request("all", options=Options(limit="top")),
        runs.Request("all", options=Options(catch_up=True)),
    ],
)
def test_what_is_for_one_stage_is_refused(place: Place, request_: runs.Request):
    with pytest.raises(UsageError, match="are for one stage"):
        sequence.run(place.cloud, request_, place)


def _plan(place: Place) -> tuple[str, dict[str, Any]]:
    found = sequence.parts(place.cloud, place.journal, place.cloud.nodes)
    return sequence.as_text(place.cloud, found), sequence.as_values(place.cloud, found)


def test_the_plans_stand_below_a_summary(place: Place):
    text, values = _plan(place)
    assert text.splitlines()[:6] == [
        "All stages, Grizzly to Havana: test",
        "",
        "1. glance  1 steps  1 nodes  not known",
        "2. cinder  1 steps  1 nodes  not known",
        "3. nova    1 steps  1 nodes  not known",
        "in all     3 steps  1 nodes  not known",
    ]
    assert [line for line in text.splitlines() if line.endswith("25 nodes")] == [
        f"{stage.capitalize()}, Grizzly to Havana: test, 25 nodes" for stage in IN_ORDER
    ]
    assert [stage["stage"] for stage in values["stages"]] == IN_ORDER
    assert {stage["state"] for stage in values["stages"]} == {"to do"}
    assert (values["steps"], values["nodes"], values["forecast"]) == (3, 1, None)
    json.dumps(values)


def test_the_summary_says_what_is_done_and_how_long_the_rest_takes(place: Place):
    place.findings["glance"] = "an image is gone"
    place.failing = {"cinder"}
    with pytest.raises(Stopped):
        place.run()
    glance, cinder = place.journal.last_run("glance"), place.journal.last_run("cinder")
    assert glance is not None
    assert cinder is not None
    text, values = _plan(place)
    lines = text.splitlines()
    assert lines[2].endswith(f" -  done in run {glance.id}, not compliant")
    assert lines[3].endswith(f"  run {cinder.id} is not finished (stopped)")
    assert lines[5].endswith("2 of 3 stages to do")
    assert [(stage["state"], stage["run"], stage["compliant"]) for stage in values["stages"]] == [
        ("done", glance.id, False),
        ("unfinished", cinder.id, None),
        ("to do", None, None),
    ]
    place.journal.end_run(glance.id, "backed-out", None)  # the stage is to do again, and its last run tells how long
    text, values = _plan(place)
    assert "less than a minute" in text.splitlines()[2]
    assert values["stages"][0]["forecast"] == {"seconds": 0, "steps_unknown": 0}
    assert "and 2 steps of which nothing is known yet" in text.splitlines()[5]


def test_a_stage_without_any_node_says_nothing_of_how_long_the_others_take(
    place: Place, monkeypatch: pytest.MonkeyPatch
):
    nobody = step("Upgrade", print, on=Nodes("clients", lambda _: []), when_empty="no client here")
    monkeypatch.setitem(STAGES, "clients", lambda _cloud: Runbook("clients", (nobody,), lambda _: False))
    assert " ".join(_plan(place)[0].splitlines()[6].split()) == "in all 4 steps 1 nodes not known"


def test_a_stage_whose_plan_is_another_now_says_so(place: Place, monkeypatch: pytest.MonkeyPatch):
    place.run()
    book = STAGES["glance"](place.cloud)
    more = Runbook("glance", (*book.steps, step("More", print, on=TOP)), book.may_miss)
    monkeypatch.setitem(STAGES, "glance", lambda _cloud: more)
    place.run()
    assert any("its plan is another now: skipped" in line for line in place.told_)


@settings(max_examples=25, deadline=None)
@given(failures=st.fixed_dictionaries({stage: st.integers(0, 2) for stage in SMALL}))
def test_whatever_fails_each_stage_is_done_once_and_in_order(failures: dict[str, int]):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        place = make(Path(folder), monkeypatch)
        left, done, calls = dict(failures), list[str](), 0
        while True:
            calls += 1
            place.failing = {stage for stage, n in left.items() if n}
            try:
                code = place.run()
            except Stopped:
                left[place.sent[-1]] -= 1
                done += place.sent[:-1]
                continue
            done += place.sent
            break
        assert (code, done, calls) == (0, IN_ORDER, 1 + sum(failures.values()))
        assert place.run() == 0
        assert place.sent == []
