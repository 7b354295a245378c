"""The switch that brings users to the new dashboard: a hold on trial, which is undone or stays for good.

How an alias or a virtual host is changed is the site's: three commands.
"""

from collections.abc import Mapping
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import CommandFailed, Refused
from tasks.holds import Hold, changed, skipped, unchanged
from tasks.shell import change, sh

TIMEOUT_S = 120.0


def _serving(task: Task, state: str, machines: tuple[str, str]) -> str:
    """The node that users come to.

    Raises:
        CommandFailed: the site's command failed.
        Refused: it printed the name of neither.
    """
    said = sh(task, state, what="dashboard.switch.state", timeout=TIMEOUT_S).stdout.strip()
    if said not in machines:
        raise Refused(f"dashboard.switch.state printed {said[:80]!r}, which is neither {' nor '.join(machines)}")
    return said


def read(task: Task, *, old: str, new: str, command: str, back: str, state: str) -> Result:
    """Prior state: {serving: the node that users come to}."""
    del command, back
    return unchanged(task, {"serving": _serving(task, state, (old, new))})


def place(task: Task, *, prior: Mapping[str, Any], old: str, new: str, command: str, back: str, state: str) -> Result:
    """Bring users to the new machine; where that fails half-way, to the old one again, as nobody watches then.

    Raises:
        CommandFailed: the site's command failed, or `switch.state` did before anything was sent.
        Refused: it failed; the message says whether users come to the old machine.
    """
    machines = (old, new)
    before = _serving(task, state, machines)
    try:
        return _bring(task, new, command, state, machines, "dashboard.switch.command")
    except (CommandFailed, Refused) as error:
        if prior["serving"] != old or before != old or task.is_dry_run():
            raise
        try:  # without asking first where they come to: half of the command may be done
            change(task, back, what="dashboard.switch.back", timeout=TIMEOUT_S)
            serving = _serving(task, state, machines)
        except (CommandFailed, Refused) as worse:
            raise Refused(f"{error}; and the way back failed: {worse}: see where users come to, by hand") from error
        raise Refused(f"{error}; dashboard.switch.back was called: users come to {serving}") from error


def lift(task: Task, *, prior: Mapping[str, Any], old: str, new: str, command: str, back: str, state: str) -> Result:
    """Bring them to the old one again, if they came to it before.

    Raises:
        CommandFailed: the site's command failed.
        Refused: it ended well, and users come to the new machine still.
    """
    del command
    if prior["serving"] != old:
        return skipped(task, f"users came to {prior['serving']} before")
    return _bring(task, old, back, state, (old, new), "dashboard.switch.back")


def _bring(task: Task, to: str, command: str, state: str, machines: tuple[str, str], what: str) -> Result:
    if _serving(task, state, machines) == to:
        return skipped(task, f"users come to {to} already")
    if not task.is_dry_run():
        change(task, command, what=what, timeout=TIMEOUT_S)
        if (serving := _serving(task, state, machines)) != to:
            raise Refused(f"{what} ended well, but users come to {serving}")
    return changed(task, f"users come to {to}")


def settle(task: Task, *, prior: Mapping[str, Any], old: str, new: str, command: str, back: str, state: str) -> Result:
    """Let users stay with the new machine.

    Raises:
        Refused: they do not come to it any more.
    """
    del prior, command, back
    serving = _serving(task, state, (old, new))
    if serving != new and not task.is_dry_run():
        raise Refused(f"users come to {serving}: somebody has switched back; see why")
    return unchanged(task, f"users stay with {new}")


SWITCH = Hold("dashboard-switch", read, place, lift, settle)
"""Users at the new dashboard."""
