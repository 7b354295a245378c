"""Faults of the keys of SSH: the host's own, and the operator's."""

import shutil

from lab.machine import Machine
from lab.state import make_key, write_whole

_KEY = "etc/ssh/ssh_host_ed25519_key"
_AUTHORIZED = "root/.ssh/authorized_keys"


def new_host_key(machine: Machine) -> None:
    """Give its sshd a host key nobody knows."""
    kept = machine.folder / "host-key-before"
    if not kept.exists():
        shutil.copy2(machine.root() / _KEY, kept)
    new = machine.folder / "host-key-new"
    public = make_key(new, machine.host.name)
    _install_key(machine, new.read_text(encoding="utf-8"), public)
    new.unlink()
    new.with_name("host-key-new.pub").unlink()


def old_host_key(machine: Machine) -> None:
    """Give it back the key that known_hosts has."""
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


def refuse(machine: Machine) -> None:
    """Empty root's authorized_keys: new logins are refused, open connections stay."""
    kept = machine.folder / "authorized-keys-before"
    if not kept.exists():
        write_whole(kept, (machine.root() / _AUTHORIZED).read_text(encoding="utf-8"), 0o600)
    write_whole(machine.root() / _AUTHORIZED, "", 0o600)


def accept(machine: Machine) -> None:
    """Put them back."""
    kept = machine.folder / "authorized-keys-before"
    if kept.exists():
        write_whole(machine.root() / _AUTHORIZED, kept.read_text(encoding="utf-8"), 0o600)
        kept.unlink()
