"""What can go wrong between here and a host, as one tree; the class says what is known of the outcome.

TransportError
├── Unreachable                nothing was sent: the host's state is as it was
│   ├── HostKeyRefused         the host's key is unknown or has changed
│   └── AuthenticationRefused  the login, sudo or the database refuses us
├── ConnectionLost             lost in mid-command: the outcome is unknown
├── CommandTimeout             no answer in time: the outcome is unknown
└── DatabaseError              the database answered, and refused the statement
"""

from plugins.errors import OperatorError


class TransportError(OperatorError):
    """Root of all that can go wrong on the way to a host; its text names the host and what was waited for."""


class Unreachable(TransportError):
    """The host could not be reached, so nothing was done to it: bring it back, then do the step again."""


class HostKeyRefused(Unreachable):
    """The host's key is not the one known: check it on the host's console, then mend known_hosts."""


class AuthenticationRefused(Unreachable):
    """The host does not let us in: mend the key, the user or sudo's rules on it."""


class ConnectionLost(TransportError):
    """The connection broke in mid-command: ask the host what became of it before doing it again."""


class CommandTimeout(TransportError):
    """The command did not end in time: ask the host what became of it before doing it again."""


class DatabaseError(TransportError):
    """The database refused a statement: read what it says.

    Attributes:
        errno: the server's error number (`1064` is a syntax error, `1213` a deadlock), 0 if it gave none.
        reason: the server's own words.
    """

    def __init__(self, message: str, errno: int = 0, reason: str = "") -> None:
        super().__init__(message)
        self.errno = errno
        self.reason = reason
