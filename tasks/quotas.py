"""The quota cache of nova's API database: what it says, what is in use, and its repair.

Nova's migration 216, as it was in 2013.2 to 2013.2.2 (bug 1245746), deletes the rows of instances, cores,
ram and security_groups and never counts them again. What is in use is counted as nova's own sync functions
count it (nova/quota.py, nova/db/sqlalchemy/api.py): with a user from Havana on, by project alone in Grizzly.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nornir.core.task import Result, Task
from pymysql.converters import escape_item

from tasks import databases
from tasks.errors import TaskError

Row = dict[str, Any]
INSERTED = object()  # among an undo's arguments: the id which the insert gave

_USAGES = """
SELECT id, project_id, {user} AS user_id, resource, in_use, reserved, updated_at, deleted_at
FROM quota_usages WHERE deleted = 0 ORDER BY id"""
# All live reservations, expired ones too: nova takes them off `reserved` only when it deletes them.
# Only what was added (delta > 0) is counted in `reserved`.
_RESERVATIONS = """
SELECT r.id, r.usage_id, GREATEST(r.delta, 0) AS reserved
FROM reservations AS r JOIN quota_usages AS u ON u.id = r.usage_id
WHERE r.deleted = 0 AND u.deleted = 0 ORDER BY r.id"""
# Every instance counts that is not deleted, whatever its state.
_INSTANCES = """
SELECT project_id, {user} AS user_id, COUNT(id) AS instances, SUM(vcpus) AS cores, SUM(memory_mb) AS ram
FROM instances WHERE deleted = 0 AND project_id IS NOT NULL GROUP BY {key}"""
_SECURITY_GROUPS = """
SELECT project_id, {user} AS user_id, COUNT(id) AS security_groups
FROM security_groups WHERE deleted = 0 AND project_id IS NOT NULL GROUP BY {key}"""
_FLOATING_IPS = """
SELECT project_id, NULL AS user_id, COUNT(id) AS floating_ips
FROM floating_ips WHERE deleted = 0 AND auto_assigned = 0 AND project_id IS NOT NULL GROUP BY project_id"""
_FIXED_IPS = """
SELECT i.project_id, NULL AS user_id, COUNT(f.id) AS fixed_ips
FROM fixed_ips AS f JOIN instances AS i ON i.uuid = f.instance_uuid
WHERE f.deleted = 0 AND i.project_id IS NOT NULL GROUP BY i.project_id"""

_INSERT = """
INSERT INTO quota_usages (created_at, project_id, resource, in_use, reserved, until_refresh, deleted)
SELECT UTC_TIMESTAMP(), %s, %s, %s, 0, NULL, 0 FROM DUAL WHERE NOT EXISTS (
  SELECT 1 FROM quota_usages AS present WHERE project_id = %s AND resource = %s AND deleted = 0)"""
_INSERT_PER_USER = """
INSERT INTO quota_usages (created_at, project_id, resource, user_id, in_use, reserved, until_refresh, deleted)
SELECT UTC_TIMESTAMP(), %s, %s, %s, %s, 0, NULL, 0 FROM DUAL WHERE NOT EXISTS (
  SELECT 1 FROM quota_usages AS present
  WHERE project_id = %s AND resource = %s AND user_id <=> %s AND deleted = 0)"""
_DELETE = "DELETE FROM quota_usages WHERE id = %s AND deleted = 0 AND in_use = %s AND reserved = 0"
_UPDATE = """
UPDATE quota_usages SET in_use = %s, reserved = %s, updated_at = UTC_TIMESTAMP()
WHERE id = %s AND deleted = 0 AND in_use = %s AND reserved = %s"""
_UPDATE_BACK = """
UPDATE quota_usages SET in_use = %s, reserved = %s, updated_at = %s
WHERE id = %s AND deleted = 0 AND in_use = %s AND reserved = %s"""
_SOFT_DELETE = """
UPDATE quota_usages SET deleted = id, deleted_at = UTC_TIMESTAMP()
WHERE id = %s AND deleted = 0 AND in_use = %s AND reserved = %s"""
_UNDELETE = "UPDATE quota_usages SET deleted = 0, deleted_at = %s WHERE id = %s AND deleted = id"
_MOVE = "UPDATE reservations SET usage_id = %s WHERE id = %s AND usage_id = %s AND deleted = 0"
# What a row is now, for the message when it is not as it was seen.
_ROW = "SELECT id, in_use, reserved, deleted FROM quota_usages WHERE id = %s"
_SAME = """
SELECT id, in_use, reserved FROM quota_usages WHERE project_id = %s AND resource = %s AND deleted = 0"""
_SAME_PER_USER = _SAME + " AND user_id <=> %s"
_RESERVATION = "SELECT id, usage_id, delta, deleted FROM reservations WHERE id = %s"


class RepairRefusedError(TaskError):
    """A row is not as it was when the repair was planned; nothing was changed: plan it again."""


@dataclass(frozen=True)
class Change:
    """One statement of a repair: it changes one row, or none if that is not as it was seen.

    Attributes:
        why: what it does, in one line.
        sql: with a `%s` for each argument.
        args: its arguments.
        undo: the statement that takes it back, while the rows are as this one left them.
        undo_args: its arguments; INSERTED stands for the id which an insert gave.
        now: a query which shows the rows it is about, and its arguments.
    """

    why: str
    sql: str
    args: tuple[Any, ...]
    undo: str
    undo_args: tuple[Any, ...]
    now: tuple[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Repair:
    """What makes the quota cache right again.

    Attributes:
        changes: the statements in their order; none if all is right.
    """

    changes: tuple[Change, ...] = field(default=())

    @property
    def statements(self) -> list[tuple[str, tuple[Any, ...]]]:
        """Each statement with its arguments."""
        return [(change.sql, change.args) for change in self.changes]

    @property
    def sql(self) -> str:
        """The repair as a script to read, or to give to `mysql` while nothing writes to the database."""
        if not self.changes:
            return "-- Nothing to repair.\n"
        return _script(
            [f"Repairs the quota cache: {len(self.changes)} statements."],
            [(change.why, change.sql, change.args) for change in self.changes],
        )


def read(task: Task, *, database: str = "nova") -> Result:
    """Read the quota cache, and count what is in use.

    Returns:
        A dict: `per_user` (the rows have a user: Havana), `usages` (id, project_id, user_id, resource,
        in_use, reserved, updated_at, deleted_at of the live rows), `reservations` (id, usage_id, reserved of
        the live ones) and `actual` (project_id, user_id, resource, actual; none where nothing is in use).
    """
    mysql = databases.mysql(task)

    def query(sql: str) -> list[Row]:
        rows: list[Row] = mysql.query(sql, database=database)
        return rows

    per_user = bool(query("SHOW COLUMNS FROM quota_usages LIKE 'user_id'"))
    by = {"user": "user_id", "key": "project_id, user_id"} if per_user else {"user": "NULL", "key": "project_id"}
    counted = [_INSTANCES.format(**by), _SECURITY_GROUPS.format(**by), _FLOATING_IPS]
    if per_user:  # Grizzly's own sync gives 0 for fixed_ips
        counted.append(_FIXED_IPS)
    facts = {
        "per_user": per_user,
        "usages": query(_USAGES.format(**by)),
        "reservations": [{**row, "reserved": int(row["reserved"])} for row in query(_RESERVATIONS)],
        "actual": [use for sql in counted for row in query(sql) for use in _uses(row)],
    }
    return Result(host=task.host, result=facts)


def _uses(row: Row) -> list[Row]:
    identity = {"project_id": row["project_id"], "user_id": row["user_id"]}
    return [
        {**identity, "resource": resource, "actual": int(amount)}
        for resource, amount in row.items()
        if resource not in identity and amount
    ]


def plan_repair(rows: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> Repair:
    """Plan what makes every row `ok`.

    Missing rows are inserted, wrong and leaked ones updated. Orphans, and all but the newest of duplicates,
    are soft-deleted as nova does (deleted = id): a reservation, even a deleted one, may refer to them for
    ever. Live reservations of a superfluous row move to the one that is kept.

    Args:
        rows: the quota table's rows with their `id`, NULL as None (`reports.tables.quotas.records`).
        facts: what `read` gave, from which the rows were made.

    Raises:
        ValueError: a row has a status that is not the quota table's.
    """
    plan = _Plan(facts)
    copies: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        status = row["status"]
        if status == "orphan":
            plan.remove(row, "an orphan: it has no project")
        elif status == "duplicate":
            copies.setdefault(_identity(row), []).append(row)
        elif status == "missing":
            plan.insert(row)
        elif status in ("wrong", "leaked"):
            plan.update(row, int(row["reserved_actual"]))
        elif status != "ok":
            raise ValueError(f"a row of the quota table has the unknown status {status!r}")
    for same in copies.values():
        plan.merge(sorted(same, key=lambda row: int(row["id"])))
    return Repair(tuple(plan.changes))


def apply(
    task: Task,
    *,
    repair: Repair,
    database: str = "nova",
    keep_undo: Callable[[str], None] | None = None,
) -> Result:
    """Make a repair in one transaction: all of it, or nothing.

    Args:
        task: on the node of the API cell's database.
        repair: as `plan_repair` made it.
        database: the schema's name.
        keep_undo: given the undo script before the commit, so that it is on disk when the change is. What it
            raises rolls the repair back.

    Returns:
        A dict: `executed` (how many statements) and `undo` (a script that takes them back; rows which
        somebody changed since stay as they are).

    Raises:
        RepairRefusedError: a row is not as it was when the repair was planned; nothing is changed.
    """
    mysql = databases.mysql(task)
    undo = "-- Nothing was changed: nothing to undo.\n"
    try:
        if repair.changes:
            with mysql.transaction(database) as transaction:
                undone = [_carried_out(transaction, change) for change in repair.changes]
                undo = _script(_ABOUT_UNDO, undone[::-1])
                if keep_undo:
                    keep_undo(undo)
    except _NotAsSeenError as error:
        change = error.change
        now = _shown(mysql.query(*change.now, database=database))
        raise RepairRefusedError(
            f"nothing was repaired: could not {change.why}; it changed meanwhile, now: {now}. Check again"
        ) from None
    result = {"executed": len(repair.changes), "undo": undo}
    return Result(host=task.host, result=result, changed=bool(repair.changes))


class _Transaction(Protocol):
    lastrowid: int

    def execute(self, sql: str, args: tuple[Any, ...]) -> int: ...


class _NotAsSeenError(Exception):
    def __init__(self, change: Change) -> None:
        super().__init__(change.why)
        self.change = change


def _carried_out(transaction: _Transaction, change: Change) -> tuple[str, str, tuple[Any, ...]]:
    """Execute a change, and give what undoes it."""
    if transaction.execute(change.sql, change.args) != 1:
        raise _NotAsSeenError(change)
    args = (transaction.lastrowid if arg is INSERTED else arg for arg in change.undo_args)
    return f"undo: {change.why}", change.undo, tuple(args)


_ABOUT_UNDO = [
    "Takes the repair of the quota cache back, in reverse order.",
    "Rows which somebody changed since the repair are left as they are.",
]


class _Plan:
    """Collects the changes; knows each row's timestamps and live reservations."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self.changes: list[Change] = []
        self._per_user: bool = facts["per_user"]
        self._seen: dict[int, Row] = {int(row["id"]): row for row in facts["usages"]}
        self._held: dict[int, list[Row]] = {}
        for row in facts["reservations"]:
            self._held.setdefault(int(row["usage_id"]), []).append(row)

    def insert(self, row: Mapping[str, Any]) -> None:
        user = (row["user_id"],) if self._per_user else ()
        identity = (row["project_id"], row["resource"], *user)
        actual = int(row["actual"])
        self.changes.append(
            Change(
                why=f"insert {_told(row)}: in_use {actual}",
                sql=_INSERT_PER_USER if self._per_user else _INSERT,
                args=(*identity, actual, *identity),
                undo=_DELETE,
                undo_args=(INSERTED, actual),
                now=(_SAME_PER_USER if self._per_user else _SAME, identity),
            )
        )

    def update(self, row: Mapping[str, Any], reserved: int) -> None:
        usage, seen, right = int(row["id"]), _amounts(row), (int(row["actual"]), reserved)
        if seen == right:
            return
        self.changes.append(
            Change(
                why=f"update {_told(row)}: in_use {seen[0]} -> {right[0]}, reserved {seen[1]} -> {right[1]}",
                sql=_UPDATE,
                args=(*right, usage, *seen),
                undo=_UPDATE_BACK,
                undo_args=(*seen, self._seen[usage]["updated_at"], usage, *right),
                now=(_ROW, (usage,)),
            )
        )

    def remove(self, row: Mapping[str, Any], reason: str) -> None:
        usage = int(row["id"])
        self.changes.append(
            Change(
                why=f"soft-delete {_told(row)}, {reason}",
                sql=_SOFT_DELETE,
                args=(usage, *_amounts(row)),
                undo=_UNDELETE,
                undo_args=(self._seen[usage]["deleted_at"], usage),
                now=(_ROW, (usage,)),
            )
        )

    def merge(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Keep the last of these rows of one identity, with the live reservations of all."""
        kept, ids = rows[-1], [int(row["id"]) for row in rows]
        for row, usage in zip(rows[:-1], ids, strict=False):
            self._move(usage, ids[-1])
            self.remove(row, f"a duplicate of row {ids[-1]}")
        self.update(kept, sum(int(held["reserved"]) for usage in ids for held in self._held.get(usage, [])))

    def _move(self, usage: int, kept: int) -> None:
        for reservation in self._held.get(usage, []):
            number = int(reservation["id"])
            self.changes.append(
                Change(
                    why=f"move live reservation {number} from row {usage} to row {kept}",
                    sql=_MOVE,
                    args=(kept, number, usage),
                    undo=_MOVE,
                    undo_args=(usage, number, kept),
                    now=(_RESERVATION, (number,)),
                )
            )


def _amounts(row: Mapping[str, Any]) -> tuple[int, int]:
    return int(row["in_use"]), int(row["reserved"])


def _identity(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Equal where nova's tables (utf8_general_ci) call two rows' identities equal."""
    parts = (row["project_id"], row["user_id"], row["resource"])
    return tuple("\0" if part is None else str(part).rstrip(" ").lower() for part in parts)


def _told(row: Mapping[str, Any]) -> str:
    """A row in words; identifiers as JSON, so that none can end the line of a comment."""
    user = "" if row["user_id"] is None else f" user {json.dumps(row['user_id'])}"
    project = "NULL" if row["project_id"] is None else json.dumps(row["project_id"])
    number = "" if row.get("id") is None else f"row {int(row['id'])}, "
    return f"{number}{row['resource']} of project {project}{user}"


def _shown(rows: Sequence[Row]) -> str:
    told = ["(" + ", ".join(f"{column} {value}" for column, value in row.items()) + ")" for row in rows[:5]]
    more = f" and {len(rows) - 5} more" if len(rows) > 5 else ""
    return (", ".join(told) or "no such row") + more


def _script(about: Sequence[str], statements: Iterable[tuple[str, str, Sequence[Any]]]) -> str:
    lines = [*(f"-- {line}" for line in about), "SET NAMES utf8mb4;", "START TRANSACTION;"]
    for why, sql, args in statements:
        literal = tuple(escape_item(arg, "utf8mb4") for arg in args)
        lines += [f"-- {why}", f"{sql.strip() % literal};"]
    return "\n".join([*lines, "COMMIT;", ""])
