"""Holding a YAML file against a pydantic model; what is wrong is told in an operator's words."""

import copy
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, RootModel, ValidationError

from plugins.inventory.document import Document, Location, one_line

Model = TypeVar("Model", bound=BaseModel)

_KEY = "[key]"  # pydantic's place of a mapping's key that is wrong


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


def validate(
    model: type[Model],
    document: Document,
    *,
    context: Mapping[str, Any] | None = None,
    fill: Mapping[str, Any] | None = None,
) -> Model | None:
    """Hold a document against a model; add every fault to the document.

    What is wrong is left out (or filled in) and the rest is validated again, so that checks which come later
    (a node in two cells, say) still see all that is sound.

    Args:
        model: what the document must be.
        document: as `read` gives it.
        context: handed to the model's validators.
        fill: by key, what stands in for a needed value that is missing or wrong; without it, that which lacks the
            value is left out as a whole.

    Returns:
        the model of the sound part; None where too little is left of it.
    """
    if document.data is None:
        if not document.faults:
            document.fault((), "is empty; write the description into it")
        return None
    data = copy.deepcopy(document.data)
    handled: set[Location] = set()
    while True:
        before = repr(data)
        try:
            return model.model_validate(data, context=dict(context or {}))
        except ValidationError as error:
            misspelt = {place for details in error.errors() if (place := _meant(model, details))}
            for details in error.errors():
                place = details["loc"]
                if place not in handled and place not in misspelt:
                    document.fault(place, explain(model, details))
            mended = [
                _mend(data, details["loc"], details["type"] == "missing", handled, fill or {})
                for details in error.errors()
            ]
            if not all(mended):
                return None
            if repr(data) == before:
                return None


def _meant(model: type[BaseModel], details: Any) -> Location | None:
    """Where an unknown key should have stood, by its nearest known one: that one is misspelt, not missing."""
    *inside, key = details["loc"] or ("",)
    guess = nearest(str(key), _keys(model, tuple(inside))) if details["type"] == "extra_forbidden" else None
    return (*inside, guess) if guess else None


def _mend(data: Any, place: Location, is_missing: bool, handled: set[Location], fill: Mapping[str, Any]) -> bool:
    """Take what is wrong at `place` out of `data`, or fill in what is missing there.

    A list's item takes its whole list with it, so that the places of the others stay true.

    Returns:
        False if nothing would be left.
    """
    handled.add(place)
    path = _down_to_list(place)
    if is_missing and path and path[-1] in fill:
        inner = _inside(data, path[:-1])
        if isinstance(inner, dict) and path[-1] not in inner:
            inner[path[-1]] = copy.deepcopy(fill[str(path[-1])])
            return True
    if is_missing:
        path = path[:-1] if path == place else path
    if not path:
        return False
    handled.add(path)
    inner = _inside(data, path[:-1])
    if isinstance(inner, dict):
        inner.pop(path[-1], None)
    return True  # or gone already, with something around it


def _down_to_list(place: Location) -> Location:
    for depth, part in enumerate(place):
        if isinstance(part, int) or part == _KEY:
            return place[:depth]
    return place


def _inside(data: Any, path: Location) -> Any:
    for part in path:
        data = data.get(part) if isinstance(data, dict) else None
    return data


def explain(model: type[BaseModel], details: Any) -> str:
    """One of pydantic's errors in an operator's words, with what to write instead."""
    location: Location = details["loc"]
    given, kind, context = details.get("input"), details["type"], details.get("ctx", {})
    if kind in {"extra_forbidden", "missing"}:
        where = f" in {_name(location[:-1])}" if location[:-1] else ""
        if kind == "missing":
            return f"'{location[-1]}' is missing{where}; write it"
        hint = did_you_mean(str(location[-1]), _keys(model, location[:-1]), "keys")
        return f"unknown key '{location[-1]}'{where}{hint}"
    if location[-1:] == (_KEY,):
        location = location[:-2]
        if kind == "literal_error":
            return f"unknown key '{one_line(str(given))}' in {_name(location)}; write {context['expected']}"
    if kind == "value_error":
        return f"{_name(location)}: {context['error']}"
    return f"{_name(location)} is {_called(given)}; write {_wanted(details)}"


def _name(location: Location) -> str:
    """The place in words: `ssh.username`, `cell01.roles` (cells are known by their names alone)."""
    return ".".join(map(str, location)).removeprefix("cells.") or "the file"


_WANTED = {
    "dict_type": "a mapping of keys and values",
    "model_type": "a mapping of keys and values",
    "list_type": "a list",
    "float_type": "a number",
    "finite_number": "a finite number",
    "too_short": "at least one item",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
}
_LIMITS = {"gt": "more than {}", "ge": "{} or more", "lt": "less than {}", "le": "{} or less"}


def _wanted(details: Any) -> str:
    """What to write instead of a value of the wrong type or size."""
    kind, context = details["type"], details.get("ctx", {})
    if kind == "literal_error":
        return str(context["expected"])
    if kind in {"string_type", "path_type"}:
        return "it in quotes" if isinstance(details.get("input"), int | float) else "text"
    for limit, text in _LIMITS.items():
        if limit in context:
            return text.format(f"{context[limit]:g}")
    return _WANTED.get(kind) or f"otherwise: {one_line(details['msg'])}"


def _called(value: Any) -> str:
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case str():
            return f"'{one_line(value)}'"
        case int() | float():
            return f"the number {str(value)[:40]}"
        case list() | tuple():
            return "an empty list" if not value else "a list"
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
