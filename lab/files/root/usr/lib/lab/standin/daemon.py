"""What every daemon of a component does: log, pid file, the schema gate, the heartbeat.

The process keeps the code it was started with: everything is imported at the start, so that a package update changes
nothing until the service is restarted.
"""

import logging
import os
import signal
import socket
import sys
import time

import pymysql

from standin import db
from standin.config import Config

HEARTBEAT_S = 5
TICK_S = 1
DATABASE_PATIENCE_S = 15
FROZEN = "/etc/lab/frozen-heartbeat"  # while it is there: runs, works, and does not report


def notify(text):
    """Tell systemd, when it started us."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


class Daemon:
    """One service.

    A subclass says `binary` (its program's name), `release` (the component's module) and perhaps `topic`, with which
    it reports in the table `services`; it may have `make_config`, `started` and `tick`.
    """

    binary = ""
    release = None
    topic = None  # None: it does not report
    has_database = True

    def __init__(self):
        self.component = self.release.COMPONENT
        self._open_log()
        self.config = self.make_config()
        self.host = self.config.host
        self._connection = None

    def make_config(self):
        """Its settings."""
        return Config(self.release)

    def started(self):
        """Once, before it says that it runs."""

    def tick(self):
        """About once a second."""

    def _open_log(self):
        name = self.binary.removeprefix(f"{self.component}-")
        folder = f"/var/log/{self.component}"
        os.makedirs(folder, exist_ok=True)
        handler = logging.FileHandler(f"{folder}/{name}.log", encoding="utf-8")
        line = logging.Formatter(
            f"%(asctime)s.%(msecs)03d %(process)d %(levelname)s {self.component}.%(name)s [-] %(message)s",
            "%Y-%m-%d %H:%M:%S",
        )
        line.converter = time.gmtime
        handler.setFormatter(line)
        self.log = logging.getLogger(name)
        self.log.setLevel(logging.INFO)
        self.log.addHandler(handler)

    # the database, of the main thread: others open connections of their own

    @property
    def database(self):
        if self._connection is None:
            self._connection = db.connect(self.config)
        else:
            self._connection.ping(reconnect=True)
        return self._connection

    def query(self, sql, args=()):
        return db.rows(self.database, sql, args)

    def execute(self, sql, args=()):
        return db.execute(self.database, sql, args)

    def gate(self):
        """End the process on a schema that is not this release's; a database that is away raises."""
        try:
            db.gate(self.database, self.release)
        except db.WrongSchema as error:
            self.refuse(str(error))

    def refuse(self, reason):
        """End the process, with a line where an operator looks."""
        self.log.critical("%s cannot run: %s", self.binary, reason)
        print(f"{self.binary} cannot run: {reason}", file=sys.stderr, flush=True)
        raise SystemExit(1)

    def _first_gate(self):
        end = time.monotonic() + DATABASE_PATIENCE_S
        while True:
            try:
                return self.gate()
            except pymysql.MySQLError as error:
                place = self.config.database["host"]
                if time.monotonic() > end:
                    self.refuse(f"database server on {place} is unreachable: {error}")
                self.log.warning("SQL connection to %s failed (%s). Trying again.", place, error)
                time.sleep(1)  # a server that is down tells nobody when it is back

    def heartbeat(self):
        """Look at the schema, and report."""
        self.gate()
        if self.topic is None or os.path.exists(FROZEN):
            return
        changed = self.execute(
            "UPDATE services SET report_count = report_count + 1, updated_at = UTC_TIMESTAMP()"
            " WHERE host = %s AND `binary` = %s AND deleted = 0",
            (self.host, self.binary),
        )
        if not changed:
            self.execute(
                "INSERT INTO services (created_at, updated_at, host, `binary`, topic, report_count, disabled, deleted)"
                " VALUES (UTC_TIMESTAMP(), UTC_TIMESTAMP(), %s, %s, %s, 1, 0, 0)",
                (self.host, self.binary, self.topic),
            )

    def run(self):
        """Until it is told to end, or refuses to go on."""
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        self.log.info("Starting %s (version %s, %s)", self.binary, self.release.VERSION, self.release.NAME)
        if self.has_database:
            self._first_gate()
        self.started()
        os.makedirs(f"/run/{self.component}", exist_ok=True)
        with open(f"/run/{self.component}/{self.binary}.pid", "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        notify("READY=1")
        due = 0.0
        while True:
            try:
                if self.has_database and time.monotonic() >= due:
                    self.heartbeat()
                    due = time.monotonic() + HEARTBEAT_S
                self.tick()
            except pymysql.MySQLError as error:
                self.log.error("Database error: %s. Trying again in %d seconds.", error, TICK_S)
            time.sleep(TICK_S)  # the rate of its periodic tasks


def start(kinds):
    """Run the service that the program's name says."""
    name = sys.argv[0].rpartition("/")[2]
    for kind in kinds:
        if kind.binary == name:
            kind().run()
    raise SystemExit(f"{name}: no such service")
