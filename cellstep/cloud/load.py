"""A cloud's folder, read and checked as a whole: cloud.yaml, its inventory and its release."""

from pathlib import Path

from nornir.core.inventory import Inventory

from cellstep.cloud.cloud import Cloud
from cellstep.cloud.model import CloudConfig
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select
from cellstep.errors import ConfigurationError, UsageError
from cellstep.releases import Release, load_release
from plugins.inventory.cells import CellsInventory, natural
from plugins.inventory.document import Document, InventoryError, read
from plugins.inventory.simple import load_simple
from plugins.inventory.validation import did_you_mean, validate

__all__ = ["CLOUD_FILE", "Cloud", "load_cloud"]

CLOUD_FILE = "cloud.yaml"

_COMMAND = {"on": "top", "command": "true"}
_STAND_INS = {
    "name": "unnamed",
    "release": "unknown",
    "repository": {"name": "unknown", "promote": _COMMAND},
    "promote": _COMMAND,
}  # of what cloud.yaml lacks, so that the rest of it is checked all the same


def load_cloud(directory: Path) -> Cloud:
    """Read a cloud's folder.

    Args:
        directory: the folder with cloud.yaml in it.

    Raises:
        ConfigurationError: with every fault of cloud.yaml, of the inventory and of the release, one line each.
    """
    directory = Path(directory).expanduser().absolute()
    if not directory.is_dir():
        raise ConfigurationError([f"{directory}: there is no such folder; write the folder with {CLOUD_FILE} in it"])
    document = read(directory / CLOUD_FILE)
    config = validate(CloudConfig, document, context={"directory": directory}, fill=_STAND_INS)
    faults: list[str] = []
    release = _release(config, document, directory, faults)
    inventory = _inventory(config, directory, faults)
    faults = [*map(str, sorted(document.faults, key=lambda fault: fault.line or 0)), *faults]
    if faults or config is None or release is None or inventory is None:
        raise ConfigurationError(faults)
    nodes = _nodes(inventory)
    cells = tuple(dict.fromkeys(node.cell for node in nodes if node.cell != "top"))
    cloud = Cloud(directory, config, release, nodes, cells, inventory)
    _check_places(cloud, document)
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
    return release.with_overrides(config.packages, config.services)


def _inventory(config: CloudConfig | None, directory: Path, faults: list[str]) -> Inventory | None:
    """The inventory that cloud.yaml names; inventory.yaml beside it, should cloud.yaml be too broken to say."""
    options = config.inventory.options if config else {}
    paths = {name: Path(directory, Path(path).expanduser()) for name, path in options.items()}
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
    on = cloud.config.repository.promote.on
    names = [node.name for node in cloud.nodes]
    if on not in names:
        hint = did_you_mean(on, names, "nodes")
        document.fault(("repository", "promote", "on"), f"repository.promote.on: there is no node '{on}'{hint}")
    for place, entry in enumerate(cloud.config.checkout.commands):
        try:
            select(cloud, entry.on)
        except UsageError as error:
            document.fault(("checkout", "commands", place, "on"), f"checkout.commands: {error}")
    if document.faults:
        raise ConfigurationError([str(fault) for fault in document.faults])


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _nodes(inventory: Inventory) -> tuple[Node, ...]:
    """The nodes: top cell first, the cells in order of appearance, by natural order of names in each."""
    hosts = inventory.hosts.values()
    order = {cell: place for place, cell in enumerate(dict.fromkeys(["top", *(host.data["cell"] for host in hosts)]))}
    platform = inventory.defaults.platform or "el6"
    nodes = [
        Node(
            name=host.name,
            cell=host.data["cell"],
            roles=frozenset(host.data["roles"]),
            data_centre=host.data["data_centre"],
            platform=host.platform or platform,
        )
        for host in hosts
    ]
    return tuple(sorted(nodes, key=lambda node: (order[node.cell], natural(node.name))))
