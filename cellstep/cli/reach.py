"""`cellstep worker` and `cellstep scheduler`: how cells are reached that only a machine inside them reaches."""

from typing import Annotated

import typer

from cellstep.cli.options import CloudOption, open_cloud, reach_cloud
from cellstep.errors import ConfigurationError, UsageError


def worker(
    cell: Annotated[str, typer.Option("--cell", metavar="NAME", help="The cell whose nodes this machine reaches.")],
    cloud: CloudOption = None,
) -> None:
    """Be the worker of a cell: run what an operator sends for its nodes, until SIGTERM.

    The first SIGTERM takes nothing new and waits for what runs, the second does not. It ends by itself when the
    scheduler is lost: let a service manager start it again. See docs/reach.md.

    Exit code: 0 after SIGTERM, 2 for wrong usage or files, 3 when the scheduler is not reached, or lost.
    """
    loaded = reach_cloud(cloud)
    if loaded.config.reach is None:
        raise ConfigurationError(["cloud.yaml: has no `reach`; write where the scheduler is"])
    if cell not in loaded.config.reach.cells:
        known = ", ".join(loaded.config.reach.cells)
        raise UsageError(f"reach.cells in cloud.yaml has no '{cell}'; it has {known}")
    from cellstep.reach.worker import serve  # noqa: PLC0415 - brings the engine

    serve(loaded, cell)


def scheduler(
    cloud: CloudOption = None,
    listen: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen here; else on all addresses of this machine.")
    ] = "",
) -> None:
    """Be the scheduler between operators and workers, until SIGTERM, on the port of `reach.scheduler`.

    Exit code: 0 after SIGTERM, 2 for wrong files, 3 when it cannot listen.
    """
    loaded = open_cloud(cloud)
    if loaded.config.reach is None:
        raise ConfigurationError(["cloud.yaml: has no `reach`; write where the scheduler is"])
    from cellstep.reach.scheduler import serve  # noqa: PLC0415 - brings the engine

    serve(loaded, listen)
