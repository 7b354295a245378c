"""The lab's networks: one namespace with the bridge and the tool's address, and one for every host."""

import contextlib
import ctypes
import os
import socket
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab.commands import run
from lab.errors import LabError
from lab.spec import BRIDGE_ADDRESS, PREFIX_LENGTH, HostSpec, LabSpec

NAMESPACES = Path("/run/netns")
_BRIDGE = "lab0"
_CLONE_NEWNET = 0x40000000
# A killed `up` must not leave an `ip` behind that goes on making namespaces while they are cleared away.
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL")
_CONNECT_TIMEOUT_S = 2.0
# Only what opens a connection: those that are open stay so, as with a real sshd that is stopped.
_REFUSE = """\
table inet cellstep_fault {
    chain input {
        type filter hook input priority 0
        tcp dport 22 tcp flags & (syn | ack) == syn reject with tcp reset
    }
}
"""
_LOSE = """\
table inet cellstep_loss {{
    chain input {{
        type filter hook input priority 0
        iifname "eth0" numgen random mod 100 < {per_cent} drop
    }}
}}
"""


def exists(name: str) -> bool:
    """Whether a network namespace of that name is there."""
    return (NAMESPACES / name).exists()


def hosts_file(spec: LabSpec) -> str:
    """The text of /etc/hosts in the lab: every host's name, and the tool's as `operator`."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost", f"{BRIDGE_ADDRESS} operator"]
    lines += [f"{host.address} {host.name}" for host in spec.hosts()]
    return "\n".join(lines) + "\n"


def create(spec: LabSpec) -> None:
    """Make the lab's namespace with its bridge, and each host's with its link, switched off.

    Names resolve under `ip netns exec` through /etc/netns/cellstep-NAME/hosts.

    Raises:
        LabError: the kernel refused one of them.
    """
    folder = Path("/etc/netns") / spec.namespace
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts").write_text(hosts_file(spec), encoding="utf-8")
    # `ip netns exec` binds that file over this one, which a minimal system may lack.
    if not Path("/etc/hosts").exists():
        Path("/etc/hosts").write_text("127.0.0.1 localhost\n", encoding="utf-8")
    run([*_ENDS_WITH_US, "ip", "netns", "add", spec.namespace])
    run(
        [*_ENDS_WITH_US, "ip", "-n", spec.namespace, "-batch", "-"],
        stdin="\n".join(
            [
                "link set dev lo up",
                f"link add name {_BRIDGE} type bridge forward_delay 0 stp_state 0",
                f"addr add {BRIDGE_ADDRESS}/{PREFIX_LENGTH} dev {_BRIDGE}",
                f"link set dev {_BRIDGE} up",
                "",
            ]
        ),
        what="the lab's bridge",
    )
    hosts = spec.hosts()
    run(
        [*_ENDS_WITH_US, "ip", "-batch", "-"],
        stdin="".join(f"netns add {spec.host_namespace(host.name)}\n" for host in hosts),
        what="the hosts' network namespaces",
    )
    run(
        [*_ENDS_WITH_US, "ip", "-n", spec.namespace, "-batch", "-"],
        stdin="".join(
            f"link add name {host.name} type veth peer name eth0 address {host.mac} "
            f"netns {spec.host_namespace(host.name)}\n"
            f"link set dev {host.name} master {_BRIDGE}\n"
            for host in hosts
        ),
        timeout=300,
        what="the hosts' links",
    )
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: _create_inside(spec, host), hosts))


def _create_inside(spec: LabSpec, host: HostSpec) -> None:
    run(
        [*_ENDS_WITH_US, "ip", "-n", spec.host_namespace(host.name), "-batch", "-"],
        stdin=f"link set dev lo up\naddr add {host.address}/{PREFIX_LENGTH} dev eth0\nlink set dev eth0 up\n",
        what=f"the address of {host.name}",
    )


def remove(lab: str) -> None:
    """Delete every namespace of one lab, and its /etc/netns folder; nothing when there is none."""
    for name in sorted(_names_of(lab), reverse=True):  # hosts first
        run(["ip", "netns", "del", name])
    folder = _folder(lab)
    if folder.exists():
        (folder / "hosts").unlink(missing_ok=True)
        folder.rmdir()
        with contextlib.suppress(OSError):  # others' files are in it
            folder.parent.rmdir()


def left(lab: str) -> bool:
    """Whether anything is there that `remove` would delete, of a whole lab or of a part."""
    return bool(_names_of(lab)) or _folder(lab).exists()


def link(spec: LabSpec, host: str, *, up: bool) -> None:
    """Switch a host's port at the bridge on or off: pulling its cable."""
    run(["ip", "-n", spec.namespace, "link", "set", "dev", host, "up" if up else "down"])


def refuse_ssh(spec: LabSpec, host: str, *, refuse: bool) -> None:
    """Answer new connections to a host's SSH port with a reset, or no longer."""
    _table(spec, host, "cellstep_fault", _REFUSE if refuse else "")


def lose_packets(spec: LabSpec, host: str, per_cent: int) -> None:
    """Drop a share of the packets that reach a host over its link; 0 for none."""
    _table(spec, host, "cellstep_loss", _LOSE.format(per_cent=per_cent) if per_cent else "")


def _table(spec: LabSpec, host: str, name: str, rules: str) -> None:
    """Replace one table of nft in a host's namespace, in one go."""
    text = f"add table inet {name}\ndelete table inet {name}\n{rules}"
    run(["ip", "netns", "exec", spec.host_namespace(host), "nft", "-f", "-"], stdin=text)


def shape(spec: LabSpec, host: str, kbit_s: int | None) -> None:
    """Let a host's link carry no more than that, in each direction; None for all it can."""
    for namespace, device in ((spec.host_namespace(host), "eth0"), (spec.namespace, host)):
        queue = ["tc", "-n", namespace, "qdisc"]
        if "tbf" in run([*queue, "show", "dev", device, "root"]):
            run([*queue, "del", "dev", device, "root"])
        if kbit_s is not None:
            limit = ["tbf", "rate", f"{kbit_s}kbit", "burst", "4kb", "latency", "2s"]
            run([*queue, "add", "dev", device, "root", *limit])


def answering(spec: LabSpec, hosts: Iterable[HostSpec]) -> set[str]:
    """Names of the hosts whose SSH port says `SSH-` within 2 seconds."""
    wanted = list(hosts)
    if not exists(spec.namespace) or not wanted:
        return set()
    with ThreadPoolExecutor(min(32, len(wanted)), initializer=_enter, initargs=(spec.namespace,)) as pool:
        return {host.name for host, answers in zip(wanted, pool.map(_banner, wanted), strict=True) if answers}


def _banner(host: HostSpec) -> bool:
    try:
        with socket.create_connection((host.address, 22), timeout=_CONNECT_TIMEOUT_S) as connection:
            connection.settimeout(_CONNECT_TIMEOUT_S)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _enter(namespace: str) -> None:
    """Move the calling thread, and it alone, into a network namespace (os.setns is not in Python 3.11)."""
    if threading.current_thread() is threading.main_thread():
        raise LabError("a whole process must not enter the lab's namespace here")
    descriptor = os.open(NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
            raise LabError(f"cannot enter network namespace {namespace}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(descriptor)


def _names_of(lab: str) -> list[str]:
    prefix = f"cellstep-{lab}"
    names = [entry.name for entry in NAMESPACES.iterdir()] if NAMESPACES.exists() else []
    return [name for name in names if name == prefix or name.startswith(f"{prefix}-")]


def _folder(lab: str) -> Path:
    return Path("/etc/netns") / f"cellstep-{lab}"
