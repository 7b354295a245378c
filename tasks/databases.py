"""Databases: waiting for tasks, schema versions and `db sync`, heartbeats."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from nornir.core.inventory import Host
from nornir.core.task import Result, Task

from plugins.connections.mysql import Mysql
from tasks.binding import binding_of
from tasks.errors import CommandFailed, Refused
from tasks.holds import changed, skipped, unchanged
from tasks.jobs import CutOff, detached, earlier
from tasks.peers import host_of
from tasks.rehearsal import Stop, advice
from tasks.shell import sh

ASK_EVERY_S = 2.0
DUMP_TIMEOUT_S = 4 * 3600.0
SYNC_TIMEOUT_S = 4 * 3600.0
SHORTEST_S = 60.0
"""No schema change is ended sooner, however short its rehearsal was."""


@dataclass(frozen=True)
class Pace:
    """How long a schema change may take.

    Attributes:
        rehearsed_s: seconds that it took on a copy.
        warn_factor: it is late when it takes so many times as long.
        stop_factor: it is ended then, but never before `SHORTEST_S` nor after `SYNC_TIMEOUT_S`.
    """

    rehearsed_s: float
    warn_factor: float
    stop_factor: float

    @property
    def warn_s(self) -> float:
        """Seconds after which it is late."""
        return min(self.limit_s, max(SHORTEST_S / 2, self.rehearsed_s * self.warn_factor))

    @property
    def limit_s(self) -> float:
        """Seconds after which it is ended."""
        return min(SYNC_TIMEOUT_S, max(SHORTEST_S, self.rehearsed_s * self.stop_factor))


def mysql(task: Task) -> Mysql:
    """The connection to the MySQL server on the task's node, through its SSH connection where the site says so."""
    return mysql_of(task, task.host)


def mysql_of(task: Task, host: Host) -> Mysql:
    """The same to the server of another node than the task's."""
    options = host.get_connection_parameters("cellstep_mysql")
    if (options.extras or {}).get("via") == "ssh":
        host.get_connection("cellstep_ssh", task.nornir.config)
    connection: Mysql = host.get_connection("cellstep_mysql", task.nornir.config)
    return connection


def wait_for_tasks(task: Task, *, database: str, timeout_s: float, accept_stuck: bool) -> Result:
    """Wait until no instance has a task state: nothing is being built, moved or deleted.

    Raises:
        Refused: some still have one after `timeout_s` seconds; the message lists them.
    """
    deadline = time.monotonic() + timeout_s
    pause = threading.Event()
    while True:
        rows = mysql(task).query(
            "SELECT uuid, host, task_state FROM instances WHERE deleted=0 AND task_state IS NOT NULL ORDER BY uuid",
            database=database,
        )
        if not rows:
            return unchanged(task, "no instance has a task state")
        if task.is_dry_run() or time.monotonic() >= deadline:
            break
        pause.wait(ASK_EVERY_S)
    stuck = ", ".join(f"{row['uuid']} on {row['host']} ({row['task_state']})" for row in rows[:10])
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    if accept_stuck or task.is_dry_run():
        return unchanged(task, f"{len(rows)} with a task state: {stuck}{more}")
    raise Refused(f"{len(rows)} instances still have a task state after {timeout_s:.0f} s: {stuck}{more}; settle them")


Told = tuple[str, str, str]
"""What tells a schema's version where no command does: the database's node, its name, its row in migrate_version."""


def schema_version(task: Task, version: str, told_by: Told | None = None) -> int:
    """The version that the component's own command tells (`nova-manage db version`), or the database itself."""
    if told_by is not None:
        node, database, repository = told_by
        rows = mysql_of(task, host_of(task, node)).query(
            "SELECT version FROM migrate_version WHERE repository_id=%s", (repository,), database=database
        )
        if not rows:
            raise Refused(f"{node}/{database} has no version of {repository} in its table migrate_version")
        return int(rows[0]["version"])
    lines = sh(task, version, timeout=120).stdout.split()
    if not lines or not lines[-1].isdecimal():
        raise Refused(f"`{version}` printed no version: {' '.join(lines) or 'nothing'}")
    return int(lines[-1])


def sync(  # noqa: PLR0913 - a runbook gives each by its name
    task: Task,
    *,
    command: str,
    version: str,
    start: Sequence[int],
    head: int,
    stops: Sequence[Stop] = (),
    forecast_s: float | None = None,
    warn_factor: float = 2.0,
    stop_factor: float = 10.0,
    told_by: Told | None = None,
) -> Result:
    """Bring a database to the release's schema with the component's own command, from a known version only.

    Args:
        task: the Nornir task.
        command: changes the schema.
        version: prints its version.
        start: the versions that the release starts from.
        head: the version that it ends at.
        stops: where it is known to stop part-way.
        forecast_s: seconds that it took when it was rehearsed; None: that is not known, and `SYNC_TIMEOUT_S` holds.
        warn_factor: the operator is told when it takes so many times as long.
        stop_factor: it is ended when it takes so many times as long, but never before `SHORTEST_S`.
        told_by: what tells the version where `version` is "".

    Raises:
        Refused: the database is at a version from which the release does not start (a migration stopped part-way, say);
            or the command failed, was killed or took too long, and the message says at which version it is; or it ended
            well at another version.
    """
    pace = None if forecast_s is None else Pace(forecast_s, warn_factor, stop_factor)
    limit = pace.limit_s if pace else SYNC_TIMEOUT_S
    before = earlier(task, "sync", timeout=limit)
    at = schema_version(task, version, told_by)
    if at == head and before is not None and before.exit_status == 0:
        return changed(task, f"brought to version {head} by the try before, of which the end was not known")
    if at == head:
        return skipped(task, f"at version {head} already")
    if at not in {*start, *(stop.version for stop in stops if stop.rerun)}:
        known = " or ".join(str(number) for number in start)
        raise Refused(f"the schema is at version {at}, not at {known}: {advice(at, stops)}")
    if task.is_dry_run():
        return changed(task, f"would run `{command}`: {at} to {head}")
    try:
        with _told_when_late(task, command, pace):
            detached(task, command, name="sync", timeout=limit)
    except (CommandFailed, CutOff) as error:
        raise Refused(f"{error}; {_standing(task, version, told_by, at, head, stops, str(error))}") from error
    now = schema_version(task, version, told_by)
    if now != head:
        raise Refused(f"`{command}` ended well at version {now}, not {head}: {advice(now, stops)}")
    return changed(task, f"schema version {at} to {head}")


def _standing(
    task: Task, version: str, told_by: Told | None, start: int, head: int, stops: Sequence[Stop], said: str
) -> str:
    """At which version a schema change stands that did not end well, and what to do."""
    try:
        now = schema_version(task, version, told_by)
    except (CommandFailed, Refused) as error:
        return f"at which version the schema is, cannot be told ({error}): {advice(None, stops)}"
    if now == head:
        return f"the schema is at version {head} all the same: `cellstep resume` goes on"
    still = " still" if now == start else ""
    return f"the schema is at version {now}{still}, and what comes next may be half done: {advice(now, stops, said)}"


@contextmanager
def _told_when_late(task: Task, command: str, pace: Pace | None) -> Iterator[None]:
    """Meanwhile, tell the operator when it takes longer than it should."""
    binding = binding_of(task)
    if pace is None or binding is None:
        yield
        return
    words = (
        f"`{command}` has run for {pace.warn_s:.0f} s, and took {pace.rehearsed_s:.0f} s when it was rehearsed; "
        f"it is ended when it has run for {pace.limit_s:.0f} s"
    )
    timer = threading.Timer(pace.warn_s, binding.tell, [words])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def head(task: Task, database: str, repository_id: str) -> int | None:
    """The version in `migrate_version`, or None where the table has no such row."""
    rows = mysql(task).query(
        "SELECT version FROM migrate_version WHERE repository_id=%s", (repository_id,), database=database
    )
    return int(rows[0]["version"]) if rows else None


def heartbeats(task: Task, database: str) -> list[dict[str, Any]]:
    """Live rows of `services`: host, binary, age_s in seconds by the database's own clock, disabled."""
    return mysql(task).query(
        "SELECT host, `binary`, TIMESTAMPDIFF(SECOND, COALESCE(updated_at, created_at), UTC_TIMESTAMP()) AS age_s,"
        " disabled FROM services WHERE deleted=0 ORDER BY host, `binary`",
        database=database,
    )


def wait_for_heartbeats(
    task: Task, database: str, expected: Sequence[tuple[str, str]], fresh_s: float, timeout_s: float
) -> list[dict[str, Any]]:
    """Wait until each expected (host, binary) has a heartbeat younger than `fresh_s` seconds, or the time is over.

    Returns:
        The rows of `heartbeats` as they are then; the caller judges them.
    """
    deadline = time.monotonic() + (0 if task.is_dry_run() else timeout_s)
    pause = threading.Event()
    wanted = {(_short(host), binary) for host, binary in expected}
    while True:
        rows = heartbeats(task, database)
        fresh = {(_short(row["host"]), row["binary"]) for row in rows if row["age_s"] <= fresh_s}
        if wanted <= fresh or time.monotonic() >= deadline:
            return rows
        pause.wait(ASK_EVERY_S)


def _short(host: str) -> str:
    return host.split(".", maxsplit=1)[0]
