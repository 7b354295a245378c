"""The lab's migrations of nova, run on a scratch database as its nova-manage runs them."""

import contextlib
import importlib
import sys
from pathlib import Path

import pymysql

FILES = Path(__file__).parents[2] / "lab" / "files" / "nova"


def migrate(server, database, to=216):
    """Run them from the version that the database tells.

    Returns:
        The error's number, 0 for none, and the version that is left.
    """
    sys.path.insert(0, str(FILES))
    try:
        migrations = importlib.import_module("nova_lab.migrations")
    finally:
        sys.path.remove(str(FILES))
    connection = pymysql.connect(host="127.0.0.1", port=server.port, user="root", database=database, autocommit=True)
    with contextlib.closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT version FROM migrate_version")
        (version,) = cursor.fetchone()
        while version < to:
            try:
                migrations.MIGRATIONS.get(version + 1, lambda _cursor: None)(cursor)
            except pymysql.MySQLError as error:
                return error.args[0], version
            version += 1
            cursor.execute("UPDATE migrate_version SET version = %s", (version,))
    return 0, version
