"""System services (`service`, `chkconfig`): their state, and the hold that stops them and keeps them off at boot."""

from collections.abc import Mapping, Sequence
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Hold, changed, skipped, unchanged
from tasks.shell import change, sh

START_TIMEOUT_S = 120.0

# One line a service: name, its status' exit status, boot. `chkconfig --list NAME` fails for one that is not installed.
STATES = r"""
for name in %s; do
  if list=$(chkconfig --list "$name" 2>/dev/null); then
    service "$name" status >/dev/null 2>&1; status=$?
    case "$list" in *3:on*) boot=on;; *) boot=off;; esac
    echo "$name $status $boot"
  fi
done
"""


def parse_states(text: str) -> dict[str, dict[str, str]]:
    """Read the lines of `STATES`: service to {actual: running|stopped, boot: on|off}."""
    states = {}
    for line in text.splitlines():
        name, status, boot = line.split()
        states[name] = {"actual": "running" if status == "0" else "stopped", "boot": boot}
    return states


def states(task: Task, names: Sequence[str]) -> dict[str, dict[str, str]]:
    """State and boot of those of the services that are installed on the node."""
    return parse_states(sh(task, STATES % " ".join(names), what="asking for services").stdout) if names else {}


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
        script = " && ".join(f"chkconfig {name} off && service {name} stop" for name in todo)
        change(task, script, what=f"stopping {', '.join(todo)}", timeout=START_TIMEOUT_S)
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
        lines = [f"chkconfig {name} on" for name in todo if meant[name]["boot"] == "on"]
        lines += [f"service {name} start" for name in todo]
        change(task, " && ".join(lines), what=f"starting {', '.join(todo)}", timeout=START_TIMEOUT_S)
        after = states(task, todo)
        wrong = [name for name in todo if after.get(name) != meant[name]]
        if wrong:
            raise Refused(f"started, but not as before: {', '.join(wrong)}; read their logs on the node")
    return changed(task, f"started {', '.join(todo)}")


DAEMONS = Hold("daemons", read, stop, restore)
"""The component's services, stopped and out of the boot sequence."""

RABBITMQ = Hold("rabbitmq", read, stop, restore)
"""RabbitMQ."""
