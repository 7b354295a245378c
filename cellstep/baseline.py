"""What an upgrade compares with: the lists that its runs kept of the cloud as it was before."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellstep import continuity, kept
from cellstep.check.gates import records
from cellstep.cloud.load import Cloud
from cellstep.engine.journal import Journal, RunRecord
from cellstep.engine.steps import Runbook
from cellstep.verification import BACKOUT, component_of
from cellstep.wayback import touched
from reports.reasons import Ours


@dataclass(frozen=True)
class Baseline:
    """What a run found before it began; None where it was not saved.

    Attributes:
        volumes: rows of `tasks.traces.volumes`.
        guests: rows of `guest_rows`.
        packages: host, package, installed, of the release's packages.
        systems: what is installed and runs on which hosts: hosts, kernel (`uname -r`), packages (name to versions).
        quotas: one row: the quota usage, as `tasks.quotas.read` gives it.
        instances: rows of `continuity.instance_rows`.
        saved: the nodes whose guests were saved, also those that had none.
        ours: what the upgrade has done since.
        images: rows of `tasks.traces.images`.
        schemas: how the databases were before their schema was changed, by place (`cellstep.check.after.Before`).
    """

    volumes: Sequence[Mapping[str, Any]] | None = None
    guests: Sequence[Mapping[str, Any]] | None = None
    packages: Sequence[Mapping[str, Any]] | None = None
    systems: Sequence[Mapping[str, Any]] | None = None
    quotas: Sequence[Mapping[str, Any]] | None = None
    instances: Sequence[Mapping[str, Any]] | None = None
    images: Sequence[Mapping[str, Any]] | None = None
    saved: frozenset[str] = field(default=frozenset(), compare=False)
    ours: Ours = field(default_factory=Ours, compare=False)
    schemas: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)

    @classmethod
    def find(cls, cloud: Cloud, journal: Journal, stage: str, folder: Path) -> "Baseline":
        """What was saved before the upgrade: by the run with this folder, or before it.

        Of the runs since the last complete one (it included, when it is the newest) the oldest counts, table by table
        (packages and systems node by node, those of later limited runs too: a node may have been away at first):
        one that was begun afresh, or in the middle, found a cloud that was half upgraded already. A run that was backed
        out ends the upgrade as a complete one does. One that was abandoned before it updated anything counts only while
        there is no newer one: the cloud has lived on since, and is what the newer one found.
        """
        whole, parts = _compared(cloud, journal, stage, folder)

        def lists(name: str, runs: Sequence[RunRecord]) -> Iterator[tuple[Path, list[kept.Row]]]:
            for run in runs:
                rows = kept.load(Path(run.output), name)
                if rows is not None:
                    yield Path(run.output), rows

        def first(name: str) -> list[kept.Row] | None:
            return next((rows for _, rows in lists(name, whole)), None)

        def merged(name: str) -> list[kept.Row] | None:
            return kept.merged(rows for _, rows in lists(name, parts))

        where, guests = next(lists("guests", whole), (None, None))
        return cls(
            first("volumes"),
            guests,
            merged("packages"),
            merged("systems"),
            first("quotas"),
            first("instances"),
            first("images"),
            frozenset(kept.about(where, "guests")) if where else frozenset(),
            continuity.ours(journal, _books(cloud, stage), whole[0].started_at) if whole else Ours(),
            records(journal, component_of(stage)),
        )


def windows_of(cloud: Cloud, journal: Journal, stage: str, folder: Path) -> dict[str, str]:
    """Database node to since when, by its own clock, the lists that `Baseline.find` finds are compared."""
    return continuity.windows(cloud, _compared(cloud, journal, stage, folder)[0])


def _books(cloud: Cloud, stage: str) -> list[Runbook]:
    """The runbooks of a stage and of the way back from it."""
    from cellstep.stages import BACKOUTS, STAGES  # noqa: PLC0415 - the runbooks are made of what verifies

    known, component = STAGES | BACKOUTS, component_of(stage)
    return [known[name](cloud) for name in (component, component + BACKOUT) if name in known]


def _compared(cloud: Cloud, journal: Journal, stage: str, folder: Path) -> tuple[list[RunRecord], list[RunRecord]]:
    """The runs whose lists count, oldest first: those for the whole cloud, and those with the limited ones between."""
    from cellstep.stages import runbook_of  # noqa: PLC0415 - the runbooks are made of what verifies

    since: list[RunRecord] = []
    partly: list[RunRecord] = []
    later: list[RunRecord] = []
    book = runbook_of(component_of(stage), cloud)
    for run in journal.runs(book.stage):
        if since and run.state == "abandoned" and not touched(journal, book, run):
            continue
        limited, single = run.options.get("limit"), run.options.get("step")
        if limited and Path(run.output) == folder:
            return [run], [run]
        if not (limited or single):
            if since and run.state in {"complete", "backed-out"}:
                break
            since.append(run)
            partly, later = [*partly, *later, run], []
        else:  # it counts when a whole run was there before it: else it belongs to the upgrade before
            later.append(run)
    partly = partly or later
    return since[::-1], partly[::-1]
