"""A site's own steps that are shell commands: one that does something, and a hold made of three."""

import shlex
from collections.abc import Mapping
from typing import Any

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import Hold, changed, skipped, unchanged
from tasks.jobs import detached
from tasks.shell import sh

LONGEST_STATE = 64 * 1024
"""Characters of a prior state, which stands in the journal for each node."""


def carry_out(task: Task, *, command: str, timeout_s: float, already: str = "") -> Result:
    """Run a command of the site, as a job that outlives the connection.

    Args:
        task: the Nornir task.
        command: in bash.
        timeout_s: seconds that it may take.
        already: a command that changes nothing and ends with 0 where it is done; "" where nothing tells.

    Raises:
        CommandFailed: it ended with another status than 0, or its time was over.
        Refused: it ended well, and `already` says that it is not done.
        tasks.jobs.CutOff: it was killed.
        plugins.connections.errors.TransportError: the node could not be asked, or did not answer.
    """
    if _says_yes(task, already, timeout_s):
        return skipped(task, "done already")
    if not task.is_dry_run():
        detached(task, command, name="command", what=command, timeout=timeout_s)
        if already and not _says_yes(task, already, timeout_s):
            raise Refused(f"{task.host.name}: `{command}` ended well, but `{already}` says that it is not done")
    return changed(task, f"ran: {command}")


def hold_of(name: str) -> Hold:
    """A hold that the site's commands read, place and lift; they are the arguments of its tasks."""
    return Hold(name, read_state, place, put_back)


def read_state(task: Task, *, read: str, place: str, lift: str, already: str, timeout_s: float) -> Result:
    """Prior state: {state: what `read` prints, in place: whether somebody else holds it already}.

    Raises:
        Refused: it prints more than can be kept.
    """
    del place, lift
    state = sh(task, read, timeout=timeout_s).stdout.strip()
    if len(state) > LONGEST_STATE:
        raise Refused(f"`{read}` printed {len(state):,} characters: no more than {LONGEST_STATE:,} can be kept")
    return unchanged(task, {"state": state, "in place": _says_yes(task, already, timeout_s)})


def place(
    task: Task, *, prior: Mapping[str, Any], read: str, place: str, lift: str, already: str, timeout_s: float
) -> Result:
    """Place it, unless it is in place."""
    del read, lift
    if prior["in place"] or _says_yes(task, already, timeout_s):
        return skipped(task, "in place already")
    _with_state(task, place, prior["state"], "place", timeout_s)
    return changed(task, f"ran: {place}")


def put_back(
    task: Task, *, prior: Mapping[str, Any], read: str, place: str, lift: str, already: str, timeout_s: float
) -> Result:
    """Put it back, unless it was in place before, or is no longer."""
    del read, place
    if prior["in place"]:
        return skipped(task, "was in place before: left so")
    if already and not _says_yes(task, already, timeout_s):
        return skipped(task, "is not in place any more")
    _with_state(task, lift, prior["state"], "lift", timeout_s)
    return changed(task, f"ran: {lift}")


def _says_yes(task: Task, already: str, timeout_s: float) -> bool:
    return bool(already) and sh(task, already, timeout=timeout_s, ok=None).exit_status == 0


def _with_state(task: Task, command: str, state: str, name: str, timeout_s: float) -> None:
    """Run a command with the prior state on its standard input."""
    if not task.is_dry_run():
        script = f"{{\n{command}\n}} <<< {shlex.quote(state)}"
        detached(task, script, name=name, what=command, timeout=timeout_s)
