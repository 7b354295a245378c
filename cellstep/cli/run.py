"""`cellstep plan`, `run`, `resume`: a stage's runbook, planned and carried out."""

import contextlib
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

import typer
from rich.text import Text

from cellstep import rehearsals, runs, sequence, standing, statuspage
from cellstep.cli.asking import Asker, ask
from cellstep.cli.display import RunDisplay
from cellstep.cli.options import CloudOption, JsonOption, LimitOption, OutputOption, open_cloud, reach_cloud
from cellstep.cli.output import console, ended_by, errors, print_json
from cellstep.cli.verify import print_report
from cellstep.cloud.load import Cloud
from cellstep.cloud.select import select
from cellstep.engine import plan as planning
from cellstep.engine.context import Options
from cellstep.errors import CellstepError, UsageError
from cellstep.stages import runbook_of
from cellstep.verification import component_of
from cellstep.wayback import changes_schema
from plugins.runners.bounded import draining_on_signals

T = TypeVar("T")
Stage = Annotated[str, typer.Argument(help="The stage: nova.")]
StageOrAll = Annotated[str, typer.Argument(help="The stage, or all: every stage, one after the other.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, go on.")]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="NAME=N",
        help="Compute nodes that may be lost: failed, failed-per-cell, unreachable, unreachable-per-cell;"
        " N is a number or a share such as 2%. May be given again.",
    ),
]


def plan(stage: StageOrAll, cloud: CloudOption = None, limit: LimitOption = "", as_json: JsonOption = False) -> None:
    """Show the steps of a stage with their nodes, or of all stages; nothing is asked of any node."""
    loaded = open_cloud(cloud)
    nodes = select(loaded, limit) if limit else loaded.nodes
    if stage == sequence.ALL:
        with contextlib.closing(standing.look(loaded)) as journal:
            parts = sequence.parts(loaded, journal, nodes)
        if as_json:
            print_json(sequence.as_values(loaded, parts))
        else:
            typer.echo(sequence.as_text(loaded, parts))
        return
    runbook = runbook_of(stage, loaded)
    with contextlib.closing(standing.look(loaded)) as journal:
        rehearsed = rehearsals.lines(loaded, journal, component_of(stage)) if changes_schema(runbook) else []
    if as_json:
        print_json({**planning.as_values(loaded, runbook, nodes), "rehearsals": rehearsed})
    else:
        typer.echo("\n".join([planning.as_text(loaded, runbook, nodes), *([""] if rehearsed else []), *rehearsed]))


def run(  # noqa: PLR0913, PLR0917 - a command has as many options as it needs
    stage: StageOrAll,
    cloud: CloudOption = None,
    limit: LimitOption = "",
    step: Annotated[str, typer.Option("--step", metavar="STEP", help="Only this step: its number or title.")] = "",
    begin: Annotated[str, typer.Option("--from", metavar="STEP", help="Begin at this step: its number or title.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the real state, say what would be done, change nothing.")
    ] = False,
    yes: Yes = False,
    repair_quotas: Annotated[
        bool, typer.Option("--repair-quotas", help="Repair the quota usage before the APIs open.")
    ] = False,
    afresh: Annotated[
        bool,
        typer.Option(
            "--afresh", help="Begin a new run although an unfinished one is there; all: also of stages that are done."
        ),
    ] = False,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Only the nodes in quarantine: what they missed is done now.")
    ] = False,
    budget: BudgetOption = None,
    output: OutputOption = None,
) -> None:
    """Run a stage: one checked step after another, then its reports.

    `all` runs every stage that is not done, each a run of its own, and stops at the first that does not end well;
    called again, it goes on there.

    Exit code: 0 done and compliant, 3 done but not compliant, 4 stopped (`cellstep resume` goes on), 5 locked by
    another run, 2 wrong usage or configuration, 130 interrupted, 1 an unexpected error.
    """
    loaded = reach_cloud(cloud)
    if catch_up and limit:
        raise UsageError("--catch-up is for the nodes in quarantine: leave out --limit, or --catch-up")
    options = Options(dry_run, limit, repair_quotas, catch_up, tuple(budget or ()))
    request = runs.Request(stage, step, begin, output, afresh, options)
    if stage == sequence.ALL:
        raise typer.Exit(sequence.run(loaded, request, _Conductor(loaded, yes=yes, dry_run=dry_run)))
    nodes = select(loaded, limit) if limit else loaded.nodes
    release = loaded.release
    whom = "the nodes in quarantine" if catch_up else f"{len(nodes)} nodes"
    what = f"{stage}, {release.source} to {release.target}, on {loaded.config.name}: {whom}"
    console.print(f"[bold]{what}[/bold]" + (" (dry run: nothing is changed)" if dry_run else ""))
    if not (yes or dry_run):
        ask(f"Run {len(runbook_of(stage, loaded).steps)} steps now?")
    display = RunDisplay(loaded, console, dry_run=dry_run)
    _carry(display, Asker(loaded, display, yes=yes), lambda watch: runs.start(loaded, request, watch))


def resume(
    cloud: CloudOption = None,
    yes: Yes = False,
    accept_plan: Annotated[
        bool, typer.Option("--accept-plan", help="Go on although the plan is another than when the run began.")
    ] = False,
    budget: BudgetOption = None,
    override: Annotated[
        str, typer.Option("--override", metavar="GATE", help="Go past this gate although it blocks: number or title.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why; with --override. It goes to the report.")] = "",
) -> None:
    """Go on with the run that is not complete, where it stopped; steps and nodes that are done are not done again."""
    loaded = reach_cloud(cloud)
    if reason and not override:
        raise UsageError("--reason goes with --override GATE")
    display = RunDisplay(loaded, console)
    _carry(
        display,
        Asker(loaded, display, yes=yes, accept_plan=accept_plan),
        lambda watch: runs.resume(
            loaded, watch, budgets=budget or (), override=(override, reason) if override else None
        ),
    )


def _carry(display: RunDisplay, asker: Asker, call: Callable[[runs.Watch], runs.Finished | None]) -> None:
    """Show a run while it goes on, then its reports; ends the command with the run's exit code."""
    finished = carried(display, asker, call)
    if finished is None:
        console.print("nothing to resume: the last run is complete, or there was none")
        return
    _show_end(display, finished)
    raise typer.Exit(finished.exit_code)


def _show_end(display: RunDisplay, finished: runs.Finished) -> None:
    """A run's reports, and how it ended."""
    console.print()
    if finished.report:
        print_report(finished.report)
    # A single step is not verified, so nothing is claimed of it.
    good = "done, and compliant" if finished.report else "done"
    ended = good if finished.exit_code == 0 else "done, but not compliant: see what is above"
    dry = f"dry run {finished.run}: nothing was changed"
    console.print(dry if display.dry_run else f"run {finished.run}: {ended}")


class _Conductor:
    """Shows a sequence of stages on the console, and asks there.

    Args:
        cloud: the cloud.
        yes: do not ask.
        dry_run: nothing is changed, and nothing asked.
    """

    def __init__(self, cloud: Cloud, *, yes: bool, dry_run: bool) -> None:
        self.cloud, self.yes, self.dry_run = cloud, yes, dry_run

    def told(self, line: str) -> None:
        """A line for the operator."""
        console.print(Text(line, style="bold"))

    def begin(self, question: str) -> None:
        """Ask before anything is done."""
        if not (self.yes or self.dry_run):
            ask(question)

    def go_on(self, question: str) -> bool:
        """Ask between two stages; no, where there is nobody to ask."""
        return self.yes or (sys.stdin.isatty() and typer.confirm(question))

    def carry(self, call: Callable[[runs.Watch], runs.Finished | None]) -> runs.Finished | None:
        """Show one run, and its end."""
        display = RunDisplay(self.cloud, console, dry_run=self.dry_run)
        finished = carried(display, Asker(self.cloud, display, yes=self.yes), call)
        if finished is not None:
            _show_end(display, finished)
        return finished


def carried(display: RunDisplay, asker: Asker, call: Callable[[runs.Watch], T]) -> T:
    """Call, showing what goes on; the first Ctrl-C (or SIGTERM) drains, the second leaves behind what runs."""
    stopping = threading.Event()
    caught: list[int] = []

    def on_signal(number: int) -> None:
        caught.append(number)
        if asker.asking:
            raise KeyboardInterrupt  # nothing runs: the question is answered with no
        display.notice("interrupted: nothing new is started, what runs is waited for; once more to leave it behind")

    try:
        with draining_on_signals(stopping, on_signal), display.showing():
            return call(runs.Watch(display, asker, stopping, partial(statuspage.kept, display.told)))
    except KeyboardInterrupt:
        errors.print("cellstep: left behind what was running; `cellstep resume` goes on")
        raise typer.Exit(128 + (caught[0] if caught else signal.SIGINT)) from None
    except CellstepError as error:
        if not caught:
            raise
        ended_by(error)
        raise typer.Exit(128 + caught[0]) from None
