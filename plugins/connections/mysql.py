"""Nornir's connection plugin `cellstep_mysql`: a MySQL or MariaDB server, through the host's SSH or directly.

mysql = task.host.get_connection("cellstep_mysql", task.nornir.config)
rows = mysql.query("SELECT version FROM migrate_version", database="nova")
with mysql.transaction("nova") as transaction:
    transaction.execute("UPDATE quota_usages SET in_use = %s WHERE id = %s", (3, 17))
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import pymysql
from nornir.core.configuration import Config
from pymysql.constants import CR, ER
from pymysql.cursors import DictCursor

from plugins.connections import sshconfig
from plugins.connections.errors import (
    AuthenticationRefused,
    CommandTimeout,
    ConnectionLost,
    DatabaseError,
    TransportError,
    Unreachable,
)
from plugins.connections.ssh import Ssh, existing

Args = Sequence[Any] | dict[str, Any]
Connection: TypeAlias = "pymysql.Connection[DictCursor]"  # generic in its stubs alone

_LOST = {0, CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST}
_LOGIN_REFUSED = {ER.ACCESS_DENIED_ERROR, ER.HOST_NOT_PRIVILEGED, ER.HOST_IS_BLOCKED, 1698}
_NO_ROOM = {ER.CON_COUNT_ERROR, ER.SERVER_SHUTDOWN}
_OPTIONS = frozenset({"via", "address", "port", "connect_timeout", "read_timeout", "ssh"})


class Transaction:
    """An open transaction.

    Attributes:
        lastrowid: the AUTO_INCREMENT value of the last INSERT, 0 before any.
    """

    def __init__(self, where: str, connection: Connection) -> None:
        self._where = where
        self._connection = connection
        self.lastrowid = 0

    def execute(self, sql: str, args: Args = ()) -> int:
        """Execute a statement; how many rows it changed (or gave).

        Raises:
            DatabaseError: the server refuses it.
            ConnectionLost: or CommandTimeout; the server rolls back what was not committed.
        """
        with _told(self._where), self._connection.cursor() as cursor:
            rows = cursor.execute(sql, args or None)
            self.lastrowid = int(cursor.lastrowid or 0)
            return rows

    def query(self, sql: str, args: Args = ()) -> list[dict[str, Any]]:
        """Read rows as this transaction sees them."""
        with _told(self._where), self._connection.cursor() as cursor:
            cursor.execute(sql, args or None)
            return list(cursor.fetchall())


def repeatable(transaction: Transaction) -> None:
    """Have the transactions that begin from now on see one state, and keep others out of the gaps that they look at.

    That is InnoDB's default, which a server can be configured away from.
    """
    transaction.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")


class Mysql:
    """One database server. Reads share one connection a schema; a transaction has its own. Threads may share it.

    Args:
        where: how messages name it.
        username: the database's user.
        password: its password; never shown.
        address: where the server listens, seen from the host (via SSH) or from here (directly).
        port: its port.
        ssh: gives the SSH connection to go through; None to connect directly.
        connect_timeout: seconds for connection and login.
        read_timeout: seconds for one answer.
    """

    def __init__(
        self,
        where: str,
        username: str,
        password: str,
        address: str,
        port: int,
        *,
        ssh: Callable[[], Ssh] | None = None,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
    ) -> None:
        self.where = where
        self._username = username
        self._password = password
        self._address = address
        self._port = port
        self._ssh = ssh
        self._connect_timeout = connect_timeout
        self._read_timeout = read_timeout
        self._charset = "utf8mb4"
        self._lock = threading.Lock()
        self._readers: dict[str | None, Connection] = {}

    def __repr__(self) -> str:
        return f"Mysql({self.where})"

    def query(self, sql: str, args: Args = (), *, database: str | None = None) -> list[dict[str, Any]]:
        """Read rows, each statement by itself (autocommit). A connection found dead is opened again, once.

        Since it may be sent twice then, it is for reading only; writes belong into a `transaction`.

        Args:
            sql: one statement, `%s` for each argument.
            args: its arguments.
            database: the schema that unqualified tables are in.

        Raises:
            Unreachable: or AuthenticationRefused; the server does not answer, or does not let us in.
            DatabaseError: it refuses the statement.
            ConnectionLost: or CommandTimeout; it did not answer the statement.
        """
        with self._lock:
            while True:
                connection = self._readers.get(database)
                fresh = connection is None or not connection.open
                if connection is None or not connection.open:
                    connection = self._readers[database] = self._connect(database, autocommit=True)
                try:
                    with _told(self.where), connection.cursor() as cursor:
                        cursor.execute(sql, args or None)
                        return list(cursor.fetchall())
                except (ConnectionLost, CommandTimeout) as error:
                    _close(self._readers.pop(database))
                    if fresh or isinstance(error, CommandTimeout):
                        raise

    @contextlib.contextmanager
    def transaction(self, database: str) -> Iterator[Transaction]:
        """A transaction on a connection of its own: committed at the end, rolled back on any exception.

        Raises:
            Unreachable: or AuthenticationRefused, before it began.
            ConnectionLost: or CommandTimeout; at the commit these leave unknown whether it was done.
        """
        connection = self._connect(database, autocommit=False)
        try:
            with _told(self.where):
                connection.begin()
            try:
                yield Transaction(self.where, connection)
            except BaseException:  # raised again, after the rollback
                with contextlib.suppress(pymysql.MySQLError, OSError):  # closing it rolls back, too
                    connection.rollback()
                raise
            with _told(self.where, "the commit; whether it was done is unknown"):
                connection.commit()
        finally:
            _close(connection)

    @contextlib.contextmanager
    def snapshot(self, database: str) -> Iterator[Transaction]:
        """Several questions about one moment: InnoDB's consistent snapshot. For reading only.

        Raises:
            Unreachable: or AuthenticationRefused, DatabaseError, ConnectionLost, CommandTimeout.
        """
        with self.transaction(database) as transaction:
            repeatable(transaction)
            transaction.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            yield transaction

    def close(self) -> None:
        """End all connections for reading; the next use opens new ones."""
        with self._lock:
            while self._readers:
                _close(self._readers.popitem()[1])

    def _connect(self, database: str | None, *, autocommit: bool) -> Connection:
        try:
            return self._login(database, autocommit=autocommit)
        except pymysql.MySQLError as error:
            number, reason = _said(error)
            if number == ER.UNKNOWN_CHARACTER_SET and self._charset == "utf8mb4":
                # MySQL before 5.5.3 has only the utf8 of three bytes.
                self._charset = "utf8"
                return self._connect(database, autocommit=autocommit)
            if number in _LOGIN_REFUSED:
                raise AuthenticationRefused(
                    f"{self.where}: refuses the login as {self._username} ({number}: {reason}); "
                    "mend the database's user, or the password's file"
                ) from error
            if number in _LOST | _NO_ROOM | {CR.CR_CONN_HOST_ERROR, CR.CR_CONNECTION_ERROR}:
                raise Unreachable(
                    f"{self.where}: the database does not answer within {self._connect_timeout:g} s "
                    f"({number}: {reason})"
                ) from error
            raise _refusal(self.where, error) from error

    def _login(self, database: str | None, *, autocommit: bool) -> Connection:
        connection = pymysql.connect(
            host=self._address,
            port=self._port,
            user=self._username,
            password=self._password,
            database=database,
            charset=self._charset,
            autocommit=autocommit,
            cursorclass=DictCursor,
            connect_timeout=self._connect_timeout,
            read_timeout=self._connect_timeout,
            write_timeout=self._read_timeout,
            # Inside SSH it is encrypted already, and ssl cannot wrap a channel.
            ssl_disabled=self._ssh is not None,
            program_name="cellstep",
            defer_connect=True,
        )
        if self._ssh is None:
            connection.connect()
        else:
            channel = self._ssh().tunnel(self._address, self._port)
            connection.connect(channel)  # type: ignore[arg-type] # a channel has all of a socket that PyMySQL uses
        # From here on an answer may take as long as a statement does; PyMySQL has no public way to say so.
        connection._read_timeout = self._read_timeout  # type: ignore[attr-defined] # noqa: SLF001 - see above
        return connection


class MysqlConnection:
    """The Nornir plugin; its `connection` is a `Mysql`.

    User and password are Nornir's own. Extras: `via` (`ssh`, the default, or `direct`), `address` (by default
    127.0.0.1 on the host, or the host itself when direct), `port` (else Nornir's own, which may be the host's
    for SSH; else 3306), `connect_timeout` and `read_timeout` (seconds), and `ssh`: `username`, `port` and the
    extras of cellstep_ssh, for when the same Nornir has no such connection to the host open to be shared.
    """

    def __init__(self) -> None:
        self.connection: Mysql
        self._own: Ssh | None = None

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
        """Make ready; the connections themselves are opened when they are used.

        Raises:
            ValueError: an option that cannot be.
        """
        extras = dict(extras or {})
        if not hostname:
            raise ValueError("cellstep_mysql needs a hostname; set it in the inventory")
        if unknown := sorted(extras.keys() - _OPTIONS):
            raise ValueError(f"cellstep_mysql has no option {', '.join(unknown)}; it has {sorted(_OPTIONS)}")
        via = extras.get("via") or "ssh"
        if via not in ("ssh", "direct"):
            raise ValueError(f"via is {via!r}; write ssh or direct")
        port = int(extras.get("port") or port or 3306)
        times = {name: float(extras[name]) for name in ("connect_timeout", "read_timeout") if extras.get(name)}

        def ssh() -> Ssh:
            found = existing(configuration, hostname)
            if found is not None:
                return found
            if self._own is None:
                if extras.get("ssh") is None:
                    raise Unreachable(
                        f"{hostname}: its database is reached through SSH, and it has no SSH connection open; "
                        "open cellstep_ssh first, or give cellstep_mysql the option ssh"
                    )
                options = dict(extras["ssh"])
                user, ssh_port = options.pop("username", None), options.pop("port", None)
                self._own = Ssh(sshconfig.settings(hostname, user, None, ssh_port, options))
            return self._own

        self.connection = Mysql(
            f"{hostname}: MySQL on port {port}",
            username or "root",
            password or "",
            extras.get("address") or ("127.0.0.1" if via == "ssh" else hostname),
            port,
            ssh=ssh if via == "ssh" else None,
            **times,
        )

    def close(self) -> None:
        """End the connections; a shared SSH connection stays."""
        self.connection.close()
        if self._own is not None:
            self._own.close()


@contextlib.contextmanager
def _told(where: str, what: str = "a statement") -> Iterator[None]:
    """Tell PyMySQL's errors in our terms. Neither the statement nor its arguments, which may hold secrets."""
    try:
        yield
    except (pymysql.MySQLError, OSError) as error:
        number, reason = _said(error)
        if number in _LOST and isinstance(error.__context__, TimeoutError):
            raise CommandTimeout(f"{where}: no answer in time to {what}") from error
        if number in _LOST or isinstance(error, OSError):
            raise ConnectionLost(f"{where}: the connection broke in {what} ({reason or 'closed'})") from error
        raise _refusal(where, error) from error


def _refusal(where: str, error: Exception) -> TransportError:
    number, reason = _said(error)
    return DatabaseError(f"{where}: {number}: {reason}", number, reason)


def _said(error: Exception) -> tuple[int, str]:
    """PyMySQL's errno and words; 0 where it gives no number."""
    first, *rest = error.args or (0,)
    if isinstance(first, int):
        return first, str(rest[0]) if rest else ""
    return 0, str(first)


def _close(connection: Connection) -> None:
    with contextlib.suppress(pymysql.MySQLError, OSError):  # a dead one need not be told
        connection.close()
