"""Host keys: OpenSSH's known_hosts files, read once for thousands of hosts.

`paramiko.HostKeys` compares each line with all before it, which takes seconds for a fleet; here a plain name
is one look-up in a dict. Formats as in sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT": names, patterns,
`[host]:port`, hashed names, `@revoked`; `@cert-authority` lines are left out: host certificates are not used.
"""

import base64
import fcntl
import fnmatch
import hashlib
import hmac
import os
import threading
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

from plugins.connections.errors import HostKeyRefused
from plugins.connections.sshconfig import Settings


@dataclass(frozen=True)
class KnownKey:
    """One key of a known_hosts file.

    Attributes:
        kind: its type, such as `ssh-ed25519`.
        blob: the public key, base64 as written.
        place: `file:line`.
    """

    kind: str
    blob: str
    place: str
    revoked: bool = False

    @property
    def fingerprint(self) -> str:
        """As OpenSSH shows it: `SHA256:` and base64 without padding."""
        return fingerprint(base64.b64decode(self.blob))


@dataclass
class KnownHosts:
    """The keys of one file, by name.

    Attributes:
        plain: keys by exact name.
        patterns: lines with `*`, `?` or `!`.
        hashed: lines whose name is hashed: salt, digest, key.
    """

    plain: dict[str, list[KnownKey]] = field(default_factory=lambda: defaultdict(list))
    patterns: list[tuple[list[str], KnownKey]] = field(default_factory=list)
    hashed: list[tuple[bytes, bytes, KnownKey]] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str, file: str = "known_hosts") -> "KnownHosts":
        """Read a known_hosts file's text. Lines which are not understood are passed over, as ssh does."""
        self = cls()
        for number, line in enumerate(text.splitlines(), 1):
            self.add_line(line, f"{file}:{number}")
        return self

    def add_line(self, line: str, place: str) -> None:
        """Take up one line."""
        fields = line.split()
        marker = fields.pop(0) if fields and fields[0].startswith("@") else ""
        if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):
            return
        names, kind, blob = fields[:3]
        try:
            base64.b64decode(blob, validate=True)
            key = KnownKey(kind, blob, place, revoked=bool(marker))
            if names.startswith("|1|"):
                salt, digest = (base64.b64decode(part, validate=True) for part in names[3:].split("|"))
                self.hashed.append((salt, digest, key))
                return
        except ValueError:
            return
        parts = names.split(",")
        if any(character in names for character in "*?!"):
            self.patterns.append((parts, key))
            return
        for name in parts:
            self.plain[name.lower()].append(key)

    def lookup(self, name: str) -> list[KnownKey]:
        """All keys for a name (`host` or `[host]:port`), in no particular order."""
        name = name.lower()
        found = list(self.plain.get(name, ()))
        found += [key for patterns, key in self.patterns if _matches(patterns, name)]
        encoded = name.encode()
        for salt, digest, key in self.hashed:
            if hmac.compare_digest(hmac.digest(salt, encoded, "sha1"), digest):
                found.append(key)
        return found


def fingerprint(public: bytes) -> str:
    """A public key's fingerprint as OpenSSH shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")


def known_keys(settings: Settings) -> list[KnownKey]:
    """What the host's known_hosts files say of it; a file which is not there says nothing."""
    with _lock:
        return [key for path in settings.known_hosts for key in _load(path).lookup(settings.host_key_name)]


def check(settings: Settings, key: paramiko.PKey) -> None:
    """Let a host's key pass if it is known; take it up if it is new and new ones are accepted.

    Raises:
        HostKeyRefused: the key is revoked, has changed, or is unknown and host keys are strict.
    """
    known = known_keys(settings)
    if _is_known(settings, key, known):
        return
    if not settings.accept_new:
        raise HostKeyRefused(
            f"{settings.where}: its {key.get_name()} host key {fingerprint(key.asbytes())} is not in "
            f"{_files(settings)}; compare it on the host's console (ssh-keygen -lf "
            "/etc/ssh/ssh_host_*_key.pub) and add it, or set host_keys: accept-new for the first login"
        )
    _accept(settings, key)


def _is_known(settings: Settings, key: paramiko.PKey, known: list[KnownKey]) -> bool:
    """Whether the key is among the known; False for a host nothing is known of."""
    blob = key.get_base64()
    shown = f"{key.get_name()} {fingerprint(key.asbytes())}"
    if revoked := [entry for entry in known if entry.revoked and entry.blob == blob]:
        raise HostKeyRefused(f"{settings.where}: its host key {shown} is revoked in {revoked[0].place}")
    valid = [entry for entry in known if not entry.revoked]
    if any(entry.blob == blob for entry in valid):
        return True
    if valid:
        expected = next((entry for entry in valid if entry.kind == key.get_name()), valid[0])
        raise HostKeyRefused(
            f"{settings.where}: its host key has CHANGED: it shows {shown}, {expected.place} has "
            f"{expected.kind} {expected.fingerprint}; if the host was installed anew, remove the old key "
            f"(ssh-keygen -R '{settings.host_key_name}' -f {expected.place.rsplit(':', 1)[0]}), otherwise "
            "somebody may sit in between"
        )
    return False


def _accept(settings: Settings, key: paramiko.PKey) -> None:
    """Append a new host's key to the first known_hosts file; under a lock on the file, in one write."""
    path = settings.known_hosts[0]
    line = f"{settings.host_key_name} {key.get_name()} {key.get_base64()}\n".encode()
    with _lock:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another process may have learnt this host, or another key for it, before the lock was ours.
            hosts = _load(path)
            if _is_known(settings, key, hosts.lookup(settings.host_key_name)):
                return
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            os.write(descriptor, line)
            # Taken up here too, so that accepting a fleet does not read the file again for each host.
            hosts.add_line(line.decode().strip(), f"{path}:new")
            _cache[path] = (_stamp(path), hosts)
        finally:
            os.close(descriptor)


_lock = threading.RLock()
_cache: dict[Path, tuple[tuple[int, int, int] | None, KnownHosts]] = {}


def _load(path: Path) -> KnownHosts:
    """The file's keys, read again only when the file has changed. The caller holds the lock."""
    stamp = _stamp(path)
    known = _cache.get(path)
    if known is None or known[0] != stamp:
        text = path.read_text(errors="replace") if stamp else ""
        known = _cache[path] = (stamp, KnownHosts.parse(text, str(path)))
    return known[1]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _matches(patterns: list[str], name: str) -> bool:
    """Whether a line's patterns mean the name; a `!pattern` that matches excludes it."""
    if any(fnmatch.fnmatchcase(name, _glob(pattern[1:])) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(fnmatch.fnmatchcase(name, _glob(pattern)) for pattern in patterns if not pattern.startswith("!"))


def _glob(pattern: str) -> str:
    """OpenSSH's pattern for fnmatch, where brackets would be a set: `[host]:2222` is meant literally."""
    return pattern.lower().replace("[", "[[]")


def _files(settings: Settings) -> str:
    return " or ".join(map(str, settings.known_hosts))
