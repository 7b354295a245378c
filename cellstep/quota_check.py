"""The quota usage of a component: where it is, and its table; nova's is in the top cell's database alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellstep import reporting
from cellstep.cloud.load import Cloud
from cellstep.cloud.places import Place, places
from cellstep.engine.dispatch import Dispatcher
from cellstep.engine.store import now
from cellstep.errors import UsageError
from cellstep.proof import Report
from tasks import quotas


def place_of(cloud: Cloud, component: str) -> Place:
    """The database with the quota usage of a component.

    Raises:
        UsageError: it has no quota usage, or there is no such database.
    """
    if component not in quotas.COMPONENTS:
        known = ", ".join(quotas.COMPONENTS)
        raise UsageError(f"there is no quota usage of “{component}”; the stages are: {known}")
    found = places(cloud, component)
    top = [place for place in found if place.node.cell == "top"] if len(found) > 1 else list(found)
    if not top:
        raise UsageError("the top cell has no node with the role `database`; add it to the inventory")
    return top[0]


def report(cloud: Cloud, component: str, output: Path | None, arguments: Mapping[str, Any]) -> Report:
    """Compare the quota usage with what is in use, and write the table; changes nothing.

    Args:
        cloud: the cloud.
        component: one of `tasks.quotas.COMPONENTS`.
        output: as `--output`.
        arguments: more arguments of `tasks.quotas.read`.

    Raises:
        UsageError: no such component.
    """
    place = place_of(cloud, component)
    cloud.database_password()
    wanted = {"database": place.database, "component": component, **arguments}
    with Dispatcher(cloud) as dispatcher:
        facts, silent = dispatcher.ask(quotas.read, [place.node], {place.node.name: wanted})
    from reports.tables import quotas as table  # noqa: PLC0415 - brings pandas, 0.6 s

    read = facts.get(place.node.name)
    tables = {} if read is None else {"quotas": table.of_facts(read, place.node.cell)}
    folder = reporting.output_folder(cloud.directory, output, reporting.dated("quota"))
    about = {"cloud": cloud.config.name, "component": component, "database": str(place), "written": now()}
    title = f"{component.capitalize()}'s quota usage: {cloud.config.name}"
    where = reporting.write(folder, component, tables, reporting.story(cloud, title, about, silent=silent))
    compliant = bool(tables) and not silent and reporting.compliant(tables)
    return Report(tables, where, silent, compliant, cloud, held={})
