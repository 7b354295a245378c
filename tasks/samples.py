"""Ceilometer's samples: whether they arrive from the compute nodes, told by those of the guests on them."""

import threading
import time
from collections.abc import Mapping, Sequence

from nornir.core.task import Result, Task

from tasks import databases
from tasks.holds import unchanged

ASK_EVERY_S = 2.0


def arriving(task: Task, *, database: str, guests: Mapping[str, Sequence[str]], timeout_s: float) -> Result:
    """Wait until a sample has come of a guest on each of the nodes, from now on.

    Args:
        task: the Nornir task, on the node of ceilometer's database.
        database: its name.
        guests: compute node to the ids of guests that run on it; a sample's `resource_id` is its guest's id.
        timeout_s: seconds to wait at most.

    Returns:
        {came: the nodes of which one came, lacking: the others}.
    """
    server = databases.mysql(task)
    # By number, not by time: Grizzly's column of the time has another type than Havana's.
    (last,) = server.query("SELECT COALESCE(MAX(id), 0) AS id FROM meter", database=database)
    hosts = {uuid: host for host, uuids in guests.items() for uuid in uuids}
    lacking = set(guests)
    deadline = time.monotonic() + (0 if task.is_dry_run() else timeout_s)
    pause = threading.Event()
    while lacking:
        new = "SELECT DISTINCT resource_id FROM meter WHERE id > %s"
        rows = server.query(new, (last["id"],), database=database)
        lacking -= {hosts[row["resource_id"]] for row in rows if row["resource_id"] in hosts}
        if not lacking or time.monotonic() >= deadline:
            break
        pause.wait(ASK_EVERY_S)
    return unchanged(task, {"came": sorted(guests.keys() - lacking), "lacking": sorted(lacking)})
