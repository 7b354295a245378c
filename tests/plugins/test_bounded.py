"""The bounded runner: accounting, slots, stopping and Ctrl-C."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from nornir.core import Nornir
from nornir.core.inventory import Defaults, Groups, Host, Hosts, Inventory
from nornir.core.task import AggregatedResult, MultiResult, Result, Task

from plugins.runners.bounded import BoundedRunner, RunHandle
from plugins.runners.pace import Pace

ROOT = Path(__file__).parents[2]


def nornir_of(cells: Sequence[str | None], runner: BoundedRunner) -> Nornir:
    """Nornir with hosts h0, h1, ... in these cells."""
    hosts = Hosts()
    for number, cell in enumerate(cells):
        hosts[f"h{number}"] = Host(f"h{number}", data={} if cell is None else {"cell": cell})
    return Nornir(Inventory(hosts, Groups(), Defaults()), runner=runner)


def task_of(nornir: Nornir, function: Any) -> Task:
    return Task(function, nornir, global_dry_run=False, processors=nornir.processors)


class Gauge:
    """A task that records how many of each cell run at once."""

    def __init__(self, pause: float = 0.0) -> None:
        self.lock = threading.Lock()
        self.running: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.most_in_all = 0
        self.ran: list[str] = []
        self.pause = pause

    def __call__(self, task: Task) -> Result:
        cell = str(task.host.get("cell") or "")
        with self.lock:
            self.running[cell] += 1
            self.most[cell] = max(self.most[cell], self.running[cell])
            self.most_in_all = max(self.most_in_all, sum(self.running.values()))
            self.ran.append(task.host.name)
        if self.pause:
            threading.Event().wait(self.pause)
        with self.lock:
            self.running[cell] -= 1
        return Result(task.host, result=task.host.name)

    __name__ = "gauge"


cells_of_hosts = st.lists(st.sampled_from(["top", "cell01", "cell02", None]), max_size=30)


@given(
    cells=cells_of_hosts,
    workers=st.integers(1, 8),
    slots=st.none() | st.integers(1, 4),
    stop_after=st.none() | st.integers(0, 30),
    fail=st.sets(st.integers(0, 29)),
)
@hypothesis_settings(deadline=None, max_examples=150)
def test_every_host_is_accounted_for_and_no_bound_is_passed(
    cells: list[str | None], workers: int, slots: int | None, stop_after: int | None, fail: set[int]
) -> None:
    """Each host at most once, started before its result, none after stopping, never beyond workers or slots."""
    gauge, stopping = Gauge(), threading.Event()
    events: list[tuple[str, str]] = []
    me = threading.get_ident()
    stopped_at = None if stop_after is None else stop_after

    def on_start(hosts: Sequence[Host]) -> None:
        assert threading.get_ident() == me
        assert not stopping.is_set()
        events.extend(("start", host.name) for host in hosts)
        if stopped_at is not None and len([1 for kind, _ in events if kind == "start"]) >= stopped_at:
            stopping.set()

    def on_results(batch: Sequence[tuple[Host, MultiResult]]) -> None:
        assert threading.get_ident() == me
        for host, multi in batch:
            events.append(("result", host.name))
            assert multi[0].failed == (int(host.name[1:]) in fail)

    def task(task: Task) -> Result:
        result = gauge(task)
        if int(task.host.name[1:]) in fail:
            raise SystemExit("not even this may escape") if int(task.host.name[1:]) % 2 else RuntimeError("failed")
        return result

    if stop_after == 0:
        stopping.set()
    runner = BoundedRunner(workers, slots, on_start=on_start, on_results=on_results, stopping=stopping)
    result = nornir_of(cells, runner).run(task)

    started = [name for kind, name in events if kind == "start"]
    assert sorted(started) == sorted(result) == sorted(gauge.ran)
    assert len(set(started)) == len(started)
    for name in started:
        assert events.index(("start", name)) < events.index(("result", name))
    least = len(cells) if stop_after is None else min(len(cells), stop_after)
    assert least <= len(started) < least + workers  # what was told of together is handed out together
    assert gauge.most_in_all <= workers
    if slots is not None:
        assert all(most <= slots for most in gauge.most.values())
    assert {name for name, multi in result.items() if multi.failed} == {
        name for name in started if int(name[1:]) in fail
    }


def test_workers_are_used_to_the_full() -> None:
    gauge = Gauge(0.05)
    nornir_of(["top"] * 12, BoundedRunner(4)).run(gauge)
    assert gauge.most_in_all == 4


def test_a_full_cell_does_not_hold_up_the_others() -> None:
    """Six slow hosts of one cell come first; the others do not wait behind them."""
    gauge = Gauge(0.05)
    nornir = nornir_of(["slow"] * 6 + ["quick"] * 6, BoundedRunner(4, slots=2))
    nornir.run(gauge)
    assert set(gauge.ran[:4]) == {"h0", "h1", "h6", "h7"}
    assert gauge.most == {"slow": 2, "quick": 2}


def test_hosts_of_one_cell_go_in_inventory_order() -> None:
    started: list[str] = []
    nornir_of(
        ["a"] * 9, BoundedRunner(3, slots=1, on_start=lambda hosts: started.extend(host.name for host in hosts))
    ).run(Gauge())
    assert started == [f"h{number}" for number in range(9)]


def test_no_hosts_give_an_empty_result() -> None:
    assert not nornir_of([], BoundedRunner()).run(Gauge())


@pytest.mark.parametrize(("workers", "slots"), [(0, None), (1, 0), (-1, 1)])
def test_bounds_below_one_are_refused(workers: int, slots: int | None) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BoundedRunner(workers, slots)


def test_a_fault_in_on_start_drains_and_is_raised() -> None:
    """The journal could not write: the host is not started, what runs is told, the fault comes out."""
    gauge, told = Gauge(0.05), []

    def on_start(hosts: Sequence[Host]) -> None:
        if any(host.name == "h3" for host in hosts):
            raise OSError("disk full")

    runner = BoundedRunner(3, on_start=on_start, on_results=lambda batch: told.extend(host.name for host, _ in batch))
    with pytest.raises(OSError, match="disk full"):
        nornir_of(["top"] * 9, runner).run(gauge)
    assert sorted(gauge.ran) == sorted(told) == ["h0", "h1", "h2"]


def test_a_fault_in_on_result_drains_and_is_raised() -> None:
    gauge, told = Gauge(0.02), []

    def on_results(batch: Sequence[tuple[Host, MultiResult]]) -> None:
        told.extend(host.name for host, _ in batch)
        raise OSError(batch[0][0].name)

    with pytest.raises(OSError, match="h") as caught:
        nornir_of(["top"] * 9, BoundedRunner(3, on_results=on_results)).run(gauge)
    assert str(caught.value) == told[0]
    assert sorted(told) == sorted(gauge.ran)
    assert len(told) < 9


def test_a_processors_fault_is_the_hosts_failure_alone() -> None:
    """Nornir itself would lose the results of all hosts."""

    class Faulty:
        def task_started(self, task: Task) -> None: ...
        def task_completed(self, task: Task, result: AggregatedResult) -> None: ...
        def task_instance_started(self, task: Task, host: Host) -> None: ...
        def subtask_instance_started(self, task: Task, host: Host) -> None: ...
        def subtask_instance_completed(self, task: Task, host: Host, result: MultiResult) -> None: ...
        def task_instance_completed(self, task: Task, host: Host, result: MultiResult) -> None:  # noqa: ARG002 - Nornir's own
            if host.name == "h1":
                raise RuntimeError("processor")

    result = nornir_of(["top"] * 3, BoundedRunner(2)).with_processors([Faulty()]).run(Gauge())
    assert {name: multi.failed for name, multi in result.items()} == {"h0": False, "h1": True, "h2": False}


def test_results_come_as_they_complete() -> None:
    release = threading.Event()

    def task(task: Task) -> Result:
        if task.host.name == "h0":
            assert release.wait(10)
        return Result(task.host)

    nornir = nornir_of(["top"] * 3, BoundedRunner(2))
    order = []
    for host, _ in nornir.runner.submit(task_of(nornir, task), list(nornir.inventory.hosts.values())).results():  # type: ignore[attr-defined] # the plugin's own
        order.append(host.name)
        if len(order) == 2:
            release.set()
    assert order == ["h1", "h2", "h0"]


def test_cancel_and_drain_give_what_runs_and_nothing_more() -> None:
    gauge = Gauge(0.05)
    runner = BoundedRunner(2)
    nornir = nornir_of(["top"] * 9, runner)
    handle: RunHandle = runner.submit(task_of(nornir, gauge), list(nornir.inventory.hosts.values()))
    taken = []
    for host, _ in handle.results():
        taken.append(host.name)
        break
    rest = handle.drain()
    assert sorted([*taken, *rest]) == sorted(gauge.ran)
    assert len(gauge.ran) <= 3
    assert handle.drain() == {}


def test_no_worker_is_left_behind() -> None:
    nornir_of(["top"] * 9, BoundedRunner(5)).run(Gauge())
    deadline = time.monotonic() + 5
    for thread in [t for t in threading.enumerate() if t.name.startswith("cellstep-worker")]:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive()


def test_ten_thousand_hosts_cost_little() -> None:
    started = time.process_time()
    result = nornir_of([f"cell{number % 50}" for number in range(10_000)], BoundedRunner(20, slots=4)).run(
        lambda task: Result(task.host), name="nothing"
    )
    assert len(result) == 10_000
    assert time.process_time() - started < 8


PROGRAM = """
import os, sys, threading
from nornir.core import Nornir
from nornir.core.inventory import Defaults, Groups, Host, Hosts, Inventory
from nornir.core.task import Result
from plugins.runners.bounded import BoundedRunner, draining_on_signals

stopping = threading.Event()
def started(hosts):
    for host in hosts:
        print("start", host.name, flush=True)

def ended(batch):
    for host, _ in batch:
        print("result", host.name, flush=True)

runner = BoundedRunner(2, on_start=started, on_results=ended, stopping=stopping)
hosts = Hosts({f"h{n}": Host(f"h{n}") for n in range(6)})
nornir = Nornir(Inventory(hosts, Groups(), Defaults()), runner=runner)

def task(task):
    threading.Event().wait(float(sys.argv[1]))
    return Result(task.host)

with draining_on_signals(stopping, lambda number: os.write(1, b"draining %d\\n" % number)):
    try:
        result = nornir.run(task)
    except KeyboardInterrupt:
        print("aborted", flush=True)
        sys.exit(130)
print("drained", len(result), flush=True)
sys.exit(130)
"""


def interrupted(seconds: float, signals: list[signal.Signals]) -> tuple[list[str], float]:
    """Run the program, send the signals one after the other once two hosts run; its lines and how long it took."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    lines = [program.stdout.readline().strip() for _ in range(2)]
    started = time.monotonic()
    for number in signals:
        os.kill(program.pid, number)
        lines.append(program.stdout.readline().strip())
    rest, _ = program.communicate(timeout=30)
    assert program.returncode == 130
    return lines + rest.split("\n")[:-1], time.monotonic() - started


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_ctrl_c_drains(number: signal.Signals) -> None:
    """What runs is waited for and told; nothing new starts."""
    lines, seconds = interrupted(1.0, [number])
    assert lines[:3] == ["start h0", "start h1", f"draining {int(number)}"]
    assert sorted(lines[3:]) == ["drained 2", "result h0", "result h1"]
    assert 0.3 < seconds < 10


def test_the_second_ctrl_c_ends_at_once() -> None:
    lines, seconds = interrupted(60.0, [signal.SIGINT, signal.SIGINT])
    assert lines == ["start h0", "start h1", f"draining {int(signal.SIGINT)}", "aborted"]
    assert seconds < 5


def run_paced(hosts: int, pace: Pace, fail: frozenset[int] = frozenset()) -> list[int]:
    """Run hosts at a pace; how many were under way each time hosts were handed out."""
    under_way, seen = 0, []

    def on_start(batch: Sequence[Host]) -> None:
        nonlocal under_way
        under_way += len(batch)
        seen.append(under_way)

    def on_results(batch: Sequence[tuple[Host, MultiResult]]) -> None:
        nonlocal under_way
        under_way -= len(batch)

    def task(task: Task) -> Result:
        return Result(task.host, failed=int(task.host.name[1:]) in fail)

    runner = BoundedRunner(50, on_start=on_start, on_results=on_results)
    runner.pace = pace
    assert len(nornir_of(["a"] * hosts, runner).run(task)) == hosts
    return seen


def test_a_canary_goes_alone_and_the_window_grows_while_all_goes_well() -> None:
    seen = run_paced(60, Pace(canary=1, growth=2))
    assert seen[0] == 1
    assert max(seen) > 8
    assert all(now <= 2 * before for before, now in itertools.pairwise(itertools.accumulate(seen, max)))


def test_the_window_shrinks_after_trouble_and_never_below_the_canary() -> None:
    pace = Pace(canary=2, growth=2)
    for _ in range(14):
        pace.ended(well=True)
    wide = pace.window
    assert wide == 16
    pace.ended(well=False)
    assert pace.window == 8
    for _ in range(9):
        pace.ended(well=False)
    assert pace.window == 2
    assert max(run_paced(20, Pace(canary=1), fail=frozenset(range(20)))) == 1


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 5), st.floats(1, 4))
def test_the_window_is_never_below_the_canary_nor_more_than_it_earned(ends: list[bool], canary: int, growth: float):
    pace, most = Pace(canary, growth), canary
    for well in ends:
        pace.ended(well=well)
        assert pace.window is not None
        most = max(most, int(most * growth) + 1) if well else most
        assert canary <= pace.window <= most


def test_no_more_hosts_begin_in_a_second_than_the_rate_allows() -> None:
    clock = [100.0]
    pace = Pace(per_second=4, clock=lambda: clock[0])
    began = []
    for _ in range(400):
        if pace.room(busy=0, free=50):
            pace.began(1)
            began.append(clock[0])
        clock[0] += 0.01
    assert len(began) == 16
    assert all(later - first >= 0.999 for first, later in zip(began, began[4:], strict=False))


def test_a_run_at_a_rate_reaches_every_host() -> None:
    assert len(run_paced(12, Pace(per_second=200))) == 12


@pytest.mark.parametrize("wrong", [{"canary": -1}, {"growth": 0.5}, {"per_second": 0}])
def test_a_pace_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="cannot be so"):
        Pace(**wrong)  # type: ignore[arg-type] - the point of the test


def test_a_rate_waits_without_looking_again_and_again_while_there_is_no_room() -> None:
    """Workers busy, or the canary under way: only an end can make room, however much the rate would allow."""
    pace = Pace(canary=1, per_second=1000)
    assert pace.wait_s(busy=1, free=49) is None
    assert pace.wait_s(busy=0, free=0) is None
    assert pace.wait_s(busy=0, free=50) == 0.0
