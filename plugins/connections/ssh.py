"""Nornir's connection plugin `cellstep_ssh`: commands and tunnels over one SSH connection a host.

ssh = task.host.get_connection("cellstep_ssh", task.nornir.config)
result = ssh.run("rpm -qa", timeout=30)
"""

import contextlib
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import paramiko
from nornir.core.configuration import Config

from plugins.connections import sshconfig
from plugins.connections.errors import (
    AuthenticationRefused,
    CommandTimeout,
    ConnectionLost,
    TransportError,
    Unreachable,
)
from plugins.connections.exchange import Exchange, OutOfTimeError
from plugins.connections.jumphosts import Passage, enter
from plugins.connections.shells import LONGEST_ARGUMENT, SHELLS, Line
from plugins.connections.sshconfig import Settings
from plugins.connections.transport import Transport, deadline_in

# sshd's MaxSessions is 10 by default, and it counts a session for a moment after its end. So half as many at
# once, and where a site allows still fewer, a refused one is tried again for a while.
SESSIONS_AT_ONCE = 5
SESSION_PATIENCE_S = 2.0


@dataclass(frozen=True)
class CommandResult:
    """What a command came to.

    Attributes:
        exit_status: as in a shell, 128 + n after signal n.
        stdout: decoded as UTF-8, with replacement; empty when it went to a sink.
        stderr: the same.
        seconds: from sending it to its end.
    """

    exit_status: int
    stdout: str
    stderr: str
    seconds: float


class Ssh:
    """One host over SSH, opened when needed and again when the connection is dead; threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._opening = threading.Lock()
        self._transport: Transport | None = None
        self._sessions = threading.BoundedSemaphore(SESSIONS_AT_ONCE)
        self._counting = threading.Lock()
        self._users = 0
        self._tunnels: weakref.WeakSet[paramiko.Channel] = weakref.WeakSet()

    def __repr__(self) -> str:
        return f"Ssh({self.settings.where}, {'open' if self.is_active() else 'closed'})"

    def open(self) -> None:
        """Log in now, if that has not been done.

        Raises:
            Unreachable: or one of its subclasses.
        """
        with self._in_use():
            self._live()

    def close(self) -> None:
        """End the connection; commands that still run on it are lost. The next use opens a new one."""
        with self._opening:
            if self._transport is not None:
                self._transport.close()
                self._transport = None

    def is_active(self) -> bool:
        """Whether there is a connection, as far as this side knows without asking."""
        transport = self._transport
        return transport is not None and transport.is_active()

    def run(
        self,
        command: str,
        *,
        stdin: str = "",
        timeout: float | None = None,
        sink: BinaryIO | None = None,
        source: BinaryIO | None = None,
    ) -> CommandResult:
        """Run a command in the host's shell (under sudo if so configured), and wait for its end.

        Args:
            command: for bash, up to 120,000 bytes with its quoting, more goes by stdin; for PowerShell where the host's
                `shell` says so.
            stdin: fed to the command as UTF-8, and closed.
            timeout: seconds; by default the connection's command_timeout. The host itself ends the command
                two seconds after it, also when the connection is lost before that.
            sink: gets stdout as it comes, instead of the result.
            source: fed to the command after stdin, as it takes it; read once, from where it stands.

        Raises:
            Unreachable: nothing was sent.
            CommandTimeout: it did not end in time.
            ConnectionLost: the connection broke before its exit status came.
        """
        timeout = self.settings.command_timeout if timeout is None else timeout
        line = self._command_line(command, timeout)
        with self._in_use(), self._session(timeout):
            transport, channel = self._channel(
                lambda transport: transport.open_session(timeout=self._opening_s), "for a command", SESSION_PATIENCE_S
            )
            started, left = time.monotonic(), deadline_in(timeout)
            exchange = Exchange(channel, (line.prefix + stdin).encode(), sink, source)
            try:
                self._start(transport, channel, line.command)
                exchange.finish(left)
            except OutOfTimeError as error:
                raise CommandTimeout(
                    f"{self.settings.where}: no end of {_brief(command)} within {timeout:g} s"
                ) from error
            finally:
                # Where the connection is gone, what is known of the command is known all the same.
                with contextlib.suppress(EOFError, OSError, paramiko.SSHException):
                    channel.close()
        if channel.exit_status < 0:
            raise self._lost(transport)
        stdout, stderr = b"".join(exchange.stdout), b"".join(exchange.stderr)
        if self.settings.sudo and channel.exit_status == 1 and not stdout and stderr.startswith(b"sudo:"):
            self._refuse_sudo(stderr, command)
        return CommandResult(
            channel.exit_status,
            stdout.decode(errors="replace"),
            stderr.decode(errors="replace"),
            time.monotonic() - started,
        )

    def tunnel(self, address: str, port: int) -> paramiko.Channel:
        """A connection from the host to address:port, to be used as a socket; the caller closes it.

        Raises:
            Unreachable: nothing answers there, or sshd allows no forwarding.
        """

        def connect(transport: Transport) -> paramiko.Channel:
            return transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=self._opening_s)

        with self._in_use():
            _, channel = self._channel(connect, f"to {address} port {port}")
            self._tunnels.add(channel)
        return channel

    @contextlib.contextmanager
    def _session(self, timeout: float) -> Iterator[None]:
        """One of the few commands that may run at once."""
        if not self._sessions.acquire(timeout=timeout):
            raise Unreachable(
                f"{self.settings.where}: no free SSH session within {timeout:g} s; "
                f"{SESSIONS_AT_ONCE} commands run on it already"
            )
        try:
            yield
        finally:
            self._sessions.release()

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Meanwhile the connection is not idle."""
        with self._counting:
            self._users += 1
        try:
            yield
        finally:
            with self._counting:
                self._users -= 1
                idle, transport = not self._users, self._transport
            passage = transport and transport.sock
            if idle and isinstance(passage, Passage):
                passage.idle()

    def _spare(self) -> bool:
        """End the connection if nobody uses it, so that another host can have its place at the jump host."""
        with self._counting:
            if self._users or not self.is_active() or any(not channel.closed for channel in self._tunnels):
                return False
            # All that open or use it count as users first: nobody is in between.
            self.close()
            return True

    @property
    def _opening_s(self) -> float:
        return self.settings.auth_timeout

    def _command_line(self, command: str, timeout: float) -> Line:
        shell = SHELLS[self.settings.shell]
        line = shell.line(command, timeout)
        if self.settings.sudo and shell.sudo:
            line = Line(f"sudo -n -H -- {line.command}", line.prefix)
        if len(line.command.encode()) > LONGEST_ARGUMENT:
            raise ValueError(f"a command of {len(line.command)} characters is too long for execve; give it by stdin")
        return line

    def _live(self) -> tuple[Transport, bool]:
        """The transport, and whether it was opened just now."""
        with self._opening:
            if self._transport is not None and self._transport.is_active():
                return self._transport, False
            self._transport = enter(self.settings, self._spare)
            return self._transport, True

    def _channel(
        self, make: Callable[[Transport], paramiko.Channel], what: str, patience: float = 0.0
    ) -> tuple[Transport, paramiko.Channel]:
        """A new channel; where an older connection turns out to be dead, on a new one, once.

        Args:
            make: opens it.
            what: it is for, in messages.
            patience: seconds during which a refusal is tried again.
        """
        left = deadline_in(patience)
        reopened = False
        while True:
            transport, fresh = self._live()
            try:
                return transport, make(transport)
            except (paramiko.SSHException, EOFError, OSError) as error:
                # paramiko gives a refusal's own exception to one waiting thread alone, a plain one to the others.
                refused = transport.is_active() and "timeout" not in str(error).lower()
                if refused and left() > 0.01:
                    threading.Event().wait(0.05)
                    continue
                if refused:
                    said = error.text if isinstance(error, paramiko.ChannelException) else str(error)
                    raise Unreachable(f"{self.settings.where}: sshd opens no channel {what}: {said}") from error
                # Alive but silent counts as dead: a host whose power was cut cannot say so.
                transport.close()
                if fresh or reopened:
                    raise Unreachable(
                        f"{self.settings.where}: sshd opened no channel {what} within {self._opening_s:g} s"
                    ) from error
                reopened = True

    def _start(self, transport: Transport, channel: paramiko.Channel, line: str) -> None:
        try:
            channel.exec_command(line)
        except (paramiko.SSHException, EOFError, OSError) as error:
            if transport.is_active():
                raise Unreachable(f"{self.settings.where}: its sshd runs no commands for this login") from error
            raise self._lost(transport) from error

    def _lost(self, transport: Transport) -> TransportError:
        if transport.silent:
            seconds = self.settings.keepalive_interval * 3
            return ConnectionLost(
                f"{self.settings.where}: no sign of life for {seconds:g} s in mid-command; "
                "what became of the command is unknown"
            )
        passage = transport.sock
        if isinstance(passage, Passage) and passage.cut:
            return ConnectionLost(
                f"{self.settings.where}: the connection to its jump host {passage.host.settings.where} broke in "
                "mid-command; what became of the command is unknown"
            )
        how = "the connection broke" if not transport.is_active() else "sshd ended the command without a status"
        return ConnectionLost(f"{self.settings.where}: {how} in mid-command; what became of the command is unknown")

    def _refuse_sudo(self, stderr: bytes, command: str) -> None:
        """Tell sudo's own refusal from a command that calls sudo: is the empty command refused too?"""
        if command == ":" or self.run(":").exit_status == 1:
            said = stderr.decode(errors="replace").strip().splitlines()[0]
            raise AuthenticationRefused(
                f"{self.settings.where}: sudo refuses {self.settings.username} ({said}); "
                "allow bash without a password in sudoers (NOPASSWD), or log in as root"
            )


class SshConnection:
    """The Nornir plugin; its `connection` is an `Ssh`. Options: see `sshconfig.settings`."""

    def __init__(self) -> None:
        self.connection: Ssh

    def open(
        self,
        hostname: str | None,
        username: str | None,
        password: str | None,
        port: int | None,
        platform: str | None,  # noqa: ARG002 - Nornir gives it to every plugin
        extras: dict[str, Any] | None = None,
        configuration: Config | None = None,
    ) -> None:
        """Log in.

        Raises:
            Unreachable: or one of its subclasses.
            ValueError: an option that cannot be.
        """
        if not hostname:
            raise ValueError("cellstep_ssh needs a hostname; set it in the inventory")
        ssh = Ssh(sshconfig.settings(hostname, username, password, port, extras))
        ssh.open()
        self.connection = ssh
        remember(configuration, hostname, ssh)

    def close(self) -> None:
        """End the connection."""
        self.connection.close()


# Which host's connection is which, so that a database behind the same host can share it: Nornir gives
# a plugin neither the host nor its other connections.
_open: weakref.WeakValueDictionary[tuple[int, str], Ssh] = weakref.WeakValueDictionary()


def remember(configuration: Config | None, hostname: str, ssh: Ssh) -> None:
    """Let other plugins of the same Nornir find the host's connection."""
    _open[id(configuration), hostname] = ssh


def existing(configuration: Config | None, hostname: str) -> Ssh | None:
    """The host's connection in the same Nornir, if it was opened and is still held."""
    return _open.get((id(configuration), hostname))


def _brief(command: str) -> str:
    """The command's first line, short enough for a message."""
    first = command.strip().partition("\n")[0]
    return f"`{first if len(first) <= 60 else first[:57] + '...'}`"
