"""What is in a database: the rows and a checksum of each table, as `contents.sh` tells, and how two of them differ."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.errors import Refused

SCRIPT = Path(__file__).with_name("contents.sh").read_text()
"""The bash function `contents DATABASE`; it asks through a function `ask` that is to be there."""

_LINE = re.compile(r"([^\t]+)\t(\d+)\t(\d+)")
_ESCAPES = {"n": "\n", "t": "\t", "0": "\0"}
_MOST = 2**64 - 1
"""The most that one row adds to a checksum."""


@dataclass(frozen=True)
class Table:
    """What is in a table.

    Attributes:
        rows: how many.
        checksum: the same for the same rows, in whatever order and on whatever server.
    """

    rows: int
    checksum: str


Contents = Mapping[str, Table]
"""A database's tables by name; views are none."""


def parse(text: str) -> dict[str, Table]:
    """Read what `contents` printed.

    Raises:
        Refused: a line is not the contents of a table, or a row is too long for its checksum.
    """
    found = {}
    for line in text.removesuffix("\n").split("\n") if text else ():
        match = _LINE.fullmatch(line)
        if match is None:
            raise Refused(f"“{line[:80]}” is not a table, its rows and their checksum: ask again")
        name, rows, checksum = unescaped(match[1]), int(match[2]), match[3]
        if int(checksum) > rows * _MOST:
            raise Refused(
                f"table {name}: a row is longer than max_allowed_packet on the server; set that to 1M at least"
            )
        found[name] = Table(rows, checksum)
    return found


def unescaped(text: str) -> str:
    """A value of which the `mysql` client wrote a line's end, a tab and a backslash as two characters."""
    return re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), text)


def differences(before: Contents, now: Contents, *, unsteady: Collection[str] = ()) -> tuple[str, ...]:
    """How a database differs from what was there before, in words; nothing where it is the same.

    Args:
        before: as it was.
        now: as it is.
        unsteady: tables that were written to while `before` was taken: they must be there, with any contents.
    """
    said = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if new is None:
            said.append(f"table {name} is missing")
        elif old is None:
            said.append(f"table {name} was not there before")
        elif name in unsteady or old == new:
            continue
        elif old.rows != new.rows:
            said.append(f"table {name} has {new.rows:,} rows instead of {old.rows:,}")
        else:
            said.append(f"table {name} has as many rows, {new.rows:,}, but other contents")
    return tuple(said)
