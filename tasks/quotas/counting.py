"""What the quota cache says, and what is in use, counted as the release's own sync functions count it.

Nova (nova/quota.py, nova/db/sqlalchemy/api.py) counts with a user from Havana on, in Grizzly by project alone. Its
migration 216, as it was in 2013.2 to 2013.2.2 (bug 1245746), deletes the rows of instances, cores, ram and
security_groups and never counts them again. Cinder (cinder/quota.py, cinder/db/sqlalchemy/api.py) counts by project,
from Havana on by volume type as well. Which release it is, is read from the columns.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from nornir.core.task import Result, Task

from tasks import databases

Row = dict[str, Any]
COMPONENTS = ("nova", "cinder")

_USAGES = """
SELECT id, project_id, {user} AS user_id, resource, in_use, reserved, until_refresh, updated_at, deleted_at
FROM quota_usages WHERE deleted = 0 ORDER BY id"""
# All live reservations, expired ones too: the release takes them off `reserved` only when it deletes them.
# Only what is added (delta > 0) is counted in `reserved`.
_RESERVATIONS = """
SELECT r.id, r.usage_id, r.delta, COALESCE(r.expire >= UTC_TIMESTAMP(), 0) AS under_way, r.deleted_at
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

_VOLUME_TYPES = "SELECT id, name FROM volume_types WHERE deleted = 0 AND name IS NOT NULL"
_VOLUMES = """
SELECT project_id, volume_type_id, COUNT(id) AS volumes, SUM(size) AS gigabytes
FROM volumes WHERE deleted = 0 AND project_id IS NOT NULL GROUP BY project_id, volume_type_id"""
# A snapshot is of its volume's type; its project is its own.
_SNAPSHOTS = """
SELECT s.project_id, v.volume_type_id, COUNT(s.id) AS snapshots, SUM(s.volume_size) AS gigabytes
FROM snapshots AS s LEFT JOIN volumes AS v ON v.id = s.volume_id
WHERE s.deleted = 0 AND s.project_id IS NOT NULL GROUP BY s.project_id, v.volume_type_id"""
_LONGEST = 255  # quota_usages.resource is a varchar(255)


class _Asked(Protocol):
    def query(self, sql: str) -> list[Row]: ...


def read(
    task: Task,
    *,
    database: str = "nova",
    component: str = "nova",
    snapshot_gigabytes: bool = True,
    api_closed: bool = False,
) -> Result:
    """Read the quota cache, and count what is in use, all as of one moment.

    Args:
        task: on the database's node; for nova that of the API cell: child cells keep no quotas.
        database: the schema's name.
        component: one of COMPONENTS.
        snapshot_gigabytes: cinder's snapshots count among the gigabytes (no_snapshot_gb_quota is off).
        api_closed: no request is under way, whatever the reservations say.

    Returns:
        A dict of plain values. `component`; `per_user`: the rows have a user; `rules`: the other arguments of
        `reports.tables.quotas.Rules`; `usages`: the live rows; `reservations`: the live ones, with delta, what
        of it counts as `reserved`, and `under_way` (not expired, by the database's clock); `actual`: project_id,
        user_id, resource, actual, none where nothing is in use.

    Raises:
        ValueError: no such component.
    """
    if component not in COMPONENTS:
        raise ValueError(f"there is no quota usage of {component!r}; there is of: {', '.join(COMPONENTS)}")
    with databases.mysql(task).snapshot(database) as moment:
        columns = {
            row["Field"]: row.get("Collation") or "" for row in moment.query("SHOW FULL COLUMNS FROM quota_usages")
        }
        per_user = "user_id" in columns
        rules, actual = _nova(moment, per_user) if component == "nova" else _cinder(moment, snapshot_gigabytes)
        facts = {
            "component": component,
            "per_user": per_user,
            "rules": {**rules, "exact": columns.get("project_id", "").endswith("_bin")},
            "usages": moment.query(_USAGES.format(user="user_id" if per_user else "NULL")),
            "reservations": [_reservation(row, api_closed) for row in moment.query(_RESERVATIONS)],
            "actual": actual,
        }
    return Result(host=task.host, result=facts)


def _reservation(row: Row, api_closed: bool) -> Row:
    under_way = bool(row["under_way"]) and not api_closed
    return {**row, "reserved": max(int(row["delta"]), 0), "under_way": under_way}


def _nova(moment: _Asked, per_user: bool) -> tuple[dict[str, Any], list[Row]]:
    by = {"user": "user_id", "key": "project_id, user_id"} if per_user else {"user": "NULL", "key": "project_id"}
    asked = [_INSTANCES.format(**by), _SECURITY_GROUPS.format(**by), _FLOATING_IPS]
    counted = ["instances", "cores", "ram", "security_groups", "floating_ips"]
    if per_user:  # Grizzly's own sync gives 0 for them, whatever is in use, while its reservations count them
        asked.append(_FIXED_IPS)
        counted.append("fixed_ips")
    return {"counted": counted}, [use for sql in asked for row in moment.query(sql) for use in _uses(row)]


def _uses(row: Row) -> list[Row]:
    identity = {"project_id": row["project_id"], "user_id": row["user_id"]}
    return [
        {**identity, "resource": resource, "actual": int(amount)}
        for resource, amount in row.items()
        if resource not in identity and amount
    ]


def _cinder(moment: _Asked, snapshot_gigabytes: bool) -> tuple[dict[str, Any], list[Row]]:
    names: dict[str, str] = {}
    if moment.query("SHOW COLUMNS FROM snapshots LIKE 'volume_type_id'"):  # Havana: it counts by type as well
        names = {row["id"]: row["name"] for row in moment.query(_VOLUME_TYPES)}
    parts = ("volumes", "snapshots", "gigabytes")
    # Of two types of one name cinder knows one, and which is chance.
    once = [name for name in names.values() if list(names.values()).count(name) == 1]
    by_type = [f"{part}_{name}" for name in once for part in parts]
    by_type = [resource for resource in by_type if len(resource) <= _LONGEST]
    rules = {"counted": [*parts, *by_type], "by_user": [], "by_project": [], "later": by_type}
    found: dict[tuple[str, str], int] = {}
    for row in moment.query(_VOLUMES):
        _add(found, row, names, ("volumes", "gigabytes"))
    for row in moment.query(_SNAPSHOTS):
        _add(found, row, names, ("snapshots", "gigabytes") if snapshot_gigabytes else ("snapshots",))
    return rules, [
        {"project_id": project, "user_id": None, "resource": resource, "actual": amount}
        for (project, resource), amount in found.items()
        if amount
    ]


def _add(found: dict[tuple[str, str], int], row: Row, names: Mapping[str, str], parts: Iterable[str]) -> None:
    name = names.get(row["volume_type_id"])
    for part in parts:
        for resource in [part] if name is None else [part, f"{part}_{name}"]:
            identity = row["project_id"], resource
            found[identity] = found.get(identity, 0) + int(row[part] or 0)
