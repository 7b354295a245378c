"""What a run or a verification proves: ask the nodes, compare, write the tables."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellstep import comparison, reporting, verification
from cellstep.baseline import Baseline, windows_of
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select, with_databases
from cellstep.engine.context import Context
from cellstep.engine.dispatch import Dispatcher
from cellstep.engine.journal import Journal, RunRecord
from cellstep.engine.run import Interrupted
from cellstep.engine.store import now
from cellstep.errors import UsageError
from cellstep.stages import identity, runbook_of
from cellstep.stages.arguments import DARK, MEASURED
from reports.story import Story

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Report:
    """What a verification or the end of a run found.

    Attributes:
        tables: by name, as they were written.
        folder: where the files are; None where nothing was written.
        silent: nodes that could not be asked, with the reason.
        compliant: every table as it should be, and every node asked.
        cloud: knows its nodes, to print them.
        held: holds that are still in place: name to nodes.
        quarantined: nodes in quarantine, by name, as the journal has them.
        overridden: gates that the run went past although they blocked, one line each.
    """

    tables: "dict[str, pd.DataFrame]"
    folder: Path | None
    silent: dict[str, str]
    compliant: bool
    cloud: Cloud
    held: dict[str, list[str]]
    quarantined: dict[str, dict[str, Any]] = field(default_factory=dict)
    overridden: list[str] = field(default_factory=list)


def of_run(context: Context, dispatcher: Dispatcher) -> Report:
    """Verify what a run has done, and write its tables.

    Raises:
        Interrupted: the dispatcher was told to stop.
    """
    wanted = _tables(context.stage, limited=bool(context.options.limit))
    asked = [node for node in context.witnesses() if node.name not in context.left_out]
    windows = windows_of(context.cloud, context.journal, context.stage, context.output)
    answers = verification.ask(dispatcher, context.cloud, context.stage, asked, wanted, windows)
    if dispatcher.stopping.is_set():
        raise Interrupted("interrupted in the final verification; `cellstep resume` makes it again")
    answers.silent.update(context.left_out)
    quarantined = context.journal.quarantined()
    return _write(_About.run_of(context), context.nodes, answers, context.journal, wanted, quarantined)


def of_tables(context: Context, tables: "Mapping[str, pd.DataFrame]") -> Report:
    """Write the tables of a run that is not verified, and the table of its nodes."""
    journal, run = context.journal, context.run
    made = {**tables, "hosts": reporting.hosts_table(journal.hosts(run))}
    past = overridden(journal, run)
    folder = _files(_About.run_of(context), journal, made, past, context.left_out)
    held = journal.all_open_holds()
    return Report(made, folder, dict(context.left_out), reporting.compliant(made), context.cloud, held, {}, past)


def of_early_end(context: Context) -> None:
    """A run that stopped leaves the table of its nodes all the same."""
    tables = _known(context.journal, context.run, context.stage, context.nodes)
    past = overridden(context.journal, context.run)
    _files(_About.run_of(context), context.journal, tables, past, context.left_out)


def of_journal(cloud: Cloud, journal: Journal, run: RunRecord) -> "tuple[dict[str, pd.DataFrame], Story]":
    """What the journal knows of a run that has written no report: its tables, and what is told beside them."""
    tables = _known(journal, run.id, run.stage, cloud.nodes)
    about = _About(cloud, run.stage, Path(run.output), run.id)
    return tables, _story(about, journal, overridden(journal, run.id), journal.left_out(run.id))


def _known(journal: Journal, run: str, stage: str, nodes: Sequence[Node]) -> "dict[str, pd.DataFrame]":
    mine = _of_stage(journal.quarantined(), stage, nodes)
    return {
        "quarantine": reporting.quarantine_table(mine.values(), now()),
        "hosts": reporting.hosts_table(journal.hosts(run)),
    }


def verify(
    cloud: Cloud, journal: Journal, stage: str, tables: Collection[str], limit: str, output: Path | None
) -> Report:
    """Verify a stage by itself: ask, compare, write the tables. Nothing is changed anywhere.

    Raises:
        UsageError: no such table or node.
    """
    runbook_of(stage, cloud)
    cloud.database_password()
    unknown = sorted(set(tables) - set(verification.TABLES))
    if unknown:
        raise UsageError(f"there is no table “{unknown[0]}”; the tables are: {', '.join(verification.TABLES)}")
    nodes = tuple(select(cloud, limit)) if limit else cloud.nodes
    last = journal.last_run(stage, whole=True) if not tables else None
    # What is not a node's own (volumes, quota usage) is left out where only some nodes are meant.
    wanted = tuple(tables) or _tables(stage, limited=bool(limit))
    asked = with_databases(cloud, nodes, top=not set(wanted) <= set(verification.NODE_TABLES))
    folder = reporting.output_folder(cloud.directory, output, reporting.dated("verify"))
    windows = windows_of(cloud, journal, stage, folder)
    with Dispatcher(cloud) as dispatcher:
        answers = verification.ask(dispatcher, cloud, stage, asked, wanted, windows)
    run = last.id if last else ""
    return _write(_About(cloud, stage, folder, run), nodes, answers, journal, wanted, journal.quarantined())


def _tables(stage: str, *, limited: bool) -> tuple[str, ...]:
    """The stage's tables; on some nodes those that are about single nodes."""
    whole = verification.tables_for(stage)
    return tuple(name for name in verification.NODE_TABLES if name in whole) if limited else whole


def overridden(journal: Journal, run: str) -> list[str]:
    """The gates that a run went past although they blocked: which, why, who, what they had found."""
    found: dict[tuple[str, str], list[str]] = {}
    for finding in journal.findings(run) if run else ():
        if finding["overridden"]:
            found.setdefault((finding["title"], finding["overridden"]), []).append(finding["text"])
    if not found:
        return []
    by = {event["what"]: event["operator"] for event in journal.events(run)}
    return [
        f"“{title}”: {reason} ({_who(by, title)}); it had found: {'; '.join(texts)}"
        for (title, reason), texts in found.items()
    ]


def _who(by: Mapping[str, str], title: str) -> str:
    """The operator of the last event that names the gate."""
    return next(
        (operator for what, operator in reversed(list(by.items())) if f"“{title}”" in what), "operator not known"
    )


def _of_stage(
    quarantined: Mapping[str, dict[str, Any]], stage: str, nodes: Sequence[Node]
) -> dict[str, dict[str, Any]]:
    """Those of the stage, and of these nodes."""
    names = {node.name for node in nodes}
    return {host: row for host, row in quarantined.items() if host in names and row["stage"] == stage}


@dataclass(frozen=True)
class _About:
    """What a report is about: a stage in a cloud, its folder, and the run that is in it ("" for none)."""

    cloud: Cloud
    stage: str
    output: Path
    run: str

    @classmethod
    def run_of(cls, context: Context) -> "_About":
        """A run's own report."""
        return cls(context.cloud, context.stage, context.output, context.run)


def _write(
    about: _About,
    nodes: Sequence[Node],
    answers: verification.Answers,
    journal: Journal,
    wanted: Collection[str],
    quarantined: Mapping[str, dict[str, Any]],
) -> Report:
    cloud, stage, run = about.cloud, about.stage, about.run
    baseline = Baseline.find(cloud, journal, stage, about.output)
    tables = comparison.tables_of(cloud, stage, nodes, answers, baseline, wanted)
    whole = not set(wanted) - tables.keys() and any(len(frame) for frame in tables.values())
    compliant = whole and not answers.silent and reporting.compliant(tables)
    mine: dict[str, dict[str, Any]] = {}
    if set(wanted) >= set(_tables(stage, limited=True)):
        mine = _of_stage(quarantined, stage, nodes)
        tables["quarantine"] = reporting.quarantine_table(mine.values(), now())
        tables["hosts"] = reporting.hosts_table(journal.hosts(run) if run else [])
    seen = journal.records(DARK, verification.component_of(stage), run) if run else {}
    if seen:
        tables["darktime"] = reporting.darktime_table(record.data for record in seen.values())
    measured = journal.records(MEASURED, verification.component_of(stage), run) if run else {}
    if measured:
        tables["dashboard"] = reporting.dashboard_table({side: each.data for side, each in measured.items()})
    crossed = journal.records(identity.TOKENS, verification.component_of(stage), run) if run else {}
    if crossed:
        tables["tokens"] = reporting.tokens_table(identity.rows(cloud, crossed))
        compliant = compliant and reporting.compliant({"tokens": tables["tokens"]})
    past = overridden(journal, run)
    folder = _files(about, journal, tables, past, answers.silent)
    held = journal.all_open_holds()
    return Report(tables, folder, answers.silent, compliant and not mine, cloud, held, mine, past)


def _files(
    about: _About,
    journal: Journal,
    tables: "dict[str, pd.DataFrame]",
    past: Sequence[str],
    silent: Mapping[str, str],
) -> Path:
    return reporting.write(about.output, about.stage, tables, _story(about, journal, past, silent))


def _story(about: _About, journal: Journal, past: Sequence[str], silent: Mapping[str, str]) -> Story:
    cloud, stage, release = about.cloud, about.stage, about.cloud.release
    facts = {"cloud": cloud.config.name, "stage": stage, "release": release.name, "run": about.run, "written": now()}
    if past:
        facts["went on past"] = "\n".join(past)
    steps = journal.steps(about.run) if about.run else ()
    return reporting.story(cloud, cloud.heading(stage), facts, silent=silent, steps=steps)
