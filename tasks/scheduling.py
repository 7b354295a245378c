"""Which compute nodes get new guests: `disabled` in nova's services table, for nodes in quarantine.

A node that missed the upgrade may come back at any time, with the old nova-compute and a fresh heartbeat; disabled, it
runs on and gets no guest. Grizzly's table has no `disabled_reason` (it came with migration 188).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nornir.core.task import Result, Task

from tasks.binding import binding_of
from tasks.databases import mysql
from tasks.holds import changed, skipped, unchanged
from tasks.shell import will_change

COMPUTE = "nova-compute"
OURS = "cellstep: "
"""What our reasons begin with."""


def _short(host: str) -> str:
    return host.split(".", maxsplit=1)[0]


def _rows(task: Task, database: str) -> dict[str, dict[str, Any]]:
    """Live rows of nova-compute by the host's short name, with all their columns."""
    rows = mysql(task).query("SELECT * FROM services WHERE deleted=0 AND `binary`=%s", (COMPUTE,), database=database)
    return {_short(row["host"]): row for row in rows}


def _disabled_by_us(row: dict[str, Any]) -> bool:
    """Somebody may have disabled it since, with a reason of their own; where there is no column nobody can tell."""
    return bool(row["disabled"]) and (row.get("disabled_reason") or OURS).startswith(OURS)


def _plain(text: str) -> str:
    """In ASCII: nova's clients of the time print the column on terminals of any encoding."""
    return text.translate(dict.fromkeys(map(ord, "“”"), '"')).encode("ascii", "replace").decode()


def standing(task: Task, *, database: str, hosts: Sequence[str]) -> Result:
    """Tell of each of the hosts whether its nova-compute is disabled; one that is not in the table is left out."""
    rows = _rows(task, database) if hosts else {}
    return unchanged(task, {host: bool(rows[_short(host)]["disabled"]) for host in hosts if _short(host) in rows})


def settle(task: Task, *, database: str, disable: Mapping[str, str], enable: Sequence[str]) -> Result:
    """Disable nova-compute of some hosts (with the reason, where the table has a column for it), enable that of others.

    Raises:
        Fenced: another operator has taken the cloud over.
        DatabaseError: the table cannot be written.
    """
    rows = _rows(task, database) if disable or enable else {}
    off = [host for host in disable if _short(host) in rows and not rows[_short(host)]["disabled"]]
    on = [host for host in enable if _short(host) in rows and _disabled_by_us(rows[_short(host)])]
    if not off and not on:
        return skipped(task, "nothing to disable or to enable")
    said = [f"{word} {', '.join(hosts)}" for word, hosts in (("disabled", off), ("enabled", on)) if hosts]
    if task.is_dry_run():
        return changed(task, "; ".join(said))
    will_change(task, said[0])
    binding = binding_of(task)
    with mysql(task).transaction(database) as transaction:
        columns = transaction.query("SHOW COLUMNS FROM services LIKE 'disabled_reason'")
        reason = ", disabled_reason=%s" if columns else ""
        statement = f"UPDATE services SET disabled=%s{reason} WHERE id=%s AND deleted=0"  # noqa: S608 - no value in it
        for host, value in [*((host, 1) for host in off), *((host, 0) for host in on)]:
            why = (_plain(f"{OURS}{disable[host]}")[:255] if value else None,) if columns else ()
            transaction.execute(statement, (value, *why, rows[_short(host)]["id"]))
        if binding is not None:
            binding.still_ours()
    return changed(task, "; ".join(said))
