"""nova-manage: db sync, db version, service list, cell list."""

import importlib.util
import os
import socket
import sys
import time
from urllib.parse import unquote, urlsplit

import pymysql

from nova_lab import db, release
from nova_lab.config import PATH, Config

USAGE = (
    "usage: nova-manage [--config-file FILE] db sync [--version N] | db version | service list | cell list | version"
)
PAUSE = "/etc/lab/db-sync-pause"  # seconds to wait after each version, for trials of what a kill leaves


def log(level, text, module="migrate.versioning.api"):
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    print(f"{stamp} {os.getpid()} {level} {module} [-] {text}", file=sys.stderr, flush=True)


def _set_version(connection, old, new):
    db.execute(
        connection,
        "UPDATE migrate_version SET version = %s WHERE repository_id = 'nova' AND version = %s",
        (new, old),
    )


def _steps(start, target):
    if importlib.util.find_spec("nova_lab.migrations") is None:
        if start not in release.SCHEMAS:
            raise LookupError(f"version {start} is not in this release's migrate repository (head {release.HEAD})")
        return {}
    from nova_lab import migrations

    if not migrations.FIRST <= start <= migrations.HEAD:
        raise LookupError(f"version {start} is not in this release's migrate repository (head {release.HEAD})")
    return {number: migrations.MIGRATIONS.get(number) for number in range(start + 1, target + 1)}


def sync(config, target):
    """Bring the database from its version to the target, one committed version after another."""
    connection = db.connect(config)
    start = db.version(connection)
    if start is None:
        raise LookupError("the database is not under version control")
    steps = _steps(start, target)
    pause = float(open(PAUSE).read()) if os.path.exists(PAUSE) else 0
    with connection.cursor() as cursor:
        counts = cursor.execute("SHOW DATABASES LIKE 'lab'")  # a copy of nova's database stands alone
        if counts:
            cursor.execute(
                "INSERT INTO lab.db_sync_runs (at, host, from_version, to_version, `release`)"
                " VALUES (UTC_TIMESTAMP(), %s, %s, %s, %s)",
                (socket.gethostname(), start, start, release.VERSION),
            )
        run = cursor.lastrowid
        current = start
        for number, migration in steps.items():
            log("INFO", f"{current} -> {number}... ")
            if migration is not None:
                migration(cursor)
            _set_version(connection, current, number)
            if counts:
                cursor.execute("UPDATE lab.db_sync_runs SET to_version = %s WHERE id = %s", (number, run))
            log("INFO", "done")
            current = number
            if pause:
                time.sleep(pause)  # asked for by a test, which kills in the middle


def service_list(config):
    line = "%-16s %-36s %-16s %-10s %-5s %-10s"
    print(line % ("Binary", "Host", "Zone", "Status", "State", "Updated_At"))
    services = db.rows(
        db.connect(config),
        "SELECT `binary`, host, topic, disabled, updated_at, TIMESTAMPDIFF(SECOND, COALESCE(updated_at, created_at),"
        " UTC_TIMESTAMP()) AS age FROM services WHERE deleted = 0 ORDER BY id",
    )
    for row in services:
        print(
            line
            % (
                row["binary"],
                row["host"],
                "nova" if row["topic"] == "compute" else "internal",
                "disabled" if row["disabled"] else "enabled",
                ":-)" if row["age"] is not None and row["age"] <= 60 else "XXX",
                row["updated_at"],
            )
        )


def cell_list(config):
    line = "%3s  %-10s  %-6s  %-10s  %-15s  %-5s  %-10s"
    rule = line % ("-" * 3, "-" * 10, "-" * 6, "-" * 10, "-" * 15, "-" * 5, "-" * 10)
    print(line % ("Id", "Name", "Type", "Username", "Hostname", "Port", "VHost"))
    print(rule)
    for row in db.rows(db.connect(config), "SELECT * FROM cells WHERE deleted = 0 ORDER BY id"):
        if "transport_url" in row:
            url = urlsplit(row["transport_url"])
            place = (unquote(url.username or ""), url.hostname, url.port, unquote(url.path[1:]))
        else:
            place = (row["username"], row["rpc_host"], row["rpc_port"], row["rpc_virtual_host"])
        print(line % (row["id"], row["name"], "parent" if row["is_parent"] else "child", *place))
    print(rule)


def main(arguments=None):
    arguments = sys.argv[1:] if arguments is None else arguments
    path = PATH
    if arguments[:1] == ["--config-file"]:
        path, arguments = arguments[1], arguments[2:]
    words, options = arguments[:2], arguments[2:]
    try:
        if words in (["db", "sync"], ["db_sync"]):
            target = int(options[1]) if options[:1] == ["--version"] else release.HEAD
            sync(Config(path), target)
        elif words == ["db", "version"]:
            print(db.version(db.connect(Config(path))))
        elif words == ["service", "list"]:
            service_list(Config(path))
        elif words == ["cell", "list"]:
            cell_list(Config(path))
        elif words[:1] in (["version"], ["--version"]):
            print(release.VERSION)
        else:
            print(USAGE, file=sys.stderr)
            return 2
    except pymysql.MySQLError as error:
        log("CRITICAL", f"({type(error).__name__}) {error.args}", "nova")
        return 1
    except LookupError as error:
        log("CRITICAL", str(error), "nova")
        return 1
    return 0
