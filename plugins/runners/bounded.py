"""Nornir's runner plugin `cellstep_bounded`: bounded submission, slots per cell, results as they complete.

Nornir's own threaded runner hands out all hosts at once, so that nothing can stop a run midway, and goes on
with the rest after Ctrl-C. Here a host is handed to a worker only when one is free and its cell has a slot.
"""

import contextlib
import heapq
import queue
import signal
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from nornir.core.inventory import Host
from nornir.core.task import AggregatedResult, MultiResult, Result, Task

from plugins.runners.pace import Pace

OnStart = Callable[[Sequence[Host]], None]
OnResults = Callable[[Sequence[tuple[Host, MultiResult]]], None]
Came = Callable[[Sequence[Host], Sequence[tuple[Host, MultiResult]]], None]
"""Takes the hosts that have left their slots, and results that came in; of any thread."""


class BoundedRunner:
    """Run a task on hosts, a bounded number at once.

    Args:
        num_workers: hosts at once in all.
        slots: hosts of one cell at once; None for no such bound.
        slot_key: the host's datum which names its cell.
        on_start: called in the caller's thread with the hosts that are about to be handed out.
        on_results: called in the caller's thread with the results that came in since the last call.
        pace: how fast hosts are handed out; as fast as workers are free when None.
        enough: asked before each host is handed out; once it is true, nothing new is, and what runs is waited for.
        stopping: once set, the same.

    If on_start or on_results raises, nothing new is handed out, what runs is waited for (on_results gets it
    too), and the exception is raised again. KeyboardInterrupt is raised at once; the workers are daemon
    threads, and die with the process. Hosts that were never handed out are absent from the result.
    """

    def __init__(
        self,
        num_workers: int = 20,
        slots: int | None = None,
        slot_key: str = "cell",
        on_start: OnStart | None = None,
        on_results: OnResults | None = None,
        stopping: threading.Event | None = None,
    ) -> None:
        if num_workers < 1 or (slots is not None and slots < 1):
            raise ValueError(f"num_workers ({num_workers}) and slots ({slots}) must be at least 1")
        self.num_workers = num_workers
        self.slots = slots
        self.slot_key = slot_key
        self.on_start = on_start
        self.on_results = on_results
        self.pace: Pace | None = None
        self.enough: Callable[[], bool] = lambda: False
        self.stopping = stopping or threading.Event()

    def run(self, task: Task, hosts: list[Host]) -> AggregatedResult:
        """Run the task on the hosts; Nornir calls this."""
        result = AggregatedResult(task.name)
        for host, multi in self.submit(task, hosts).results():
            result[host.name] = multi
        return result

    def submit(self, task: Task, hosts: Sequence[Host]) -> "RunHandle":
        """A run that hands out hosts while its `results()` are taken."""
        return RunHandle(self, task, hosts)

    def begin_elsewhere(self, hosts: Sequence[Host], came: Came) -> Sequence[Host]:  # noqa: ARG002 - see below
        """Begin what does not run in this process; the others of these hosts, which are run here.

        For runners that are made of this one. It must not wait; `came` is told of every result, and of every host once
        that its slot is free.
        """
        return hosts


class _Backlog:
    """The hosts that wait, in inventory order, passing over those whose cell is full."""

    def __init__(self, hosts: Sequence[Host], slots: int | None, slot_key: str) -> None:
        self._slots = slots
        self._running: Counter[str] = Counter()
        self._cells: defaultdict[str, deque[tuple[int, Host]]] = defaultdict(deque)
        self.cell_of: dict[str, str] = {}
        for index, host in enumerate(hosts):
            cell = "" if slots is None else str(host.get(slot_key) or "")
            self.cell_of[host.name] = cell
            self._cells[cell].append((index, host))
        # The first waiting host of each cell that has a free slot, by inventory order.
        self._ready = [(waiting[0][0], cell) for cell, waiting in self._cells.items()]
        heapq.heapify(self._ready)

    def peek(self) -> Host | None:
        """The next host that may run now."""
        return self._cells[self._ready[0][1]][0][1] if self._ready else None

    def take(self) -> None:
        """The host that `peek` showed starts."""
        _, cell = heapq.heappop(self._ready)
        self._cells[cell].popleft()
        self._running[cell] += 1
        if self._slots is None or self._running[cell] < self._slots:
            self._offer(cell)

    def done(self, host: Host) -> None:
        """A host has ended, and frees its slot."""
        cell = self.cell_of[host.name]
        was_full = self._slots is not None and self._running[cell] == self._slots
        self._running[cell] -= 1
        if was_full:
            self._offer(cell)

    def _offer(self, cell: str) -> None:
        if waiting := self._cells[cell]:
            heapq.heappush(self._ready, (waiting[0][0], cell))


class RunHandle:
    """A run under way. One thread takes its results; `cancel` may be called from any."""

    def __init__(self, runner: BoundedRunner, task: Task, hosts: Sequence[Host]) -> None:
        self._runner = runner
        self._task = task
        self._backlog = _Backlog(hosts, runner.slots, runner.slot_key)
        self._workers = min(runner.num_workers, len(hosts))
        self._threads = 0
        self._busy = 0
        self._well: dict[str, bool] = {}  # of results whose hosts have not left their slots
        self._here = 0  # of the busy ones, in threads of this process
        self._cancelled = threading.Event()
        self._work: queue.SimpleQueue[Host | None] = queue.SimpleQueue()
        # What came: the hosts that have left their slots, results, and how many threads have become idle.
        self._ended: queue.SimpleQueue[tuple[Sequence[Host], Sequence[tuple[Host, MultiResult]], int]]
        self._ended = queue.SimpleQueue()
        self._taken: deque[tuple[Host, MultiResult]] = deque()
        self._fault: BaseException | None = None

    def cancel(self) -> None:
        """Hand out nothing more. What runs goes on; `results` and `drain` still give it."""
        self._cancelled.set()

    def drain(self) -> dict[str, MultiResult]:
        """Hand out nothing more and wait for what runs: its results by host name."""
        self.cancel()
        return {host.name: multi for host, multi in self.results()}

    def results(self) -> Iterator[tuple[Host, MultiResult]]:
        """Hand out hosts, and give each result as it completes; ends when nothing runs or may start.

        Raises:
            Exception: what on_start or on_result raised, after what ran has been given.
            KeyboardInterrupt: at once.
        """
        yield from self._untaken()
        try:
            while True:
                self._hand_out()
                if not self._busy and not self._waits_for_the_rate():
                    break
                batch = self._take()
                self._tell(batch)
                self._taken.extend(batch)
                yield from self._untaken()
        finally:
            self.cancel()
            for _ in range(self._threads):
                self._work.put(None)
            self._threads = 0
        if self._fault is not None:
            raise self._fault

    def _untaken(self) -> Iterator[tuple[Host, MultiResult]]:
        while self._taken:
            yield self._taken.popleft()

    def _waits_for_the_rate(self) -> bool:
        return self._rate_s() is not None and not self._stopped() and self._backlog.peek() is not None

    def _rate_s(self) -> float | None:
        pace = self._runner.pace
        return None if pace is None else pace.wait_s(self._busy, self._workers - self._busy)

    def _take(self) -> list[tuple[Host, MultiResult]]:
        """What has ended: at least one, unless the rate lets another host begin before that."""
        # A task bounds its own waits, so one ends; Ctrl-C interrupts this.
        timeout = self._rate_s() if self._waits_for_the_rate() else None
        batch: list[tuple[Host, MultiResult]] = []
        free: list[Host] = []
        with contextlib.suppress(queue.Empty):
            left, came, idle = self._ended.get(timeout=timeout)
            while True:
                free += left
                batch += came
                self._here -= idle
                left, came, idle = self._ended.get_nowait()
        self._busy -= len(free)
        self._well.update({host.name: not multi.failed for host, multi in batch})
        for host in free:
            self._backlog.done(host)
            well = self._well.pop(host.name)
            if self._runner.pace is not None:
                self._runner.pace.ended(well=well)
        return batch

    def _hand_out(self) -> None:
        """Hand out as many hosts as may begin, all of one call journalled together."""
        while batch := self._next_hosts():
            if self._runner.on_start is not None:
                try:
                    self._runner.on_start(batch)
                except Exception as error:  # noqa: BLE001 - raised again once what runs has ended
                    self._fault = error
                    return
            if self._runner.pace is not None:
                self._runner.pace.began(len(batch))
            here = self._runner.begin_elsewhere(batch, self._came)
            self._busy += len(batch)
            self._here += len(here)
            for host in here:
                if self._threads < self._here:
                    self._threads += 1
                    name = f"cellstep-worker-{self._threads}"
                    threading.Thread(target=self._serve, name=name, daemon=True).start()
                self._work.put(host)

    def _came(self, free: Sequence[Host], results: Sequence[tuple[Host, MultiResult]]) -> None:
        self._ended.put((free, results, 0))

    def _next_hosts(self) -> list[Host]:
        if self._stopped():
            return []
        room = self._workers - self._busy
        if self._runner.pace is not None:
            room = self._runner.pace.room(self._busy, room)
        batch: list[Host] = []
        while len(batch) < room and (host := self._backlog.peek()) is not None:
            self._backlog.take()
            batch.append(host)
        return batch

    def _stopped(self) -> bool:
        given_up = self._fault is not None or self._cancelled.is_set()
        return given_up or self._runner.stopping.is_set() or self._runner.enough()

    def _tell(self, batch: Sequence[tuple[Host, MultiResult]]) -> None:
        if self._runner.on_results is not None and batch:
            try:
                self._runner.on_results(batch)
            except Exception as error:  # noqa: BLE001 - raised again once what runs has ended
                self._fault = self._fault or error

    def _serve(self) -> None:
        """A worker: one host after the other, until it is sent None."""
        while (host := self._work.get()) is not None:
            try:
                multi = self._task.copy().start(host)
            except BaseException as error:  # noqa: BLE001 - SystemExit or a processor's fault is this host's failure
                multi = MultiResult(self._task.name)
                multi.append(Result(host, exception=error, result=repr(error), failed=True, name=self._task.name))
            self._ended.put(((host,), ((host, multi),), 1))


@contextmanager
def draining_on_signals(stopping: threading.Event, on_first: Callable[[int], None] | None = None) -> Iterator[None]:
    """While inside: the first SIGINT or SIGTERM sets `stopping`, the second raises KeyboardInterrupt.

    Args:
        stopping: the runner's event.
        on_first: told the signal's number, once, inside the handler: what it says it must write with os.write, since
            the main thread may be in the middle of a print. Main thread only.
    """

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signal module gives both
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        if on_first is not None:
            on_first(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
