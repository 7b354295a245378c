"""Connections to scripted hosts: a host is a folder that is entered with chroot, and its bash is a real one.

What a controller sends runs there as under sshd: in a session of its own, which goes on when the controller dies. What
the journal does not know as begun is written down as a breach (`breaches` beside the hosts).
"""

import contextlib
import math
import re
import sqlite3
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from nornir.core.plugins.connections import ConnectionPluginRegister
from nornir.core.task import Task

import cellstep.schemas
from plugins.connections.errors import CommandTimeout, ConnectionLost, Unreachable
from plugins.connections.ssh import CommandResult
from tasks import databases, schemas
from tests.chaos.strikes import SIGNS, Strike

ENVIRONMENT = {"PATH": "/opt/node:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "HOME": "/root"}
BINARIES = {"nova-cells", "nova-consoleauth", "nova-conductor", "nova-scheduler", "nova-compute"}
QUOTA_ROWS = (("instances", 1), ("cores", 2), ("ram", 512), ("security_groups", 1))


class World:
    """Where the hosts are, for a controller.

    Attributes:
        folder: `world` of a scripted cloud.
        strike: what happens to this controller and its connections.
    """

    def __init__(self, folder: Path, strike: Strike) -> None:
        self.folder, self.strike = folder, strike
        self._journal = folder.parent / "state" / "journal.sqlite3"
        self._lock = threading.Lock()

    def host(self, name: str) -> Path:
        """A host's root."""
        return self.folder / "hosts" / name

    def is_down(self, name: str) -> bool:
        """Whether it gives no answer: it restarts, or its link is cut."""
        return (self.host(name) / ".down").exists()

    def check_written_ahead(self, name: str, command: str) -> None:
        """A command that may change a host is sent only when the journal has its start and no end of it."""
        with contextlib.closing(sqlite3.connect(f"{self._journal.as_uri()}?mode=ro", uri=True, timeout=10)) as journal:
            known = journal.execute("SELECT 1 FROM host_steps WHERE host=? AND state='unknown'", (name,)).fetchone()
        if not known:
            self.breach(f"{name}: sent, though the journal does not have it as begun: {command[-300:]!r}")

    def breach(self, what: str) -> None:
        """Write down what must not be."""
        with self._lock, (self.folder / "breaches").open("a") as file:
            file.write(f"{what}\n")


class ScriptedSsh:
    """Stands for `plugins.connections.ssh.Ssh` on one host."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name

    def run(
        self,
        command: str,
        *,
        stdin: str = "",
        timeout: float | None = None,
        sink: BinaryIO | None = None,
        source: BinaryIO | None = None,
    ) -> CommandResult:
        """Run a command in the host's bash."""
        timeout = 60.0 if timeout is None else timeout
        self._reach()
        if SIGNS["command"] in command:
            self.world.check_written_ahead(self.name, command)
        ailing = self.world.strike.command(self.name, command)
        if ailing == "unreachable":
            raise Unreachable(f"{self.name}: no answer on port 22 within 5 s")
        if ailing == "failed":
            return CommandResult(5, "", "Input/output error", 0.0)
        began = time.monotonic()
        with tempfile.TemporaryFile() as given:  # all there at once: who is frozen now leaves nobody waiting for it
            given.write(stdin.encode() + (source.read() if source is not None else b""))
            given.seek(0)
            process = self._start(command, timeout, given)
        self.world.strike.sent()
        lost_after = self.world.strike.lost_after()
        try:
            out, err = process.communicate(timeout=timeout if lost_after is None else lost_after)
        except subprocess.TimeoutExpired:
            # It runs on, as under sshd; only nobody listens to it any more.
            if lost_after is None:
                raise CommandTimeout(f"{self.name}: no end of a command within {timeout:g} s") from None
            raise ConnectionLost(f"{self.name}: the connection broke in mid-command") from None
        if process.returncode < 0 or self.world.is_down(self.name):
            raise ConnectionLost(f"{self.name}: the connection broke in mid-command")
        if sink is not None:
            sink.write(out)
            out = b""
        said = (out.decode(errors="replace"), err.decode(errors="replace"))
        return CommandResult(process.returncode, *said, time.monotonic() - began)

    def _reach(self) -> None:
        if self.world.is_down(self.name):
            raise Unreachable(f"{self.name}: no answer on port 22 within 5 s")

    def _start(self, command: str, timeout: float, given: IO[bytes]) -> "subprocess.Popen[bytes]":
        line = [
            "chroot",
            str(self.world.host(self.name)),
            "timeout",
            str(math.ceil(timeout) + 2),
            "bash",
            "-c",
            command,
        ]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            line, stdin=given, stdout=pipe, stderr=pipe, env=ENVIRONMENT, cwd="/", start_new_session=True
        )

    def is_active(self) -> bool:
        """Whether there is a connection."""
        return not self.world.is_down(self.name)

    def close(self) -> None:
        """End the connection."""


class ScriptedMysql:
    """Stands for `plugins.connections.mysql.Mysql` on one database host: answers from the files of its cell."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self._cell = re.findall(r"^CELL=(.*)", (world.host(name) / "etc/node").read_text(), re.MULTILINE)[0]
        self._database = world.folder / "databases" / self._cell

    def query(self, sql: str, args: Any = (), *, database: str | None = None) -> list[dict[str, Any]]:
        """The rows of those questions that cellstep asks."""
        del args, database
        if self.world.is_down(self.name):
            raise Unreachable(f"{self.name}: MySQL on port 3306: no answer")
        for words, answer in (
            ("SHOW GLOBAL VARIABLES", self._variables),
            ("FROM migrate_version", self._heads),
            ("FROM services WHERE deleted=0 AND `binary`=%s", self._computes),
            ("FROM services", self._heartbeats),
            ("task_state IS NOT NULL", list),
            ("UTC_TIMESTAMP() AS now", lambda: [{"now": datetime.now(UTC).replace(tzinfo=None, microsecond=0)}]),
            ("SELECT uuid, host, vm_state FROM instances", list),
            ("FROM instances WHERE created_at>=", list),
            ("FROM instance_actions", list),
            ("FROM block_device_mapping", list),
            ("FROM information_schema.tables", lambda: [{"n": 0}]),
            ("FROM volumes WHERE created_at>=", list),
            ("FROM volumes", self._volumes),
            ("SHOW COLUMNS FROM services", self._user_column),
            ("COLUMNS FROM quota_usages", self._user_column),
            ("FROM quota_usages WHERE deleted", self._usages),
            ("COUNT(id) AS instances", lambda: [{**self._who(), "instances": 1, "cores": 2, "ram": 512}]),
            ("COUNT(id) AS security_groups", lambda: [{**self._who(), "security_groups": 1}]),
            ("COUNT(id) AS floating_ips", list),
            ("COUNT(f.id) AS fixed_ips", list),
            ("FROM reservations", list),
            ("LEFT JOIN network.hosts", list),  # the example of docs/customising.md
            # What is counted before and after a schema change: there is nothing.
            ("referenced_table_schema = %s", list),
            ("COUNT(*)", lambda: [{"n": 0}]),
            ("SUM(", lambda: [{"n": 0}]),
        ):
            if words in sql:
                return answer()
        raise AssertionError(f"the scripted database has no answer to: {sql}")

    def _variables(self) -> list[dict[str, Any]]:
        """As the node's own client tells them (programs/sql.sh)."""
        told = {
            "hostname": self.name,
            "datadir": "/var/lib/mysql/",
            "port": "3306",
            "version": "10.0",
            "server_id": "1",
        }
        return [{"Variable_name": name, "Value": value} for name, value in told.items()]

    def _schema(self) -> int:
        return int((self._database / "schema").read_text())

    def _heads(self) -> list[dict[str, Any]]:
        return [{"version": self._schema()}]

    def _hosts(self) -> list[str]:
        return (self.world.folder / "cells" / self._cell).read_text().split()

    def _heartbeats(self) -> list[dict[str, Any]]:
        rows = []
        for host in self._hosts():
            for path in sorted((self.world.host(host) / "run/services").iterdir()):
                binary = path.name.removeprefix("openstack-")
                if binary in BINARIES:
                    rows.append({"host": host, "binary": binary, "age_s": 1, "disabled": self._disabled(host)})
        return rows

    def _disabled(self, host: str) -> int:
        return int((self._database / f"disabled-{host}").exists())

    def _computes(self) -> list[dict[str, Any]]:
        computes = [host for host in self._hosts() if re.match(r"c\d+-n", host)]
        return [{"id": n, "host": host, "disabled": self._disabled(host)} for n, host in enumerate(computes)]

    @contextlib.contextmanager
    def transaction(self, database: str) -> Iterator["ScriptedMysql"]:
        """As on the real one; only the services table is written."""
        del database
        self.world.check_written_ahead(self.name, "a transaction")
        yield self

    @contextlib.contextmanager
    def snapshot(self, database: str) -> Iterator["ScriptedMysql"]:
        """As on the real one: questions about one moment."""
        del database
        yield self

    def execute(self, sql: str, args: Sequence[Any] = ()) -> int:
        """Switch a nova-compute off or on."""
        if not sql.startswith("UPDATE services SET disabled="):
            raise AssertionError(f"the scripted database cannot do: {sql}")
        host = self._computes()[args[-1]]["host"]
        place = self._database / f"disabled-{host}"
        if args[0]:
            place.write_text(str(args[1:-1]))
        else:
            place.unlink()
        return 1

    def _volumes(self) -> list[dict[str, Any]]:
        columns = {"project_id": "p1", "status": "available", "size_gib": 1, "attached_to": None}
        return [{"id": f"v{number}", "name": f"disk {number}", **columns} for number in range(3)]

    def _user_column(self) -> list[dict[str, Any]]:
        return [{"Field": "user_id"}] if self._schema() > 161 else []

    def _who(self) -> dict[str, Any]:
        return {"project_id": "p1", "user_id": "u1" if self._schema() > 161 else None}

    def _usages(self) -> list[dict[str, Any]]:
        rest = {"reserved": 0, "until_refresh": None, "updated_at": None, "deleted_at": None}
        return [
            {"id": number, **self._who(), "resource": name, "in_use": used, **rest}
            for number, (name, used) in enumerate(QUOTA_ROWS)
        ]

    def close(self) -> None:
        """End the connection."""


def register(world: World) -> None:
    """Put these connections in the place of cellstep's own, in this process."""

    def plugin(kind: type) -> type:
        class Connection:
            connection: Any

            def open(self, hostname: str, *_: Any, **__: Any) -> None:
                if world.is_down(hostname) or world.strike.ails(hostname) == "unreachable":
                    raise Unreachable(f"{hostname}: no answer on port 22 within 5 s")
                self.connection = kind(world, hostname)

            def close(self) -> None:
                self.connection.close()

        return Connection

    # Its tables are those of the release that its version is of.
    schemas.snapshot = lambda task, _database: cellstep.schemas.of_reference(f"nova-{_connected(task)._schema()}")

    ConnectionPluginRegister.register("cellstep_ssh", plugin(ScriptedSsh))
    ConnectionPluginRegister.register("cellstep_mysql", plugin(ScriptedMysql))


def _connected(task: Task) -> ScriptedMysql:
    connection: ScriptedMysql = databases.mysql(task)
    return connection
