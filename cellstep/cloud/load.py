"""A cloud's folder, read and checked as a whole: cloud.yaml, its inventory and its release."""

import os
from collections.abc import Sequence
from pathlib import Path

from nornir.core.inventory import Host, Inventory

from cellstep.cloud.cloud import Cloud, collecting_later
from cellstep.cloud.model import CloudConfig
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select
from cellstep.errors import ConfigurationError, UsageError
from cellstep.releases import Release, load_release
from plugins.inventory.cells import CellsInventory
from plugins.inventory.document import Document, InventoryError, expand_home, read
from plugins.inventory.ranges import fold
from plugins.inventory.simple import load_simple
from plugins.inventory.validation import did_you_mean, validate
from tasks import platforms

__all__ = ["CLOUD_FILE", "Cloud", "load_cloud"]

CLOUD_FILE = "cloud.yaml"

_COMMAND = {"on": "top", "command": "true"}
_STAND_INS = {
    "name": "unnamed",
    "release": "unknown",
    "repository": {"name": "unknown", "promote": _COMMAND},
    "promote": _COMMAND,
}  # of what cloud.yaml lacks, so that the rest of it is checked all the same

_NO_RELEASE = Release(name="unknown", source="unknown", target="unknown", components={})


@collecting_later()
def load_cloud(directory: Path) -> Cloud:
    """Read a cloud's folder.

    Args:
        directory: the folder with cloud.yaml in it.

    Raises:
        ConfigurationError: with every fault of cloud.yaml, of the inventory and of the release, one line each.
    """
    directory = expand_home(directory).absolute()
    if not os.path.isdir(directory):  # noqa: PTH112 - Path.is_dir raises at a name that is too long
        raise ConfigurationError([f"{directory}: there is no such folder; write the folder with {CLOUD_FILE} in it"])
    document = read(directory / CLOUD_FILE)
    config = validate(CloudConfig, document, context={"directory": directory}, fill=_STAND_INS)
    faults: list[str] = []
    release = _release(config, document, directory, faults)
    inventory = _inventory(config, directory, faults)
    cloud = None
    if config is not None and inventory is not None:
        nodes = _nodes(inventory)
        faults += _unknown_platforms(nodes)
        cells = tuple(dict.fromkeys(node.cell for node in nodes if node.cell != "top"))
        lines = tuple(document.line(("steps", place)) for place in range(len(config.steps)))
        cloud = Cloud(directory, config, release or _NO_RELEASE, nodes, cells, inventory, lines)
        _check_places(cloud, document)
    faults = [*map(str, document.in_order()), *faults]
    if faults or cloud is None:
        raise ConfigurationError(faults)
    return cloud


def _release(config: CloudConfig | None, document: Document, directory: Path, faults: list[str]) -> Release | None:
    """The release that cloud.yaml names, with the site's own packages and services."""
    name = document.data.get("release") if isinstance(document.data, dict) else None
    if not isinstance(name, str) or not name.strip():
        return None  # missing or no text: the model has said so
    try:
        release = load_release(name, directory=directory)
    except ConfigurationError as error:
        if error.faults[0].startswith("there is no release"):
            document.fault(("release",), error.faults[0])
        else:
            faults.extend(error.faults)
        return None
    if config is None:
        return release
    packages = {name for component in release.components.values() for name in component.packages}
    for name in config.packages.keys() - packages:
        hint = did_you_mean(name, packages, "packages")
        document.fault(("packages", name), f"packages: unknown package '{name}'{hint}")
    services = {fact.name for component in release.components.values() for fact in component.services}
    for tier, names in config.services.items():
        for place, name in enumerate(names):
            if name not in services:
                hint = did_you_mean(name, services, "services")
                document.fault(("services", tier, place), f"services.{tier}: unknown service '{name}'{hint}")
    return release.with_overrides(config.packages, config.services, config.clients.packages)


def _inventory(config: CloudConfig | None, directory: Path, faults: list[str]) -> Inventory | None:
    """The inventory that cloud.yaml names; inventory.yaml beside it, should cloud.yaml be too broken to say."""
    options = config.inventory.options if config else {}
    paths = {name: Path(directory, expand_home(path)) for name, path in options.items()}
    try:
        if config is not None and config.inventory.plugin == "SimpleInventory":
            given = {f"{name}_file": paths.get(f"{name}_file") for name in ("host", "group", "defaults")}
            default = {name: directory / f"{name.removesuffix('_file').rstrip('s')}s.yaml" for name in given}
            files = {name: path or _if_there(default[name]) for name, path in given.items()}
            return load_simple(
                files["host_file"] or default["host_file"], files["group_file"], files["defaults_file"], directory
            )
        path = paths.get("path", directory / "inventory.yaml")
        name = str(path.relative_to(directory)) if path.is_relative_to(directory) else str(path)
        return CellsInventory(path, name).load()
    except InventoryError as error:
        faults.extend(map(str, error.faults))
        return None


def _check_places(cloud: Cloud, document: Document) -> None:
    """The nodes that cloud.yaml names must be there."""
    config = cloud.config
    names = [node.name for node in cloud.nodes]
    servers = [node.name for node in cloud.nodes if "database" in node.roles]
    replicas = [node.name for node in cloud.nodes if "replica" in node.roles]
    _check_reach(cloud, document)
    _check_node(document, ("repository", "promote", "on"), config.repository.promote.on, names)
    if config.staging.on is not None:
        _check_node(document, ("staging", "on"), config.staging.on, names)
    for component, name in config.databases.on.items():
        _check_node(document, ("databases", "on", component), name, names)
    for name, replica in config.databases.replicas.items():
        _check_node(document, ("databases", "replicas"), name, servers, "database node")
        _check_node(document, ("databases", "replicas", name), replica, replicas, "node with the role `replica`")
    if dashboard := config.dashboard:
        machines = [node.name for node in cloud.nodes if "dashboard" in node.roles]
        for key, name in (("old", dashboard.old), ("new", dashboard.new)):
            _check_node(document, ("dashboard", key), name, machines, "node with the role `dashboard`")
        _check_node(document, ("dashboard", "watch_from"), dashboard.watch_from, names)
        _check_node(document, ("dashboard", "switch", "on"), dashboard.switch.on, names)
    for place, entry in enumerate(cloud.config.checkout.commands):
        try:
            select(cloud, entry.on)
        except UsageError as error:
            document.fault(("checkout", "commands", place, "on"), f"checkout.commands: {error}")
    for place, step in enumerate(config.steps):
        try:
            select(cloud, step.on) if step.on else None
        except UsageError as error:
            document.fault(("steps", place, "on"), f"steps.{place}.on: {error}")


def _check_reach(cloud: Cloud, document: Document) -> None:
    """The cells with a worker must be there."""
    cells, reach = ("top", *cloud.cells), cloud.config.reach
    for place, name in enumerate(reach.cells if reach else ()):
        if name not in cells:
            hint = did_you_mean(name, cells, "cells")
            document.fault(("reach", "cells", place), f"reach.cells: there is no cell '{name}'{hint}")


def _check_node(
    document: Document, place: tuple[str, ...], name: str, names: Sequence[str], kind: str = "node"
) -> None:
    if name not in names and not document.wrong_in(place[:1]):
        document.fault(place, f"{'.'.join(place)}: there is no {kind} '{name}'{did_you_mean(name, names, 'nodes')}")


def _unknown_platforms(nodes: Sequence[Node]) -> list[str]:
    """A line for each platform that there is no table of."""
    wrong = platforms.unknown({node.name: node.platform for node in nodes})
    known = ", ".join(platforms.PLATFORMS)
    return [f"inventory: {fold(names)}: unknown platform '{name}'; write one of {known}" for name, names in wrong]


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _nodes(inventory: Inventory) -> tuple[Node, ...]:
    """The inventory's hosts as nodes, in its order."""
    default = inventory.defaults.platform or platforms.DEFAULT
    inherits = any(group.platform != inventory.defaults.platform for group in inventory.groups.values())

    def platform(host: Host) -> str:
        # Asking a Nornir host searches all its groups, which for 10,000 hosts takes a quarter of the whole load.
        own: str | None = host.platform if inherits else object.__getattribute__(host, "platform")
        return own or default

    return tuple(
        Node(
            name=host.name,
            cell=host.data["cell"],
            roles=frozenset(host.data["roles"]),
            data_centre=host.data["data_centre"],
            platform=platform(host),
        )
        for host in inventory.hosts.values()
    )
