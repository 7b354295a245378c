"""The line to workers of dask.distributed: a shard goes to one process, once, and its records come back as events.

Records are events because a worker sends them over its own connection to the scheduler: nobody need be able to connect
to a worker. A shard names the very process that it is for, and no other takes it, whatever dask sends again.
"""

import contextlib
import logging
import queue
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from plugins.connections.errors import ConnectionLost, Unreachable
from plugins.runners.sealed import Sealed
from plugins.runners.secured import Way, knock

if TYPE_CHECKING:
    from distributed import Client, Future

ABOUT = "about"
"""Under this name scheduler and workers say what they are."""
HOST, RECORD, TOLD, ENDED, REFUSED = "host", "record", "told", "ended", "refused"
"""In an event: whose, its record, its line for the operator; the shard's end with what went wrong; nothing was sent."""

CLOSE_S = 3.0
LOOK_EVERY_S = 2.0
"""A worker that left of its own accord makes no noise: whether it is still there is looked at so often."""
FAILURE_SHARED_S = 5.0
"""For so long after the scheduler could not be reached, it is not tried again."""

Record = Callable[[str, bytes], None]
Tell = Callable[[str, str], None]
Fits = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Worker:
    """One process that takes shards.

    Attributes:
        address: dask's.
        process: the process's own name: another one at the same address has another.
    """

    address: str
    process: str


class Line:
    """The connection to a scheduler, opened when it is first needed; threads share it.

    Args:
        way: to the scheduler.
        entry: the function of a module that a worker calls with a shard.
        fits: what is wrong with a scheduler or worker that says this of itself; "" if nothing is.
    """

    def __init__(self, way: Way, entry: Callable[..., None], fits: Fits) -> None:
        self.way, self.entry, self.fits = way, entry, fits
        self._opening = threading.Lock()
        self._client: Client | None = None
        self._failed: tuple[float, str] = (float("-inf"), "")
        self._topic = f"shards-{uuid.uuid4().hex}"
        self._shards: dict[str, queue.SimpleQueue[Mapping[str, Any] | None]] = {}

    def carry(self, cell: str, content: bytes, words: str, record: Record, tell: Tell) -> None:
        """Have a worker of the cell run a shard, and wait for its end.

        Args:
            cell: whose worker.
            content: what `entry` gets.
            words: what dask may show of it.
            record: called in this thread with a host's name and record, as they come in.
            tell: the same with a line for the operator.

        Raises:
            Unreachable: nothing was done.
            ConnectionLost: of hosts without a record it is not known what was done.
        """
        client = self._connected()
        worker = self._worker(client, cell)
        shard = uuid.uuid4().hex
        events = self._shards[shard] = queue.SimpleQueue()
        try:
            future = client.submit(
                *(self.entry, Sealed(content, words), shard, self._topic, worker.process),
                key=f"shard-{shard}",
                workers=[worker.address],
                allow_other_workers=False,
                retries=0,
                pure=False,
            )
            future.add_done_callback(lambda _: events.put(None))
            try:
                self._follow(events, client, future, cell, worker, record, tell)
            finally:
                future.release()
        finally:
            del self._shards[shard]

    def close(self) -> None:
        """End the connection."""
        with self._opening:
            if self._client is not None:
                with contextlib.suppress(Exception):  # it is given up anyhow
                    self._client.close(timeout=CLOSE_S)
                self._client = None

    def _follow(
        self,
        events: "queue.SimpleQueue[Mapping[str, Any] | None]",
        client: "Client",
        future: "Future",
        cell: str,
        worker: Worker,
        record: Record,
        tell: Tell,
    ) -> None:
        """Take what comes of a shard until it ends."""
        over = False
        while True:
            try:
                event = events.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                self._still(client, future, cell, worker, over=over)
                continue
            if event is None:
                over = True  # what it sent before may still be on its way through the client's loop
                if future.status == "error":
                    raise ConnectionLost(_ended(future, cell))
            elif ENDED in event:
                _settle(event)
                return
            elif RECORD in event:
                record(event[HOST], event[RECORD])
            else:
                tell(event[HOST], event[TOLD])

    def _still(self, client: "Client", future: "Future", cell: str, worker: Worker, *, over: bool) -> None:
        """See whether a shard of which nothing was heard for a while is under way.

        Raises:
            ConnectionLost: it is not.
        """
        if over:
            raise ConnectionLost(_ended(future, cell))
        try:
            there = worker in self._workers(client)
        except Unreachable as error:
            raise ConnectionLost(f"{error}; {_UNKNOWN}") from None
        if not there:
            raise ConnectionLost(f"the worker of {cell} left in mid-shard; {_UNKNOWN}")

    def _connected(self) -> "Client":
        with self._opening:
            if self._client is not None and self._client.status == "running":
                return self._client
            at, why = self._failed
            if time.monotonic() - at < FAILURE_SHARED_S:
                raise Unreachable(why)
            try:
                return self._connect()
            except Unreachable as error:
                self._failed = time.monotonic(), str(error)
                raise

    def _connect(self) -> "Client":
        if self._client is not None:
            with contextlib.suppress(Exception):  # a dead one need not be told
                self._client.close(timeout=1)
            self._client = None
        knock(self.way)
        from distributed import Client  # noqa: PLC0415 - of the extra `reach`; 0.5 s

        quiet()
        seconds = self.way.connect_timeout
        try:
            client = Client(
                self.way.address, security=self.way.security(), timeout=seconds, set_as_default=False, name="cellstep"
            )
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"the scheduler {self.way.scheduler} gives no answer within {seconds:g} s") from error
        client.subscribe_topic(self._topic, self._on_event)
        self._client = client
        return client

    def _on_event(self, event: tuple[float, Mapping[str, Any]]) -> None:
        """In the client's own thread."""
        events = self._shards.get(event[1]["shard"])
        if events is not None:
            events.put(event[1])

    def _asked(self, client: "Client") -> Mapping[str, Any]:
        """What the scheduler says of itself and of its workers, now.

        Raises:
            Unreachable: it does not answer.
        """
        try:
            said: Mapping[str, Any] = client.sync(
                client.scheduler.identity, n_workers=-1, callback_timeout=self.way.connect_timeout
            )
        except Exception as error:
            raise Unreachable(f"the scheduler {self.way.scheduler} does not answer any more") from error
        return said

    def _workers(self, client: "Client") -> list[Worker]:
        """The workers that are there."""
        known = self._asked(client)["workers"]
        return [Worker(at, said[ABOUT]["process"]) for at, said in known.items() if ABOUT in said]

    def _worker(self, client: "Client", cell: str) -> Worker:
        """A worker of the cell that may be used.

        Raises:
            Unreachable: there is none.
        """
        said = self._asked(client)
        if ABOUT not in said:
            raise Unreachable(f"the scheduler {self.way.scheduler} is not one that `cellstep scheduler` started")
        if wrong := self.fits(said[ABOUT]):
            raise Unreachable(f"the scheduler {self.way.scheduler} {wrong}")
        here = {at: each for at, each in said["workers"].items() if each.get(ABOUT, {}).get("cell") == cell}
        faults = []
        for at, each in sorted(here.items()):
            if not (wrong := self.fits(each[ABOUT])):
                return Worker(at, each[ABOUT]["process"])
            faults.append(f"the worker of {cell} on {each[ABOUT]['machine']} {wrong}")
        none = (
            f"no worker of {cell} is at the scheduler {self.way.scheduler}; start it: `cellstep worker --cell {cell}`"
        )
        raise Unreachable("; ".join(faults) or none)


_UNKNOWN = "what became of it is unknown"


def _settle(event: Mapping[str, Any]) -> None:
    """A shard's end: what went wrong with it, if anything.

    Raises:
        Unreachable: nothing was sent to its hosts.
        ConnectionLost: something may have been.
    """
    if event[REFUSED]:
        raise Unreachable(str(event[ENDED]))
    if event[ENDED]:
        raise ConnectionLost(f"{event[ENDED]}; {_UNKNOWN}")


def _ended(future: "Future", cell: str) -> str:
    """Why a shard ended without saying so."""
    if future.status == "error":
        error = future.exception(timeout=LOOK_EVERY_S)
        if type(error).__name__ == "KilledWorker":
            return f"the worker of {cell} died in mid-shard; {_UNKNOWN}"
        return f"the worker of {cell} failed: {type(error).__name__}; {_UNKNOWN}"
    if future.status == "finished":
        return f"the worker of {cell} ended the shard without a word; {_UNKNOWN}"
    return f"the connection to the scheduler broke in mid-shard; {_UNKNOWN}"


def quiet() -> None:
    """Keep dask's own words from the terminal: what an operator needs of them is told."""
    warnings.filterwarnings("ignore", module="distributed")
    for name in ("distributed", "distributed.client", "distributed.comm", "tornado", "tornado.application"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
