"""What a run or a verification proves: ask the nodes, compare, write the tables."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cellstep import reporting, verification
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select, with_databases
from cellstep.engine.context import Context
from cellstep.engine.dispatch import Dispatcher
from cellstep.engine.journal import Journal
from cellstep.engine.run import Interrupted
from cellstep.engine.store import now
from cellstep.errors import UsageError
from cellstep.stages import runbook_of

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
        fold: folds the cloud's node names.
        held: holds that are still in place: name to nodes.
    """

    tables: "dict[str, pd.DataFrame]"
    folder: Path | None
    silent: dict[str, str]
    compliant: bool
    fold: Callable[[Iterable[str]], str]
    held: dict[str, list[str]]


def of_run(context: Context, dispatcher: Dispatcher) -> Report:
    """Verify what a run has done, and write its tables.

    Raises:
        Interrupted: the dispatcher was told to stop.
    """
    wanted = verification.NODE_TABLES if context.options.limit else verification.TABLES
    asked = [node for node in context.witnesses() if node.name not in context.left_out]
    answers = verification.ask(dispatcher, context.cloud, context.stage, asked, wanted)
    if dispatcher.stopping.is_set():
        raise Interrupted("interrupted in the final verification; `cellstep resume` makes it again")
    answers.silent.update(context.left_out)
    return _write(
        context.cloud, context.stage, context.nodes, answers, context.output, context.journal, context.run, wanted
    )


def of_early_end(context: Context) -> None:
    """A run that stopped leaves the table of its nodes all the same."""
    tables = {"hosts": reporting.hosts_table(context.journal.hosts(context.run))}
    _files(context.cloud, context.stage, tables, context.output, context.run)


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
    wanted = tuple(tables) or (verification.NODE_TABLES if limit else verification.TABLES)
    asked = with_databases(cloud, nodes, top=not set(wanted) <= set(verification.NODE_TABLES))
    folder = reporting.output_folder(cloud.directory, output, reporting.dated("verify"))
    with Dispatcher(cloud) as dispatcher:
        answers = verification.ask(dispatcher, cloud, stage, asked, wanted)
    return _write(cloud, stage, nodes, answers, folder, journal, last.id if last else "", wanted)


def _write(
    cloud: Cloud,
    stage: str,
    nodes: Sequence[Node],
    answers: verification.Answers,
    output: Path,
    journal: Journal,
    run: str,
    wanted: Collection[str],
) -> Report:
    baseline = verification.Baseline.find(journal, stage, output)
    tables = verification.tables_of(cloud, stage, nodes, answers, baseline, wanted)
    whole = not set(wanted) - tables.keys() and any(len(frame) for frame in tables.values())
    compliant = whole and not answers.silent and reporting.compliant(tables)
    if set(wanted) >= set(verification.NODE_TABLES):
        tables["hosts"] = reporting.hosts_table(journal.hosts(run) if run else [])
    folder = _files(cloud, stage, tables, output, run)
    return Report(tables, folder, answers.silent, compliant, cloud.fold, journal.all_open_holds())


def _files(cloud: Cloud, stage: str, tables: "dict[str, pd.DataFrame]", output: Path, run: str) -> Path:
    release = cloud.release
    title = f"{stage.capitalize()}, {release.source.capitalize()} to {release.target.capitalize()}: {cloud.config.name}"
    facts = {"cloud": cloud.config.name, "stage": stage, "release": release.name, "run": run, "written": now()}
    return reporting.write(output, stage, tables, title, facts)
