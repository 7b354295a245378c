"""What differs between two schemas: tables, columns and keys, in the order of their names."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tasks.schemas import Schema, Table

TABLE, COLUMN, KEY, FOREIGN = "table", "column", "key", "foreign key"


@dataclass(frozen=True)
class Difference:
    """One thing that is in one schema only, or another in each.

    Attributes:
        kind: table, column, key or foreign key.
        table: its table.
        name: its own; "" for a table.
        one: how the first schema has it, "" where it has not.
        other: how the second has it, "" where it has not.
    """

    kind: str
    table: str
    name: str
    one: str
    other: str

    @property
    def what(self) -> str:
        """Its name in full: `column services.disabled_reason`."""
        return f"{self.kind} {self.table}{f'.{self.name}' if self.name else ''}"

    def __str__(self) -> str:
        if not self.other:
            return f"- {self.what}" + (f": {self.one}" if self.name else "")
        if not self.one:
            return f"+ {self.what}" + (f": {self.other}" if self.name else "")
        return f"! {self.what}: {self.one} | {self.other}"


def compare(one: Schema, other: Schema) -> tuple[Difference, ...]:
    """What the second schema has not, has besides, and has otherwise.

    The order of columns does not count, and foreign keys are the same whatever their names are: MySQL gives them. So it
    does to the plain keys that it makes for them.
    A table that is in one only is one difference, and its columns and keys are not told.
    """
    found: list[Difference] = []
    for name in sorted(one.tables.keys() | other.tables.keys()):
        here, there = one.tables.get(name), other.tables.get(name)
        if here is None or there is None:
            found.append(Difference(TABLE, name, "", "there" if here else "", "there" if there else ""))
            continue
        if here.engine != there.engine:
            found.append(Difference(TABLE, name, "", f"engine {here.engine}", f"engine {there.engine}"))
        columns = ({each.name: str(each) for each in table.columns.values()} for table in (here, there))
        found += _differing(COLUMN, name, *columns)
        found += _keys(here, there)
        found += _foreign(here, there)
    return tuple(found)


def _differing(kind: str, table: str, one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[Difference]:
    for name in sorted(one.keys() | other.keys()):
        here, there = one.get(name, ""), other.get(name, "")
        if here != there:
            yield Difference(kind, table, name, here, there)


def _keys(here: Table, there: Table) -> Iterator[Difference]:
    """Keys by name; one that has another name only is one difference."""
    one, other = ({key.name: str(key) for key in table.keys.values()} for table in (here, there))
    for name in _given_names(here, there):
        one.pop(name, None)
    for name in _given_names(there, here):
        other.pop(name, None)
    strange = {text: name for name, text in reversed(other.items()) if name not in one}
    for name, text in sorted(one.items()):
        if name not in other and text in strange:
            alias = strange.pop(text)
            del other[alias]
            yield Difference(KEY, here.name, name, text, f"{text}, named {alias}")
            del one[name]
    yield from _differing(KEY, here.name, one, other)


def _given_names(here: Table, there: Table) -> Iterator[str]:
    """Plain keys of one table over a foreign key's columns, which the other table has under another name."""
    needed = {foreign.columns for foreign in here.foreign.values()} & {each.columns for each in there.foreign.values()}
    others = {str(key) for name, key in there.keys.items() if name not in here.keys}
    for name, key in here.keys.items():
        if not key.kind and key.columns in needed and name not in there.keys and str(key) in others:
            yield name


def _foreign(here: Table, there: Table) -> Iterator[Difference]:
    """Foreign keys by what they say; those of the same columns that say another thing are one difference."""
    one, other = ({str(each): each for each in table.foreign.values()} for table in (here, there))
    mine = {each.columns: text for text, each in one.items() if text not in other}
    theirs = {each.columns: text for text, each in other.items() if text not in one}
    by_columns = ({", ".join(columns): text for columns, text in texts.items()} for texts in (mine, theirs))
    yield from _differing(FOREIGN, here.name, *by_columns)
