"""Jump hosts as they are written: ssh_config's ProxyJump, and `jump` in the inventory and cloud.yaml.

`[user@]host[:port]` or `ssh://[user@]host[:port]`, several with commas in the order in which they are gone through,
or `none`; see ssh_config(5). paramiko is not needed here: an inventory is checked without it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_TOKEN = re.compile(r"%(.?)")
# A name or an IPv4 address; OpenSSH's tokens may stand in it.
_HOST = re.compile(r"(?:[A-Za-z0-9_]|%[hnpr%])(?:[A-Za-z0-9._-]|%[hnpr%])*")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._-]+)?")
_USER = re.compile(r"(?:[A-Za-z0-9._\\@+]|%[hnpr%])(?:[A-Za-z0-9._\\@+$-]|%[hnpr%])*")
_PORT = re.compile(r"[0-9]{1,5}")

HOW = "write [user@]host[:port], several with commas, or none"


class JumpError(ValueError):
    """What stands there is no jump host."""


@dataclass(frozen=True)
class Hop:
    """One jump host as it is written; what is None is left to ssh_config.

    Attributes:
        host: name, alias in ssh_config, or address; an IPv6 address without its brackets.
    """

    host: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        user = f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{user}{host}" + (f":{self.port}" if self.port else "")

    def expanded(self, tokens: Mapping[str, str]) -> "Hop":
        """With each `%x` replaced by `tokens["x"]`, and `%%` by a per cent sign."""
        if ":" in self.host:  # a per cent sign begins the zone there: fe80::1%eth0
            return Hop(self.host, self.user and _expand(self.user, tokens), self.port)
        return Hop(_expand(self.host, tokens), self.user and _expand(self.user, tokens), self.port)


def parse(text: str) -> tuple[Hop, ...]:
    """The jump hosts in the order in which they are gone through; none for `none`.

    Raises:
        JumpError: it is not written as ssh_config(5) wants it.
    """
    if text.strip().lower() == "none":
        return ()
    return tuple(_hop(part.strip()) for part in text.split(","))


def written(hops: Iterable[Hop]) -> str:
    """The text for `parse` that means these hosts."""
    return ",".join(map(str, hops)) or "none"


def _hop(text: str) -> Hop:
    rest = text.removeprefix("ssh://").removesuffix("/") if text.startswith("ssh://") else text
    # The last @: a user name may hold one.
    user, at, rest = rest.rpartition("@")
    if rest.startswith("["):
        host, closed, after = rest[1:].partition("]")
        sound = bool(closed) and bool(_IPV6.fullmatch(host))
    else:
        host, colon, after = rest.partition(":")
        after = colon + after
        # A host that is called none means nobody, and is refused where it does not stand alone.
        sound = bool(_HOST.fullmatch(host)) and host.lower() != "none"
    port = after.removeprefix(":")
    if after and not (after.startswith(":") and _PORT.fullmatch(port) and 1 <= int(port) <= 65535):
        sound = False
    if not sound or (at and not _USER.fullmatch(user)):
        raise JumpError(f"'{text[:80]}' is no jump host; {HOW}")
    return Hop(host, user or None, int(port) if port else None)


def _expand(text: str, tokens: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda found: "%" if found[1] == "%" else tokens[found[1]], text)
