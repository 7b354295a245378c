"""What stands in cloud.yaml of how fast a run goes, and of how many nodes it may lose."""

from typing import Annotated

from pydantic import Field

from cellstep.cloud.fields import Count, Share
from cellstep.cloud.fields import Strict as _Strict


class BudgetsConfig(_Strict):
    """How many compute nodes a run may lose before it stops: numbers, or shares (rounded up)."""

    failed: Share = Field(default="2%", description="compute nodes that fail, in all")
    failed_per_cell: Share = Field(default="10%", description="compute nodes that fail, in one cell")
    unreachable: Share = Field(default="5%", description="compute nodes that are not reached, in all")
    unreachable_per_cell: Share = Field(default="20%", description="compute nodes that are not reached, in one cell")


class PaceConfig(_Strict):
    """How fast a step goes to its nodes."""

    canary: Count = Field(default=1, description="nodes that go first, alone; never fewer at once")
    growth: Annotated[float, Field(strict=False, ge=1, le=100)] = Field(
        default=2, description="so many times more nodes at once, each time that all of a batch went well"
    )
    reconnects_per_s: Annotated[float, Field(strict=False, gt=0, le=10_000)] = Field(
        default=20, description="nodes a second whose services connect to RabbitMQ again"
    )
