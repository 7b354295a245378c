"""Looking for secrets where they must not be: in process lists while something runs, and in files afterwards."""

import base64
import gzip
import io
import sqlite3
import threading
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from lab.control import machine
from lab.state import LabFolder
from tests.support.labs import TestLab

SHORTEST = 8
LOOK_EVERY_S = 0.05


def secrets_of(lab: TestLab) -> dict[str, list[bytes]]:
    """The lab's passwords and the operator's private key: name to all the forms that count.

    A password counts plain, as in a URL, and in base64; a key by each of its lines.
    """
    found: dict[str, list[bytes]] = {}
    for name, word in LabFolder(lab.name).secrets().items():
        assert len(word) >= SHORTEST, f"the secret {name} is so short that it may be anywhere"
        forms = {word.encode(), quote(word, safe="").encode(), base64.b64encode(word.encode())}
        found[f"password {name}"] = sorted(forms)
    key = (LabFolder(lab.name).ssh / "id_ed25519").read_bytes().splitlines()
    # The first lines of every such key are alike: what is in them is its kind.
    found["the operator's key"] = [line for line in key[2:-1] if len(line) >= SHORTEST]
    assert found["the operator's key"]
    return found


def contains(content: bytes, secrets: Mapping[str, Iterable[bytes]]) -> list[str]:
    """The names of the secrets that are in it."""
    return [name for name, forms in secrets.items() if any(form in content for form in forms)]


@dataclass
class Sightings:
    """What was seen in the process lists.

    Attributes:
        leaks: lines: which secret, where.
        programs: how many processes of each program or script were seen.
        environments: how many environments were read.
    """

    leaks: set[str] = field(default_factory=set)
    programs: Counter[str] = field(default_factory=Counter)
    environments: int = 0


@contextmanager
def watching(secrets: Mapping[str, Iterable[bytes]]) -> Iterator[Sightings]:
    """Meanwhile, look again and again at each process's arguments and environment: also those of the lab's hosts."""
    seen = Sightings()
    known: set[tuple[int, bytes]] = set()
    enough = threading.Event()

    def look() -> None:
        while not enough.wait(LOOK_EVERY_S):
            for process in Path("/proc").glob("[0-9]*"):
                _look_at(process, secrets, seen, known)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        enough.set()
        watcher.join()


def _look_at(
    process: Path, secrets: Mapping[str, Iterable[bytes]], seen: Sightings, known: set[tuple[int, bytes]]
) -> None:
    try:
        line = (process / "cmdline").read_bytes()
        if not line or (int(process.name), line) in known:
            return
        known.add((int(process.name), line))
        environment = (process / "environ").read_bytes()
    except OSError:  # it has ended
        return
    words = line.decode(errors="replace").split("\0")
    # Of a script the second word is its name.
    seen.programs.update({word.rpartition("/")[2] for word in words[:2]})
    seen.environments += 1
    for where, content in (("arguments", line), ("environment", environment)):
        for name in contains(content, secrets):
            seen.leaks.add(f"{name} in the {where} of `{' '.join(words)[:60]}`")


@dataclass
class Found:
    """What a search found.

    Attributes:
        leaks: `file: secrets` where none may be.
        belongs: `file: secrets` where it belongs.
        files: how many were read.
    """

    leaks: list[str] = field(default_factory=list)
    belongs: list[str] = field(default_factory=list)
    files: int = 0

    def look(self, name: str, contents: Iterable[bytes], secrets: Mapping[str, Iterable[bytes]], *, own: bool) -> None:
        """Take a file into account; `own` says that a secret may be in it."""
        self.files += 1
        names = sorted({secret for content in contents for secret in contains(content, secrets)})
        if names:
            (self.belongs if own else self.leaks).append(f"{name}: {', '.join(names)}")


def search(
    name: str,
    folder: Path,
    secrets: Mapping[str, Iterable[bytes]],
    belongs: Iterable[str] = (),
    found: Found | None = None,
) -> Found:
    """Search all files below a folder, also what is packed in them.

    Args:
        name: the folder's, in what is found.
        folder: where.
        secrets: name to forms.
        belongs: paths below the folder, with shell patterns, where secrets may be.
        found: taken further.
    """
    found = found or Found()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        inside = path.relative_to(folder)
        own = any(inside.match(pattern) or inside.is_relative_to(pattern) for pattern in belongs)
        found.look(f"{name}/{inside}", _contents(path), secrets, own=own)
    return found


def _contents(path: Path) -> list[bytes]:
    """A file as it is, and what is packed in it."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:  # it was there a moment ago
        return []
    if raw.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            return [raw, *(packed.read(name) for name in packed.namelist())]
    if raw.startswith(b"\x1f\x8b"):
        return [raw, gzip.decompress(raw)]
    if raw.startswith(b"SQLite format 3\0"):
        # A long value is in several places of the file: as SQL it is in one piece.
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            return [raw, "\n".join(database.iterdump()).encode()]
    return [raw]


# On a host, what is its own: the stand-ins' and the servers' settings and data. A dump has what its database has.
HOSTS_OWN = (
    "etc/nova/nova.conf",
    "etc/nova/nova.conf.rpm*",
    "etc/keystone/keystone.conf",
    "root/openrc",
    "var/lib/mysql",
    "var/lib/rabbitmq",
    "var/lib/cellstep/backups/*/*.sql.gz",
)
CLOUDS_OWN = ("out/*/backup/*/*.sql.gz",)


def search_lab(lab: TestLab) -> Found:
    """Search the cloud's folder, what the controllers printed, and all that was written on any host since its birth."""
    secrets = secrets_of(lab)
    found = search("cloud", lab.cloud, secrets, CLOUDS_OWN)
    search("printed", LabFolder(lab.name).path / "controllers", secrets, (), found)
    for host in lab.spec.hosts():
        upper = machine(lab.name, host.name).outside() / "upper"
        search(host.name, upper, secrets, HOSTS_OWN, found)
        # Fields that are no text have their length before them, in bytes that are no UTF-8.
        export = "journalctl --no-pager --quiet --all --output=export | LC_ALL=C tr -c '[:print:]\\n' '?'"
        printed = lab.on(host.name, export)
        found.look(f"{host.name}: journalctl", [printed.encode()], secrets, own=False)
    return found
