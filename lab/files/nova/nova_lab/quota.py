"""Quota usage, counted as the release counts it: Grizzly by project, Havana by user and project."""

import uuid

import pymysql

from nova_lab import db, release

DEFAULTS = {"instances": 10, "cores": 20, "ram": 51200}
COUNTS = {"instances": "COUNT(id)", "cores": "COALESCE(SUM(vcpus), 0)", "ram": "COALESCE(SUM(memory_mb), 0)"}


class OverQuota(Exception):
    """A limit would be passed."""


def _actual(cursor, resource, project_id, user_id):
    sql, args = f"SELECT {COUNTS[resource]} AS n FROM instances WHERE deleted = 0 AND project_id = %s", [project_id]
    if user_id is not None:
        sql, args = sql + " AND user_id = %s", [*args, user_id]
    cursor.execute(sql, args)
    return cursor.fetchone()["n"]


def _usage(cursor, resource, project_id, user_id):
    """The live row, made or counted anew where it is missing or negative. Only this user's row is touched."""
    where, args = "project_id = %s AND resource = %s AND deleted = 0", [project_id, resource]
    if user_id is not None:
        where, args = where + " AND user_id = %s", [*args, user_id]
    cursor.execute(f"SELECT id, in_use, reserved FROM quota_usages WHERE {where} FOR UPDATE", args)
    row = cursor.fetchone()
    if row is None:
        extra, mark = ("", "") if user_id is None else (", user_id", ", %s")
        cursor.execute(
            "INSERT INTO quota_usages (created_at, updated_at, project_id, resource, in_use, reserved, deleted"
            f"{extra}) VALUES (UTC_TIMESTAMP(), UTC_TIMESTAMP(), %s, %s, -1, 0, 0{mark})",
            [project_id, resource] + ([] if user_id is None else [user_id]),
        )
        row = {"id": cursor.lastrowid, "in_use": -1, "reserved": 0}
    if row["in_use"] < 0:
        row["in_use"] = _actual(cursor, resource, project_id, user_id)
        cursor.execute("UPDATE quota_usages SET in_use = %s WHERE id = %s", (row["in_use"], row["id"]))
    return row


def reserve(connection, project_id, user_id, deltas):
    """Reserve in one transaction; what commit() and rollback() take.

    Raises OverQuota when the project's total would pass its limit.
    """
    owner = user_id if release.PER_USER_QUOTAS else None
    made = []
    connection.begin()
    try:
        with connection.cursor(pymysql.cursors.DictCursor) as cursor:
            for resource, delta in deltas.items():
                row = _usage(cursor, resource, project_id, owner)
                cursor.execute(
                    "SELECT SUM(in_use + reserved) AS total FROM quota_usages WHERE project_id = %s AND resource = %s"
                    " AND deleted = 0",
                    (project_id, resource),
                )
                total = cursor.fetchone()["total"] or 0
                cursor.execute(
                    "SELECT hard_limit FROM quotas WHERE project_id = %s AND resource = %s AND deleted = 0",
                    (project_id, resource),
                )
                own = cursor.fetchone()
                limit = own["hard_limit"] if own else DEFAULTS[resource]
                if delta > 0 and 0 <= limit < total + delta:
                    raise OverQuota(f"Quota exceeded for {resource}: Requested {delta}, but already used {total} of {limit}")
                extra, mark = ("", "") if owner is None else (", user_id", ", %s")
                cursor.execute(
                    f"INSERT INTO reservations (created_at, uuid, usage_id, project_id, resource, delta, expire, deleted{extra})"
                    f" VALUES (UTC_TIMESTAMP(), %s, %s, %s, %s, %s, UTC_TIMESTAMP() + INTERVAL 1 DAY, 0{mark})",
                    [str(uuid.uuid4()), row["id"], project_id, resource, delta] + ([] if owner is None else [owner]),
                )
                made.append((cursor.lastrowid, row["id"], delta))
                if delta > 0:
                    cursor.execute("UPDATE quota_usages SET reserved = reserved + %s WHERE id = %s", (delta, row["id"]))
        connection.commit()
    except BaseException:  # raised again: all of it or nothing
        connection.rollback()
        raise
    return made


def _end(connection, made, *, use):
    connection.begin()
    try:
        for reservation, usage, delta in made:
            db.execute(
                connection,
                "UPDATE quota_usages SET in_use = in_use + %s, reserved = reserved - %s, updated_at = UTC_TIMESTAMP()"
                " WHERE id = %s",
                (delta if use else 0, max(delta, 0), usage),
            )
            db.execute(
                connection,
                "UPDATE reservations SET deleted = id, deleted_at = UTC_TIMESTAMP() WHERE id = %s",
                (reservation,),
            )
        connection.commit()
    except BaseException:  # raised again: all of it or nothing
        connection.rollback()
        raise


def commit(connection, made):
    _end(connection, made, use=True)


def rollback(connection, made):
    _end(connection, made, use=False)


def used(connection, project_id):
    """What the limits API shows; reading heals nothing."""
    found = db.rows(
        connection,
        "SELECT resource, SUM(in_use) AS n FROM quota_usages WHERE project_id = %s AND deleted = 0 GROUP BY resource",
        (project_id,),
    )
    return {row["resource"]: int(row["n"]) for row in found}
