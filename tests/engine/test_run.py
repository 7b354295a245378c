"""The engine's laws, on scripted nodes."""

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellstep.engine.dispatch import Outcome
from cellstep.engine.journal import STATES
from cellstep.engine.run import Interrupted, account
from cellstep.engine.steps import Finding, Nodes, Runbook, gate, hold, lift, step
from cellstep.errors import CellstepError, Stopped
from tasks.holds import Hold
from tests.engine.conftest import COMPUTES, EVERYBODY, Rehearsal

OK = Outcome("ok", "", "answer")
CHANGED = Outcome("changed", "did it", "did it")


def first(task):
    """Stands for a task; never called."""


def second(task):
    """Stands for a task; never called."""


def read(task):
    """Stands for a hold's task."""


def place(task):
    """Stands for a hold's task."""


def put_back(task):
    """Stands for a hold's task."""


HELD = Hold("thing", read, place, put_back)


def all_ok(_task, _host, _arguments):
    return OK


def test_every_node_of_a_step_is_counted_once(rehearsal: Rehearsal, cloud):
    went = rehearsal.go([step("One", first, on=EVERYBODY)], all_ok)
    assert went.error is None
    assert went.shown.ended == [("One", {"ok": len(cloud.nodes)}, "")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_accounting_adds_up_and_the_run_stops_just_when_it_must(rehearsal: Rehearsal, cloud, data):
    """The counts sum up to the nodes whatever comes of them, and of misses only a compute node's lets the run go on."""
    rehearsal.run = rehearsal.journal.begin_run("nova", "r", "d", {})
    kinds = ["ok", "changed", "failed", "unreachable", "unknown", "skipped"]
    states = {node.name: data.draw(st.sampled_from(kinds), node.name) for node in cloud.nodes}
    went = rehearsal.go(
        [step("One", first, on=EVERYBODY), step("Two", second, on=EVERYBODY)],
        lambda task, host, _: Outcome(states[host], "") if task == "first" else OK,
    )
    title, counts, _ = went.shown.ended[0]
    assert sum(counts.values()) == len(cloud.nodes)
    assert set(counts) <= set(STATES)
    missed = {name for name, state in states.items() if state in {"unreachable", "unknown"}}
    needed = {node.name for node in cloud.nodes if node.tier != "compute"}
    must_stop = "failed" in states.values() or missed & needed or len(missed) == len(states)
    assert isinstance(went.error, Stopped) == bool(must_stop), title
    if not must_stop:
        assert {host for task, host in went.dispatcher.sent if task == "second"} == set(states) - missed
        assert went.shown.ended[1][1] == {
            state: count for state, count in [("ok", len(states) - len(missed)), ("unreachable", len(missed))] if count
        }


def test_a_step_without_nodes_says_why_or_stops(rehearsal: Rehearsal):
    nobody = Nodes("servers that are not there", lambda _: [])
    went = rehearsal.go([step("One", first, on=nobody, when_empty="nothing to block")], all_ok)
    assert went.shown.ended == [("One", {}, "nothing to block")]
    went = rehearsal.go([step("Other", first, on=nobody)], all_ok)
    assert "no servers that are not there" in str(went.error)


def test_the_start_is_in_the_journal_before_anything_is_sent(rehearsal: Rehearsal):
    def script(_task, host, _arguments):
        row = next(row for row in rehearsal.journal.hosts(rehearsal.run) if row["host"] == host)
        assert row["state"] == "unknown"
        assert row["started_at"]
        return OK

    assert rehearsal.go([step("One", first, on=EVERYBODY)], script).error is None


def test_resume_does_not_go_back_to_nodes_that_are_done(rehearsal: Rehearsal, cloud):
    steps = [step("Zero", second, on=EVERYBODY), step("One", first, on=EVERYBODY)]
    bad = cloud.nodes[3].name
    went = rehearsal.go(steps, lambda task, host, _: Outcome("failed", "no") if (task, host) == ("first", bad) else OK)
    assert isinstance(went.error, Stopped)
    assert bad in str(went.error)
    again = rehearsal.go(steps, all_ok)
    assert again.error is None
    assert again.dispatcher.sent == [("first", bad)]
    row = next(row for row in rehearsal.journal.hosts(rehearsal.run, "One") if row["host"] == bad)
    assert (row["state"], row["attempts"]) == ("ok", 2)


def test_a_hold_is_journalled_before_it_is_placed_and_lifted_with_its_first_prior_state(rehearsal: Rehearsal, cloud):
    seen = []

    def script(task, host, arguments):
        if task == "read":
            return Outcome("ok", "", {"was": f"on-{host}"})
        if task == "place":
            assert rehearsal.journal.open_holds("thing")[host] == {"was": f"on-{host}"}
        seen.append((task, host, arguments["prior"]["was"]))
        return CHANGED

    went = rehearsal.go([hold("Off", HELD, on=COMPUTES), lift("On", HELD, on=EVERYBODY)], script)
    computes = [node.name for node in COMPUTES.choose(cloud.nodes)]
    assert went.error is None
    assert seen == [(task, host, f"on-{host}") for task in ("place", "put_back") for host in computes]
    assert rehearsal.journal.all_open_holds() == {}
    assert went.shown.ended[1][1] == {"changed": len(computes), "skipped": len(cloud.nodes) - len(computes)}


def test_a_hold_that_is_open_keeps_what_was_there_first(rehearsal: Rehearsal):
    """A second run that finds the thing off, because the first one switched it off, must still switch it on."""
    priors = iter(["on", "off"])
    placed = []

    def script(task, _host, arguments):
        if task == "read":
            return Outcome("ok", "", {"was": next(priors)})
        placed.append(arguments["prior"]["was"])
        return CHANGED

    one = Nodes("one", lambda nodes: nodes[:1])
    rehearsal.go([hold("Off", HELD, on=one)], script)
    rehearsal.run = rehearsal.journal.begin_run("nova", "r", "d", {})
    rehearsal.go([hold("Off", HELD, on=one), lift("On", HELD, on=one)], script)
    assert placed == ["on", "on", "on"]


def test_a_hold_that_could_not_be_lifted_stays_open(rehearsal: Rehearsal):
    def script(task, _host, _arguments):
        return {"read": Outcome("ok", "", {}), "place": CHANGED, "put_back": Outcome("failed", "no")}[task]

    went = rehearsal.go([hold("Off", HELD, on=COMPUTES), lift("On", HELD, on=COMPUTES)], script)
    assert isinstance(went.error, Stopped)
    assert len(rehearsal.journal.open_holds("thing")) == 4


@pytest.mark.parametrize("blocking", [True, False])
def test_a_gate_stops_the_run_only_on_what_blocks_and_looks_again_at_all_nodes(rehearsal: Rehearsal, cloud, blocking):
    answers = []

    def judge(_context, results):
        answers.append(set(results))
        return [Finding("something", blocking=blocking)] if len(answers) == 1 else []

    steps = [gate("Gate", first, on=EVERYBODY, judge=judge, per_node=lambda *_: {})]
    went = rehearsal.go(steps, all_ok)
    assert isinstance(went.error, Stopped) == blocking
    assert [finding.text for finding in went.shown.findings] == ["something"]
    if blocking:
        assert rehearsal.go(steps, all_ok).error is None
        assert answers == [{node.name for node in cloud.nodes}] * 2
        assert rehearsal.journal.findings(rehearsal.run) == []


def test_an_interrupt_drains_and_what_was_not_sent_is_not_run(rehearsal: Rehearsal, cloud):
    stopping = threading.Event()

    def script(_task, host, _arguments):
        if host == cloud.nodes[2].name:
            stopping.set()
        return OK

    steps = [step("One", first, on=EVERYBODY), step("Two", second, on=EVERYBODY)]
    went = rehearsal.go(steps, script, stopping)
    assert isinstance(went.error, Interrupted)
    assert went.shown.ended == [("One", {"ok": 3, "not_run": len(cloud.nodes) - 3}, "")]
    again = rehearsal.go(steps, all_ok)
    assert again.error is None
    assert [host for task, host in again.dispatcher.sent if task == "first"] == [n.name for n in cloud.nodes[3:]]


def test_the_point_of_no_return_is_not_crossed_without_consent(rehearsal: Rehearsal):
    rehearsal.confirmed = False
    rehearsal.journal.place_hold(rehearsal.run, "thing", "top-infra01", {})
    went = rehearsal.go([lift("Open", HELD, on=EVERYBODY, no_return=True)], all_ok)
    assert isinstance(went.error, Stopped)
    assert went.dispatcher.sent == []
    rehearsal.confirmed = True
    assert rehearsal.go([lift("Open", HELD, on=EVERYBODY, no_return=True)], all_ok).error is None


def test_two_steps_of_one_title_are_refused():
    with pytest.raises(ValueError, match="same title: One"):
        Runbook("nova", (step("One", first, on=EVERYBODY), step("One", second, on=EVERYBODY)), lambda _: False)


def test_a_journal_that_lacks_a_node_is_never_green(cloud):
    with pytest.raises(CellstepError, match="host accounting"):
        account(cloud.nodes, [{"host": node.name, "state": "ok"} for node in cloud.nodes[1:]])


def test_a_gate_that_an_interrupt_kept_from_judging_is_not_done(rehearsal: Rehearsal, cloud):
    """Ctrl-C when every node has answered and before the judge: resume must come back to the gate."""
    stopping, judged = threading.Event(), []

    def script(_task, host, _arguments):
        if host == cloud.nodes[-1].name:
            stopping.set()
        return OK

    def judge(_context, results):
        judged.append(len(results))
        return []

    steps = [gate("Gate", first, on=EVERYBODY, judge=judge, per_node=lambda *_: {}), step("Open", second, on=EVERYBODY)]
    assert isinstance(rehearsal.go(steps, script, stopping).error, Interrupted)
    assert judged == []
    again = rehearsal.go(steps, all_ok)
    assert again.error is None
    assert judged == [len(cloud.nodes)]
    assert [task for task, _ in again.dispatcher.sent] == ["first"] * len(cloud.nodes) + ["second"] * len(cloud.nodes)


def test_a_lift_ends_each_hold_as_its_node_answers(rehearsal: Rehearsal, cloud):
    """A crash in the middle of a lift must not leave holds open on nodes that are done, which resume passes over."""
    for node in cloud.nodes:
        rehearsal.journal.place_hold(rehearsal.run, "thing", node.name, {"was": "on"})

    def script(_task, host, _arguments):
        if host == cloud.nodes[4].name:
            raise KeyboardInterrupt
        return CHANGED

    with pytest.raises(KeyboardInterrupt):
        rehearsal.go([lift("On", HELD, on=EVERYBODY)], script)
    assert list(rehearsal.journal.open_holds("thing")) == [node.name for node in cloud.nodes[4:]]
    again = rehearsal.go([lift("On", HELD, on=EVERYBODY)], lambda *_: CHANGED)
    assert again.error is None
    assert [host for _, host in again.dispatcher.sent] == [node.name for node in cloud.nodes[4:]]
    assert rehearsal.journal.all_open_holds() == {}


def test_a_hold_is_one_attempt(rehearsal: Rehearsal):
    rehearsal.go(
        [hold("Off", HELD, on=COMPUTES)], lambda task, *_: Outcome("ok", "", {}) if task == "read" else CHANGED
    )
    assert {row["attempts"] for row in rehearsal.journal.hosts(rehearsal.run)} == {1}


def test_a_step_that_reaches_nobody_stops_the_run_also_when_they_were_lost_one_by_one(rehearsal: Rehearsal, cloud):
    computes = [node.name for node in COMPUTES.choose(cloud.nodes)]

    def script(task, host, _arguments):
        lost = computes[:3] if task == "first" else computes
        return Outcome("unreachable", "off") if host in lost else OK

    went = rehearsal.go([step("One", first, on=COMPUTES), step("Two", second, on=COMPUTES)], script)
    assert isinstance(went.error, Stopped)
    assert "none of its 4 nodes was reached" in str(went.error)


def test_the_digest_of_a_plan_knows_its_nodes(cloud):
    book = Runbook("nova", (step("One", first, on=EVERYBODY),), lambda _: False)
    assert book.digest(cloud.nodes) == book.digest(tuple(cloud.nodes))
    assert book.digest(cloud.nodes) != book.digest(cloud.nodes[1:])
