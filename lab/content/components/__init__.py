"""The lab's components beside nova: a module each, and what is asked of all of them.

A new one is a module here with a `Component`, a line in `COMPONENTS`, and its stand-in code in `lab/files/NAME/`. Nova
is part of every lab and stands in `lab.content` itself.
"""

from collections.abc import Iterable

from lab.content.components import ceilometer, cinder, clients, glance, horizon, keystone
from lab.content.components.component import Component, Front
from lab.content.packages import Source
from lab.errors import LabUsageError
from lab.spec import LabSpec

__all__ = ["COMPONENTS", "Component", "Front", "chosen", "named", "secrets", "sources", "with_databases"]

_ALL = (ceilometer.CEILOMETER, glance.GLANCE, keystone.KEYSTONE, cinder.CINDER, clients.CLIENTS, horizon.HORIZON)
COMPONENTS: dict[str, Component] = {component.name: component for component in _ALL}


def named(text: str | None) -> tuple[str, ...]:
    """Components of a list with commas, as a `LabSpec` has them: `nova,cinder`; all of them without one.

    Raises:
        LabUsageError: a name is no component's.
    """
    if text is None:
        return tuple(COMPONENTS)
    wanted = {name.strip() for name in text.split(",")} - {""}
    unknown = sorted(wanted - {*COMPONENTS, "nova"})
    if unknown or not wanted:
        raise LabUsageError(
            f"--components {text!r}: {', '.join(unknown) or 'nothing'} is no component of the lab;"
            f" it has {', '.join(['nova', *COMPONENTS])}"
        )
    return tuple(name for name in COMPONENTS if name in wanted)


def chosen(spec: LabSpec) -> list[Component]:
    """The components that run in a lab, beside nova."""
    return [component for name, component in COMPONENTS.items() if name in spec.components]


def with_databases(spec: LabSpec) -> list[Component]:
    """The components whose databases a lab has: those that run, and cinder, whose volumes nova lists."""
    return [component for name, component in COMPONENTS.items() if name in {*spec.components, "cinder"}]


def sources(release: str) -> tuple[Source, ...]:
    """What all components add to a release's repository."""
    return tuple(source for component in COMPONENTS.values() for source in component.sources(release))


def secrets() -> tuple[str, ...]:
    """The names of all components' secrets."""
    return tuple(name for component in COMPONENTS.values() for name in component.secrets)


def debian() -> Iterable[str]:
    """The Debian packages that components need."""
    return (package for component in COMPONENTS.values() for package in component.debian)
