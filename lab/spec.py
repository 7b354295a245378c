"""What a lab consists of: its cells, hosts, names and addresses, from three numbers."""

import re
from dataclasses import dataclass

from lab.errors import LabUsageError

BRIDGE_ADDRESS = "10.90.0.254"
PREFIX_LENGTH = 16
DATA_CENTRES = ("geneva", "budapest")
CLIENTS = "clients"  # the component with a client's machine
HORIZON = "horizon"  # the component with the dashboard's two machines
DASHBOARD = "dashboard"  # their role
HOSTS_AT_MOST = 1000  # a Linux bridge has 1024 ports

_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")


@dataclass(frozen=True)
class HostSpec:
    """One host of a lab.

    Attributes:
        name: short host name, such as `c01-n02`; also the name of its bridge port, so at most 15 letters.
        cell: `top`, or the child cell's name.
        roles: of controller, compute, database, queue, loadbalancer, client, dashboard.
        address: IPv4 address in the lab's own namespace.
        mac: fixed, because a stale ARP entry hides a host made anew for 20 seconds.
        data_centre: geneva or budapest.
    """

    name: str
    cell: str
    roles: tuple[str, ...]
    address: str
    mac: str
    data_centre: str


@dataclass(frozen=True)
class LabSpec:
    """The size of a lab.

    Attributes:
        name: part of the names of its folder, namespaces and cgroups; letters and digits only, so that
            a host's namespace `cellstep-NAME-HOST` cannot be another lab's.
        cells: child cells.
        computes: compute nodes in each child cell.
        components: what runs beside nova, of `lab.content.components.COMPONENTS`.
    """

    name: str = "lab"
    cells: int = 2
    computes: int = 2
    components: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.cells < 1 or self.computes < 1:
            raise LabUsageError("a lab has at least one child cell with one compute node: use --cells 1 --computes 1")
        count = 3 + (CLIENTS in self.components) + 2 * (HORIZON in self.components) + self.cells * (1 + self.computes)
        if count > HOSTS_AT_MOST:
            raise LabUsageError(f"{count} hosts are more than the {HOSTS_AT_MOST} a lab can have: ask for fewer")

    @property
    def namespace(self) -> str:
        """Name of the network namespace with the bridge and the tool's address."""
        return f"cellstep-{self.name}"

    def host_namespace(self, host: str) -> str:
        """Name of one host's network namespace."""
        return f"{self.namespace}-{host}"

    def cell_names(self) -> list[str]:
        """The child cells, in order."""
        return [f"cell{_number(n, self.cells)}" for n in range(1, self.cells + 1)]

    def hosts(self) -> list[HostSpec]:
        """All hosts: the top cell's first, then cell after cell, its controller before its computes."""
        rows: list[tuple[str, str, tuple[str, ...], str]] = [
            ("top-api01", "top", ("controller",), DATA_CENTRES[0]),
            ("top-api02", "top", ("controller",), DATA_CENTRES[0]),
            ("top-infra01", "top", ("loadbalancer", "database", "queue"), DATA_CENTRES[0]),
        ]
        for n, cell in enumerate(self.cell_names(), start=1):
            prefix = f"c{_number(n, self.cells)}"
            centre = DATA_CENTRES[(n - 1) % len(DATA_CENTRES)]
            rows.append((f"{prefix}-ctl01", cell, ("controller", "database", "queue"), centre))
            rows += [
                (f"{prefix}-n{_number(m, self.computes)}", cell, ("compute",), centre)
                for m in range(1, self.computes + 1)
            ]
        if CLIENTS in self.components:
            rows.append(("cli01", "top", ("client",), DATA_CENTRES[0]))
        if HORIZON in self.components:
            rows += [(name, "top", (DASHBOARD,), DATA_CENTRES[0]) for name in ("dash01", "dash02")]
        return [
            HostSpec(name, cell, roles, _address(index), _mac(index), centre)
            for index, (name, cell, roles, centre) in enumerate(rows)
        ]

    def host(self, name: str) -> HostSpec:
        """One host by its name.

        Raises:
            LabUsageError: there is none of that name.
        """
        for host in self.hosts():
            if host.name == name:
                return host
        names = ", ".join(h.name for h in self.hosts()[:12])
        raise LabUsageError(f"lab {self.name} has no host {name!r}; its hosts begin {names}")


def check_name(name: str) -> None:
    """Refuse a lab name that could not be part of a namespace's, folder's and machine's name.

    Raises:
        LabUsageError: it has other than letters and digits, or is too long.
    """
    if not _NAME.fullmatch(name):
        raise LabUsageError(f"lab name {name!r}: use 1 to 12 lower-case letters and digits, a letter first")


def _number(number: int, count: int) -> str:
    return f"{number:0{3 if count > 99 else 2}d}"


def _address(index: int) -> str:
    # 250 a block of 256, so that .0, .254 (the tool) and .255 are never a host's.
    return f"10.90.{index // 250}.{index % 250 + 1}"


def _mac(index: int) -> str:
    return f"02:ce:11:00:{index // 250:02x}:{index % 250 + 1:02x}"
