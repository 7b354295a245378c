"""paramiko's transport with what it lacks: a keepalive that expects answers, exit by signal, why a tunnel failed."""

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST, MSG_GLOBAL_REQUEST

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
IDLE_WAKE_S = 1.0
ADMINISTRATIVELY_PROHIBITED = 1  # RFC 4254, 5.1


class SocketLike(Protocol):
    """What a transport needs of a socket."""

    def settimeout(self, value: float | None, /) -> None:
        """How long recv and send may wait, in seconds."""

    def recv(self, size: int, /) -> bytes:
        """Some bytes; none at the end."""

    def send(self, data: bytes, /) -> int:
        """Send some of it; how much."""

    def close(self) -> None:
        """End it."""


class _Packetizer(paramiko.packet.Packetizer):
    """Counts the probes since the last message that came in, and knows when that was (monotonic)."""

    unanswered = 0
    heard = 0.0

    def read_message(self) -> tuple[int, paramiko.Message]:
        message: tuple[int, paramiko.Message] = super().read_message()
        self.unanswered = 0
        self.heard = time.monotonic()
        return message


@dataclass(frozen=True)
class TunnelRefusal:
    """Why the peer opened no tunnel.

    Attributes:
        forbidden: the peer may not do so, whatever the destination (AllowTcpForwarding, PermitOpen).
        said: its own words, such as `Connection refused`; None where it said nothing in time.
        silent: it gave no sign of life either.
    """

    forbidden: bool = False
    said: str | None = None
    silent: bool = False


class TunnelError(Exception):
    """No tunnel was opened, and the connection still stands."""

    def __init__(self, refusal: TunnelRefusal) -> None:
        super().__init__(refusal.said or "no answer")
        self.refusal = refusal


class SilentPeerError(EOFError):
    """The peer did not answer the keepalives: paramiko ends the transport with this as its exception."""


class Transport(paramiko.Transport):
    """An SSH connection which notices a peer that has gone silent.

    TCP alone does not: a host whose power is cut sends nothing, and a frozen one still acknowledges. So after
    each idle interval a global request that wants a reply goes out; with two of them unanswered at the third
    interval the connection ends, and whatever waits on it is told.
    """

    def __init__(self, sock: socket.socket | SocketLike, *, legacy: bool) -> None:
        super().__init__(
            sock,  # type: ignore[arg-type] # the stubs want a socket; what SocketLike has is all that is used
            disabled_algorithms=MODERN_SIGNATURES if legacy else LEGACY_ALGORITHMS,
            packetizer_class=_Packetizer,
        )
        self.silent = False
        self._opening = threading.local()
        self._awaited: dict[int, TunnelRefusal | None] = {}
        self._given_up: set[int] = set()
        table = super()._channel_handler_table  # type: ignore[misc] # not in the stubs
        self._channel_handler_table = {
            **table,
            MSG_CHANNEL_REQUEST: self._on_channel_request,
            MSG_CHANNEL_CLOSE: self._on_channel_close,
        }

    def watch(self, interval: float) -> None:
        """Ask for a sign of life after each `interval` seconds without traffic; give up after three."""
        # paramiko's reader wakes up ten times a second: on thousands of idle connections that is a processor's work.
        self.sock.settimeout(min(IDLE_WAKE_S, interval / 10))
        probe: Callable[[], None] = self._probe
        self.packetizer.set_keepalive(interval, probe)

    def close(self) -> None:
        """End the connection; its reader hears of it at once, and does not sleep on."""
        if self.is_active() and isinstance(self.sock, socket.socket):
            with contextlib.suppress(OSError):  # the peer was faster
                self.sock.shutdown(socket.SHUT_RDWR)
        super().close()

    def _probe(self) -> None:
        """Runs in the transport's own thread, outside of a key exchange."""
        packetizer: Any = self.packetizer
        if packetizer.unanswered >= UNANSWERED_PROBES:
            self.silent = True
            raise SilentPeerError("no answer to keepalives")
        packetizer.unanswered += 1
        self._ask()

    def _ask(self) -> None:
        """Send something that every sshd answers at once."""
        message = paramiko.Message()
        message.add_byte(bytes([MSG_GLOBAL_REQUEST]))
        message.add_string("keepalive@openssh.com")
        message.add_boolean(True)
        self._send_user_message(message)  # type: ignore[attr-defined] # not in the stubs

    def open_tunnel(self, address: str, port: int, timeout: float) -> paramiko.Channel:
        """A connection from the peer to address:port. Whoever uses it closes it, also when the peer has ended it.

        Raises:
            TunnelError: the peer does not open it, or not within `timeout` seconds.
            SSHException: or EOFError or OSError; the connection to the peer itself is gone.
        """
        asked = time.monotonic()
        self._opening.tunnel, self._opening.number = True, None
        try:
            # Answered at once, whatever becomes of the tunnel: so a silent peer is told from a silent destination.
            self._ask()
            channel = self.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=timeout)
        except (paramiko.SSHException, EOFError, OSError) as error:
            refusal = self._refusal()
            if refusal is None and time.monotonic() - asked < timeout:
                # Broken, though its own thread may not have noticed yet.
                self.close()
            if not self.is_active():
                raise
            packetizer: Any = self.packetizer
            raise TunnelError(refusal or TunnelRefusal(silent=packetizer.heard < asked)) from error
        finally:
            self._opening.tunnel = False
        with self.lock:
            self._awaited.pop(self._opening.number, None)
        return channel

    def _on_channel_close(self, channel: paramiko.Channel, message: paramiko.Message) -> None:
        """A channel that the peer closes is only at its end here: its user, who may be sending, answers by closing it.

        An answer from this thread could overtake what another is about to send, and sshd breaks off a connection
        on which something comes after a channel's close.
        """
        if channel.closed:
            channel._handle_close(message)  # type: ignore[attr-defined] # noqa: SLF001 - paramiko's own handlers
            return
        channel._handle_eof(message)  # type: ignore[attr-defined] # noqa: SLF001 - paramiko's own handlers
        # A reply to a request, or an exit status, has come by now, or never will.
        channel.status_event.set()
        channel.event.set()

    def _refusal(self) -> TunnelRefusal | None:
        """What the peer said to this thread's tunnel; where it said nothing, nobody waits for it any more."""
        number = self._opening.number
        with self.lock:
            refusal = self._awaited.pop(number, None)
            if refusal is None and number is not None:
                self._given_up.add(number)
        return refusal

    def _next_channel(self) -> int:
        """The number of a channel that this thread is about to open; `lock` is held."""
        number: int = super()._next_channel()  # type: ignore[misc] # not in the stubs
        if getattr(self._opening, "tunnel", False):
            self._opening.number = number
            self._awaited[number] = None
        return number

    def _parse_channel_open_failure(self, message: paramiko.Message) -> None:
        """Keep the peer's words: paramiko throws them away, and gives one waiting thread another one's reason."""
        number, reason, said = message.get_int(), message.get_int(), message.get_text()
        with self.lock:
            if number in self._awaited:
                self._awaited[number] = TunnelRefusal(reason == ADMINISTRATIVELY_PROHIBITED, said)
            self._given_up.discard(number)
        message.rewind()
        super()._parse_channel_open_failure(message)  # type: ignore[misc] # not in the stubs

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        """A channel which nobody waits for any more is closed again; paramiko would leave it open on the peer."""
        number, theirs = message.get_int(), message.get_int()
        with self.lock:
            late = number in self._given_up
            self._given_up.discard(number)
        if not late:
            message.rewind()
            super()._parse_channel_open_success(message)  # type: ignore[misc] # not in the stubs
            return
        answer = paramiko.Message()
        answer.add_byte(bytes([MSG_CHANNEL_CLOSE]))
        answer.add_int(theirs)
        self._send_user_message(answer)  # type: ignore[attr-defined] # not in the stubs

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
