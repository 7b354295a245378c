"""The cell's database: connections, the schema gate, and the errors as the server gives them."""

import pymysql

from nova_lab import release


class WrongSchema(Exception):
    """The database's schema is not this release's."""


def connect(config, database=None):
    """A connection with every statement its own transaction; callers who need more call begin()."""
    settings = dict(config.database)
    if database:
        settings["database"] = database
    return pymysql.connect(
        **settings, charset="utf8mb4", autocommit=True, connect_timeout=3, read_timeout=20, write_timeout=20
    )


def version(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT version FROM migrate_version WHERE repository_id = 'nova'")
        row = cursor.fetchone()
    return row[0] if row else None


def gate(connection):
    """Refuse a schema that is not this release's."""
    found = version(connection)
    if found not in release.SCHEMAS:
        wanted = " or ".join(str(number) for number in release.SCHEMAS)
        raise WrongSchema(
            f"database schema is at version {found}, nova {release.VERSION} ({release.NAME}) needs {wanted}"
        )


def rows(connection, sql, args=()):
    with connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute(sql, args)
        return list(cursor.fetchall())


def execute(connection, sql, args=()):
    with connection.cursor() as cursor:
        return cursor.execute(sql, args)
