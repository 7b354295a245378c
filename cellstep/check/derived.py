"""What a change from one schema to another does to rows, as the two schemas tell, and the SQL that counts them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.schemas import ForeignKey, Key, Schema, Table

DELETED = "deleted"
"""Nova and cinder mark a row as deleted in this column: 0 while it lives, its own id afterwards."""

DUMP = "dump_"
"""Rows without a parent are moved into a table of this name before theirs."""


@dataclass(frozen=True)
class Step:
    """A change of the release: its schema before, and after."""

    source: Schema
    target: Schema

    def both(self) -> Iterator[tuple[Table, Table]]:
        """The tables that are there before and after."""
        for name in sorted(self.source.tables.keys() & self.target.tables.keys()):
            yield self.source.tables[name], self.target.tables[name]

    @property
    def dropped(self) -> list[str]:
        """The tables that it takes away."""
        return sorted(self.source.tables.keys() - self.target.tables.keys())

    def unique_keys(self) -> Iterator[tuple[str, Key]]:
        """Unique keys that are made, where no key of before holds off duplicates already: the table, and the key."""
        for before, after in self.both():
            known = [set(key.columns) for key in before.keys.values() if key.kind in ("unique", "primary")]
            for key in after.keys.values():
                is_new = key.kind in ("unique", "primary") and not any(columns <= set(key.columns) for columns in known)
                if is_new and set(key.columns) <= before.columns.keys():
                    yield after.name, key

    def foreign_keys(self) -> Iterator[tuple[str, ForeignKey]]:
        """Foreign keys that are made over columns of before: the table, and the key."""
        for before, after in self.both():
            known = set(map(str, before.foreign.values()))
            for foreign in after.foreign.values():
                parent = self.source.tables.get(foreign.table)
                if str(foreign) in known or parent is None or not set(foreign.columns) <= before.columns.keys():
                    continue
                if set(foreign.targets) <= parent.columns.keys():
                    yield after.name, foreign

    def moves(self, table: str) -> bool:
        """Rows of the table without a parent are moved, and not in the way."""
        return DUMP + table in self.target.tables


def name(text: str) -> str:
    """An SQL identifier."""
    return "`" + text.replace("`", "``") + "`"


def count(table: str, condition: str = "") -> str:
    """Count rows."""
    return f"SELECT COUNT(*) AS n FROM {name(table)} AS a" + (f" WHERE {condition}" if condition else "")  # noqa: S608 - names and conditions of the release's data


def duplicates(table: str, columns: Sequence[str], condition: str) -> str:
    """Count the rows that are like another one in these columns, but for one of each kind; NULL is like nothing."""
    names = ", ".join(f"a.{name(column)}" for column in columns)
    wanted = " AND ".join([*(f"a.{name(column)} IS NOT NULL" for column in columns), condition])
    return (
        "SELECT COALESCE(SUM(same.n - 1), 0) AS n FROM"  # noqa: S608 - names of a schema, in backticks
        f" (SELECT COUNT(*) AS n FROM {name(table)} AS a WHERE {wanted} GROUP BY {names} HAVING COUNT(*) > 1) AS same"
    )


def live_duplicates(table: str, key: Key) -> str:
    """Count the older ones of live rows that are the same to a key with the column `deleted`."""
    return duplicates(table, [column for column in key.columns if column != DELETED], f"a.{DELETED} = 0")


def clashes(table: str, key: Key) -> str:
    """Count rows that a unique key cannot hold; of one with the column `deleted`, those that are marked as deleted."""
    return duplicates(table, key.columns, f"a.{DELETED} <> 0" if DELETED in key.columns else "1 = 1")


def orphan(step: Step, table: str, foreign: ForeignKey, alias: str = "a") -> str:
    """The condition on a row that a new foreign key cannot hold: it has no parent, or one that is itself moved away."""
    return _orphan(step, table, foreign, alias, frozenset())


def _orphan(step: Step, table: str, foreign: ForeignKey, alias: str, seen: frozenset[str]) -> str:
    parent = alias + "p"
    pairs = list(zip(foreign.columns, foreign.targets, strict=True))
    same = [f"{parent}.{name(target)} = {alias}.{name(column)}" for column, target in pairs]
    above = [
        f"NOT ({_orphan(step, foreign.table, each, parent, seen | {table})})"
        for other, each in step.foreign_keys()
        if other == foreign.table and step.moves(other) and other not in seen | {table}
    ]
    there = f"SELECT 1 FROM {name(foreign.table)} AS {parent} WHERE {' AND '.join([*same, *above])}"  # noqa: S608 - names of a schema
    null = [f"{alias}.{name(column)} IS NOT NULL" for column, _ in pairs]
    return " AND ".join([*null, f"NOT EXISTS ({there})"])


def orphans(step: Step, table: str) -> str:
    """The condition on a row `a` that any new foreign key of its table cannot hold; "" where it gets none."""
    found = [orphan(step, table, foreign) for other, foreign in step.foreign_keys() if other == table]
    return " OR ".join(f"({each})" for each in found)


def digest(table: Table, columns: Sequence[str], without: str = "") -> str:
    """Rows and a checksum of some columns, to compare with the same later on the same server; the order is no matter.

    Args:
        table: the table.
        columns: of it.
        without: a condition on the rows `a` that do not count.
    """
    values = []
    for column in columns:
        long = table.columns[column].type.endswith(("text", "blob"))
        value = f"CAST(a.{name(column)} AS BINARY)"  # whatever the charsets are
        values.append(f"QUOTE(MD5({value}))" if long else f"QUOTE({value})")
    row = f"CAST(CONV(LEFT(MD5(CONCAT_WS(',', {', '.join(values)})), 16), 16, 10) AS UNSIGNED)"
    where = f" WHERE NOT COALESCE({without}, 0)" if without else ""
    return f"SELECT COUNT(*) AS n, COALESCE(SUM({row}), 0) AS digest FROM {name(table.name)} AS a{where}"  # noqa: S608 - names of a schema
