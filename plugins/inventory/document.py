"""A YAML file with the line of everything in it, and its faults in an operator's words.

`read` takes the file apart; `validate` holds it against a pydantic model. Neither stops at the first
fault: a file with three wrong keys gives three lines.
"""

import copy
import difflib
import types
import typing
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

Location = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

MAX_VALUES = 2_000_000  # aliases can make a small file enormous; no cloud is described by more values


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
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.text}"


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

    def wrong_in(self, location: Location) -> bool:
        """Whether anything at `location` or inside it has a fault."""
        return any(place[: len(location)] == location for place in self._wrong)


class InventoryError(Exception):
    """An inventory has faults; `faults` has them all, the message one line each."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(map(str, self.faults)))


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word which `word` was probably meant to be, or None."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), None)


def did_you_mean(word: str, known: Iterable[str], kind: str) -> str:
    """The end of a message about an unknown word: the nearest known one, or else a list of them.

    Returns:
        `; did you mean 'roles'?` or `; known KIND: a, b, c` or an empty string where nothing is known.
    """
    words = sorted(known)
    if guess := nearest(word, words):
        return f"; did you mean '{guess}'?"
    shown = ", ".join(words[:12]) + (", ..." if len(words) > 12 else "")
    return f"; known {kind}: {shown}" if shown else ""


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
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        document.faults.append(Fault(document.name, None, f"cannot be read: {reason}; make it a readable file"))
        return document
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        document.faults.append(Fault(document.name, line, "is not UTF-8 text; save it as UTF-8"))
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
        document.faults.append(Fault(document.name, None, f"is not YAML ({_one_line(str(error))}); mend or rewrite it"))
    if any("is not YAML" in fault.text for fault in document.faults):
        document.data = None
    return document


def _not_yaml(name: str, error: YAMLError) -> Fault:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    line = None if mark is None else mark.line + 1
    hint = "; write blanks" if "\\t" in problem else "; look at this line and the one before"
    return Fault(name, line, f"is not YAML: {_one_line(problem)}{hint}")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]


class _Reader:
    """Turns the parser's nodes into plain values, noting lines and faults on the way."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: Node, place: Location) -> Any:
        """The node's value; lists and mappings with all that is in them."""
        self._document._lines.setdefault(place, node.start_mark.line + 1)  # noqa: SLF001 - filled here alone
        self._count += 1
        if self._count > MAX_VALUES:
            raise ValueError("too many values")
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
                    problem = f"'{_one_line(tag)}' values are not known here; write plain text"
        except (ValueError, KeyError):
            problem = f"'{_one_line(text)}' is not a proper {tag}; mend it or put it in quotes"
        line = node.start_mark.line + 1
        self._document.faults.append(Fault(self._document.name, line, problem))
        self._document._lines.setdefault(place, line)  # noqa: SLF001 - filled here alone
        return None


def _kind(node: Node) -> str:
    if isinstance(node, ScalarNode):
        return f"'{_one_line(node.value)}'"
    return "a list" if isinstance(node, SequenceNode) else "a mapping"


def validate(model: type[Model], document: Document, *, context: Mapping[str, Any] | None = None) -> Model | None:
    """Hold a document against a model; add every fault to the document.

    Values with faults are left out and the rest is validated again, so that checks which come later
    (a node in two cells, say) still see all that is sound.

    Args:
        model: what the document must be.
        document: as `read` gives it.
        context: handed to the model's validators.

    Returns:
        the model of the sound part; None where too little is left of it.
    """
    if document.data is None:
        if not document.faults:
            document.fault((), "is empty; write the description into it")
        return None
    data = copy.deepcopy(document.data)
    while True:
        try:
            return model.model_validate(data, context=dict(context or {}))
        except ValidationError as error:
            for details in error.errors():
                document.fault(details["loc"], explain(model, details))
            if any(not _remove(data, _culprit(details)) for details in error.errors()):
                return None


def _culprit(details: Any) -> Location:
    """What to leave out: the wrong value, or that which lacks something."""
    location: Location = details["loc"]
    return location[:-1] if details["type"] == "missing" else location


def _remove(data: Any, location: Location) -> bool:
    """Take the value at `location` out of `data`; False if it is `data` itself.

    A list's item takes its whole list with it, so that the places of the others stay true.
    """
    if not location:
        return False
    path: list[str | int] = []
    for part in location:
        if isinstance(part, int):
            break
        path.append(part)
    inner = data
    for part in path[:-1]:
        if not isinstance(inner, dict) or part not in inner:
            return True  # gone already, with something around it
        inner = inner[part]
    if isinstance(inner, dict) and path:
        inner.pop(path[-1], None)
        return True
    return bool(path)


def explain(model: type[BaseModel], details: Any) -> str:
    """One of pydantic's errors in an operator's words, with what to write instead."""
    location: Location = details["loc"]
    name = ".".join(map(str, location)) or "the file"
    inside = ".".join(map(str, location[:-1]))
    where = f" in {inside}" if inside else ""
    given = details.get("input")
    kind: str = details["type"]
    context = details.get("ctx", {})
    match kind:
        case "extra_forbidden":
            return f"unknown key '{location[-1]}'{where}{did_you_mean(str(location[-1]), _keys(model, location[:-1]), 'keys')}"
        case "missing":
            return f"'{location[-1]}' is missing{where}; write it"
        case "value_error":
            return f"{name}: {context['error']}"
        case "literal_error":
            return f"{name} is '{_one_line(str(given))}'; write {context['expected']}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{name} is {_called(given)}; write a mapping of keys and values"
        case "string_type" if isinstance(given, int | float):
            return f"{name} is {_called(given)}; put it in quotes"
        case "string_type":
            return f"{name} is {_called(given)}; write text"
    if kind.startswith(("int", "float", "greater", "less", "finite")):
        return f"{name} is {_called(given)}; {_number_wanted(details)}"
    if kind.startswith("bool"):
        return f"{name} is {_called(given)}; write true or false"
    wanted = details["msg"].removeprefix("Input ").removeprefix("Value ")
    return f"{name} is {_called(given)}; it {_one_line(wanted)}"


def _number_wanted(details: Any) -> str:
    wanted = details["msg"].removeprefix("Input should be ")
    if details["type"] in {"int_type", "int_parsing", "int_from_float"}:
        return "write a whole number"
    if details["type"] in {"float_type", "float_parsing"}:
        return "write a number"
    return f"write a number {wanted}"


def _called(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case str():
            return f"'{_one_line(value)}'"
        case int() | float():
            return f"the number {str(value)[:40]}"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _:
            return f"a {type(value).__name__}"


def _keys(model: Any, location: Location) -> list[str]:
    """The keys which the model at `location` inside `model` knows."""
    for part in location:
        model = _inner(model, part)
    model = _plain(model)
    if isinstance(model, type) and issubclass(model, BaseModel):
        return [field.alias or name for name, field in model.model_fields.items()]
    return []


def _inner(annotation: Any, part: str | int) -> Any:
    annotation = _plain(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        by_name = {field.alias or name: field for name, field in annotation.model_fields.items()}
        return by_name[part].annotation if part in by_name else None
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if arguments else None


def _plain(annotation: Any) -> Any:
    """Without `Annotated`, `| None` and RootModel."""
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        return _plain(annotation.model_fields["root"].annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _plain(typing.get_args(annotation)[0])
    if origin in {types.UnionType, typing.Union}:
        rest = [argument for argument in typing.get_args(annotation) if argument is not type(None)]
        return _plain(rest[0]) if rest else None
    return annotation
