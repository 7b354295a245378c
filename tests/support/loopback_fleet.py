"""Thousands of hosts that are one machine: one real sshd on all of 127.0.0.0/8, each host with its own data.

The server's ForceCommand sees in SSH_CONNECTION which address was meant, and answers an audit with that address's file;
any other command is really run.
"""

import contextlib
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from cellstep import runs
from cellstep.cloud.load import load_cloud
from cellstep.releases import load_release
from plugins.inventory.ranges import fold
from tests.support import sshd

OTHERS = 400
"""Packages of an EL6 hypervisor, besides those of the release."""

CELLS_OF = 100
"""Nodes of a cell."""

CLOUD = """\
name: fleet
release: release.yaml
workers: {workers}
ssh: {{username: {user}, key: {key}, known_hosts: {known_hosts}}}
databases: {{password_file: secret}}
repository: {{name: havana, promote: {{on: top-ctl01, command: "true"}}}}
monitoring: {{kind: monit}}
"""

_FORCED = r"""#!/bin/bash
address=${SSH_CONNECTION#* * }; address=${address%% *}
case $SSH_ORIGINAL_COMMAND in
  *@boot_id*) printf '@began\n%s\n' "$EPOCHREALTIME"; printf '%s\n' "$(<__FOLDER__/$address)"
    printf '@ended\n%s\n' "$EPOCHREALTIME";;
  *) exec bash -c "$SSH_ORIGINAL_COMMAND";;
esac
"""


@dataclass
class Node:
    """What one host says.

    Attributes:
        name: its name.
        address: its address of loopback.
        number: which of them it is, from 0.
        tier: top, cell or compute.
        packages: name to version.
        services: service to the words of its line: exit status of its status, boot.
        kernels: the installed ones, oldest first.
        kernel: the running one.
        puppet: the reason in Puppet's lock file, None where there is none.
        files: those that an update set aside.
        monit: thing to state.
        free_kib: folder to KiB.
        ahead_s: how far its clock is ahead.
    """

    name: str
    address: str
    number: int
    tier: str
    packages: dict[str, str]
    services: dict[str, str]
    kernels: list[str] = field(default_factory=lambda: ["2.6.32-431.el6"])
    kernel: str = "2.6.32-431.el6.x86_64"
    puppet: str | None = None
    files: list[str] = field(default_factory=list)
    monit: dict[str, str] = field(default_factory=lambda: {"openstack-nova-compute": "Running"})
    free_kib: dict[str, int] = field(default_factory=lambda: {"/": 4_000_000, "/var": 9_000_000})

    def text(self) -> str:
        """Its answer, without the two looks at the clock."""
        boot = f"{self.number:08x}-0000-4000-8000-000000000000"
        lines = ["@boot_id", boot, self.kernel, "@packages"]
        lines += [f"{name} {evr}" for name, evr in self.packages.items()]
        lines += ["@services", *(f"{name} {words}" for name, words in self.services.items())]
        lines += ["@guests", "btime 1390000000"]
        lines += [f"guest {boot[:-2]}{guest:02} {1000 + guest}" for guest in range(5)]
        lines += ["@uptime", "864000.00", "@kernels", *(f"{n} {kernel}" for n, kernel in enumerate(self.kernels))]
        lines += ["@pending", "@set_aside", *self.files, "@puppet"]
        lines += [] if self.puppet is None else ["disabled", self.puppet]
        lines += ["@monit", *(f"Process '{name}' {state}" for name, state in self.monit.items())]
        lines += ["@space", *(f"{path}\t{path}\t{free}" for path, free in self.free_kib.items())]
        return "\n".join(lines) + "\n"


DEVIATIONS: dict[str, Callable[[Node], None]] = {
    "rpms: older": lambda node: node.packages.update({"openstack-nova-compute": "2013.1.4-1.el6"}),
    "rpms: newer": lambda node: node.packages.update({"openstack-nova-compute": "2014.1-1.el6"}),
    "rpms: missing": lambda node: node.packages.pop("openstack-nova-compute") and None,
    "services: stopped": lambda node: node.services.update({"openstack-nova-compute": "3 on"}),
    "condition: disabled": lambda node: setattr(node, "puppet", "by hand"),
    "condition: not running": lambda node: node.kernels.append("2.6.32-504.el6"),
    "condition: set aside": lambda node: node.files.append("/etc/nova/nova.conf.rpmnew"),
    "condition: silent": lambda node: node.services.update({"monit": "3 on"}),
    "condition: not watched": lambda node: node.monit.update({"openstack-nova-compute": "Not monitored"}),
    "condition: failed": lambda node: node.monit.update({"openstack-nova-compute": "Execution failed"}),
    "condition: low": lambda node: node.free_kib.update({"/var": 100_000}),
}
"""`TABLE: STATUS` to what makes a host so."""


@dataclass(frozen=True)
class Fleet:
    """A fleet that is up.

    Attributes:
        cloud: the cloud's folder.
        server: its sshd.
        nodes: all of them.
        planted: `TABLE: STATUS` to the nodes that are so.
    """

    cloud: Path
    server: sshd.Sshd
    nodes: list[Node]
    planted: dict[str, set[str]]


def address_of(number: int) -> str:
    """The address of a node, from 127.1.0.1 on."""
    return f"127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}"


@contextlib.contextmanager
def fleet(folder: Path, hosts: int, *, workers: int = 50, seed: int = 1, each: int = 1) -> Iterator[Fleet]:
    """Bring a fleet up, whose stage nova is complete as far as its journal knows.

    Args:
        folder: of this fleet alone.
        hosts: how many.
        workers: how many at once, as cloud.yaml has it.
        seed: of what is planted where.
        each: how many hosts get each deviation.
    """
    answers = folder / "answers"
    answers.mkdir(parents=True)
    forced = folder / "forced"
    forced.write_text(_FORCED.replace("__FOLDER__", str(answers)), encoding="utf-8")
    forced.chmod(0o755)
    nodes = _nodes(hosts)
    computes = [node for node in nodes if node.tier == "compute"]
    chosen = iter(random.Random(seed).sample(computes, min(len(computes), each * len(DEVIATIONS))))  # noqa: S311 - no secret
    planted: dict[str, set[str]] = {}
    for what, plant in DEVIATIONS.items():
        for node in (node for _, node in zip(range(each), chosen, strict=False)):
            plant(node)
            planted.setdefault(what, set()).add(node.name)
    for node in nodes:
        (answers / node.address).write_text(node.text(), encoding="utf-8")
    lines = (f"ForceCommand {forced}", "MaxStartups 10000", "LogLevel ERROR", "UseDNS no")
    with sshd.running(folder, *lines, listen="127.0.0.0") as server:
        yield Fleet(_cloud(folder, server, nodes, workers), server, nodes, planted)


def _nodes(hosts: int) -> list[Node]:
    """A top controller, and cells of a controller and compute nodes."""
    release = load_release("grizzly-havana")
    others = {f"package-{n:03}": f"{n % 3}:1.{n}-{n % 7}.el6" for n in range(OTHERS)}
    nodes: list[Node] = []
    for number in range(hosts):
        cell, place = divmod(number - 1, CELLS_OF)
        tier = "top" if number == 0 else "compute" if place else "cell"
        name = {"top": "top-ctl01", "cell": f"c{cell + 1:03}-ctl01", "compute": f"c{cell + 1:03}-n{place:03}"}[tier]
        names = ("nova", "clients") if tier == "compute" else ("nova",)
        packages = {
            package: fact.evr if "-" in fact.evr else f"{fact.evr}-1.el6"
            for component in names
            for package, fact in release.components[component].packages.items()
            if tier in fact.tiers
        }
        services = {
            fact.name: "0 on" for each in release.components.values() for fact in each.services if tier in fact.tiers
        }
        all_services = {**services, "monit": "0 on"}
        nodes.append(Node(name, address_of(number), number, tier, {**others, **packages}, all_services))
    return nodes


def _cloud(folder: Path, server: sshd.Sshd, nodes: list[Node], workers: int) -> Path:
    cloud = folder / "cloud"
    (cloud / "state").mkdir(parents=True)
    (cloud / "secret").write_text("none\n", encoding="utf-8")
    (cloud / "secret").chmod(0o600)
    public = (server.directory / "host_ed25519.pub").read_text(encoding="utf-8").split()[:2]
    known = folder / "known_hosts"
    known.write_text(
        "".join(f"[{node.address}]:{server.port} {' '.join(public)}\n" for node in nodes), encoding="utf-8"
    )
    values = {"workers": workers, "user": server.user, "key": server.key, "known_hosts": known}
    (cloud / "cloud.yaml").write_text(CLOUD.format(**values), encoding="utf-8")
    # The fleet has no databases: without heartbeats a service is judged by what its host says.
    facts = files("cellstep.releases").joinpath("grizzly-havana.yaml").read_text(encoding="utf-8")
    (cloud / "release.yaml").write_text(
        re.sub(r"(, *binary: *[a-z-]+)|(^ *binary:.*\n)", "", facts, flags=re.M), encoding="utf-8"
    )
    lines = ["top:", "  data_centre: geneva", "  roles: {controller: top-ctl01}", "cells:"]
    for cell in dict.fromkeys(node.name.split("-")[0] for node in nodes[1:]):
        names = [node.name for node in nodes if node.name.startswith(f"{cell}-n")]
        roles = {"controller": f"{cell}-ctl01", **({"compute": f'"{fold(names)}"'} if names else {})}
        said = ", ".join(f"{role}: {where}" for role, where in roles.items())
        lines += [f"  {cell}:", "    data_centre: budapest", f"    roles: {{{said}}}"]
    lines += ["hosts:", *(f"  {node.name}: {{address: {node.address}, port: {server.port}}}" for node in nodes)]
    (cloud / "inventory.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    loaded = load_cloud(cloud)
    with contextlib.closing(runs.open_journal(loaded)) as journal:
        run = journal.begin_run("nova", loaded.release.name, "", {})
        journal.end_run(run, "complete", 0)
    return cloud
