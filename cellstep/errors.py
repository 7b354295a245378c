"""What can go wrong, as one tree; each class says what the operator does next.

CellstepError
├── ConfigurationError   mend the files it names, then start again (exit 2)
├── UsageError           call again as the message says (exit 2)
├── Locked               wait for the run that holds the lock (exit 5)
└── Stopped              mend what the message names, then `cellstep resume` (exit 4)
"""

from collections.abc import Sequence


class CellstepError(Exception):
    """Root of everything cellstep raises on purpose.

    Attributes:
        exit_code: what the command ends with when this reaches it.
    """

    exit_code = 1


class ConfigurationError(CellstepError):
    """A cloud's files have faults: mend each line it lists.

    Attributes:
        faults: one line a fault, `file:line: what is wrong; what to write instead`.
    """

    exit_code = 2

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = list(faults)


class UsageError(CellstepError):
    """The command was called with something that cannot be: call it again as the message says."""

    exit_code = 2


class Locked(CellstepError):
    """Another run holds this cloud: wait for it, or end it."""

    exit_code = 5


class Stopped(CellstepError):
    """The run stopped before its end: mend what the message names, then `cellstep resume`."""

    exit_code = 4
