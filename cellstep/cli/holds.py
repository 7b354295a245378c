"""`cellstep holds` and `cellstep abandon`: what is still in place on nodes, putting it back, and ending a run."""

import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from cellstep import reopening, runs, settling, standing
from cellstep.cli.asking import Asker, ask
from cellstep.cli.display import RunDisplay
from cellstep.cli.options import CloudOption, JsonOption, open_cloud, reach_cloud
from cellstep.cli.output import console, print_json
from cellstep.cli.run import carried
from cellstep.cloud.load import Cloud
from cellstep.engine.journal import Journal, RunRecord
from cellstep.errors import Stopped, UsageError
from cellstep.folding import groups_of, names, shown

app = typer.Typer(help="What is held on nodes: list it, and put it back after a crash or an abandoned run.")


@app.callback(invoke_without_command=True)
def holds(context: typer.Context, cloud: CloudOption = None, as_json: JsonOption = False) -> None:
    """List what is held, by node: since when, by which run and step, and what was there before. Asks no node."""
    if context.invoked_subcommand is not None:
        return
    loaded = open_cloud(cloud)
    rows = standing.look(loaded).holds()
    if as_json:
        print_json([{**row, "prior_words": words(row["prior"])} for row in rows])
    elif not rows:
        console.print("nothing is held")
    else:
        _print(loaded, rows)
        console.print("`cellstep holds lift` puts it back as it was", style="dim")


def _print(cloud: Cloud, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line for nodes that are held alike, in the nodes' order."""
    order = {node.name: n for n, node in enumerate(cloud.nodes)}
    alike: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: order.get(row["host"], len(order))):
        alike.setdefault((row["name"], row["run"], row["title"], words(row["prior"])), []).append(row)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("nodes", "hold", "since", "run", "step", "before"):
        table.add_column(column, overflow="fold")
    for (name, run, title, before), held in alike.items():
        since = min(row["placed_at"] for row in held)[:19].replace("T", " ")
        table.add_row(*map(Text, (names(cloud, [row["host"] for row in held]), name, since, run, title, before)))
    console.print(table)


def words(prior: Any) -> str:
    """A prior state in words: `enabled, reason -`; `nova-api, nova-cert: running, boot on`."""
    if not isinstance(prior, Mapping):
        return str(prior) if prior not in ("", None) else "-"
    parts = []
    alike: dict[str, list[str]] = {}
    for key, value in prior.items():
        if isinstance(value, Mapping):
            alike.setdefault(words(value), []).append(key)
        elif isinstance(value, bool):
            parts.append(key if value else f"not {key}")
        else:
            parts.append(words(value) if key == "actual" else f"{key} {words(value)}")
    nested = [f"{', '.join(keys)}: {said}" for said, keys in alike.items()]
    return "; ".join([*nested, *([", ".join(parts)] if parts else [])]) or "nothing"


@app.command()
def lift(
    nodes: Annotated[str, typer.Argument(metavar="[NODES]", help="Nodes, groups, ranges; all if left out.")] = "",
    cloud: CloudOption = None,
    name: Annotated[str, typer.Option("--name", metavar="HOLD", help="Only this hold: daemons, puppet, fence...")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, even where a run is not finished.")] = False,
    accept: Annotated[
        str, typer.Option("--accept", metavar="WORDS", help="The words of the refusal after a schema change has begun.")
    ] = "",
) -> None:
    """Put back what is held, as it was before, in the runbook's order; a node that fails keeps no other back.

    Exit code 4 where something is still held.
    """
    loaded = reach_cloud(cloud)
    journal = runs.open_journal(loaded, read_only=True)
    wanted = settling.chosen(loaded, journal, nodes, name)
    if not wanted:
        console.print("nothing is held" + (" there" if nodes or name else ""))
        return
    _print(loaded, wanted)
    reopening.refuse_unless(loaded, journal, {row["name"] for row in wanted}, accept)
    warning = _warning(journal, settling.unfinished(journal))
    if warning:
        console.print(warning, style="bold red", markup=False)
    if not yes:
        if warning and not sys.stdin.isatty():
            raise UsageError("a run is not finished; say --yes to lift what it relies on all the same")
        ask(f"Put back {len(wanted)} hold{'s' * (len(wanted) != 1)} now?")
    display = RunDisplay(loaded, console)
    settled = carried(
        display, Asker(loaded, display, yes=True), lambda watch: settling.lift(loaded, watch, wanted, accept)
    )
    _tell(loaded, settled)


def _warning(journal: Journal, unfinished: Sequence[RunRecord]) -> str:
    """What an operator must know who lifts holds in the middle of a run."""
    lines = []
    for run in unfinished:
        steps = journal.steps(run.id)
        where = f" at step {steps[-1]['number']}, “{steps[-1]['title']}”" if steps else ""
        lines.append(
            f"Run {run.id} of {run.stage} is not finished ({run.state}{where}), and relies on what is held: old code"
            " may meet a new schema, Puppet may change what is half done, users may reach APIs that are not checked."
            " When the run is resumed, it places these holds again, waits for rest and dumps again before it goes on."
        )
    return "\n".join(lines)


def _tell(cloud: Cloud, settled: settling.Settled) -> None:
    console.print()
    for name, hosts in settled.lifted.items():
        console.print(Text(f"put back: {name} on {names(cloud, hosts)}", style="green"))
    for name, reasons in settled.left.items():
        groups, rest = shown(groups_of(cloud, ((name, reason, host) for host, reason in reasons.items())))
        for group in groups:
            console.print(Text(f"still held: {name} on {names(cloud, group.nodes)}: {group.text}", style="red"))
        if rest:
            console.print(Text(rest, style="dim"))
    if settled.left:
        raise Stopped("something is still held; mend it, then call `cellstep holds lift` again")
    console.print(f"all put back (run {settled.run})")


def abandon(
    cloud: CloudOption = None,
    accept: Annotated[
        str,
        typer.Option("--accept", metavar="LIST", help="What stays in place: the very list that the refusal prints."),
    ] = "",
) -> None:
    """End the run that is not finished, for good; `resume` offers it no more. Refused while something is in place."""
    loaded = open_cloud(cloud)
    run = settling.abandon(loaded, accept)
    console.print(f"run {run.id} of {run.stage} is abandoned" + (f"; left in place: {accept}" if accept else ""))
    rest = settling.unfinished(runs.open_journal(loaded, read_only=True))
    if rest:
        console.print(f"run {rest[0].id} of {rest[0].stage} is not finished either ({rest[0].state})")
