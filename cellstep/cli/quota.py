"""`cellstep quota`: the quota usage of nova or cinder against what is in use, and its repair."""

from typing import Annotated, Any

import typer

from cellstep import proof, quota, quota_check, reporting, runs, standing
from cellstep.cli.options import CloudOption, JsonOption, OutputOption, reach_cloud
from cellstep.cli.output import console, errors
from cellstep.cli.verify import print_report, print_values
from cellstep.cloud.load import Cloud
from cellstep.cloud.places import Place
from cellstep.engine.dispatch import Dispatcher, Errand, Outcome
from cellstep.errors import TakenOver, UsageError
from tasks.binding import Binding
from tasks.holds import HostTask, Noted
from tasks.quotas import Repair

app = typer.Typer(help="Check and repair the quota usage of nova or cinder.", no_args_is_help=True)
Stage = Annotated[str, typer.Argument(help="The stage: nova or cinder.")]
SnapshotsOption = Annotated[
    bool,
    typer.Option("--no-snapshot-gigabytes", help="cinder.conf has no_snapshot_gb_quota: snapshots take no gigabytes."),
]
ClosedOption = Annotated[
    bool,
    typer.Option("--api-closed", help="No request is under way: rows with unexpired reservations are judged as well."),
]


@app.command()
def check(
    stage: Stage,
    cloud: CloudOption = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
    without_snapshots: SnapshotsOption = False,
    api_closed: ClosedOption = False,
) -> None:
    """Compare the quota usage with what is in use; exit code 3 when they differ."""
    loaded = reach_cloud(cloud)
    counting = _counting(loaded, stage, without_snapshots, api_closed)
    if stage == "nova" and not counting:
        report = proof.verify(loaded, standing.look(loaded), stage, ["quotas"], "", output)
    else:
        report = quota_check.report(loaded, stage, output, counting)
    (print_values if as_json else print_report)(report)
    raise typer.Exit(0 if report.compliant else 3)


@app.command()
def repair(
    stage: Stage,
    cloud: CloudOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write it, in one transaction; the undo SQL is kept.")] = False,
    output: OutputOption = None,
    without_snapshots: SnapshotsOption = False,
    api_closed: ClosedOption = False,
) -> None:
    """Show the SQL that repairs the quota usage, or write it with --apply.

    Exit code 3 when rows were left as they are, because requests are under way.
    """
    loaded = reach_cloud(cloud)
    counting = _counting(loaded, stage, without_snapshots, api_closed)
    place = quota_check.place_of(loaded, stage)
    arguments = {"database": place.database, "component": stage, **counting}
    if not apply:
        plan: Repair = _at(loaded, place, quota.plan, arguments).result
        typer.echo(plan.script)
        raise typer.Exit(3 if plan.left else 0)
    lock, journal = runs.lock_of(loaded), runs.open_journal(loaded)
    with lock.held(journal, f"quota repair {stage}") as holder:
        folder = reporting.output_folder(loaded.directory, output, reporting.dated("quota"))
        arguments["undo"] = folder / stage / "quota-undo.sql"
        journal.event("", f"begins a repair of {stage}'s quota usage; what undoes it: {arguments['undo']}")
        binding = Binding("", "", token=holder.token, still_ours=lambda: lock.check(holder.token))
        outcome = _at(loaded, place, quota.repair, arguments, binding)
        journal.event("", f"the repair of {stage}'s quota usage: {outcome.detail}")
    console.print(outcome.detail, soft_wrap=True)
    raise typer.Exit(3 if isinstance(outcome.result, Noted) and outcome.result.data else 0)


def _counting(cloud: Cloud, stage: str, without_snapshots: bool, api_closed: bool) -> dict[str, Any]:
    """What the options say of how to count, as arguments of `tasks.quotas.read`; those that were given."""
    quota_check.place_of(cloud, stage)
    if without_snapshots and stage != "cinder":
        raise UsageError("--no-snapshot-gigabytes is for cinder: nova has no snapshots")
    counting: dict[str, Any] = {"snapshot_gigabytes": False} if without_snapshots else {}
    return counting | ({"api_closed": True} if api_closed else {})


def _at(
    cloud: Cloud, place: Place, task: HostTask, arguments: dict[str, Any], binding: Binding | None = None
) -> Outcome:
    node = place.node.name
    with Dispatcher(cloud) as dispatcher:
        errand = Errand(bindings={node: binding} if binding else None)
        outcome = dispatcher.send(task, [place.node], {node: arguments}, errand)[node]
    if outcome.fenced:
        raise TakenOver(outcome.detail)
    if outcome.state in {"ok", "changed", "skipped"}:
        return outcome
    errors.print(f"cellstep: {node} {outcome.state}: {outcome.detail}", markup=False)
    raise typer.Exit(3 if outcome.state == "unreachable" else 1)
