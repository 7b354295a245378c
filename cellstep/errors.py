"""What can go wrong, as one tree; each class says what the operator does next.

OperatorError (plugins.errors)
├── TransportError (plugins.connections.errors)   on the way to a node
│   ├── Unreachable                nothing was sent: bring the node back, then do the step again
│   │   ├── HostKeyRefused         check the key on the node's console, then mend known_hosts
│   │   └── AuthenticationRefused  mend the key, the user or sudo's rules on the node
│   ├── ConnectionLost             the outcome is unknown: `cellstep resume` asks the node first
│   ├── CommandTimeout             the same
│   └── DatabaseError              read what the database says
├── InventoryError (plugins.inventory.document)   mend the lines it names
├── TaskError (tasks.errors)                      on a node
│   ├── CommandFailed              read the command's last lines, mend the node, then `cellstep resume`
│   ├── Refused                    the node is in a state that must not be acted on: as the message says
│   ├── CutOff                     a job ended without a status: look at the node, then `cellstep resume`
│   └── Fenced                     another operator has taken the cloud over
└── CellstepError                                 here
    ├── ConfigurationError         mend the files it names, then start again (exit 2)
    ├── UsageError                 call again as the message says (exit 2)
    ├── Locked                     wait for the run that holds the lock, or take over (exit 5)
    │   └── TakenOver              another operator took over while we ran: see `cellstep lock show`
    ├── NoWay (cellstep.reach.worker) a worker or scheduler cannot serve: mend what it names (exit 3)
    ├── NotDone (cellstep.keystone) mend what it names, then call again (exit 3)
    └── Stopped                    mend what the message names, then `cellstep resume` (exit 4)
        └── JournalFailed          make room for the journal, then `cellstep resume`
"""

from collections.abc import Sequence

from plugins.errors import OperatorError


class CellstepError(OperatorError):
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


class JournalFailed(Stopped):
    """The journal cannot be written, so nothing more is done: make room, then `cellstep resume`."""


class TakenOver(Locked):
    """Another operator has taken this cloud over while we ran: nothing more may be done from here."""
