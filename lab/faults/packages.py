"""Faults of rpm and yum: a held lock, a database that cannot be read, repositories that are not there."""

import contextlib
import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from lab.cgroups import end_process
from lab.commands import wait_until
from lab.errors import LabError
from lab.machine import Machine

_LOCK = "var/lib/rpm/.rpm.lock"
_LOCK_HOLDER = "cellstep-holds-the-rpm-lock"
_LOCK_SCRIPT = f"""
import fcntl, signal
lock = open('/{_LOCK}', 'a')  # {_LOCK_HOLDER}
fcntl.lockf(lock, fcntl.LOCK_EX)
signal.pause()
"""
_LOCK_WAIT_S = 60
_DATABASE = "var/lib/rpm/rpmdb.sqlite"
_BESIDE = ("-wal", "-shm")  # sqlite's own files beside it


def hide(machine: Machine) -> None:
    """Lay an empty folder over the repositories."""
    machine.in_mounts('mkdir -p "$FOLDER/empty"; mount --bind "$FOLDER/empty" "$ROOT/srv/repositories"\n')


def show(machine: Machine) -> None:
    """Take it away."""
    # Mounted is the repositories' folder itself, and over it, with the fault, the empty one.
    machine.in_mounts(
        '[ "$(findmnt --noheadings --output TARGET "$ROOT/srv/repositories" | wc -l)" -lt 2 ] || '
        'umount --lazy "$ROOT/srv/repositories"\n'
    )


def hold_lock(machine: Machine) -> None:
    """Have a process of the host take rpm's lock and keep it."""
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
        timeout=_LOCK_WAIT_S,
        what=f"rpm's lock on {machine.host.name} (is an update running there?)",
    )
    if holder.poll() is not None:
        raise LabError(f"cannot hold rpm's lock on {machine.host.name}: the holder ended with {holder.returncode}")


def release_lock(machine: Machine) -> None:
    """End that process."""
    for pid in _lock_holders(machine):
        end_process(pid)


def _locked(machine: Machine) -> bool:
    """Whether a process of the host holds a lock on rpm's file; /proc/locks tells by inode."""
    try:
        inode = (machine.root() / _LOCK).stat().st_ino
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


def break_database(machine: Machine) -> None:
    """Put rubbish where the database was, between two transactions."""
    database = machine.root() / _DATABASE
    if not database.exists():
        raise LabError(f"{machine.host.name} has no RPM database: nothing was ever installed there")
    kept = _kept(machine)
    with _own_lock(machine):
        if not kept.exists():
            new = kept.with_name(f"{kept.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            for path in (database, database.with_name(f"{database.name}-wal")):
                if path.exists():
                    shutil.copy2(path, new / path.name)
            new.rename(kept)
        rubbish = database.with_name(".rpmdb.new")
        rubbish.write_bytes(os.urandom(4096) + (kept / database.name).read_bytes()[4096:])
        _swap(database, rubbish)


def mend(machine: Machine) -> None:
    """Put the database back as it was."""
    kept, database = _kept(machine), machine.root() / _DATABASE
    if not kept.exists():
        return
    new = database.with_name(".rpmdb.new")
    shutil.copy2(kept / database.name, new)
    _swap(database, new)
    wal = kept / f"{database.name}-wal"
    if wal.exists():
        shutil.copy2(wal, database.with_name(wal.name))
    shutil.rmtree(kept)


def _swap(database: Path, new: Path) -> None:
    """One database for another: nothing that sqlite noted about the old one may be taken for the new one's."""
    for suffix in _BESIDE:
        database.with_name(f"{database.name}{suffix}").unlink(missing_ok=True)
    new.replace(database)


def _kept(machine: Machine) -> Path:
    return machine.folder / "rpmdb-before"


@contextlib.contextmanager
def _own_lock(machine: Machine) -> Iterator[None]:
    """Hold rpm's lock from outside: no transaction is under way meanwhile."""
    with (machine.root() / _LOCK).open("a") as lock:

        def taken() -> bool:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                return False
            return True

        wait_until(
            taken,
            timeout=_LOCK_WAIT_S,
            what=f"rpm's lock on {machine.host.name} (is an update running there, or the fault rpm-lock in place?)",
        )
        yield
