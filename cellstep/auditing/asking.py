"""What an audit is about, and what each node is asked: everything with one connection, itself with one command."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cellstep import continuity, verification
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.engine.dispatch import Dispatcher, Errand
from cellstep.engine.journal import UNFINISHED, Journal
from cellstep.verification import Answers
from tasks.evidence import Evidence, Inquiry, Told, Wanted, inquire
from tasks.facts import Facts
from tasks.platforms.model import Care

TABLES = ("rpms", "services", "condition", "schemas", "quotas", "policies", "volumes", "guests", "images")
"""The tables of an audit."""

NODE_TABLES = ("rpms", "services", "condition", "policies")
"""Those that are about single nodes: with `--limit` the others say nothing."""

LISTS = {"volumes": "cinder", "guests": "nova", "images": "glance"}
"""Lists that are compared with those of the audit before, and whose component has them."""


@dataclass(frozen=True)
class Scope:
    """How far the upgrade is: what can be expected of the cloud.

    Attributes:
        done: components whose stage is complete for the whole cloud, in the release's order, with their run.
        begun: those that a run has begun and not finished, with that run: neither the old nor the new is expected.
        ahead: the others.
    """

    done: Mapping[str, str] = field(default_factory=dict)
    begun: Mapping[str, str] = field(default_factory=dict)
    ahead: tuple[str, ...] = ()

    @classmethod
    def of(cls, cloud: Cloud, journal: Journal) -> "Scope":
        """As the journal has it."""
        done: dict[str, str] = {}
        begun: dict[str, str] = {}
        ahead: list[str] = []
        for component in cloud.release.components:
            unfinished = next((run for run in journal.runs() if _about(run.stage, component, run.state)), None)
            last = journal.last_run(component, whole=True)
            if unfinished is not None:
                begun[component] = unfinished.id
            elif last and last.state == "complete" and last.release == cloud.release.name:
                done[component] = last.id
            else:
                ahead.append(component)
        return cls(done, begun, tuple(ahead))

    @property
    def judged(self) -> tuple[str, ...]:
        """Components whose services are looked at: not those in the middle of their stage."""
        return (*self.done, *self.ahead)

    def tables_of(self, component: str) -> set[str]:
        """What is looked at of a component: before its upgrade only whether its services run."""
        if component in self.done:
            return set(verification.tables_for(component)) - LISTS.keys()
        return {"services"} if component in self.ahead else set()

    def about(self, cloud: Cloud, component: str, node: Node) -> bool:
        """Whether anything of a component is expected on a node: the new dashboard's is bare before its stage."""
        dashboard = cloud.config.dashboard
        return not (component in self.ahead and dashboard is not None and node.name == dashboard.new)

    def words(self) -> dict[str, str]:
        """For the summary."""
        return {
            "upgraded": ", ".join(f"{name} (run {run})" for name, run in self.done.items()) or "nothing yet",
            "in the middle": ", ".join(f"{name} (run {run})" for name, run in self.begun.items()),
            "not upgraded yet": ", ".join(self.ahead),
        }


def _about(stage: str, component: str, state: str) -> bool:
    return verification.component_of(stage) == component and state in UNFINISHED


@dataclass
class Heard:
    """What the nodes answered.

    Attributes:
        facts: by node name, of those that were asked themselves.
        parts: component to node name to what the databases and files there said.
        silent: nodes that could not be asked, with the reason.
        deaf: `NODE: COMPONENT` of databases that did not answer, with the reason.
    """

    facts: dict[str, Facts] = field(default_factory=dict)
    parts: dict[str, dict[str, Evidence]] = field(default_factory=dict)
    silent: dict[str, str] = field(default_factory=dict)
    deaf: dict[str, str] = field(default_factory=dict)

    def of(self, component: str) -> Answers:
        """The answers as the tables of one component want them."""
        parts = self.parts.get(component, {})
        names = self.facts.keys() | parts.keys()
        evidence = {
            name: replace(parts[name], facts=self.facts.get(name)) if name in parts else Evidence(self.facts[name])
            for name in names
        }
        return Answers(evidence, dict(self.silent))


def inquiries(
    cloud: Cloud, scope: Scope, nodes: Sequence[Node], tables: Collection[str], windows: Mapping[str, str]
) -> dict[str, Inquiry]:
    """What each node is asked, by its name.

    Args:
        cloud: the cloud.
        scope: how far the upgrade is.
        nodes: those that the audit is about.
        tables: of `TABLES`: those that are wanted.
        windows: database node to since when, by its clock, differences of volumes, guests and images are explained.
    """
    return {node.name: _inquiry(cloud, scope, node, set(tables), windows) for node in nodes}


def _inquiry(cloud: Cloud, scope: Scope, node: Node, tables: set[str], windows: Mapping[str, str]) -> Inquiry:
    services: dict[str, None] = {}
    parts = {}
    for component in (name for name in scope.judged if scope.about(cloud, name, node)):
        wanted = verification.wanted(cloud, component, node, tables & scope.tables_of(component))
        services |= dict.fromkeys(wanted.facts or ())
        wanted = _of_databases(wanted)
        if wanted:
            parts[component] = wanted
    for table in sorted(LISTS.keys() & tables):
        component = LISTS[table]
        wanted = _of_databases(verification.wanted(cloud, component, node, {table}, windows=windows))
        if wanted:
            parts[f"{component}'s {table}"] = wanted
    himself = {"rpms", "services", "condition", "guests"} & tables
    care = _care(cloud, node, "condition" in tables) if himself and node.tier is not None else None
    if "condition" in tables and node.tier is None:
        care = _care(cloud, node, True)
    if "condition" in tables and cloud.config.monitoring.kind != "none" and _watched(node):
        services[cloud.config.monitoring.kind] = None
    return Inquiry(tuple(services) if care else (), care, parts, alone=not parts and "database" not in node.roles)


def _of_databases(wanted: Wanted) -> Wanted:
    """The same without what the node itself is asked."""
    return wanted if wanted.facts is None else replace(wanted, facts=None)


def _care(cloud: Cloud, node: Node, condition: bool) -> Care:
    if not condition:
        return Care()
    config = cloud.config
    monit = config.monitoring.kind == "monit" and _watched(node)
    return Care(tuple(config.audit.free_mib), config.puppet.lock, monit)


def _watched(node: Node) -> bool:
    """Whether the monitoring daemon restarts services there, which a stage holds."""
    return node.tier is not None and not node.outside


def ask(dispatcher: Dispatcher, nodes: Sequence[Node], asked: Mapping[str, Inquiry], errand: Errand) -> Heard:
    """Ask all nodes at once; nothing is changed anywhere."""
    chosen = [node for node in nodes if asked[node.name]]
    arguments = {node.name: {"inquiry": asked[node.name]} for node in chosen}
    outcomes = dispatcher.send(inquire, chosen, arguments, errand)
    heard = Heard()
    for node in chosen:
        outcome = outcomes.get(node.name)
        if outcome is None or outcome.state != "ok":
            why = outcome.detail if outcome else "not asked: interrupted"
            heard.silent[node.name] = why.removeprefix(f"{node.name}: ")
            continue
        told: Told = outcome.result
        if told.facts is not None:
            heard.facts[node.name] = told.facts
        for component, evidence in told.parts.items():
            heard.parts.setdefault(component, {})[node.name] = evidence
        heard.deaf |= {f"{node.name}: {component}": why for component, why in told.errors.items()}
    return heard


Lists = dict[str, list[dict[str, Any]]]
"""Rows of volumes, guests, images and instances, and the databases' clocks (windows)."""


def carried(lists: Lists, before: Mapping[str, Sequence[Mapping[str, Any]]], missing: Mapping[str, set[str]]) -> Lists:
    """With what is missing and nobody knows why: it stays in the lists until it is back or explained.

    Args:
        lists: of this audit.
        before: of the one before.
        missing: list to the names (uuid, id) of what is not there any more, or whose node gave no answer.
    """
    for name, gone in missing.items():
        key = "uuid" if name == "guests" else "id"
        here = {row[key] for row in lists.get(name, ())}
        kept = [dict(row) for row in before.get(name, ()) if row[key] in gone - here]
        if kept:
            lists[name] = [*lists.get(name, []), *kept]
    # A list that could not be read this time is compared with next time.
    return {**{name: [dict(row) for row in rows] for name, rows in before.items() if name not in lists}, **lists}


def lists(nodes: Sequence[Node], heard: Heard) -> Lists:
    """What the next audit compares with."""
    found: Lists = {}
    for table, component in LISTS.items():
        parts = heard.parts.get(f"{component}'s {table}", {})
        read = [getattr(each, table, None) for each in parts.values()]
        if table == "guests":
            found["guests"] = [dict(row) for row in verification.guest_rows(nodes, heard.of(""))]
            if instances := continuity.instance_rows(parts):
                found["instances"] = [dict(row) for row in instances]
        elif any(rows is not None for rows in read):
            found[table] = [dict(row) for rows in read for row in rows or ()]
        for host, answer in parts.items():
            if answer.clock:
                found.setdefault("windows", []).append({"host": host, "since": answer.clock})
    return found
