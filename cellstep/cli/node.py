"""`cellstep status --node`: what a run did to one node, and what the node said."""

from collections.abc import Mapping
from typing import Any

from rich.text import Text

from cellstep.cli.display import COLOURS
from cellstep.cli.output import console, print_json
from cellstep.cloud.load import Cloud
from cellstep.cloud.select import select
from cellstep.engine.journal import Journal, RunRecord
from cellstep.engine.store import seconds_between

LINES_SHOWN = 20
"""Of an output: so many lines of its end; `--json` has all that the journal keeps."""


def print_nodes(cloud: Cloud, journal: Journal, run: RunRecord, wanted: str, *, as_json: bool) -> None:
    """Print nodes' steps in the run, with the commands that changed them (or tried to).

    Raises:
        UsageError: there is no such node.
    """
    found = {node.name: _steps(journal, run, node.name) for node in select(cloud, wanted)}
    if as_json:
        print_json({"cloud": cloud.config.name, "run": run.id, "nodes": found})
        return
    for name, steps in found.items():
        console.print(f"[bold]{name}[/bold] in run {run.id} of {run.stage}")
        if not steps:
            console.print("no step of the run was for it yet", style="dim")
        for row in steps:
            _print_step(row)
            for command in row["commands"]:
                _print_command(command)


def _steps(journal: Journal, run: RunRecord, node: str) -> list[dict[str, Any]]:
    sent: dict[str, list[Mapping[str, Any]]] = {}
    for command in journal.commands(run.id, host=node):
        sent.setdefault(command["title"], []).append(command)
    rows = [row for row in journal.hosts(run.id) if row["host"] == node]
    return [{**row, "commands": sent.get(row["step"], [])} for row in rows]


def _print_step(row: Mapping[str, Any]) -> None:
    tried = f", {row['attempts']} attempts" if row["attempts"] > 1 else ""
    took = f"  {seconds_between(row['started_at'], row['finished_at']):.1f} s" if row["finished_at"] else ""
    at = f"{row['started_at'][11:19]} " if row["started_at"] else ""
    console.print(
        Text.assemble((at, "dim"), row["step"], "  ", (row["state"].replace("_", " "), COLOURS[row["state"]])).append(
            f"{tried}{took}", "dim"
        )
    )
    if row["detail"]:
        console.print(Text(f"    {row['detail']}"), soft_wrap=True)


def _print_command(command: Mapping[str, Any]) -> None:
    style = "dim" if command["exit_status"] == 0 else "red"
    said = f"exit status {command['exit_status']}, {command['seconds']:.1f} s, {command['size']:,} bytes"
    console.print(
        Text(f"    $ {command['what']}: {said}, SHA-256 {command['sha256'][:12]}", style=style), soft_wrap=True
    )
    lines = (command["tail"] or command["head"]).rstrip().splitlines()
    for line in lines[-LINES_SHOWN:]:
        console.print(Text(f"      {line}", style="dim"), soft_wrap=True)
