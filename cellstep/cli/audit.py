"""`cellstep audit`: the whole cloud looked at at once; what differs from the audit before; audits on a schedule."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from cellstep import reporting, standing
from cellstep.auditing import kept, timers
from cellstep.auditing.audit import Audit, compare
from cellstep.auditing.audit import audit as make
from cellstep.auditing.telling import tell
from cellstep.cli.options import CloudOption, JsonOption, LimitOption, OutputOption, open_cloud, reach_cloud
from cellstep.cli.output import console, errors, print_json
from cellstep.cli.verify import print_tables
from cellstep.cloud.load import Cloud
from cellstep.errors import UsageError
from cellstep.folding import groups_of, names
from cellstep.folding import shown as alike
from reports.story import Changes
from reports.writers import json_parts

COLOURS = {"good": "green", "warn": "yellow", "bad": "red", "silent": "magenta", "none": "dim"}
CHANGES_SHOWN = 20

app = typer.Typer(
    name="audit",
    help="Look at the whole cloud and its databases at once; changes nothing.",
    invoke_without_command=True,
    no_args_is_help=False,
)


@app.callback()
def audit(
    context: typer.Context,
    cloud: CloudOption = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar="NAME", help="Only this table; may be given again.")
    ] = None,
    limit: LimitOption = "",
    output: OutputOption = None,
    notify: Annotated[
        bool, typer.Option("--notify", help="Tell whom cloud.yaml names of new problems, and write the metrics.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at the whole cloud and its databases at once, and say what differs from the audit before; changes nothing.

    Exit code 0 when all is as it should be, 3 when not, or when a node or a database gave no answer; 5 beside a run.
    """
    if context.invoked_subcommand is not None:
        return
    loaded = reach_cloud(cloud)
    if notify and (table or limit):
        raise UsageError("--notify goes with an audit of everything, without --table and --limit")
    journal = standing.look(loaded)
    with _progress(loaded, shown=not as_json) as ended:
        found = make(loaded, journal, tables=table or (), limit=limit, output=output, ended=ended)
    # Before anything is printed: who reads the output may go away.
    untold = tell(loaded, found) if notify else []
    if as_json:
        _print_values(found)
    else:
        _print(loaded, found)
    for line in untold:
        errors.print(f"cellstep: could not be told: {line}", markup=False)
    raise typer.Exit(0 if found.compliant else 3)


@app.command()
def install(
    calendar: Annotated[
        str, typer.Option("--calendar", metavar="WHEN", help="As systemd.time(7) has it: daily, '*-*-* 02:30'.")
    ] = "",
    crontab: Annotated[
        str, typer.Option("--crontab", metavar="WHEN", help="Print a line for a crontab instead: '30 2 * * *'.")
    ] = "",
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Who runs it.")] = "root",
    units: Annotated[
        Path | None, typer.Option("--units", metavar="DIR", help="Only write the units, into this folder.")
    ] = None,
    cloud: CloudOption = None,
) -> None:
    """Have audits made on a schedule: writes and enables a service and a timer of systemd, or prints a crontab line."""
    loaded = open_cloud(cloud)
    if bool(calendar) == bool(crontab):
        raise UsageError("give one of --calendar and --crontab")
    if crontab:
        typer.echo(timers.crontab(loaded, crontab))
        return
    made = timers.units(loaded, calendar, user)
    timers.check(made, calendar)
    for path in timers.write(made, units or timers.UNITS):
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
    if units is None:
        timers.enable(made)
        console.print(f"enabled {made.name}.timer; `systemctl list-timers {made.name}.timer` tells when it is next")


@app.command()
def diff(
    older: Annotated[str, typer.Argument(metavar="A", help="An audit: its name, a date, `previous` or `latest`.")],
    newer: Annotated[str, typer.Argument(metavar="B", help="Another one.")] = "latest",
    cloud: CloudOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is another in audit B than in audit A. Asks no node."""
    loaded = open_cloud(cloud)
    one, two = (kept.load(loaded, kept.find(loaded, name)) for name in (older, newer))
    found = compare(loaded, one, two)
    if as_json:
        print_json({"older": one.name, "newer": two.name, "changes": _changes(found)})
    else:
        console.print(f"{two.name}, against {one.name}:", markup=False)
        _print_changes(found, most=None)


@app.command(name="list")
def list_(cloud: CloudOption = None, as_json: JsonOption = False) -> None:
    """List the audits that are kept, newest last: nodes as they should be, to look at, without an answer."""
    loaded = open_cloud(cloud)
    found = [kept.load(loaded, name) for name in kept.names(loaded)]
    if as_json:
        print_json([{"name": each.name, "at": each.at, "nodes": dict(each.tones)} for each in found])
        return
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("audit", "as it should be", "to look at", "no answer"):
        shown.add_column(title, justify="left" if title == "audit" else "right")
    for each in found:
        count = each.tones.get
        wrong = count("bad", 0) + count("warn", 0)
        shown.add_row(each.name, f"{count('good', 0):,}", f"{wrong:,}", f"{count('silent', 0):,}")
    console.print(shown if found else "no audit yet")


@contextmanager
def _progress(cloud: Cloud, *, shown: bool) -> Iterator[Callable[[int], None]]:
    if not (shown and console.is_terminal):
        yield lambda _count: None
        return
    columns = (TextColumn("asking {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as bar:
        task = bar.add_task(cloud.config.name, total=None)
        yield lambda count: bar.advance(task, count)


def _print(cloud: Cloud, found: Audit) -> None:
    if found.changes is not None:
        console.print(f"[bold]since {found.changes.since}[/bold]")
        _print_changes(found.changes, CHANGES_SHOWN)
        console.print()
    print_tables(found.tables, cloud.fold)
    groups, rest = alike(groups_of(cloud, (("", why, host) for host, why in found.silent.items())))
    for group in groups:
        console.print(Text.assemble((f"could not be asked: {names(cloud, group.nodes)}: ", "red"), group.text))
    if rest:
        console.print(Text(rest, style="dim"))
    for what, why in found.deaf.items():
        console.print(Text(f"gave no answer: {what}: {why}", style="red"))
    for label, said in found.scope.words().items():
        if said:
            console.print(Text(f"{label}: {said}", style="dim"))
    for note in found.notes:
        errors.print(f"cellstep: {note}", markup=False)
    console.print(f"\n{found.name}, asked in {found.seconds:.1f} s; reports: {found.folder}", soft_wrap=True)


def _print_changes(changes: Changes, most: int | None) -> None:
    shown = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for row in changes.rows[:most]:
        shown.add_row(Text(row.kind, style=COLOURS[row.tone]), Text(row.table), Text(row.where), Text(row.text))
    console.print(shown if changes.rows else "nothing has changed")
    more = len(changes.rows) - len(changes.rows[:most])
    if more:
        console.print(f"and {more:,} more in the report", style="dim")


def _print_values(found: Audit) -> None:
    values = {
        "name": found.name,
        "compliant": found.compliant,
        "folder": str(found.folder),
        "unreachable": found.silent,
        "no_answer": found.deaf,
        "scope": found.scope.words(),
        "seconds": round(found.seconds, 3),
        "counts": reporting.verdicts(found.tables),
        "changes": _changes(found.changes),
    }
    sys.stdout.writelines(json_parts(values, found.tables))


def _changes(changes: Changes | None) -> list[dict[str, str]] | None:
    return None if changes is None else [row.__dict__ for row in changes.rows]
