"""Runs from beginning to end: the journal, the lock, the engine, and the reports afterwards."""

import contextlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from nornir.core.task import Result, Task

from cellstep import proof, reporting
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select
from cellstep.engine import plan
from cellstep.engine.budgets import Budgets
from cellstep.engine.context import Context, Options
from cellstep.engine.dispatch import Dispatcher, Errand
from cellstep.engine.journal import UNFINISHED, Journal, RunRecord
from cellstep.engine.lock import Lock
from cellstep.engine.run import Crossing, Display, Engine
from cellstep.engine.steps import Runbook, Step
from cellstep.errors import CellstepError, JournalFailed, Locked, Stopped, UsageError
from cellstep.stages import STAGES, runbook_of
from tasks.binding import Binding
from tasks.shell import fence


class Operator(Protocol):
    """Who is asked."""

    def confirm(self, crossing: Crossing) -> bool:
        """Whether to go on past a gate, or past the point of no return."""

    def accept(self, changes: Sequence[str]) -> bool:
        """Whether to go on although the plan is another than when the run began."""


Beside = Callable[[Cloud, str, Path], contextlib.AbstractContextManager[None]]
"""Called with the cloud, a run's id and its folder: what is kept up beside the run while it goes on."""


def _nothing(cloud: Cloud, run: str, folder: Path) -> contextlib.AbstractContextManager[None]:  # noqa: ARG001
    return contextlib.nullcontext()


@dataclass(frozen=True)
class Watch:
    """Who sees a run, who is asked, what stops it, and what is kept up beside it."""

    display: Display
    operator: Operator
    stopping: threading.Event
    beside: Beside = _nothing


@dataclass(frozen=True)
class Finished:
    """How a run ended; its report is None where it was a dry run, or a single step."""

    run: str
    report: proof.Report | None
    exit_code: int
    quarantined: tuple[str, ...] = ()


def journal_path(cloud: Cloud) -> Path:
    """The cloud's journal, beside cloud.yaml."""
    return cloud.directory / "state" / "journal.sqlite3"


def lock_of(cloud: Cloud) -> Lock:
    """The cloud's lock, beside its journal."""
    return Lock(cloud.directory / "state" / "lock")


def open_journal(cloud: Cloud, *, rehearsal: bool = False, read_only: bool = False) -> Journal:
    """Open the cloud's journal; a rehearsal gets a copy in memory, and who only reads makes none."""
    path = journal_path(cloud)
    if rehearsal or (read_only and not path.exists()):
        return Journal.rehearsal(path)
    return Journal(path, read_only=read_only)


@dataclass(frozen=True)
class Request:
    """What the command line asked for.

    Attributes:
        stage: the stage.
        only: a step's number or title, or "": run this step only.
        begin: a step's number or title, or "": begin there.
        output: the folder for reports, or None for `out/` beside cloud.yaml.
        afresh: begin a new run although an unfinished one is there.
        options: limit, dry run, quota repair, budgets and so on.
    """

    stage: str
    only: str = ""
    begin: str = ""
    output: Path | None = None
    afresh: bool = False
    options: Options = field(default_factory=Options)

    @property
    def partial(self) -> bool:
        """Not all steps on all nodes."""
        return bool(self.only or self.begin or self.options.limit or self.options.catch_up)


def start(
    cloud: Cloud,
    request: Request,
    watch: Watch,
    *,
    undone: str = "",
    beginning: Callable[[Journal], None] | None = None,
) -> Finished:
    """Begin a run of a stage and carry it through.

    Args:
        cloud: the cloud.
        request: what was asked for.
        watch: who sees it, and who is asked.
        undone: a stage whose unfinished runs do not stand in its way, since it takes them back.
        beginning: called when nothing can refuse the run any more, right before it is written. Whoever is killed
            between the two has no run, and can begin again.

    Raises:
        CellstepError: with the exit code that fits; the journal has what was done.
    """
    runbook = runbook_of(request.stage, cloud)
    cloud.database_password()  # a file that cannot be read is better known now than at the first database
    Budgets.of(cloud.config.budgets, request.options.budgets)
    steps = _steps(runbook, request.only, request.begin)
    _refuse_without_database(cloud, _nodes(cloud, request.options))
    journal = open_journal(cloud, rehearsal=request.options.dry_run)
    lock = lock_of(cloud)
    with contextlib.closing(journal), lock.held(journal, f"run {request.stage}") as holder:
        options = _of_quarantine(cloud, journal, request) if request.options.catch_up else request.options
        nodes = _nodes(cloud, options)
        _refuse_beside_unfinished(journal, request, undone)
        if request.afresh:
            journal.supersede_runs(request.stage)
        kept = {
            "limit": options.limit,
            "step": request.only,
            "from": request.begin,
            "repair_quotas": options.repair_quotas,
            "catch_up": options.catch_up,
            "budgets": list(options.budgets),
        }
        lines = plan.as_kept(cloud, runbook, nodes)
        if beginning:
            beginning(journal)
        run = journal.begin_run(request.stage, cloud.release.name, runbook.digest(nodes), kept, lines)
        output = reporting.output_folder(cloud.directory, request.output, run)
        journal.set_output(run, str(output))
        context = Context(cloud, journal, run, request.stage, output, tuple(nodes), options)
        return _carry_through(context, runbook, steps, watch, lock, holder.token)


def resume(
    cloud: Cloud,
    watch: Watch,
    *,
    budgets: Sequence[str] = (),
    override: tuple[str, str] | None = None,
) -> Finished | None:
    """Go on with the newest run that is not complete; None when there is nothing to go on with.

    Args:
        cloud: the cloud.
        watch: who sees it and is asked.
        budgets: further `NAME=N` wishes.
        override: a gate (number or title) that may block, and the reason to go on all the same.

    Raises:
        UsageError: the plan is another than when the run began, and that was not accepted; no such gate or budget.
    """
    cloud.database_password()
    journal = open_journal(cloud)
    lock = lock_of(cloud)
    with contextlib.closing(journal), lock.held(journal, "resume") as holder:
        last = journal.unfinished_run()
        if last is None:
            return None
        runbook = runbook_of(last.stage, cloud)
        options = _options_again(runbook, last, budgets, override)
        Budgets.of(cloud.config.budgets, options.budgets)
        nodes = _nodes(cloud, options)
        _accept_changes(journal, last, runbook, cloud, nodes, watch.operator)
        steps = _steps(runbook, str(last.options.get("step") or ""), str(last.options.get("from") or ""))
        journal.reopen_run(last.id)
        output = Path(last.output) if last.output else reporting.output_folder(cloud.directory, None, last.id)
        journal.set_output(last.id, str(output))
        context = Context(cloud, journal, last.id, last.stage, output, tuple(nodes), options)
        return _carry_through(context, runbook, steps, watch, lock, holder.token)


def _options_again(
    runbook: Runbook, last: RunRecord, budgets: Sequence[str], override: tuple[str, str] | None
) -> Options:
    kept = last.options
    return Options(
        limit=str(kept.get("limit") or ""),
        repair_quotas=bool(kept.get("repair_quotas")),
        catch_up=bool(kept.get("catch_up")),
        budgets=(*kept.get("budgets", ()), *budgets),
        overrides=overrides_of(runbook, override) if override else {},
    )


def overrides_of(runbook: Runbook, override: tuple[str, str]) -> dict[str, str]:
    """The gate that the operator goes past knowingly, with the reason.

    Raises:
        UsageError: it is no gate, or there is no reason.
    """
    gate, reason = override
    step = runbook.steps[plan.find_step(runbook, gate)]
    if step.kind != "gate":
        raise UsageError(f"“{step.title}” is no gate; `plan {runbook.stage}` marks the gates")
    if not reason.strip():
        raise UsageError("--override needs --reason: it goes to the journal and the report")
    return {step.title: reason.strip()}


def _steps(runbook: Runbook, only: str, begin: str) -> Sequence[Step]:
    if only:
        index = plan.find_step(runbook, only)
        return runbook.steps[index : index + 1]
    return runbook.steps[plan.find_step(runbook, begin) if begin else 0 :]


def _nodes(cloud: Cloud, options: Options) -> tuple[Node, ...]:
    return select(cloud, options.limit) if options.limit else cloud.nodes


def _of_quarantine(cloud: Cloud, journal: Journal, request: Request) -> Options:
    """The same options, for the nodes in quarantine."""
    waiting = {host for host, row in journal.quarantined().items() if row["stage"] == request.stage}
    here = [node.name for node in cloud.nodes if node.name in waiting]
    gone = sorted(waiting - set(here))
    if gone:
        journal.release("", request.stage, gone)
        journal.event("", f"out of quarantine, because they are not in the inventory any more: {cloud.fold(gone)}")
    if not here:
        raise UsageError(f"no node is in quarantine for {request.stage}: there is nothing to catch up with")
    return replace(request.options, limit=",".join(here))


def _refuse_beside_unfinished(journal: Journal, request: Request, undone: str) -> None:
    open_runs = (run for run in journal.runs() if run.state in UNFINISHED and run.whole and run.stage != undone)
    last = next(open_runs, None)
    if last is None or request.partial or request.options.dry_run:
        return
    if not (request.afresh and last.stage == request.stage):
        afresh = ", `--afresh` begins a new one of its stage (holds that are in place keep what was there before)"
        raise UsageError(
            f"run {last.id} of {last.stage} is not finished ({last.state}); `cellstep resume` goes on with it,"
            f" `cellstep abandon` ends it{afresh if last.stage in STAGES else ''}"
        )


def _refuse_without_database(cloud: Cloud, nodes: Sequence[Node]) -> None:
    """A cell whose database is not in the inventory would get its schema synced without a dump and without a check."""
    known = {node.cell for node in cloud.nodes if "database" in node.roles}
    unknown = sorted({node.cell for node in nodes if node.tier in {"top", "cell"}} - known)
    if unknown:
        raise UsageError(f"no node has the role database in {', '.join(unknown)}: add it to the inventory")


def _accept_changes(
    journal: Journal, last: RunRecord, runbook: Runbook, cloud: Cloud, nodes: Sequence[Node], operator: Operator
) -> None:
    """A plan that is another than when the run began is shown, and must be accepted."""
    if runbook.digest(nodes) == last.plan_digest:
        return
    lines = plan.as_kept(cloud, runbook, nodes)
    changes = plan.difference(journal.plan_of(last.id), lines)
    if not operator.accept(changes):
        raise UsageError(
            f"the plan of run {last.id} has changed since it began, and that was not accepted: put it back, or"
            " `cellstep resume --accept-plan` (new nodes get the steps that are done already, nodes that are gone none)"
        )
    journal.accept_plan(last.id, runbook.digest(nodes), lines)
    journal.event(last.id, f"accepted another plan: {'; '.join(changes)}")


def _carry_through(
    context: Context, runbook: Runbook, steps: Sequence[Step], watch: Watch, lock: Lock, token: int
) -> Finished:
    """Carry it through; what is kept beside it lasts until the journal knows how it ended."""
    if context.options.dry_run:
        return _carried(context, runbook, steps, watch, lock, token)
    with watch.beside(context.cloud, context.run, context.output):
        return _carried(context, runbook, steps, watch, lock, token)


def _carried(
    context: Context, runbook: Runbook, steps: Sequence[Step], watch: Watch, lock: Lock, token: int
) -> Finished:
    journal, run, dry_run = context.journal, context.run, context.options.dry_run
    report = None

    def still_ours() -> None:
        lock.check(token)

    try:
        if not dry_run:
            reporting.point_latest(context.output)
        with Dispatcher(context.cloud, dry_run=dry_run, stopping=watch.stopping) as dispatcher:
            _fence_unknown(context, dispatcher, token)
            engine = Engine(runbook, context, dispatcher, watch.display, watch.operator.confirm, still_ours, token)
            engine.execute(steps)
            if dry_run:
                return Finished(run, None, 0)
            if len(steps) == len(runbook.steps):
                _refuse_open_holds(context)
                journal.release(run, context.stage, [node.name for node in context.present()])
            if runbook.report:
                report = proof.of_tables(context, runbook.report(context))
            elif len(steps) > 1:
                report = proof.of_run(context, dispatcher)
    except BaseException as error:  # also a second Ctrl-C: the journal says why the run ended
        if not dry_run:
            _end_early(context, error, watch.stopping)
        raise
    held = bool(report and report.held)
    missed = held or bool(context.left_out) or bool(journal.findings(run))
    code = 3 if missed or (report and not report.compliant) else 0
    journal.end_run(run, "complete", code)
    return Finished(run, report, code, tuple(context.left_out))


def _fence_unknown(context: Context, dispatcher: Dispatcher, token: int) -> None:
    """Nodes to which something was sent and of which nothing more is known hear of the new token before all else.

    What another holder has under way there cannot go on with another command; a node that does not answer now is asked
    again in its step.
    """
    unknown = context.journal.uncertain()
    nodes = [node for node in context.nodes if node.name in unknown]
    if nodes and not context.options.dry_run:
        bindings = {node.name: Binding(context.run, "the fence", token=token) for node in nodes}
        dispatcher.send(_fence, nodes, {node.name: {} for node in nodes}, Errand(bindings=bindings))


def _fence(task: Task) -> Result:
    fence(task)
    return Result(host=task.host)


def _end_early(context: Context, error: BaseException, stopping: threading.Event) -> None:
    """Write why a run ended before its end; an interrupted one ends with its signal's code, which the command knows.

    A journal that cannot be written, or is another's now, stays as it is: its last lines say how far the run was.
    """
    if isinstance(error, JournalFailed | Locked):
        return
    known = isinstance(error, CellstepError)
    code = error.exit_code if isinstance(error, CellstepError) else 1
    state = "stopped" if code == Stopped.exit_code else "error"
    message = str(error) if known else f"{type(error).__name__}: {error}"
    if stopping.is_set():
        context.journal.end_run(context.run, "interrupted", None, message)
    else:
        context.journal.end_run(context.run, state, code, message)
    if known:
        with contextlib.suppress(OSError):  # the journal has it all; a full disk must not hide why the run ended
            proof.of_early_end(context)


def _refuse_open_holds(context: Context) -> None:
    """A run is not complete while something is held on a node that it went to, or is unknown of one.

    One that is gone from the inventory counts too: what is in place there is in place.
    """
    journal, run, fold = context.journal, context.run, context.cloud.fold
    present = {row["host"] for row in journal.hosts(run)} - context.left_out.keys()
    held = {name: present & set(hosts) for name, hosts in journal.all_open_holds().items()}
    still = [f"{name} on {fold(hosts)}" for name, hosts in held.items() if hosts]
    unknown = {host for hosts in journal.unknown_hosts(run).values() for host in hosts} & present
    if still:
        raise Stopped(f"still held at the end: {'; '.join(still)}; `cellstep holds lift`, then `cellstep resume`")
    if unknown:
        raise Stopped(
            f"not known at the end what became of {fold(unknown)}; put them back into the inventory and"
            " `cellstep resume`, or end the run knowingly: `cellstep abandon`"
        )
