"""Everything that the verification asks of a node, brought back by one command."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from nornir.core.task import Task

from tasks.platforms import DEFAULT, PLATFORMS, Guest, Platform, platform_of
from tasks.platforms.model import Installed
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
    platform = platform_of(task)
    said = sh(task, platform.system.facts(platform, services), what="gathering facts", timeout=120).stdout
    return parse(said, platform)


def parse(text: str, platform: Platform = PLATFORMS[DEFAULT]) -> Facts:
    """Read what the script of the platform printed.

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
    return Facts(boot_id, kernel, packages, services, platform.system.parse_guests(sections["guests"]))


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
