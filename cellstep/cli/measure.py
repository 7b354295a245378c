"""`cellstep measure`: how fast the cloud answers and boots, before a stage and after it."""

import math
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cellstep import measuring, standing
from cellstep.cli.options import CloudOption, JsonOption, OutputOption, reach_cloud
from cellstep.cli.output import console, errors, print_json
from cellstep.errors import UsageError

COLOURS = {"ok": "green", "faster": "green", "slower": "red", "failing": "red"}


def measure(
    stage: Annotated[str, typer.Argument(help="The stage whose upgrade it is for.")],
    cloud: CloudOption = None,
    guests: Annotated[
        int,
        typer.Option("--guests", min=0, max=100, metavar="N", help="Also make N guests, ten at once, and delete them."),
    ] = 0,
    clean: Annotated[
        bool, typer.Option("--clean", help="Measure nothing: delete guests that a killed measurement left.")
    ] = False,
    compare: Annotated[bool, typer.Option("--compare", help="Measure nothing now: compare what was measured.")] = False,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Time the calls of `measure.calls` and the making of guests; once before the stage's run and once after it.

    After a run both are compared: exit code 3 where a call became slower than cloud.yaml allows, or fails, and where
    guests that one request made have equal or invalid names.
    """
    reached = reach_cloud(cloud)
    measuring.refuse_unknown(stage)
    if clean and (compare or guests):
        raise UsageError("--clean measures nothing and compares nothing: call it by itself")
    if clean:
        with errors.status("deleting ..."):
            done = measuring.clean(reached, stage)
        if as_json:
            print_json({"done": done})
        else:
            console.print(Text(done), soft_wrap=True)
        return
    if not compare:
        with errors.status("measuring ..."):
            done = measuring.take(reached, stage, guests=guests)
        if not as_json:
            console.print(Text(done), soft_wrap=True)
    found = measuring.compare(reached, standing.look(reached), stage, output)
    if as_json:
        rows = found.table.astype(object).where(found.table.notna(), None).to_dict("records")
        print_json({"before": found.before and found.before.at, "after": found.after and found.after.at, "rows": rows})
    else:
        _print(found)
    raise typer.Exit(0 if found.ok else 3)


def _print(found: measuring.Compared) -> None:
    sides = [f"before: {found.before.at if found.before else 'not measured'}"]
    sides += [f"after: {found.after.at if found.after else 'not measured'}"]
    console.print("; ".join(sides))
    shown = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    shown.add_column("")
    for name in ("before", "after", "ratio", "failed"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("", no_wrap=True)
    for row in found.table.to_dict("records"):
        status = str(row["status"])
        failed = str(row["after_failed"])
        shown.add_row(
            str(row["what"]),
            *(_number(row[name], str(row["unit"])) for name in ("before", "after")),
            _number(row["ratio"], "x"),
            failed if failed.isdecimal() and failed != "0" else "",
            Text(status + (f": {row['detail']}" if row["detail"] else ""), style=COLOURS.get(status, "yellow")),
        )
    console.print(shown)
    console.print(f"reports: {found.folder}", soft_wrap=True, style="dim")


def _number(value: float, unit: str) -> str:
    if math.isnan(value):
        return ""
    return f"{value:,.0f} ms" if unit == "ms" else f"{value:,.2f} {unit}"
