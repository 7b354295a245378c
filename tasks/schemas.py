"""The description of a schema: tables, columns and keys, read from any MySQL or MariaDB, as text and back.

What differs between servers alone is normalised away: the display width of integers, the spelling of defaults, the name
and the charset of utf8. A description is made to be read, and to be kept in a file:

    table services
      id int not null auto_increment
      host varchar(255)
      disabled tinyint(1) default '0'
      primary key (id)
      unique key uniq_services0host0topic0deleted (host, topic, deleted)
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nornir.core.task import Task

from tasks import databases
from tasks.errors import TaskError

# A row's first column names what it is. About the session's database, on MySQL 5.1 and later.
_QUESTIONS = """
SELECT 'server' AS kind, VERSION() AS version;
SELECT 'table' AS kind, table_name AS tbl, IFNULL(engine, '') AS engine FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' ORDER BY table_name;
SELECT 'column' AS kind, table_name AS tbl, column_name AS name, column_type AS type, is_nullable AS nullable,
 IFNULL(CONCAT('=', column_default), '') AS dflt, extra AS extra FROM information_schema.columns
WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position;
SELECT 'key' AS kind, table_name AS tbl, index_name AS name, IFNULL(column_name, '') AS col,
 IFNULL(sub_part, 0) AS prefix, non_unique AS non_unique, index_type AS type FROM information_schema.statistics
WHERE table_schema = DATABASE() ORDER BY table_name, index_name, seq_in_index;
SELECT 'foreign' AS kind, k.table_name AS tbl, k.constraint_name AS name, k.column_name AS col,
 IF(k.referenced_table_schema = DATABASE(), '', k.referenced_table_schema) AS of_schema,
 k.referenced_table_name AS target, k.referenced_column_name AS target_col,
 COALESCE(r.delete_rule, '') AS delete_rule, COALESCE(r.update_rule, '') AS update_rule
FROM information_schema.key_column_usage k LEFT JOIN information_schema.referential_constraints r
 ON r.constraint_schema = DATABASE() AND r.table_name = k.table_name AND r.constraint_name = k.constraint_name
WHERE k.table_schema = DATABASE() AND k.referenced_table_name IS NOT NULL
ORDER BY k.table_name, k.constraint_name, k.ordinal_position;
"""
STATEMENTS = tuple(statement.strip() for statement in _QUESTIONS.split(";") if statement.strip())
# The same for `mysql -N -B DATABASE`; `parse_client` reads what it prints.
SNAPSHOT = f"SET NAMES utf8;{_QUESTIONS}"

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_$-]*")
_RESERVED = frozenset({"table", "primary", "unique", "fulltext", "spatial", "key", "foreign"})
_NAME = r"`(?:[^`]|``)*`|[A-Za-z_][A-Za-z0-9_$-]*"
_NAMES = rf"(?:{_NAME})(?:\(\d+\))?(?:, (?:{_NAME})(?:\(\d+\))?)*"
_QUOTED = r"'(?:[^']|'')*'"
EXTRAS = ("auto_increment", "on update current_timestamp", "generated")
ACTIONS = ("cascade", "set null", "set default")
_TABLE = re.compile(rf"table ({_NAME})(?: engine ({_NAME}))?")
_COLUMN = re.compile(
    rf"({_NAME}) ((?:{_QUOTED}|[^'])*?)( not null)?(?: default ({_QUOTED}|[^' ](?:{_QUOTED}|[^'])*?))?"
    rf"(?: ({'|'.join(EXTRAS)}))?"
)
_KEY = re.compile(rf"(primary|unique|fulltext|spatial)? ?key(?: ({_NAME}))? \(({_NAMES})\)")
_FOREIGN = re.compile(
    rf"foreign key ({_NAME}) \(({_NAMES})\) -> (?:({_NAME})\.)?({_NAME}) \(({_NAMES})\)"
    rf"(?: on delete ({'|'.join(ACTIONS)}))?(?: on update ({'|'.join(ACTIONS)}))?"
)
_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
_UNESCAPES = {escape[1]: character for character, escape in _ESCAPES.items()}


class SchemaError(TaskError):
    """A text is no description of a schema; make it anew with `cellstep schema snapshot`."""


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes:
        name: its name.
        type: as MySQL writes it, in lower case, without the display width of integers (but `tinyint(1)`).
        null: may be NULL.
        default: a constant in quotes, `'0'`, or an expression, `current_timestamp`; None: NULL, or it has none.
        extra: one of `EXTRAS`, or "".
    """

    name: str
    type: str
    null: bool = True
    default: str | None = None
    extra: str = ""

    def __str__(self) -> str:
        words = [self.type, "" if self.null else "not null"]
        words += ["" if self.default is None else f"default {self.default}", self.extra]
        return " ".join(word for word in words if word)


@dataclass(frozen=True)
class Key:
    """A key that is not a foreign one.

    Attributes:
        name: its name, PRIMARY for the primary key.
        kind: primary, unique, fulltext, spatial, or "" for a plain one.
        columns: in order.
        prefixes: for each column how many characters of it count, 0: all.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    prefixes: tuple[int, ...]

    def __str__(self) -> str:
        columns = [
            quoted(column) + (f"({prefix})" if prefix else "")
            for column, prefix in zip(self.columns, self.prefixes, strict=True)
        ]
        return f"{self.kind} key ({', '.join(columns)})".lstrip()


@dataclass(frozen=True)
class ForeignKey:
    """A foreign key.

    Attributes:
        name: of the constraint.
        columns: in order.
        table: that it refers to.
        targets: the columns there.
        schema: the other database, "" where it is the same one.
        on_delete: one of `ACTIONS`, or "" where the parent's row cannot be deleted.
        on_update: the same for its change.
    """

    name: str
    columns: tuple[str, ...]
    table: str
    targets: tuple[str, ...]
    schema: str = ""
    on_delete: str = ""
    on_update: str = ""

    def __str__(self) -> str:
        other = f"{quoted(self.schema)}." if self.schema else ""
        names, targets = (", ".join(map(quoted, each)) for each in (self.columns, self.targets))
        actions = f" on delete {self.on_delete}" if self.on_delete else ""
        actions += f" on update {self.on_update}" if self.on_update else ""
        return f"foreign key ({names}) -> {other}{quoted(self.table)} ({targets}){actions}"


@dataclass(frozen=True)
class Table:
    """A table; keys and foreign keys by name, columns in their order."""

    name: str
    columns: dict[str, Column] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    foreign: dict[str, ForeignKey] = field(default_factory=dict)
    engine: str = "InnoDB"

    @property
    def primary(self) -> tuple[str, ...]:
        """The primary key's columns; none where it has none."""
        return self.keys["PRIMARY"].columns if "PRIMARY" in self.keys else ()

    def lines(self) -> Iterator[str]:
        """Its description."""
        yield f"table {quoted(self.name)}" + ("" if self.engine == "InnoDB" else f" engine {quoted(self.engine)}")
        for column in self.columns.values():
            yield f"  {quoted(column.name, first=True)} {column}"
        for key in sorted(self.keys.values(), key=lambda key: (key.kind != "primary", key.kind != "unique", key.name)):
            yield f"  {key}" if key.kind == "primary" else f"  {_named(str(key), key.name)}"
        for foreign in sorted(self.foreign.values(), key=lambda foreign: foreign.name):
            yield f"  {_named(str(foreign), foreign.name)}"


@dataclass(frozen=True)
class Schema:
    """The tables of a database by name. Views, triggers and routines are not part of it."""

    tables: dict[str, Table] = field(default_factory=dict)

    def __str__(self) -> str:
        tables = sorted(self.tables.values(), key=lambda table: table.name)
        return "\n".join("".join(f"{_escaped(line)}\n" for line in table.lines()) for table in tables)


def quoted(name: str, *, first: bool = False) -> str:
    """A name, in backticks where it is not plain; `first` in its line, also where it would be taken for a key."""
    if _PLAIN.fullmatch(name) and not (first and name in _RESERVED):
        return name
    return "`" + name.replace("`", "``") + "`"


def snapshot(task: Task, database: str) -> Schema:
    """Read the schema of a database; nothing is changed.

    A user with no privilege but SELECT sees the foreign keys, but not what they do on a deletion.
    """
    mysql = databases.mysql(task)
    return of_rows(tuple(row.values()) for sql in STATEMENTS for row in mysql.query(sql, database=database))


def parse_client(text: str) -> Schema:
    """Read what `mysql -N -B` printed for `SNAPSHOT`.

    Raises:
        SchemaError: it is something else, or cut off before the first table.
    """
    return of_rows([_unescaped(value) for value in line.split("\t")] for line in text.split("\n") if line)


def of_rows(rows: Iterable[Sequence[Any]]) -> Schema:
    """Make the schema from the rows of `STATEMENTS`.

    Raises:
        SchemaError: a row is of no known kind, or the first does not tell the server's version.
    """
    tables: dict[str, Table] = {}
    told_as_sql = None  # whether the server tells defaults as SQL (MariaDB from 10.2.7 on) or as they are
    for kind, *row in rows:
        values = [value.decode() if isinstance(value, bytes) else str(value) for value in row]
        if kind == "server":
            told_as_sql = _tells_sql(values[0])
        elif told_as_sql is None:
            raise SchemaError("this is not what a server answered to the questions for its schema")
        elif kind == "table":
            tables[values[0]] = Table(values[0], engine=values[1])
        elif kind not in ("column", "key", "foreign"):
            raise SchemaError(f"a row of the unknown kind “{str(kind)[:40]}” in a server's answer")
        elif values[0] in tables:  # views have columns, too
            _READERS[kind](tables[values[0]], values[1:], told_as_sql)
    if told_as_sql is None:
        raise SchemaError("a server's answer to the questions for its schema is empty")
    return Schema(tables)


def parse(text: str) -> Schema:
    """Read a description; the opposite of `str`. Empty lines, and lines that begin with #, are left out.

    Raises:
        SchemaError: a line is not as `str` writes it.
    """
    tables: dict[str, Table] = {}
    table: Table | None = None
    for number, raw in enumerate(text.split("\n"), 1):
        line = _unescaped(raw.removesuffix("\r"))
        if not raw.strip() or raw.startswith("#"):
            continue
        found = _TABLE.fullmatch(line)
        if found:
            name, engine = (_plain(each) if each else "InnoDB" for each in found.groups())
            table = tables[name] = Table(name, engine=engine)
        elif table is None or not line.startswith("  ") or not _parse_line(table, line[2:]):
            raise SchemaError(f"line {number}: “{raw.strip()[:80]}” is no line of a schema's description")
    return Schema(tables)


def _parse_line(table: Table, line: str) -> bool:
    """Take a line into its table, if it is one of a key or a column."""
    if found := _FOREIGN.fullmatch(line):
        name, columns, schema, target, targets, delete, update = found.groups()
        foreign = ForeignKey(
            *(_plain(name), _split(columns)[0], _plain(target), _split(targets)[0]),
            *(_plain(schema) if schema else "", delete or "", update or ""),
        )
        table.foreign[foreign.name] = foreign
    elif found := _KEY.fullmatch(line):
        kind, name, columns = found.groups()
        key = Key(_plain(name) if name else "PRIMARY", kind or "", *_split(columns))
        table.keys[key.name] = key
    elif found := _COLUMN.fullmatch(line):
        name, type_, not_null, default, extra = found.groups()
        table.columns[_plain(name)] = Column(_plain(name), type_, not not_null, default, extra or "")
    else:
        return False
    return True


def _read_column(table: Table, values: Sequence[str], told_as_sql: bool) -> None:
    name, type_, nullable, default, extra = values
    said = extra.lower()
    kept = next((each for each in EXTRAS if each in said), "")
    type_ = normal_type(type_)
    constant = normal_default(default[1:], type_, told_as_sql=told_as_sql) if default else None
    table.columns[name] = Column(name, type_, nullable == "YES", constant, kept)


def _read_key(table: Table, values: Sequence[str], _told_as_sql: bool) -> None:
    name, column, prefix, non_unique, index = values
    kind = "primary" if name == "PRIMARY" else "unique" if non_unique == "0" else ""
    kind = index.lower() if index in ("FULLTEXT", "SPATIAL") else kind
    prefix = "0" if kind in ("fulltext", "spatial") else prefix
    old = table.keys.get(name, Key(name, kind, (), ()))
    table.keys[name] = Key(name, kind, (*old.columns, column), (*old.prefixes, int(prefix)))


def _read_foreign(table: Table, values: Sequence[str], _told_as_sql: bool) -> None:
    name, column, schema, target, target_column, delete, update = values
    actions = [rule.lower() if rule.lower() in ACTIONS else "" for rule in (delete, update)]
    old = table.foreign.get(name, ForeignKey(name, (), target, ()))
    columns, targets = (*old.columns, column), (*old.targets, target_column)
    table.foreign[name] = ForeignKey(name, columns, target, targets, schema, *actions)


_READERS = {"column": _read_column, "key": _read_key, "foreign": _read_foreign}


def normal_type(text: str) -> str:
    """A column's type as every server would write it."""
    head, parenthesis, rest = text.partition("(")
    if head.lower() in ("enum", "set"):
        return f"{head.lower()}{parenthesis}{rest}"
    text = re.sub(r"/\*.*?\*/", "", text.lower()).strip()
    text = re.sub(r"\b(smallint|mediumint|int|bigint|year)\(\d+\)", r"\1", text)
    return re.sub(r"\btinyint\((?!1\))\d+\)", "tinyint", text)


def normal_default(text: str, type_: str, *, told_as_sql: bool) -> str | None:
    """A default as every server would write it: a constant in quotes, an expression in lower case.

    Args:
        text: as the server told it.
        type_: the column's.
        told_as_sql: the server tells SQL, with quotes around texts; else the value itself.
    """
    if re.fullmatch(r"(?i)current_timestamp(\(\d*\))?", text) and type_.startswith(("timestamp", "datetime")):
        return "current_timestamp"
    if not told_as_sql:
        return _constant(text)
    if text == "NULL":
        return None
    if re.fullmatch(r"'(?:[^'\\]|''|\\.)*'", text, re.DOTALL):
        body = re.sub(r"''|\\(.)", lambda found: _UNESCAPES.get(found[1], found[1]) if found[1] else "'", text[1:-1])
        return _constant(body)
    return _constant(text) if re.fullmatch(r"-?[0-9.]+(e[+-]?[0-9]+)?", text) else text.lower()


def _constant(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _tells_sql(version: str) -> bool:
    """MariaDB tells defaults as SQL from 10.2.7 on; some of its servers say 5.5.5- in front."""
    numbers = re.match(r"(?:5\.5\.5-)?(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None:
        raise SchemaError(f"“{version[:40]}” is no version of a MySQL server")
    return "mariadb" in version.lower() and tuple(map(int, numbers.groups())) >= (10, 2, 7)


def _named(text: str, name: str) -> str:
    return re.sub(r"key ", lambda _found: f"key {quoted(name)} ", text, count=1)


def _split(text: str) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names, and how many characters of each count."""
    found = re.findall(rf"({_NAME})(?:\((\d+)\))?(?:, |$)", text)
    return tuple(_plain(name) for name, _ in found), tuple(int(prefix or 0) for _, prefix in found)


def _plain(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _escaped(line: str) -> str:
    return re.sub(r"[\\\n\r\t\0]", lambda found: _ESCAPES[found[0]], line)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: _UNESCAPES.get(found[1], found[0]), text)
