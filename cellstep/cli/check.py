"""`cellstep check`: what would stop a schema change, and what it does to rows, found days ahead."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cellstep.check import survey
from cellstep.check.before import LOCAL, NO_GO, NOTE, OK, STATUSES, WARNING
from cellstep.cli.options import CloudOption, JsonOption, OutputOption, reach_cloud
from cellstep.cli.output import console, errors, print_json

COLOURS = {NO_GO: "red", WARNING: "yellow", LOCAL: "cyan", NOTE: "dim", OK: "green"}


def check(
    stage: Annotated[str, typer.Argument(help="The component: nova, cinder, keystone, glance, ceilometer.")],
    cloud: CloudOption = None,
    replica: Annotated[
        bool, typer.Option("--replica", help="Ask the replicas that cloud.yaml names, if they are up to date.")
    ] = False,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare the databases of a component with the release's own schema, days ahead: go or no-go; changes nothing.

    What would stop the schema change part-way, what is the site's own and must be there afterwards, and how many rows
    are moved or deleted. Exit code 0 when it is a go (warnings do not stop it), 3 when it is not.
    """
    reached = reach_cloud(cloud)
    if as_json or not errors.is_terminal:
        found = survey.check(reached, stage, replica=replica, output=output)
    else:
        with errors.status("asking the databases ..."):
            found = survey.check(reached, stage, replica=replica, output=output)
    if as_json:
        print_values(found)
    else:
        print_result(stage, found)
    raise typer.Exit(0 if found.go else 3)


def print_values(found: survey.Check) -> None:
    """Print the result for a machine."""
    print_json(
        {
            "go": found.go,
            "databases": [str(place) for place in found.places],
            "findings": [
                {
                    "check": line.finding.check,
                    "status": line.finding.status,
                    "what": line.finding.what,
                    "remedy": line.finding.remedy,
                    "databases": dict(line.places),
                }
                for line in found.lines()
            ],
            "unreachable": found.silent,
            "folder": str(found.folder),
        }
    )


def print_result(stage: str, found: survey.Check) -> None:
    """Print go or no-go, a line for each thing that was found, and how many were looked for and not found."""
    names = f"{len(found.places):,} database{'s' if len(found.places) != 1 else ''}"
    verdict = Text(" GO ", style="bold black on green") if found.go else Text(" NO-GO ", style="bold white on red")
    console.print(Text.assemble(verdict, f"  the databases of {stage}: {names} in {found.seconds:.0f} s"))
    lines = found.lines()
    shown = [line for line in lines if line.finding.status != OK]
    if shown or found.silent:
        console.print()
        console.print(_lines(found, shown))
    console.print()
    counts = Text("  ")
    for status in STATUSES:
        count = sum(line.finding.status == status for line in lines) + (len(found.silent) if status == NO_GO else 0)
        counts.append(f"{count:,} {status}", style=COLOURS[status] if count else "dim")
        counts.append("   ")
    console.print(counts)
    console.print(f"  reports: {found.folder}", soft_wrap=True, style="dim")


def _lines(found: survey.Check, lines: list[survey.Line]) -> Any:
    shown = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    shown.add_column(no_wrap=True, min_width=len(WARNING) + 2)
    shown.add_column(overflow="fold", ratio=1)
    for place, why in found.silent.items():
        shown.add_row(Text(f"  {NO_GO}", style="red"), Text.assemble((place, "bold"), f": cannot be asked: {why}"))
    for line in lines:
        each = line.finding
        words = Text.assemble((_places(found, line), "bold"), f": {each.what}")
        if each.remedy:
            words.append(f". {each.remedy[0].upper()}{each.remedy[1:]}", style="dim")
        shown.add_row(Text(f"  {each.status}", style=COLOURS[each.status]), words)
    return shown


def _places(found: survey.Check, line: survey.Line) -> str:
    """The databases that have it, with the rows of each."""
    rows = {place: f" ({number:,} row{'' if number == 1 else 's'})" for place, number in line.places.items() if number}
    if len(line.places) == len(found.places) > 1 and not rows:
        return "all"
    return ", ".join(f"{place}{rows.get(place, '')}" for place in line.places)
