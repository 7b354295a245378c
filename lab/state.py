"""What a lab keeps on disk: its record, keys and secrets, all below one folder."""

import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lab.commands import run
from lab.errors import LabError
from lab.spec import BRIDGE_ADDRESS, HostSpec, LabSpec, check_name

LABS = Path("/var/lib/cellstep/labs")
CACHE = Path("/var/cache/cellstep")
RUN = Path("/run/cellstep")
LEFT_BY_A_KILLED_S = 2.0
"""Seconds after which a lock that is still taken is somebody's."""
SECRETS = ("mysql", "mysql_root", "nova", "rabbitmq", "haproxy", "admin")


@dataclass(frozen=True)
class Record:
    """What lab.json says.

    Attributes:
        spec: the lab's size.
        phase: building, complete or removing; anything but complete is a leftover.
        layers: the image's folders, topmost first.
        repositories: the folder of RPM repositories.
        image: digest of what the image was made of.
        cloud: the cloud folder to use with it.
    """

    spec: LabSpec
    phase: str
    layers: tuple[str, ...]
    repositories: str
    image: str
    cloud: str


@dataclass(frozen=True)
class LabFolder:
    """The folder of one lab.

    Args:
        name: the lab's name.
    """

    name: str

    def __post_init__(self) -> None:
        check_name(self.name)

    @property
    def path(self) -> Path:
        """/var/lib/cellstep/labs/NAME."""
        return LABS / self.name

    @property
    def ssh(self) -> Path:
        """Key, known_hosts and the ssh client's configuration."""
        return self.path / "ssh"

    @property
    def shared(self) -> Path:
        """The folder every host sees read-write as /srv/shared."""
        return self.path / "shared"

    def host(self, name: str) -> Path:
        """The folder of one host: its overlay, settings, console log, faults."""
        return self.path / "hosts" / name

    def exists(self) -> bool:
        """Whether anything is there."""
        return self.path.exists()

    def read(self) -> Record | None:
        """The record; None when there is none, or it cannot be read."""
        try:
            raw: dict[str, Any] = json.loads((self.path / "lab.json").read_text(encoding="utf-8"))
            raw["spec"] = LabSpec(**{**raw["spec"], "components": tuple(raw["spec"].get("components", ()))})
            raw["layers"] = tuple(raw["layers"])
            return Record(**raw)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def write(self, record: Record) -> None:
        """Replace the record in one go."""
        write_whole(self.path / "lab.json", json.dumps(asdict(record), indent=1) + "\n", 0o600)

    def complete(self) -> Record:
        """The record of a lab that is up.

        Raises:
            LabError: there is none, or it is not complete.
        """
        record = self.read()
        if record is None or record.phase != "complete":
            raise LabError(f"lab {self.name} is not up: start it with `cellstep lab up`")
        return record

    def secrets(self) -> dict[str, str]:
        """All secrets of the lab, by name."""
        return {f.name: f.read_text(encoding="utf-8").strip() for f in sorted((self.path / "secrets").iterdir())}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep others from building or removing the same lab at once; a killed holder frees it.

        Raises:
            LabError: another process holds it.
        """

        def busy() -> None:
            raise LabError(f"another command is building or removing lab {self.name}: wait for it, then call again")

        with file_lock(RUN / f"{self.name}.lock", busy):
            yield


@contextmanager
def file_lock(path: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold an advisory lock while inside; a holder that is killed frees it.

    Args:
        path: the lock's file; it stays.
        busy: called when another holds it: raises, or else it is waited for, as long as that takes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _got(descriptor):
            busy()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _got(descriptor: int) -> bool:
    """Take the lock, unless somebody keeps it: what a killed holder was about to start has it for a moment."""
    end = time.monotonic() + LEFT_BY_A_KILLED_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        else:
            return True


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file so that a reader finds the old text or the new, never a part; others may write it, too."""
    descriptor, new = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
    Path(new).replace(path)


def make_secrets(folder: LabFolder, names: tuple[str, ...] = SECRETS) -> None:
    """Draw a random secret for every name into secrets/, readable by root only."""
    (folder.path / "secrets").mkdir(mode=0o700, exist_ok=True)
    for name in names:
        write_whole(folder.path / "secrets" / name, secrets.token_urlsafe(18) + "\n", 0o600)


def make_key(path: Path, comment: str) -> str:
    """Make an ed25519 key pair, in place of an old one.

    Returns:
        The public key's line.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return path.with_name(f"{path.name}.pub").read_text(encoding="utf-8").strip()


def write_ssh_files(folder: LabFolder, host_keys: dict[HostSpec, str]) -> None:
    """Write known_hosts (names and addresses) and the configuration for the lab's own ssh calls."""
    known = [f"{host.name},{host.address} {' '.join(key.split()[:2])}" for host, key in host_keys.items()]
    write_whole(folder.ssh / "known_hosts", "\n".join(known) + "\n")
    config = [
        "Host *",
        "  User root",
        f"  IdentityFile {folder.ssh / 'id_ed25519'}",
        "  IdentitiesOnly yes",
        "  BatchMode yes",
        "  StrictHostKeyChecking yes",
        f"  UserKnownHostsFile {folder.ssh / 'known_hosts'}",
        "  GlobalKnownHostsFile /dev/null",
        "  ConnectTimeout 5",
        "  ServerAliveInterval 15",
        "  LogLevel ERROR",
        "Host operator",
        f"  HostName {BRIDGE_ADDRESS}",
    ]
    for host in host_keys:
        config += [f"Host {host.name}", f"  HostName {host.address}", f"  HostKeyAlias {host.name}"]
    # ssh takes the first value it meets, so the hosts' own lines may follow the common ones.
    write_whole(folder.ssh / "config", "\n".join(config) + "\n")
