"""`cellstep quota`: the quota usage against what the instances say, and its repair."""

from typing import Annotated

import typer

from cellstep import proof, reporting, runs, standing
from cellstep import quota as quotas
from cellstep.cli.options import CloudOption, JsonOption, OutputOption, reach_cloud
from cellstep.cli.output import console, errors
from cellstep.cli.verify import print_report, print_values
from cellstep.cloud.load import Cloud
from cellstep.engine.dispatch import Dispatcher, Errand, Outcome
from cellstep.errors import TakenOver, UsageError
from cellstep.stages import runbook_of
from cellstep.stages.choices import TOP_DATABASE
from tasks.binding import Binding
from tasks.holds import HostTask
from tasks.quotas import Repair

app = typer.Typer(help="Check and repair the quota usage on the top cell's database.", no_args_is_help=True)
Stage = Annotated[str, typer.Argument(help="The stage: nova.")]


@app.command()
def check(stage: Stage, cloud: CloudOption = None, output: OutputOption = None, as_json: JsonOption = False) -> None:
    """Compare the quota usage with what the instances say; exit code 3 when they differ."""
    loaded = reach_cloud(cloud)
    report = proof.verify(loaded, standing.look(loaded), stage, ["quotas"], "", output)
    (print_values if as_json else print_report)(report)
    raise typer.Exit(0 if report.compliant else 3)


@app.command()
def repair(
    stage: Stage,
    cloud: CloudOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write it, in one transaction; the undo SQL is kept.")] = False,
    output: OutputOption = None,
) -> None:
    """Show the SQL that repairs the quota usage, or write it with --apply."""
    loaded = reach_cloud(cloud)
    runbook_of(stage, loaded)
    database = loaded.database(stage)
    if not apply:
        outcome = _on_top_database(loaded, quotas.plan, {"database": database})
        plan: Repair = outcome.result
        typer.echo(plan.sql if plan.changes else "-- nothing to repair")
        return
    lock, journal = runs.lock_of(loaded), runs.open_journal(loaded)
    with lock.held(journal, f"quota repair {stage}") as holder:
        folder = reporting.output_folder(loaded.directory, output, reporting.dated("quota"))
        arguments = {"database": database, "undo": folder / stage / "quota-undo.sql"}
        journal.event("", f"begins a repair of the quota usage; what undoes it: {arguments['undo']}")
        binding = Binding("", "", token=holder.token, still_ours=lambda: lock.check(holder.token))
        outcome = _on_top_database(loaded, quotas.repair, arguments, binding)
        journal.event("", f"the repair of the quota usage: {outcome.detail}")
    console.print(outcome.detail, soft_wrap=True)


def _on_top_database(
    cloud: Cloud, task: HostTask, arguments: dict[str, object], binding: Binding | None = None
) -> Outcome:
    nodes = list(TOP_DATABASE.choose(cloud.nodes))
    if not nodes:
        raise UsageError("the top cell has no node with the role `database`; add it to the inventory")
    with Dispatcher(cloud) as dispatcher:
        errand = Errand(bindings={nodes[0].name: binding} if binding else None)
        outcome = dispatcher.send(task, nodes, {nodes[0].name: arguments}, errand)[nodes[0].name]
    if outcome.fenced:
        raise TakenOver(outcome.detail)
    if outcome.state in {"ok", "changed", "skipped"}:
        return outcome
    errors.print(f"cellstep: {nodes[0].name} {outcome.state}: {outcome.detail}", markup=False)
    raise typer.Exit(3 if outcome.state == "unreachable" else 1)
