"""Everything that the verification asks of a node, brought back by one command."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from nornir.core.task import Task

from tasks import conditions
from tasks.conditions import Condition
from tasks.platforms import DEFAULT, PLATFORMS, Guest, Platform, platform_of
from tasks.platforms.model import Care, Installed
from tasks.shell import sh

__all__ = ["Facts", "Guest", "ask_node", "parse"]


@dataclass(frozen=True)
class Facts:
    """What a node says of itself.

    Attributes:
        boot_id: another one after each boot.
        kernel: the running kernel (`uname -r`; of Windows its version).
        packages: package name to the installed versions, of RPMs `[epoch:]version-release`; shared, so only to be read.
        services: service to {actual: running|stopped, boot: on|off}; those that are not installed are not in it.
        guests: the running guests.
        condition: what an audit asks beside these; None where that was not asked.
    """

    boot_id: str
    kernel: str
    packages: dict[str, list[str]]
    services: dict[str, dict[str, str]]
    guests: list[Guest] = field(default_factory=list)
    condition: Condition | None = None


def ask_node(task: Task, services: Sequence[str], care: Care | None = None) -> Facts:
    """Bring everything from the node with one command.

    Args:
        task: the Nornir task.
        services: the services to ask for.
        care: what an audit asks beside them; a platform that cannot be asked that is not.
    """
    platform = platform_of(task)
    care = care if platform.system.cares else None
    script = platform.system.facts(platform, services, care)
    if care:
        task.host.get_connection("cellstep_ssh", task.nornir.config)  # the login is no part of the round trip
    sent = time.time()
    said = sh(task, script, what="gathering facts", timeout=120).stdout
    return parse(said, platform, (sent, time.time()))


def parse(text: str, platform: Platform = PLATFORMS[DEFAULT], between: tuple[float, float] = (0.0, 0.0)) -> Facts:
    """Read what the script of the platform printed.

    Args:
        text: that.
        platform: the platform.
        between: when it was sent and when it had ended, by this machine's clock, in seconds since 1970.

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
    packages = _packages("\n".join(sections["packages"]), platform.packages.parse)
    boot_id, kernel = sections["boot_id"]
    services = platform.services.parse("\n".join(sections["services"]))
    guests = platform.system.parse_guests(sections["guests"])
    condition = conditions.parse(sections, between) if "began" in sections else None
    return Facts(boot_id, kernel, packages, services, guests, condition)


@lru_cache(maxsize=64)
def _packages(lines: str, read: Callable[[str], Installed]) -> dict[str, list[str]]:
    """Package name to the installed versions; one object for all nodes that are alike, and in a cloud most are.

    A gate keeps what thousands of nodes answered until all have: each name and version is kept once.
    """
    found = read(lines).items()
    return {sys.intern(name): versions if len(versions) > 1 else _alone(versions[0]) for name, versions in found}


@lru_cache(maxsize=4096)
def _alone(evr: str) -> list[str]:
    return [evr]
