"""How fast the cloud answers and boots before a stage and after it: measured, kept, compared."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellstep import reporting, runs
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.continuity import CHECKOUT_PREFIX
from cellstep.engine.dispatch import Dispatcher, Errand
from cellstep.engine.journal import UNFINISHED, Journal
from cellstep.engine.ledgers import Record
from cellstep.engine.store import now
from cellstep.errors import CellstepError, ConfigurationError, TakenOver, UsageError
from tasks.binding import Binding
from tasks.measure import Guests, measure

if TYPE_CHECKING:
    import pandas as pd

KIND = "measure"
"""Of the journal's records: one measurement, by its time."""


@dataclass(frozen=True)
class Compared:
    """The newest measurements before and after the newest run of a stage, and their table."""

    before: Record | None
    after: Record | None
    table: "pd.DataFrame"
    folder: Path
    ok: bool


def take(cloud: Cloud, stage: str, *, guests: int) -> str:
    """Measure now, and keep it in the journal.

    Args:
        cloud: the cloud.
        stage: whose upgrade it is for.
        guests: how many to make at once; 0 for none.

    Returns:
        What was done, in words.

    Raises:
        ConfigurationError: cloud.yaml names nothing to measure.
        UsageError: no node to measure on; a run of the stage is not finished.
        CellstepError: it could not be measured; the message says why.
    """
    config = cloud.config
    if not config.measure.calls and not guests:
        raise ConfigurationError(["cloud.yaml: measure.calls is empty: give the commands to time, by name"])
    node = _node(cloud)
    lock, journal = runs.lock_of(cloud), runs.open_journal(cloud)
    with lock.held(journal, f"measure {stage}") as holder, Dispatcher(cloud) as dispatcher:
        open_run = next((run for run in journal.runs(stage) if run.state in UNFINISHED and run.whole), None)
        if open_run:
            raise UsageError(f"run {open_run.id} of {stage} is not finished: it would be neither before nor after")
        arguments = {
            "environment": config.checkout.environment,
            "calls": config.measure.calls,
            "repeat": config.measure.repeat,
            "guests": _guests(cloud, guests) if guests else None,
        }
        # Its commands are nobody else's, so that none of an earlier measurement is taken for one of this.
        name = f"measure-{uuid.uuid4().hex[:8]}"
        binding = Binding(name, "measure", token=holder.token, still_ours=lambda: lock.check(holder.token))
        errand = Errand(bindings={node.name: binding})
        outcome = dispatcher.send(measure, [node], {node.name: arguments}, errand)[node.name]
        if outcome.fenced:
            raise TakenOver(outcome.detail)
        if outcome.state not in {"ok", "changed"}:
            raise CellstepError(f"{node.name} {outcome.state}: {outcome.detail}")
        journal.keep_record(KIND, stage, now(), outcome.result.data)
        return f"{node.name}: {outcome.detail}"


def _node(cloud: Cloud) -> Node:
    wanted = cloud.config.measure.on
    chosen = (node for node in cloud.nodes if (node.name == wanted if wanted else node.tier == "top"))
    node = next(chosen, None)
    if node is None:
        raise UsageError(f"there is no node {wanted} in the inventory" if wanted else "there is no top controller")
    return node


def _guests(cloud: Cloud, count: int) -> Guests:
    """As many guests, on the cells in turn, with names of their own."""
    checks = cloud.config.checkout
    unique = uuid.uuid4().hex[:6]
    paths = [checks.cell_path.format(cell=cell) for cell in cloud.cells] or [""]
    names = [f"{CHECKOUT_PREFIX}measure-{unique}-{number}" for number in range(1, count + 1)]
    words: list[Mapping[str, str]] = [
        {"name": name, "cell_path": paths[number % len(paths)]} for number, name in enumerate(names)
    ]
    return Guests(
        names,
        [checks.create.format(**each) for each in words],
        [checks.show.format(name=each["name"]) for each in words],
        [checks.delete.format(name=each["name"]) for each in words],
        cloud.config.settle_s,
    )


def compare(cloud: Cloud, journal: Journal, stage: str, output: Path | None) -> Compared:
    """Compare the newest measurement from before the newest whole run of a stage with the newest from after it."""
    from reports.tables import performance  # noqa: PLC0415 - brings pandas, 0.6 s

    taken = journal.records(KIND, stage)
    run = next((run for run in journal.runs(stage) if run.whole), None)
    before = [record for record in taken.values() if run is None or record.at < run.started_at]
    after = [record for record in taken.values() if run and run.finished_at and record.at > run.finished_at]
    old, new = (max(records, key=lambda record: record.at, default=None) for records in (before, after))
    was, is_ = (record.data if record else None for record in (old, new))
    table = performance.table(was, is_, cloud.config.measure.slower)
    folder = reporting.output_folder(cloud.directory, output, reporting.dated("measure"))
    facts: dict[str, Any] = {
        "cloud": cloud.config.name,
        "stage": stage,
        "run": run.id if run else "",
        "before": old.at if old else "not measured",
        "after": new.at if new else "not measured",
    }
    where = reporting.write(
        folder, stage, {"performance": table}, f"{stage.capitalize()}: how fast the cloud is", facts
    )
    ok = reporting.compliant({"performance": table}) or new is None
    return Compared(old, new, table, where, ok)
