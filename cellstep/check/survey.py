"""`cellstep check`: the databases of a component, asked and judged before their schema is changed."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nornir.core.task import Result, Task

from cellstep import reporting
from cellstep.check.before import NO_GO, STATUSES, Expected, Finding, judge
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.places import Place, places
from cellstep.engine.dispatch import Dispatcher
from cellstep.errors import UsageError
from tasks.hazards import Seen, look
from tasks.holds import unchanged
from tasks.replicas import Replica, origin

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Line:
    """One line of the result: a finding, and the databases that have it, with each one's rows."""

    finding: Finding
    places: Mapping[str, int | None]


@dataclass
class Check:
    """What a check found.

    Attributes:
        places: the databases that it is about.
        findings: database to what was found in it, the worst first.
        silent: database to why it could not be asked.
        seconds: how long it took.
        folder: where the files are.
    """

    places: tuple[Place, ...]
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    folder: Path | None = None

    @property
    def go(self) -> bool:
        """Whether nothing stands against the change of any schema; warnings do not."""
        found = [finding for findings in self.findings.values() for finding in findings]
        return bool(self.places) and not self.silent and not any(each.status == NO_GO for each in found)

    def lines(self) -> list[Line]:
        """The findings, equal ones as one line, the worst first."""
        alike: dict[Finding, dict[str, int | None]] = {}
        for place, findings in self.findings.items():
            for each in findings:
                same = Finding(each.check, each.status, each.what, None, each.remedy)
                alike.setdefault(same, {})[place] = each.rows
        ranked = sorted(alike.items(), key=lambda item: STATUSES.index(item[0].status))
        return [Line(finding, rows) for finding, rows in ranked]


def expected(cloud: Cloud, place: Place) -> Expected:
    """What is known of a database's schema, with the site's own versions of the packages."""
    head = cloud.release.components[place.component].head(place.schema)
    return Expected(place.component, place.schema, head)


def arguments_of(cloud: Cloud, place: Place) -> dict[str, Any]:
    """What `tasks.hazards.look` is asked of a database before its schema is changed."""
    return {
        "database": place.database,
        "repository_id": place.schema.repository_id,
        "questions": expected(cloud, place).questions,
        "keystone": place.component == "keystone",
    }


def on_replica(task: Task, *, replica: Replica, **arguments: Any) -> Result:
    """As `look`, on a replica; refused where it does not stand for its master."""
    origin(task, replica)
    return unchanged(task, look(task, **arguments).result)


def check(cloud: Cloud, component: str, *, replica: bool, output: Path | None) -> Check:
    """Ask the databases of a component, judge them and write the table. Nothing is changed anywhere.

    Args:
        cloud: the cloud.
        component: the component.
        replica: ask the replicas that cloud.yaml names, after a look at how far they are behind.
        output: the folder for reports, None for `out/` beside cloud.yaml.

    Raises:
        UsageError: no such component, or a database has no replica.
    """
    found = Check(places(cloud, component))
    cloud.database_password()
    began = time.monotonic()
    asked = [(_asked(cloud, place) if replica else place.node, place) for place in found.places]
    with Dispatcher(cloud) as dispatcher:
        while asked:
            batch = {node.name: (node, place) for node, place in reversed(asked)}  # one at a time of each node
            asked = [each for each in asked if each not in batch.values()]
            _ask(dispatcher, cloud, found, list(batch.values()), replica=replica)
    found.seconds = time.monotonic() - began
    folder = reporting.output_folder(cloud.directory, output, reporting.dated("check"))
    facts = {"cloud": cloud.config.name, "stage": component, "release": cloud.release.name}
    facts["result"] = "go" if found.go else "no-go"
    title = f"The databases of {component}: {cloud.config.name}"
    told = reporting.story(cloud, title, facts)
    found.folder = reporting.write(folder, component, {"hazards": table(found)}, told)
    return found


def _asked(cloud: Cloud, place: Place) -> Node:
    """The node with the replica of a database."""
    name = cloud.config.databases.replicas.get(place.node.name)
    if name is None:
        raise UsageError(
            f"{place.node.name} has no replica in cloud.yaml (databases.replicas): name one, or leave out --replica"
        )
    return next(node for node in cloud.nodes if node.name == name)


def _ask(
    dispatcher: Dispatcher, cloud: Cloud, found: Check, batch: Sequence[tuple[Node, Place]], *, replica: bool
) -> None:
    arguments = {node.name: arguments_of(cloud, place) for node, place in batch}
    for node, place in batch:
        if replica:
            lag_s = cloud.config.preflight.replica_lag_s
            arguments[node.name]["replica"] = Replica(place.node.name, lag_s)
    answers, silent = dispatcher.ask(on_replica if replica else look, [node for node, _ in batch], arguments)
    for node, place in batch:
        if node.name in answers:
            seen: Seen = answers[node.name]
            found.findings[str(place)] = judge(expected(cloud, place), seen)
        else:
            found.silent[str(place)] = silent[node.name]


def table(found: Check) -> "pd.DataFrame":
    """The table `hazards`: a row for each database and thing that was looked for."""
    from reports.tables import hazards  # noqa: PLC0415 - brings pandas, 0.6 s

    rows: list[dict[str, Any]] = []
    for place in found.places:
        here = {"cell": place.node.cell, "host": place.node.name, "database": place.database}
        rows += [{**here, **asdict(each)} for each in found.findings.get(str(place), ())]
        if str(place) in found.silent:
            words = f"cannot be asked: {found.silent[str(place)]}"
            rows.append({**here, **asdict(Finding("reachable", NO_GO, words))})
    return hazards.table(rows)
