"""What tasks raise on purpose; `cellstep/errors.py` draws the whole tree."""

from plugins.connections.ssh import CommandResult
from plugins.errors import OperatorError
from tasks.masking import masked

TAIL_LINES = 6


class TaskError(OperatorError):
    """Root of what a task raises: the node's step failed, and the message says why."""


class CommandFailed(TaskError):
    """A command on a node ended with a status that its caller does not take: read its last lines.

    Attributes:
        status: the exit status.
        tail: the last lines of what it printed.
    """

    def __init__(self, what: str, result: CommandResult) -> None:
        lines = (result.stderr.strip() or result.stdout.strip()).splitlines()
        self.status = result.exit_status
        self.tail = masked(" | ".join(line.strip() for line in lines[-TAIL_LINES:]))
        super().__init__(f"{what}: exit status {self.status}" + (f": {self.tail}" if self.tail else ""))


class Refused(TaskError):
    """A task found the node in a state that it must not act on: the message says which, and what to do."""


class Fenced(TaskError):
    """Another operator has taken the cloud over: nothing more may be sent. See who, with `cellstep lock show`."""
