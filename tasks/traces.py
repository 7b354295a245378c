"""What the databases know of volumes, guests and images: those that are there, and what was done to them since a time.

Times are texts in ISO 8601 UTC (2014-02-24T16:00:00Z), which sort as times do. All services write UTC.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from nornir.core.task import Task

from tasks.databases import mysql

Row = dict[str, Any]

CHANGES = {
    "instances": "SELECT uuid, host, vm_state, task_state, deleted<>0 AS deleted, display_name AS name, user_id,"
    " created_at, updated_at, deleted_at, terminated_at, launched_at FROM instances WHERE created_at>=%s"
    " OR updated_at>=%s OR deleted_at>=%s OR terminated_at>=%s OR launched_at>=%s ORDER BY uuid",
    # When an action came to its end is in its events alone: its own finish_time is mostly empty.
    "actions": "SELECT a.id, a.instance_uuid AS uuid, a.action, a.user_id, a.start_time, a.finish_time, a.message,"
    " MAX(e.finish_time) AS ended_at, COUNT(e.id)-COUNT(e.finish_time) AS unended, SUM(e.result='Error')>0 AS failed"
    " FROM instance_actions a LEFT JOIN instance_actions_events e ON e.action_id=a.id"
    " WHERE a.start_time>=%s OR a.updated_at>=%s GROUP BY a.id, a.instance_uuid, a.action, a.user_id, a.start_time,"
    " a.finish_time, a.message ORDER BY a.start_time, a.id",
    "attachments": "SELECT volume_id, instance_uuid, deleted<>0 AS deleted, created_at, deleted_at"
    " FROM block_device_mapping WHERE volume_id IS NOT NULL AND (created_at>=%s OR deleted_at>=%s) ORDER BY id",
    "volumes": "SELECT id, status, deleted<>0 AS deleted, user_id, attach_time, created_at, updated_at, deleted_at,"
    " terminated_at, launched_at FROM volumes WHERE created_at>=%s OR updated_at>=%s OR deleted_at>=%s"
    " OR terminated_at>=%s OR launched_at>=%s ORDER BY id",
    "transfers": "SELECT volume_id, deleted_at FROM transfers WHERE deleted_at>=%s ORDER BY deleted_at",
    "images": "SELECT id, status, deleted<>0 AS deleted, owner, created_at, updated_at, deleted_at FROM images"
    " WHERE created_at>=%s OR updated_at>=%s OR deleted_at>=%s ORDER BY id",
}
"""What was touched since a time, which is each `%s`."""

NOVA, CINDER, GLANCE = ("instances", "actions", "attachments"), ("volumes", "transfers"), ("images",)


def clock(task: Task) -> str:
    """The time by the database server's own clock."""
    return str(_text(mysql(task).query("SELECT UTC_TIMESTAMP() AS now")[0]["now"]))


def volumes(task: Task, database: str) -> list[Row]:
    """The volume list as Cinder's database has it: what `nova volume-list --all-tenants` shows, project and device."""
    rows = mysql(task).query(
        "SELECT id, display_name AS name, project_id, status, size AS size_gib, instance_uuid AS attached_to,"
        " attach_status, mountpoint FROM volumes WHERE deleted=0 ORDER BY id",
        database=database,
    )
    return [{key: "" if value is None else value for key, value in row.items()} for row in rows]


def images(task: Task, database: str) -> list[Row]:
    """The live images as Glance's database has them: id, name, status, is_public, owner, size, checksum, protected."""
    rows = mysql(task).query(
        "SELECT id, name, status, is_public, owner, size, checksum, protected FROM images WHERE deleted=0 ORDER BY id",
        database=database,
    )
    return [{key: "" if value is None else value for key, value in row.items()} for row in rows]


def instances(task: Task, database: str) -> list[Row]:
    """The live instances: uuid, host ("" where it has none), vm_state."""
    rows = mysql(task).query(
        "SELECT uuid, host, vm_state FROM instances WHERE deleted=0 AND uuid IS NOT NULL ORDER BY uuid",
        database=database,
    )
    return [{key: "" if value is None else value for key, value in row.items()} for row in rows]


def changes(task: Task, databases: Mapping[str, str], since: str) -> dict[str, list[Row]]:
    """The rows that were touched since a time, deleted ones too.

    Args:
        task: the Nornir task.
        databases: of `CHANGES`, the name of the database that each is asked of.
        since: the time, by that server's clock.

    Returns:
        The rows of each; a table that the release does not have (Grizzly has no transfers) has none.
    """
    found: dict[str, list[Row]] = {}
    time = datetime.fromisoformat(since).strftime("%Y-%m-%d %H:%M:%S")
    for what, database in databases.items():
        sql = CHANGES[what]
        rows = []
        if what != "transfers" or _has(task, database, "transfers"):
            rows = mysql(task).query(sql, (time,) * sql.count("%s"), database=database)
        found[what] = [{key: _text(value) for key, value in row.items()} for row in rows]
    return found


def _has(task: Task, database: str, table: str) -> bool:
    asked = "SELECT COUNT(*) AS n FROM information_schema.tables WHERE table_schema=%s AND table_name=%s"
    return bool(mysql(task).query(asked, (database, table), database=database)[0]["n"])


def earlier(time: str, seconds: float) -> str:
    """A time so many seconds before another, as a text; its fraction of a second is cut off."""
    return _written(datetime.fromisoformat(time).astimezone(UTC) - timedelta(seconds=seconds))


def _text(value: Any) -> Any:
    """Times as texts; "" for what is not there."""
    if isinstance(value, datetime):
        return _written(value.replace(tzinfo=UTC))
    return "" if value is None else value


def _written(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
