"""paramiko's transport with what it lacks: a keepalive that expects answers, and exit by signal."""

import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import paramiko
from paramiko.common import MSG_CHANNEL_REQUEST, MSG_GLOBAL_REQUEST

# Off unless the inventory asks for them; what an EL6 sshd (OpenSSH 5.3) offers is among them. Names that this
# paramiko does not have do no harm here.
LEGACY_ALGORITHMS = {
    "keys": ["ssh-rsa", "ssh-dss"],
    "pubkeys": ["ssh-rsa", "ssh-dss"],
    "kex": [
        "diffie-hellman-group-exchange-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group1-sha1",
    ],
    "macs": ["hmac-md5", "hmac-md5-96", "hmac-sha1-96"],
    "ciphers": ["3des-cbc"],
}
# An old sshd cannot say that it lacks these, and paramiko would sign with the first of them and be refused.
MODERN_SIGNATURES = {"pubkeys": ["rsa-sha2-512", "rsa-sha2-256"]}
UNANSWERED_PROBES = 2


class _Packetizer(paramiko.packet.Packetizer):
    """Counts the probes since the last message that came in."""

    unanswered = 0

    def read_message(self) -> tuple[int, paramiko.Message]:
        message: tuple[int, paramiko.Message] = super().read_message()
        self.unanswered = 0
        return message


class SilentPeerError(EOFError):
    """The peer did not answer the keepalives: paramiko ends the transport with this as its exception."""


class Transport(paramiko.Transport):
    """An SSH connection which notices a peer that has gone silent.

    TCP alone does not: a host whose power is cut sends nothing, and a frozen one still acknowledges. So after
    each idle interval a global request that wants a reply goes out; with two of them unanswered at the third
    interval the connection ends, and whatever waits on it is told.
    """

    def __init__(self, sock: socket.socket, *, legacy: bool) -> None:
        super().__init__(
            sock,
            disabled_algorithms=MODERN_SIGNATURES if legacy else LEGACY_ALGORITHMS,
            packetizer_class=_Packetizer,
        )
        self.silent = False
        table = super()._channel_handler_table  # type: ignore[misc] # not in the stubs
        self._channel_handler_table = {**table, MSG_CHANNEL_REQUEST: self._on_channel_request}

    def watch(self, interval: float) -> None:
        """Ask for a sign of life after each `interval` seconds without traffic; give up after three."""
        probe: Callable[[], None] = self._probe
        self.packetizer.set_keepalive(interval, probe)

    def _probe(self) -> None:
        """Runs in the transport's own thread, outside of a key exchange."""
        packetizer: Any = self.packetizer
        if packetizer.unanswered >= UNANSWERED_PROBES:
            self.silent = True
            raise SilentPeerError("no answer to keepalives")
        packetizer.unanswered += 1
        message = paramiko.Message()
        message.add_byte(bytes([MSG_GLOBAL_REQUEST]))
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._send_user_message(message)  # type: ignore[attr-defined] # not in the stubs

    def _on_channel_request(self, channel: paramiko.Channel, message: paramiko.Message) -> None:
        """What paramiko passes over, `exit-signal`, becomes the shell's 128 + n."""
        kind = message.get_text()
        if kind == "exit-signal":
            message.get_boolean()
            name = message.get_text()
            number = getattr(signal, f"SIG{name}", None)
            channel.exit_status = 128 + (int(number) if number else 0)
            channel.status_event.set()
            return
        message.rewind()
        message.get_int()
        channel._handle_request(message)  # type: ignore[attr-defined] # noqa: SLF001 - the handler before which this one stands


def deadline_in(seconds: float) -> Callable[[], float]:
    """A clock that counts down: call it for the seconds left, never less than a hundredth."""
    end = time.monotonic() + seconds
    return lambda: max(0.01, end - time.monotonic())
