"""What the operator is asked while a run goes on: at its gates, at its point of no return, and about a changed plan."""

import contextlib
import itertools
import sys
from collections.abc import Sequence

import typer
from rich.table import Table
from rich.text import Text

from cellstep import runs, standing
from cellstep.cli.display import RunDisplay
from cellstep.cli.output import console
from cellstep.cloud.load import Cloud
from cellstep.engine.run import Crossing
from cellstep.errors import UsageError
from cellstep.folding import names
from cellstep.stages import STAGES, runbook_of


def ask(question: str) -> None:
    """Ask before anything is done.

    Raises:
        UsageError: no, or there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on: say --yes")
    if not typer.confirm(question):
        raise UsageError("not confirmed: nothing was done")


def typed(question: str, word: str) -> None:
    """Ask for a word that stands for what would be lost.

    Raises:
        UsageError: another was typed.
    """
    if typer.prompt(question).strip() != word:
        raise UsageError(f"that is not {word}: nothing was done")


class Asker:
    """Asks on the terminal, unless told beforehand.

    Args:
        cloud: the cloud.
        display: what shows the run; it is silent while we ask.
        yes: go on past gates and the point of no return.
        accept_plan: go on although the plan is another than when the run began.
    """

    def __init__(self, cloud: Cloud, display: RunDisplay, *, yes: bool, accept_plan: bool = False) -> None:
        self.cloud, self.display, self.yes, self.accept_plan = cloud, display, yes, accept_plan
        self.asking = False

    def confirm(self, crossing: Crossing) -> bool:
        """Whether to go on."""
        if self.yes:
            return True
        if not sys.stdin.isatty():
            return False
        self.display.pause()
        self.asking = True
        try:
            self._show(crossing)
            return typer.confirm(f"Point of no return. {crossing.step.title}?" if crossing.no_return else "Go on?")
        except typer.Abort:  # Ctrl-C, or the end of the input: that is no yes
            console.print()
            return False
        finally:
            self.asking = False
            self.display.proceed()

    def _show(self, crossing: Crossing) -> None:
        """What can be undone and how, what cannot, what is held, and what is ahead."""
        with contextlib.closing(runs.open_journal(self.cloud, read_only=True)) as journal:
            run = standing.newest(journal)
            held = journal.all_open_holds()
            quarantined = journal.quarantined()
            takes = standing.ahead(journal, run, only=crossing.ahead) if run else None
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")

        def row(what: str, says: str, style: str = "") -> None:
            table.add_row(Text(f"   {what}", style="dim"), Text(says, style=style))

        way = crossing.way_back or "nothing undoes what was done"
        if crossing.no_return:
            row("up to here", way, "green" if crossing.way_back else "bold red")
            row("after this step", "there is no way back", "bold red")
        else:
            row("can be undone", way, "green" if crossing.way_back else "bold red")
            if end := self._no_return_ahead(run.stage if run else "", crossing):
                row("no way back", f"after “{end}”; you are asked again before it", "yellow")
        for n, (name, hosts) in enumerate(held.items()):
            row("" if n else "held", f"{name}: {names(self.cloud, hosts)}")
        if quarantined:
            row("in quarantine", names(self.cloud, quarantined), "red")
        steps = "one step" if len(crossing.ahead) == 1 else f"{len(crossing.ahead)} steps"
        how_long = str(takes) if takes else "how long it takes is not known: there is no earlier run to go by"
        row("ahead", f"{steps}, up to “{crossing.ahead[-1]}”: {how_long}", "bold")
        console.print()
        console.print(table)

    def _no_return_ahead(self, stage: str, crossing: Crossing) -> str:
        """The step after which there is no way back, where it is still to come."""
        if stage not in STAGES or not crossing.way_back:
            return ""
        steps = runbook_of(stage, self.cloud).steps
        after = itertools.dropwhile(lambda step: step.title != crossing.step.title, steps)
        return next((step.title for step in after if step.no_return), "")

    def accept(self, changes: Sequence[str]) -> bool:
        """Whether to go on with a changed plan."""
        console.print("[bold]The plan is another than when the run began:[/bold]")
        colours = {"+": "green", "-": "red"}
        for line in changes:
            console.print(Text(f"  {line}", style=colours.get(line[0], "yellow")))
        if self.accept_plan:
            return True
        return sys.stdin.isatty() and typer.confirm("Go on with the plan as it is now?")
