"""`cellstep backup` and `cellstep rehearse`: databases dumped, dumps proven, schema changes tried, days ahead."""

from typing import Annotated

import typer

from cellstep import runs
from cellstep.cli.asking import Asker
from cellstep.cli.display import RunDisplay
from cellstep.cli.options import CloudOption, OutputOption, reach_cloud
from cellstep.cli.output import console
from cellstep.cli.run import _carry
from cellstep.cloud.places import places
from cellstep.errors import UsageError

Component = Annotated[str, typer.Argument(help="The component: nova, cinder, keystone, glance, ceilometer.")]


def backup(
    stage: Component,
    cloud: CloudOption = None,
    replica: Annotated[
        bool, typer.Option("--replica", help="From the replicas that cloud.yaml names; each must be close behind.")
    ] = False,
    output: OutputOption = None,
) -> None:
    """Dump all databases of a component, with a manifest of what is in each, on their nodes and here.

    The cloud may go on meanwhile: a table that is written to is said to be. Exit codes are those of `cellstep run`.
    """
    loaded = reach_cloud(cloud)
    found = places(loaded, stage)
    console.print(f"[bold]back up {stage} of {loaded.config.name}: {', '.join(map(str, found))}[/bold]", soft_wrap=True)
    display = RunDisplay(loaded, console)
    request = runs.Request(f"{stage}-{'replica-' * replica}backup", output=output)
    _carry(display, Asker(loaded, display, yes=True), lambda watch: runs.start(loaded, request, watch))


def rehearse(stage: Component, cloud: CloudOption = None, output: OutputOption = None) -> None:
    """Dump all databases of a component, restore the dumps on the staging node, and change the copies' schemas there.

    Shows what the change will do and how long each version takes; nothing of the cloud is changed. `cellstep plan` then
    shows the result. Exit code 0 when every dump is proven and every change came to its head, 3 when not.
    """
    loaded = reach_cloud(cloud)
    found = places(loaded, stage)
    if loaded.config.staging.on is None:
        raise UsageError("where? name a node with the new release's commands in staging.on of cloud.yaml")
    what = f"rehearse the schema change of {stage} of {loaded.config.name} on {loaded.config.staging.on}"
    console.print(f"[bold]{what}: {', '.join(map(str, found))}[/bold]", soft_wrap=True)
    display = RunDisplay(loaded, console)
    request = runs.Request(f"{stage}-rehearsal", output=output)
    _carry(display, Asker(loaded, display, yes=True), lambda watch: runs.start(loaded, request, watch))
