"""What the operator is asked while a run goes on: at its gates, at its point of no return, and about a changed plan."""

import sys
from collections.abc import Sequence

import typer
from rich.text import Text

from cellstep import runs
from cellstep.cli.display import RunDisplay
from cellstep.cli.output import console
from cellstep.cloud.load import Cloud
from cellstep.engine.run import Crossing
from cellstep.errors import UsageError


def ask(question: str) -> None:
    """Ask before anything is done.

    Raises:
        UsageError: no, or there is nobody to ask.
    """
    if not sys.stdin.isatty():
        raise UsageError("there is no terminal to ask on: say --yes")
    if not typer.confirm(question):
        raise UsageError("not confirmed: nothing was done")


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

    def confirm(self, crossing: Crossing) -> bool:
        """Whether to go on."""
        if self.yes:
            return True
        if not sys.stdin.isatty():
            return False
        self.display.pause()
        try:
            self._show(crossing)
            return typer.confirm(f"Point of no return. {crossing.step.title}?" if crossing.no_return else "Go on?")
        finally:
            self.display.proceed()

    def _show(self, crossing: Crossing) -> None:
        way = crossing.way_back or "nothing brings back what was"
        if crossing.no_return:
            console.print(Text(f"   up to here {way}; after this step no more", style="bold yellow"))
        else:
            console.print(Text(f"   reversible so far: {way}", style="yellow"))
        held = runs.open_journal(self.cloud, read_only=True).all_open_holds()
        for name, hosts in held.items():
            console.print(Text(f"   held: {name} on {self.cloud.fold(hosts)}", style="dim"))
        console.print(Text(f"   ahead: {len(crossing.ahead)} steps, up to “{crossing.ahead[-1]}”", style="dim"))

    def accept(self, changes: Sequence[str]) -> bool:
        """Whether to go on with a changed plan."""
        console.print("[bold]The plan is another than when the run began:[/bold]")
        colours = {"+": "green", "-": "red"}
        for line in changes:
            console.print(Text(f"  {line}", style=colours.get(line[0], "yellow")))
        if self.accept_plan:
            return True
        return sys.stdin.isatty() and typer.confirm("Go on with the plan as it is now?")
