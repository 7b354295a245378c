"""The cloud folder of a lab, as text, for any size: the shipped one of the default lab, with other names in it."""

import re
from pathlib import Path

from lab.errors import LabError
from lab.spec import CLIENTS, HORIZON, LabSpec
from lab.state import LABS

# In a checkout, and in an installed package.
_PLACES = (Path(__file__).resolve().parents[1] / "inventory" / "lab", Path(__file__).resolve().parent / "inventory")
_DASHBOARD = re.compile(r"(?m)^dashboard:.*\n(?:  .*\n)+")
_CELLS = re.compile(r"(?<=\n)(?:  cell\d+:\n(?:    .*\n)+)+")


def shipped_cloud() -> Path:
    """The folder of the default lab's cloud.

    Raises:
        LabError: it is not where it should be.
    """
    for place in _PLACES:
        if (place / "cloud.yaml").exists():
            return place
    raise LabError(f"{_PLACES[0]} is missing: restore it from the repository")


def render(spec: LabSpec) -> dict[str, str]:
    """The files of a lab's cloud folder; for the default lab these are the shipped ones, letter by letter.

    Args:
        spec: the lab.

    Returns:
        Text by file name: cloud.yaml and inventory.yaml, and the patches of its dashboard's pages.

    Raises:
        LabError: the shipped files are not there, or no longer have the form this relies on.
    """
    default = LabSpec()
    cloud = (shipped_cloud() / "cloud.yaml").read_text(encoding="utf-8")
    inventory = (shipped_cloud() / "inventory.yaml").read_text(encoding="utf-8")
    cloud = re.sub(rf"(?m)^name: {default.name}\b", f"name: {spec.name}", cloud)
    cloud = cloud.replace(default.namespace, spec.namespace)
    cloud = cloud.replace(f"{LABS / default.name}/", f"{LABS / spec.name}/")
    inventory, found = _CELLS.subn(lambda _: _cells(spec), inventory)
    if found != 1:
        raise LabError(f"{shipped_cloud() / 'inventory.yaml'}: its cells do not stand in one block `  cell01: ...`")
    if CLIENTS not in spec.components and spec != default:
        inventory = re.sub(r"(?m)^    client: .*\n", "", inventory)
    if HORIZON not in spec.components and spec != default:
        inventory = re.sub(r"(?m)^    dashboard: .*\n", "", inventory)
        cloud, found = _DASHBOARD.subn("dashboard: null\n", cloud)
        if found != 1:
            raise LabError(f"{shipped_cloud() / 'cloud.yaml'}: its dashboard does not stand in one block `dashboard:`")
        return {"cloud.yaml": cloud, "inventory.yaml": inventory}
    patches = shipped_cloud() / "patches"
    texts = {f"patches/{path.name}": path.read_text(encoding="utf-8") for path in sorted(patches.iterdir())}
    return {"cloud.yaml": cloud, "inventory.yaml": inventory, **texts}


def _cells(spec: LabSpec) -> str:
    text: list[str] = []
    hosts = spec.hosts()
    for name in spec.cell_names():
        members = [host for host in hosts if host.cell == name]
        controller = members[0].name
        computes = [host.name for host in members if "compute" in host.roles]
        text.append(
            f"  {name}:\n"
            f"    data_centre: {members[0].data_centre}\n"
            f"    roles:\n"
            f"      controller: {controller}\n"
            f"      database: {controller}\n"
            f"      queue: {controller}\n"
            f"      compute: {_fold(computes)}\n"
        )
    return "".join(text)


def _fold(names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    width = len(names[0]) - len(names[0].rstrip("0123456789"))
    return f"{names[0][:-width]}[{names[0][-width:]}-{names[-1][-width:]}]"
