"""System services: their state, and the hold that stops them and keeps them off at boot."""

from collections.abc import Mapping, Sequence
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Hold, changed, skipped, unchanged
from tasks.platforms import platform_of
from tasks.platforms.model import States
from tasks.shell import change, sh

START_TIMEOUT_S = 120.0


def states(task: Task, names: Sequence[str]) -> States:
    """State and boot of those of the services that are installed on the node."""
    if not names:
        return {}
    services = platform_of(task).services
    return services.parse(sh(task, services.states(names), what="asking for services").stdout)


def read(task: Task, *, services: Sequence[str]) -> Result:
    """The hold's prior state: {service: {actual, boot}}."""
    return unchanged(task, states(task, services))


def stop(task: Task, *, prior: Mapping[str, Any], services: Sequence[str]) -> Result:
    """Stop the services and take them out of the boot sequence.

    The EL6 packages restart a running service in %postun, on new code before the schema is synced (RDO spec files), and
    a reboot would start them: so both.
    """
    del prior
    now = states(task, services)
    todo = [name for name, is_ in now.items() if is_ != {"actual": "stopped", "boot": "off"}]
    if not todo:
        return skipped(task, "all stopped and off already" if now else "none of the services is installed")
    if not task.is_dry_run():
        change(task, platform_of(task).services.stop(todo), what=f"stopping {', '.join(todo)}", timeout=START_TIMEOUT_S)
        late = [name for name, is_ in states(task, todo).items() if is_ != {"actual": "stopped", "boot": "off"}]
        if late:
            raise Refused(f"stopped, but running again or on at boot: {', '.join(late)}; what starts them?")
    return changed(task, f"stopped {', '.join(todo)}")


def restore(task: Task, *, prior: Mapping[str, Any], services: Sequence[str]) -> Result:
    """Put the services back as they were: one that was stopped and out of the boot sequence before stays so.

    One that was in the boot sequence is meant to run, and is started although it did not run: on a node that comes back
    late the old release's service cannot run on the new schema.
    """
    del services
    meant = {
        name: {"actual": "running", "boot": is_["boot"]}
        for name, is_ in prior.items()
        if is_["boot"] == "on" or is_["actual"] == "running"
    }
    now = states(task, list(meant))
    todo = [name for name in meant if now.get(name) != meant[name]]
    if not todo:
        return skipped(task, "as before already" if meant else "was off before: left off")
    if not task.is_dry_run():
        script = platform_of(task).services.start([name for name in todo if meant[name]["boot"] == "on"], todo)
        change(task, script, what=f"starting {', '.join(todo)}", timeout=START_TIMEOUT_S)
        after = states(task, todo)
        wrong = [name for name in todo if after.get(name) != meant[name]]
        if wrong:
            raise Refused(f"started, but not as before: {', '.join(wrong)}; read their logs on the node")
    return changed(task, f"started {', '.join(todo)}")


DAEMONS = Hold("daemons", read, stop, restore)
"""The component's services, stopped and out of the boot sequence."""

RABBITMQ = Hold("rabbitmq", read, stop, restore)
"""RabbitMQ."""
