"""Small helpers the migrations are written in; each sends real SQL, so that the server's own errors are the errors."""

import re


def run(cursor, *statements):
    for statement in statements:
        cursor.execute(statement)


def add_column(cursor, table, definition, shadow=True):
    run(cursor, f"ALTER TABLE {table} ADD {definition}")
    if shadow:
        run(cursor, f"ALTER TABLE shadow_{table} ADD {definition}")


def dedupe(cursor, table, *columns):
    """Keep the newest of the live rows with the same columns; soft-delete the older ones (deleted = id)."""
    names = ", ".join(f"`{column}`" for column in columns)
    same = " AND ".join(f"old.`{column}` = new.`{column}`" for column in columns)
    cursor.execute(
        f"UPDATE {table} old JOIN (SELECT MAX(id) AS keep_id, {names} FROM {table} WHERE deleted = 0"
        f" GROUP BY {names} HAVING COUNT(*) > 1) new ON {same}"
        " SET old.deleted = old.id, old.deleted_at = UTC_TIMESTAMP()"
        " WHERE old.deleted = 0 AND old.id <> new.keep_id"
    )


def unique(cursor, table, *columns, name=None):
    name = name or f"uniq_{table}0" + "0".join(columns)
    run(cursor, f"ALTER TABLE {table} ADD UNIQUE KEY `{name}` ({', '.join(f'`{c}`' for c in columns)})")


def deduped(table, *columns):
    """A migration that makes live rows with the same columns one, then forbids more."""

    def migration(cursor):
        dedupe(cursor, table, *columns)
        unique(cursor, table, *columns, "deleted")

    return migration


def reindex(cursor, table, name, columns):
    run(cursor, f"ALTER TABLE {table} DROP KEY `{name}`, ADD KEY `{name}` ({columns})")


def bare_definition(cursor, table):
    """The column list of a table with its primary key, and without other keys and foreign keys."""
    cursor.execute(f"SHOW CREATE TABLE {table}")
    lines = cursor.fetchone()[1].splitlines()[1:-1]
    kept = [line.rstrip(",") for line in lines if re.match(r"\s*(`|PRIMARY KEY)", line)]
    return ",\n".join(kept)


def create(cursor, table, body, shadow=False):
    run(cursor, f"CREATE TABLE `{table}` (\n{body}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8")
    if shadow:
        run(
            cursor,
            f"CREATE TABLE `shadow_{table}` (\n{bare_definition(cursor, table)}\n) ENGINE=InnoDB DEFAULT CHARSET=utf8",
        )
