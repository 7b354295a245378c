"""A full disk."""

import os
import shutil
import stat
from pathlib import Path

from lab.machine import Machine

VAR_SIZE_MB = 60
_FILLER = ".filled-by-the-lab"
# The servers' data are on disks of their own: a database whose files were copied to another place while it has them
# open, and back, would be damaged, which no full disk does.
_OWN_DISKS = ("lib/mysql", "lib/rabbitmq")


def fill_var(machine: Machine) -> None:
    """Lay a full file system over /var: what is there can be read, and nothing can be written."""
    machine.in_mounts(f"""
        mkdir -p "$FOLDER/var" "$FOLDER/disk"
        mount -t tmpfs -o size={VAR_SIZE_MB}m,mode=755 tmpfs "$FOLDER/var"
        mkdir "$FOLDER/var/upper" "$FOLDER/var/work"
        mount --bind --make-private "$ROOT/var" "$FOLDER/disk" # private: what is laid over the one stays off the other
        mount -t overlay overlay -o "lowerdir=$ROOT/var,upperdir=$FOLDER/var/upper,workdir=$FOLDER/var/work" "$ROOT/var"
        for own in {" ".join(_OWN_DISKS)}; do
            [ ! -d "$FOLDER/disk/$own" ] || mount --bind "$FOLDER/disk/$own" "$ROOT/var/$own"
        done
        cat /dev/zero > "$ROOT/var/{_FILLER}" 2> /dev/null || true
    """)


def empty_var(machine: Machine) -> None:
    """Take the full file system away, and keep what was written to it, as a cleaned-up disk would."""
    machine.in_mounts('if mountpoint -q "$ROOT/var"; then umount --recursive --lazy "$ROOT/var"; fi\n')
    upper = machine.outside() / "var/upper"
    if upper.exists():
        (upper / _FILLER).unlink(missing_ok=True)
        merge(upper, machine.root() / "var")
    machine.in_mounts(
        'for m in disk var; do if mountpoint -q "$FOLDER/$m"; then umount --lazy "$FOLDER/$m"; fi; done\n'
    )


def merge(upper: Path, target: Path) -> None:
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
            merge(entry, there)
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
