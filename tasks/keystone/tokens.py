"""Expired tokens: counted, and deleted a few at a time.

Grizzly has no command for it, and no index on `expires`; Havana's deletes all of them in one statement. Here the table
is read in windows of its primary key, each by one short query that locks nothing. What has expired is then deleted by
primary key, a batch a transaction: no token that is valid is locked, and replicas get short transactions whose
statements mean the same to them. The clock is the database's, at the beginning.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from nornir.core.task import Result, Task

from plugins.connections.errors import (
    AuthenticationRefused,
    CommandTimeout,
    ConnectionLost,
    DatabaseError,
    Unreachable,
)
from plugins.connections.mysql import Mysql
from tasks import databases
from tasks.binding import binding_of
from tasks.errors import Refused
from tasks.holds import changed, unchanged
from tasks.shell import will_change

WINDOW = 5000
"""Rows a query reads."""

LOCKED = {1205, 1213}
"""Lock wait timeout, deadlock (which is what Galera says, too, when another of its servers was first)."""

LOCK_WAIT_S = 5
TRIES = 3
RETRY_S = 1.0
PATIENCE_S = 60.0

T = TypeVar("T")

_TABLE = (
    "SELECT COALESCE(table_rows, 0) AS about FROM information_schema.tables"
    " WHERE table_schema = DATABASE() AND table_name = 'token'"
)
_CLOCK = "SELECT UTC_TIMESTAMP() AS now"
_FIRST = "SELECT id, expires < %s AS expired FROM token ORDER BY id LIMIT %s"
_NEXT = "SELECT id, expires < %s AS expired FROM token WHERE id > %s ORDER BY id LIMIT %s"
# Without the hint a small table is scanned, and every row of it locked; only this form of DELETE takes one.
_DELETE = "DELETE gone FROM token AS gone FORCE INDEX (PRIMARY) WHERE gone.id IN ({marks}) AND gone.expires < %s"


@dataclass
class Tally:
    """How far it is. The task counts here as it goes, so that it is known however it ends.

    Attributes:
        about: rows of the table, as the server estimates them; 0 where it does not.
        until: tokens that expired before this time (UTC) count, by the database's clock.
        seen: rows read.
        expired: of these, how many have expired.
        endless: of these, how many never expire.
        deleted: how many were deleted.
        locked: how many were left, because another session kept them locked.
        whole: the table was gone through to its end.
    """

    about: int = 0
    until: str = ""
    seen: int = 0
    expired: int = 0
    endless: int = 0
    deleted: int = 0
    locked: int = 0
    whole: bool = False


def count(
    task: Task,
    *,
    database: str,
    tally: Tally,
    stopping: threading.Event,
    progress: Callable[[], None] = lambda: None,
) -> Result:
    """Count the tokens, and those that have expired, into `tally`.

    Args:
        task: on the node of keystone's database.
        database: the schema's name.
        tally: gets the counts.
        stopping: once set, the count ends after the window that is read.
        progress: called after each window.

    Raises:
        Refused: it is not keystone's database.
    """
    mysql = _begin(task, database, tally)
    for _ in _windows(mysql, database, tally, stopping):
        progress()
    return unchanged(task, tally)


def purge(
    task: Task,
    *,
    database: str,
    tally: Tally,
    stopping: threading.Event,
    progress: Callable[[], None] = lambda: None,
    batch: int = 1000,
    pause_s: float = 0.1,
) -> Result:
    """Delete the tokens that have expired, counting into `tally`.

    Args:
        task: on the node of keystone's database.
        database: the schema's name.
        tally: gets the counts.
        stopping: once set, the purge ends after the batch that is under way.
        progress: called after each window and each batch.
        batch: rows a transaction.
        pause_s: seconds between two transactions, at least; as long as the last one took, where that is longer.

    Raises:
        Refused: it is not keystone's database.
        plugins.connections.errors.TransportError: the database cannot be reached, or refuses the statement.
    """
    mysql = _begin(task, database, tally)
    will_change(task, "the purge of expired tokens")
    for expired in _windows(mysql, database, tally, stopping):
        progress()
        for start in range(0, len(expired), batch):
            if stopping.is_set():
                break
            began = time.monotonic()
            _delete(task, mysql, database, tally, expired[start : start + batch], stopping)
            progress()
            stopping.wait(max(pause_s, time.monotonic() - began))
    return Result(host=task.host, result=tally, changed=tally.deleted > 0)


def purge_all(task: Task, *, database: str) -> Result:
    """As `purge`, as a step of a run: to the end of the table.

    Raises:
        Refused: it is not keystone's database.
        plugins.connections.errors.TransportError: the database cannot be reached, or refuses the statement.
    """
    tally, never = Tally(), threading.Event()
    if task.is_dry_run():
        count(task, database=database, tally=tally, stopping=never)
        return changed(task, f"would delete {tally.expired:,} of {tally.seen:,} tokens")
    purge(task, database=database, tally=tally, stopping=never)
    left = f"; {tally.locked:,} were left: another session kept some of them locked" if tally.locked else ""
    words = f"{tally.deleted:,} expired tokens of {tally.seen:,} deleted{left}"
    return changed(task, words) if tally.deleted else unchanged(task, words)


def _begin(task: Task, database: str, tally: Tally) -> Mysql:
    mysql = databases.mysql(task)
    table = mysql.query(_TABLE, database=database)
    if not table:
        raise Refused(f"the database {database} has no table token: it is not keystone's; see databases in cloud.yaml")
    tally.about = int(table[0]["about"])
    tally.until = str(mysql.query(_CLOCK, database=database)[0]["now"])
    return mysql


def _windows(mysql: Mysql, database: str, tally: Tally, stopping: threading.Event) -> Iterator[Sequence[str]]:
    """The ids that have expired, a window of the table at a time, in the order of the primary key."""
    sql = _FIRST
    args: list[Any] = [tally.until, WINDOW]
    while not stopping.is_set():
        rows = _patiently(partial(mysql.query, sql, args, database=database), stopping)
        expired = [row["id"] for row in rows if row["expired"]]
        tally.seen += len(rows)
        tally.expired += len(expired)
        tally.endless += sum(row["expired"] is None for row in rows)
        yield expired
        if len(rows) < WINDOW:
            tally.whole = not stopping.is_set()
            return
        sql, args = _NEXT, [tally.until, rows[-1]["id"], WINDOW]


def _delete(
    task: Task, mysql: Mysql, database: str, tally: Tally, ids: Sequence[str], stopping: threading.Event
) -> None:
    """Delete a batch, once more where it was locked or the connection broke: what is gone already is gone."""
    binding = binding_of(task)
    sql = _DELETE.format(marks=", ".join(["%s"] * len(ids)))
    uncertain = False

    def once() -> int:
        nonlocal uncertain
        if binding is not None:
            binding.still_ours()
        before = uncertain
        try:
            with mysql.transaction(database) as transaction:
                # A row that another session keeps is waited for briefly: the batch keeps its own meanwhile. InnoDB as
                # it is built into MySQL 5.1 refuses this, and has the setting for the whole server alone.
                with contextlib.suppress(DatabaseError):
                    transaction.execute("SET SESSION innodb_lock_wait_timeout = %s", (LOCK_WAIT_S,))
                uncertain = True  # until the commit's answer is here
                deleted = transaction.execute(sql, (*ids, tally.until))
        except DatabaseError:
            uncertain = before  # refused: it deleted nothing
            raise
        # Rows that a try without an answer has deleted are not there any more to be counted.
        return len(ids) if before else deleted

    for _ in range(TRIES):
        try:
            tally.deleted += _patiently(once, stopping)
        except DatabaseError as error:
            if error.errno not in LOCKED:
                raise
            stopping.wait(RETRY_S)
        else:
            return
    tally.locked += len(ids)


def _patiently(ask: Callable[[], T], stopping: threading.Event) -> T:
    """Ask again while the database does not answer, for a minute: it may be restarted meanwhile.

    Raises:
        plugins.connections.errors.TransportError: the last try's.
    """
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except AuthenticationRefused:
            raise
        except (Unreachable, ConnectionLost, CommandTimeout):
            if time.monotonic() >= deadline or stopping.wait(RETRY_S):
                raise
