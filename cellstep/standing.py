"""How a run stands: what the journal and the lock say of it. Read only: beside a run, after a crash, on a full disk."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cellstep import runs
from cellstep.cloud.load import Cloud
from cellstep.engine.forecast import Forecast, Left, Took, forecast
from cellstep.engine.journal import DONE, UNFINISHED, Journal, RunRecord
from cellstep.engine.lock import Holder
from cellstep.engine.plan import expand_names, steps_of
from cellstep.engine.store import now, seconds_between
from cellstep.errors import JournalFailed
from cellstep.wayback import SETTLES

EARLIER_RUNS = 5
"""How many earlier runs a forecast looks at."""

GONE = frozenset({"quarantined"})


@dataclass(frozen=True)
class Process:
    """The process that carries a run, or did.

    Attributes:
        holder: who is named in the lock; None where nobody is.
        alive: that process lives.
        frozen: it lives, but was stopped (SIGSTOP) or hangs in the kernel.
    """

    holder: Holder | None
    alive: bool
    frozen: bool

    @classmethod
    def of(cls, cloud: Cloud) -> "Process":
        """Who holds the cloud's lock."""
        holder, alive = runs.lock_of(cloud).holder()
        return cls(holder, alive, alive and holder is not None and holder.frozen())

    def carries(self, run: RunRecord) -> bool:
        """Whether it is this process that carries the run now."""
        if run.state != "running" or not self.alive:
            return False
        return self.holder is None or (self.holder.host, self.holder.pid) == (run.machine, run.pid)


@dataclass(frozen=True)
class Standing:
    """One run as it stands.

    Attributes:
        run: its record.
        process: who holds the lock.
        steps: those begun so far, in order, each with `hosts`: nodes by state.
        total: how many steps its plan has.
        unknown: step to nodes to which something was sent and of which nothing more is known.
        elapsed_s: seconds from its beginning to its end, to now while it is under way, or to its last sign of life.
        left: how long what is left will take; None where nothing is known, or nothing is left.
        taken_over: the journal's words, where somebody has taken the cloud over from its process; "" otherwise.
    """

    run: RunRecord
    process: Process
    steps: list[dict[str, Any]]
    total: int
    unknown: dict[str, list[str]]
    elapsed_s: float
    left: Forecast | None
    taken_over: str

    @property
    def under_way(self) -> bool:
        """Whether a process carries it now."""
        return self.process.carries(self.run)

    @property
    def crashed(self) -> bool:
        """Whether its process is gone without having ended it."""
        return self.run.state == "running" and not self.under_way


def look(cloud: Cloud) -> Journal:
    """The cloud's journal, to be read also where nothing can be written: on a full disk, or a read-only one.

    SQLite needs a file beside the journal to read it; where that cannot be made, a copy in memory is read.

    Raises:
        JournalFailed: it cannot be read.
    """
    path = runs.journal_path(cloud)
    try:
        journal = runs.open_journal(cloud, read_only=True)
        journal.holds()  # the first question finds out
    except JournalFailed:
        with contextlib.suppress(OSError, sqlite3.Error), tempfile.TemporaryDirectory(dir=_memory()) as folder:
            for file in path.parent.glob(f"{path.name}*"):
                if not file.name.endswith("-shm"):
                    shutil.copy(file, folder)
            return Journal.rehearsal(Path(folder) / path.name)
        raise
    return journal


def _memory() -> str | None:
    """A folder in memory; None where there is none, for the usual folder of temporary files."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - the folder made there is our own


def newest(journal: Journal) -> RunRecord | None:
    """The run that `status` is about: the one that is not complete, or else the last; never one that settled holds."""
    real = (run for run in journal.runs() if SETTLES not in run.options)
    found = list(real)
    return next((run for run in found if run.state in UNFINISHED), found[0] if found else None)


def of(cloud: Cloud, journal: Journal, run: RunRecord) -> Standing:
    """How a run stands now."""
    process = Process.of(cloud)
    counts = journal.counts(run.id)
    steps = [{**step, "hosts": counts.get(step["title"], {})} for step in journal.steps(run.id)]
    plan = steps_of(journal.plan_of(run.id))
    unknown = journal.unknown_hosts(run.id) if any("unknown" in step["hosts"] for step in steps) else {}
    left = ahead(journal, run, steps=steps) if run.state in UNFINISHED else None
    elapsed = seconds_between(run.started_at, _until(journal, run, steps, alive=process.carries(run)))
    taken = "" if process.carries(run) else _taken_over(journal, run)
    return Standing(run, process, steps, len(plan) or len(steps), unknown, elapsed, left, taken)


def _taken_over(journal: Journal, run: RunRecord) -> str:
    """The last event that says that the run's process was taken over from."""
    whom = f"on {run.machine}, pid {run.pid},"
    events = [
        event for event in journal.events("") if event["what"].startswith("took over from") and whom in event["what"]
    ]
    last = events[-1] if events and events[-1]["at"] >= run.started_at else None
    return f"{last['operator']} {last['what']}" if last else ""


def _until(journal: Journal, run: RunRecord, steps: Sequence[Mapping[str, Any]], *, alive: bool) -> str:
    if run.finished_at or alive:
        return run.finished_at or now()
    signs: list[str] = [run.started_at, *(step["started_at"] for step in steps)]
    if steps:
        rows = journal.hosts(run.id, steps[-1]["title"])
        signs += [row[when] for row in rows for when in ("started_at", "finished_at") if row[when]]
    return max(signs)


def ahead(
    journal: Journal,
    run: RunRecord,
    *,
    steps: Sequence[Mapping[str, Any]] | None = None,
    only: Sequence[str] | None = None,
) -> Forecast | None:
    """How long what is left of a run will take.

    Args:
        journal: the journal.
        run: the run.
        steps: those begun so far with their nodes by state, where the caller has them already.
        only: titles: of these steps only.
    """
    if steps is None:
        counts = journal.counts(run.id)
        steps = [{**step, "hosts": counts.get(step["title"], {})} for step in journal.steps(run.id)]
    left = [step for step in _left(journal, run, steps) if only is None or step.title in only]
    titles = [step.title for step in left]
    return forecast(left, _earlier(journal, run.stage, run.plan_digest, titles, but=run.id))


def expected(journal: Journal, stage: str, plan_digest: str, steps: Mapping[str, int]) -> Forecast | None:
    """How long a run will take that has not begun; None where nothing is known of any of its steps.

    Args:
        journal: the journal.
        stage: its stage.
        plan_digest: of its plan.
        steps: title to how many nodes.
    """
    left = [Left(title, nodes) for title, nodes in steps.items()]
    return forecast(left, _earlier(journal, stage, plan_digest, list(steps)))


def _earlier(journal: Journal, stage: str, plan_digest: str, titles: Sequence[str], *, but: str = "") -> list[Took]:
    """What steps took in earlier runs of a stage, those of the same plan first."""
    earlier: list[Took] = []
    others = [r for r in journal.runs(stage) if r.id != but and SETTLES not in r.options]
    others.sort(key=lambda other: other.plan_digest != plan_digest)
    for other in others[:EARLIER_RUNS]:
        ended = {step["title"] for step in journal.steps(other.id) if step["state"] == "done"}
        same = other.plan_digest == plan_digest
        earlier += [
            Took(title, took.nodes, took.seconds, same, took.skipped == took.nodes)
            for title, took in journal.step_times(other.id, titles).items()
            if title in ended
        ]
        if same and {took.title for took in earlier if not took.idle} >= set(titles):
            break
    return earlier


def _left(journal: Journal, run: RunRecord, steps: Sequence[Mapping[str, Any]]) -> list[Left]:
    """The plan's steps that are not done, with what is known of the one that is under way."""
    begun = {step["title"]: step for step in steps}
    sizes: dict[str, int] = {}
    found = []
    for line in _asked_for(journal, run):
        title, folded = line["title"], line["nodes"]
        step = begun.get(title)
        if step is None:
            if folded not in sizes:
                sizes[folded] = len(expand_names(folded))
            found.append(Left(title, sizes[folded]))
        elif step["state"] not in {"done", "empty"}:
            found.append(_begun(journal, run, step))
    return found


def _begun(journal: Journal, run: RunRecord, step: Mapping[str, Any]) -> Left:
    ended = sum(step["hosts"].get(state, 0) for state in DONE)
    nodes = sum(step["hosts"].values()) - ended - sum(step["hosts"].get(state, 0) for state in GONE)
    took = journal.step_times(run.id, [step["title"]]).get(step["title"])
    waiting = seconds_between(step["started_at"], now()) if run.state == "running" else 0.0
    return Left(step["title"], nodes, ended, took.seconds if took else 0.0, waiting)


def _asked_for(journal: Journal, run: RunRecord) -> list[Mapping[str, str]]:
    """The plan's lines that the run was asked for."""
    lines = steps_of(journal.plan_of(run.id))
    places = {line["title"].lower(): n for n, line in enumerate(lines)}

    def place(wanted: str) -> int:
        if wanted.isdecimal():
            return int(wanted) - 1
        return next((n for title, n in places.items() if title.startswith(wanted.lower())), 0)

    only, begin = str(run.options.get("step") or ""), str(run.options.get("from") or "")
    if only:
        return lines[place(only) : place(only) + 1]
    return lines[place(begin) if begin else 0 :]


def age_s(since: str) -> float:
    """Seconds since a time of the journal."""
    return (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds()
