"""Running a command on a node, and what its failure says."""

from typing import BinaryIO
from weakref import WeakSet

from nornir.core.task import Task

from plugins.connections.ssh import CommandResult, Ssh
from tasks.errors import CommandFailed, Refused

_CHANGED: WeakSet[Task] = WeakSet()


def sh(
    task: Task,
    script: str,
    *,
    what: str = "",
    stdin: str = "",
    timeout: float | None = None,
    ok: tuple[int, ...] | None = (0,),
    sink: BinaryIO | None = None,
) -> CommandResult:
    """Run a bash script on the task's node.

    Args:
        task: the Nornir task; its host names the node.
        script: bash 4.1; it and what it calls are all that the node needs. Never a secret: those go by `stdin`.
        what: the words for a failure; the script's first line when empty.
        stdin: what the script reads.
        timeout: seconds; the connection's own command timeout when None.
        ok: the exit statuses that are taken; None takes any.
        sink: where standard output goes, instead of into the result.

    Raises:
        CommandFailed: another exit status.
        plugins.connections.errors.TransportError: the node could not be asked, or did not answer.
    """
    connection: Ssh = task.host.get_connection("cellstep_ssh", task.nornir.config)
    result = connection.run(script, stdin=stdin, timeout=timeout, sink=sink)
    if ok is not None and result.exit_status not in ok:
        raise CommandFailed(what or script.strip().splitlines()[0], result)
    return result


def change(
    task: Task,
    script: str,
    *,
    what: str = "",
    stdin: str = "",
    timeout: float | None = None,
    ok: tuple[int, ...] | None = (0,),
) -> CommandResult:
    """As `sh`, for a script that changes the node: refuses to send it in a dry run, whatever its caller forgot."""
    if task.is_dry_run():
        raise Refused(f"not sent in a dry run: {what or script.strip().splitlines()[0]}")
    _CHANGED.add(task)
    return sh(task, script, what=what, stdin=stdin, timeout=timeout, ok=ok)


def has_changed(task: Task) -> bool:
    """Whether the task sent something that changes its node, or tried to: what came of it may be unknown."""
    return task in _CHANGED
