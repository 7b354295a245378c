"""The operator's line to the workers of a cloud."""

from functools import partial

from cellstep.cloud.cloud import Cloud
from cellstep.cloud.reach import ReachConfig
from cellstep.reach.about import about, misfit
from cellstep.reach.way import way_of
from cellstep.reach.worker import run_shard
from plugins.runners.line import Line


def line_to(cloud: Cloud, reach: ReachConfig) -> Line:
    """The line; it is opened when it is first needed.

    Raises:
        ConfigurationError: dask.distributed is not installed, or others may read the private key.
    """
    return Line(way_of(reach), run_shard, partial(misfit, about(cloud)))
