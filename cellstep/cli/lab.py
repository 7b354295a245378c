"""`cellstep lab`: a small real cloud on this machine."""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lab import control
from lab.content import components
from lab.errors import LabError, LabUsageError
from lab.faults import FAULTS, clear, place
from lab.progress import Progress
from lab.spec import LabSpec

app = typer.Typer(help="Run a small real cloud on this machine, to try things on.", no_args_is_help=True)

Name = Annotated[str, typer.Option("--name", envvar="CELLSTEP_LAB", help="The lab's name; several can be up at once.")]
_KINDS = "\n\n".join(f"{kind}: {fault.help()}." for kind, fault in sorted(FAULTS.items()))


@contextmanager
def _reported() -> Iterator[None]:
    """Show an error of the lab as one message, with its exit code."""
    try:
        yield
    except LabError as error:
        typer.echo(f"cellstep: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except PermissionError as error:
        typer.echo(f"cellstep: {error.strerror}: {error.filename}: call it again as root", err=True)
        raise typer.Exit(1) from None


@app.command()
def up(
    name: Name = "lab",
    cells: Annotated[int, typer.Option("--cells", metavar="N", help="Child cells.")] = 2,
    computes: Annotated[int, typer.Option("--computes", metavar="N", help="Compute nodes in each cell.")] = 2,
    cloud: Annotated[
        Path | None,
        typer.Option("--cloud", metavar="DIR", help="Cloud folder to use with it; written if it is not there."),
    ] = None,
    with_components: Annotated[
        str | None,
        typer.Option(
            "--components",
            metavar="LIST",
            help=f"What runs, with commas, of {', '.join(['nova', *components.COMPONENTS])}; nova always does."
            "  [default: all of them]",
        ),
    ] = None,
) -> None:
    """Bring the lab up (does nothing if it is up already).

    A lab of the same name but another size or other components, and what a killed `up` or `down` left, is cleared away
    first. Needs root. Prints the cloud folder to use.
    """
    with _reported():
        spec = LabSpec(name, cells, computes, components.named(with_components))
        folder = control.up(spec, cloud, Progress())
        typer.echo(folder)


@app.command()
def down(name: Name = "lab") -> None:
    """Take the lab down: its hosts, networks and files. The image they are made from is kept for the next time."""
    with _reported():
        control.down(name, Progress())


@app.command()
def status(
    name: Name = "lab",
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show the lab's hosts, whether they run and answer, and the faults they were given."""
    with _reported():
        rows = control.status(name)
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
            return
        line = "{:<12} {:<7} {:<28} {:<12} {:<8} {:<4} {}"
        typer.echo(line.format("host", "cell", "roles", "address", "state", "ssh", "faults").rstrip())
        for row in rows:
            cells = (row["name"], row["cell"], ",".join(row["roles"]), row["address"], row["state"])
            ssh = "yes" if row["ssh"] else "no"
            typer.echo(line.format(*cells, ssh, " ".join(row["faults"])).rstrip())


@app.command(name="exec")
def execute(
    host: Annotated[str, typer.Argument(help="The host's short name.")],
    command: Annotated[list[str], typer.Argument(help="After `--`. One word only: a line for the shell.")],
    name: Name = "lab",
) -> None:
    """Run a command on a host over SSH, as root; ends with the command's exit status."""
    with _reported():
        line = command[0] if len(command) == 1 else shlex.join(command)
        raise typer.Exit(control.execute(name, host, line))


@app.command(
    help=f"Give a host a fault, or undo all it has with --clear (a host that is off boots).\n\nKinds:\n\n{_KINDS}"
)
def fault(
    host: Annotated[str, typer.Argument(help="The host's short name.")],
    kind: Annotated[str, typer.Argument(help="What goes wrong; see above.")] = "",
    clear_all: Annotated[bool, typer.Option("--clear", help="Undo every fault of this host.")] = False,
    amount: Annotated[int | None, typer.Option("--amount", metavar="N", help="How much, for a kind with one.")] = None,
    name: Name = "lab",
) -> None:
    """See `help` above: the kinds are listed from the table that makes them."""
    with _reported():
        if bool(kind) == clear_all or (clear_all and amount is not None):
            raise LabUsageError(f"say which fault, or --clear: {', '.join(sorted(FAULTS))}")
        machine = control.machine(name, host)
        if kind:
            placed = place(machine, kind, amount)
            typer.echo(f"{host}: {kind} {'is in place' if placed else 'was in place already'}")
        else:
            undone = clear(machine)
            typer.echo(f"{host}: {'cleared ' + ', '.join(undone) if undone else 'no fault to clear'}")
