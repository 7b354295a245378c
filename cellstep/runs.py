"""Runs from beginning to end: the journal, the lock, the engine, and the reports afterwards."""

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cellstep import reporting, verification
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select, with_databases
from cellstep.engine.context import Context, Options
from cellstep.engine.dispatch import Dispatcher
from cellstep.engine.journal import Journal, now
from cellstep.engine.lock import locked
from cellstep.engine.plan import find_step
from cellstep.engine.run import Display, Engine, Interrupted
from cellstep.engine.steps import Step
from cellstep.errors import CellstepError, Stopped, UsageError
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


@dataclass(frozen=True)
class Finished:
    """How a run ended; its report is None where it was a dry run."""

    run: str
    report: Report | None
    exit_code: int


def journal_path(cloud: Cloud) -> Path:
    """The cloud's journal, beside cloud.yaml."""
    return cloud.directory / "state" / "journal.sqlite3"


def lock_path(cloud: Cloud) -> Path:
    """The cloud's lock, beside its journal."""
    return cloud.directory / "state" / "lock"


def open_journal(cloud: Cloud, *, rehearsal: bool = False) -> Journal:
    """Open the cloud's journal; a rehearsal gets a copy in memory, and leaves no trace."""
    path = journal_path(cloud)
    if not rehearsal:
        return Journal(path)
    return Journal.rehearsal(path)


@dataclass(frozen=True)
class Request:
    """What the command line asked for.

    Attributes:
        stage: the stage.
        only: a step's number or title, or "": run this step only.
        begin: a step's number or title, or "": begin there.
        output: the folder for reports, or None for `out/` beside cloud.yaml.
        afresh: begin a new run although an unfinished one is there.
        options: limit, dry run, quota repair.
    """

    stage: str
    only: str = ""
    begin: str = ""
    output: Path | None = None
    afresh: bool = False
    options: Options = field(default_factory=Options)


def start(
    cloud: Cloud, request: Request, display: Display, confirm: Callable[[Step], bool], stopping: threading.Event
) -> Finished:
    """Begin a run of a stage and carry it through.

    Raises:
        CellstepError: with the exit code that fits; the journal has what was done.
    """
    runbook = runbook_of(request.stage, cloud)
    cloud.database_password()  # a file that cannot be read is better known now than at the first database
    options = request.options
    nodes = select(cloud, options.limit) if options.limit else cloud.nodes
    _refuse_without_database(cloud, nodes)
    first = find_step(runbook, request.begin) if request.begin else 0
    steps = runbook.steps[first:]
    if request.only:
        index = find_step(runbook, request.only)
        steps = runbook.steps[index : index + 1]
    with locked(lock_path(cloud), f"run {request.stage}"):
        journal = open_journal(cloud, rehearsal=options.dry_run)
        _refuse_beside_unfinished(journal, request)
        if request.afresh:
            journal.supersede_runs(request.stage)
        kept = {
            "limit": options.limit,
            "step": request.only,
            "from": request.begin,
            "repair_quotas": options.repair_quotas,
        }
        run = journal.begin_run(request.stage, cloud.release.name, runbook.digest(nodes), kept)
        output = reporting.output_folder(cloud.directory, request.output, run)
        journal.set_output(run, str(output))
        context = Context(cloud, journal, run, output, tuple(nodes), options)
        return _carry_through(context, request.stage, steps, display, confirm, stopping)


def _refuse_beside_unfinished(journal: Journal, request: Request) -> None:
    last = journal.unfinished_run(request.stage, whole=True)
    single = request.only or request.begin or request.options.limit or request.options.dry_run
    if last and not single and not request.afresh:
        raise UsageError(
            f"run {last.id} of {last.stage} is not finished ({last.state}); `cellstep resume` goes on with it,"
            " `--afresh` begins a new one (holds that are in place keep what was there before)"
        )


def _refuse_without_database(cloud: Cloud, nodes: Sequence[Node]) -> None:
    """A cell whose database is not in the inventory would get its schema synced without a dump and without a check."""
    known = {node.cell for node in cloud.nodes if "database" in node.roles}
    unknown = sorted({node.cell for node in nodes if node.tier in {"top", "cell"}} - known)
    if unknown:
        raise UsageError(f"no node has the role database in {', '.join(unknown)}: add it to the inventory")


def resume(
    cloud: Cloud, display: Display, confirm: Callable[[Step], bool], stopping: threading.Event
) -> Finished | None:
    """Go on with the newest run that is not complete; None when there is nothing to go on with.

    Raises:
        UsageError: the plan is another than when the run began.
    """
    cloud.database_password()
    with locked(lock_path(cloud), "resume"):
        journal = open_journal(cloud)
        last = journal.unfinished_run()
        if last is None:
            return None
        runbook = runbook_of(last.stage, cloud)
        limit = str(last.options.get("limit") or "")
        nodes = select(cloud, limit) if limit else cloud.nodes
        if runbook.digest(nodes) != last.plan_digest:
            raise UsageError(
                f"the steps or their nodes are not those that run {last.id} began with: put the inventory back and"
                " resume, or `run --afresh` (steps whose work is done find that out by themselves)"
            )
        steps: Sequence[Step] = runbook.steps
        if last.options.get("from"):
            steps = steps[find_step(runbook, str(last.options["from"])) :]
        if last.options.get("step"):
            index = find_step(runbook, str(last.options["step"]))
            steps = steps[index : index + 1]
        options = Options(limit=limit, repair_quotas=bool(last.options.get("repair_quotas")))
        journal.reopen_run(last.id)
        context = Context(cloud, journal, last.id, Path(last.output), tuple(nodes), options)
        return _carry_through(context, last.stage, steps, display, confirm, stopping)


def _carry_through(
    context: Context,
    stage: str,
    steps: Sequence[Step],
    display: Display,
    confirm: Callable[[Step], bool],
    stopping: threading.Event,
) -> Finished:
    runbook = runbook_of(stage, context.cloud)
    journal, run = context.journal, context.run
    if not context.options.dry_run:
        reporting.point_latest(context.output)
    try:
        with Dispatcher(context.cloud, dry_run=context.options.dry_run, stopping=stopping) as dispatcher:
            Engine(runbook, context, dispatcher, display, confirm).execute(steps)
            if context.options.dry_run:
                return Finished(run, None, 0)
            if len(steps) == len(runbook.steps):
                _refuse_open_holds(context)
            report = _final_report(context, stage, dispatcher) if len(steps) > 1 else None
    except CellstepError as error:
        if not context.options.dry_run:
            state = "stopped" if error.exit_code == Stopped.exit_code else "error"
            _end_early(journal, run, state, error.exit_code, str(error), stopping)
            _hosts_report(context, stage)
        raise
    except BaseException as error:
        if not context.options.dry_run:
            _end_early(journal, run, "error", 1, f"{type(error).__name__}: {error}", stopping)
        raise
    held = bool(report and report.held)
    missed = held or bool(context.left_out) or bool(journal.findings(run))
    code = 3 if missed or (report and not report.compliant) else 0
    journal.end_run(run, "complete", code)
    return Finished(run, report, code)


def _end_early(journal: Journal, run: str, state: str, exit_code: int, message: str, stopping: threading.Event) -> None:
    """Write why a run ended before its end; an interrupted one ends with its signal's code, which the command knows."""
    if stopping.is_set():
        journal.end_run(run, "interrupted", None, message)
    else:
        journal.end_run(run, state, exit_code, message)


def _refuse_open_holds(context: Context) -> None:
    """A run is not complete while something is held on a node that it could reach."""
    present = {node.name for node in context.present()}
    held = {name: present & set(hosts) for name, hosts in context.journal.all_open_holds().items()}
    still = [f"{name} on {context.cloud.fold(hosts)}" for name, hosts in held.items() if hosts]
    if still:
        raise Stopped(f"still held at the end: {'; '.join(still)}; lift it with `run --step`, then `cellstep resume`")


def _final_report(context: Context, stage: str, dispatcher: Dispatcher) -> Report:
    wanted = verification.NODE_TABLES if context.options.limit else verification.TABLES
    asked = [node for node in context.witnesses() if node.name not in context.left_out]
    answers = verification.ask(dispatcher, context.cloud, stage, asked, wanted)
    if dispatcher.stopping.is_set():
        raise Interrupted("interrupted in the final verification; `cellstep resume` makes it again")
    answers.silent.update(context.left_out)
    return _write(context.cloud, stage, context.nodes, answers, context.output, context.journal, context.run, wanted)


def _hosts_report(context: Context, stage: str) -> None:
    """A run that stopped leaves the table of its nodes all the same."""
    tables = {"hosts": reporting.hosts_table(context.journal.hosts(context.run))}
    _files(context.cloud, stage, tables, context.output, context.run)


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


def verify(cloud: Cloud, stage: str, tables: Collection[str], limit: str, output: Path | None) -> Report:
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
    journal = open_journal(cloud)
    last = journal.last_run(stage, whole=True) if not tables else None
    # What is not a node's own (volumes, quota usage) is left out where only some nodes are meant.
    wanted = tuple(tables) or (verification.NODE_TABLES if limit else verification.TABLES)
    asked = with_databases(cloud, nodes, top=not set(wanted) <= set(verification.NODE_TABLES))
    folder = reporting.output_folder(cloud.directory, output, reporting.dated("verify"))
    with Dispatcher(cloud) as dispatcher:
        answers = verification.ask(dispatcher, cloud, stage, asked, wanted)
    return _write(cloud, stage, nodes, answers, folder, journal, last.id if last else "", wanted)
