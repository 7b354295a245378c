"""A scratch MariaDB on loopback for tests: own data directory, own port, ended by pid."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import DictCursor

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0


class MariadbMissingError(Exception):
    """MariaDB's server is not installed (`apt-get install mariadb-server`): skip the test."""


def free_port() -> int:
    """A TCP port on 127.0.0.1 which nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """A running MariaDB; root has an empty password, over the socket and over TCP.

    Attributes:
        port: on 127.0.0.1.
        socket: path of the Unix socket.
        datadir: where the data is; checked against the server's own `@@datadir` before the first write.
        process: the server; end it with `stop()`.
    """

    port: int
    socket: Path
    datadir: Path
    process: subprocess.Popen[bytes]
    user: str = "root"
    password: str = field(default="", repr=False)
    arguments: tuple[str, ...] = ()

    def connect(self, database: str | None = None) -> "pymysql.Connection[DictCursor]":
        """A root connection over TCP: autocommit, rows as dicts. The caller closes it."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            database=database,
            cursorclass=DictCursor,
            autocommit=True,
            connect_timeout=5,
            read_timeout=60,
        )

    def execute(self, sql: str, args: Any = None, *, database: str | None = None) -> list[dict[str, Any]]:
        """One statement as root; its rows."""
        with contextlib.closing(self.connect(database)) as connection, connection.cursor() as cursor:
            cursor.execute(sql, args)
            return list(cursor.fetchall())

    def load(self, sql: str, *, database: str | None = None) -> None:
        """Feed a whole SQL script to the `mariadb` client as root."""
        command = ["mariadb", "--no-defaults", f"--socket={self.socket}", "-uroot"]
        subprocess.run(
            [*command, *([database] if database else [])],
            input=sql.encode(),
            check=True,
            timeout=START_TIMEOUT_S,
        )

    def stop(self) -> None:
        """End the server by its pid: SIGTERM first, SIGKILL when it does not go within 20 s."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_TIMEOUT_S)

    def restart(self) -> None:
        """Stop and start on the same port and data: every connection to it is dead afterwards."""
        self.stop()
        self.process = _launch(self.arguments, self.datadir.parent)


def start(tmp_path: Path, *arguments: str) -> Server:
    """Install system tables under tmp_path, start a server there, and wait until it says it is ready.

    Args:
        tmp_path: a directory of this test (or session) alone.
        arguments: further options of mariadbd, such as `--sql-mode=STRICT_ALL_TABLES` (default: none,
            as on MySQL 5.1).

    Returns:
        The running server; the caller calls `stop()`.

    Raises:
        MariadbMissingError: no mariadbd on this machine.
        RuntimeError: it did not start; the end of its log is in the message.
    """
    server, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if not server or not install:
        raise MariadbMissingError("mariadb-server is not installed: apt-get install mariadb-server")
    datadir = tmp_path / "mariadb"
    user = f"--user={'root' if os.geteuid() == 0 else os.environ.get('USER', 'nobody')}"
    subprocess.run(
        [
            install,
            "--no-defaults",
            f"--datadir={datadir}",
            user,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
        ],
        check=True,
        capture_output=True,
        timeout=START_TIMEOUT_S,
        # What it starts deletes the temporary tables that it finds in its folder: others' too.
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    # A Unix socket's path may have 107 bytes; pytest's directories can be longer.
    socket_path = tmp_path / "mysql.sock"
    if len(os.fsencode(socket_path)) > 100:
        socket_path = Path(tempfile.mkdtemp(prefix="cellstep-")) / "mysql.sock"
    # A server that starts deletes the temporary tables that it finds, also those of another one that runs.
    temporary = tmp_path / "tmp"
    temporary.mkdir(exist_ok=True)
    port = free_port()
    command = (
        server,
        "--no-defaults",
        f"--datadir={datadir}",
        f"--socket={socket_path}",
        f"--tmpdir={temporary}",
        f"--port={port}",
        f"--pid-file={tmp_path / 'mariadb.pid'}",
        user,
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--character-set-server=utf8mb4",
        "--sql-mode=",
        "--innodb-buffer-pool-size=32M",
        "--innodb-log-file-size=16M",
        "--innodb-flush-log-at-trx-commit=0",
        "--performance-schema=OFF",
        *arguments,
    )
    found = Server(port, socket_path, datadir, _launch(command, tmp_path), arguments=command)
    actual = Path(found.execute("SELECT @@datadir AS datadir")[0]["datadir"])
    if actual.resolve() != datadir.resolve():
        found.stop()
        raise RuntimeError(f"port {port} answers for {actual}, not for {datadir}")
    return found


def _launch(command: tuple[str, ...], directory: Path) -> subprocess.Popen[bytes]:
    """Start mariadbd and wait for its own READY=1 (systemd's notify protocol), at most 60 s."""
    log = directory / "mariadb.log"
    notify = f"\0cellstep-mariadb-{os.getpid()}-{time.monotonic_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready, log.open("ab") as output:
        ready.bind(notify)
        ready.settimeout(0.25)
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "NOTIFY_SOCKET": notify.replace("\0", "@")},
        )
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            with contextlib.suppress(TimeoutError):
                if b"READY=1" in ready.recv(4096):
                    return process
    process.kill()
    process.wait(STOP_TIMEOUT_S)
    tail = log.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"mariadbd was not ready within {START_TIMEOUT_S:g} s:\n{tail}")


@contextlib.contextmanager
def running(tmp_path: Path, *arguments: str) -> Iterator[Server]:
    """`start()` for a with statement: stops the server at its end."""
    server = start(tmp_path, *arguments)
    try:
        yield server
    finally:
        server.stop()
