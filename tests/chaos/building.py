"""What a scripted cloud is made of: its files, and a folder a host."""

from pathlib import Path

from cellstep.cloud.load import Cloud, load_cloud
from cellstep.cloud.nodes import Node

PACE = {"YUM": 0.25, "SYNC": 0.4, "DUMP": 0.1, "REBOOT": 0.3, "SERVICE": 0.0}
PASSWORD = "a-password-that-must-be-nowhere"  # noqa: S105 - of nothing

CLOUD = """\
name: chaos
release: grizzly-havana
workers: 6
pace: {canary: 2, growth: 3}
budgets: {failed: 1, failed_per_cell: 1, unreachable: 1, unreachable_per_cell: 1}
databases: {password_file: secret}
staging: {on: top-infra01}
fence: {socket: /run/haproxy.sock}
drain: {timeout_s: 30}
puppet: {run: puppet-run}
repository:
  name: havana
  promote:
    on: top-infra01
    command: promote-repository havana
    already: promote-repository --list | grep -qx havana
monitoring: {kind: monit, mask_alarms: alarms mask, unmask_alarms: alarms unmask, alarms_masked: alarms masked}
checkout: {environment: /root/openrc, commands: [{on: "top-api01", command: site-check}]}
reboot_timeout_s: 60
settle_s: 30
packages: {python-novaclient: "1:2.15.0-1.el6"}
"""
INVENTORY = """\
top:
  data_centre: geneva
  roles: {controller: "top-api[01-02]", loadbalancer: top-infra01, database: top-infra01, queue: top-infra01}
cells:
  cell01:
    data_centre: geneva
    roles: {controller: c01-ctl01, database: c01-ctl01, queue: c01-ctl01, compute: "c01-n[01-02]"}
  cell02:
    data_centre: budapest
    roles: {controller: c02-ctl01, database: c02-ctl01, queue: c02-ctl01, compute: "c02-n[01-02]"}
"""
KERNELS = ("2.6.32-358.el6", "2.6.32-431.el6")
PLACES = (
    *("usr", "dev", "tmp", "root", "opt/node", "opt/cloud", "opt/proc", "run/services", "var/log", "var/cache/yum"),
    *("etc/rc3.d", "etc/init.d", "etc/sysconfig", "etc/yum.repos.d", "etc/haproxy/servers", "var/lib/rpm"),
    *("var/lib/puppet/state", "proc/sys/kernel/random"),
)


def build(folder: Path) -> None:
    """Write the cloud's files and its hosts: Grizzly, everything running, some things off on purpose."""
    (folder / "cloud.yaml").write_text(CLOUD)
    (folder / "inventory.yaml").write_text(INVENTORY)
    secret = folder / "secret"
    secret.touch(mode=0o600)
    secret.write_text(PASSWORD + "\n")
    (folder / "state").mkdir()
    cloud = load_cloud(folder)
    world = folder / "world"
    _share(world, cloud)
    for node in cloud.nodes:
        _host(world / "hosts" / node.name, node, cloud)
    _off_on_purpose(world / "hosts")


def _share(world: Path, cloud: Cloud) -> None:
    for name in ("hosts", "guests", "cells", "databases", "repositories"):
        (world / name).mkdir(parents=True)
    (world / "pace").write_text("".join(f"{name}_S={seconds}\n" for name, seconds in PACE.items()))
    packages = {name: fact for part in cloud.release.components.values() for name, fact in part.packages.items()}
    havana = {name: fact.evr if "-" in fact.evr else f"{fact.evr}-1.el6" for name, fact in packages.items()}
    (world / "repositories/havana").write_text("".join(f"{name} {evr}\n" for name, evr in havana.items()))
    (world / "repositories/base").write_text(f"kernel {KERNELS[1]}\n")
    for cell in ("top", *cloud.cells):
        names = [node.name for node in cloud.nodes if node.cell == cell]
        (world / "cells" / cell).write_text("\n".join(names) + "\n")
        (world / "databases" / cell).mkdir()
        (world / "databases" / cell / "schema").write_text("161\n")
        (world / "databases" / cell / "nova").touch()
    (world / "databases/top/cinder").touch()


def _host(root: Path, node: Node, cloud: Cloud) -> None:
    for place in PLACES:
        (root / place).mkdir(parents=True)
    _link(root)
    for name, text in {
        "etc/node": f"NODE={node.name}\nCELL={node.cell}\nTIER={node.tier or 'none'}\n",
        "etc/kernel": f"{KERNELS[0]}\n",
        "etc/sysconfig/yum-autoupdate": '# of the site\nENABLED="true"\n',
        "root/openrc": "",
        "var/log/node.log": "",
        "proc/stat": "btime 1390000000\n",
        "proc/sys/kernel/random/boot_id": f"boot-of-{node.name}\n",
        "var/lib/rpm/packages": _packages(node, cloud),
    }.items():
        (root / name).write_text(text)
    services = [*(cloud.services_on("nova", node.tier) if node.tier else ()), "monit"]
    services += ["rabbitmq-server"] * ("queue" in node.roles)
    for name in services:
        for place in ("etc/init.d", "etc/rc3.d", "run/services"):
            (root / place / name).touch()
    if "loadbalancer" in node.roles:
        for name, state in (("top-api01", "UP"), ("top-api02", "UP"), ("old", "MAINT")):
            (root / f"etc/haproxy/servers/nova-api:{name}").write_text(f"{state}\n")
    if node.tier == "compute":
        for number in (100, 101):
            _guest(root / "proc" / str(number), f"{node.name}-{number}", number)


def _link(root: Path) -> None:
    """What a host has of this machine's."""
    for link in ("bin", "sbin", "lib", "lib64"):
        (root / link).symlink_to(f"usr/{link}")
    awk = Path("/usr/bin/awk").resolve()  # Debian's is a link through /etc/alternatives
    (root / "etc/alternatives").mkdir()
    (root / "etc/alternatives/awk").symlink_to(awk)
    for link in ("self", "meminfo", "mounts"):  # the rest of /proc is this node's own
        (root / "proc" / link).symlink_to(f"/opt/proc/{link}")


def _packages(node: Node, cloud: Cloud) -> str:
    components = cloud.release.components
    facts = {name: fact for part in ("nova", "clients") for name, fact in components[part].packages.items()}
    here = [f"{name} {fact.was or '0.9.0-1.el6'}" for name, fact in facts.items() if node.tier in fact.tiers]
    return "".join(f"{line} 1380000000\n" for line in [f"kernel {KERNELS[0]}", *here])


def _guest(process: Path, uuid: str, number: int) -> None:
    process.mkdir()
    (process / "cmdline").write_bytes(b"/usr/bin/qemu-kvm\0-uuid\0" + uuid.encode() + b"\0")
    between = " ".join(str(field) for field in range(4, 22))
    (process / "stat").write_text(f"{number} (qemu-kvm) S {between} {number * 1000} 0\n")


def _off_on_purpose(hosts: Path) -> None:
    """What somebody switched off before us, and what must stay so."""
    for place in ("etc/rc3.d/monit", "run/services/monit"):
        (hosts / "c02-n02" / place).unlink()
    (hosts / "c02-n01/var/lib/puppet/state/agent_disabled.lock").write_text('{"disabled_message":"disk"}\n')
    (hosts / "c02-n01/etc/yum.repos.d/havana.repo").write_text("[havana]\n")
