"""Databases of components, and what changes them: SQL made of the references of schemas that cellstep ships.

Tables are the reference of the release before. A migration is the difference of two references, computed when the RPM
is built, so that after it a comparison with the second one finds nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tasks.schemas import Column, ForeignKey, Key, Schema, Table, parse

REFERENCES = Path(__file__).resolve().parents[3] / "cellstep" / "releases" / "schemas"
PARSER = Path(parse.__code__.co_filename)
_ENGINE = "ENGINE=InnoDB DEFAULT CHARSET=utf8"
_CONVERTED = "{}__new"


def reference(component: str, version: int) -> Schema:
    """The schema of a component at a version.

    Raises:
        FileNotFoundError: cellstep has no reference of it.
    """
    return parse((REFERENCES / f"{component}-{version}.txt").read_text(encoding="utf-8"))


def database(component: str, version: int, repository: str, password: str) -> str:
    """SQL that makes an empty database of a component at a version, and its user, and goes there.

    Args:
        component: also the database's and the user's name.
        version: the schema's.
        repository: the component's row in `migrate_version`.
        password: of its user.
    """
    path = f"/usr/lib/python2.6/site-packages/{component}/db/sqlalchemy/migrate_repo"
    statements = (
        f"CREATE DATABASE {component} DEFAULT CHARACTER SET utf8",
        f"CREATE USER '{component}'@'%' IDENTIFIED BY '{password}'",
        f"GRANT ALL ON {component}.* TO '{component}'@'%'",
        f"GRANT ALL ON lab.* TO '{component}'@'%'",
        f"USE {component}",
    )
    row = f"INSERT INTO migrate_version VALUES ('{repository}', '{path}', {version});\n"  # noqa: S608 - names of the lab's own
    return "".join(f"{each};\n" for each in statements) + create(reference(component, version)) + row


def create(schema: Schema) -> str:
    """The statements that make its tables, in any order of them."""
    tables = "".join(f"{_table(table, foreign=True)};\n" for table in schema.tables.values())
    return f"SET FOREIGN_KEY_CHECKS=0;\n{tables}SET FOREIGN_KEY_CHECKS=1;\n"


def migrations(
    before: Schema,
    after: Schema,
    head: int,
    *,
    at: Mapping[str, int] | None = None,
    conversions: Mapping[str, str] | None = None,
) -> dict[int, list[str]]:
    """The DDL that makes one schema of another, by version.

    Args:
        before: the schema there is.
        after: the one wanted.
        head: its version, at which everything changes that `at` does not name.
        at: a table that comes or goes (`ec2_credential`), or a column that comes, goes or changes
            (`volumes.attached_host`), to the version that does it.
        conversions: a column (`meter.timestamp`) to the SQL of its new value, from the row's columns as they were.

    Raises:
        ValueError: `at` or `conversions` names what does not change.
    """
    at, conversions = at or {}, conversions or {}
    changing = _changes(before, after)
    for name in {*at, *conversions} - changing:
        raise ValueError(f"{name} does not change between the two schemas")
    columns = {name: list(table.columns) for name, table in before.tables.items()}
    found: dict[int, list[str]] = {}
    for version in sorted({head, *at.values()}):
        due = {item for item in changing if at.get(item, head) == version}
        found[version] = _Step(before, after, columns, conversions, due).statements(last=version == head)
    return found


def module(first: int, statements: Mapping[int, Sequence[str]]) -> str:
    """The text of a package's module `migrations`."""
    lines = [f'"""What the schema\'s versions from {first} on change."""\n', f"FIRST = {first}", "STATEMENTS = {"]
    for version, each in statements.items():
        lines += [f"    {version}: (", *(f"        {statement!r}," for statement in each), "    ),"]
    return "\n".join([*lines, "}", ""])


def _changes(before: Schema, after: Schema) -> set[str]:
    """Tables that come or go, and columns that come, go or change in those that stay."""
    old, new = before.tables, after.tables
    found = set(old) ^ set(new)
    for name in old.keys() & new.keys():
        one, other = old[name].columns, new[name].columns
        found |= {f"{name}.{column}" for column in {*one, *other} if one.get(column) != other.get(column)}
    return found


class _Step:
    """One version's statements; `columns` are the tables' columns as they are before, and then after it."""

    def __init__(
        self,
        before: Schema,
        after: Schema,
        columns: dict[str, list[str]],
        conversions: Mapping[str, str],
        due: set[str],
    ) -> None:
        self.old, self.new = before.tables, after.tables
        self.columns, self.conversions, self.due = columns, conversions, due

    def statements(self, *, last: bool) -> list[str]:
        """In an order that a server accepts, whose checks of foreign keys are on."""
        going = [name for name in self.old if name not in self.new and name in self.due]
        coming = [name for name in self.new if name not in self.old and name in self.due]
        staying = [name for name in self.old if name in self.new]
        found: list[str] = []
        for name, table in self.old.items():
            gone = [key for key in table.foreign.values() if self._unbound(name, key, going, last=last)]
            found += [f"ALTER TABLE {_q(name)} DROP FOREIGN KEY {_q(key.name)}" for key in gone]
        found += [f"DROP TABLE {_q(name)}" for name in going]
        found += [_table(self.new[name], foreign=False) for name in coming]
        for name in staying:
            found += self._altered(name, last=last)
        for name in (*coming, *(staying if last else ())):
            known = self.old[name].foreign if name in self.old else {}
            bound = [key for key in self.new[name].foreign.values() if known.get(key.name) != key]
            found += [f"ALTER TABLE {_q(name)} ADD {_foreign(key)}" for key in bound]
        return found

    def _unbound(self, name: str, key: ForeignKey, going: Sequence[str], *, last: bool) -> bool:
        if name in going or key.table in going:
            return True
        return last and name in self.new and self.new[name].foreign.get(key.name) != key

    def _altered(self, name: str, *, last: bool) -> list[str]:
        """A table that stays: keys go, columns come, rows are converted, columns go and change, keys come."""
        old, new = self.old[name], self.new[name]
        converted = [c for c in new.columns if f"{name}.{c}" in self.conversions and f"{name}.{c}" in self.due]
        rekeyed = {
            key
            for key in {*old.keys, *new.keys}
            if last and (old.keys.get(key) != new.keys.get(key) or _touches(old.keys.get(key), converted))
        }
        first = [f"DROP {_key_name(key)}" for key in old.keys if key in rekeyed]
        then: list[str] = []
        order = self.columns[name]
        for gone in [each for each in order if each not in new.columns and f"{name}.{each}" in self.due]:
            then.append(f"DROP COLUMN {_q(gone)}")
            order.remove(gone)
        added = {c for c in new.columns if c not in order and f"{name}.{c}" in self.due}
        for previous, column in _places(new, [*order, *added]):
            if column.name in added:
                first.append(f"ADD COLUMN {_column(column)} {_place(previous)}")
                _move(order, column.name, previous)
        for previous, column in _places(new, order):
            due = f"{name}.{column.name}" in self.due and column.name not in added
            place = _place(previous)
            if due and column.name in converted:
                fresh = _CONVERTED.format(column.name)
                first.append(f"ADD COLUMN {_q(fresh)} {_kind(column)} {place}")
                then += [f"DROP COLUMN {_q(column.name)}", f"CHANGE COLUMN {_q(fresh)} {_column(column)} {place}"]
            elif due or (last and _before(order, column.name) != previous):
                then.append(f"MODIFY COLUMN {_column(column)} {place}")
            else:
                continue
            _move(order, column.name, previous)
        then += [f"ADD {_key(key)}" for key in new.keys.values() if key.name in rekeyed]
        values = [self._value(name, each) for each in converted]
        return [
            *([f"ALTER TABLE {_q(name)} {', '.join(first)}"] if first else []),
            *([f"UPDATE {_q(name)} SET {', '.join(values)}"] if values else []),  # noqa: S608 - the lab's own names
            *([f"ALTER TABLE {_q(name)} {', '.join(then)}"] if then else []),
        ]

    def _value(self, name: str, column: str) -> str:
        target = _CONVERTED.format(column) if column in self.old[name].columns else column
        return f"{_q(target)} = {self.conversions[f'{name}.{column}']}"


def _touches(key: Key | None, columns: Iterable[str]) -> bool:
    return key is not None and bool({*key.columns} & {*columns})


def _places(table: Table, there: Iterable[str]) -> list[tuple[str | None, Column]]:
    """Those of its columns that are there, each with the one it follows (None: it is the first)."""
    present = {*there}
    columns = [column for column in table.columns.values() if column.name in present]
    return list(zip([None, *(column.name for column in columns)], columns, strict=False))


def _place(previous: str | None) -> str:
    return "FIRST" if previous is None else f"AFTER {_q(previous)}"


def _before(order: Sequence[str], name: str) -> str | None:
    at = order.index(name)
    return order[at - 1] if at else None


def _move(order: list[str], name: str, previous: str | None) -> None:
    if name in order:
        order.remove(name)
    order.insert(0 if previous is None else order.index(previous) + 1, name)


def _q(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def _kind(column: Column) -> str:
    words = [column.type, "" if column.null else "NOT NULL"]
    if column.default is not None:
        words.append(f"DEFAULT {column.default}")
    elif column.null:
        words.append("DEFAULT NULL")
    return " ".join(word for word in (*words, column.extra.upper()) if word)


def _column(column: Column) -> str:
    return f"{_q(column.name)} {_kind(column)}"


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(_q, names))


def _key(key: Key) -> str:
    pairs = zip(key.columns, key.prefixes, strict=True)
    columns = ", ".join(_q(column) + (f"({prefix})" if prefix else "") for column, prefix in pairs)
    title = "PRIMARY KEY" if key.kind == "primary" else f"{key.kind.upper()} KEY {_q(key.name)}".strip()
    return f"{title} ({columns})"


def _key_name(name: str) -> str:
    return "PRIMARY KEY" if name == "PRIMARY" else f"KEY {_q(name)}"


def _foreign(key: ForeignKey) -> str:
    actions = f" ON DELETE {key.on_delete.upper()}" if key.on_delete else ""
    actions += f" ON UPDATE {key.on_update.upper()}" if key.on_update else ""
    return (
        f"CONSTRAINT {_q(key.name)} FOREIGN KEY ({_names(key.columns)})"
        f" REFERENCES {_q(key.table)} ({_names(key.targets)}){actions}"
    )


def _table(table: Table, *, foreign: bool) -> str:
    parts = [*map(_column, table.columns.values()), *map(_key, table.keys.values())]
    parts += map(_foreign, table.foreign.values()) if foreign else ()
    return f"CREATE TABLE {_q(table.name)} (\n  " + ",\n  ".join(parts) + f"\n) {_ENGINE}"
