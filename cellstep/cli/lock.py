"""`cellstep lock`: who works on this cloud, and taking it over on purpose."""

from dataclasses import asdict
from typing import Annotated

import typer

from cellstep import runs
from cellstep.cli.asking import ask
from cellstep.cli.options import CloudOption, JsonOption, open_cloud
from cellstep.cli.output import console, print_json
from cellstep.errors import UsageError
from cellstep.standing import Process, look

app = typer.Typer(help="See who works on a cloud, and take it over.", no_args_is_help=True)

TAKES_OVER = """\
From then on that process changes nothing any more: its next write to the journal is refused, it sends nothing, and
every node that hears of the new operator refuses what it sent before. What it has started on nodes is not ended:
`cellstep resume` asks each node what became of it. Take over only where the holder does not answer (its machine or its
terminal is lost, or it hangs); one that works is better interrupted where it runs, with Ctrl-C."""


@app.command()
def show(cloud: CloudOption = None, as_json: JsonOption = False) -> None:
    """Show who holds the cloud, what for, and whether that process lives. Asks no node."""
    loaded = open_cloud(cloud)
    process = Process.of(loaded)
    holder = process.holder
    if as_json:
        values = {"holder": asdict(holder) if holder else None, "alive": process.alive, "frozen": process.frozen}
        print_json({"cloud": loaded.config.name, **values})
    elif holder is None:
        console.print("in use: another cellstep has just begun" if process.alive else "free: nobody is at work here")
        for event in look(loaded).events("")[-1:]:
            console.print(f"{event['at']} {event['operator']}: {event['what']}", style="dim", markup=False)
    else:
        console.print(f"{holder.doing} by {holder.operator} on {holder.host}, pid {holder.pid}", markup=False)
        console.print(f"since {holder.since}", style="dim")
        if process.frozen:
            console.print("alive, but stopped by a signal (SIGSTOP): it does nothing until it is woken up", style="red")
        elif process.alive:
            console.print("alive", style="green")
        else:
            console.print("crashed: the process is gone; `cellstep resume` goes on, nothing to take over", style="red")


@app.command(name="take-over")
def take_over(
    reason: Annotated[str, typer.Option("--reason", help="Why; it goes to the journal.")],
    cloud: CloudOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, take over.")] = False,
) -> None:
    """Take the cloud from a holder that lives but is lost or hangs; a crashed one needs no taking over."""
    loaded = open_cloud(cloud)
    if not reason.strip():
        raise UsageError("--reason is needed: it goes to the journal")
    lock = runs.lock_of(loaded)
    holder, alive = lock.holder()
    if holder is None or not alive:
        raise UsageError("nobody holds this cloud: there is nothing to take over, `cellstep resume` goes on")
    console.print(f"in use: {holder}", markup=False)
    console.print(TAKES_OVER, style="dim", markup=False)
    if not yes:
        ask(f"Take over from {holder.operator} on {holder.host}, pid {holder.pid}?")
    lock.take_over(runs.open_journal(loaded), reason.strip(), holder)
    console.print("taken over; now `cellstep status`, then `cellstep resume`")
