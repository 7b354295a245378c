"""A YAML file with the line of everything in it, and what is wrong with it.

Nothing stops at the first fault: a file with three wrong keys gives three lines. `validation` holds a document
against a model and adds to its faults.
"""

import typing
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from plugins.errors import OperatorError

Location = tuple[str | int, ...]

MAX_REPEATS = 100_000  # values that aliases repeat; they can make a small file enormous


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong in a file.

    Attributes:
        file: the file's name, as the operator would type it from the cloud's folder.
        line: counted from 1; None where the fault is the file itself.
        text: what is wrong, and what to write instead.
    """

    file: str
    line: int | None
    text: str

    def __str__(self) -> str:
        line = "" if self.line is None else f":{self.line}"
        return f"{one_line(self.file)}{line}: {one_line(self.text, 600)}"


@dataclass
class Document:
    """A YAML file as plain Python values, and where each of them stands.

    Attributes:
        name: the file's name in messages.
        data: dicts, lists, strings, numbers, booleans and None; None if the file could not be read.
        faults: what is wrong with the file as YAML; later checks add theirs.
    """

    name: str
    data: Any = None
    faults: list[Fault] = field(default_factory=list)
    _lines: dict[Location, int] = field(default_factory=dict)
    _wrong: list[Location] = field(default_factory=list)

    def line(self, location: Sequence[str | int]) -> int | None:
        """The line of the value at `location` (of its key, in a mapping), or of the nearest value around it."""
        place = tuple(location)
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place)

    def fault(self, location: Sequence[str | int], text: str) -> None:
        """Add a fault at the value at `location`."""
        self.faults.append(Fault(self.name, self.line(location), text))
        self._wrong.append(tuple(location))

    def in_order(self) -> list[Fault]:
        """The faults by line."""
        return sorted(self.faults, key=lambda fault: fault.line or 0)

    def wrong_in(self, location: Location) -> bool:
        """Whether anything at `location` or inside it has a fault."""
        return any(place[: len(location)] == location for place in self._wrong)


class InventoryError(OperatorError):
    """An inventory has faults; `faults` has them all, the message one line each."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(map(str, self.faults)))


def expand_home(path: str | Path) -> Path:
    """The path with `~` expanded; one of a user who is not there stays as it is, and so names no file."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def read(path: Path, name: str | None = None) -> Document:
    """Read a YAML file (YAML 1.2, so `off` is a word and not false).

    Args:
        path: the file.
        name: what messages call it; the file's own name if left out.

    Returns:
        the document; what is wrong with it is in its `faults`, nothing is raised.
    """
    document = Document(name or path.name)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        document.faults.append(Fault(document.name, None, f"there is no such file ({path}); create it"))
        return document
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        document.faults.append(Fault(document.name, line, "is not UTF-8 text; save it as UTF-8"))
        return document
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = (getattr(error, "strerror", None) or "unreadable").lower()
        document.faults.append(Fault(document.name, None, f"cannot be read: {reason}; make it a readable file"))
        return document
    try:
        root = YAML(typ="safe", pure=True).compose(text)
        if root is None:
            document.faults.append(Fault(document.name, None, "is empty; write the description into it"))
        else:
            document.data = _Reader(document).value(root, ())
    except YAMLError as error:
        document.faults.append(_not_yaml(document.name, error))
    except RecursionError:
        document.faults.append(Fault(document.name, None, "is nested too deeply; write it flatter"))
    except (ValueError, OverflowError, IndexError, AttributeError, TypeError) as error:
        # The parser's own slips on garbage, e.g. `%YAML 1.x` or an escape beyond Unicode.
        document.faults.append(Fault(document.name, None, f"is not YAML ({one_line(str(error))}); mend or rewrite it"))
    if any("is not YAML" in fault.text for fault in document.faults):
        document.data = None
    return document


def _not_yaml(name: str, error: YAMLError) -> Fault:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    line = None if mark is None else mark.line + 1
    hint = "; write blanks" if "\\t" in problem else "; look at this line and the one before"
    return Fault(name, line, f"is not YAML: {one_line(problem)}{hint}")


def one_line(text: str, limit: int = 200) -> str:
    """A text of unknown length, lines and control characters, fit for a message."""
    clean = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: limit * 2]).split())
    return clean if len(clean) <= limit else f"{clean[:limit]}..."


class _Reader:
    """Turns the parser's nodes into plain values, noting lines and faults on the way."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._open: set[int] = set()
        self._seen: set[int] = set()
        self._repeats = 0

    def value(self, node: Node, place: Location) -> Any:
        """The node's value; lists and mappings with all that is in them."""
        self._document._lines.setdefault(place, node.start_mark.line + 1)  # noqa: SLF001 - filled here alone
        self._repeats += id(node) in self._seen
        if self._repeats > MAX_REPEATS:
            raise ValueError("aliases repeat too much")
        self._seen.add(id(node))
        if isinstance(node, ScalarNode):
            return self._scalar(node, place)
        if id(node) in self._open:
            raise ValueError("an alias that contains itself")
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
            return self._mapping(typing.cast("MappingNode", node), place)
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, place: Location) -> dict[Hashable, Any]:
        result: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self._scalar(key_node, place) if isinstance(key_node, ScalarNode) else None
            line = key_node.start_mark.line + 1
            if not isinstance(key, str):
                text = f"a key must be a word, not {_kind(key_node)}; write it in quotes"
                self._document.faults.append(Fault(self._document.name, line, text))
                continue
            if key in result:
                first = self._document.line((*place, key))
                text = f"key '{key}' stands twice (first in line {first}); keep one"
                self._document.faults.append(Fault(self._document.name, line, text))
                continue
            self._document._lines[(*place, key)] = line  # noqa: SLF001 - filled here alone
            result[key] = self.value(value_node, (*place, key))
        return result

    def _scalar(self, node: ScalarNode, place: Location) -> Any:
        tag = str(node.tag or "").removeprefix("tag:yaml.org,2002:")
        text = node.value
        try:
            match tag:
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int":
                    digits = text.replace("_", "")
                    based = digits.lstrip("+-")[:2].lower() in {"0x", "0o", "0b"}
                    return int(digits, 0) if based else int(digits)
                case "float":
                    return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
                case "str" | "timestamp":
                    return text
                case _:
                    problem = f"'{one_line(tag)}' values are not known here; write plain text"
        except (ValueError, KeyError):
            problem = f"'{one_line(text)}' is not a proper {tag}; mend it or put it in quotes"
        line = node.start_mark.line + 1
        self._document.faults.append(Fault(self._document.name, line, problem))
        self._document._lines.setdefault(place, line)  # noqa: SLF001 - filled here alone
        return None


def _kind(node: Node) -> str:
    if isinstance(node, ScalarNode):
        return f"'{one_line(node.value)}'"
    return "a list" if isinstance(node, SequenceNode) else "a mapping"
