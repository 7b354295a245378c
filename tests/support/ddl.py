"""The SQL that makes a schema of its description: MySQL's own types, InnoDB, utf8."""

from tasks.schemas import Column, Key, Schema, Table


def ddl(schema: Schema) -> str:
    """CREATE TABLE for each table; foreign keys are not checked meanwhile."""
    tables = "".join(_table(table) for table in schema.tables.values())
    return f"SET NAMES utf8; SET foreign_key_checks=0;\n{tables}"


def _table(table: Table) -> str:
    lines = [f"{_name(column.name)} {_column(column)}" for column in table.columns.values()]
    lines += [_key(key) for key in table.keys.values()]
    lines += [
        f"CONSTRAINT {_name(key.name)} FOREIGN KEY ({_names(key.columns)})"
        f" REFERENCES {_name(key.table)} ({_names(key.targets)})"
        + (f" ON DELETE {key.on_delete}" if key.on_delete else "")
        + (f" ON UPDATE {key.on_update}" if key.on_update else "")
        for key in table.foreign.values()
    ]
    body = ",\n  ".join(lines)
    return f"CREATE TABLE {_name(table.name)} (\n  {body}\n) ENGINE={table.engine} DEFAULT CHARSET=utf8;\n"


def _column(column: Column) -> str:
    return str(column) if column.default or not column.null else f"{column.type} NULL {column.extra}"


def _key(key: Key) -> str:
    columns = ", ".join(
        _name(column) + (f"({prefix})" if prefix else "")
        for column, prefix in zip(key.columns, key.prefixes, strict=True)
    )
    return f"{key.kind} KEY {'' if key.kind == 'primary' else _name(key.name)} ({columns})"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(_name, names))


def _name(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
