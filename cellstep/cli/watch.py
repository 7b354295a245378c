"""`cellstep watch`: a run in a second terminal, from its journal alone: whoever watches can disturb nothing."""

import contextlib
import signal
import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cellstep import standing, watching
from cellstep.cli.display import COLOURS
from cellstep.cli.options import CloudOption, open_cloud
from cellstep.cli.output import console
from cellstep.cloud.load import Cloud
from cellstep.engine.forecast import about
from cellstep.errors import Stopped
from cellstep.folding import names, shown
from cellstep.watching import CellProgress, Picture

TELL_EVERY_S = 10.0
"""Where it is no terminal, it says so often how far the run is, if that has changed."""
BAR = 24
STAGES = {"done": "green", "under way": "bold", "to do": "dim"}
ENDING = {signal.SIGINT, signal.SIGTERM}
OTHER_LINES = 12
"""Lines that are not cells: with fewer than these and a cell's, a terminal is too low."""


def watch(
    cloud: CloudOption = None,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", min=0.2, max=3600.0, help="Look so often.")
    ] = 1.0,
    until_end: Annotated[
        bool,
        typer.Option("--until-end", help="End when no run is under way, with the exit code of the last one."),
    ] = False,
) -> None:
    """Watch a run from another terminal: steps, cells, rates, when it will end, and what went wrong last.

    It reads the journal only and asks no node. It goes on until Ctrl-C, over all runs of `run all`. The same is in
    `out/latest/status.html`, which the run keeps up to date.
    """
    loaded = open_cloud(cloud)
    pictures = _pictures(loaded, every, until_end=until_end)
    last: Picture | None = None
    with _held_back(ENDING):
        if console.is_terminal:
            with Live(console=console, screen=True, auto_refresh=False) as live:
                for last in pictures:
                    live.update(draw(loaded, last, console.height), refresh=True)
        else:
            last = _tell(pictures)
    if console.is_terminal:
        # The screen that it was drawn on is gone: the last picture stays.
        console.print(draw(loaded, last, console.height))
    if until_end and last is not None:
        run = last.run
        raise typer.Exit(Stopped.exit_code if run.exit_code is None else run.exit_code)


@contextlib.contextmanager
def _held_back(signals: set[signal.Signals]) -> Iterator[None]:
    """Signals come only where they are waited for: in the middle of a picture one could be lost, or tear it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pictures(cloud: Cloud, every: float, *, until_end: bool) -> Iterator[Picture | None]:
    """One picture after another, until a signal. SQLite tells nobody of another process's change: look again."""
    while True:
        with contextlib.closing(standing.look(cloud)) as journal:
            picture = watching.look(cloud, journal)
        yield picture
        if until_end and (picture is None or not picture.standing.under_way):
            return
        if signal.sigtimedwait(ENDING, every) is not None:
            return


def _tell(pictures: Iterator[Picture | None]) -> Picture | None:
    """One line whenever something is different, but not too often; the last picture."""
    said, told, picture = "", float("-inf"), None
    for picture in pictures:
        line = in_a_line(picture)
        over = picture is None or not picture.standing.under_way
        if line != said and (over or time.monotonic() - told >= TELL_EVERY_S):
            at = "" if picture is None else f"{picture.at[11:19]} UTC  "
            console.print(f"{at}{line}", markup=False, highlight=False, soft_wrap=True)
            said, told = line, time.monotonic()
    return picture


def in_a_line(picture: Picture | None) -> str:
    """A picture in one line."""
    if picture is None:
        return "no run yet"
    said = f"{picture.run.stage}: {picture.headline}"
    if not picture.standing.under_way:
        return said
    if picture.nodes:
        said += f": {picture.ended:,} of {len(picture.nodes):,} nodes"
    rate = f"; {picture.rate:,.0f} a minute" if picture.rate else ""
    return said + rate + (f"; {picture.end}" if picture.end else "")


def draw(cloud: Cloud, picture: Picture | None, height: int) -> RenderableType:
    """A picture for a terminal of so many lines."""
    if picture is None:
        return Text("no run yet: waiting for one; Ctrl-C ends this", style="dim")
    parts: list[RenderableType] = [_head(cloud, picture), _stages(picture), Text(""), _step(picture)]
    troubles = list(_troubles(cloud, picture))
    room = max(height - OTHER_LINES - 2 * len(troubles), 3)
    parts += [_cells(picture, room), *troubles]
    return Group(*parts)


def _head(cloud: Cloud, picture: Picture) -> RenderableType:
    run, stands = picture.run, picture.standing
    title = Text(f"{cloud.config.name}: {run.stage}, {cloud.release.source} to {cloud.release.target}", style="bold")
    line = Table.grid(expand=True)
    line.add_column(ratio=1)
    line.add_column(justify="right", no_wrap=True)
    line.add_row(title, Text(f"{picture.at[11:19]} UTC", style="dim"))
    left = ""
    if stands.under_way:
        left = f"; what is left takes {stands.left}" if stands.left else "; nothing is known yet of what is left"
        left += f": {picture.end}" if picture.end else ""
    took = f"began {run.started_at[11:19]} UTC, {about(stands.elapsed_s)}{left}"
    return Group(line, Text(f"run {run.id} by {run.operator}; {took}", style="dim"))


def _stages(picture: Picture) -> RenderableType:
    line = Text()
    for number, (name, words) in enumerate(picture.stages):
        line.append("  " if number else "")
        line.append(name, STAGES.get(words, "red")).append(f" {words}" if words != "to do" else "", "dim")
    return line


def _step(picture: Picture) -> RenderableType:
    stands = picture.standing
    done = sum(step["state"] in {"done", "empty"} for step in stands.steps)
    table = Table.grid(padding=(0, 1))
    style = "bold" if stands.under_way and not stands.process.frozen else "bold red"
    if picture.run.state == "complete":
        style = "bold green" if picture.run.exit_code == 0 else "bold yellow"
    table.add_row(ProgressBar(total=max(stands.total, 1), completed=done, width=BAR), Text(picture.headline, style))
    if picture.nodes:
        rate = f", {picture.rate:,.0f} a minute" if picture.rate else ""
        step = "" if stands.under_way or picture.step is None else f"“{picture.step['title']}”: "
        table.add_row("", Text(f"{step}{picture.ended:,} of {len(picture.nodes):,} nodes{rate}"))
    return table


def _cells(picture: Picture, room: int) -> RenderableType:
    """The cells that are busy or in trouble first; those that are through only where there is room."""
    table = Table.grid(padding=(0, 1))
    wanted = picture.cells if picture.standing.under_way else [cell for cell in picture.cells if not _through(cell)[0]]
    shown_ = sorted(wanted, key=_through)[:room]
    places = {cell.name: place for place, cell in enumerate(picture.cells)}
    for cell in sorted(shown_, key=lambda cell: places[cell.name]):
        said = Text(f"{cell.name}  {cell.ended:,} of {cell.nodes:,}")
        said.append(f"  {cell.busy:,} under way" if cell.busy else "", "cyan")
        said.append(f"  {cell.trouble:,} in trouble" if cell.trouble else "", "red")
        table.add_row(ProgressBar(total=max(cell.nodes, 1), completed=cell.ended, width=BAR), said)
    rest = len(wanted) - len(shown_)
    if rest:
        table.add_row("", Text("and one more cell" if rest == 1 else f"and {rest:,} more cells", style="dim"))
    return table


def _through(cell: CellProgress) -> tuple[bool, bool]:
    return cell.ended == cell.nodes and not cell.trouble, not (cell.busy or cell.trouble)


def _troubles(cloud: Cloud, picture: Picture) -> Iterator[RenderableType]:
    for trouble in picture.troubles:
        groups, rest = shown(trouble.groups)
        for group in groups:
            said = f"{group.kind} at “{trouble.title}”: {names(cloud, group.nodes)}: {group.text}"
            yield Text(said, style=COLOURS[group.kind], overflow="ellipsis")
        if rest:
            yield Text(rest, style="dim")
    if picture.quarantined:
        yield Text(f"in quarantine: {names(cloud, picture.quarantined)}", style="red")
    for hosts, holds in picture.held:
        yield Text(f"held: {', '.join(holds)} on {names(cloud, hosts)}", style="yellow")
