"""A repair is written in one transaction: each row is compared with what was seen, and all of them change, or none."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nornir.core.task import Result, Task

from plugins.connections.errors import DatabaseError
from plugins.connections.mysql import Mysql, Transaction, repeatable
from tasks import databases
from tasks.errors import TaskError
from tasks.quotas import sql
from tasks.quotas.repair import Change, Repair

_LOCKED = {1205, 1213}  # lock wait timeout, deadlock
_SHOWN = 5
_ABOUT_UNDO = [
    "Takes the repair of the quota cache back, in reverse order.",
    "Rows which somebody changed since the repair are left as they are.",
]
_NOTHING = "-- Nothing was changed: nothing to undo.\n"


class RepairRefusedError(TaskError):
    """A row is not as it was when the repair was planned; nothing was changed: plan it again."""


class _NotAsSeenError(Exception):
    """Fewer rows changed than the statement has."""

    def __init__(self, changes: Sequence[Change]) -> None:
        super().__init__(changes[0].why)
        self.changes = changes


def apply(
    task: Task,
    *,
    repair: Repair,
    database: str = "nova",
    keep_undo: Callable[[str], None] | None = None,
) -> Result:
    """Make a repair in one transaction: all of it, or nothing.

    Args:
        task: on the database's node.
        repair: as `plan_repair` made it.
        database: the schema's name.
        keep_undo: given the undo script before the commit, so that it is on disk when the change is. What it
            raises rolls the repair back.

    Returns:
        A dict: `executed` (how many rows were changed) and `undo` (a script that takes that back; rows which
        somebody changed since stay as they are).

    Raises:
        RepairRefusedError: a row is not as it was when the repair was planned; nothing is changed.
    """
    mysql = databases.mysql(task)
    undo = _NOTHING
    try:
        if repair.changes:
            with mysql.transaction(database) as transaction:
                undo = _carried_out(transaction, repair)
                if keep_undo:
                    keep_undo(undo)
    except _NotAsSeenError as error:
        change, now = _culprit(mysql, database, repair.dialect, error.changes)
        raise RepairRefusedError(
            f"nothing was repaired: could not {change.why}; it changed meanwhile, now: {now}. Check again"
        ) from None
    except DatabaseError as error:
        if error.errno not in _LOCKED:
            raise
        raise RepairRefusedError(
            f"nothing was repaired: others write to these rows ({error.errno}: {error.reason}). Check again"
        ) from error
    result = {"executed": len(repair.changes), "undo": undo}
    return Result(host=task.host, result=result, changed=bool(repair.changes))


def _carried_out(transaction: Transaction, repair: Repair) -> str:
    """Execute the statements, and give the script that undoes them."""
    repeatable(transaction)
    transaction.execute("START TRANSACTION")
    now = f"'{transaction.query('SELECT UTC_TIMESTAMP() AS now')[0]['now']}'"
    newest = transaction.query("SELECT COALESCE(MAX(id), 0) AS id FROM quota_usages")[0]["id"]
    undone: list[tuple[list[str], str, Sequence[Any]]] = []
    dialect = repair.dialect

    def undoing(why: list[str], kind: str, rows: Sequence[Sequence[Any]]) -> None:
        text, args = dialect.undo(kind, rows)
        undone.append((why, text.replace(sql.NOW, now), args))

    for changes, text, args in repair.batches():
        if transaction.execute(text.replace(sql.NOW, now), args) != len(changes):
            raise _NotAsSeenError(changes)
        if changes[0].kind != "insert":
            undoing([f"undo: {change.why}" for change in changes], changes[0].kind, [change.args for change in changes])
    # What others insert is not seen here.
    inserted = transaction.query("SELECT id, in_use FROM quota_usages WHERE id > %s ORDER BY id", (newest,))
    for rows in sql.batches(inserted, lambda _: "insert"):
        ids = [(int(row["id"]), int(row["in_use"])) for row in rows]
        undoing([f"undo: insert rows {ids[0][0]} to {ids[-1][0]}"], "insert", ids)
    return sql.script(_ABOUT_UNDO, undone[::-1])


def _culprit(mysql: Mysql, database: str, dialect: sql.Dialect, changes: Sequence[Change]) -> tuple[Change, str]:
    """The change that found another row than was seen, and what is there now."""
    for change, rows in _as_they_are(mysql, database, dialect, changes):
        seen = dict(zip(dialect.columns(change.kind), change.args, strict=True))
        wanted = {name.removeprefix("seen_"): value for name, value in seen.items() if name.startswith("seen_")}
        wanted |= {"deleted": 0}
        if change.kind == "insert":
            if rows:
                return change, _shown(rows)
        elif not rows or any(rows[0][name] != value for name, value in wanted.items()):
            return change, _shown(rows)
    return changes[0], "as it was: it changed back"


def _as_they_are(
    mysql: Mysql, database: str, dialect: sql.Dialect, changes: Sequence[Change]
) -> Iterator[tuple[Change, list[dict[str, Any]]]]:
    """Each change with the rows that it is about, as they are now."""
    kind = changes[0].kind
    if kind == "insert":
        same = "SELECT id, in_use, reserved FROM quota_usages WHERE project_id = %s"
        same += f"{' AND user_id <=> %s' if dialect.per_user else ''} AND BINARY resource = %s AND deleted = 0"
        for change in changes:
            yield change, mysql.query(same, change.args[: len(dialect.columns(kind)) - 2], database=database)
        return
    if kind in ("move", "end"):
        what = "id, usage_id, delta, deleted FROM reservations"
    else:
        what = "id, in_use, reserved, deleted, updated_at FROM quota_usages"
    marks = ", ".join(["%s"] * len(changes))
    found = mysql.query(
        f"SELECT {what} WHERE id IN ({marks})",
        [change.args[0] for change in changes],
        database=database,
    )
    by_id = {row["id"]: row for row in found}
    for change in changes:
        row = by_id.get(change.args[0])
        yield change, [row] if row else []


def _shown(rows: Sequence[dict[str, Any]]) -> str:
    told = ["(" + ", ".join(f"{column} {value}" for column, value in row.items()) + ")" for row in rows[:_SHOWN]]
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return (", ".join(told) or "no such row") + more
