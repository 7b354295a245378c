"""Going through jump hosts: one SSH connection a jump host, shared by all hosts behind it.

sshd's MaxSessions does not count forwarded connections, but each takes a file descriptor of the one process that
serves us there (`ulimit -n`, often 1024) and a connection in its firewall's table; so at most `jump_connections` go
through a jump host at once. Connections are kept open between steps: an idle one is closed to make room, and its host
logs in anew when it is needed next.
"""

import contextlib
import errno
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import paramiko

from plugins.connections.errors import Unreachable
from plugins.connections.login import login
from plugins.connections.sshconfig import Settings
from plugins.connections.transport import Transport, TunnelError, TunnelRefusal, deadline_in

# For so long after a jump host could not be reached, those behind it are told so without another try.
FAILURE_SHARED_S = 5.0
# A tunnel that is closed by its user tells nobody: whether that made its host idle is looked at so often.
LOOK_AGAIN_S = 1.0

Spare = Callable[[], bool]


def enter(settings: Settings, spare: Spare) -> Transport:
    """Log in to a host, through its jump host if it has one.

    Args:
        settings: the host, and how we log in to it.
        spare: a method that ends the connection if it is idle, and says whether it did. Called from other hosts'
            threads, with no lock of theirs held; must not wait for the host.

    Raises:
        Unreachable: or one of its subclasses; it names the jump host where that is at fault.
    """
    if settings.jump is None:
        return login(settings)
    passage = _jump_host(settings.jump).passage(settings, spare)
    try:
        return login(settings, passage)
    except Unreachable as error:
        if passage.cut:
            raise Unreachable(
                f"{settings.where}: not reached: the connection to its jump host {settings.jump.where} broke "
                "during the login"
            ) from error
        raise


def close_all() -> None:
    """End the connections to all jump hosts, and with them all that go through them."""
    with _lock:
        hosts = list(_hosts.values())
        _hosts.clear()
    for host in hosts:
        host.close()


class Passage:
    """One connection through a jump host, as a socket.

    Attributes:
        host: the jump host.
        idle_since: when it was last used, monotonic.
        cut: whether it ended because the connection to the jump host did.
    """

    def __init__(self, host: "JumpHost", target: Settings, spare: Spare) -> None:
        self.host = host
        # Weak, so that a connection which was dropped without being closed is not kept alive by its place here.
        self._spare = weakref.WeakMethod(spare)
        self.idle_since = time.monotonic()
        self.cut = False
        self._patience = target.keepalive_interval * 3
        self._channel: paramiko.Channel | None = None
        self._stuck_since: float | None = None
        self._shut = False
        # Nothing may follow the channel's end: sshd would break off the whole connection, and all hosts' with it.
        # paramiko lets go of its own lock before it sends.
        self._ordered = threading.Lock()

    def through(self, channel: paramiko.Channel) -> "Passage":
        """Now that there is a channel."""
        self._channel = channel
        return self

    def spare(self) -> bool:
        """End it if it is idle; whether it did. See `enter`."""
        method = self._spare()
        if method is not None:
            return method()
        self.close()
        return True

    def idle(self) -> None:
        """Its host has nothing more to do for now."""
        self.idle_since = time.monotonic()
        self.host.stir()

    @property
    def _closed(self) -> bool:
        """What paramiko asks of a socket before it waits for its own thread."""
        return self._shut

    @property
    def _open(self) -> paramiko.Channel:
        if self._channel is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self._channel

    def settimeout(self, value: float | None, /) -> None:
        """As a socket's."""
        self._open.settimeout(value)

    def recv(self, size: int, /) -> bytes:
        """As a socket's."""
        channel = self._open
        data = channel.recv(size)
        if not data and not channel.eof_received and not channel.eof_sent:
            # Neither side ended it: the connection to the jump host did.
            self.cut = True
        return data

    def send(self, data: bytes, /) -> int:
        """As a socket's; a peer that takes nothing for three keepalive intervals is given up.

        The kernel sees to that on a TCP connection, but it does not see this one.
        """
        with self._ordered:
            if self._shut:
                raise OSError(errno.EPIPE, os.strerror(errno.EPIPE))
            try:
                sent = self._open.send(data)
            except TimeoutError:
                now = time.monotonic()
                self._stuck_since = self._stuck_since or now
                if now - self._stuck_since <= self._patience:
                    raise
                sent = -1
            else:
                self._stuck_since = None
        if sent < 0:
            self.close()
            # Not ETIMEDOUT: that is a TimeoutError, upon which paramiko tries again.
            raise OSError(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))
        return sent

    def close(self) -> None:
        """As a socket's; also makes room for another. May be called often, and from any thread."""
        with self._ordered:
            if self._shut:
                return
            self._shut = True
            try:
                if self._channel is not None:
                    self._channel.close()
            except (paramiko.SSHException, EOFError, OSError):
                # The connection to the jump host is gone, and the channel with it.
                self.cut = True
        self.host.gone(self)


class JumpHost:
    """One jump host: its connection, opened when needed and again when it is dead, and those who go through it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._opening = threading.Lock()
        self._transport: Transport | None = None
        self._failed_at = float("-inf")
        self._failure: Unreachable | None = None
        self._changed = threading.Condition()
        self._passages: set[Passage] = set()
        self._changes = 0

    def passage(self, target: Settings, spare: Spare) -> Passage:
        """A connection to the target's sshd.

        Raises:
            Unreachable: the jump host is not, or the target is not from there, or too many go through it already.
        """
        passage = self._place(target, spare)
        try:
            return passage.through(self._channel(target))
        except BaseException:  # raised again: the place is free for others
            passage.close()
            raise

    def close(self) -> None:
        """End the connection, and with it all that go through it. The next who needs it opens a new one."""
        with self._opening:
            if self._transport is not None:
                self._transport.close()
                self._transport = None

    def gone(self, passage: Passage) -> None:
        """It has ended: there is room for another."""
        with self._changed:
            self._passages.discard(passage)
        self.stir()
        before = self._transport and self._transport.sock
        if not self._passages and isinstance(before, Passage):
            before.idle()  # this jump host's own connection, through the one before it, could now be spared

    def stir(self) -> None:
        """Something may have become free: those who wait look again."""
        with self._changed:
            self._changes += 1
            self._changed.notify_all()

    def _place(self, target: Settings, spare: Spare) -> Passage:
        """Wait until fewer than `jump_connections` go through, at most the target's command_timeout."""
        passage, left = Passage(self, target, spare), deadline_in(target.command_timeout)
        most = self.settings.jump_connections
        while True:
            with self._changed:
                if len(self._passages) < most:
                    self._passages.add(passage)
                    return passage
                changes, others = self._changes, sorted(self._passages, key=lambda other: other.idle_since)
            # Without the lock: closing a connection writes to the network.
            if any(other.spare() for other in others):
                continue
            if left() <= 0.01:
                raise Unreachable(
                    f"{target.where}: not reached: no free place within {target.command_timeout:g} s among the "
                    f"{most} connections that may go through its jump host {self.settings.where} at once; "
                    "run fewer hosts at once (workers), or raise ssh.jump_connections"
                )
            with self._changed:
                if self._changes == changes:
                    self._changed.wait(min(left(), LOOK_AGAIN_S))

    def _channel(self, target: Settings) -> paramiko.Channel:
        """A channel to the target's sshd; where the connection turns out to be dead, on a new one, once."""
        reopened = False
        while True:
            with self._told_of(target):
                transport = self._live()
            try:
                return transport.open_tunnel(target.address, target.port, target.connect_timeout)
            except TunnelError as error:
                raise self._refused(target, error.refusal) from error
            except (paramiko.SSHException, EOFError, OSError) as error:
                if reopened:
                    raise Unreachable(
                        f"{target.where}: not reached: its jump host {self.settings.where} ends the connection "
                        "as soon as one goes through it; see its sshd's log"
                    ) from error
                reopened = True

    def _live(self) -> Transport:
        """The connection to the jump host. One thread opens it; those who waited meanwhile share what came of it."""
        came = time.monotonic()
        with self._opening:
            if self._transport is not None and self._transport.is_active():
                return self._transport
            if self._failure is not None and came - self._failed_at < FAILURE_SHARED_S:
                # A new one for each thread: raising one object many times makes its traceback longer each time.
                raise type(self._failure)(str(self._failure))
            try:
                self._transport = enter(self.settings, self._spare)
            except Unreachable as error:
                self._failed_at, self._failure = time.monotonic(), error
                raise
            self._failure = None
            return self._transport

    def _spare(self) -> bool:
        """End the connection if nothing goes through it, for the jump host before this one."""
        if not self._opening.acquire(blocking=False):
            return False
        try:
            # Whoever takes a place from now on waits for _opening, and then opens it again.
            if self._passages or self._transport is None or not self._transport.is_active():
                return False
            self._transport.close()
            self._transport = None
            return True
        finally:
            self._opening.release()

    @contextlib.contextmanager
    def _told_of(self, target: Settings) -> Iterator[None]:
        """What went wrong with the jump host, told of the host behind it: an error of its own for each thread."""
        try:
            yield
        except Unreachable as error:
            raise type(error)(f"{target.where}: not reached: its jump host {error}") from error

    def _refused(self, target: Settings, refusal: TunnelRefusal) -> Unreachable:
        jump, seconds = self.settings.where, f"{target.connect_timeout:g} s"
        if refusal.forbidden:
            return Unreachable(
                f"{target.where}: not reached: its jump host {jump} forwards no connection to {target.address} port "
                f"{target.port} ({refusal.said}); allow it in its sshd_config (AllowTcpForwarding, PermitOpen)"
            )
        if refusal.silent:
            return Unreachable(f"{target.where}: not reached: its jump host {jump} gives no answer within {seconds}")
        if refusal.said is None:
            return Unreachable(
                f"{target.where}: no TCP connection from its jump host {jump} within {seconds}; is it powered on?"
            )
        return Unreachable(f"{target.where}: no TCP connection from its jump host {jump}: {refusal.said}")


_lock = threading.Lock()
_hosts: dict[Settings, JumpHost] = {}


def _jump_host(settings: Settings) -> JumpHost:
    """The one for these settings, in this process."""
    with _lock:
        return _hosts.setdefault(settings, JumpHost(settings))
