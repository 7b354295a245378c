"""The SQL of a repair: many rows a statement, each changed only while it is as it was seen; and what undoes it.

Nothing here needs more than MySQL 5.1 has, or more than INSERT and UPDATE on two tables.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from pymysql.converters import escape_item

T = TypeVar("T")
ROWS_A_STATEMENT = 500
NOW = "{now}"
"""Stands in a statement for the time of the repair."""

_ROWS = "{rows}"
_DATES = frozenset({"seen_updated_at", "back_updated_at", "back_deleted_at"})

KINDS: dict[str, tuple[str, ...]] = {
    "move": ("id", "usage_id", "seen_usage_id"),
    "end": ("id", "seen_usage_id", "back_deleted_at"),
    "remove": ("id", "seen_in_use", "seen_reserved", "seen_updated_at", "back_deleted_at"),
    "update": ("id", "in_use", "reserved", "seen_in_use", "seen_reserved", "seen_updated_at"),
    "insert": ("project_id", "user_id", "resource", "in_use", "until_refresh"),
}
"""What a repair does to a row, in its order, and the columns of its values."""

_MOVE = """
UPDATE reservations AS r JOIN ({rows}) AS v ON r.id = v.id SET r.usage_id = v.usage_id
WHERE r.deleted = 0 AND r.usage_id = v.seen_usage_id"""
_END = """
UPDATE reservations AS r JOIN ({rows}) AS v ON r.id = v.id SET r.deleted = {gone}, r.deleted_at = {now}
WHERE r.deleted = 0 AND r.usage_id = v.seen_usage_id"""
_REMOVE = """
UPDATE quota_usages AS q JOIN ({rows}) AS v ON q.id = v.id SET q.deleted = {gone}, q.deleted_at = {now}
WHERE q.deleted = 0 AND q.in_use = v.seen_in_use AND q.reserved = v.seen_reserved
AND q.updated_at <=> v.seen_updated_at"""
_UPDATE = """
UPDATE quota_usages AS q JOIN ({rows}) AS v ON q.id = v.id
SET q.in_use = v.in_use, q.reserved = v.reserved, q.updated_at = {now}
WHERE q.deleted = 0 AND q.in_use = v.seen_in_use AND q.reserved = v.seen_reserved
AND q.updated_at <=> v.seen_updated_at"""
# The first SELECT has no row: it gives the values the table's own types and collation, so that its index is used.
_INSERT = """
INSERT INTO quota_usages (created_at, updated_at, {columns}, reserved, deleted)
SELECT {now}, {now}, {values}, 0, 0 FROM (SELECT {columns} FROM quota_usages WHERE 1 = 0 UNION ALL {rows}) AS v
WHERE NOT EXISTS (
  SELECT 1 FROM quota_usages AS present WHERE present.project_id = v.project_id
  AND BINARY present.resource = BINARY v.resource{same_user} AND present.deleted = 0)"""

_UNDO_MOVE = """
UPDATE reservations AS r JOIN ({rows}) AS v ON r.id = v.id SET r.usage_id = v.seen_usage_id
WHERE r.deleted = 0 AND r.usage_id = v.usage_id"""
_UNDO_END = """
UPDATE reservations AS r JOIN ({rows}) AS v ON r.id = v.id SET r.deleted = 0, r.deleted_at = v.back_deleted_at
WHERE r.deleted = {gone} AND r.deleted_at = {now}"""
_UNDO_REMOVE = """
UPDATE quota_usages AS q JOIN ({rows}) AS v ON q.id = v.id SET q.deleted = 0, q.deleted_at = v.back_deleted_at
WHERE q.deleted = {gone} AND q.deleted_at = {now} AND q.in_use = v.seen_in_use AND q.reserved = v.seen_reserved"""
_UNDO_UPDATE = """
UPDATE quota_usages AS q JOIN ({rows}) AS v ON q.id = v.id
SET q.in_use = v.seen_in_use, q.reserved = v.seen_reserved, q.updated_at = v.seen_updated_at
WHERE q.deleted = 0 AND q.in_use = v.in_use AND q.reserved = v.reserved AND q.updated_at = {now}"""
# A row to which a reservation refers, a deleted one even, was used since.
_UNDO_INSERT = """
DELETE q FROM quota_usages AS q JOIN ({rows}) AS v ON q.id = v.id LEFT JOIN reservations AS r ON r.usage_id = q.id
WHERE q.deleted = 0 AND q.in_use = v.in_use AND q.reserved = 0 AND q.updated_at = {now} AND r.id IS NULL"""

_DO = {"move": _MOVE, "end": _END, "remove": _REMOVE, "update": _UPDATE, "insert": _INSERT}
_UNDO = {"move": _UNDO_MOVE, "end": _UNDO_END, "remove": _UNDO_REMOVE, "update": _UNDO_UPDATE, "insert": _UNDO_INSERT}
INSERTED = ("id", "in_use")
"""The columns of the values that undo an insert."""


@dataclass(frozen=True)
class Dialect:
    """How the tables of a component and release are written to.

    Attributes:
        per_user: the rows of quota_usages have a user.
        flag: `deleted` is a flag (cinder); else it is the row's own id (nova).
    """

    per_user: bool = False
    flag: bool = False

    def columns(self, kind: str) -> tuple[str, ...]:
        """The columns of a kind's values."""
        return tuple(column for column in KINDS[kind] if column != "user_id" or self.per_user)

    def statement(self, kind: str, rows: Sequence[Sequence[Any]]) -> tuple[str, tuple[Any, ...]]:
        """The statement that changes these rows, with `{now}` in it, and its arguments."""
        return self._filled(_DO[kind], self.columns(kind), rows)

    def undo(self, kind: str, rows: Sequence[Sequence[Any]]) -> tuple[str, tuple[Any, ...]]:
        """The statement that takes it back, of rows that are as it left them; the values of an insert are INSERTED."""
        return self._filled(_UNDO[kind], INSERTED if kind == "insert" else self.columns(kind), rows)

    def _filled(
        self, template: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> tuple[str, tuple[Any, ...]]:
        table = "r" if "UPDATE reservations" in template else "q"
        text = template.strip().replace("{gone}", "1" if self.flag else f"{table}.id")
        text = text.replace("{columns}", ", ".join(columns)).replace("{values}", ", ".join(f"v.{c}" for c in columns))
        text = text.replace("{same_user}", " AND present.user_id <=> v.user_id" if self.per_user else "")
        marks = ["CAST(%s AS DATETIME)" if column in _DATES else "%s" for column in columns]
        first = ", ".join(f"{mark} AS {column}" for mark, column in zip(marks, columns, strict=True))
        others = [f"SELECT {', '.join(marks)}"] * (len(rows) - 1)
        text = text.replace(_ROWS, "\nUNION ALL ".join([f"SELECT {first}", *others]))
        return text, tuple(value for row in rows for value in row)


def batches(things: Iterable[T], kind: Callable[[T], Any]) -> Iterator[Sequence[T]]:
    """Neighbours of one kind, so many as go into one statement."""
    for _, group in groupby(things, kind):
        alike = list(group)
        for first in range(0, len(alike), ROWS_A_STATEMENT):
            yield alike[first : first + ROWS_A_STATEMENT]


def script(about: Sequence[str], parts: Iterable[tuple[Sequence[str], str, Sequence[Any]]]) -> str:
    """One transaction as a script: what it is about, then comments, statement and arguments of each part."""
    lines = [
        *(f"-- {line}" for line in about),
        "SET NAMES utf8;",
        "/*!50503 SET NAMES utf8mb4 */;",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ;",
        "START TRANSACTION;",
    ]
    for comments, text, args in parts:
        literal = tuple(escape_item(arg, "utf8mb4") for arg in args)
        lines += [*(f"-- {comment}" for comment in comments), f"{text % literal};"]
    return "\n".join([*lines, "COMMIT;", ""])
