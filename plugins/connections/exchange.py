"""Talking to one command: both its outputs drained and its input fed side by side, so that none can block."""

import threading
import time
from collections.abc import Callable
from typing import BinaryIO

import paramiko

CHUNK = 256 * 1024
# How long to wait for more output once the command has ended: what it left running may hold its output open.
GRACE_S = 2.0


class OutOfTimeError(Exception):
    """The command did not end in time."""


class _Bell(threading.Event):
    """Rings when any of a channel's buffers has something; only the listener silences it.

    A buffer clears its event when that one buffer is empty, which must not hush the other.
    """

    def clear(self) -> None:
        """Left to `hush`."""

    def hush(self) -> None:
        super().clear()


class Exchange:
    """One command's input and output.

    Args:
        channel: a new session channel.
        stdin: fed as the command takes it, then closed.
        sink: gets stdout as it comes; else it is kept.
        source: fed after `stdin`, read as the command takes it.

    Attributes:
        stderr: what came.
        stdout: what came, without a sink.
    """

    def __init__(
        self, channel: paramiko.Channel, stdin: bytes, sink: BinaryIO | None = None, source: BinaryIO | None = None
    ) -> None:
        self.stdout: list[bytes] = []
        self.stderr: list[bytes] = []
        self._channel = channel
        self._rest = stdin
        self._source = source
        self._sent = 0
        self._fed = False
        self._write = sink.write if sink is not None else self.stdout.append
        self._bell = _Bell()
        channel.in_buffer.set_event(self._bell)
        channel.in_stderr_buffer.set_event(self._bell)

    def finish(self, left: Callable[[], float]) -> None:
        """Feed and drain till the command's end; its status is then the channel's `exit_status`, -1 for none.

        Args:
            left: the seconds left.

        Raises:
            OutOfTimeError: none are.
        """
        channel = self._channel
        channel.settimeout(0.0)
        quiet_since = time.monotonic()
        while True:
            self._bell.hush()
            # Looked at before draining: what came before the end is then drained for certain.
            ended = channel.eof_received or channel.closed
            known = channel.exit_status_ready()
            if self._drain():
                quiet_since = time.monotonic()
            if not self._fed:
                self._feed()
            if known and (ended or time.monotonic() - quiet_since > GRACE_S):
                return
            if left() <= 0.01:
                raise OutOfTimeError
            # Room for more stdin does not ring, nor does a status whose output stays open: look now and then.
            self._bell.wait(min(left(), 0.5 if self._fed else 0.01))

    def _read_on(self) -> bool:
        """Take the next piece of the source; whether there was one."""
        self._rest, self._sent = self._source.read(CHUNK) if self._source is not None else b"", 0
        return bool(self._rest)

    def _drain(self) -> bool:
        """Take what has come; whether there was anything."""
        channel, moved = self._channel, False
        while channel.recv_ready():
            self._write(channel.recv(CHUNK))
            moved = True
        while channel.recv_stderr_ready():
            self.stderr.append(channel.recv_stderr(CHUNK))
            moved = True
        return moved

    def _feed(self) -> None:
        """Send as much of stdin as there is room for, and close it after the last."""
        try:
            while self._sent < len(self._rest) or self._read_on():
                sent = self._channel.send(self._rest[self._sent : self._sent + CHUNK])
                if not sent:
                    self._fed = True
                    return
                self._sent += sent
            self._channel.shutdown_write()
        except TimeoutError:
            return
        except (OSError, EOFError, paramiko.SSHException):
            # The command ended without reading all of it; its exit status says how.
            self._fed = True
        self._fed = True
