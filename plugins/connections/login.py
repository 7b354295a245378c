"""The way in: TCP, banner, key exchange, host key, authentication; each with its timeout and its words."""

import logging
import socket
import time

import paramiko

from plugins.connections import hostkeys, sshconfig
from plugins.connections.errors import AuthenticationRefused, Unreachable
from plugins.connections.sshconfig import Settings
from plugins.connections.transport import SocketLike, Transport, deadline_in

# Without a handler paramiko's tracebacks would go to the terminal; our errors tell what failed.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

IN_THE_INVENTORY = "legacy_algorithms: true in the inventory"


def login(settings: Settings, connection: SocketLike | None = None) -> Transport:
    """A connected and authenticated transport.

    Args:
        settings: the host, and how we log in to it.
        connection: a way to its sshd, which is closed should the login fail; a TCP connection from here when None.

    Raises:
        Unreachable: no connection, no SSH there, or no common algorithms.
        HostKeyRefused: its key is unknown, changed or revoked.
        AuthenticationRefused: none of our keys (nor the password) is let in.
    """
    transport = Transport(connection or _connect(settings), legacy=settings.legacy_algorithms)
    try:
        _exchange_keys(transport, settings)
        hostkeys.check(settings, transport.get_remote_server_key())
        _authenticate(transport, settings)
        transport.watch(settings.keepalive_interval)
    except BaseException:  # raised again: no connection stays that nobody has
        transport.close()
        transport.sock.close()
        raise
    return transport


def _connect(settings: Settings) -> socket.socket:
    """A TCP connection, tried on each of the name's addresses within connect_timeout in all."""
    left = deadline_in(settings.connect_timeout)
    try:
        found = socket.getaddrinfo(settings.address, settings.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unreachable(f"{settings.where}: its name is not known here: {error.strerror}") from error
    reason: OSError | None = None
    for number, (family, kind, protocol, _, address) in enumerate(found):
        connection = socket.socket(family, kind, protocol)
        try:
            # A silent first address leaves time for the others.
            connection.settimeout(left() / (len(found) - number))
            connection.connect(address)
            _tune(connection, settings)
        except OSError as error:
            connection.close()
            reason = error
        else:
            return connection
    # What follows "its jump host" reads better as a sentence.
    where = f"{settings.where} does not answer on port {settings.port}" if settings.is_jump else settings.where
    if isinstance(reason, TimeoutError) and reason.errno is None:
        raise Unreachable(
            f"{where}: no TCP connection within {settings.connect_timeout:g} s; is it powered on?"
        ) from reason
    words = reason.strerror if reason and reason.strerror else "no address"
    raise Unreachable(f"{where}: no TCP connection: {words}") from reason


def _tune(connection: socket.socket, settings: Settings) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # The kernel's part of the keepalive: a write that nobody acknowledges must not block for minutes.
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        patience = int(settings.keepalive_interval * 3 * 1000)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)


def _exchange_keys(transport: Transport, settings: Settings) -> None:
    """Banner and key exchange; asks for a type of host key that is known, as OpenSSH does."""
    transport.banner_timeout = settings.banner_timeout
    transport.handshake_timeout = settings.auth_timeout
    _choose_host_key_types(transport, settings)
    started = time.monotonic()
    try:
        transport.start_client(timeout=settings.banner_timeout + settings.auth_timeout)
        transport.get_remote_server_key()
    except paramiko.ssh_exception.IncompatiblePeer as error:
        hint = "it is older or newer than this side can speak with"
        if not settings.legacy_algorithms:
            needed = "HostKeyAlgorithms +ssh-rsa for it in the ssh_config" if settings.is_jump else IN_THE_INVENTORY
            hint = f"an EL6 sshd needs {needed} and cellstep[el6] installed"
        raise Unreachable(f"{settings.where}: no common SSH algorithms ({error}); {hint}") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        seconds = time.monotonic() - started
        if not transport.remote_version:
            if seconds >= settings.banner_timeout * 0.9:
                raise Unreachable(
                    f"{settings.where}: no SSH banner within {settings.banner_timeout:g} s; "
                    "its sshd hangs, or the port is another service's"
                ) from error
            raise Unreachable(
                f"{settings.where}: closed before the SSH banner; its sshd is overloaded (MaxStartups), "
                "or denies this address, or the port is another service's"
            ) from error
        if seconds >= settings.auth_timeout * 0.9:
            raise Unreachable(
                f"{settings.where}: no SSH key exchange within {settings.auth_timeout:g} s; its sshd hangs"
            ) from error
        words = str(error) or "the connection was closed"
        raise Unreachable(f"{settings.where}: the SSH key exchange failed: {words}") from error


def _choose_host_key_types(transport: Transport, settings: Settings) -> None:
    options = transport.get_security_options()
    types = list(options.key_types)
    if settings.legacy_algorithms and "ssh-rsa" not in types:
        # paramiko 4 has it; paramiko 5 does not know the name and refuses it.
        try:
            options.key_types = [*types, "ssh-rsa"]
        except ValueError as error:
            raise Unreachable(
                f"{settings.where}: legacy_algorithms needs paramiko 4, and this is {paramiko.__version__}; "
                "install cellstep[el6]"
            ) from error
    known: set[str] = set()
    for key in hostkeys.known_keys(settings):
        known |= {"rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"} if key.kind == "ssh-rsa" else {key.kind}
    # A stable sort: the known types first, else in paramiko's order.
    options.key_types = sorted(options.key_types, key=lambda kind: kind not in known)


def _authenticate(transport: Transport, settings: Settings) -> None:
    """Try the key files, then the agent's keys, then the password, all within auth_timeout."""
    left = deadline_in(settings.auth_timeout)
    tried: list[str] = []
    refused: Exception | None = None
    for name, key in _keys(settings):
        tried.append(name)
        transport.auth_timeout = left()
        try:
            if not transport.auth_publickey(settings.username, key):
                return
            refused = paramiko.AuthenticationException("the host wants a second factor")
        except (paramiko.SSHException, EOFError, OSError) as error:
            refused = error
            _still_there(transport, settings, tried, error, left())
    if settings.password is not None:
        tried.append("the password")
        transport.auth_timeout = left()
        try:
            if not transport.auth_password(settings.username, settings.password):
                return
        except (paramiko.SSHException, EOFError, OSError) as error:
            refused = error
            _still_there(transport, settings, tried, error, left())
    if not tried:
        raise AuthenticationRefused(
            f"{settings.where}: there is no key to log in with as {settings.username}; "
            "name a key file, or start an SSH agent (ssh-add)"
        )
    raise AuthenticationRefused(
        f"{settings.where}: refuses the login as {settings.username} with {', '.join(tried)}; "
        "put the public key into that user's authorized_keys"
    ) from refused


def _keys(settings: Settings) -> list[tuple[str, paramiko.PKey]]:
    """The keys to try, each with its name for messages."""
    keys = [(str(path), sshconfig.private_key(path, settings.where)) for path in settings.key_files]
    if settings.use_agent:
        agent = paramiko.Agent()
        keys += [(f"the agent's key {key.comment or key.get_name()}", key) for key in agent.get_keys()]
    return keys


def _still_there(transport: Transport, settings: Settings, tried: list[str], error: Exception, left: float) -> None:
    """Tell a refused key (go on with the next) from a connection that is gone or silent."""
    if left <= 0.01 or "timeout" in str(error).lower():
        raise Unreachable(
            f"{settings.where}: no answer to the login as {settings.username} "
            f"within {settings.auth_timeout:g} s; its sshd hangs"
        ) from error
    if not transport.is_active():
        raise AuthenticationRefused(
            f"{settings.where}: closed the connection during the login as {settings.username} with "
            f"{', '.join(tried)}; see its sshd's log (too many keys tried, or the user may not log in)"
        ) from error
