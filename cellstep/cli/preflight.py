"""`cellstep preflight`: everything that would stop the upgrade, found days ahead."""

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cellstep.cli.options import CloudOption, JsonOption, LimitOption, OutputOption, reach_cloud
from cellstep.cli.output import console, errors, print_json
from cellstep.cloud.load import Cloud
from cellstep.preflight import survey as checks
from cellstep.preflight.case import NO_GO, WARNING

SHOWN_DETAILS = 3
COLOURS = {"ok": "green", WARNING: "yellow", NO_GO: "red", "silent": "red"}


def preflight(
    stage: Annotated[str, typer.Argument(help="The stage: nova.")],
    cloud: CloudOption = None,
    limit: LimitOption = "",
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every node and database days ahead: go or no-go, with one line a cause; changes nothing.

    Exit code 0 when it is a go (warnings do not stop it), 3 when it is not.
    """
    reached = reach_cloud(cloud)
    if as_json or not errors.is_terminal:
        found = checks.check(reached, stage, limit, output)
    else:
        with errors.status("asking the nodes ..."):
            found = checks.check(reached, stage, limit, output)
    if as_json:
        print_values(reached, found)
    else:
        print_result(reached, stage, found)
    raise typer.Exit(0 if found.go else 3)


def print_values(cloud: Cloud, found: checks.Preflight) -> None:
    """Print the result for a machine."""
    print_json(
        {
            "go": found.go,
            "nodes": found.states(),
            "causes": [
                {
                    "severity": cause.severity,
                    "check": cause.check,
                    "cause": cause.cause,
                    "nodes": list(cause.nodes),
                    "folded": _names(cloud, cause),
                    "details": cause.details,
                }
                for cause in found.causes
            ],
            "unreachable": found.silent,
            "folder": str(found.folder),
        }
    )


def print_result(cloud: Cloud, stage: str, found: checks.Preflight) -> None:
    """Print go or no-go, a line a cause, and how many nodes came to what."""
    nodes = f"{len(found.nodes):,} node{'s' if len(found.nodes) != 1 else ''}"
    verdict = Text(" GO ", style="bold black on green") if found.go else Text(" NO-GO ", style="bold white on red")
    line = Text.assemble(verdict, f"  {stage} on {cloud.config.name}: {nodes} in {found.seconds:.0f} s")
    console.print(line)
    if found.causes:
        console.print()
        console.print(_causes(cloud, found))
    console.print()
    states = Text("  ")
    for state, names in found.states().items():
        style = COLOURS[state] if names else "dim"
        states.append(f"{len(names):,} {state}", style=style)
        states.append("   ")
    console.print(states)
    console.print(f"  reports: {found.folder}", soft_wrap=True, style="dim")


def _causes(cloud: Cloud, found: checks.Preflight) -> Any:
    shown = Table(box=None, padding=(0, 2, 0, 0), show_header=False, pad_edge=False)
    shown.add_column(no_wrap=True, min_width=len(WARNING) + 2)
    shown.add_column(overflow="fold", ratio=1)
    for cause in found.causes:
        severity = Text(f"  {cause.severity}", style=COLOURS[cause.severity])
        words = Text.assemble((_names(cloud, cause), "bold"), ": ", cause.cause, (_details(cause), "dim"))
        shown.add_row(severity, words)
    return shown


def _names(cloud: Cloud, cause: checks.Cause) -> str:
    """The nodes folded; this machine by its words."""
    names = [name for name in cause.nodes if name != checks.HERE]
    here = [checks.HERE] if checks.HERE in cause.nodes else []
    return ", ".join([*([cloud.fold(names)] if names else []), *here])


def _details(cause: checks.Cause) -> str:
    """What is each node's own: once where it is the same, else of the first few."""
    if not cause.details:
        return ""
    if len(set(cause.details.values())) == 1:
        return f" ({next(iter(cause.details.values()))})"
    first = [f"{name} {detail}" for name, detail in list(cause.details.items())[:SHOWN_DETAILS]]
    more = len(cause.details) - len(first)
    return f" ({'; '.join(first)}{f'; and {more:,} more' if more else ''})"
