"""Where and as whom to log in: Nornir's connection options and an ssh_config, made into one `Settings`."""

import getpass
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from plugins.connections import jump
from plugins.connections.errors import AuthenticationRefused, Unreachable
from plugins.connections.shells import SHELLS

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
        shell: of `plugins.connections.shells.SHELLS`: what runs a command there.
        jump: the jump host to go through, which may have one before it.
        is_jump: this is a jump host itself.
        jump_connections: of a jump host: how many connections may go through it at once.
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
    shell: str = "bash"
    jump: "Settings | None" = None
    is_jump: bool = False
    jump_connections: int = 50

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
        "shell",
        "jump",
        "jump_connections",
        "jump_username",
    }
)
_TIMES = ("connect_timeout", "banner_timeout", "auth_timeout", "keepalive_interval", "command_timeout")

_lock = threading.Lock()
_configs: dict[Path, "_SshConfig"] = {}
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
            legacy_algorithms, shell (one of `plugins.connections.shells.SHELLS`), jump (as ssh_config's ProxyJump,
            which it goes before), jump_connections (through one jump host at once), jump_username (for jump hosts
            that are written without one and have none in ssh_config).

    Raises:
        ValueError: an extra that is not one of these, or a value it cannot have.
        Unreachable: ssh_config says a way to the host that cannot be gone.
    """
    extras = dict(extras or {})
    if unknown := sorted(extras.keys() - _EXTRAS):
        raise ValueError(f"cellstep_ssh has no option {', '.join(unknown)}; it has {', '.join(sorted(_EXTRAS))}")
    host_keys = extras.get("host_keys") or "strict"
    if host_keys not in ("strict", "accept-new"):
        raise ValueError(f"host_keys is {host_keys!r}; write strict or accept-new")
    shell = str(extras.get("shell") or "bash")
    if shell not in SHELLS:
        raise ValueError(f"shell is {shell!r}; write one of {', '.join(SHELLS)}")
    times: dict[str, Any] = {name: float(extras[name]) for name in _TIMES if extras.get(name) is not None}
    if wrong := [name for name, value in times.items() if value <= 0]:
        raise ValueError(f"{', '.join(wrong)} must be more than 0 seconds")

    found = _found(hostname, extras)
    if extras.get("key_file"):
        keys: tuple[Path, ...] = (_path(extras["key_file"]),)
    else:
        keys = _there(found.get("identityfile") or DEFAULT_KEYS)
    return _Ways(extras).to(
        Settings(
            host=hostname,
            address=str(found.get("hostname", hostname)),
            port=int(port or found.get("port", 22)),
            username=str(username or found.get("user") or getpass.getuser()),
            password=password,
            key_files=keys,
            use_agent=_uses_agent(found),
            known_hosts=_known_hosts(found, extras),
            host_key_alias=found.get("hostkeyalias"),
            accept_new=host_keys == "accept-new",
            sudo=bool(extras.get("sudo")),
            legacy_algorithms=bool(extras.get("legacy_algorithms")),
            shell=shell,
            **times,
        ),
        found,
    )


class _Ways:
    """The jump hosts before a host, by the rules of ssh_config(5) and `ssh -J`.

    A host that is its own jump host is reached by those before it: one entry for a whole cell may so name a node
    of it.
    """

    def __init__(self, extras: dict[str, Any]) -> None:
        self._extras = extras
        given = extras.get("jump_connections")
        self._connections = Settings.jump_connections if given is None else int(given)
        if self._connections < 1:
            raise ValueError(f"jump_connections is {self._connections}; write 1 or more")

    def to(self, host: Settings, found: dict[str, Any]) -> Settings:
        """The host with its jump hosts.

        Args:
            host: without them.
            found: what ssh_config has for it.
        """
        if (written := self._extras.get("jump")) is not None:
            hops = jump.parse(str(written))
        else:
            hops = self._configured(host, found)
        return replace(host, jump=self._last(hops, host, (host,)))

    def _configured(self, host: Settings, found: dict[str, Any]) -> tuple[jump.Hop, ...]:
        """What ssh_config has: of ProxyJump and ProxyCommand, that which stands first."""
        first = next((key for key in found if key in ("proxyjump", "proxycommand")), None)
        if first is None or found[first] is None:  # None is paramiko's `ProxyCommand none`
            return ()
        file = self._extras["ssh_config"]
        if first == "proxycommand":
            raise Unreachable(
                f"{host.where}: {file} has a ProxyCommand for it, which is not supported; write ProxyJump there, "
                "or jump in the inventory (jump: none connects directly)"
            )
        try:
            # ssh allows a comment behind a value, and paramiko leaves it there.
            return jump.parse(found[first].partition(" #")[0])
        except jump.JumpError as error:
            raise Unreachable(f"{host.where}: ProxyJump in {file}: {error}") from None

    def _last(self, hops: tuple[jump.Hop, ...], host: Settings, seen: tuple[Settings, ...]) -> Settings | None:
        """The last of the jump hosts, each with the one before it; None where there are none."""
        tokens = {"h": host.address, "n": host.host, "p": str(host.port), "r": host.username}
        before: Settings | None = None
        for position, written in enumerate(hops):
            hop = written.expanded(tokens)
            found = _found(hop.host, self._extras)
            this = self._settings(hop, found)
            if (this.address, this.port) == (host.address, host.port):
                return before
            if position == 0:
                # As for ssh -J: ssh_config says how the first is reached, the list how the others are.
                if any((this.address, this.port) == (other.address, other.port) for other in seen):
                    circle = ", ".join(one.host for one in (*seen, this))
                    raise Unreachable(
                        f"{host.where}: its jump hosts go round in a circle ({circle}); mend ProxyJump in "
                        f"{self._extras.get('ssh_config')}"
                    )
                before = self._last(self._configured(this, found), this, (*seen, this))
            before = replace(this, jump=before)
        return before

    def _settings(self, hop: jump.Hop, found: dict[str, Any]) -> Settings:
        """A jump host's own login: what is written, then its ssh_config, then what all hosts have."""
        extras = self._extras
        keys = _there(found.get("identityfile") or ())
        if extras.get("key_file"):
            keys += (_path(extras["key_file"]),)
        # Without command_timeout: a jump host runs none, and hosts which differ in it alone share its connection.
        times: dict[str, Any] = {name: float(extras[name]) for name in _TIMES[:-1] if extras.get(name) is not None}
        return Settings(
            host=hop.host,
            address=str(found.get("hostname", hop.host)),
            port=int(hop.port or found.get("port", 22)),
            username=str(hop.user or found.get("user") or extras.get("jump_username") or getpass.getuser()),
            key_files=keys or _there(DEFAULT_KEYS),
            use_agent=_uses_agent(found),
            known_hosts=_known_hosts(found, extras),
            host_key_alias=found.get("hostkeyalias"),
            accept_new=extras.get("host_keys") == "accept-new",
            legacy_algorithms=_is_old(found),
            is_jump=True,
            jump_connections=self._connections,
            **times,
        )


def _found(hostname: str, extras: dict[str, Any]) -> dict[str, Any]:
    """What ssh_config has for a host."""
    return dict(_config(_path(extras["ssh_config"])).lookup(hostname)) if extras.get("ssh_config") else {}


def _there(names: Iterable[str]) -> tuple[Path, ...]:
    """As OpenSSH does: a default or configured key which is not there is no fault."""
    return tuple(path for path in map(_path, names) if path.exists())


def _known_hosts(found: dict[str, Any], extras: dict[str, Any]) -> tuple[Path, ...]:
    if extras.get("known_hosts"):
        return (_path(extras["known_hosts"]),)
    written = str(found.get("userknownhostsfile", "")).split()
    return tuple(map(_path, written or DEFAULT_KNOWN_HOSTS))


def _uses_agent(found: dict[str, Any]) -> bool:
    return str(found.get("identitiesonly", "no")).lower() != "yes"


def _is_old(found: dict[str, Any]) -> bool:
    """Whether ssh_config allows SHA-1 for the host, as `ssh` itself needs it for an EL6 sshd."""
    signatures = ("hostkeyalgorithms", "pubkeyacceptedalgorithms", "pubkeyacceptedkeytypes")
    return any("ssh-rsa" in str(found.get(name, "")) for name in signatures) or "sha1" in str(
        found.get("kexalgorithms", "")
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


class _SshConfig(paramiko.SSHConfig):
    """Leaves ProxyJump's tokens alone: paramiko knows neither %n nor %%, nor the login that the inventory gives."""

    def __init__(self) -> None:
        super().__init__()
        self.TOKENS_BY_CONFIG_KEY = {**self.TOKENS_BY_CONFIG_KEY, "proxyjump": []}


def _config(path: Path) -> _SshConfig:
    """The parsed ssh_config; once per path and process."""
    with _lock:
        if path not in _configs:
            try:
                _configs[path] = _SshConfig.from_path(str(path))
            except OSError as error:
                raise ValueError(f"cannot read ssh_config {path}: {error.strerror}") from error
            except paramiko.ConfigParseError as error:
                raise ValueError(f"{path} is not an ssh_config: {error}") from error
        return _configs[path]


def _path(name: str | os.PathLike[str]) -> Path:
    return Path(name).expanduser()
