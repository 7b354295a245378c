"""The runbooks: one module a stage, one line a step."""

from collections.abc import Callable

from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Runbook
from cellstep.errors import UsageError
from cellstep.stages import ceilometer, cinder, clients, glance, horizon, keystone, nova, nova_backout, preparation
from cellstep.stages.site import Steps

STAGES: dict[str, Callable[[Cloud], Runbook]] = {
    "ceilometer": ceilometer.runbook,
    "glance": glance.runbook,
    "keystone": keystone.runbook,
    "cinder": cinder.runbook,
    "clients": clients.runbook,
    "horizon": horizon.runbook,
    "nova": nova.runbook,
}
"""Stage name to what makes its runbook for a cloud, in the order of an upgrade.

A new stage is a module here, and a line in this table.
"""


BACKOUTS: dict[str, Callable[[Cloud], Runbook]] = {"nova-backout": nova_backout.runbook}
"""The ways back, by the same rule; `cellstep backout` begins them."""

WITH_DATABASES = ("nova", "cinder", "keystone", "glance", "ceilometer")

PREPARATIONS: dict[str, Callable[[Cloud], Runbook]] = {
    **{f"{component}-backup": preparation.backup_of(component) for component in WITH_DATABASES},
    **{f"{component}-replica-backup": preparation.replica_backup_of(component) for component in WITH_DATABASES},
    **{f"{component}-rehearsal": preparation.rehearsal_of(component) for component in WITH_DATABASES},
}
"""What is done days ahead; `cellstep backup` and `cellstep rehearse` begin them."""


def runbook_of(stage: str, cloud: Cloud) -> Runbook:
    """The runbook of a stage, of the way back from it, or of what prepares it; the site's own steps are in it.

    Raises:
        UsageError: there is no such stage.
        ConfigurationError: a step of the site is not right, of whatever stage.
    """
    known = STAGES | BACKOUTS | PREPARATIONS
    if stage not in known:
        raise UsageError(f"there is no stage “{stage}”; the stages are: {', '.join(STAGES)}")
    runbook = known[stage](cloud)
    return runbook if stage in PREPARATIONS else Steps(cloud, STAGES | BACKOUTS).woven(runbook)


def check_steps(cloud: Cloud) -> None:
    """See whether the site's own steps are right.

    Raises:
        ConfigurationError: they are not; each fault is one line.
    """
    Steps(cloud, STAGES | BACKOUTS).check()
