"""A run as others watch it: how far it is, how fast, when it will end, and what went wrong last.

`cellstep watch` draws it in a terminal, `cellstep.statuspage` writes it as a page. Both only read the journal.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cellstep import sequence, standing
from cellstep.cloud.load import Cloud
from cellstep.engine.journal import DONE, Journal, RunRecord
from cellstep.engine.plan import steps_of
from cellstep.engine.store import now, seconds_between
from cellstep.folding import Group, groups_of
from cellstep.standing import GONE, Standing

RATE_WINDOW_S = 300.0
"""A rate is that of the last minutes: what is slower now than an hour ago shows."""

TROUBLED = ("failed", "unreachable", "unknown")
TROUBLED_STEPS_SHOWN = 3
"""Of how many steps, the last ones, the messages of nodes are shown."""


@dataclass(frozen=True)
class CellProgress:
    """A cell in one step.

    Attributes:
        name: the cell's.
        nodes: how many of its nodes the step goes to.
        ended: how many have ended, well or not.
        busy: how many are being worked on.
        trouble: how many have failed, are unreachable or in quarantine.
    """

    name: str
    nodes: int
    ended: int
    busy: int
    trouble: int


@dataclass(frozen=True)
class StepTrouble:
    """What went wrong at a step: nodes with the same message are one group, the largest first."""

    title: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Picture:
    """One run, as it is at one moment.

    Attributes:
        at: when, ISO 8601 UTC.
        standing: the run, its process, its steps, its forecast.
        stages: each stage of the cloud with how it stands, in words, in the order of an upgrade.
        step: the step that is under way, or the last one that was; None before the first.
        nodes: each node of that step with its state in the journal; `unknown` is one that is being worked on while
            the run is under way.
        cells: the same by cell, in the inventory's order.
        rate: nodes of the step that ended a minute, in the last minutes; None where that is not known.
        ends: when the run will end, ISO 8601 UTC; "" where nothing is known of one of the steps that are left.
        troubles: of the last steps that had any, the newest first.
        quarantined: nodes in quarantine.
        held: nodes on which holds are in place, with the names of those: nodes with the same holds together.
        to_come: titles of the plan's steps that have not begun.
    """

    at: str
    standing: Standing
    stages: tuple[tuple[str, str], ...]
    step: Mapping[str, Any] | None
    nodes: Mapping[str, str]
    cells: tuple[CellProgress, ...]
    rate: float | None
    ends: str
    troubles: tuple[StepTrouble, ...]
    quarantined: tuple[str, ...]
    held: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    to_come: tuple[str, ...]

    @property
    def run(self) -> RunRecord:
        """The run."""
        return self.standing.run

    @property
    def ended(self) -> int:
        """Nodes of the step that have ended, well or not."""
        return sum(cell.ended for cell in self.cells)

    @property
    def end(self) -> str:
        """When it will end, in words; "" where nothing is known."""
        return f"ends about {self.ends[11:16]} UTC" if self.ends else ""

    @property
    def headline(self) -> str:
        """How it stands, in words."""
        run, stands = self.run, self.standing
        if stands.crashed:
            return "The run's process is gone: `cellstep resume` goes on"
        if stands.under_way and stands.process.frozen:
            return "The run's process was stopped by a signal (SIGSTOP), and does nothing"
        if run.state == "complete":
            return "Done" if run.exit_code == 0 else "Done, but not compliant: see the reports"
        if not stands.under_way:
            return f"{run.state.capitalize()}: {run.message}" if run.message else run.state.capitalize()
        if self.step is None or self.step["state"] != "running":
            return "Between two steps" if self.step else "Not yet at the first step"
        return f"Step {self.step['number']} of {stands.total}: {self.step['title']}"


def look(cloud: Cloud, journal: Journal) -> Picture | None:
    """How the run that `status` is about is now; None where there was none yet."""
    run = standing.newest(journal)
    return picture(cloud, journal, run) if run else None


def picture(cloud: Cloud, journal: Journal, run: RunRecord) -> Picture:
    """How a run is now."""
    at = now()
    stands = standing.of(cloud, journal, run)
    step = _current(stands.steps)
    rows = journal.hosts(run.id, step["title"]) if step else []
    begun = {each["title"] for each in stands.steps}
    left = stands.left.seconds if stands.left and stands.under_way and not stands.left.unknown else None
    return Picture(
        at,
        stands,
        tuple(sequence.progress(cloud, journal)),
        step,
        {row["host"]: row["state"] for row in rows},
        tuple(_cells(cloud, rows, busy=stands.under_way)),
        _rate(rows, step["started_at"], at) if step and stands.under_way else None,
        later(at, left) if left is not None else "",
        tuple(troubles(cloud, journal, stands)),
        tuple(journal.quarantined()),
        tuple(_held(journal)),
        tuple(line["title"] for line in steps_of(journal.plan_of(run.id)) if line["title"] not in begun),
    )


def troubles(cloud: Cloud, journal: Journal, stands: Standing) -> list[StepTrouble]:
    """What nodes said at the last steps with trouble, the newest step first; nodes still worked on are left out."""
    troubled = [step for step in stands.steps if {"failed", "unreachable"} & step["hosts"].keys()]
    found = []
    for step in reversed(troubled[-TROUBLED_STEPS_SHOWN:]):
        rows = journal.hosts(stands.run.id, step["title"])
        bad = ((row["state"], row["detail"], row["host"]) for row in rows if row["state"] in {"failed", "unreachable"})
        found.append(StepTrouble(step["title"], tuple(groups_of(cloud, bad))))
    return found


def later(at: str, seconds: float) -> str:
    """A time of the journal so many seconds on."""
    return (datetime.fromisoformat(at).astimezone(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds")


def _held(journal: Journal) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Nodes, and the holds that are in place on just these."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, hosts in journal.all_open_holds().items():
        found.setdefault(tuple(sorted(hosts)), []).append(name)
    return [(nodes, tuple(holds)) for nodes, holds in found.items()]


def _current(steps: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The step that is under way; else the last that began."""
    running = [step for step in steps if step["state"] == "running"]
    known = running or steps
    return known[-1] if known else None


def _cells(cloud: Cloud, rows: Sequence[Mapping[str, Any]], *, busy: bool) -> list[CellProgress]:
    """The step's nodes, counted by cell."""
    of: dict[str, list[str]] = {}
    for row in rows:
        of.setdefault(row["cell"], []).append(row["state"])
    order = {cell: place for place, cell in enumerate(dict.fromkeys(node.cell for node in cloud.nodes))}
    bad = {*TROUBLED, *GONE} - ({"unknown"} if busy else set())
    open_ = {"not_run", "unknown"}
    return [
        CellProgress(
            cell,
            len(states),
            sum(state not in open_ for state in states),
            states.count("unknown") if busy else 0,
            sum(state in bad for state in states),
        )
        for cell, states in sorted(of.items(), key=lambda item: order.get(item[0], len(order)))
    ]


def _rate(rows: Sequence[Mapping[str, Any]], began: str, at: str) -> float | None:
    """Nodes a minute that ended lately; those on which there was nothing to do say nothing of a rate."""
    ended = [row["finished_at"] for row in rows if row["finished_at"] and row["state"] in DONE - {"skipped"}]
    since = later(at, -RATE_WINDOW_S)
    lately = [time for time in ended if datetime.fromisoformat(time) > datetime.fromisoformat(since)]
    over = min(seconds_between(began, at), RATE_WINDOW_S)
    return len(lately) / over * 60 if lately and over >= 1 else None
