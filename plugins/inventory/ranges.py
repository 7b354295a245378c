"""Node ranges such as `p05-[001-200]`, folded and expanded by ClusterShell's NodeSet.

NodeSet is lenient where an inventory must not be: it takes `@group`, blanks inside names and empty text, and
expands `[1-999999999]` until the memory is gone. So the text is checked before it is handed over.
"""

import itertools
import math
import re
from collections.abc import Iterable, Iterator

from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

MAX_NODES = 100_000  # in one range; more is a slip of the keyboard

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_PIECES = re.compile(r"[A-Za-z0-9._-]+|\[[^\[\]]*\]")
_STEP = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18})(?:/([0-9]{1,9}))?)?")


class RangeError(ValueError):
    """A node range cannot be read; the message says why, and what to write."""


def split(text: str) -> Iterator[str]:
    """The parts of a comma-separated list of ranges, blanks around them removed; commas in brackets stay."""
    depth = start = 0
    for place, letter in enumerate(text):
        if letter == "[":
            depth += 1
        elif letter == "]":
            depth -= 1
        elif letter == "," and depth <= 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()


def expand(text: str) -> list[str]:
    """The nodes of one text, such as `c01-n[01-02],c02-n01`.

    Returns:
        the names in the order written; a name written twice is in it twice.

    Raises:
        RangeError: malformed, empty, or of more than 100,000 nodes.
    """
    return list(itertools.chain.from_iterable(map(_expand_part, split(text))))


def fold(names: Iterable[str]) -> str:
    """Names as one range, sorted: `c01-n[01-02],c02-n01`; an empty string for no names."""
    return str(NodeSet.fromlist(list(names), resolver=RESOLVER_NOGROUP))


def _expand_part(part: str) -> list[str]:
    if not part:
        raise RangeError("an empty range; write a node's name, or a range such as p05-[001-200]")
    count = _size(part)
    if count == 1 and "[" not in part:
        return [_name(part)]
    try:
        names = [str(name) for name in NodeSet(part, resolver=RESOLVER_NOGROUP)]
    except NodeSetException as error:
        raise RangeError(f"malformed range {part[:80]!r}; {' '.join(str(error).split())[:120]}") from error
    _name(names[0])
    if len(names) != count:
        raise RangeError(f"range {part[:80]!r} names a node twice; write each number once")
    return names


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise RangeError(f"{text[:80]!r} is not a node's name; {_NAME_HELP}")
    return text


def _size(part: str) -> int:
    """How many nodes a range has; all that NodeSet would take amiss is refused here."""
    if "[" not in part and "]" not in part:
        return 1
    pieces = _PIECES.findall(part)
    if "".join(pieces) != part:
        raise RangeError(f"malformed range {part[:80]!r}; {_help(part)}")
    count = math.prod(_count(piece, part) for piece in pieces if piece.startswith("["))
    if count > MAX_NODES:
        raise RangeError(f"range {part[:80]!r} has {count} nodes, the limit is {MAX_NODES}; look for a digit too many")
    return count


_NAME_HELP = "write letters, digits, '-', '_' and '.', beginning with a letter or digit"


def _help(part: str) -> str:
    if part.count("[") > part.count("]"):
        return "a ']' is missing"
    if part.count("]") > part.count("["):
        return "a '[' is missing"
    return "write a range such as p05-[001-200]"


def _count(bracket: str, part: str) -> int:
    """How many numbers a bracket names, such as `[001-200]`, `[1,3,5-9]` or `[0-10/2]`."""
    count = 0
    for step in bracket[1:-1].split(","):
        match = _STEP.fullmatch(step)
        if match is None:
            what = f"{step[:40]!r}" if step else "nothing"
            raise RangeError(f"malformed range {part[:80]!r}: {what} between brackets; write for instance [001-200]")
        first, last, every = match.groups()
        last = first if last is None else last
        if int(last) < int(first):
            raise RangeError(f"malformed range {part[:80]!r}: it counts down; write [{last}-{first}]")
        if len(last) != len(first) and ((first.startswith("0") and first != "0") or last.startswith("0")):
            width = max(len(first), len(last))
            raise RangeError(
                f"malformed range {part[:80]!r}: numbers of different width; write [{first:0>{width}}-{last:0>{width}}]"
            )
        if every is not None and int(every) == 0:
            raise RangeError(f"malformed range {part[:80]!r}: a step of 0; write for instance [1-9/2]")
        count += (int(last) - int(first)) // int(every or 1) + 1
    return count
