"""The scheduler between an operator and the workers: dask's, told to run nothing twice and to show nothing."""

import asyncio
import signal
import tempfile
from typing import Any

from cellstep.cloud.cloud import Cloud
from cellstep.reach.about import about
from cellstep.reach.way import DASK_CONFIG, way_of
from cellstep.reach.worker import NoWay
from plugins.connections.errors import Unreachable
from plugins.runners.line import ABOUT, quiet
from plugins.runners.secured import context

SHORTEST_TCP_S = 12.0
"""dask sends ten probes in that time, and counts in whole seconds."""


def serve(cloud: Cloud, listen: str) -> None:
    """Be the scheduler, until SIGTERM.

    Args:
        cloud: the cloud.
        listen: the address to listen on; "" for all of this machine.

    Raises:
        NoWay: it cannot listen there.
    """
    asyncio.run(_serve(cloud, listen))


async def _serve(cloud: Cloud, listen: str) -> None:
    reach = cloud.config.reach
    if reach is None:
        raise NoWay("cloud.yaml has no `reach`: write where the scheduler is")
    way = way_of(reach)
    try:
        context(way)
    except Unreachable as error:
        raise NoWay(str(error)) from None
    import dask  # noqa: PLC0415 - of the extra `reach`
    from distributed import Scheduler  # noqa: PLC0415

    quiet()
    dask.config.set(DASK_CONFIG)
    seconds = reach.lost_after_s
    # A cell that is cut off says nothing: TCP notices, or the heartbeats' time is up.
    dask.config.set({"distributed.comm.timeouts.tcp": f"{max(seconds, SHORTEST_TCP_S):g}s"})

    class _Telling(Scheduler):  # type: ignore[misc] # its types are not looked at
        """Says what it is, for operators and workers to refuse another."""

        def identity(self, n_workers: int = -1) -> dict[str, Any]:
            return {**super().identity(n_workers), ABOUT: about(cloud)}

    loop, signalled = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, signalled.set)
    where = f"{listen or 'any address'} port {way.port}"
    with tempfile.TemporaryDirectory(prefix="cellstep-scheduler-") as scratch:
        try:
            scheduler = await _Telling(
                host=listen or "0.0.0.0",  # noqa: S104 - the operators and the cells come by different networks
                port=way.port,
                protocol="tls",
                security=way.security(),
                dashboard_address="127.0.0.1:0",
                worker_ttl=seconds,
                allowed_failures=0,
                local_directory=scratch,
                contact_address=way.address,
            )
        except OSError as error:
            raise NoWay(f"cannot listen on {where}: {error.strerror or error}") from None
        print(f"scheduler on {where}", flush=True)  # noqa: T201 - a service's one line
        await signalled.wait()
        await scheduler.close()
