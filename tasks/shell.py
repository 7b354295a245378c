"""Running a command on a node, what its failure says, and the fence against an operator who has been replaced."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO
from weakref import WeakSet

from nornir.core.task import Task

from plugins.connections.errors import Unreachable
from plugins.connections.ssh import CommandResult, Ssh
from tasks.binding import Binding, Command, binding_of
from tasks.errors import CommandFailed, Fenced, Refused
from tasks.platforms import platform_of

# On the node: the newest token, the locks, and a folder for each job.
ROOT = "/var/lib/cellstep/jobs"
# What the guard ends with, and the word its last line then begins with.
FENCED, TROUBLE, MARK = 210, 211, "cellstep-guard: "
FENCE_TIMEOUT_S = 60.0

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
    source: BinaryIO | None = None,
) -> CommandResult:
    """Run a script on the task's node: bash, or PowerShell where its platform has that.

    Args:
        task: the Nornir task; its host names the node.
        script: bash 4.1; it and what it calls are all that the node needs. Never a secret: those go by `stdin`.
        what: the words for a failure; the script's first line when empty.
        stdin: what the script reads.
        timeout: seconds; the connection's own command timeout when None.
        ok: the exit statuses that are taken; None takes any.
        sink: where standard output goes, instead of into the result.
        source: what the script reads after `stdin`.

    Raises:
        CommandFailed: another exit status.
        plugins.connections.errors.TransportError: the node could not be asked, or did not answer.
    """
    connection: Ssh = task.host.get_connection("cellstep_ssh", task.nornir.config)
    result = connection.run(script, stdin=stdin, timeout=timeout, sink=sink, source=source)
    return taken(result, what or first_line(script), ok)


def change(
    task: Task,
    script: str,
    *,
    what: str = "",
    stdin: str = "",
    timeout: float | None = None,
    ok: tuple[int, ...] | None = (0,),
    source: BinaryIO | None = None,
) -> CommandResult:
    """As `sh`, for a script that changes the node: refuses to send it in a dry run, whatever its caller forgot.

    A task that is bound to its place in a run leaves a `Command` of it in its binding, whatever its exit status.

    Raises:
        CommandFailed: another exit status.
        Fenced: another operator has taken the cloud over; nothing was changed.
        Refused: in a dry run; or the node cannot keep the operator's token, and nothing was changed.
        plugins.connections.errors.TransportError: the node could not be asked, or did not answer.
    """
    what = what or first_line(script)
    binding = binding_of(task)
    with changing(task, what):
        if binding is None:
            return sh(task, script, what=what, stdin=stdin, timeout=timeout, ok=ok, source=source)
        body = platform_of(task).guard.change(script)
        result = guarded(task, binding, body, stdin=stdin, timeout=timeout, source=source)
    binding.commands.append(Command.of(what, result.exit_status, result.seconds, result.stdout + result.stderr))
    return taken(result, what, ok)


def guarded(
    task: Task,
    binding: Binding,
    body: str,
    *,
    stdin: str = "",
    timeout: float | None = None,
    source: BinaryIO | None = None,
) -> CommandResult:
    """Send a script that calls the functions of the platform's guard, and tell its refusals from other exit statuses.

    Raises:
        Fenced: here or on the node, a newer operator is known.
        Refused: the node cannot keep the token.
    """
    binding.still_ours()
    guard = platform_of(task).guard
    script = f"{guard.before(guard.root or ROOT, binding.token)}\n{body}"
    result = sh(task, script, stdin=stdin, timeout=timeout, ok=None, source=source)
    last = result.stderr.rstrip().rpartition("\n")[2]
    if last.startswith(MARK) and result.exit_status in (FENCED, TROUBLE):
        kind = Fenced if result.exit_status == FENCED else Refused
        raise kind(f"{task.host.name}: {last.removeprefix(MARK)}")
    return result


def fence(task: Task, *, timeout: float = FENCE_TIMEOUT_S) -> None:
    """Give the node the bound operator's token, and wait until no change that was sent before is under way on it.

    From then on, nothing that a former operator sends or has sent with `change` does anything there. Jobs are waited
    for by `jobs.attach`.

    Raises:
        Fenced: a newer operator is known.
        Refused: a change is still under way after `timeout` seconds, or the node cannot keep the token.
    """
    binding = binding_of(task)
    if binding is not None and not task.is_dry_run():
        guarded(task, binding, platform_of(task).guard.fence(timeout), timeout=timeout + 30)


def will_change(task: Task, what: str) -> None:
    """Note that the task changes its node from here on.

    Raises:
        Refused: in a dry run.
    """
    if task.is_dry_run():
        raise Refused(f"not sent in a dry run: {what}")
    _CHANGED.add(task)


@contextmanager
def changing(task: Task, what: str) -> Iterator[None]:
    """As `will_change`, while the first command of a change is sent: one that was not sent has changed nothing."""
    before = has_changed(task)
    will_change(task, what)
    try:
        yield
    except Unreachable:
        if not before:
            _CHANGED.discard(task)
        raise


def has_changed(task: Task) -> bool:
    """Whether the task sent something that changes its node, or tried to: what came of it may be unknown."""
    return task in _CHANGED


def taken(result: CommandResult, what: str, ok: tuple[int, ...] | None) -> CommandResult:
    """The result, if its exit status is taken; None takes any.

    Raises:
        CommandFailed: it is not.
    """
    if ok is not None and result.exit_status not in ok:
        raise CommandFailed(what, result)
    return result


def first_line(script: str) -> str:
    """A script's first line, which names it where nothing else does."""
    return script.strip().splitlines()[0]
