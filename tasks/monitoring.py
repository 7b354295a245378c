"""The monitoring system: automatic restarts off, alarms masked, as one hold."""

from collections.abc import Mapping
from typing import Any

from nornir.core.task import Result, Task

from tasks import services
from tasks.holds import Hold, changed, skipped, unchanged
from tasks.shell import change, sh


def read(task: Task, *, service: str, masked: str, mask: str, unmask: str) -> Result:
    """Prior state: {services: {name: {actual, boot}}, alarms: masked|on|""}; "" where the site has no such command."""
    del mask, unmask
    alarms = ""
    if masked:
        status = sh(task, masked, what="asking whether alarms are masked", ok=(0, 1)).exit_status
        alarms = "on" if status else "masked"
    return unchanged(task, {"services": services.states(task, [service] if service else []), "alarms": alarms})


def place(task: Task, *, prior: Mapping[str, Any], service: str, masked: str, mask: str, unmask: str) -> Result:
    """Mask alarms, stop the monitoring daemon and keep it off: monit watches everything again when it starts."""
    now = read(task, service=service, masked=masked, mask=mask, unmask=unmask).result
    said = []
    if now["alarms"] == "on":
        if not task.is_dry_run():
            change(task, mask, what="masking alarms")
        said.append("alarms masked")
    stopped = services.stop(task, prior=prior, services=[service] if service else [])
    if stopped.changed:
        said.append(stopped.result)
    return changed(task, "; ".join(said)) if said else skipped(task, "nothing to disable")


def lift(task: Task, *, prior: Mapping[str, Any], service: str, masked: str, mask: str, unmask: str) -> Result:
    """Put both back as they were."""
    now = read(task, service=service, masked=masked, mask=mask, unmask=unmask).result
    said = []
    started = services.restore(task, prior=prior["services"], services=[service])
    if started.changed:
        said.append(started.result)
    if prior["alarms"] == "on" and now["alarms"] == "masked":
        if not task.is_dry_run():
            change(task, unmask, what="unmasking alarms")
        said.append("alarms unmasked")
    return changed(task, "; ".join(said)) if said else skipped(task, "as before already")


RESTARTS_AND_ALARMS = Hold("monitoring", read, place, lift)
"""Automatic restarts and alarms."""
