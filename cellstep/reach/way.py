"""The way to the scheduler that cloud.yaml describes, and what dask is told of itself."""

import importlib.util
import stat
from collections.abc import Mapping
from typing import Any

from cellstep.cloud.reach import ReachConfig
from cellstep.errors import ConfigurationError
from plugins.runners.secured import Way

DASK_CONFIG: Mapping[str, Any] = {
    "distributed.scheduler.allowed-failures": 0,  # a shard whose worker died is not run again
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.http.routes": [],  # nothing is shown: no page, no state, no metrics
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.admin.low-level-log-length": 100,  # events, with hosts' records, that the scheduler remembers
    "distributed.admin.large-graph-warning-threshold": "1GB",
    "distributed.comm.require-encryption": True,
}


def way_of(reach: ReachConfig) -> Way:
    """The way, with its files.

    Raises:
        ConfigurationError: dask.distributed is not installed, or others may read the private key.
    """
    if importlib.util.find_spec("distributed") is None:
        raise ConfigurationError(
            ["cloud.yaml: reach needs dask.distributed, which is not installed; install the extra `reach`"]
        )
    try:
        mode = reach.key.stat().st_mode
    except OSError:
        mode = 0  # said with its reason when the file is read
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigurationError(
            [f"cloud.yaml: reach.key: {reach.key} is open to others (mode {stat.S_IMODE(mode):04o}); chmod 600 it"]
        )
    return Way(reach.scheduler, reach.ca, reach.certificate, reach.key, reach.connect_timeout_s)
