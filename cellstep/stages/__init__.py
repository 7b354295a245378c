"""The runbooks: one module a stage, one line a step."""

from collections.abc import Callable

from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Runbook
from cellstep.errors import UsageError
from cellstep.stages import nova

STAGES: dict[str, Callable[[Cloud], Runbook]] = {"nova": nova.runbook}
"""Stage name to what makes its runbook for a cloud. A new stage is a module here, and a line in this table."""


def runbook_of(stage: str, cloud: Cloud) -> Runbook:
    """The runbook of a stage.

    Raises:
        UsageError: there is no such stage.
    """
    if stage not in STAGES:
        raise UsageError(f"there is no stage “{stage}”; the stages are: {', '.join(STAGES)}")
    return STAGES[stage](cloud)
