"""The condition of a node, as an audit asks for it: boot, kernels, Puppet, monit, files set aside, clock, space."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tasks import clocks

WATCHED = frozenset({"running", "ok", "accessible", "status ok", "online with all services", "initializing", "waiting"})
"""What monit says of a thing with which all is well."""

_MONIT_LINE = re.compile(r"^\s*(?P<kind>[A-Z][a-z]+(?: Host)?)\s+'(?P<name>[^']+)'\s+(?P<state>.+?)\s*$")
# monit 5.26 and later print a table: name, state, type.
_MONIT_ROW = re.compile(r"^\s*(?P<name>\S+)\s{2,}(?P<state>\S.*?)\s{2,}(?P<kind>\S.*?)\s*$")


@dataclass(frozen=True)
class Condition:
    """What a node said.

    Attributes:
        uptime_s: seconds since it booted.
        kernels: the installed ones, oldest first, as `uname -r` would say without the architecture.
        pending: why a reboot is due, where the platform tells.
        set_aside: configuration files that an update set aside, or its own that it put beside the site's.
        puppet_disabled: what the lock file says, None where Puppet is enabled or was not asked for.
        monit: what monit watches and says, name to state; None where it was not asked.
        monit_error: why monit said nothing, "".
        free_mib: folder to (mount point, free MiB).
        offset_s: its clock against this machine's, in seconds; positive is ahead.
        uncertainty_s: the offset may be wrong by so much.
    """

    uptime_s: float
    kernels: tuple[str, ...]
    pending: tuple[str, ...]
    set_aside: tuple[str, ...]
    puppet_disabled: str | None
    monit: Mapping[str, str] | None
    monit_error: str
    free_mib: Mapping[str, tuple[str, int]]
    offset_s: float
    uncertainty_s: float


def parse(sections: Mapping[str, Sequence[str]], between: tuple[float, float]) -> Condition:
    """Read what the script printed.

    Args:
        sections: name to lines.
        between: when it was sent and had ended, by this machine's clock.

    Raises:
        ValueError: it is cut off.
    """
    missing = {"uptime", "kernels", "puppet", "monit", "space", "ended"} - sections.keys()
    if missing or not sections["ended"]:
        raise ValueError("the node's facts are cut off: ask again")
    sent, ended = between
    offset, uncertainty = clocks.offset(sent, float(sections["began"][0]), float(sections["ended"][0]), ended)
    puppet = sections["puppet"]
    monit, error = read_monit(sections["monit"])
    return Condition(
        uptime_s=float(sections["uptime"][0]),
        kernels=tuple(line.split()[-1] for line in sections["kernels"] if line.split()),
        pending=tuple(line.strip() for line in sections["pending"]),
        set_aside=tuple(line.strip() for line in sections["set_aside"]),
        puppet_disabled=" ".join(puppet[1:]).strip() if puppet[:1] == ["disabled"] else None,
        monit=monit,
        monit_error=error,
        free_mib=_free(sections["space"]),
        offset_s=offset,
        uncertainty_s=uncertainty,
    )


def read_monit(lines: Sequence[str]) -> tuple[dict[str, str] | None, str]:
    """What `monit summary` says: name to state, and why there is none.

    The words are those of monit 5 (`Process 'crond' Running`), and of its table since 5.26 (`crond  OK  Process`).
    """
    if not lines:
        return None, ""
    found = {}
    for line in lines:
        match = _MONIT_LINE.match(line) or _MONIT_ROW.match(line)
        if match and match["kind"] != "Type":
            found[match["name"]] = match["state"]
    return (found, "") if found else (None, lines[-1].strip() or "said nothing")


def _free(lines: Sequence[str]) -> dict[str, tuple[str, int]]:
    rows = [line.split("\t") for line in lines]
    return {path: (mount, int(free) // 1024) for path, mount, free in (row for row in rows if len(row) == 3)}
