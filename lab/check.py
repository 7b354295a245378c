"""Whether this machine can run a lab: root, namespaces, cgroups, overlays, Debian's tools."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from lab import state
from lab.cgroups import hierarchies
from lab.errors import LabError, MachineUnfit

# What the lab calls, and the Debian package that has it.
TOOLS = {
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "rpm": "rpm",
    "rpmbuild": "rpm",
    "dnf": "dnf",
    "createrepo_c": "createrepo-c",
    "systemd-nspawn": "systemd-container",
    "mmdebstrap": "mmdebstrap",
    "nft": "nftables",
    "ip": "iproute2",
    "tc": "iproute2",
    "ps": "procps",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "setsid": "util-linux",
}
_DISK_NEEDED_GB = 3
_ROOT_NEEDED = "real root, or a container run with --privileged"


def check_machine() -> list[str]:
    """What is missing, one line each with what to do about it; [] when a lab can run here."""
    _complete_path()
    if os.geteuid() != 0:
        return ["the lab needs root, for namespaces and mounts: call it again with sudo"]
    faults: list[str] = []
    if packages := missing_packages():
        faults.append(f"Debian packages are missing: apt-get install --no-install-recommends {' '.join(packages)}")
    try:
        hierarchies()
    except LabError as error:
        faults.append(str(error))
    if not packages:
        faults += _try_kernel()
    free_gb = shutil.disk_usage(_nearest(state.LABS)).free / 1e9
    if free_gb < _DISK_NEEDED_GB:
        faults.append(f"{free_gb:.1f} GB free below {state.LABS}: make room for {_DISK_NEEDED_GB} GB")
    return faults


def require_machine() -> None:
    """Refuse to go on where a lab cannot run.

    Raises:
        MachineUnfit: lists what is missing.
    """
    if faults := check_machine():
        raise MachineUnfit(faults)


def require_root() -> None:
    """Refuse to go on without root.

    Raises:
        MachineUnfit: the caller is not root.
    """
    _complete_path()
    if os.geteuid() != 0:
        raise MachineUnfit(["the lab needs root, for namespaces and mounts: call it again with sudo"])


def missing_packages() -> list[str]:
    """Debian packages whose tools are not on the path."""
    return sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})


def _complete_path() -> None:
    """Look for tools in sbin, too: `su` without a login leaves it out."""
    path = os.environ.get("PATH", "/usr/bin:/bin").split(":")
    os.environ["PATH"] = ":".join([*path, *(d for d in ("/usr/sbin", "/sbin") if d not in path)])


def _nearest(path: Path) -> Path:
    return path if path.exists() else _nearest(path.parent)


def _try_kernel() -> list[str]:
    """Make one of each thing the lab needs, in namespaces which are gone when the trial ends."""
    base = _nearest(state.LABS)
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="cellstep-trial-", dir=base) as folder:
        for name in ("lower", "upper", "work", "merged"):
            (Path(folder) / name).mkdir()
        trials = (
            ("unshare --mount --net --pid --fork true", "namespaces cannot be made", _ROOT_NEEDED),
            (
                "unshare --mount mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged",
                f"no overlay can be mounted below {base}",
                "the module `overlay`, and a file system like ext4 there",
            ),
            ("unshare --net ip link add name b type bridge", "no bridges", "the module `bridge`"),
            ("unshare --net ip link add name v type veth peer name w", "no veth devices", "the module `veth`"),
            ("unshare --net nft add table inet t", "nftables does not work", "the module `nf_tables`"),
        )
        for command, what, need in trials:
            done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, timeout=30, check=False)
            if done.returncode != 0:
                said = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
                faults.append(f"{what} ({said}): it needs {need}")
                if need == _ROOT_NEEDED:
                    break
    return faults
