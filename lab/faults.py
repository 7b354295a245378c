"""Faults that can be given to a host, each real, each undone by `--clear`.

A marker file per fault in the host's folder says what is in place; it is written before the fault is made and
removed after it is undone, so that whatever is interrupted can be cleared.
"""

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lab import network
from lab.cgroups import end_process
from lab.commands import wait_until
from lab.errors import LabError, LabUsageError
from lab.machine import Machine
from lab.state import make_key, write_whole

VAR_SIZE_MB = 60
_FILLER = ".filled-by-the-lab"
_LOCK_HOLDER = "cellstep-holds-the-rpm-lock"
_LOCK_SCRIPT = f"""
import fcntl, signal
lock = open('/var/lib/rpm/.rpm.lock', 'a')  # {_LOCK_HOLDER}
fcntl.lockf(lock, fcntl.LOCK_EX)
signal.pause()
"""
_KEY = "etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        meaning: what it does, for `--help` and messages.
        place: makes it.
        undo: undoes it; harmless when it is only half there. Called only while the host has power.
    """

    meaning: str
    place: Callable[[Machine], None]
    undo: Callable[[Machine], None]


def place(machine: Machine, kind: str) -> bool:
    """Give a host a fault.

    Returns:
        False when it has that fault already.

    Raises:
        LabUsageError: there is no such kind.
        LabError: it could not be made; what was begun is undone.
    """
    fault = FAULTS.get(kind)
    if fault is None:
        raise LabUsageError(f"no fault {kind!r}: use one of {', '.join(FAULTS)}")
    if kind in in_place(machine):
        return False
    if machine.supervisor() is None and not kind.startswith("power-"):
        raise LabError(f"{machine.host.name} is off: `cellstep lab fault {machine.host.name} --clear` boots it")
    write_whole(machine.folder / "faults" / kind, "")
    try:
        fault.place(machine)
    except LabError:
        if machine.supervisor() is not None:
            fault.undo(machine)
        (machine.folder / "faults" / kind).unlink()
        raise
    return True


def clear(machine: Machine) -> list[str]:
    """Undo every fault of a host, boot it if it is off, and wait until it is up.

    Returns:
        The kinds that were undone.

    Raises:
        LabError: one could not be undone; the others before it are.
    """
    undone: list[str] = []
    for kind in in_place(machine):
        if machine.supervisor() is not None:
            FAULTS[kind].undo(machine)
        (machine.folder / "faults" / kind).unlink(missing_ok=True)
        undone.append(kind)
    if machine.supervisor() is None:
        # What does not hang on processes or mounts stays with a host that is off.
        network.refuse_ssh(machine.spec, machine.host.name, refuse=False)
        _restore_key(machine)
        machine.power_on()
        machine.wait_booted()
        wait_until(
            lambda: machine.host.name in network.answering(machine.spec, [machine.host]),
            timeout=30,
            what=f"{machine.host.name} to answer on its SSH port",
        )
    return undone


def in_place(machine: Machine) -> list[str]:
    """The kinds of fault a host has, in the order they are undone in."""
    folder = machine.folder / "faults"
    return [kind for kind in FAULTS if (folder / kind).exists()]


def _hang(machine: Machine) -> None:
    machine.group.freeze(frozen=True)


def _thaw(machine: Machine) -> None:
    machine.group.freeze(frozen=False)


def _power_off(machine: Machine) -> None:
    machine.power_off()


def _power_cut(machine: Machine) -> None:
    # The cable first: nobody hears a reset or a goodbye, open connections just fall silent.
    network.link(machine.spec, machine.host.name, up=False)
    machine.power_off()


def _power_back(machine: Machine) -> None:
    """For a power fault that was begun only: `clear` boots a host which is off."""
    network.link(machine.spec, machine.host.name, up=True)


def _refuse_ssh(machine: Machine) -> None:
    network.refuse_ssh(machine.spec, machine.host.name, refuse=True)


def _allow_ssh(machine: Machine) -> None:
    network.refuse_ssh(machine.spec, machine.host.name, refuse=False)


def _new_host_key(machine: Machine) -> None:
    kept = machine.folder / "host-key-before"
    if not kept.exists():
        shutil.copy2(machine.root() / _KEY, kept)
    new = machine.folder / "host-key-new"
    public = make_key(new, machine.host.name)
    _install_key(machine, new.read_text(encoding="utf-8"), public)
    new.unlink()
    new.with_name("host-key-new.pub").unlink()


def _restore_key(machine: Machine) -> None:
    kept = machine.folder / "host-key-before"
    if not kept.exists():
        return
    known = (machine.folder.parents[1] / "ssh/known_hosts").read_text(encoding="utf-8")
    public = next(line.split(" ", 1)[1] for line in known.splitlines() if line.startswith(f"{machine.host.name},"))
    _install_key(machine, kept.read_text(encoding="utf-8"), public)
    kept.unlink()


def _install_key(machine: Machine, private: str, public: str) -> None:
    # sshd reads its host keys anew for every connection, so nothing need be restarted.
    write_whole(machine.root() / f"{_KEY}.pub", f"{public}\n")
    write_whole(machine.root() / _KEY, private, 0o600)


def _hide_repositories(machine: Machine) -> None:
    machine.in_mounts('mkdir -p "$FOLDER/empty"; mount --bind "$FOLDER/empty" "$ROOT/srv/repositories"\n')


def _show_repositories(machine: Machine) -> None:
    # Mounted is the repositories' folder itself, and over it, with the fault, the empty one.
    machine.in_mounts(
        '[ "$(findmnt --noheadings --output TARGET "$ROOT/srv/repositories" | wc -l)" -lt 2 ] || '
        'umount --lazy "$ROOT/srv/repositories"\n'
    )


def _hold_rpm_lock(machine: Machine) -> None:
    init = machine.init()
    if init is None:
        raise LabError(f"{machine.host.name} has not booted: wait until it has, then call again")
    join = "".join(f"echo $$ > {path}/cgroup.procs\n" for path in machine.group.paths)
    enter = f'exec nsenter --target={init} --mount --root --uts --ipc --net --pid -- python3 -c "$1"'
    holder = subprocess.Popen(
        ["sh", "-euc", f"{join}{enter}", "sh", _LOCK_SCRIPT],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        cwd="/",
    )
    wait_until(
        lambda: holder.poll() is not None or _locked(machine),
        timeout=60,
        what=f"rpm's lock on {machine.host.name} (is an update running there?)",
    )
    if holder.poll() is not None:
        raise LabError(f"cannot hold rpm's lock on {machine.host.name}: the holder ended with {holder.returncode}")


def _locked(machine: Machine) -> bool:
    """Whether a process of the host holds a lock on rpm's file; /proc/locks tells by inode."""
    try:
        inode = (machine.root() / "var/lib/rpm/.rpm.lock").stat().st_ino
    except FileNotFoundError:
        return False
    holders = set(_lock_holders(machine))
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        fields = line.split()
        if "->" not in fields and int(fields[4]) in holders and fields[5].endswith(f":{inode}"):
            return True
    return False


def _lock_holders(machine: Machine) -> list[int]:
    found: list[int] = []
    for pid in machine.group.members():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if _LOCK_HOLDER.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def _release_rpm_lock(machine: Machine) -> None:
    for pid in _lock_holders(machine):
        end_process(pid)


def _fill_var(machine: Machine) -> None:
    machine.in_mounts(f"""
        mkdir -p "$FOLDER/var"
        mount -t tmpfs -o size={VAR_SIZE_MB}m,mode=755 tmpfs "$FOLDER/var"
        mkdir "$FOLDER/var/upper" "$FOLDER/var/work"
        mount -t overlay overlay -o "lowerdir=$ROOT/var,upperdir=$FOLDER/var/upper,workdir=$FOLDER/var/work" "$ROOT/var"
        cat /dev/zero > "$ROOT/var/{_FILLER}" 2> /dev/null || true
    """)


def _empty_var(machine: Machine) -> None:
    """Take the full file system away, and keep what was written to it, as a cleaned-up disk would."""
    machine.in_mounts('if mountpoint -q "$ROOT/var"; then umount --lazy "$ROOT/var"; fi\n')
    upper = machine.outside() / "var/upper"
    if upper.exists():
        (upper / _FILLER).unlink(missing_ok=True)
        _merge(upper, machine.root() / "var")
    machine.in_mounts('if mountpoint -q "$FOLDER/var"; then umount --lazy "$FOLDER/var"; fi\n')


def _merge(upper: Path, target: Path) -> None:
    """Bring an overlay's upper layer into the folder it lay upon: a 0/0 device there means deleted."""
    for entry in upper.iterdir():
        there = target / entry.name
        info = entry.lstat()
        if stat.S_ISDIR(info.st_mode):
            opaque = "trusted.overlay.opaque" in os.listxattr(entry, follow_symlinks=False)
            if opaque or not there.is_dir() or there.is_symlink():
                _delete(there)
            there.mkdir(exist_ok=True)
            os.chown(there, info.st_uid, info.st_gid)
            there.chmod(stat.S_IMODE(info.st_mode))
            _merge(entry, there)
        elif stat.S_ISCHR(info.st_mode) and info.st_rdev == 0:
            _delete(there)
        elif stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
            if there.is_dir() and not there.is_symlink():
                _delete(there)
            new = there.with_name(f".{there.name}.merged")
            shutil.copy2(entry, new, follow_symlinks=False)
            os.chown(new, info.st_uid, info.st_gid, follow_symlinks=False)
            if not stat.S_ISLNK(info.st_mode):
                new.chmod(stat.S_IMODE(info.st_mode))
            new.replace(there)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


# In the order they are undone in: a frozen host first, power last.
FAULTS: dict[str, Fault] = {
    "hang": Fault("every process of it stands still", _hang, _thaw),
    "rpm-lock": Fault("a process on it holds rpm's lock", _hold_rpm_lock, _release_rpm_lock),
    "full-var": Fault(f"/var has {VAR_SIZE_MB} MB more, all used up", _fill_var, _empty_var),
    "no-repository": Fault("its RPM repositories are empty", _hide_repositories, _show_repositories),
    "refuse-ssh": Fault("new connections to its SSH port are reset", _refuse_ssh, _allow_ssh),
    "new-host-key": Fault("its sshd has another host key", _new_host_key, _restore_key),
    "power-cut": Fault("its cable is pulled, then its power: connections fall silent", _power_cut, _power_back),
    "power-off": Fault("its power is gone: connections are reset", _power_off, _power_back),
}
