"""Everything that the verification asks of a node, brought back by one command."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from nornir.core.task import Task

from tasks.packages import EVR
from tasks.services import STATES, parse_states
from tasks.shell import sh

TICKS_PER_SECOND = 100
"""USER_HZ: what Linux shows to programs on every platform here, whatever the kernel's own rate."""

# A guest is a process of qemu with `-uuid X`; its start is field 22 of /proc/PID/stat, in ticks since the boot. The
# process's name (field 2) may hold spaces and parentheses, so the fields are counted after the last one.
GUESTS = r"""
while read -r key value _; do [ "$key" = btime ] && echo "btime $value"; done < /proc/stat
for dir in /proc/[0-9]*; do
  [ -r "$dir/cmdline" ] || continue
  words=(); while IFS= read -r -d '' word; do words+=("$word"); done < "$dir/cmdline" 2>/dev/null
  uuid=; qemu=
  for ((i = 0; i < ${#words[@]}; i++)); do
    case "${words[i]}" in *qemu*) ((i < 2)) && qemu=1;; -uuid) uuid=${words[i+1]};; esac
  done
  [ -n "$qemu" ] && [ -n "$uuid" ] || continue
  stat=$(cat "$dir/stat" 2>/dev/null) || continue
  set -- ${stat##*) }
  echo "guest $uuid ${20}"
done
"""


@dataclass(frozen=True)
class Guest:
    """A running guest: its uuid, and its process's start in ticks since the node's boot and in seconds since 1970."""

    uuid: str
    start_ticks: int
    started: float


@dataclass(frozen=True)
class Facts:
    """What a node says of itself.

    Attributes:
        boot_id: another one after each boot.
        kernel: the running kernel (`uname -r`).
        packages: package name to the installed versions, `[epoch:]version-release`; shared, so only to be read.
        services: service to {actual: running|stopped, boot: on|off}; those that are not installed are not in it.
        guests: the running guests.
    """

    boot_id: str
    kernel: str
    packages: dict[str, list[str]]
    services: dict[str, dict[str, str]]
    guests: list[Guest] = field(default_factory=list)


def ask_node(task: Task, services: Sequence[str]) -> Facts:
    """Bring everything from the node with one command.

    Args:
        task: the Nornir task.
        services: the services to ask for.
    """
    script = f"""
echo '@boot_id'; cat /proc/sys/kernel/random/boot_id; uname -r
echo '@packages'
rpm -qa --qf '%{{NAME}} {EVR}\\n' || {{ echo 'the RPM database cannot be read' >&2; exit 1; }}
echo '@services'
{STATES % " ".join(services) if services else ""}
echo '@guests'
{GUESTS}
exit 0
"""
    return parse(sh(task, script, what="gathering facts", timeout=120).stdout)


def parse(text: str) -> Facts:
    """Read what the script of `gather` printed.

    Raises:
        ValueError: it is cut off or not of that form.
    """
    sections: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line.startswith("@"):
            current = sections.setdefault(line[1:], [])
        elif line.strip():
            current.append(line)
    missing = {"boot_id", "packages", "services", "guests"} - sections.keys()
    if missing or len(sections["boot_id"]) != 2:
        raise ValueError("the node's facts are cut off: ask again")
    packages = _packages("\n".join(sections["packages"]))
    boot_id, kernel = sections["boot_id"]
    return Facts(boot_id, kernel, packages, parse_states("\n".join(sections["services"])), _guests(sections["guests"]))


@lru_cache(maxsize=64)
def _packages(lines: str) -> dict[str, list[str]]:
    """Package name to the installed versions; one object for all nodes that are alike, and in a cloud most are.

    A gate keeps what thousands of nodes answered until all have: each name and version is kept once.
    """
    packages: dict[str, list[str]] = {}
    for line in lines.splitlines():
        name, evr = line.split()
        packages[sys.intern(name)] = [*packages[name], evr] if name in packages else _alone(evr)
    return packages


@lru_cache(maxsize=4096)
def _alone(evr: str) -> list[str]:
    return [evr]


def _guests(lines: Sequence[str]) -> list[Guest]:
    booted = next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)
    found = []
    for line in lines:
        if line.startswith("guest "):
            _, uuid, ticks = line.split()
            found.append(Guest(uuid, int(ticks), booted + int(ticks) / TICKS_PER_SECOND))
    return sorted(found, key=lambda guest: guest.uuid)
