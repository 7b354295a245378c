"""`cellstep verify`: a stage's tables, made and judged by themselves."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cellstep import proof, reporting, standing
from cellstep.cli.options import CloudOption, JsonOption, LimitOption, OutputOption, reach_cloud
from cellstep.cli.output import console, print_json
from cellstep.cli.status import print_quarantine
from cellstep.folding import groups_of, names
from cellstep.folding import shown as alike
from reports.writers import records

ROWS_SHOWN = 10
PLACE = {"cell", "host", "role", "heartbeat_age_s"}
"""Columns by which rows differ although they say the same."""


def verify(
    stage: Annotated[str, typer.Argument(help="The stage: nova.")],
    cloud: CloudOption = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", metavar="NAME", help="Only this table; may be given again.")
    ] = None,
    limit: LimitOption = "",
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every node and database with what the stage should leave; changes nothing.

    Exit code 0 when all is as it should be, 3 when not, or when a node could not be asked.
    """
    loaded = reach_cloud(cloud)
    report = proof.verify(loaded, standing.look(loaded), stage, table or (), limit, output)
    if as_json:
        print_values(report)
    else:
        print_report(report)
    raise typer.Exit(0 if report.compliant else 3)


def print_values(report: proof.Report) -> None:
    """Print a report for a machine."""
    print_json(
        {
            "compliant": report.compliant,
            "folder": str(report.folder),
            "unreachable": report.silent,
            "quarantine": sorted(report.quarantined),
            "overridden": report.overridden,
            "counts": reporting.verdicts(report.tables),
            "tables": {name: records(frame) for name, frame in report.tables.items()},
        }
    )


def print_report(report: proof.Report) -> None:
    """Print what a report found."""
    print_tables(report.tables, report.cloud.fold)
    _print_silent(report)
    print_quarantine(report.cloud, report.quarantined)
    for gate in report.overridden:
        console.print(Text(f"went on past the gate {gate}", style="yellow"))
    for name, hosts in report.held.items():
        console.print(f"still held: {name} on {report.cloud.fold(hosts)}", style="yellow", soft_wrap=True)
    console.print(f"\nreports: {report.folder}", soft_wrap=True)


def print_tables(tables: Mapping[str, Any], fold: Callable[[Iterable[str]], str]) -> None:
    """Print counts by table and status, then the rows that are not as they should be."""
    from reports.tables import TABLES, findings  # noqa: PLC0415 - brings pandas, 0.6 s

    counts = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for name, by_status in reporting.verdicts(tables).items():
        good = TABLES[name].GOOD
        words = Text(", ").join(
            Text(f"{count:,} {status}", style="green" if status in good else "red")
            for status, count in by_status.items()
        )
        counts.add_row(Text(name, style="bold"), words if by_status else Text("no rows", style="dim"))
    console.print(counts)
    for name, frame in tables.items():
        bad = findings(name, frame)
        if not bad.empty and name not in {"hosts", "quarantine"}:
            console.print(f"\n[bold]{name}[/bold]: {len(bad):,} of {len(frame):,} rows are not as they should be")
            _print_bad(name, bad, fold)


def _print_silent(report: proof.Report) -> None:
    """Print the nodes that could not be asked; those in quarantine have their own lines."""
    silent = {host: why for host, why in report.silent.items() if host not in report.quarantined}
    groups, rest = alike(groups_of(report.cloud, (("", why, host) for host, why in silent.items())))
    for group in groups:
        console.print(Text.assemble((f"could not be asked: {names(report.cloud, group.nodes)}: ", "red"), group.text))
    if rest:
        console.print(Text(rest, style="dim"))


def _print_bad(name: str, bad: Any, fold: Callable[[Iterable[str]], str]) -> None:
    """Print rows that are not as they should be; rows alike but for their host are one, with the hosts folded."""
    by_host = "host" in bad.columns
    columns = [column for column in bad.columns if column not in PLACE and bad[column].astype(str).str.len().max()]
    rows: dict[tuple[str, ...], list[str]] = {}
    for _, row in bad.iterrows():
        values = tuple("" if str(row[column]) == "<NA>" else str(row[column]) for column in columns)
        rows.setdefault(values, []).append(str(row["host"]) if by_host else "")
    shown = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in [*columns, *(["nodes"] if by_host else [])]:
        shown.add_column(column.replace("_", " "), overflow="fold")
    for values, hosts in list(rows.items())[:ROWS_SHOWN]:
        shown.add_row(*map(Text, values), *([Text(fold(hosts))] if by_host else []))
    console.print(shown)
    if len(rows) > ROWS_SHOWN:
        console.print(f"and {len(rows) - ROWS_SHOWN:,} more in {name}.csv", style="dim")
