"""The way back from an upgrade: which runs it is made of, what they began, where the state before is kept.

All of it is read from the journal and from the runs' own folders; no node is asked.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.engine.journal import UNFINISHED, Journal, RunRecord
from cellstep.engine.steps import Runbook
from tasks import backup, databases, packages
from tasks.loadbalancer import FENCE
from tasks.services import DAEMONS, RABBITMQ

GOING_BACK, BACKED_OUT = "backing-out", "backed-out"

SETTLED = frozenset({"complete", BACKED_OUT})
"""States of a whole run after which the next one begins a new upgrade."""

UNTOUCHED = frozenset({"not_run", "unreachable", "quarantined"})
"""States of a node to which a step sent nothing."""

NOTHING_DONE = UNTOUCHED | {"skipped"}

REST = frozenset({FENCE.name, DAEMONS.name, RABBITMQ.name})
"""The holds that keep a cloud at rest."""

SETTLES, SYNCED = "holds", "synced"
"""Options of a run that only settles holds: which, and the cells whose schema change had begun by then."""


def under_way(journal: Journal, stage: str) -> list[RunRecord]:
    """The runs of a stage since the cloud was last at one of its ends."""
    return list(takewhile(lambda run: not (run.whole and run.state in SETTLED), journal.runs(stage)))


def synced(journal: Journal, runbook: Runbook, runs: Iterable[RunRecord]) -> set[str]:
    """The cells whose schema these runs of a stage began to change; they may not have ended it."""
    steps = [step for step in runbook.steps if step.does == databases.sync]
    rows = [(step, row) for run in runs for step in steps for row in journal.hosts(run.id, step.title)]
    return {step.cell or row["cell"] for step, row in rows if row["state"] not in NOTHING_DONE}


def changes_schema(runbook: Runbook) -> bool:
    """Whether the runbook has a step that changes a schema."""
    return any(step.does == databases.sync for step in runbook.steps)


def touched(journal: Journal, runbook: Runbook, run: RunRecord) -> bool:
    """Whether the run began to update packages, or to change a schema."""
    titles = [step.title for step in runbook.steps if step.does in {packages.update, databases.sync}]
    return any(row["state"] not in NOTHING_DONE for title in titles for row in journal.hosts(run.id, title))


@dataclass(frozen=True)
class Upgrade:
    """An upgrade that may be backed out: all runs of its stage since the cloud was last at one end.

    Attributes:
        cloud: the cloud.
        journal: its journal.
        runbook: the stage's steps.
        last: the newest run that is for the whole cloud.
        runs: every run of the stage since, single steps and limited ones too, oldest first.
    """

    cloud: Cloud
    journal: Journal
    runbook: Runbook
    last: RunRecord
    runs: tuple[RunRecord, ...]

    @classmethod
    def find(cls, cloud: Cloud, journal: Journal, runbook: Runbook) -> "Upgrade | None":
        """The newest upgrade of the runbook's stage, None where there was none."""
        found: list[RunRecord] = []
        last: RunRecord | None = None
        for run in journal.runs(runbook.stage):
            if run.whole and last and run.state in SETTLED:
                break
            if run.whole and last is None:
                last = run
            found.append(run)
        return cls(cloud, journal, runbook, last, tuple(reversed(found))) if last else None

    def closed(self) -> str:
        """Why there is no way back, in words; "" where it is open."""
        if self.last.state == BACKED_OUT:
            return f"run {self.last.id} of {self.runbook.stage} was backed out already"
        if crossed := self._crossed():
            return f"the point of no return was crossed: {crossed}"
        if missing := self._without_dump():
            return f"the schema was changed, and there is no dump from before: {', '.join(missing)}"
        return ""

    def _crossed(self) -> str:
        ends = {step.title for step in self.runbook.steps if step.no_return}
        for run in self.runs:
            if SETTLES in run.options and not run.options.get(SYNCED, True):
                continue  # users were let in before anything was changed
            for step in self.journal.steps(run.id):
                if step["title"] not in ends:
                    continue
                states = {row["state"] for row in self.journal.hosts(run.id, step["title"])}
                # Without a load balancer there is nothing to open, but the operator was told to do it by hand.
                opened = step["state"] == "empty" and not run.options.get("limit")
                if states - UNTOUCHED or opened:
                    return f"“{step['title']}” in run {run.id}"
        held = self.journal.open_holds(FENCE.name)
        opened_by_hand = [n.name for n in self.cloud.nodes if "loadbalancer" in n.roles and n.name not in held]
        if self.synced() and opened_by_hand:
            return f"the user-facing APIs were opened after the schema was changed, on {', '.join(opened_by_hand)}"
        return ""

    def _without_dump(self) -> list[str]:
        cells, database = self.synced(), self.cloud.database(self.runbook.stage)
        stores = [node for node in self.cloud.nodes if "database" in node.roles and node.cell in cells]
        return [node.name for node in stores if self.dump(node, database) is None]

    # What was begun

    def titles(self, *tasks: Callable[..., Any]) -> set[str]:
        """The titles of the steps that run one of these tasks."""
        return {step.title for step in self.runbook.steps if step.does in tasks}

    def _rows(self, run: RunRecord, titles: Collection[str]) -> list[dict[str, Any]]:
        return [row for title in titles for row in self.journal.hosts(run.id, title)]

    def synced(self, *runs: RunRecord) -> set[str]:
        """The cells whose schema these runs (all of them by default) began to change; they may not have ended it."""
        return synced(self.journal, self.runbook, runs or self.runs)

    def updated(self, host: str) -> bool:
        """Whether an update of the node's packages was begun."""
        titles = self.titles(packages.update)
        rows = [row for run in self.runs for row in self._rows(run, titles) if row["host"] == host]
        return any(row["state"] not in NOTHING_DONE for row in rows)

    def rested(self) -> bool:
        """Whether the cloud is at rest: the dumps were begun, and nobody has lifted since what keeps it there."""
        settling = [run for run in self.journal.runs() if REST.intersection(run.options.get(SETTLES) or ())]
        ended = max((run.started_at for run in settling), default="")
        titles = self.titles(backup.back_up)
        begun = [(run, step) for run in self.runs for step in self.journal.steps(run.id) if step["title"] in titles]
        return any(self._last_begun(run, step) > ended for run, step in begun)

    def _last_begun(self, run: RunRecord, step: Mapping[str, Any]) -> str:
        """When the step was last begun on a node; when it was first begun, where nothing was sent to any."""
        times = [row["started_at"] for row in self._rows(run, [step["title"]]) if row["started_at"]]
        return str(max(times, default=step["started_at"]))

    # What was before

    def dump(self, node: Node, database: str) -> tuple[str, Path] | None:
        """The run whose dump of the node's database is from before the first schema change, and our copy of it.

        That is the newest dump that was taken before a schema change began in the node's cell: a run that was begun
        afresh after one has dumps too, of a database that is half upgraded.
        """
        found = None
        for run in self.runs:
            copy = Path(run.output) / "backup" / node.name / f"{database}.sql.gz"
            if copy.is_file():
                found = run.id, copy
            if node.cell in self.synced(run):
                break
        return found

    def leave(self, state: str, why: str) -> None:
        """Write that the upgrade's runs are gone back from, or were: `resume` does not go on with them.

        Their steps are done in the journal, and no longer in the cloud.

        Args:
            state: GOING_BACK or BACKED_OUT.
            why: the words for it.
        """
        for run in self.runs:
            if run.state in UNFINISHED or run.state == GOING_BACK:
                self.journal.end_run(run.id, state, run.exit_code, why)
