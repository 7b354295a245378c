"""Nornir's own SimpleInventory, checked before Nornir reads it.

Nornir stops at the first fault with a traceback, and takes unknown keys in silence. So its files are held against the
same rules as inventory.yaml first; what a host's `cell`, `roles` and `data_centre` are may stand in its own data, in a
group's, or in the defaults.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from nornir.core.inventory import Group, Host, Hosts, Inventory
from nornir.plugins.inventory.simple import SimpleInventory
from pydantic import BaseModel, ConfigDict, Field, RootModel

from plugins.inventory.cells import CONTROLLER, natural
from plugins.inventory.document import Document, InventoryError, read
from plugins.inventory.model import TOP, Port
from plugins.inventory.ranges import NAME, fold
from plugins.inventory.validation import did_you_mean, validate


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Options(_Strict):
    hostname: str | None = None
    port: Port | None = None
    username: str | None = None
    password: str | None = None
    platform: str | None = None
    extras: dict[str, Any] | None = None


class _Defaults(_Strict):
    hostname: str | None = None
    port: Port | None = None
    username: str | None = None
    password: str | None = None
    platform: str | None = None
    data: dict[str, Any] | None = None
    connection_options: dict[str, _Options] = Field(default_factory=dict)


class _Element(_Defaults):
    groups: list[str] | None = None


class _Elements(RootModel[dict[str, _Element]]):
    pass


def load_simple(host_file: Path, group_file: Path | None, defaults_file: Path | None, root: Path) -> Inventory:
    """Load a SimpleInventory with `cell`, `roles` and `data_centre` in its data.

    Args:
        host_file: the hosts.
        group_file: the groups; None if there is no such file.
        defaults_file: the defaults; None if there is no such file.
        root: the folder that messages leave out of paths.

    Returns:
        the inventory, top cell first, cells in order of appearance; every host has the three in its own data, and is
        in the group of each.

    Raises:
        InventoryError: with every fault of the three files.
    """
    hosts = read(host_file, _name(host_file, root))
    groups = read(group_file, _name(group_file, root)) if group_file else Document("groups.yaml", {})
    defaults = read(defaults_file, _name(defaults_file, root)) if defaults_file else Document("defaults.yaml", {})
    host_model, group_model = validate(_Elements, hosts), validate(_Elements, groups)
    validate(_Defaults, defaults)
    for document, model in ((hosts, host_model), (groups, group_model)):
        _check_groups(document, model, group_model)
    _refuse((hosts, groups, defaults))
    missing = str(root / ".no-such-file")  # Nornir skips what is not there
    inventory = SimpleInventory(str(host_file), str(group_file or missing), str(defaults_file or missing)).load()
    _Cells(inventory, hosts).check()
    _refuse((hosts,))
    cells = {cell: place for place, cell in enumerate(dict.fromkeys([TOP, *_each(inventory, "cell")]))}
    in_order = sorted(inventory.hosts.items(), key=lambda item: (cells[item[1].data["cell"]], natural(item[0])))
    return Inventory(hosts=Hosts(in_order), groups=inventory.groups, defaults=inventory.defaults)


def _each(inventory: Inventory, key: str) -> Iterator[str]:
    return (host.data[key] for host in inventory.hosts.values())


def _name(path: Path, root: Path) -> str:
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)


def _refuse(documents: Iterable[Document]) -> None:
    if faults := [fault for document in documents for fault in document.in_order()]:
        raise InventoryError(faults)


def _check_groups(document: Document, model: _Elements | None, groups: _Elements | None) -> None:
    """Every group that is named must be there, and none may contain itself."""
    if model is None or groups is None:
        return
    for name, element in model.root.items():
        for place, group in enumerate(element.groups or []):
            if group not in groups.root:
                hint = did_you_mean(group, groups.root, "groups")
                document.fault((name, "groups", place), f"{name} is in the unknown group '{group}'{hint}")
    if model is groups:
        for name in groups.root:
            if name in _above(name, groups):
                document.fault((name, "groups"), f"group '{name}' contains itself; take it out of its parents")


def _above(name: str, groups: _Elements) -> set[str]:
    found: set[str] = set()
    todo = [name]
    while todo:
        element = groups.root.get(todo.pop())
        parents = set((element.groups if element else None) or []) - found
        found |= parents
        todo += parents
    return found


class _Cells:
    """Reads cell, roles and data centre off Nornir's hosts, and finds what does not fit together."""

    def __init__(self, inventory: Inventory, document: Document) -> None:
        self._inventory = inventory
        self._document = document
        self._problems: dict[str, list[str]] = {}

    def check(self) -> None:
        """Find the faults; where there are none, give every host its data and groups."""
        for host in self._inventory.hosts.values():
            self._host(host)
        for problem, names in self._problems.items():
            shown = fold(names) if all(map(NAME.fullmatch, names)) else names[0]
            self._document.fault((names[0],), f"{shown} {problem}")
        if self._document.faults:
            return
        self._controllers()
        self._group_names()
        if not self._document.faults:
            for host in self._inventory.hosts.values():
                self._join(host)

    def _host(self, host: Host) -> None:
        def problem(text: str) -> None:
            self._problems.setdefault(text, []).append(host.name)

        if not NAME.fullmatch(host.name):
            problem("is not a node's name; write letters, digits, '-', '_' and '.'")
        data = host.extended_data()
        for key in ("cell", "data_centre"):
            value = data.get(key)
            if value is None:
                problem(f"has no {key}; write it into data, here or in a group")
            elif not isinstance(value, str) or not NAME.fullmatch(value):
                problem(f"has {key} '{str(value)[:40]}'; write a name in letters, digits, '-', '_' and '.'")
        roles = data.get("roles")
        roles = [roles] if isinstance(roles, str) else roles
        if not roles:
            problem("has no roles; write a list of them into data, here or in a group")
        elif not isinstance(roles, list) or not all(isinstance(role, str) and NAME.fullmatch(role) for role in roles):
            problem("has roles that are no list of names; write for instance [controller, database]")
        elif len(set(roles)) != len(roles):
            problem("has a role twice; keep one")
        host.data.update(cell=data.get("cell"), data_centre=data.get("data_centre"), roles=roles)

    def _controllers(self) -> None:
        cells: dict[str, list[Host]] = {}
        for host in self._inventory.hosts.values():
            cells.setdefault(host.data["cell"], []).append(host)
        if TOP not in cells:
            self._document.fault((), f"no host is in the cell '{TOP}'; write the top cell's hosts with cell: {TOP}")
        for cell, hosts in cells.items():
            if not any(CONTROLLER in host.data["roles"] for host in hosts):
                self._document.fault((hosts[0].name,), f"{cell} has no controller; give one of its hosts that role")

    def _group_names(self) -> None:
        meaning = {TOP: "a cell"}
        for host in self._inventory.hosts.values():
            claims = [(host.data["cell"], "a cell"), (host.data["data_centre"], "a data centre")]
            for name, kind in [*claims, *((role, "a role") for role in host.data["roles"])]:
                if meaning.setdefault(name, kind) != kind:
                    text = f"'{name}' is {kind} here and also {meaning[name]}; rename one of them"
                    self._document.fault((host.name,), text)
                    return
        for host in self._inventory.hosts.values():
            if host.name in meaning:
                text = f"'{host.name}' is a node and also {meaning[host.name]}; rename one of them"
                self._document.fault((host.name,), text)
            mine = {host.data["cell"], host.data["data_centre"], *host.data["roles"]}
            for name in sorted(meaning.keys() - mine):
                if name in self._inventory.groups and host.has_parent_group(name):
                    text = f"{host.name} is in the group '{name}', but its data does not say so; mend one of the two"
                    self._document.fault((host.name,), text)

    def _join(self, host: Host) -> None:
        for name in (host.data["cell"], *sorted(host.data["roles"]), host.data["data_centre"]):
            group = self._inventory.groups.get(name)
            if group is None:
                group = self._inventory.groups[name] = Group(name, defaults=self._inventory.defaults)
            if not host.has_parent_group(name):
                host.groups.append(group)
