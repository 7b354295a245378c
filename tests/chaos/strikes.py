"""What happens to a controller, and when: it is killed or frozen, loses connections, or its disk fills up."""

import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cellstep.engine.journal import Journal
from cellstep.engine.store import Store

SIGNS = {"command": "\nguard", "job": "\nrun_job() {", "guest": "nova boot"}
"""What is in a command that changes a host, in one about a job (see tasks/shell.py, tasks/job.sh), in a guest's."""

CALLS = ("begin_run", "begin_step", "end_step")
"""The journal's calls that are counted."""


@dataclass
class Strike:
    """One process's fate; nothing by default.

    Attributes:
        point: what is counted: `begin_run`, `begin_step` or `end_step` (the journal's calls), `write` (its
            transactions), `command`
            (commands that change a host), `job` (those of them that start a job or attach to it), `guest`
            (those that create one), `seconds`.
        n: which of them; for `seconds`, how many.
        when: `before` or `after` it, or `within` a transaction.
        delay_s: so much later.
        deed: `kill`, `freeze` (SIGSTOP), or `fill`: the disk on which `state` is.
        lose: of the `command`s or `job`s (see `point`), those whose connection breaks, with the seconds after which.
        ailing: host to [title of the step from which on, `failed` or `unreachable`].
    """

    point: str = ""
    n: float = 0
    when: str = "before"
    delay_s: float = 0.0
    deed: str = "kill"
    lose: dict[str, dict[int, float]] = field(default_factory=dict)
    ailing: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin to count."""
        self.lose = {point: {int(n): after for n, after in of.items()} for point, of in self.lose.items()}
        self.counts = {name: itertools.count(1) for name in (*CALLS, "write", *SIGNS)}
        self.reached = dict.fromkeys(self.counts, 0)
        self._begun: list[str] = []
        self._mine = threading.local()
        self.deeds: dict[str, Callable[[], None]] = {
            "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
            "freeze": lambda: os.kill(os.getpid(), signal.SIGSTOP),
        }

    def __str__(self) -> str:
        where = f"{self.when} {self.point} {self.n:g}" if self.point != "seconds" else f"after {self.n:.2f} s"
        return where + (f" + {self.delay_s:.2f} s" if self.delay_s else "")

    def as_json(self) -> str:
        """To be handed to a controller."""
        return json.dumps(asdict(self))

    def _passes(self, point: str, number: int, when: str) -> None:
        if (point, number, when) == (self.point, int(self.n), self.when):
            self._do()

    def _do(self) -> None:
        if self.delay_s:
            threading.Timer(self.delay_s, self.deeds[self.deed]).start()
        else:
            self.deeds[self.deed]()

    # What the connections ask

    def command(self, host: str, command: str) -> str:
        """A command is about to be sent to a host; what ails it, or ""."""
        self._mine.numbers = {}
        for point, sign in SIGNS.items():
            if sign in command:
                self._mine.numbers[point] = self.reached[point] = next(self.counts[point])
                self._passes(point, self.reached[point], "before")
        return self.ails(host)

    def sent(self) -> None:
        """It was sent."""
        for point, number in self._mine.numbers.items():
            self._passes(point, number, "after")

    def lost_after(self) -> float | None:
        """After how many seconds this command's connection breaks."""
        found = (self.lose.get(point, {}).get(number) for point, number in self._mine.numbers.items())
        return next((after for after in found if after is not None), None)

    def ails(self, host: str) -> str:
        """What ails a host now."""
        title, how = self.ailing.get(host, ("", ""))
        return how if title in self._begun else ""

    # What counts

    def install(self, state: Path) -> None:
        """Count this process's writes, and begin.

        Args:
            state: the folder with the journal, which `fill` fills.
        """
        self.deeds["fill"] = lambda: fill(state)
        for name in CALLS:
            self._wrap_method(name)
        self._wrap_writes()
        if self.point == "seconds":
            threading.Timer(self.n, self.deeds[self.deed]).start()

    def _wrap_method(self, name: str) -> None:
        original = getattr(Journal, name)

        def wrapped(journal: Journal, *args: Any, **kwargs: Any) -> Any:
            if name == "begin_step":
                self._begun.append(args[2])
            number = self.reached[name] = next(self.counts[name])
            self._passes(name, number, "before")
            result = original(journal, *args, **kwargs)
            self._passes(name, number, "after")
            return result

        setattr(Journal, name, wrapped)

    def _wrap_writes(self) -> None:
        original = Store._write

        @contextmanager
        def wrapped(store: Store) -> Iterator[Any]:
            number = self.reached["write"] = next(self.counts["write"])
            self._passes("write", number, "before")
            with original(store) as database:
                yield database
                self._passes("write", number, "within")
            self._passes("write", number, "after")

        Store._write = wrapped  # type: ignore[method-assign] # the test counts


def fill(folder: Path) -> None:
    """Write to a folder's disk until nothing more goes there."""
    with (folder / "filling").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1 << 9, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
