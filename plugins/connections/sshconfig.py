"""Where and as whom to log in: Nornir's connection options and an ssh_config, made into one `Settings`."""

import getpass
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from plugins.connections.errors import AuthenticationRefused

DEFAULT_KEYS = ("~/.ssh/id_ed25519", "~/.ssh/id_ecdsa", "~/.ssh/id_rsa")
DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")


@dataclass(frozen=True)
class Settings:
    """How one host is reached. Times are in seconds; the password is never shown.

    Attributes:
        host: the name the operator knows, for messages.
        address: what is connected to; also the name looked up in known_hosts unless host_key_alias is given.
        key_files: tried in this order, before the agent's keys.
        known_hosts: read all; with accept_new, a new key is appended to the first.
        keepalive_interval: an idle connection is asked for a sign of life so often; after three
            intervals without any it is given up.
    """

    host: str
    address: str
    port: int
    username: str
    password: str | None = field(default=None, repr=False)
    key_files: tuple[Path, ...] = ()
    use_agent: bool = True
    known_hosts: tuple[Path, ...] = ()
    host_key_alias: str | None = None
    accept_new: bool = False
    sudo: bool = False
    connect_timeout: float = 5.0
    banner_timeout: float = 10.0
    auth_timeout: float = 10.0
    command_timeout: float = 60.0
    keepalive_interval: float = 5.0
    legacy_algorithms: bool = False

    @property
    def where(self) -> str:
        """The host for messages, with address and port where these say more: `c01-n01 (10.0.0.1 port 22)`."""
        if self.address == self.host:
            return self.host if self.port == 22 else f"{self.host} port {self.port}"
        return f"{self.host} ({self.address} port {self.port})"

    @property
    def host_key_name(self) -> str:
        """The name under which OpenSSH keeps the host's key: `host`, or `[host]:port` off port 22."""
        if self.host_key_alias:
            return self.host_key_alias
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"


_EXTRAS = frozenset(
    {
        "key_file",
        "known_hosts",
        "ssh_config",
        "host_keys",
        "sudo",
        "connect_timeout",
        "banner_timeout",
        "auth_timeout",
        "command_timeout",
        "keepalive_interval",
        "legacy_algorithms",
    }
)
_TIMES = ("connect_timeout", "banner_timeout", "auth_timeout", "command_timeout", "keepalive_interval")

_lock = threading.Lock()
_configs: dict[Path, paramiko.SSHConfig] = {}
_keys: dict[Path, tuple[int, paramiko.PKey]] = {}


def settings(
    hostname: str,
    username: str | None = None,
    password: str | None = None,
    port: int | None = None,
    extras: dict[str, Any] | None = None,
) -> Settings:
    """Nornir's connection options as Settings; what they leave open is taken from ssh_config, then defaults.

    Args:
        hostname: address or ssh_config alias of the host.
        username: login name; else ssh_config's User, else the caller's own.
        password: tried after all keys.
        port: else ssh_config's Port, else 22.
        extras: any of key_file, known_hosts, ssh_config, host_keys (`strict` or `accept-new`), sudo,
            connect_timeout, banner_timeout, auth_timeout, command_timeout, keepalive_interval (seconds),
            legacy_algorithms.

    Raises:
        ValueError: an extra that is not one of these, or a value it cannot have.
    """
    extras = dict(extras or {})
    if unknown := sorted(extras.keys() - _EXTRAS):
        raise ValueError(f"cellstep_ssh has no option {', '.join(unknown)}; it has {', '.join(sorted(_EXTRAS))}")
    host_keys = extras.get("host_keys") or "strict"
    if host_keys not in ("strict", "accept-new"):
        raise ValueError(f"host_keys is {host_keys!r}; write strict or accept-new")
    times = {name: float(extras[name]) for name in _TIMES if extras.get(name) is not None}
    if wrong := [name for name, value in times.items() if value <= 0]:
        raise ValueError(f"{', '.join(wrong)} must be more than 0 seconds")

    found: dict[str, Any] = {}
    if extras.get("ssh_config"):
        found = dict(_config(_path(extras["ssh_config"])).lookup(hostname))
    if extras.get("key_file"):
        keys: tuple[Path, ...] = (_path(extras["key_file"]),)
    else:
        # As OpenSSH does: a default or configured key which is not there is no fault.
        names = found.get("identityfile") or DEFAULT_KEYS
        keys = tuple(path for path in map(_path, names) if path.exists())
    if extras.get("known_hosts"):
        known_hosts: tuple[Path, ...] = (_path(extras["known_hosts"]),)
    else:
        written = str(found.get("userknownhostsfile", "")).split()
        known_hosts = tuple(map(_path, written or DEFAULT_KNOWN_HOSTS))
    return Settings(
        host=hostname,
        address=str(found.get("hostname", hostname)),
        port=int(port or found.get("port", 22)),
        username=str(username or found.get("user") or getpass.getuser()),
        password=password,
        key_files=keys,
        use_agent=str(found.get("identitiesonly", "no")).lower() != "yes",
        known_hosts=known_hosts,
        host_key_alias=found.get("hostkeyalias"),
        accept_new=host_keys == "accept-new",
        sudo=bool(extras.get("sudo")),
        legacy_algorithms=bool(extras.get("legacy_algorithms")),
        **times,
    )


def private_key(path: Path, where: str) -> paramiko.PKey:
    """The private key in a file; read once for all hosts, again when the file changes.

    Raises:
        AuthenticationRefused: there is no such file, it is no private key, or it has a passphrase.
    """
    try:
        changed = path.stat().st_mtime_ns
        with _lock:
            known = _keys.get(path)
            if known and known[0] == changed:
                return known[1]
            key = paramiko.PKey.from_path(str(path))
            _keys[path] = (changed, key)
            return key
    except OSError as error:
        raise AuthenticationRefused(f"{where}: cannot read the key {path}: {error.strerror}") from error
    except (paramiko.PasswordRequiredException, TypeError) as error:
        # cryptography says TypeError where a passphrase is needed.
        raise AuthenticationRefused(
            f"{where}: the key {path} has a passphrase; add it to the SSH agent (ssh-add) instead"
        ) from error
    except (ValueError, UnsupportedAlgorithm, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as error:
        raise AuthenticationRefused(f"{where}: {path} is not a private key that can be used here") from error


def _config(path: Path) -> paramiko.SSHConfig:
    """The parsed ssh_config; once per path and process."""
    with _lock:
        if path not in _configs:
            try:
                _configs[path] = paramiko.SSHConfig.from_path(str(path))
            except OSError as error:
                raise ValueError(f"cannot read ssh_config {path}: {error.strerror}") from error
            except paramiko.ConfigParseError as error:
                raise ValueError(f"{path} is not an ssh_config: {error}") from error
        return _configs[path]


def _path(name: str | os.PathLike[str]) -> Path:
    return Path(name).expanduser()
