"""The repair of a component's quota usage, as a task: planned, written, and what undoes it kept."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nornir.core.task import Result, Task

from reports.writers import replacing
from tasks import quotas
from tasks.binding import binding_of
from tasks.holds import Noted, changed, skipped, unchanged
from tasks.shell import will_change

TRIES = 3
"""How often a repair is planned anew where rows change while it is made."""


def plan(task: Task, *, database: str, **arguments: Any) -> Result:
    """Compare the quota usage with what is in use; the result is the repair (`tasks.quotas.Repair`).

    Args:
        task: on the database's node.
        database: the schema's name.
        arguments: more arguments of `tasks.quotas.read`.
    """
    from reports.tables import quotas as table  # noqa: PLC0415 - brings pandas, 0.6 s

    facts = quotas.read(task, database=database, **arguments).result
    return unchanged(task, quotas.plan_repair(table.odd_records(facts), facts))


def repair(task: Task, *, database: str, undo: Path, **arguments: Any) -> Result:
    """Write the repair in one transaction; the SQL that undoes it is in `undo` before the commit.

    A file that is there already undoes an earlier repair, and stays: this one's has a number in its name. Where a row
    changes between its reading and its writing, nothing is written and all is read again, TRIES times at most.

    Returns:
        A `Noted` whose data is how many rows were left as they are, with requests under way.

    Raises:
        tasks.quotas.RepairRefusedError: rows changed at each try; nothing was written.
    """
    undo = _unused(undo)
    for further in reversed(range(TRIES)):
        planned: quotas.Repair = plan(task, database=database, **arguments).result
        left = f"; {len(planned.left)} left as they are, with requests under way" if planned.left else ""
        if not planned.changes and not planned.left:
            return skipped(task, "nothing to repair")
        if not planned.changes:
            return unchanged(task, Noted(f"nothing to repair now{left}", len(planned.left)))
        if task.is_dry_run():
            return changed(task, Noted(f"would change {len(planned.changes)} rows{left}", len(planned.left)))
        will_change(task, "the repair of the quota usage")
        try:
            quotas.apply(task, repair=planned, database=database, keep_undo=_keeping(task, undo))
        except quotas.RepairRefusedError:
            if not further:
                raise
        else:
            break
    words = f"changed {len(planned.changes)} rows{left}; undo with {undo}"
    return changed(task, Noted(words, len(planned.left)))


def repair_if_asked(task: Task, *, database: str, undo: Path, asked: bool) -> Result:
    """The runbook's step: repair where the operator asked for it beforehand."""
    return repair(task, database=database, undo=undo) if asked else skipped(task, "not asked for")


def _keeping(task: Task, undo: Path) -> Callable[[str], None]:
    binding = binding_of(task)

    def keep(text: str) -> None:
        undo.parent.mkdir(parents=True, exist_ok=True)
        with replacing(undo) as scratch:
            scratch.write_text(text, encoding="utf-8")
        if binding is not None:
            binding.still_ours()  # what it raises rolls the repair back

    return keep


def _unused(path: Path) -> Path:
    """The path, with a number where there is such a file."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_stem(f"{path.stem}-{number}")
    return found
