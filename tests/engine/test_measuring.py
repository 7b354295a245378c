"""Which runs a measurement is before and after of, by a real journal."""

import contextlib

import pytest

from cellstep import measuring
from cellstep.engine.journal import Journal
from cellstep.errors import UsageError

PLAN = [{"kind": "do", "title": "Update", "nodes": "c"}, {"kind": "hold", "title": "Hold", "nodes": "c"}]


@pytest.fixture
def journal(tmp_path):
    with contextlib.closing(Journal(tmp_path / "journal")) as found:
        yield found


def run(journal, state, stage="nova", title="Update"):
    made = journal.begin_run(stage, "r", "d", {}, PLAN)
    journal.begin_step(made, 1, title, [("c", "c01-n01")])
    with journal._write() as db:
        db.execute("UPDATE host_steps SET state=? WHERE run=?", (state, made))
    journal.end_run(made, "complete", 0)
    return made


def ids(journal):
    return [each and each.id for each in measuring.upgrades(journal, "nova", "r")]


def test_a_second_run_that_changes_nothing_does_not_move_the_beginning(journal):
    assert ids(journal) == [None, None]
    held = run(journal, "changed", title="Hold")
    assert ids(journal) == [held, held]
    first = run(journal, "changed")
    second = run(journal, "unchanged")
    assert ids(journal) == [first, second]


def test_after_a_back_out_it_begins_anew(journal):
    run(journal, "changed")
    run(journal, "changed", stage="nova-backout")
    again = run(journal, "changed")
    assert ids(journal) == [again, again]


def test_runs_of_one_millisecond_are_in_their_order(journal, monkeypatch):
    monkeypatch.setattr("cellstep.engine.journal.now", lambda: "2026-11-23T09:21:03.000Z")
    for _ in range(10):
        run(journal, "changed")
    run(journal, "changed", stage="nova-backout")
    again = run(journal, "changed")
    assert ids(journal) == [again, again]
    assert next(journal.runs("nova")).id == again


def test_an_unknown_stage_is_one_line():
    with pytest.raises(UsageError, match="there is no stage “nowa” to measure; the stages are: ceilometer"):
        measuring.refuse_unknown("nowa")
