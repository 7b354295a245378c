"""The plan of a repair: which rows change, from what they were seen as to what is right, and its SQL in batches."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.quotas import sql

Row = Mapping[str, Any]
COUNT_AGAIN = -1  # an in_use below 0 is counted again at the next reservation


@dataclass(frozen=True)
class Change:
    """One row that a repair changes, while it is as it was seen.

    Attributes:
        why: what is done, in one line.
        kind: what is done: a name of `sql.KINDS`.
        args: the values of the kind's columns.
    """

    why: str
    kind: str
    args: tuple[Any, ...]


@dataclass(frozen=True)
class Repair:
    """What makes the quota cache right again.

    Attributes:
        dialect: how the tables of this component and release are written to.
        changes: in their order; none if all is right.
        left: rows that are not right and stay as they are, one line each, with the reason.
    """

    dialect: sql.Dialect = field(default_factory=sql.Dialect)
    changes: tuple[Change, ...] = ()
    left: tuple[str, ...] = ()

    def batches(self) -> Iterator[tuple[Sequence[Change], str, tuple[Any, ...]]]:
        """The changes that go into one statement, with `{now}` in it for the time, and its arguments."""
        for changes in sql.batches(self.changes, lambda change: change.kind):
            yield changes, *self.dialect.statement(changes[0].kind, [change.args for change in changes])

    @property
    def script(self) -> str:
        """The repair to read, or to give to `mysql` while nothing writes to the database."""
        notes = [f"-- left as it is: {line}" for line in self.left]
        if not self.changes:
            return "\n".join([*notes, "-- Nothing to repair.", ""])
        about = [f"Repairs the quota cache: {len(self.changes)} rows.", "Rows that changed meanwhile stay as they are."]
        parts = [
            ([change.why for change in changes], text.replace(sql.NOW, "UTC_TIMESTAMP()"), args)
            for changes, text, args in self.batches()
        ]
        return "\n".join([*notes, sql.script(about, parts)])


def plan_repair(rows: Iterable[Row], facts: Mapping[str, Any]) -> Repair:
    """Plan what makes every row good.

    Missing rows are inserted, wrong and leaked ones updated. Orphans, and all but the newest of duplicates, are
    soft-deleted as the component does it: a reservation, even a deleted one, may refer to them for ever. Live
    reservations of a duplicate move to the row that is kept, those of an orphan are soft-deleted with it. What cannot
    be counted from here is left for the component to count where duplicates do not agree.

    A row with a reservation that has not expired is left as it is: the request that made it may be going on, and
    adds to in_use, or takes from it, when it ends.

    Args:
        rows: the quota table's rows (`reports.tables.quotas.odd_records`, or `records`).
        facts: what `read` gave, from which the rows were made.

    Raises:
        ValueError: a row has a status that is not the quota table's.
    """
    plan = _Plan(facts)
    copies: dict[str, list[Row]] = {}
    for row in rows:
        status = row["status"]
        if status == "orphan":
            plan.orphan(row)
        elif status == "duplicate":
            copies.setdefault(row["key"], []).append(row)
        elif status in ("missing", "due"):
            plan.insert(row)
        elif status == "wrong":
            plan.count(row)
        elif status == "leaked":
            plan.update(row, int(row["in_use"]), int(row["reserved_actual"]))
        elif status not in ("ok", "busy", "uncounted"):
            raise ValueError(f"a row of the quota table has the unknown status {status!r}")
    for same in copies.values():
        plan.merge(sorted(same, key=lambda row: int(row["id"])))
    return plan.repair()


class _Plan:
    """Collects the changes; knows how each row was seen, and its live reservations."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._changes: dict[str, list[Change]] = {kind: [] for kind in sql.KINDS}
        self._left: list[str] = []
        self._dialect = sql.Dialect(per_user=facts["per_user"], flag=facts.get("component") == "cinder")
        self._seen: dict[int, Row] = {int(row["id"]): row for row in facts["usages"]}
        self._held: dict[int, list[Row]] = {}
        for row in facts["reservations"]:
            self._held.setdefault(int(row["usage_id"]), []).append(row)
        # Where the component counts down to its next count, a new row begins with the last step.
        counts_down = any(row.get("until_refresh") is not None for row in facts["usages"])
        self._until_refresh = 1 if counts_down else None

    def repair(self) -> Repair:
        """What was collected, reservations first: none is ever at a row that is deleted."""
        changes = tuple(change for changes in self._changes.values() for change in changes)
        return Repair(self._dialect, changes, tuple(self._left))

    def insert(self, row: Row) -> None:
        user = (row["user_id"],) if self._dialect.per_user else ()
        actual = int(row["actual"])
        args = (row["project_id"], *user, row["resource"], actual, self._until_refresh)
        self._add("insert", f"insert {_told(row)}: in_use {actual}", args)

    def count(self, row: Row) -> None:
        if not self._stays(row):
            self.update(row, int(row["actual"]), int(row["reserved_actual"]))

    def update(self, row: Row, in_use: int, reserved: int) -> None:
        usage, seen, right = int(row["id"]), _amounts(row), (in_use, reserved)
        if seen == right:
            return
        why = f"update {_told(row)}: in_use {seen[0]} -> {right[0]}, reserved {seen[1]} -> {right[1]}"
        self._add("update", why, (usage, *right, *seen, self._seen[usage]["updated_at"]))

    def orphan(self, row: Row) -> None:
        if self._stays(row):
            return
        usage = int(row["id"])
        for held in self._held.get(usage, []):
            number = int(held["id"])
            why = f"soft-delete reservation {number} of row {usage}, an orphan"
            self._add("end", why, (number, usage, held.get("deleted_at")))
        self._remove(row, "an orphan: nothing is counted by it")

    def merge(self, rows: Sequence[Row]) -> None:
        """Keep the last of these rows of one identity, with the live reservations of all."""
        stay = [self._stays(row) for row in rows]
        if any(stay):
            return
        kept, ids = rows[-1], [int(row["id"]) for row in rows]
        for row, usage in zip(rows[:-1], ids, strict=False):
            for held in self._held.get(usage, []):
                number = int(held["id"])
                why = f"move live reservation {number} from row {usage} to row {ids[-1]}"
                self._add("move", why, (number, ids[-1], usage))
            self._remove(row, f"a duplicate of row {ids[-1]}")
        reserved = sum(int(held["reserved"]) for usage in ids for held in self._held.get(usage, []))
        if kept["actual"] is not None:
            in_use = int(kept["actual"])
        else:
            agreed = {int(row["in_use"]) for row in rows}
            in_use = agreed.pop() if len(agreed) == 1 else COUNT_AGAIN
        self.update(kept, in_use, reserved)

    def _remove(self, row: Row, reason: str) -> None:
        usage, seen = int(row["id"]), self._seen[int(row["id"])]
        args = (usage, *_amounts(row), seen["updated_at"], seen["deleted_at"])
        self._add("remove", f"soft-delete {_told(row)}, {reason}", args)

    def _stays(self, row: Row) -> bool:
        """Whether a request may be about to change the row."""
        if row["under_way"]:
            self._left.append(f"{_told(row)}, {row['status']}: a reservation of it has not expired; check again later")
        return bool(row["under_way"])

    def _add(self, kind: str, why: str, args: tuple[Any, ...]) -> None:
        self._changes[kind].append(Change(why, kind, args))


def _amounts(row: Row) -> tuple[int, int]:
    return int(row["in_use"]), int(row["reserved"])


def _told(row: Row) -> str:
    """A row in words; identifiers as JSON, so that none can end the line of a comment."""
    user = "" if row["user_id"] is None else f" user {json.dumps(row['user_id'])}"
    project = "NULL" if row["project_id"] is None else json.dumps(row["project_id"])
    number = "" if row.get("id") is None else f"row {int(row['id'])}, "
    resource = str(row["resource"])
    plain = resource if resource.replace("_", "").isalnum() and resource.isascii() else json.dumps(resource)
    return f"{number}{plain} of project {project}{user}"
