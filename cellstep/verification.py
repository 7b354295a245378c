"""The verification of a stage: what it should leave on which node, and which node is asked for what."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cellstep import continuity
from cellstep.check.gates import Checks
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.places import places
from cellstep.cloud.policies import policies_of
from cellstep.engine.dispatch import Dispatcher
from tasks.evidence import Evidence, Patience, Wanted, gather

TABLES = ("rpms", "services", "schemas", "volumes", "quotas", "guests", "images", "policies")
"""The tables that are made from answers; `hosts` is made from the journal."""

NODE_TABLES = ("rpms", "services", "guests", "policies")
"""Those that are about single nodes: with `--limit` the others say nothing."""

TABLES_OF = {
    "glance": ("rpms", "services", "schemas", "images", "policies"),
    "horizon": ("rpms", "services"),
    "cinder": ("rpms", "services", "schemas", "volumes", "guests"),
    "clients": ("rpms",),
    "nova": ("rpms", "services", "schemas", "volumes", "quotas", "guests"),
}
"""The tables of a stage, where they are others than `USUAL`."""

USUAL = ("rpms", "services", "schemas")

CLIENTS = "clients"
"""The component that is updated with every stage on the compute nodes (the seed's pass with mcollective)."""


BACKOUT = "-backout"
"""The end of the name of a stage that goes back: what was before is what should be."""


def component_of(stage: str) -> str:
    """The component of a stage, of the one that goes back from it, or of one that prepares it."""
    return stage.partition("-")[0]


def tables_for(stage: str) -> tuple[str, ...]:
    """The tables that say whether a stage went well."""
    return TABLES_OF.get(component_of(stage), USUAL)


@dataclass
class Answers:
    """What the nodes answered, and who did not.

    Attributes:
        evidence: by node name.
        silent: node name to the reason.
    """

    evidence: dict[str, Evidence] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)


def packages_of(cloud: Cloud, component: str, node: Node) -> dict[str, str]:
    """What the stage leaves on the node: package to `[epoch:]version[-release]`."""
    if node.tier is None or _retires(cloud, node):
        return {}
    if component == CLIENTS and node.tier != "client":
        return {}  # theirs come with the stages that need them, and with Nova's
    names = [component, CLIENTS] if node.tier == "compute" and component == "nova" else [component]
    facts = [item for name in names for item in cloud.release.components[name].packages.items()]
    return {package: fact.evr for package, fact in facts if node.tier in fact.tiers}


def expected_services(cloud: Cloud, component: str, node: Node) -> dict[str, str]:
    """The component's services on the node: service to the name of its heartbeat, or ""."""
    return cloud.services_on(component, node.tier) if node.tier and not _retires(cloud, node) else {}


def _retires(cloud: Cloud, node: Node) -> bool:
    """Whether it is the old dashboard, which no stage changes."""
    return cloud.config.dashboard is not None and node.name == cloud.config.dashboard.old


def concerns(cloud: Cloud, component: str, node: Node) -> bool:
    """Whether the stage is about the node; a client or a dashboard has a stage that brings it packages."""
    if node.outside:
        return bool(packages_of(cloud, component, node))
    return node.tier is not None


def expected_heartbeats(cloud: Cloud, component: str, nodes: Iterable[Node], cell: str) -> list[tuple[str, str]]:
    """(host, binary) of everything that should report to a cell's database."""
    return [
        (node.name, binary)
        for node in nodes
        if node.cell == cell
        for binary in expected_services(cloud, component, node).values()
        if binary
    ]


def homes(cloud: Cloud, component: str) -> set[str]:
    """The nodes with a database of the component."""
    return {place.node.name for place in places(cloud, component)} if has_database(cloud, component) else set()


def has_database(cloud: Cloud, component: str) -> bool:
    """Whether the component has one at all."""
    return bool(cloud.release.components[component].databases)


def reports(cloud: Cloud, component: str) -> bool:
    """Whether a service of the component reports to its database."""
    return any(fact.binary for fact in cloud.release.components[component].services)


def wanted(
    cloud: Cloud,
    component: str,
    node: Node,
    tables: Collection[str],
    patience: Patience | None = None,
    windows: Mapping[str, str] | None = None,
) -> Wanted:
    """What must be asked of a node for these tables (and `heads`, for the gate on schema versions).

    Args:
        cloud: the cloud.
        component: the stage's component.
        node: the node.
        tables: the tables.
        patience: how long to wait for heartbeats.
        windows: since when differences of volumes and guests are explained, as `baseline.windows_of` tells.
    """
    database = cloud.database(component)
    stores = "database" in node.roles
    mine = stores and node.name in homes(cloud, component)
    top = stores and node.cell == "top"
    facts = concerns(cloud, component, node) and not {"rpms", "services"}.isdisjoint(tables)
    facts = facts or (node.tier == "compute" and "guests" in tables)
    schemas = cloud.release.components[component].databases
    volumes = "volumes" in tables and continuity.cinders_node(cloud, node)
    explained = stores and not continuity.TABLES.isdisjoint(tables)
    since = (windows or {}).get(node.name, "") if explained else ""
    return Wanted(
        facts=tuple(expected_services(cloud, component, node)) if facts else None,
        heartbeats=database if mine and reports(cloud, component) and "services" in tables else "",
        patience=patience if mine and "services" in tables else None,
        heads=tuple((cloud.database(component), schema.repository_id) for schema in schemas)
        if mine and "heads" in tables
        else (),
        volumes=cloud.database("cinder") if stores and volumes else "",
        quotas=database if top and "quotas" in tables else "",
        instances=cloud.database("nova") if stores and "guests" in tables else "",
        clock=explained,
        since=since,
        changes=continuity.changes_of(cloud, node, tables) if since else (),
        schema=_schema(cloud, component, node) if stores and "schemas" in tables else None,
        images=cloud.database("glance")
        if stores and "images" in tables and continuity.glances_node(cloud, node)
        else "",
        policies=policies_of(cloud, component, node) if "policies" in tables else (),
    )


def _schema(cloud: Cloud, component: str, node: Node) -> Mapping[str, Any] | None:
    """What the component's database on a node is asked; None where it has none."""
    if not has_database(cloud, component):
        return None
    checks = Checks(cloud, component)
    return checks.asking(node, {}, quiet=False) if node.name in checks.places else None


def ask(
    dispatcher: Dispatcher,
    cloud: Cloud,
    component: str,
    nodes: Sequence[Node],
    tables: Collection[str],
    windows: Mapping[str, str] | None = None,
) -> Answers:
    """Ask the nodes for what the tables need; nothing is changed."""
    questions = {node.name: wanted(cloud, component_of(component), node, tables, windows=windows) for node in nodes}
    asked = [node for node in nodes if questions[node.name]]
    return Answers(*dispatcher.ask(gather, asked, {node.name: {"wanted": questions[node.name]} for node in asked}))


def system_rows(evidence: Mapping[str, Evidence]) -> list[dict[str, Any]]:
    """Kernel and packages of the nodes: one row for all that are alike, and in a cloud most are."""
    alike: dict[tuple[str, str], dict[str, Any]] = {}
    written: dict[int, str] = {}  # nodes that are alike mostly share the very object
    for host, answer in evidence.items():
        if answer.facts:
            kernel, packages = answer.facts.kernel, answer.facts.packages
            text = written.get(id(packages)) or json.dumps(packages, sort_keys=True)
            written[id(packages)] = text
            row = alike.setdefault((kernel, text), {"hosts": [], "kernel": kernel, "packages": packages})
            row["hosts"].append(host)
    return list(alike.values())


def guest_rows(nodes: Sequence[Node], answers: Answers) -> list[dict[str, Any]]:
    """The running guests: cell, host, uuid, boot_id, start_ticks, started_at."""
    known = [(node, answers.evidence[node.name].facts) for node in nodes if node.name in answers.evidence]
    return [
        {
            "cell": node.cell,
            "host": node.name,
            "uuid": guest.uuid,
            "boot_id": facts.boot_id,
            "start_ticks": guest.start_ticks,
            "started_at": datetime.fromtimestamp(guest.started, UTC).isoformat(timespec="seconds"),
        }
        for node, facts in known
        if facts
        for guest in facts.guests
    ]
