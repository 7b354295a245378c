"""`cellstep status`: how a run stands, at once, from any terminal."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.text import Text

from cellstep import standing, watching
from cellstep.cli.display import COLOURS
from cellstep.cli.node import print_nodes
from cellstep.cli.options import CloudOption, JsonOption, open_cloud
from cellstep.cli.output import console, print_json
from cellstep.cloud.load import Cloud
from cellstep.engine.forecast import about, span
from cellstep.engine.journal import Journal
from cellstep.folding import groups_of, names, shown
from cellstep.standing import Standing

EVENTS_SHOWN = 8


def status(
    cloud: CloudOption = None,
    node: Annotated[
        str, typer.Option("--node", metavar="NODES", help="What the run did to these nodes, with what they said.")
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show the run that is not complete, or else the last one: how far it is, what it holds and found. Asks no node."""
    loaded = open_cloud(cloud)
    journal = standing.look(loaded)
    run = standing.newest(journal)
    if run is None:
        if as_json:
            print_json({"cloud": loaded.config.name, "run": None})
        else:
            console.print("no run yet")
        return
    if node:
        print_nodes(loaded, journal, run, node, as_json=as_json)
        return
    stands = standing.of(loaded, journal, run)
    if as_json:
        print_json(_values(loaded, journal, stands))
    else:
        _print(loaded, journal, stands)


def _values(cloud: Cloud, journal: Journal, stands: Standing) -> dict[str, Any]:
    run, process = stands.run, stands.process
    holder = asdict(process.holder) if process.holder else None
    return {
        "cloud": cloud.config.name,
        "run": run.__dict__,
        "under_way": stands.under_way,
        "crashed": stands.crashed,
        "taken_over": stands.taken_over,
        "lock": {"holder": holder, "alive": process.alive, "frozen": process.frozen},
        "steps": stands.steps,
        "steps_total": stands.total,
        "unknown": stands.unknown,
        "holds": journal.all_open_holds(),
        "left_out": journal.left_out(run.id),
        "quarantine": [{**row, "age_s": round(standing.age_s(row["since"]))} for row in journal.quarantined().values()],
        "findings": journal.findings(run.id),
        "events": journal.events(run.id),
        "elapsed_s": round(stands.elapsed_s),
        "forecast": {"seconds": round(stands.left.seconds), "steps_unknown": stands.left.unknown}
        if stands.left
        else None,
        "next": _next(stands),
    }


def _print(cloud: Cloud, journal: Journal, stands: Standing) -> None:
    run = stands.run
    code = "" if run.exit_code is None else f", exit {run.exit_code}"
    console.print(f"[bold]run {run.id}[/bold] of {run.stage} by {run.operator}: {run.state}{code}")
    console.print(_process(stands))
    _print_times(stands)
    for step in stands.steps:
        console.print(_line(step, stands))
    _print_troubled(cloud, journal, stands)
    for name, hosts in journal.all_open_holds().items():
        console.print(f"held: {name} on {names(cloud, hosts)}", style="yellow", markup=False)
    print_quarantine(cloud, journal.quarantined())
    for finding in journal.findings(run.id):
        overridden = f" (went on all the same: {finding['overridden']})" if finding["overridden"] else ""
        console.print(f"finding: {finding['text']}{overridden}", style="yellow", markup=False)
    events = journal.events(run.id)
    for event in events[-EVENTS_SHOWN:]:
        console.print(f"{_clock(event['at'])} {event['operator']}: {event['what']}", style="dim", markup=False)
    if run.message:
        console.print(run.message, style="red", markup=False)
    if then := _next(stands):
        console.print(then, style="bold", markup=False)


def _process(stands: Standing) -> Text:
    """Who carries the run, and whether that process lives."""
    run, process = stands.run, stands.process
    where = f"pid {run.pid} on {run.machine}, cellstep {run.version}"
    if stands.under_way:
        if process.frozen:
            return Text(f"{where}: stopped by a signal (SIGSTOP), and does nothing", style="bold red")
        return Text(f"{where}: under way", style="green")
    if stands.crashed:
        gone = stands.taken_over or "the process is gone"
        return Text(f"{where}: {gone}", style="bold red")
    other = f"; in use now: {process.holder}" if process.alive and process.holder else ""
    return Text(f"{where}{other}", style="dim")


def _print_times(stands: Standing) -> None:
    run = stands.run
    ended = "" if stands.under_way else f", ended {_clock(run.finished_at)}" if run.finished_at else ""
    left = ""
    if stands.left:
        left = f"; what is left takes {stands.left}"
    elif stands.under_way:
        left = "; nothing is known yet of how long the rest takes"
    console.print(f"began {_clock(run.started_at)}{ended}, {about(stands.elapsed_s)}{left}", style="dim", markup=False)
    console.print(f"reports: {run.output}", style="dim", markup=False, soft_wrap=True)


def _clock(time: str) -> str:
    """A time of the journal, to the second."""
    return f"{time[:10]} {time[11:19]} UTC"


def _line(step: Mapping[str, Any], stands: Standing) -> Text:
    line = Text(f"{step['number']:>3}/{stands.total} {step['title']}  ")
    for state, count in step["hosts"].items():
        line.append(f"{count} {state.replace('_', ' ')} ", COLOURS[state])
    if step["state"] == "running" and not stands.under_way:
        line.append("cut off", "bold red")
    elif step["state"] != "done":
        style = "bold" if step["state"] == "running" else "red" if step["state"] == "stopped" else "dim"
        line.append(f"{step['state']} {step['note']}", style)
    return line


def _print_troubled(cloud: Cloud, journal: Journal, stands: Standing) -> None:
    """The last steps with trouble, with what their nodes said; and nodes of which nothing is known."""
    for step in reversed(watching.troubles(cloud, journal, stands)):
        groups, rest = shown(step.groups)
        for group in groups:
            said = f"{group.kind} at “{step.title}”: {names(cloud, group.nodes)}: {group.text}"
            console.print(Text(said, style=COLOURS[group.kind]))
        if rest:
            console.print(Text(rest, style="dim"))
    for title, hosts in stands.unknown.items():
        what = "being worked on" if stands.under_way else "nothing is known of"
        console.print(Text(f"{what} at “{title}”: {names(cloud, hosts)}", style="" if stands.under_way else "bold red"))


def print_quarantine(cloud: Cloud, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the nodes in quarantine: why, since which step, for how long; those with the same reason in one line."""
    troubles = [(f"“{row['title']}”", row["reason"], host) for host, row in rows.items()]
    groups, rest = shown(groups_of(cloud, troubles))
    for group in groups:
        here = [rows[host] for host in group.nodes]
        age = span(max(standing.age_s(row["since"]) for row in here))
        said = (
            f"in quarantine since {group.kind}, for {age}{_scheduling(here)}: {names(cloud, group.nodes)}: {group.text}"
        )
        console.print(Text(said, style="red"))
    if rest:
        console.print(Text(rest, style="dim"))
    if rows:
        stages = " or ".join(sorted({f"`cellstep run {row['stage']} --catch-up`" for row in rows.values()}))
        console.print(Text(f"{stages} finishes what they missed", style="dim"))


def _scheduling(rows: Iterable[Mapping[str, Any]]) -> str:
    """Whether we took the nodes' nova-compute out of scheduling."""
    ours = [row["was_disabled"] == 0 for row in rows]
    return ", scheduling disabled" if all(ours) else ""


def _next(stands: Standing) -> str:
    """What the operator does next; "" where that is nothing."""
    if stands.under_way:
        frozen = "the process does nothing: wake it up (SIGCONT), or `cellstep lock take-over --reason ...`"
        return frozen if stands.process.frozen else ""
    if stands.crashed:
        gone = "the cloud was taken over" if stands.taken_over else "the process is gone"
        return f"{gone}: `cellstep resume` goes on"
    if stands.left is not None or stands.run.state in {"stopped", "interrupted", "error"}:
        return "`cellstep resume` goes on, `cellstep abandon` ends it"
    return ""
