"""How long what is left takes: never more exact than it can be, never from nothing."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellstep import standing
from cellstep.engine.forecast import Forecast, Left, Took, about, forecast, span
from cellstep.engine.journal import Journal, StepTime

TITLES = st.sampled_from("ABCDE")
SECONDS = st.floats(0, 1e6)
LEFT = st.builds(Left, TITLES, st.integers(0, 3000), st.integers(0, 3000), SECONDS, SECONDS)
TOOK = st.builds(Took, TITLES, st.integers(0, 3000), SECONDS, st.booleans(), st.booleans())


@given(st.lists(LEFT, unique_by=lambda left: left.title), st.lists(TOOK))
def test_every_step_that_is_left_is_known_or_counted_as_not_known(left, earlier):
    found = forecast(left, earlier)
    real = [step for step in left if step.nodes]
    known = {took.title for took in earlier if took.nodes} | {step.title for step in real if step.ended}
    of_known = [step for step in real if step.title in known]
    if real and not of_known:
        assert found is None
    else:
        assert found is not None
        assert found.seconds >= 0
        assert found.unknown == len(real) - len(of_known)


@given(st.lists(LEFT, unique_by=lambda left: left.title, min_size=1), st.lists(TOOK), LEFT)
def test_another_step_never_makes_it_shorter(left, earlier, more):
    before = forecast(left, earlier)
    after = forecast([*left, Left("Z", more.nodes, more.ended, more.busy_s)], earlier)
    if before is not None and after is not None:
        assert after.seconds >= before.seconds


@given(st.integers(1, 2000), st.integers(1, 2000), st.floats(1, 1e5), st.floats(1, 1e5))
def test_a_steps_own_rate_and_an_earlier_run_bound_what_is_said(nodes, ended, busy, seconds):
    found = forecast([Left("A", nodes, ended, busy)], [Took("A", nodes + ended, seconds)])
    by_rate, by_run = busy * nodes / ended, seconds * nodes / (nodes + ended)
    assert found is not None
    assert min(by_rate, by_run) * 0.999 <= found.seconds <= max(by_rate, by_run) * 1.001


def test_the_same_plan_goes_before_another_and_work_before_idleness():
    idle = Took("A", 10, 1.0, same=True, idle=True)
    other = Took("A", 5, 100.0, same=False)
    same = Took("A", 10, 300.0)
    older = Took("A", 10, 900.0)
    assert forecast([Left("A", 10)], [idle, other, same, older]) == Forecast(300.0, 0)
    assert forecast([Left("A", 10)], [idle, other]) == Forecast(200.0, 0)  # twice as many nodes
    assert forecast([Left("A", 10)], [idle]) == Forecast(1.0, 0)


def test_a_single_long_command_gets_shorter_while_it_is_waited_for():
    took = [Took("Update the top DB", 1, 600.0)]
    assert forecast([Left("Update the top DB", 1, waiting_s=240)], took) == Forecast(360.0, 0)
    assert forecast([Left("Update the top DB", 1, waiting_s=700)], took) == Forecast(0.0, 0)


def test_nothing_left_takes_no_time():
    assert forecast([], []) == Forecast(0.0, 0)
    assert forecast([Left("A", 0)], []) == Forecast(0.0, 0)


@given(st.floats(60, 1e6))
def test_words_are_near_what_they_say_and_no_more_exact_than_two_figures(seconds):
    said = about(seconds)
    hours, minutes = (int(found.group(1)) if (found := re.search(rf"(\d+) {u}", said)) else 0 for u in ("h", "min"))
    told = hours * 3600 + minutes * 60
    assert told == pytest.approx(seconds, rel=0.5 if seconds < 180 else 0.15)
    assert minutes % 5 == 0 or (hours == 0 and minutes < 20)
    assert minutes % 15 == 0 or hours == 0


def test_words():
    assert about(3) == "less than a minute"
    assert about(12 * 60 + 29) == "about 12 min"
    assert about(43 * 60) == "about 45 min"
    assert about(59 * 60) == "about 1 h"
    assert about(100 * 60) == "about 1 h 45 min"
    assert about(9.4 * 3600) == "about 9 h"
    assert str(Forecast(700, 0)) == "about 12 min"
    assert str(Forecast(700, 1)) == "about 12 min, and one step of which nothing is known yet"
    assert [span(s) for s in (3, 700, 8000, 300_000)] == ["3 s", "11 min", "2 h", "3 days"]


class Past:
    """A journal with steps at told times."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal.sqlite3")
        self.began = datetime(2014, 2, 24, 8, 0, tzinfo=UTC)

    def run(self, digest: str, steps: list[str], nodes: int, options: dict[str, str] | None = None) -> str:
        plan = [{"kind": "do", "title": title, "nodes": f"n[1-{nodes}]"} for title in steps]
        return self.journal.begin_run("nova", "r", digest, options or {}, plan)

    def step(self, run: str, title: str, times: list[tuple[float, float]], state: str = "done") -> None:
        """A step whose nodes ran from and to so many seconds after the beginning."""
        hosts = [f"n{n}" for n in range(1, len(times) + 1)]
        number = len(self.journal.steps(run)) + 1
        self.journal.begin_step(run, number, title, [("cell01", host) for host in hosts])
        self.journal.end_hosts(run, title, [(host, "changed", "") for host in hosts])
        with self.journal._write() as db:
            db.executemany(
                "UPDATE host_steps SET started_at=?, finished_at=? WHERE run=? AND title=? AND host=?",
                [(self._at(a), self._at(b), run, title, host) for host, (a, b) in zip(hosts, times, strict=True)],
            )
        if state != "running":
            self.journal.end_step(run, title, state)

    def _at(self, seconds: float) -> str:
        return (self.began + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 900)), min_size=1, max_size=30))
def test_a_steps_time_is_that_in_which_a_node_was_busy(tmp_path_factory, spans):
    """Up to the gaps within a minute, which nobody needs to know."""
    past = Past(tmp_path_factory.mktemp("past"))
    run = past.run("d", ["A"], len(spans))
    past.step(run, "A", [(start, start + length) for start, length in spans])
    busy = set().union(*(range(start, start + length) for start, length in spans))
    took = past.journal.step_times(run, ["A"])["A"]
    minutes = len({start // 60 for start, _ in spans})
    assert took.nodes == len(spans)
    assert len(busy) <= took.seconds <= len(busy) + 60 * minutes


def test_a_night_in_which_the_run_stood_is_no_part_of_a_step(past: Past):
    run = past.run("d", ["A", "B"], 2)
    past.step(run, "A", [(0, 100), (40_000, 40_100)])
    past.step(run, "B", [(50_000, 50_010), (50_000, 50_020)])
    assert past.journal.step_times(run, ["A", "B"]) == {"A": StepTime(2, 0, 200.0), "B": StepTime(2, 0, 20.0)}
    assert past.journal.step_times(run, ["B"]).keys() == {"B"}


def test_a_run_is_forecast_from_its_own_rate_and_the_run_before(past: Past):
    first = past.run("same", ["A", "B", "C"], 4)
    past.step(first, "A", [(0, 10)] * 4)
    past.step(first, "B", [(10, 50)] * 4)
    past.step(first, "C", [(50, 60)] * 4, state="stopped")
    past.journal.end_run(first, "complete", 0)
    now = past.run("same", ["A", "B", "C"], 4)
    past.step(now, "A", [(0, 10)] * 4)
    record = next(run for run in past.journal.runs() if run.id == now)
    assert standing.ahead(past.journal, record) == Forecast(40.0, 1)
    assert standing.ahead(past.journal, record, only=["C"]) is None
    assert standing.ahead(past.journal, record, only=["A", "B"]) == Forecast(40.0, 0)


def test_a_run_with_fewer_nodes_and_steps_is_scaled(past: Past):
    first = past.run("another", ["A", "B", "C"], 4)
    for n, title in enumerate("ABC"):
        past.step(first, title, [(100 * n, 100 * n + 40)] * 4)
    now = past.run("limited", ["A", "B", "C"], 1, {"limit": "n1", "from": "b"})
    record = next(run for run in past.journal.runs() if run.id == now)
    assert standing.ahead(past.journal, record) == Forecast(20.0, 0)


def test_the_first_run_ever_has_no_forecast_until_its_first_step_runs(past: Past):
    run = past.run("d", ["A"], 4)
    record = next(past.journal.runs())
    assert standing.ahead(past.journal, record) is None
    past.step(run, "A", [(0, 10), (10, 20)], state="running")
    past.journal.begin_step(run, 1, "A", [("cell01", "n3"), ("cell01", "n4")])
    assert standing.ahead(past.journal, record) == Forecast(20.0, 0)
