"""Volumes, guests and images before and after: since when a difference counts, who made it, what the upgrade did."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellstep import kept
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.places import places
from cellstep.engine.journal import Journal, RunRecord
from cellstep.engine.steps import Runbook
from reports.reasons import ABSENT, DELETED, UPGRADE, Ours, Reason, Standing, Traces, short
from tasks import downgrade, reboot
from tasks.evidence import Evidence
from tasks.traces import CINDER, GLANCE, NOVA, earlier

if TYPE_CHECKING:
    from cellstep.baseline import Baseline
    from cellstep.verification import Answers

TABLES = frozenset({"volumes", "guests", "images"})
"""The tables whose differences are explained."""

_MAY_HAVE_REBOOTED = frozenset({"changed", "failed", "unknown"})

Guest = tuple[str, str]
"""A live instance's vm_state and host."""


def cinders_node(cloud: Cloud, node: Node) -> bool:
    """Whether Cinder's database is on this database node."""
    named = cloud.config.databases.on.get("cinder")
    return node.name == named if named else node.cell == "top"


def glances_node(cloud: Cloud, node: Node) -> bool:
    """Whether Glance's database is on this database node."""
    return node.name in {place.node.name for place in places(cloud, "glance")}


def changes_of(cloud: Cloud, node: Node, tables: Collection[str]) -> tuple[tuple[str, str], ...]:
    """What is asked of a database node to explain differences in these tables, with the database that it is in."""
    found = []
    if not {"volumes", "guests"}.isdisjoint(tables):
        found += [(what, cloud.database("nova")) for what in NOVA]
        if cinders_node(cloud, node):
            found += [(what, cloud.database("cinder")) for what in CINDER]
    if "images" in tables and glances_node(cloud, node):
        found += [(what, cloud.database("glance")) for what in GLANCE]
    return tuple(found)


# Since when


def windows(cloud: Cloud, runs: Sequence[RunRecord]) -> dict[str, str]:
    """Database node to the time, by its own clock, when the run began that saved the lists from before.

    Lists of an older cellstep have no such time: then it is the operator's clock that counts.

    Args:
        cloud: the cloud.
        runs: those whose lists count, oldest first.
    """
    if not runs:
        return {}
    saved = next((rows for run in runs if (rows := kept.load(Path(run.output), "windows")) is not None), [])
    known = {row["host"]: row["since"] for row in saved}
    stores = [node.name for node in cloud.nodes if "database" in node.roles]
    return {name: earlier(known.get(name, runs[0].started_at), slack(cloud)) for name in stores}


def slack(cloud: Cloud) -> float:
    """By how many seconds the clocks of two nodes may differ: the preflight allows each half of it."""
    return 2 * cloud.config.preflight.clock_s


def window_rows(answers: Mapping[str, Evidence], took_s: float) -> list[dict[str, str]]:
    """Rows to keep: when the run began, by the clock of each database's node.

    Args:
        answers: by node, of this moment.
        took_s: seconds since the run began.
    """
    return [{"host": host, "since": earlier(answer.clock, took_s)} for host, answer in answers.items() if answer.clock]


def instance_rows(answers: Mapping[str, Evidence]) -> list[dict[str, Any]]:
    """Rows to keep: the live instances of each database, in one."""
    return [
        {"host": host, "instances": list(answer.instances)}
        for host, answer in answers.items()
        if answer.instances is not None
    ]


# What the upgrade did


def ours(journal: Journal, books: Iterable[Runbook], since: str) -> Ours:
    """What the runs of these runbooks did from a time on: check-out guests, reboots, quarantine."""
    prefixes: dict[str, str] = {}
    reboots: dict[str, list[tuple[str, str, str]]] = {}
    for book in books:
        titles = [step.title for step in book.steps if step.does in (reboot.for_new_kernel, downgrade.kernel_to_before)]
        for run in journal.runs(book.stage):
            if run.started_at < since:
                break
            prefixes[f"{CHECKOUT_PREFIX}{run.id}-"] = run.id
            for row in (row for title in titles for row in journal.hosts(run.id, title)):
                if row["state"] in _MAY_HAVE_REBOOTED and row["started_at"]:
                    times = (row["started_at"], row["finished_at"] or "", run.id)
                    reboots.setdefault(row["host"], []).append(times)
    quarantine = {
        host: Reason(UPGRADE, "quarantine", f"run {row['run']}", row["since"], f"missed “{row['title']}”")
        for host, row in journal.quarantined().items()
    }
    return Ours(prefixes, {host: sorted(times) for host, times in reboots.items()}, quarantine)


CHECKOUT_PREFIX = "cellstep-"
"""How the names of the check-out tests' guests begin; the run's id follows."""


# What the databases say


def traces(
    cloud: Cloud, nodes: Sequence[Node], answers: "Answers", baseline: "Baseline", guests: Iterable[Mapping[str, Any]]
) -> Traces:
    """What explains the differences, from the answers of the database nodes.

    Args:
        cloud: the cloud.
        nodes: those that the verification is about.
        answers: what the nodes said.
        baseline: the lists from before.
        guests: the guests on hypervisors, before and after, of which some may be in no database.
    """
    read = [(node, answers.evidence[node.name]) for node in cloud.nodes if node.name in answers.evidence]
    stores = [(node, evidence) for node, evidence in read if "database" in node.roles]
    asked = any(evidence.instances is not None for _, evidence in stores)
    saved = baseline.saved if asked else frozenset()
    return Traces(
        slack(cloud),
        _standings(nodes, stores, baseline, guests),
        _rows(stores, "instances"),
        _rows(stores, "actions"),
        _rows(stores, "attachments"),
        _rows(stores, "volumes"),
        _rows(stores, "transfers"),
        _rows(stores, "images"),
        baseline.ours,
        frozenset(short(node.name) for node, evidence in read if evidence.facts and node.tier == "compute"),
        frozenset(node.name for node in nodes) - saved,
    )


def _rows(stores: Iterable[tuple[Node, Evidence]], what: str) -> list[dict[str, Any]]:
    return [
        {**row, "source": _source(node), "since": evidence.since}
        for node, evidence in stores
        for row in evidence.changes.get(what, ())
    ]


def _source(node: Node) -> str:
    return "api" if node.cell == "top" else "cell"


def _standings(
    nodes: Sequence[Node],
    stores: Iterable[tuple[Node, Evidence]],
    baseline: "Baseline",
    guests: Iterable[Mapping[str, Any]],
) -> dict[str, tuple[Standing, Standing]]:
    """Each guest in the API's database and in its cell's.

    Those that were on a hypervisor, and those whose row names one of the nodes, or no node at all.
    """
    names = {short(node.name) for node in nodes}
    running = {(guest["cell"], guest["uuid"]) for guest in guests}
    before = {row["host"]: _live(row["instances"]) for row in baseline.instances or ()}
    sides: dict[str, dict[str, Standing]] = {"api": {}, "cell": {}}
    for node, evidence in stores:
        if evidence.instances is None:
            continue
        was, now = before.get(node.name), _live(evidence.instances)
        deleted = {row["uuid"] for row in evidence.changes.get("instances", ()) if row["deleted"]}
        known = {**(was or {}), **now}
        here = {uuid for uuid, (_, host) in known.items() if not host or short(host) in names}
        here |= {uuid for cell, uuid in running if node.cell in ("top", cell)}
        for uuid in here:
            then = None if was is None else _state(was, uuid)
            gone = DELETED if uuid in deleted else ABSENT
            sides[_source(node)][uuid] = Standing(then, _state(now, uuid) or gone)
    unknown = Standing()
    uuids = sides["api"].keys() | sides["cell"].keys()
    return {uuid: (sides["api"].get(uuid, unknown), sides["cell"].get(uuid, unknown)) for uuid in uuids}


def _live(instances: Iterable[Mapping[str, Any]]) -> dict[str, Guest]:
    return {row["uuid"]: (row["vm_state"] or "no state", row["host"]) for row in instances}


def _state(instances: Mapping[str, Guest], uuid: str) -> str:
    state, _ = instances.get(uuid, (ABSENT, ""))
    return state
