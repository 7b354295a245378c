"""EC2 keys while two releases of keystone run on one database: Grizzly's table and Havana's, kept in step.

Grizzly has them in `ec2_credential`, Havana in `credential`, where migration 33 moves them. A key that is in one table
alone is copied to the other as that migration would; nothing that is there is ever written over. Secrets stay in here:
no result, message or repr has one.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from nornir.core.task import Result, Task

from plugins.connections.errors import DatabaseError
from plugins.connections.mysql import Mysql
from tasks import databases
from tasks.binding import binding_of
from tasks.errors import Refused
from tasks.holds import unchanged
from tasks.keystone.keys import NEW, OLD, REFUSED, Comparison, Finding, Key, compare, digests
from tasks.shell import will_change

MOVED_BY = 33
"""The migration that moves the keys and drops Grizzly's table."""

BATCH = 200
"""Keys a transaction."""

TRANSIENT = {1205, 1213}
"""Lock wait timeout, deadlock: they may have undone the whole transaction."""

_TABLES = (
    "SELECT table_name AS name FROM information_schema.tables"
    " WHERE table_schema = DATABASE() AND table_name IN ('ec2_credential', 'credential')"
)
_READ_OLD = "SELECT access, secret, user_id, tenant_id FROM ec2_credential"
# Other kinds of credentials may have large blobs.
_READ_NEW = "SELECT id, user_id, project_id, `type`, CASE WHEN `type` = 'ec2' THEN `blob` END AS `blob` FROM credential"
# A row is copied, or deleted, only while it is as it was seen, and while the other table still has none.
_TO_NEW = """
INSERT INTO credential (id, user_id, project_id, `blob`, `type`, extra)
SELECT %s, user_id, tenant_id, %s, 'ec2', '{}' FROM ec2_credential
WHERE access = %s AND BINARY access = %s AND BINARY secret = %s
AND NOT EXISTS (SELECT 1 FROM credential AS present WHERE present.id = %s)"""
_TO_OLD = """
INSERT INTO ec2_credential (access, secret, user_id, tenant_id)
SELECT %s, %s, user_id, project_id FROM credential
WHERE id = %s AND BINARY `blob` = %s AND `type` = 'ec2'
AND NOT EXISTS (SELECT 1 FROM ec2_credential AS present WHERE present.access = %s)"""
_DELETE_NEW = """
DELETE FROM credential WHERE id = %s AND BINARY `blob` = %s AND `type` = 'ec2'
AND NOT EXISTS (SELECT 1 FROM ec2_credential AS present WHERE present.access = %s)"""
_DELETE_OLD = """
DELETE FROM ec2_credential WHERE access = %s AND BINARY access = %s AND BINARY secret = %s
AND NOT EXISTS (SELECT 1 FROM credential AS present WHERE present.id = %s)"""


_Statement: TypeAlias = Callable[[str, Key], tuple[str, tuple[Any, ...]]]


@dataclass(frozen=True)
class Standing:
    """How the two tables stand, without secrets.

    Attributes:
        in_step: how many keys both have alike.
        remembered: ids of the keys that both have, or had and one still has: what `known` is next time.
        lacking: table to the access keys that it lacks, and gets.
        copied: table to the access keys that it got now.
        removed: access keys that were deleted now, as asked for.
        findings: what is not copied, and why.
        over: why there is nothing to keep in step, "" where there is.
    """

    in_step: int = 0
    remembered: frozenset[str] = frozenset()
    lacking: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    copied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    over: str = ""

    @property
    def good(self) -> bool:
        """Whether the tables are in step."""
        return not any(self.lacking.values()) and not self.findings


def look(task: Task, *, database: str, known: Collection[str] = ()) -> Result:
    """Compare the two tables; the result is a `Standing`.

    Args:
        task: on the node of keystone's database.
        database: the schema's name.
        known: ids of keys that both tables had.

    Raises:
        Refused: it is not keystone's database.
    """
    mysql = databases.mysql(task)
    if over := _over(mysql, database):
        return unchanged(task, Standing(over=over))
    return unchanged(task, _standing(_compared(mysql, database, known), known))


def bring_in_step(
    task: Task,
    *,
    database: str,
    known: Collection[str] = (),
    copy_back: Collection[str] = (),
    delete: Collection[str] = (),
) -> Result:
    """Copy to each table what it lacks, and look again; the result is a `Standing`.

    Args:
        task: on the node of keystone's database.
        database: the schema's name.
        known: ids of keys that both tables had: one that only one of them still has was deleted, and is not copied.
        copy_back: access keys of such ones that are copied all the same.
        delete: access keys of such ones that are deleted where they still are.

    Raises:
        Refused: it is not keystone's database; or a key of `copy_back` or `delete` was not deleted from any table.
    """
    mysql = databases.mysql(task)
    if over := _over(mysql, database):
        return unchanged(task, Standing(over=over))
    before = _compared(mysql, database, known)
    found = {key.access: (table, key) for table, keys in before.deleted.items() for key in keys}
    if unknown := sorted({*copy_back, *delete} - found.keys()):
        raise Refused(f"{', '.join(unknown)}: not deleted from one table alone; nothing was written")
    copies = [(table, key) for table, keys in before.lacking.items() for key in keys]
    copies += [found[access] for access in sorted(set(copy_back))]
    removals = [found[access] for access in sorted(set(delete))]
    if copies or removals:
        will_change(task, "EC2 keys")
    copied, why = _write(task, mysql, database, copies, _insert)
    removed, why_not = _write(task, mysql, database, removals, _delete)
    after = _compared(mysql, database, known)
    standing = replace(
        _standing(after, known),
        copied={table: tuple(access for to, access in copied if to == table) for table in (OLD, NEW)},
        removed=tuple(access for _, access in removed),
    )
    standing = replace(standing, findings=(*standing.findings, *_refusals(after, {**why, **why_not})))
    return Result(host=task.host, result=standing, changed=bool(copied or removed))


def fingerprints(task: Task, *, database: str) -> Result:
    """A digest of each key: its secret, user and project, by table and access key. No secret leaves this function.

    Args:
        task: on the node of keystone's database.
        database: the schema's name.

    Returns:
        As result: `{"credential": {ACCESS: DIGEST}, "ec2_credential": ...}`, a table that is not there left out.

    Raises:
        Refused: it is not keystone's database.
    """
    mysql = databases.mysql(task)
    found = {NEW: _READ_NEW} if _over(mysql, database) else {OLD: _READ_OLD, NEW: _READ_NEW}
    with mysql.transaction(database) as snapshot:
        rows = {table: snapshot.query(sql) for table, sql in found.items()}
    return unchanged(task, {table: digests(table, rows[table]) for table in found})


def _over(mysql: Mysql, database: str) -> str:
    """Why there is nothing to keep in step; "" where both tables are there."""
    found = {row["name"].lower() for row in mysql.query(_TABLES, database=database)}
    if NEW not in found:
        raise Refused(f"the database {database} has no table {NEW}: it is not keystone's; see databases in cloud.yaml")
    if OLD in found:
        return ""
    return (
        f"there is no table {OLD} (migration {MOVED_BY} moves its keys to {NEW}, and drops it): nothing to keep in step"
    )


def _compared(mysql: Mysql, database: str, known: Collection[str]) -> Comparison:
    """Compare the tables as they are at one moment."""
    with mysql.transaction(database) as snapshot:
        return compare(snapshot.query(_READ_OLD), snapshot.query(_READ_NEW), known)


def _standing(found: Comparison, known: Collection[str]) -> Standing:
    return Standing(
        in_step=len(found.in_step),
        remembered=found.in_step | (frozenset(known) & found.present),
        lacking={table: tuple(key.access for key in keys) for table, keys in found.lacking.items()},
        findings=found.findings,
    )


def _refusals(found: Comparison, why: Mapping[str, str]) -> tuple[Finding, ...]:
    """The keys that were to be written, could not be, and are still in one table alone."""
    return tuple(
        Finding(REFUSED, key.access, key.user or "", f"not written; {table} lacks it: {why[key.access]}")
        for found_in in (found.lacking, found.deleted)
        for table, keys in found_in.items()
        for key in keys
        if key.access in why
    )


def _write(
    task: Task, mysql: Mysql, database: str, jobs: Sequence[tuple[str, Key]], statement: _Statement
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Carry out a statement for each key, in short transactions.

    Returns:
        Table and access key of those that were done, and why the others were not, by access key.
    """
    done: list[tuple[str, str]] = []
    why: dict[str, str] = {}
    binding = binding_of(task)
    for start in range(0, len(jobs), BATCH):
        written = []
        with mysql.transaction(database) as transaction:
            for table, key in jobs[start : start + BATCH]:
                try:
                    rows = transaction.execute(*statement(table, key))
                except DatabaseError as error:
                    if error.errno in TRANSIENT:
                        raise
                    why[key.access] = f"the server says {error.errno}: {error.reason}"
                    continue
                if rows:
                    written.append((table, key.access))
                else:
                    why[key.access] = "it changed meanwhile, or the other table does not tell it from another key"
            if binding is not None:
                binding.still_ours()  # what it raises rolls this back
        done += written
    return done, why


def _insert(table: str, key: Key) -> tuple[str, tuple[Any, ...]]:
    if table == NEW:
        blob = json.dumps({"access": key.access, "secret": key.secret})
        return _TO_NEW, (key.id, blob, key.access, key.access, key.secret, key.id)
    return _TO_OLD, (key.access, key.secret, key.id, key.blob, key.access)


def _delete(gone_from: str, key: Key) -> tuple[str, tuple[Any, ...]]:
    """Delete it from the table that still has it."""
    if gone_from == NEW:
        return _DELETE_OLD, (key.access, key.access, key.secret, key.id)
    return _DELETE_NEW, (key.id, key.blob, key.access)
