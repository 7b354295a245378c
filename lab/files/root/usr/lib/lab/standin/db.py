"""A component's database: connections, the schema gate, and the errors as the server gives them."""

import pymysql


class WrongSchema(Exception):
    """The database's schema is not this release's."""


def connect(config):
    """A connection with every statement its own transaction; callers who need more call begin()."""
    return pymysql.connect(
        **config.database, charset="utf8mb4", autocommit=True, connect_timeout=3, read_timeout=20, write_timeout=20
    )


def version(connection, release):
    """The schema's version; None where the database is not under version control."""
    with connection.cursor() as cursor:
        if not cursor.execute("SHOW TABLES LIKE 'migrate_version'"):
            return None
        cursor.execute("SELECT version FROM migrate_version WHERE repository_id = %s", (release.REPOSITORY,))
        row = cursor.fetchone()
    return row[0] if row else None


def gate(connection, release):
    """Refuse a schema that is not this release's."""
    found = version(connection, release)
    if found not in release.SCHEMAS:
        wanted = " or ".join(map(str, release.SCHEMAS))
        raise WrongSchema(
            f"database schema is at version {found}, {release.COMPONENT} {release.VERSION} ({release.NAME})"
            f" needs {wanted}"
        )


def rows(connection, sql, args=()):
    with connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute(sql, args)
        return list(cursor.fetchall())


def execute(connection, sql, args=()):
    """The number of rows it changed."""
    with connection.cursor() as cursor:
        return cursor.execute(sql, args)
