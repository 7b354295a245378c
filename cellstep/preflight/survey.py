"""The preflight, days ahead: which node is asked what, what is judged of the answers, and whether it is a go.

What a node is asked stands in `tasks.preflight`, what is made of its answers in `cellstep.preflight.rules`.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from cellstep import reporting
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select
from cellstep.engine.budgets import Budgets
from cellstep.engine.dispatch import Dispatcher
from cellstep.preflight.case import NO_GO, WARNING, Case, Finding, without_name
from cellstep.preflight.rules import RULES, dump_mib, judge
from cellstep.stages import runbook_of
from cellstep.verification import CLIENTS, homes
from tasks.preflight import NodeFacts, survey
from tasks.preflight_script import Questions

if TYPE_CHECKING:
    import pandas as pd

MayMiss = Callable[[Node], bool]
HERE = "this machine"
SEVERITIES = (NO_GO, WARNING)
JOURNAL_MIB = 256
"""Room for the journal and the reports of a run, beside the dumps."""


@dataclass(frozen=True)
class Cause:
    """One line of the result: a finding, and everything that has it.

    Attributes:
        severity: no-go or warning.
        check: which check found it.
        cause: the words.
        nodes: who has it, in the cloud's order; `this machine` is one too.
        details: node to what is its own about it.
    """

    severity: str
    check: str
    cause: str
    nodes: tuple[str, ...]
    details: dict[str, str]


@dataclass
class Preflight:
    """What a preflight found.

    Attributes:
        nodes: those it was about.
        facts: node name to what it said.
        silent: node name to why it said nothing.
        causes: no-go first, then in the order of the checks.
        checks: node name to its findings by check, an empty list where a check found nothing.
        seconds: how long it took.
        folder: where the files are.
    """

    nodes: tuple[Node, ...]
    facts: dict[str, NodeFacts]
    silent: dict[str, str]
    causes: list[Cause] = field(default_factory=list)
    checks: dict[str, dict[str, list[Finding]]] = field(default_factory=dict)
    seconds: float = 0.0
    folder: Path | None = None

    @property
    def go(self) -> bool:
        """Whether nothing stands against the upgrade; warnings do not."""
        return bool(self.nodes) and not any(cause.severity == NO_GO for cause in self.causes)

    def states(self) -> dict[str, list[str]]:
        """The nodes by what came of them: every node is in one of these."""
        found: dict[str, list[str]] = {"ok": [], WARNING: [], NO_GO: [], "silent": []}
        for node in self.nodes:
            if node.name in self.silent:
                found["silent"].append(node.name)
            else:
                worst = {each.severity for findings in self.checks[node.name].values() for each in findings}
                found[next((severity for severity in SEVERITIES if severity in worst), "ok")].append(node.name)
        return found


def questions_for(cloud: Cloud, component: str, node: Node) -> Questions:
    """What a node is asked."""
    config, release = cloud.config, cloud.release
    packages: dict[str, str] = {}
    if node.tier is not None:
        names = [name for whose in (component, CLIENTS) for name in release.components[whose].packages]
        packages = {name: evr for name, evr in release.packages_on(node.tier).items() if name in names}
    kernel = component == "nova" and node.tier in {"top", "cell"}  # the only stage with a reboot
    stores = node.name in homes(cloud, component)
    everything = component == "nova"  # whose dumps are of all that is on its servers
    paths = [path for path in config.preflight.free_mib if path != "/boot" or kernel]
    main = cloud.database(component)
    others = sorted(set(config.databases.names.values()) - {main}) if everything else []
    return Questions(
        packages=packages,
        kernel=kernel,
        repository=config.repository.name,
        baseurl=config.repository.baseurl,
        paths=tuple(dict.fromkeys([*paths, *([config.backup_folder] if stores else [])])),
        services=tuple(cloud.services_on(component, node.tier)) if node.tier else (),
        puppet_lock=config.puppet.lock,
        socket=config.fence.socket if "loadbalancer" in node.roles else "",
        queue="queue" in node.roles,
        databases=(main, *others) if stores else (),
        heads=tuple((main, schema.repository_id) for schema in release.components[component].databases)
        if stores
        else (),
    )


def check(cloud: Cloud, stage: str, limit: str, output: Path | None) -> Preflight:
    """Ask every node of the stage, judge the answers and write the table. Nothing is changed on any node.

    Args:
        cloud: the cloud.
        stage: the stage, `nova`.
        limit: `--limit`, "" for all nodes.
        output: the folder for reports, None for `out/` beside cloud.yaml.

    Raises:
        UsageError: no such stage or node.
    """
    runbook = runbook_of(stage, cloud)
    cloud.database_password()
    nodes = tuple(select(cloud, limit)) if limit else tuple(node for node in cloud.nodes if not node.outside)
    began = time.monotonic()
    with Dispatcher(cloud) as dispatcher:
        found = ask(dispatcher, cloud, stage, nodes)
    judged(found, cloud, stage, output, runbook.may_miss, whole=not limit)
    found.seconds = time.monotonic() - began
    folder = reporting.output_folder(cloud.directory, output, reporting.dated("preflight"))
    title = f"Preflight of {stage}: {cloud.config.name}"
    facts = {"cloud": cloud.config.name, "stage": stage, "release": cloud.release.name, "result": result(found)}
    found.folder = reporting.write(folder, stage, {"preflight": table(found)}, reporting.story(cloud, title, facts))
    return found


def result(found: Preflight) -> str:
    """Go or no-go."""
    return "go" if found.go else "no-go"


def ask(dispatcher: Dispatcher, cloud: Cloud, component: str, nodes: Sequence[Node]) -> Preflight:
    """Ask the nodes; each is in `facts` or in `silent` afterwards."""
    arguments = {node.name: {"questions": questions_for(cloud, component, node)} for node in nodes}
    return Preflight(tuple(nodes), *dispatcher.ask(survey, nodes, arguments))


def judged(
    found: Preflight, cloud: Cloud, component: str, output: Path | None, may_miss: MayMiss, *, whole: bool
) -> None:
    """Fill in the findings and the causes.

    Args:
        found: with the answers.
        cloud: the cloud.
        component: the stage's component.
        output: the folder for reports, which keeps the copies of the dumps.
        may_miss: a run goes on without such a node, within its budgets.
        whole: all nodes of the cloud were asked, so that the budget for silent ones can be judged.
    """
    need = JOURNAL_MIB
    for node in found.nodes:
        if node.name in found.facts:
            questions = questions_for(cloud, component, node)
            case = Case(cloud, component, node, questions, found.facts[node.name])
            found.checks[node.name] = judge(case)
            need += dump_mib(case) if questions.databases else 0
    past = _past_budget(found, cloud, may_miss) if whole else []
    for node in found.nodes:
        if node.name in found.silent:
            severity = WARNING if may_miss(node) and not past else NO_GO
            words = f"cannot be asked: {without_name(cloud, node, found.silent[node.name])}"
            found.checks[node.name] = {"reachable": [Finding("reachable", severity, words)]}
    found.checks[HERE] = {"space": list(_here(cloud, output, need))}
    if past:
        found.checks[HERE]["reachable"] = [Finding("reachable", NO_GO, words) for words in past]
    found.causes = causes(found.checks)


def _past_budget(found: Preflight, cloud: Cloud, may_miss: MayMiss) -> list[str]:
    """Which of the run's budgets the silent nodes would pass."""
    computes = [node for node in found.nodes if may_miss(node)]
    counts = {cell: len(list(group)) for cell, group in groupby(computes, key=lambda node: node.cell)}
    lost = [(node.cell, "unreachable") for node in computes if node.name in found.silent]
    return Budgets.of(cloud.config.budgets).overspent(lost, counts)


def _here(cloud: Cloud, output: Path | None, need_mib: int) -> Iterable[Finding]:
    """This machine's folders: the journal, and the reports with the copies of the dumps."""
    out = output or cloud.directory / "out"
    for folder, need in ((cloud.directory / "state", JOURNAL_MIB), (out, need_mib)):
        there = folder
        while not there.exists():
            there = there.parent
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield Finding("space", NO_GO, f"{folder} cannot be written")
            continue
        free = shutil.disk_usage(there).free // 2**20
        if free < need:
            yield Finding("space", NO_GO, f"{folder} has less than {need:,} MiB free", f"{free:,} MiB")


def causes(checks: dict[str, dict[str, list[Finding]]]) -> list[Cause]:
    """The findings, equal ones with all their nodes in one: no-go first, then in the order of the checks."""
    order = ["reachable", "root", *RULES]
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for name, by_check in checks.items():
        for each in (finding for findings in by_check.values() for finding in findings):
            found.setdefault((each.severity, each.check, each.cause), {})[name] = each.detail
    ranked = sorted(found.items(), key=lambda item: (SEVERITIES.index(item[0][0]), order.index(item[0][1])))
    return [Cause(*key, tuple(details), {n: d for n, d in details.items() if d}) for key, details in ranked]


def table(found: Preflight) -> "pd.DataFrame":
    """The table `preflight`: a row for each node and check, more where it found more."""
    from reports.tables import preflight  # noqa: PLC0415 - brings pandas, 0.6 s

    rows: list[dict[str, str]] = []
    for node in found.nodes:
        facts = found.facts.get(node.name)
        if facts is not None:
            words = f"kernel {facts.kernel}, boot id {facts.boot_id}" if facts.boot_id else ""
            rows.append(_row(node.cell, node.name, "reachable", "ok", "", words))
        for check_name, findings in found.checks[node.name].items():
            rows += [_row(node.cell, node.name, check_name, f.severity, f.cause, f.detail) for f in findings]
            if not findings and check_name != "root":
                rows.append(_row(node.cell, node.name, check_name, "ok", "", _seen(check_name, facts)))
    for check_name, findings in found.checks.get(HERE, {}).items():
        rows += [_row("", HERE, check_name, f.severity, f.cause, f.detail) for f in findings]
        rows += [] if findings else [_row("", HERE, check_name, "ok", "", "")]
    return preflight.table(rows)


def _row(*values: str) -> dict[str, str]:
    return dict(zip(("cell", "host", "check", "status", "cause", "detail"), values, strict=True))


def _seen(name: str, facts: NodeFacts | None) -> str:
    """What a check that found nothing saw."""
    if facts is None:
        return ""
    if name == "clock":
        return f"{facts.offset_s:+.2f} s, give or take {facts.uncertainty_s:.2f} s"
    if name == "space":
        return ", ".join(f"{space.path} {space.free_mib:,} MiB" for space in facts.space)
    if name == "rpm":
        return f"{facts.installed:,} packages"
    if name == "update":
        return f"{len(facts.pending)} packages to update, asked through {facts.mode}" if facts.pending else "up to date"
    if name == "database" and facts.database is not None:
        heads = ", ".join(f"{database} at {head}" for database, head in facts.database.heads.items())
        return f"{facts.database.version}; {heads}"
    return ""
