"""`cellstep backout`: a stage taken back, until its point of no return."""

from typing import Annotated

import typer

from cellstep import backout as going_back
from cellstep import runs
from cellstep.cli.asking import Asker, ask
from cellstep.cli.display import RunDisplay
from cellstep.cli.options import CloudOption, OutputOption, reach_cloud
from cellstep.cli.output import console
from cellstep.cli.run import BudgetOption, Stage, Yes, _carry
from cellstep.engine.context import Options
from cellstep.stages import runbook_of


def backout(
    stage: Stage,
    cloud: CloudOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the real state, say what would be done, change nothing.")
    ] = False,
    yes: Yes = False,
    budget: BudgetOption = None,
    output: OutputOption = None,
) -> None:
    """Take a stage back: packages, kernels, databases and holds as they were before its run began.

    Works from any place before the stage's point of no return. `cellstep plan STAGE-backout` shows the steps, and
    `cellstep resume` goes on with a back-out that stopped. Exit codes are those of `cellstep run`.
    """
    loaded = reach_cloud(cloud)
    upgrade = going_back.upgrade_of(loaded, stage)
    name = going_back.stage_of(stage)
    cells = sorted(upgrade.synced())
    what = f"back out of {stage}, run {upgrade.last.id} ({upgrade.last.state}), on {loaded.config.name}"
    console.print(f"[bold]{what}[/bold]" + (" (dry run: nothing is changed)" if dry_run else ""))
    dumps = f"databases restored from their dumps in: {', '.join(cells)}" if cells else "no schema was touched"
    console.print(f"{dumps}; what was written to them since is lost" if cells else dumps)
    if not loaded.config.repository.promote.undo:
        console.print("cloud.yaml has no repository.promote.undo: you will be asked to move it back", style="yellow")
    if not (yes or dry_run):
        ask(f"Run {len(runbook_of(name, loaded).steps)} steps now?")
    options = Options(dry_run=dry_run, budgets=tuple(budget or ()))
    request = runs.Request(name, output=output, options=options)
    display = RunDisplay(loaded, console, dry_run=dry_run)
    _carry(display, Asker(loaded, display, yes=yes), lambda watch: going_back.start(loaded, request, watch))
