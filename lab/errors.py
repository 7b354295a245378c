"""What can go wrong with the lab; each class says what the operator does next.

LabError
├── LabUsageError   call again as the message says (exit 2)
└── MachineUnfit    give this machine what the message lists, then start again (exit 1)
"""

from collections.abc import Sequence


class LabError(Exception):
    """Something of the lab failed: do what the message says, or `cellstep lab down` and start anew.

    Attributes:
        exit_code: what the command ends with when this reaches it.
    """

    exit_code = 1


class LabUsageError(LabError):
    """The command was called with something that cannot be: call it again as the message says."""

    exit_code = 2


class MachineUnfit(LabError):
    """This machine lacks something the lab needs: give it that, then start again.

    Attributes:
        faults: one line a fault: what is missing, and what to do.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(["the lab cannot run on this machine:", *(f"  {f}" for f in faults)]))
        self.faults = list(faults)
