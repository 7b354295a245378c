"""What the components' -manage commands share: `db sync`, `db version`, `service list`, and how they end.

A component's Havana package has `X_lab/migrations.py`, made when the RPM is built: FIRST, and STATEMENTS, the DDL by
version. `hooks` are the component's own code for a version (a function of the cursor), called before its DDL.
"""

import os
import socket
import sys
import time

import pymysql

from standin import db

PAUSE = "/etc/lab/db-sync-pause"  # seconds to wait after each version, for trials of what a kill leaves


class Conflict(Exception):
    """The rows there are stand against a migration."""


def log(level, text, module="migrate.versioning.api"):
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    print(f"{stamp} {os.getpid()} {level} {module} [-] {text}", file=sys.stderr, flush=True)


def sync(config, release, migrations=None, hooks=None, target=None):
    """Bring the database from its version to the release's head, one version after another, each noted when done.

    Raises LookupError where the release does not know the database's version, Conflict from a hook, and MySQL's errors.
    """
    target = release.HEAD if target is None else target
    connection = db.connect(config)
    start = db.version(connection, release)
    if start is None:
        raise LookupError("the database is not under version control")
    first = release.HEAD if migrations is None else migrations.FIRST
    if not first <= start <= release.HEAD:
        raise LookupError(f"version {start} is not in this release's migrate repository (head {release.HEAD})")
    pause = float(open(PAUSE).read()) if os.path.exists(PAUSE) else 0
    with connection.cursor() as cursor:
        counts = cursor.execute("SHOW DATABASES LIKE 'lab'")  # a copy of the database stands alone
        if counts:
            cursor.execute(
                "INSERT INTO lab.db_sync_runs (at, host, component, from_version, to_version, `release`)"
                " VALUES (UTC_TIMESTAMP(), %s, %s, %s, %s, %s)",
                (socket.gethostname(), release.COMPONENT, start, start, release.VERSION),
            )
        run = cursor.lastrowid
        for number in range(start + 1, target + 1):
            log("INFO", f"{number - 1} -> {number}... ")
            if hooks and number in hooks:
                hooks[number](cursor)
            for statement in migrations.STATEMENTS.get(number, ()):
                cursor.execute(statement)
            cursor.execute(
                "UPDATE migrate_version SET version = %s WHERE repository_id = %s AND version = %s",
                (number, release.REPOSITORY, number - 1),
            )
            if counts:
                cursor.execute("UPDATE lab.db_sync_runs SET to_version = %s WHERE id = %s", (number, run))
            log("INFO", "done")
            if pause:
                time.sleep(pause)  # asked for by a test, which kills in the middle


def print_version(config, release):
    """The schema's version alone."""
    print(db.version(db.connect(config), release))


def service_list(config, updated="Updated At"):
    """The table `services`, in the components' own format."""
    line = "%-16s %-36s %-16s %-10s %-5s %-10s"
    print(line % ("Binary", "Host", "Zone", "Status", "State", updated))
    for row in db.rows(
        db.connect(config),
        "SELECT `binary`, host, availability_zone AS zone, disabled, updated_at, TIMESTAMPDIFF(SECOND,"
        " COALESCE(updated_at, created_at), UTC_TIMESTAMP()) AS age FROM services WHERE deleted = 0 ORDER BY id",
    ):
        alive = row["age"] is not None and row["age"] <= 60
        status = "disabled" if row["disabled"] else "enabled"
        state = ":-)" if alive else "XXX"
        print(line % (row["binary"], row["host"], row["zone"] or "nova", status, state, row["updated_at"]))


def config_file(arguments):
    """Take `--config-file FILE` off the front: (file or None, the rest)."""
    if arguments[:1] == ["--config-file"] and len(arguments) > 1:
        return arguments[1], arguments[2:]
    if arguments and arguments[0].startswith("--config-file="):
        return arguments[0].partition("=")[2], arguments[1:]
    return None, arguments


def ended(component, function, *arguments, **named):
    """Call it; the command's exit status, its errors as the components print them."""
    try:
        function(*arguments, **named)
    except (pymysql.MySQLError, Conflict) as error:
        log("CRITICAL", f"({type(error).__name__}) {error.args}", component)
        return 1
    except LookupError as error:
        log("CRITICAL", str(error), component)
        return 1
    return 0
