"""A worker: takes shards of its cell's hosts, runs them as the operator's own cellstep would, and tells each outcome.

dask calls `run_shard` with bytes that only the worker opens. It never raises, so that dask has nothing to log.
"""

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Protocol

from cellstep.cloud.cloud import Cloud
from cellstep.cloud.reach import ReachConfig
from cellstep.engine.dispatch import Dispatcher, Errand, Outcome
from cellstep.errors import CellstepError
from cellstep.reach.about import about
from cellstep.reach.parcel import Parcel, binding_from, pack, small_cloud, unpack
from cellstep.reach.way import DASK_CONFIG, way_of
from plugins.connections.errors import Unreachable
from plugins.errors import OperatorError
from plugins.runners.line import ABOUT, ENDED, HOST, RECORD, REFUSED, TOLD, quiet
from plugins.runners.sealed import Sealed
from plugins.runners.secured import knock

SHARDS_AT_ONCE = 64
"""More than an operator has under way in one cell: a shard that waits would look as if it hung."""
START_S, CLOSE_S = 60.0, 5.0


class Log(Protocol):
    """Sends an event: dask's `Worker.log_event`."""

    def __call__(self, topic: str, msg: Mapping[str, Any]) -> None:
        """Of any thread."""


class NoWay(CellstepError):
    """A worker or scheduler cannot do its work: mend what the message names; a service manager starts it again."""

    exit_code = 3


class Desk:
    """What a worker's process knows.

    Args:
        cloud: the worker's copy.
        log: sends events.
    """

    def __init__(self, cloud: Cloud, log: Log) -> None:
        self.cloud, self.log = cloud, log
        self.process = uuid.uuid4().hex
        self.stopping = threading.Event()
        self.idle = threading.Event()
        self.idle.set()
        self._lock = threading.Lock()
        self._begun: set[str] = set()
        self._busy = 0

    def take(self, content: bytes, shard: str, topic: str, process: str) -> None:
        """Run a shard, once, and tell what comes of it."""
        told: dict[str, Any] = {"shard": shard}
        with self._working(shard, process) as refused:
            if refused:
                self.log(topic, {**told, ENDED: refused, REFUSED: True})
                return
            why, began = "", False
            try:
                parcel: Parcel = unpack(content, self.cloud)
                began = True
                self._run(parcel, partial(self._tell, topic, told))
            except OperatorError as error:
                why = str(error)
            except BaseException as error:  # noqa: BLE001 - told to the operator: a worker goes on with the next shard
                why = f"the worker failed: {type(error).__name__}: {error}"
            self.log(topic, {**told, ENDED: why, REFUSED: bool(why) and not began})

    @contextlib.contextmanager
    def _working(self, shard: str, process: str) -> Iterator[str]:
        """While inside a shard is under way; gives why it is refused."""
        with self._lock:
            refused = ""
            if process != self.process:
                refused = "another process has the worker's place now; nothing was sent to its nodes"
            elif shard in self._begun:
                refused = "the shard came twice"
            elif self.stopping.is_set():
                refused = "the worker is about to end; nothing was sent to its nodes"
            else:
                self._begun.add(shard)
                self._busy += 1
                self.idle.clear()
        try:
            yield refused
        finally:
            with self._lock:
                if not refused:
                    self._busy -= 1
                if not self._busy:
                    self.idle.set()

    def _tell(self, topic: str, shard: Mapping[str, Any], host: str, /, **more: Any) -> None:
        self.log(topic, {**shard, HOST: host, **more})

    def _run(self, parcel: Parcel, tell: Any) -> None:
        """Run the task on all hosts of the shard at once."""
        cloud = small_cloud(self.cloud, parcel.hosts)
        wide = {"workers": len(parcel.hosts), "workers_per_cell": None}
        cloud = Cloud(
            *(cloud.directory, cloud.config.model_copy(update=wide), cloud.release, cloud.nodes, cloud.cells),
            cloud.inventory,
        )

        def ended(came: Mapping[str, Outcome]) -> None:
            for host, outcome in came.items():
                tell(host, **{RECORD: _record(outcome)})

        def say(host: str, line: str) -> None:
            tell(host, **{TOLD: line})

        bindings = {host: binding_from(said, partial(say, host)) for host, said in parcel.bindings.items()}
        dispatcher = Dispatcher(cloud, dry_run=parcel.dry_run)
        try:
            nodes = [each.node for each in parcel.hosts]
            dispatcher.send(parcel.task, nodes, parcel.arguments, Errand(ended=ended, bindings=bindings or None))
        finally:
            # Not those to jump hosts: other shards may go through them.
            dispatcher.close_hosts()


def _record(outcome: Outcome) -> bytes:
    try:
        return pack(outcome)
    except OperatorError as error:
        return pack(Outcome("failed", f"its answer cannot be told: {error}", commands=outcome.commands))


_desk: Desk | None = None


def run_shard(sealed: Sealed, shard: str, topic: str, process: str) -> None:
    """What dask calls."""
    if _desk is not None:  # else this is no worker of cellstep, and the operator hears nothing of it
        _desk.take(sealed.content, shard, topic, process)


def serve(cloud: Cloud, cell: str) -> None:
    """Be a worker of a cell, until SIGTERM, or until the scheduler is lost.

    At the first signal it takes nothing new and ends when what runs has ended; at the second it ends.

    Raises:
        NoWay: the scheduler is not reached, or is lost.
    """
    reach = cloud.config.reach
    if reach is None:
        raise NoWay("cloud.yaml has no `reach`: write where the scheduler is")
    asyncio.run(_serve(cloud, cell, reach))


async def _serve(cloud: Cloud, cell: str, reach: ReachConfig) -> None:
    global _desk  # noqa: PLW0603 - dask calls a function of this module, and it must find its process's desk
    import dask  # noqa: PLC0415 - of the extra `reach`
    from distributed import Worker  # noqa: PLC0415

    dask.config.set(DASK_CONFIG)
    quiet()
    way = way_of(reach)
    try:
        knock(way)
    except Unreachable as error:
        raise NoWay(f"{error}") from None
    loop, signalled = asyncio.get_running_loop(), asyncio.Event()
    with tempfile.TemporaryDirectory(prefix="cellstep-worker-") as scratch:

        def describe(_worker: Any) -> dict[str, Any]:
            return {**about(cloud), "cell": cell, "process": desk.process, "machine": socket.gethostname()}

        worker = Worker(
            way.address,
            name=f"{cell}-{uuid.uuid4().hex[:12]}",
            nthreads=SHARDS_AT_ONCE,
            local_directory=scratch,
            security=way.security(),
            protocol="tls",
            startup_information={ABOUT: describe},
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            death_timeout=START_S,
        )
        desk = _desk = Desk(cloud, worker.log_event)

        def on_signal() -> None:
            if desk.stopping.is_set():
                os._exit(1)  # the second: what runs on nodes goes on there, and is unknown to the operator
            desk.stopping.set()
            signalled.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, on_signal)
        try:
            await worker
        except (OSError, TimeoutError) as error:
            raise NoWay(f"the scheduler {way.scheduler} does not take this worker: {error}") from None
        print(f"worker of {cell} at the scheduler {way.scheduler}", flush=True)  # noqa: T201 - a service's one line
        over = [asyncio.ensure_future(worker.finished()), asyncio.ensure_future(signalled.wait())]
        await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED)
        await loop.run_in_executor(None, desk.idle.wait)
        await worker.close(timeout=CLOSE_S, executor_wait=False)
        for task in over:
            task.cancel()
        if not desk.stopping.is_set():
            raise NoWay(f"the scheduler {way.scheduler} is gone")
