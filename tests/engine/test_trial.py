"""A hold on trial: the gate that stops undoes it, resume places it again; one that went well stays for good."""

import dataclasses

import pytest

from cellstep.engine.context import Options
from cellstep.engine.dispatch import Outcome
from cellstep.engine.steps import Finding, Nodes, Runbook, gate, hold, settle, step
from cellstep.errors import Stopped
from tasks.holds import Hold
from tests.engine.conftest import Rehearsal

OK = Outcome("ok", "", {"was": "old"})
ONE = Nodes("one node", lambda nodes: [node for node in nodes if node.name == "top-infra01"])


def read(task):
    """Stands for a hold's task."""


def place(task):
    """Stands for a hold's task."""


def put_back(task):
    """Stands for a hold's task."""


def let_stay(task):
    """Stands for a hold's task."""


def look(task):
    """Stands for a gate's task."""


def after(task):
    """Stands for a task."""


HELD = Hold("thing", read, place, put_back, let_stay)
ANSWERS = {
    "place": Outcome("changed", "new serves"),
    "put_back": Outcome("changed", "old serves"),
    "let_stay": Outcome("ok", "new stays"),
}


def book(found):
    def judge(_context, _results):
        return [Finding(text, blocking=True) for text in found]

    return [
        hold("Switch", HELD, on=ONE),
        gate("Look", look, on=ONE, per_node=lambda _c, _n: {}, judge=judge, on_trial="Switch"),
        settle("Stay", HELD, on=ONE),
        step("After", after, on=ONE),
    ]


def answers(**others):
    return lambda task, _host, _arguments: others.get(task, ANSWERS.get(task, OK))


def sent(went):
    return [task for task, _ in went.dispatcher.sent]


def test_a_gate_that_blocks_undoes_it_and_resume_tries_again(rehearsal: Rehearsal):
    found = ["it is worse"]
    went = rehearsal.go(book(found), answers())
    assert sent(went) == ["read", "place", "look", "put_back"]
    assert isinstance(went.error, Stopped)
    assert str(went.error).endswith("; “Switch” is undone: old serves")
    assert rehearsal.journal.all_open_holds() == {}
    assert {row["title"]: row["state"] for row in rehearsal.journal.steps(rehearsal.run)} == {
        "Switch": "stopped",
        "Look": "stopped",
    }
    found.clear()
    went = rehearsal.go(book(found), answers())
    assert went.error is None
    assert sent(went) == ["read", "place", "look", "let_stay", "after"]
    assert rehearsal.journal.all_open_holds() == {}
    assert sent(rehearsal.go(book(found), answers())) == []


@pytest.mark.parametrize("state", ["failed", "unreachable", "unknown"])
def test_it_is_undone_too_where_the_gate_could_not_look(rehearsal: Rehearsal, state):
    went = rehearsal.go(book([]), answers(look=Outcome(state, "no answer")))
    assert sent(went)[-1] == "put_back"
    assert "“Switch” is undone: old serves" in str(went.error)


def test_what_cannot_be_undone_is_told_and_stays_in_the_journal(rehearsal: Rehearsal):
    went = rehearsal.go(book(["worse"]), answers(put_back=Outcome("failed", "no such command")))
    assert "“Switch” could NOT be undone (top-infra01: no such command): `cellstep holds lift`" in str(went.error)
    assert rehearsal.journal.all_open_holds() == {"thing": ["top-infra01"]}


def test_an_operator_who_goes_on_knowingly_undoes_nothing(rehearsal: Rehearsal):
    rehearsal.options = Options(overrides={"Look": "known"})
    went = rehearsal.go(book(["worse"]), answers())
    assert went.error is None
    assert sent(went) == ["read", "place", "look", "let_stay", "after"]


def test_a_dry_run_undoes_nothing(rehearsal: Rehearsal):
    rehearsal.options = Options(dry_run=True)
    assert "put_back" not in sent(rehearsal.go(book(["worse"]), answers()))


def test_a_trial_of_nothing_and_a_hold_that_cannot_stay_are_refused():
    lines = book([])
    with pytest.raises(ValueError, match="places no hold “Switch” before “Look”"):
        Runbook("nova", tuple(lines[1:]), may_miss=lambda _: False)
    with pytest.raises(ValueError, match="the hold “thing” is always put back"):
        settle("Stay", dataclasses.replace(HELD, settle=None), on=ONE)
