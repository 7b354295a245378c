"""What a schema change did to a copy of a database: its versions as they passed, what each took, where it stopped."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.contents import Contents
from tasks.masking import masked

SAID_LINES = 5
"""How many of the command's last lines are told where it failed."""


@dataclass(frozen=True)
class Trial:
    """A schema change to be tried on a copy.

    Attributes:
        command: for bash; `{config}` is the file with the copy's address.
        config: the text of that file; `{url}` is the address, as SQLAlchemy takes it.
        head: the version that it must come to.
    """

    command: str
    config: str
    head: int


@dataclass(frozen=True)
class Step:
    """One version of the schema: what it took to come to it, and the rows written, changed and deleted meanwhile.

    Attributes:
        version: that was come to.
        seconds: since the version before.
        written: rows, those included that were copied into a new form of their table.
        changed: rows.
        deleted: rows.
    """

    version: int
    seconds: float
    written: int
    changed: int
    deleted: int


@dataclass(frozen=True)
class Rehearsal:
    """What came of a schema change on a copy.

    Attributes:
        place: the database, `NODE/DATABASE`.
        manifest: the digest of the manifest of the dump that the copy was made of.
        command: that was run.
        start: the version before; None where the database tells none.
        end: the version after.
        head: the version that was meant.
        seconds: from the command's start to its end.
        steps: each version that was come to.
        schema: what changed in the schema, a line a change.
        rows: each table whose number of rows changed: before and after; None: there was no such table.
        error: why it is no success, "" where it is one.
        server: the version of the server with the copy.
        live: the version of the database's own server.
        alone: whether the command was kept from the network.
    """

    place: str
    manifest: str
    command: str
    start: int | None
    end: int | None
    head: int
    seconds: float
    steps: tuple[Step, ...]
    schema: tuple[str, ...]
    rows: Mapping[str, tuple[int | None, int | None]]
    error: str
    server: str
    live: str
    alone: bool

    @property
    def ok(self) -> bool:
        """Whether it came to its head."""
        return not self.error

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> "Rehearsal":
        """From JSON values."""
        steps = tuple(Step(**step) for step in data["steps"])
        rows = {table: (counts[0], counts[1]) for table, counts in data["rows"].items()}
        return cls(**{**data, "steps": steps, "schema": tuple(data["schema"]), "rows": rows})


def steps(lines: Iterable[str]) -> tuple[Step, ...]:
    """Read the notes of `staging.sh`: version, time, rows written, changed and deleted so far; the first is the start.

    What the note itself wrote is taken off, and the change of the version's own row.
    """
    found: list[Step] = []
    for before, now in itertools.pairwise(line.split() for line in lines):
        written, changed, deleted = (max(0, int(now[n]) - int(before[n])) for n in (2, 3, 4))
        seconds = round(float(now[1]) - float(before[1]), 3)
        found.append(Step(int(now[0]), seconds, max(0, written - 1), max(0, changed - 1), deleted))
    return tuple(found)


def counted(before: Contents, after: Contents) -> dict[str, tuple[int | None, int | None]]:
    """The tables whose number of rows changed: before and after."""
    rows: dict[str, tuple[int | None, int | None]] = {}
    for name in sorted(before.keys() | after.keys()):
        counts = tuple(contents[name].rows if name in contents else None for contents in (before, after))
        if counts[0] != counts[1]:
            rows[name] = (counts[0], counts[1])
    return rows


def why(status: int, said: Sequence[str], at: int | None, start: int | None, head: int) -> str:
    """Why a change is no success; "" where it came to its head.

    Args:
        status: the command's exit status.
        said: its last lines.
        at: the version after it.
        start: the version before it.
        head: the version that was meant.
    """
    if status == 0 and at == head:
        return ""
    if status == 0 and at == start:
        return (
            f"it ended well and the copy is at version {at} still: does the command take its address from {{config}}?"
        )
    if status == 0:
        return f"it ended well at version {at}, not {head}"
    last = " | ".join(line.strip() for line in said if line.strip())
    last = " | ".join(last.split(" | ")[-SAID_LINES:])
    return masked(f"it stopped at version {at} with exit status {status}" + (f": {last}" if last else ""))


@dataclass(frozen=True)
class Stop:
    """Where a schema change is known to stop part-way.

    Attributes:
        version: that it leaves.
        error: what the database, or the command, then says.
        cause: what was met in the database.
        remedy: what to do about the cause.
        loses: what is lost, "" for nothing.
        rerun: with the cause mended it can be run again from there; else the dump is restored first.
    """

    version: int
    error: str
    cause: str
    remedy: str
    loses: str = ""
    rerun: bool = False


RESTORE = "restore its dump (`cellstep restore NODE --apply`)"


def advice(at: int | None, stops: Sequence[Stop], said: str = "") -> str:
    """What to do about a schema change that stands part-way, with the cause where it is a known one.

    Args:
        at: the version; None where it is not known.
        stops: what the release is known to stop at.
        said: what the command said; "" where that is not known.
    """
    known = next((stop for stop in stops if stop.version == at and (not said or stop.error in said)), None)
    if known is None:
        return f"{RESTORE} before another try"
    lost = f" ({known.loses})" if known.loses else ""
    if known.rerun:
        return f"the likely cause: {known.cause}{lost}; {known.remedy}, and run it again: no restore is needed"
    return f"the likely cause: {known.cause}{lost}; {RESTORE}, then before another try: {known.remedy}"
