"""The quota usage of a stage: checked, and repaired on the top cell's database alone."""

from pathlib import Path

from nornir.core.task import Result, Task

from reports.writers import replacing
from tasks import quotas
from tasks.binding import binding_of
from tasks.holds import changed, skipped, unchanged
from tasks.shell import will_change


def plan(task: Task, *, database: str) -> Result:
    """Compare the quota usage with what the instances say; the result is the repair (`tasks.quotas.Repair`)."""
    import pandas as pd  # noqa: PLC0415 - 0.6 s, which only this command should pay

    from reports.tables import quotas as table  # noqa: PLC0415 - brings pandas

    facts = quotas.read(task, database=database).result
    usages, actual, reservations = (pd.DataFrame(facts[name]) for name in ("usages", "actual", "reservations"))
    rows = table.records(usages, actual, reservations, per_user=facts["per_user"])
    return unchanged(task, quotas.plan_repair(rows, facts))


def repair(task: Task, *, database: str, undo: Path) -> Result:
    """Write the repair in one transaction; the SQL that undoes it is in `undo` before the commit."""
    repair_plan: quotas.Repair = plan(task, database=database).result
    if not repair_plan.changes:
        return skipped(task, "nothing to repair")
    if task.is_dry_run():
        return changed(task, f"would change {len(repair_plan.changes)} rows")

    def keep(text: str) -> None:
        undo.parent.mkdir(parents=True, exist_ok=True)
        with replacing(undo) as scratch:
            scratch.write_text(text, encoding="utf-8")
        if binding is not None:
            binding.still_ours()  # what it raises rolls the repair back

    binding = binding_of(task)
    will_change(task, "the repair of the quota usage")
    quotas.apply(task, repair=repair_plan, database=database, keep_undo=keep)
    return changed(task, f"changed {len(repair_plan.changes)} rows; undo with {undo}")


def repair_if_asked(task: Task, *, database: str, undo: Path, asked: bool) -> Result:
    """The runbook's step: repair where the operator asked for it beforehand."""
    return repair(task, database=database, undo=undo) if asked else skipped(task, "not asked for")
