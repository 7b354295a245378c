"""The platforms: one table each, and which of them a node is."""

from collections.abc import Iterable, Mapping

from nornir.core.task import Task

from tasks.platforms.darwin import DARWIN
from tasks.platforms.debian import DEBIAN
from tasks.platforms.el6 import EL6
from tasks.platforms.el9 import EL9
from tasks.platforms.model import Guest, Lacking, Platform, UnknownPlatform
from tasks.platforms.windows import WINDOWS

__all__ = ["DEFAULT", "PLATFORMS", "Guest", "Lacking", "Platform", "UnknownPlatform", "named", "platform_of"]

PLATFORMS: dict[str, Platform] = {each.name: each for each in (EL6, EL9, DEBIAN, WINDOWS, DARWIN)}

DEFAULT = EL6.name
"""What a node runs of which the inventory says nothing."""


def named(name: str, where: str = "") -> Platform:
    """The platform of that name.

    Args:
        name: as the inventory writes it.
        where: whose it is, for the message.

    Raises:
        UnknownPlatform: there is none.
    """
    try:
        return PLATFORMS[name]
    except KeyError:
        whose = f"{where}: " if where else ""
        raise UnknownPlatform(f"{whose}unknown platform '{name}'; write one of {', '.join(PLATFORMS)}") from None


def platform_of(task: Task) -> Platform:
    """The platform of the task's node, `el6` where the inventory says nothing.

    Raises:
        UnknownPlatform: there is no table of it.
    """
    return named(task.host.platform or DEFAULT, task.host.name)


def lacking(task: Task, what: str) -> Lacking:
    """What a task raises that needs something which the node's platform has not."""
    return Lacking(f"{task.host.name}: no {what} on {platform_of(task).words}")


def unknown(platforms: Mapping[str, str]) -> Iterable[tuple[str, list[str]]]:
    """Platforms that there is no table of, with their nodes.

    Args:
        platforms: node name to platform.
    """
    wrong: dict[str, list[str]] = {}
    for node, name in platforms.items():
        if name not in PLATFORMS:
            wrong.setdefault(name, []).append(node)
    return wrong.items()
