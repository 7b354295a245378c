"""The engine's laws, on scripted nodes."""

import hashlib
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellstep.engine.context import Options
from cellstep.engine.dispatch import Outcome
from cellstep.engine.journal import STATES, Journal
from cellstep.engine.run import Interrupted, account
from cellstep.engine.steps import Finding, Nodes, Runbook, gate, hold, lift, save, step
from cellstep.errors import CellstepError, Stopped, TakenOver
from tasks.binding import Command
from tasks.holds import Hold, Noted
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


LOST = {"failed", "unreachable", "unknown"}


def in_trouble(cloud, lost: dict[str, str]) -> bool:
    """Whether nodes lost so far must stop a run with the budgets of the lab, one node of each kind in all."""
    needed = {node.name for node in cloud.nodes if node.tier != "compute"}
    failed = [host for host, state in lost.items() if state == "failed"]
    return bool(needed & lost.keys()) or len(failed) > 1 or len(lost) - len(failed) > 1


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_accounting_adds_up_and_the_run_stops_just_when_it_must(rehearsal: Rehearsal, cloud, data):
    """The counts sum up to the nodes whatever comes of them; nothing is sent once a needed node or a budget is lost."""
    rehearsal.run = rehearsal.journal.begin_run("nova", "r", "d", {})
    kinds = ["ok", "changed", "skipped", *sorted(LOST)]
    weights = [*["ok"] * data.draw(st.integers(0, 9)), *kinds]
    states = {node.name: data.draw(st.sampled_from(weights), node.name) for node in cloud.nodes}
    went = rehearsal.go(
        [step("One", first, on=EVERYBODY), step("Two", second, on=EVERYBODY)],
        lambda task, host, _: Outcome(states[host], "") if task == "first" else OK,
    )
    _, counts, _ = went.shown.ended[0]
    assert sum(counts.values()) == len(cloud.nodes)
    assert set(counts) <= set(STATES)
    sent = [host for task, host in went.dispatcher.sent if task == "first"]
    lost: dict[str, str] = {}
    for host in sent:
        assert not in_trouble(cloud, lost), "sent to although the run must stop"
        lost |= {host: states[host]} if states[host] in LOST else {}
    assert isinstance(went.error, Stopped) == in_trouble(cloud, lost)
    if in_trouble(cloud, lost):
        assert counts.get("not_run", 0) == len(cloud.nodes) - len(sent)
    else:
        assert {host for task, host in went.dispatcher.sent if task == "second"} == set(states) - lost.keys()
        here = {"ok": len(states) - len(lost), "quarantined": len(lost)}
        assert went.shown.ended[1][1] == {state: count for state, count in here.items() if count}
        assert rehearsal.journal.left_out(rehearsal.run).keys() == lost.keys()


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
    assert [host for _, host in again.dispatcher.sent] == [node.name for node in cloud.nodes[3:]]
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
    rehearsal.journal.place_holds(rehearsal.run, "nova", "Off", "thing", {"top-infra01": {}})
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
    rehearsal.journal.place_holds(rehearsal.run, "nova", "Off", "thing", {n.name: {"was": "on"} for n in cloud.nodes})

    def script(_task, host, _arguments):
        if host == cloud.nodes[4].name:
            raise KeyboardInterrupt
        return CHANGED

    with pytest.raises(KeyboardInterrupt):
        rehearsal.go([lift("On", HELD, on=EVERYBODY)], script)
    assert set(rehearsal.journal.open_holds("thing")) == {node.name for node in cloud.nodes[4:]}
    again = rehearsal.go([lift("On", HELD, on=EVERYBODY)], lambda *_: CHANGED)
    assert again.error is None
    assert [host for _, host in again.dispatcher.sent] == [node.name for node in cloud.nodes[4:]]
    assert rehearsal.journal.all_open_holds() == {}


def test_a_hold_is_one_attempt(rehearsal: Rehearsal):
    rehearsal.go(
        [hold("Off", HELD, on=COMPUTES)], lambda task, *_: Outcome("ok", "", {}) if task == "read" else CHANGED
    )
    assert {row["attempts"] for row in rehearsal.journal.hosts(rehearsal.run)} == {1}


def test_a_step_that_reaches_nobody_stops_the_run_within_any_budget(rehearsal: Rehearsal):
    rehearsal.options = Options(budgets=("unreachable=100%", "unreachable-per-cell=100%"))
    went = rehearsal.go([step("One", first, on=COMPUTES)], lambda *_: Outcome("unreachable", "off"))
    assert isinstance(went.error, Stopped)
    assert "none of its 4 nodes was reached" in str(went.error)


def test_a_budget_holds_for_the_whole_run_and_is_kept_through_a_resume(rehearsal: Rehearsal, cloud):
    """One node lost in each of two steps is two; past the budget nothing more is sent, and it says how to go on."""
    computes = [node.name for node in COMPUTES.choose(cloud.nodes)]
    lost = {"first": computes[0], "second": computes[1]}

    def script(task, host, _arguments):
        return Outcome("failed", "yum: no space") if lost.get(task) == host else OK

    steps = [step("One", first, on=COMPUTES), step("Two", second, on=COMPUTES)]
    went = rehearsal.go(steps, script)
    assert isinstance(went.error, Stopped)
    assert "2 failed of 4 compute nodes in all, 1 (2%) allowed by the budget failed;" in str(went.error)
    assert f"lost here: {computes[1]}" in str(went.error)
    assert went.shown.ended[1][1] == {"failed": 1, "quarantined": 1, "not_run": 2}
    rehearsal.options = Options(budgets=("failed=2", "failed-per-cell=2"))
    again = rehearsal.go(steps, script)
    assert again.error is None
    assert [host for _, host in again.dispatcher.sent] == computes[1:]
    assert set(rehearsal.journal.left_out(rehearsal.run)) == set(computes[:2])
    row = rehearsal.journal.quarantined()[computes[0]]
    assert (row["title"], row["state"], row["reason"]) == ("One", "failed", "yum: no space")


def test_a_node_left_unknown_is_tried_again_in_the_same_generation(rehearsal: Rehearsal, cloud):
    """What was started then must be found again; after a known end it is a new try."""
    host = cloud.nodes[0].name
    steps = [step("One", first, on=Nodes("one", lambda nodes: nodes[:1]))]

    def crash(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearsal.go(steps, crash)
    went = rehearsal.go(steps, lambda *_: Outcome("failed", "no"))
    bound = went.dispatcher.bound["first", host]
    assert (bound.generation, bound.again, bound.step, bound.run) == (1, True, "One", rehearsal.run)
    bound = rehearsal.go(steps, all_ok).dispatcher.bound["first", host]
    assert (bound.generation, bound.again) == (2, False)


def test_what_was_sent_is_kept_with_its_output(rehearsal: Rehearsal, cloud):
    sent = Command.of("yum update", 1, 2.5, "x" * 5000)
    rehearsal.go([step("One", first, on=EVERYBODY)], lambda *_: Outcome("changed", "", "", (sent,)))
    rows = rehearsal.journal.commands(rehearsal.run, "One", cloud.nodes[0].name)
    assert [(r["what"], r["exit_status"], r["seconds"], r["size"], r["generation"]) for r in rows] == [
        ("yum update", 1, 2.5, 5000, 1)
    ]
    assert rows[0]["sha256"] == hashlib.sha256(b"x" * 5000).hexdigest()
    assert (len(rows[0]["head"]), len(rows[0]["tail"])) == (1000, 2000)


def test_a_holder_that_was_taken_over_from_journals_and_sends_nothing_more(rehearsal: Rehearsal, cloud):
    rehearsal.journal.take_token()

    def script(_task, host, _arguments):
        if host == cloud.nodes[2].name:
            Journal(rehearsal.journal.path).take_token()
        return CHANGED

    went = rehearsal.go([step("One", first, on=EVERYBODY)], script)
    assert isinstance(went.error, TakenOver)
    assert len(went.dispatcher.sent) == 3
    states = [row["state"] for row in Journal(rehearsal.journal.path).hosts(rehearsal.run)]
    assert states[:4] == ["changed", "changed", "unknown", "not_run"]


def test_a_node_that_says_we_are_fenced_ends_the_run(rehearsal: Rehearsal):
    went = rehearsal.go([step("One", first, on=EVERYBODY)], lambda *_: Outcome("failed", "taken over", fenced=True))
    assert isinstance(went.error, TakenOver)
    assert {row["state"] for row in rehearsal.journal.hosts(rehearsal.run)} == {"unknown", "not_run"}


def test_a_gate_that_blocks_is_passed_only_knowingly(rehearsal: Rehearsal):
    """The reason goes to the journal; another gate's override does not help."""

    def judge(_context, _results):
        return [Finding("old RPMs", blocking=True), Finding("by the way", blocking=False)]

    steps = [gate("Gate", first, on=EVERYBODY, judge=judge, per_node=lambda *_: {})]
    rehearsal.options = Options(overrides={"Another": "why not"})
    assert isinstance(rehearsal.go(steps, all_ok).error, Stopped)
    rehearsal.options = Options(overrides={"Gate": "known: ticket 17"})
    assert rehearsal.go(steps, all_ok).error is None
    found = rehearsal.journal.findings(rehearsal.run)
    assert [(f["text"], f["overridden"]) for f in found] == [("old RPMs", "known: ticket 17"), ("by the way", "")]
    assert "past the gate “Gate” with 1 finding(s): known: ticket 17" in rehearsal.journal.events()[-1]["what"]


def test_the_operator_is_asked_at_each_gate_that_has_something_after_it(rehearsal: Rehearsal):
    def nothing(_context, _results):
        return []

    steps = [
        save("Save", first, on=EVERYBODY, judge=nothing, per_node=lambda *_: {}),
        gate("Gate", first, on=EVERYBODY, judge=nothing, per_node=lambda *_: {}),
        step("One", second, on=EVERYBODY),
        lift("Open", HELD, on=EVERYBODY, no_return=True),
        gate("Last", first, on=EVERYBODY, judge=nothing, per_node=lambda *_: {}),
    ]
    went = rehearsal.go(steps, all_ok)
    assert [(c.step.title, c.no_return, c.ahead) for c in went.asked] == [
        ("Gate", False, ("One", "Open")),
        ("Open", True, ("Open", "Last")),
    ]


def test_new_nodes_of_an_accepted_plan_get_the_steps_that_are_done(rehearsal: Rehearsal, cloud):
    known = Nodes("some", lambda nodes: nodes[:3])
    rehearsal.go([step("One", first, on=known), step("Two", second, on=known)], all_ok)
    again = rehearsal.go([step("One", first, on=EVERYBODY), step("Two", second, on=known)], all_ok)
    assert again.dispatcher.sent == [("first", node.name) for node in cloud.nodes[3:]]


def test_the_digest_of_a_plan_knows_its_nodes(cloud):
    book = Runbook("nova", (step("One", first, on=EVERYBODY),), lambda _: False)
    assert book.digest(cloud.nodes) == book.digest(tuple(cloud.nodes))
    assert book.digest(cloud.nodes) != book.digest(cloud.nodes[1:])


def test_what_another_run_left_unknown_is_asked_first_until_it_has_answered(rehearsal: Rehearsal, cloud):
    """Also where that run was abandoned, or a new one began in its place."""
    host = cloud.nodes[0].name

    def crash(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rehearsal.go([step("One", first, on=EVERYBODY)], crash)
    rehearsal.journal.supersede_runs("nova")
    rehearsal.run = rehearsal.journal.begin_run("nova", "r", "d", {"step": "Two"})
    steps = [step("Two", second, on=EVERYBODY), step("Three", first, on=EVERYBODY)]
    bound = rehearsal.go(steps, all_ok).dispatcher.bound
    assert [again.again for (task, name), again in bound.items() if name == host] == [True, False]
    assert not any(b.again for (_, name), b in bound.items() if name != host)
    assert rehearsal.journal.uncertain() == set()


def test_a_step_that_is_only_for_quarantined_nodes_does_not_stop_the_run(rehearsal: Rehearsal):
    one = Nodes("one", lambda nodes: [node for node in nodes if node.name == "c01-n01"])
    steps = [step("One", first, on=COMPUTES), step("Two", second, on=one)]
    bad = Outcome("failed", "no")
    went = rehearsal.go(steps, lambda task, host, _: bad if (task, host) == ("first", "c01-n01") else OK)
    assert went.error is None
    assert went.shown.ended[1][1] == {"quarantined": 1}


def test_an_interrupt_while_a_hold_is_read_loses_no_node_and_places_nothing(rehearsal: Rehearsal, cloud):
    stopping = threading.Event()

    def script(_task, host, _arguments):
        if host == cloud.nodes[2].name:
            stopping.set()
        return Outcome("ok", "", {"was": "on"})

    went = rehearsal.go([hold("Off", HELD, on=EVERYBODY)], script, stopping)
    assert isinstance(went.error, Interrupted)
    assert went.shown.ended == [("Off", {"not_run": len(cloud.nodes)}, "")]
    assert rehearsal.journal.all_open_holds() == {}


def test_a_gate_that_was_answered_no_is_asked_again_and_one_answered_yes_is_not(rehearsal: Rehearsal):
    def nothing(_context, _results):
        return []

    steps = [
        gate("Gate", first, on=EVERYBODY, judge=nothing, per_node=lambda *_: {}),
        step("One", second, on=EVERYBODY),
    ]
    rehearsal.confirmed = False
    went = rehearsal.go(steps, all_ok)
    assert isinstance(went.error, Stopped)
    assert [task for task, _ in went.dispatcher.sent].count("second") == 0
    rehearsal.confirmed = True
    again = rehearsal.go(steps, all_ok)
    assert again.error is None
    assert [crossing.step.title for crossing in again.asked] == ["Gate"]
    assert rehearsal.go(steps, all_ok).asked == []


def test_what_a_task_notes_is_kept_before_its_end_and_what_it_says_is_shown_and_journalled(rehearsal: Rehearsal, cloud):
    kept = []

    def keep(context, host, data):
        row = next(row for row in context.journal.hosts(context.run) if row["host"] == host)
        assert row["state"] == "unknown"
        kept.append((host, data))

    def script(_task, host, _arguments):
        went_on = Outcome("changed", "did it", Noted("did it", {"host": host}))
        return went_on if host != cloud.nodes[1].name else OK

    rehearsal.go([step("One", first, on=EVERYBODY, keep=keep)], script)
    names = [node.name for node in cloud.nodes]
    assert kept == [(name, {"host": name}) for name in names if name != names[1]]


def test_a_word_of_a_task_is_shown_at_once_and_journalled(rehearsal: Rehearsal, cloud):
    def script(_task, host, _arguments):
        rehearsal.dispatcher.bound["first", host].tell("slow")
        return OK

    shown = rehearsal.go([step("One", first, on=EVERYBODY)], script).shown
    names = [node.name for node in cloud.nodes]
    assert shown.heard == [(name, "slow") for name in names]
    said = [event["what"] for event in rehearsal.journal.events(rehearsal.run)]
    assert said == [f"{name}: slow" for name in names]
