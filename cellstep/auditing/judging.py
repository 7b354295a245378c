"""The tables of an audit: what the nodes and databases said, against what should be after the stages that are done."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from cellstep import comparison
from cellstep.auditing.asking import LISTS, TABLES, Heard, Scope
from cellstep.baseline import Baseline
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from tasks.conditions import WATCHED, Condition
from tasks.facts import Facts

if TYPE_CHECKING:
    import pandas as pd

SHOWN_FILES = 5


def tables_of(
    cloud: Cloud,
    scope: Scope,
    nodes: Sequence[Node],
    heard: Heard,
    baseline: Baseline,
    tables: Collection[str],
    held: Mapping[str, Collection[str]],
) -> "dict[str, pd.DataFrame]":
    """Make the tables.

    Args:
        cloud: the cloud.
        scope: how far the upgrade is.
        nodes: those that the audit is about.
        heard: what they said.
        baseline: the lists of the audit before; empty for the first one.
        tables: those that are wanted.
        held: holds that are in place: name to nodes.

    Returns:
        The tables by name, those of several components in one.
    """
    import pandas as pd  # noqa: PLC0415 - 0.6 s, which only what makes a table should pay

    made: dict[str, list[pd.DataFrame]] = {}
    for component in scope.judged:
        wanted = scope.tables_of(component) & set(tables)
        answers = heard.of(component)
        its = [node for node in nodes if scope.about(cloud, component, node)]
        found = comparison.tables_of(cloud, component, its, answers, Baseline(), wanted) if wanted else {}
        for name, frame in found.items():
            made.setdefault(name, []).append(frame)
    for name in sorted(LISTS.keys() & set(tables)):
        component = LISTS[name]
        answers = heard.of(f"{component}'s {name}")
        for each, frame in comparison.tables_of(cloud, component, nodes, answers, baseline, {name}).items():
            made.setdefault(each, []).append(frame)
    if "condition" in tables:
        made["condition"] = [_condition(cloud, nodes, heard, held)]
    from reports.tables import frames  # noqa: PLC0415 - brings pandas

    joined = {}
    for name in TABLES:
        parts = [frame for frame in made.get(name, ()) if len(frame)] or made.get(name, [])[:1]
        if parts:
            rows = pd.concat(parts, ignore_index=True)
            by = [column for column in ("cell", "host") if column in rows.columns]
            joined[name] = frames.in_order(rows, by) if by and len(parts) > 1 else rows
    return joined


def _condition(
    cloud: Cloud, nodes: Sequence[Node], heard: Heard, held: Mapping[str, Collection[str]]
) -> "pd.DataFrame":
    from reports.tables import condition  # noqa: PLC0415 - brings pandas

    rows = [
        {"cell": node.cell, "host": node.name, **row}
        for node in nodes
        if (facts := heard.facts.get(node.name)) and facts.condition
        for row in rows_of(cloud, facts, facts.condition, {name for name, hosts in held.items() if node.name in hosts})
    ]
    away = [{"cell": node.cell, "host": node.name} for node in nodes if node.name in heard.silent]
    return condition.table(rows, away)


def rows_of(cloud: Cloud, facts: Facts, said: Condition, held: Collection[str]) -> Iterable[dict[str, str]]:
    """What is looked at of one node: what, expected, actual, status.

    Args:
        cloud: the cloud, for its thresholds.
        facts: what the node said of itself.
        said: and of its condition.
        held: the names of holds that are in place there: what they have switched off is off on purpose.
    """
    yield from _kernel(facts, said)
    yield _row("boot", "", facts.boot_id, "ok")
    yield _row("uptime", "", _up(said.uptime_s), "ok")
    reason = said.puppet_disabled
    if reason is None:
        yield _row("puppet", "enabled", "enabled", "ok")
    else:
        yield _row("puppet", "enabled", f"disabled: {_message(reason)}", "held" if "puppet" in held else "disabled")
    yield from _monit(cloud, facts, said, "monitoring" in held)
    for service, state in facts.services.items():
        if state["boot"] == "off":
            yield _row(f"boot: {service}", "on", "off", "held" if held else "not at boot")
    files = said.set_aside
    more = f" and {len(files) - SHOWN_FILES} more" if len(files) > SHOWN_FILES else ""
    yield _row("files", "none set aside", ", ".join(files[:SHOWN_FILES]) + more, "set aside" if files else "ok")
    limit = cloud.config.audit.clock_s
    off = abs(said.offset_s) - said.uncertainty_s > limit
    # Beyond doubt only: a slow answer makes no clock wrong.
    actual = f"{said.offset_s:+.1f} s" if off else "within"
    yield _row("clock", f"within {limit:g} s", actual, "off" if off else "ok")
    for path, (mount, free) in said.free_mib.items():
        least = cloud.config.audit.free_mib[path]
        low = free < least
        actual = f"{free:,} MiB ({mount})" if low else "enough"
        yield _row(f"space {path}", f"{least:,} MiB free", actual, "low" if low else "ok")


def _kernel(facts: Facts, said: Condition) -> Iterable[dict[str, str]]:
    if said.kernels:
        newest = said.kernels[-1]
        running = facts.kernel == newest or facts.kernel.startswith(f"{newest}.")
        yield _row("kernel", newest, facts.kernel, "ok" if running else "not running")
    if said.pending:
        yield _row("reboot", "not due", f"due: {', '.join(said.pending)}", "due")


def _monit(cloud: Cloud, facts: Facts, said: Condition, held: bool) -> Iterable[dict[str, str]]:
    kind = cloud.config.monitoring.kind
    state = facts.services.get(kind)
    if kind == "none" or state is None:
        return
    if state["actual"] != "running":
        yield _row(kind, "running", state["actual"], "held" if held else "silent")
    elif said.monit is None:
        yield _row(kind, "answers", said.monit_error, "held" if held else "silent")
    else:
        odd = {name: word for name, word in said.monit.items() if word.lower() not in WATCHED}
        if not odd:
            yield _row(kind, "all well", "all well", "ok")
        for name, word in odd.items():
            status = "not watched" if word.lower().startswith("not monitored") else "failed"
            yield _row(f"{kind}: {name}", "running", word, "held" if held else status)


def _up(seconds: float) -> str:
    hours = int(seconds // 3600)
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours"


def _row(what: str, expected: str, actual: str, status: str) -> dict[str, str]:
    return {"what": what, "expected": expected, "actual": actual, "status": status}


def _message(reason: str) -> str:
    """The words in Puppet's lock file, which is JSON since 3.0."""
    try:
        said = json.loads(reason)
    except ValueError:
        return reason or "no reason given"
    return str(said.get("disabled_message", reason)) if isinstance(said, dict) else reason
