"""The Nornir inventory plugin `cellstep_cells`: a cloud as operators describe it, in one inventory.yaml.

Groups are `top`, each child cell, each role and each data centre. Every host's data has `cell`, `roles` (a sorted
list) and `data_centre`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nornir.core.inventory import (
    ConnectionOptions,
    Defaults,
    Group,
    Groups,
    Host,
    Hosts,
    Inventory,
    ParentGroups,
)

from plugins.inventory.document import Document, InventoryError, Location, expand_home, read
from plugins.inventory.model import TOP, Cell, HostException, InventoryFile
from plugins.inventory.ranges import RangeError, expand, fold
from plugins.inventory.validation import nearest, validate

CONTROLLER = "controller"
_NO_CELL = {"data_centre": "unknown", "roles": {}}
_DIGITS = re.compile(r"([0-9]+)")


@dataclass
class Entry:
    """One node, as the inventory tells it."""

    name: str
    cell: str
    data_centre: str
    roles: set[str] = field(default_factory=set)
    exception: dict[str, Any] = field(default_factory=dict)


class CellsInventory:
    """Reads inventory.yaml for Nornir.

    Args:
        path: the file.
        name: what messages call it; the file's own name if left out.
    """

    def __init__(self, path: str | Path = "inventory.yaml", name: str | None = None) -> None:
        self._path = expand_home(path)
        self._name = name

    def load(self) -> Inventory:
        """The cloud's hosts, top cell first, then the cells as in the file, by natural order of names in each.

        Raises:
            InventoryError: with every fault of the file.
        """
        document = read(self._path, self._name)
        model = validate(InventoryFile, document, fill={"data_centre": "unknown", "roles": {}, "top": _NO_CELL})
        entries = _Check(document, model).entries() if model is not None else []
        if document.faults:
            raise InventoryError(document.in_order())
        assert model is not None  # noqa: S101 - no faults, so there is a model
        return _inventory(model, entries)


def natural(name: str) -> list[str | int]:
    """Sorting key by which n2 stands before n10: texts and numbers in turn."""
    parts: list[str | int] = list(_DIGITS.split(name))
    parts[1::2] = map(int, parts[1::2])
    return parts


class _Check:
    """Goes through a sound inventory.yaml and finds what does not fit together."""

    def __init__(self, document: Document, model: InventoryFile) -> None:
        self._document = document
        self._model = model
        self._entries: dict[str, Entry] = {}
        self._stands: dict[str, Location] = {}

    def entries(self) -> list[Entry]:
        """All nodes in order; faults go into the document."""
        self._cell(TOP, self._model.top, (TOP,))
        for name, cell in self._model.cells.items():
            self._cell(name, cell, ("cells", name))
        self._group_names()
        self._exceptions()
        order = {name: place for place, name in enumerate([TOP, *self._model.cells])}
        return sorted(self._entries.values(), key=lambda entry: (order[entry.cell], natural(entry.name)))

    def _cell(self, name: str, cell: Cell, place: Location) -> None:
        for role, ranges in cell.roles.items():
            names: set[str] = set()
            if not ranges:
                self._document.fault(
                    (*place, "roles", role),
                    f"{name} has no node in role '{role}'; write one, or leave the role out",
                )
            for place_in_list, text in enumerate(ranges):
                at = (*place, "roles", role, place_in_list)
                found = self._expand(text, at, f"role '{role}' of {name}")
                self._twice(found, names, at, f"role '{role}' of {name}")
                names.update(found)
            self._take(names, name, cell.data_centre, role, (*place, "roles", role))
        if CONTROLLER not in cell.roles and not self._maybe_controller(place):
            guess = nearest(CONTROLLER, cell.roles)
            hint = f"write it in place of '{guess}'" if guess else "give it a node in roles.controller"
            self._document.fault(place, f"{name} has no controller; {hint}")

    def _maybe_controller(self, place: Location) -> bool:
        """Whether the cell's part of the file names a controller where it cannot be read, which is a fault already."""
        raw = self._raw(place)
        if not isinstance(raw, dict) or not isinstance(raw.get("roles", {}), dict):
            return True
        return any(isinstance(value, dict) and CONTROLLER in value for value in raw.values())

    def _raw(self, place: Location) -> Any:
        raw = self._document.data
        for part in place:
            raw = raw.get(part) if isinstance(raw, dict) else None
        return raw

    def _expand(self, text: str, at: Location, what: str) -> list[str]:
        try:
            return expand(text)
        except RangeError as error:
            self._document.fault(at, f"{what}: {error}")
            return []

    def _twice(self, found: list[str], names: set[str], at: Location, what: str) -> None:
        twice = {name for name, count in Counter(found).items() if count > 1 or name in names}
        if twice:
            self._document.fault(at, f"{what} names {fold(twice)} twice; keep one")

    def _take(self, names: Iterable[str], cell: str, data_centre: str, role: str, at: Location) -> None:
        elsewhere: dict[str, list[str]] = {}
        for name in names:
            entry = self._entries.get(name)
            if entry is None:
                entry = self._entries[name] = Entry(name, cell, data_centre)
                self._stands[name] = at
            if entry.cell == cell:
                entry.roles.add(role)
            else:
                elsewhere.setdefault(entry.cell, []).append(name)
        for other, several in elsewhere.items():
            line = self._document.line(self._stands[several[0]])
            text = f"{fold(several)} of {cell} is in {other} already (line {line}); a node has one cell, keep one"
            self._document.fault(at, text)

    def _group_names(self) -> None:
        """Cells, roles, data centres and nodes are all addressed by name, so a name has one meaning."""
        meaning: dict[str, str] = {TOP: "the top cell"}
        for name, cell, place in self._cells():
            if name != TOP or place != (TOP,):
                self._claim(meaning, name, "a cell", place)
            self._claim(meaning, cell.data_centre, "a data centre", (*place, "data_centre"))
            for role in cell.roles:
                self._claim(meaning, role, "a role", (*place, "roles", role))
        for name in self._entries.keys() & meaning.keys():
            self._document.fault(self._stands[name], f"'{name}' is a node and also {meaning[name]}; rename one of them")

    def _cells(self) -> Iterator[tuple[str, Cell, Location]]:
        yield TOP, self._model.top, (TOP,)
        for name, cell in self._model.cells.items():
            yield name, cell, ("cells", name)

    def _claim(self, meaning: dict[str, str], name: str, kind: str, place: Location) -> None:
        if meaning.setdefault(name, kind) != kind:
            self._document.fault(place, f"'{name}' is {kind} here and also {meaning[name]}; rename one of them")

    def _exceptions(self) -> None:
        for text, exception in self._model.hosts.items():
            at = ("hosts", text)
            names = self._expand(text, at, "hosts")
            unknown = [name for name in names if name not in self._entries]
            if unknown and not self._maybe_somewhere(unknown):
                guess = nearest(unknown[0], self._entries)
                hint = f"did you mean '{guess}'?" if guess else "write nodes that have a role above"
                self._document.fault(at, f"hosts: {fold(unknown)} is in no cell; {hint}")
            if exception.address is not None and len(set(names)) > 1:
                self._document.fault(
                    (*at, "address"), f"hosts.{text}: one address for {len(names)} nodes; give each its own"
                )
            self._except([self._entries[name] for name in names if name in self._entries], exception, at)

    def _maybe_somewhere(self, names: list[str]) -> bool:
        """Whether the nodes may stand in a part of the cells that cannot be read, which is a fault already."""
        todo = [self._raw((TOP,)), self._raw(("cells",))]
        found: set[str] = set()
        while todo:
            raw = todo.pop()
            if isinstance(raw, dict):
                todo += raw.values()
            elif isinstance(raw, list):
                todo += raw
            elif isinstance(raw, str):
                try:
                    found.update(expand(raw))
                except RangeError:
                    prefix = raw.split("[")[0].strip()
                    if prefix and any(name.startswith(prefix) for name in names):
                        return True
        return found.issuperset(names)

    def _except(self, entries: list[Entry], exception: HostException, at: Location) -> None:
        given = exception.model_dump(exclude_none=True)
        for key, value in given.items():
            again = [entry.name for entry in entries if key in entry.exception]
            if again:
                self._document.fault((*at, key), f"hosts: {key} of {fold(again)} was given above; keep one")
            for entry in entries:
                entry.exception[key] = value


def _inventory(model: InventoryFile, entries: list[Entry]) -> Inventory:
    defaults = Defaults(port=model.defaults.port, username=model.defaults.username, platform=model.defaults.platform)
    groups = Groups()
    hosts = Hosts()
    jumps = {TOP: model.top.jump, **{name: cell.jump for name, cell in model.cells.items()}}

    def group(name: str) -> Group:
        if name not in groups:
            groups[name] = Group(name, defaults=defaults)
        return groups[name]

    for entry in entries:
        roles = sorted(entry.roles)
        exception = entry.exception
        ssh: dict[str, Any] = {}
        if exception.get("legacy_algorithms", model.defaults.legacy_algorithms):
            ssh["legacy_algorithms"] = True
        if jump := exception.get("jump") or jumps[entry.cell] or model.defaults.jump:
            ssh["jump"] = jump
        hosts[entry.name] = Host(
            name=entry.name,
            hostname=exception.get("address", entry.name),
            port=exception.get("port"),
            username=exception.get("username"),
            platform=exception.get("platform"),
            groups=ParentGroups(group(name) for name in (entry.cell, *roles, entry.data_centre)),
            data={"cell": entry.cell, "roles": roles, "data_centre": entry.data_centre},
            connection_options={"cellstep_ssh": ConnectionOptions(extras=ssh)} if ssh else {},
            defaults=defaults,
        )
    return Inventory(hosts=hosts, groups=groups, defaults=defaults)
