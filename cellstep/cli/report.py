"""`cellstep report`: a report told, or written again in another form."""

import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from cellstep import rendering, standing
from cellstep.cli.options import CloudOption, open_cloud
from cellstep.cli.output import console
from cellstep.errors import UsageError

COLOURS = {"good": "green", "warn": "yellow", "bad": "red"}


def report(
    what: Annotated[
        str, typer.Argument(metavar="[RUN|AUDIT]", help="A run's id, a folder below out/, or `latest`.")
    ] = rendering.LATEST,
    cloud: CloudOption = None,
    form: Annotated[
        list[str] | None,
        typer.Option(
            "--format", metavar="FORMAT", help="Write it as csv, xlsx, html, json or junit; may be given again."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="PATH", help="The file (of csv: the folder), or - to print it; else beside the others."
        ),
    ] = None,
) -> None:
    """Tell what a run or an audit found, or write it in another form. Asks no node."""
    loaded = open_cloud(cloud)
    forms = form or []
    if output and len(forms) != 1:
        raise UsageError("--output goes with one --format")
    unknown = next((each for each in forms if each not in rendering.FORMATS), "")
    if unknown:
        raise UsageError(f"there is no format “{unknown}”; the formats are: {', '.join(rendering.FORMATS)}")
    if output == Path("-") and forms[0] in {"csv", "xlsx"}:
        raise UsageError(f"{forms[0]} cannot be printed; give --output a path")
    found = rendering.find(loaded, standing.look(loaded), what)
    if not forms:
        _tell(found)
    elif output == Path("-"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "report"
            rendering.write(found, forms[0], path)
            sys.stdout.write(path.read_text(encoding="utf-8"))
    else:
        for each in forms:
            for path in rendering.write(found, each, output):
                console.print(str(path), markup=False, soft_wrap=True)


def _tell(found: rendering.Found) -> None:
    """Print the verdict, the facts, rows by table and status, and where the files are."""
    from reports.judgement import HAPPENED, counts, tone, verdict  # noqa: PLC0415 - brings pandas, 0.6 s

    words, colour = verdict(found.tables, found.story.silent)
    console.print(found.story.title, style="bold", markup=False)
    console.print(words, style=f"bold {COLOURS[colour]}", markup=False)
    shown = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for label, fact in found.story.facts.items():
        if fact:
            shown.add_row(Text(label, style="dim"), Text(str(fact)))
    for name, frame in found.tables.items():
        said = Text(", ").join(
            Text(f"{count:,} {status}", style="" if name == HAPPENED else COLOURS[tone(name, status)])
            for status, count in counts(name, frame).items()
        )
        shown.add_row(Text(name), said if len(frame) else Text("no rows", style="dim"))
    console.print(shown)
    for host, why in list(found.story.silent.items())[:10]:
        console.print(f"could not be asked: {host}: {why}", style="red", markup=False)
    console.print(f"\nreports: {found.folder}", markup=False, soft_wrap=True)
