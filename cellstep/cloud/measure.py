"""What stands in a cloud.yaml about `cellstep measure`: how fast the cloud answers, and how it names several guests."""

from typing import Annotated

from pydantic import Field

from cellstep.cloud.fields import Line, Strict, placeholders
from plugins.inventory.model import Word


class MeasureConfig(Strict):
    """What `cellstep measure` times before a stage and after it, with the environment of the check-out tests."""

    on: Word | None = Field(default=None, description="the node to measure on; the first top controller if left out")
    calls: dict[Word, Line] = Field(default_factory=dict, description="name to the command that is timed")
    repeat: Annotated[int, Field(strict=True, ge=1, le=1000)] = Field(
        default=20, description="how often each is called"
    )
    slower: Annotated[float, Field(strict=False, ge=1, le=100)] = Field(
        default=1.5, description="so many times the median of before is slower"
    )
    several: Annotated[Line, placeholders("name", "count", "cell_path")] | None = Field(
        default="nova boot --flavor m1.tiny --image cirros --num-instances {count}"
        " --hint target_cell='{cell_path}' {name}",
        description="makes {count} guests by one request, each with a unique name made of {name}; null: not tried",
    )
    list: Line = Field(default="nova list", description="prints a table of guests with the columns ID, Name and Status")
