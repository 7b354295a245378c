"""Backing out of a stage: whether it can be, and its run."""

from cellstep import runs
from cellstep.cloud.load import Cloud
from cellstep.engine.journal import Journal
from cellstep.errors import UsageError
from cellstep.stages import BACKOUTS, runbook_of
from cellstep.verification import BACKOUT, component_of
from cellstep.wayback import GOING_BACK, Upgrade


def stage_of(stage: str) -> str:
    """The name of the stage that goes back from a stage.

    Raises:
        UsageError: there is none.
    """
    name = stage + BACKOUT
    if name not in BACKOUTS:
        known = ", ".join(each.removesuffix(BACKOUT) for each in BACKOUTS)
        raise UsageError(f"there is no way back from “{stage}”; there is one from: {known}")
    return name


def upgrade_of(cloud: Cloud, stage: str) -> Upgrade:
    """The upgrade that a back-out would undo.

    Raises:
        UsageError: there is none, or the way back is closed; the message says why.
    """
    stage_of(stage)
    found = Upgrade.find(cloud, runs.open_journal(cloud, rehearsal=True), runbook_of(stage, cloud))
    why = found.closed() if found else f"there is no run of {stage} to go back from"
    if found is None or why:
        raise UsageError(f"{stage} cannot be backed out: {why}")
    return found


def start(cloud: Cloud, request: runs.Request, watch: runs.Watch) -> runs.Finished:
    """Begin a back-out and carry it through; `runs.resume` goes on with it as with any run.

    From then on the upgrade's own run is not gone on with: what its steps did is being taken back.

    Args:
        cloud: the cloud.
        request: its stage is `stage_of(...)`.
        watch: who sees it, and who is asked.

    Raises:
        UsageError: there is nothing to go back from, or no way back; or a back-out has begun already.
        CellstepError: as `runs.start`.
    """
    stage = component_of(request.stage)
    upgrade_of(cloud, stage)

    def close(journal: Journal) -> None:
        begun = journal.unfinished_run(request.stage)
        if begun:
            raise UsageError(f"run {begun.id} of {begun.stage} is not finished: `cellstep resume` goes on with it")
        found = Upgrade.find(cloud, journal, runbook_of(stage, cloud))
        if found:
            found.leave(GOING_BACK, "being backed out")

    return runs.start(cloud, request, watch, undone=stage, beginning=None if request.options.dry_run else close)
