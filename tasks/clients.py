"""Client machines: an actual call with the clients that were upgraded."""

from collections.abc import Mapping, Sequence

from nornir.core.task import Result, Task

from tasks.errors import CommandFailed, Refused
from tasks.holds import changed, skipped, unchanged
from tasks.shell import change

CALL_TIMEOUT_S = 180.0


def call(task: Task, *, commands: Sequence[str], known: Mapping[str, str]) -> Result:
    """Make the site's calls on a client machine; each must end with 0.

    Args:
        task: the Nornir task.
        commands: as a user there would type them; in the machine's own shell.
        known: what a call may say when it fails, to what is then wrong and what to do.

    Raises:
        Refused: a call failed in a way that is known; the message says what is wrong.
        CommandFailed: it failed in another.
    """
    if not commands:
        return skipped(task, "clients.calls in cloud.yaml has none for it")
    if task.is_dry_run():
        return changed(task, f"would make {len(commands)} calls")
    for command in commands:
        ended = change(task, command, what=command, timeout=CALL_TIMEOUT_S, ok=None)
        if ended.exit_status == 0:
            continue
        said = " ".join((ended.stdout + ended.stderr).split())
        why = next((f"“{words}”: {cause}" for words, cause in known.items() if words in said), "")
        if why:
            raise Refused(f"`{command}` said {why}")
        raise CommandFailed(command, ended)
    return unchanged(task, f"{len(commands)} calls ended well")
