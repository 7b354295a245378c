"""An operator for tests, in a network of its own: a run of one step, or its resumption, with a journal on disk.

python -m tests.support.reach_operator CLOUD FOLDER: prints how it ended, and each node's state.
"""

import sys
from pathlib import Path

import typer

from cellstep.cloud.load import load_cloud
from cellstep.engine.context import Context, Options
from cellstep.engine.dispatch import Dispatcher
from cellstep.engine.journal import Journal
from cellstep.engine.run import Engine
from cellstep.engine.steps import Nodes, Runbook, step
from cellstep.errors import CellstepError
from tests.support import errands
from tests.support.recorder import Recorder

COMPUTES = Nodes("compute nodes of c01", lambda nodes: [n for n in nodes if n.cell == "c01" and n.tier == "compute"])


def main(directory: Path, folder: Path) -> None:
    """Begin the run, or go on with it."""
    cloud = load_cloud(directory)
    journal = Journal(folder / "journal.sqlite3")
    runs = list(journal.runs())
    run = runs[0].id if runs else journal.begin_run("nova", "grizzly-havana", "digest", {})
    steps = (step("Work", errands.work, on=COMPUTES, at_once=True, folder=str(folder)),)
    runbook = Runbook("nova", steps, may_miss=lambda _: False)
    context = Context(cloud, journal, run, "nova", folder, cloud.nodes, Options())
    with Dispatcher(cloud) as dispatcher:
        try:
            Engine(runbook, context, dispatcher, Recorder(), lambda _: True, token=len(runs) + 1).execute(steps)
            typer.echo("complete")
        except CellstepError as error:
            typer.echo(f"exit {error.exit_code}: {error}")
    for row in journal.hosts(run):
        typer.echo(f"{row['host']} {row['state']} {row['attempts']} {row['detail']}")


main(Path(sys.argv[1]), Path(sys.argv[2]))
