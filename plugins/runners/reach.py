"""Nornir's runner plugin `cellstep_reach`: hosts of some cells are run by workers inside them, the others from here.

It is the bounded runner: the same window, slots, budgets and Ctrl-C. Hosts of a cell with a worker that may begin at
one moment are one shard: it is sent as a whole, its results come in one by one, its slots are free when it has ended.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence

from nornir.core.inventory import Host
from nornir.core.task import MultiResult, Result

from plugins.connections.errors import ConnectionLost, TransportError
from plugins.errors import OperatorError
from plugins.runners.bounded import BoundedRunner, Came
from plugins.runners.line import Line, Tell


def _pack(_hosts: Sequence[Host]) -> bytes:
    raise OperatorError("cellstep_reach was not told what to send; set its `pack`")


def _unpack(host: Host, record: bytes) -> Result:
    return Result(host, result=record)


class ReachRunner(BoundedRunner):
    """Run a task on hosts, those of some cells through workers inside them.

    Args:
        line: to the workers.
        cells: the cells that are reached so.
        num_workers: hosts at once in all.
        slots: hosts of one cell at once; None for no such bound.
        stopping: once set, nothing new is handed out.

    Attributes:
        pack: makes hosts into what a worker is sent, in place of the Nornir task, which cannot travel.
        unpack: makes a host's record into its result; `failed` counts for the pace.
        tell: takes a host's name and a line for the operator, while its task runs; of any thread.
    """

    def __init__(
        self,
        line: Line,
        cells: Collection[str],
        num_workers: int = 20,
        slots: int | None = None,
        *,
        stopping: threading.Event | None = None,
    ) -> None:
        super().__init__(num_workers, slots, stopping=stopping)
        self.line, self.cells = line, frozenset(cells)
        self.pack: Callable[[Sequence[Host]], bytes] = _pack
        self.unpack: Callable[[Host, bytes], Result] = _unpack
        self.tell: Tell = lambda _host, _text: None

    def close(self) -> None:
        """End the connection to the scheduler."""
        self.line.close()

    def begin_elsewhere(self, hosts: Sequence[Host], came: Came) -> Sequence[Host]:
        """Send the shards, each in a thread of its own, which waits for it."""
        shards: defaultdict[str, list[Host]] = defaultdict(list)
        here: list[Host] = []
        for host in hosts:
            cell = str(host.get(self.slot_key) or "")
            (shards[cell] if cell in self.cells else here).append(host)
        for cell, members in shards.items():
            carrying = (cell, members, came, self.pack, self.unpack, self.tell)
            threading.Thread(target=self._carry, args=carrying, name=f"cellstep-shard-{cell}", daemon=True).start()
        return here

    def _carry(
        self,
        cell: str,
        members: Sequence[Host],
        came: Came,
        pack: Callable[[Sequence[Host]], bytes],
        unpack: Callable[[Host, bytes], Result],
        tell: Tell,
    ) -> None:
        """Carry one shard; every host of it has a result at the end, whatever happens."""
        waiting = {host.name: host for host in members}
        error: Exception | None = None

        def record(name: str, content: bytes) -> None:
            if host := waiting.get(name):
                multi = _multi(unpack(host, content))
                del waiting[name]
                came((), ((host, multi),))

        try:
            content = pack(members)
            self.line.carry(cell, content, f"{len(members)} hosts of {cell}", record, tell)
        except OperatorError as told:
            error = told
        except Exception as fault:  # noqa: BLE001 - told of every host: nothing may be lost here
            error = ConnectionLost(f"the shard of {cell} broke: {type(fault).__name__}: {fault}")
        left = [(host, _multi(_lost(host, error))) for host in waiting.values()]
        came(members, left)


def _lost(host: Host, error: Exception | None) -> Result:
    """Of a host without a record: what went wrong with its shard."""
    if isinstance(error, TransportError):
        how = "not reached: " if not isinstance(error, ConnectionLost) else ""
        error = type(error)(f"{host.name}: {how}{error}")
    error = error or ConnectionLost(f"{host.name}: its worker gave no record of it; what became of it is unknown")
    return Result(host, exception=error, failed=True)


def _multi(result: Result) -> MultiResult:
    multi = MultiResult("shard")
    multi.append(result)
    return multi
