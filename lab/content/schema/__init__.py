"""Nova's database as it is before the upgrade, at 161, from a compact notation."""

import re
from pathlib import Path

HERE = Path(__file__).parent
TYPES = {
    "": "varchar(255)",
    "int": "int",
    "bigint": "bigint",
    "bool": "tinyint(1)",
    "float": "float",
    "text": "mediumtext",
    "time": "datetime",
    "uuid": "varchar(36)",
    "ip": "varchar(39)",
    "cidr": "varchar(43)",
}
ENGINE = "ENGINE=InnoDB DEFAULT CHARSET=utf8"
WITHOUT_SHADOW = {"security_group_default_rules"}


def _column(word: str, *, shadow: bool) -> str:
    name, _, kind = word.partition(":")
    required = kind.endswith("!")
    kind = kind.rstrip("!")
    if shadow and kind == "ip":
        kind = "cidr"
    return f"`{name}` {TYPES.get(kind, kind)} {'NOT NULL' if required else 'DEFAULT NULL'}"


def _quoted(columns: str) -> str:
    return re.sub(r"\w+(?=[,(]|$)", lambda match: match[0] if match[0].isdigit() else f"`{match[0]}`", columns)


def _constraint(line: str) -> str:
    kind, _, rest = line.partition(" ")
    if kind == "primary":
        return f"PRIMARY KEY ({_quoted(rest[1:-1])})"
    if kind in {"key", "unique"}:
        name, _, columns = rest.partition(" ")
        return f"{'UNIQUE ' if kind == 'unique' else ''}KEY `{name}` ({_quoted(columns[1:-1])})"
    match = re.fullmatch(r"(\w+) fk \((\w+)\) -> (\w+) \((\w+)\)", line)
    if match is None:
        raise ValueError(f"not a constraint: {line}")
    name, column, table, target = match.groups()
    return f"CONSTRAINT `{name}` FOREIGN KEY (`{column}`) REFERENCES `{table}` (`{target}`)"


def _table(name: str, words: list[str], constraints: list[str], *, stamps: bool, shadow: bool) -> str:
    parts = [f"`{column}` datetime DEFAULT NULL" for column in ("created_at", "updated_at", "deleted_at") if stamps]
    keys = [_constraint(line) for line in constraints if not shadow or line.startswith("primary ")]
    for word in words:
        if word == "id":
            parts.append("`id` int NOT NULL AUTO_INCREMENT")
        else:
            parts.append(_column(word, shadow=shadow))
    if not any(key.startswith("PRIMARY") for key in keys):
        keys.insert(0, "PRIMARY KEY (`id`)")
    title = f"shadow_{name}" if shadow else name
    return f"CREATE TABLE `{title}` (\n  " + ",\n  ".join(parts + keys) + f"\n) {ENGINE};\n"


def render(text: str, *, shadows: bool) -> str:
    """Turn the compact notation into CREATE TABLE statements.

    Args:
        text: the notation, as the head of `nova_161.txt` explains it.
        shadows: also create each table's shadow table.

    Returns:
        SQL that may run in any order of tables (foreign key checks are off while it runs).

    Raises:
        ValueError: a line that is not of the notation.
    """
    tables: list[tuple[str, bool, list[str], list[str]]] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith(" "):
            tables[-1][3].append(line.strip())
            continue
        title, colon, words = line.partition(":")
        if not colon:
            raise ValueError(f"not a table: {line}")
        name, star, _ = title.partition("*")
        tables.append((name, not star, words.split(), []))
    statements = ["SET FOREIGN_KEY_CHECKS=0;\n"]
    for name, stamps, columns, constraints in tables:
        statements.append(_table(name, columns, constraints, stamps=stamps, shadow=False))
        if shadows and name not in WITHOUT_SHADOW:
            statements.append(_table(name, columns, constraints, stamps=stamps, shadow=True))
    statements.append("SET FOREIGN_KEY_CHECKS=1;\n")
    return "".join(statements)


def nova() -> str:
    """The SQL of an empty nova database at 161, its version table filled in."""
    return render((HERE / "nova_161.txt").read_text(), shadows=True) + (
        "INSERT INTO migrate_version VALUES"
        " ('nova', '/usr/lib/python2.6/site-packages/nova/db/sqlalchemy/migrate_repo', 161);\n"
    )
