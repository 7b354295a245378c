"""How fast the cloud answers and boots before a stage and after it: measured, kept, compared."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellstep import reporting, runs
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.engine.dispatch import Dispatcher, Errand
from cellstep.engine.journal import UNFINISHED, Journal, RunRecord
from cellstep.engine.ledgers import Record
from cellstep.engine.store import now
from cellstep.errors import CellstepError, ConfigurationError, TakenOver, UsageError
from cellstep.stages import STAGES
from tasks.binding import Binding
from tasks.guests import Commands, Several
from tasks.measure import AT_ONCE, PREFIXES, Guests, measure
from tasks.measure import clean as delete_left

if TYPE_CHECKING:
    import pandas as pd

KIND = "measure"
"""Of the journal's records: one measurement, by its time."""


@dataclass(frozen=True)
class Compared:
    """Measurements before and after the upgrade of a stage, and their table."""

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
        guests: how many to make; 0 for none.

    Returns:
        What was done, in words.

    Raises:
        ConfigurationError: cloud.yaml names nothing to measure.
        UsageError: no such stage; no node to measure on; a run of the stage is not finished.
        CellstepError: it could not be measured; the message says why.
    """
    refuse_unknown(stage)
    config = cloud.config
    if not config.measure.calls and not guests:
        raise ConfigurationError(["cloud.yaml: measure.calls is empty: give the commands to time, by name"])
    arguments = {
        "commands": _commands(cloud),
        "calls": config.measure.calls,
        "repeat": config.measure.repeat,
        "guests": _guests(cloud, guests) if guests else None,
        "several": _several(cloud, guests),
    }
    return _send(cloud, stage, measure, arguments)


def clean(cloud: Cloud, stage: str) -> str:
    """Delete guests that a measurement left which did not come to its end.

    Returns:
        What was done, in words.

    Raises:
        UsageError: no such stage; no node to measure on; a run of the stage is not finished.
        CellstepError: one could not be deleted; the message says why.
    """
    refuse_unknown(stage)
    return _send(cloud, stage, delete_left, {"commands": _commands(cloud)})


def refuse_unknown(stage: str) -> None:
    """Have a stage that there is.

    Raises:
        UsageError: there is no such stage.
    """
    if stage not in STAGES:
        raise UsageError(f"there is no stage “{stage}” to measure; the stages are: {', '.join(STAGES)}")


def _send(cloud: Cloud, stage: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> str:
    node = _node(cloud)
    lock, journal = runs.lock_of(cloud), runs.open_journal(cloud)
    with lock.held(journal, f"measure {stage}") as holder, Dispatcher(cloud) as dispatcher:
        open_run = next((run for run in journal.runs(stage) if run.state in UNFINISHED and run.whole), None)
        if open_run:
            raise UsageError(f"run {open_run.id} of {stage} is not finished: it would be neither before nor after")
        # Its commands are nobody else's, so that none of an earlier measurement is taken for one of this.
        name = f"measure-{uuid.uuid4().hex[:8]}"
        binding = Binding(name, "measure", token=holder.token, still_ours=lambda: lock.check(holder.token))
        errand = Errand(bindings={node.name: binding})
        outcome = dispatcher.send(function, [node], {node.name: arguments}, errand)[node.name]
        if outcome.fenced:
            raise TakenOver(outcome.detail)
        if outcome.state not in {"ok", "changed", "skipped"}:
            raise CellstepError(f"{node.name} {outcome.state}: {outcome.detail}")
        if function is measure:
            journal.keep_record(KIND, stage, now(), outcome.result.data)
        return f"{node.name}: {outcome.detail}"


def _node(cloud: Cloud) -> Node:
    wanted = cloud.config.measure.on
    chosen = (node for node in cloud.nodes if (node.name == wanted if wanted else node.tier == "top"))
    node = next(chosen, None)
    if node is None:
        raise UsageError(f"there is no node {wanted} in the inventory" if wanted else "there is no top controller")
    return node


def _commands(cloud: Cloud) -> Commands:
    config = cloud.config
    return Commands(config.checkout.environment, config.measure.list, config.checkout.delete, config.settle_s)


def _paths(cloud: Cloud) -> list[str]:
    return [cloud.config.checkout.cell_path.format(cell=cell) for cell in cloud.cells] or [""]


def _guests(cloud: Cloud, count: int) -> Guests:
    """As many guests, on the cells in turn, with names of their own."""
    checks, paths = cloud.config.checkout, _paths(cloud)
    unique = uuid.uuid4().hex[:6]
    names = [f"{PREFIXES[0]}{unique}-{number}" for number in range(1, count + 1)]
    words: list[Mapping[str, str]] = [
        {"name": name, "cell_path": paths[number % len(paths)]} for number, name in enumerate(names)
    ]
    return Guests(
        names,
        [checks.create.format(**each) for each in words],
        [checks.show.format(name=each["name"]) for each in words],
        cloud.config.settle_s,
    )


def _several(cloud: Cloud, count: int) -> Several | None:
    """As many by one request, but not more than there may be single requests at once; one alone says nothing."""
    command, count = cloud.config.measure.several, min(count, AT_ONCE)
    if command is None or count < 2:
        return None
    name = f"{PREFIXES[1]}{uuid.uuid4().hex[:6]}"
    return Several(name, count, command.format(name=name, count=count, cell_path=_paths(cloud)[0]))


def upgrades(journal: Journal, stage: str, release: str) -> tuple[RunRecord | None, RunRecord | None]:
    """The runs between which a cloud is neither as before nor as after: the first that changed a node, and the newest.

    A run that is begun again later and changes nothing must not move the beginning: what was measured before it is
    from after the upgrade. Runs from before the upgrade was backed out do not count, nor those that only looked.

    Args:
        journal: the cloud's.
        stage: the stage.
        release: the pair of releases.
    """
    back = f"{stage}-backout"
    since = takewhile(lambda run: not (run.stage == back and run.whole and run.state == "complete"), journal.runs())
    ours = [run for run in since if run.stage == stage and run.release == release]
    changing = [run for run in ours if _changed(journal, run)]
    newest = next((run for run in ours if run.whole), None)
    return (changing[-1] if changing else newest), newest


def _changed(journal: Journal, run: RunRecord) -> bool:
    """Whether a step did or may have done something to a node; holds come and go."""
    steps = {line["title"] for line in journal.plan_of(run.id) if line["kind"] == "do"}
    return any(row["state"] in _MAY_HAVE_CHANGED and row["step"] in steps for row in journal.hosts(run.id))


_MAY_HAVE_CHANGED = {"changed", "failed", "unknown", "running"}


def compare(cloud: Cloud, journal: Journal, stage: str, output: Path | None) -> Compared:
    """Compare the newest measurement from before the upgrade of a stage with the newest from after it.

    Raises:
        UsageError: no such stage.
    """
    from reports.tables import performance  # noqa: PLC0415 - brings pandas, 0.6 s

    refuse_unknown(stage)
    taken = journal.records(KIND, stage)
    first, last = upgrades(journal, stage, cloud.release.name)
    before = [record for record in taken.values() if first is None or record.at < first.started_at]
    after = [record for record in taken.values() if last and last.finished_at and record.at > last.finished_at]
    old, new = (max(records, key=lambda record: record.at, default=None) for records in (before, after))
    was, is_ = (record.data if record else None for record in (old, new))
    table = performance.table(was, is_, cloud.config.measure.slower)
    folder = reporting.output_folder(cloud.directory, output, reporting.dated("measure"))
    facts: dict[str, Any] = {
        "cloud": cloud.config.name,
        "stage": stage,
        "before": _side(old, first, "before", "the first that changed something"),
        "after": _side(new, last, "after", "the newest"),
    }
    told = reporting.story(cloud, f"{stage.capitalize()}: how fast the cloud is", facts)
    where = reporting.write(folder, stage, {"performance": table}, told)
    return Compared(old, new, table, where, performance.regressed(table).empty)


def _side(record: Record | None, run: RunRecord | None, word: str, which: str) -> str:
    said = record.at if record else "not measured"
    return f"{said}, {word} run {run.id}, {which}" if run else said
