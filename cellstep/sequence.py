"""All stages of an upgrade, one after the other: their plans together, and their runs.

Each stage is a run of its own, with its own reports and way back; the next begins when the one before has ended well.
What stopped is gone on with first, and what is done already is not done again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from cellstep import rehearsals, runs, standing
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.engine import plan
from cellstep.engine.forecast import Forecast
from cellstep.engine.journal import UNFINISHED, Journal, RunRecord
from cellstep.engine.steps import Runbook
from cellstep.errors import UsageError
from cellstep.stages import STAGES, runbook_of
from cellstep.stages.copies import RESTORE
from cellstep.verification import component_of
from cellstep.wayback import changes_schema

ALL = "all"
"""What stands for the stages on the command line."""

ORDER = ("ceilometer", "glance", "keystone", "cinder", "clients", "horizon", "nova")
"""The order in which CERN upgraded, the hardest last."""

NOT_COMPLIANT = 3


def stages(cloud: Cloud) -> tuple[str, ...]:
    """The stages that the cloud has, in order: `horizon` only where cloud.yaml tells of a dashboard."""
    there = [stage for stage in STAGES if stage != "horizon" or cloud.config.dashboard]
    return tuple(sorted(there, key=lambda stage: ORDER.index(stage) if stage in ORDER else len(ORDER)))


def missing(cloud: Cloud) -> list[str]:
    """The stages that the cloud does not have, and why, a line each."""
    return [f"{stage}: cloud.yaml has no dashboard: left out" for stage in STAGES if stage not in stages(cloud)]


@dataclass(frozen=True)
class Part:
    """One stage of the sequence, as it stands.

    Attributes:
        runbook: its steps.
        lines: its plan.
        digest: of its plan, for all nodes of the cloud.
        done: the complete run that has done it; None where it is to be done.
        begun: its run that is not finished; None where there is none.
        takes: how long it, or what is left of it, will take; None where nothing is known.
        rehearsed: what is known of its schema changes, a line a database.
        text: its plan as text.
        values: its plan as plain values.
    """

    runbook: Runbook
    lines: tuple[plan.Line, ...]
    digest: str
    done: RunRecord | None
    begun: RunRecord | None
    takes: Forecast | None
    rehearsed: tuple[str, ...]
    text: str
    values: dict[str, Any]

    @property
    def stage(self) -> str:
        """Its name."""
        return self.runbook.stage

    @property
    def nodes(self) -> set[str]:
        """The nodes that it goes to."""
        return {name for line in self.lines for name in line.nodes}

    @property
    def to_do(self) -> bool:
        """Whether it is not done."""
        return self.done is None

    def stands(self) -> str:
        """How it stands, in words; "" where it has not begun."""
        if self.begun is not None:
            return f"run {self.begun.id} is not finished ({self.begun.state})"
        if self.done is None:
            return ""
        said = f"done in run {self.done.id}"
        said += ", not compliant" if self.done.exit_code == NOT_COMPLIANT else ""
        return said + ("" if self.done.plan_digest == self.digest else "; its plan is another now")


def parts(cloud: Cloud, journal: Journal, nodes: Sequence[Node]) -> list[Part]:
    """The stages in order, each with its plan for these nodes.

    Raises:
        ConfigurationError: a stage's runbook cannot be made for this cloud.
    """
    return [_part(cloud, journal, nodes, runbook_of(stage, cloud)) for stage in stages(cloud)]


def _part(cloud: Cloud, journal: Journal, nodes: Sequence[Node], runbook: Runbook) -> Part:
    stage, digest = runbook.stage, runbook.digest(cloud.nodes)
    lines = tuple(plan.lines_of(cloud, runbook, nodes))
    begun = next((run for run in journal.runs(stage) if run.state in UNFINISHED), None)
    sizes = {line.step.title: len(line.nodes) for line in lines}
    takes = standing.ahead(journal, begun) if begun else standing.expected(journal, stage, digest, sizes)
    known = rehearsals.lines(cloud, journal, component_of(stage)) if changes_schema(runbook) else []
    text, values = plan.as_text(cloud, runbook, nodes), plan.as_values(cloud, runbook, nodes)
    return Part(runbook, lines, digest, _done(cloud, journal, stage), begun, takes, tuple(known), text, values)


def _done(cloud: Cloud, journal: Journal, stage: str) -> RunRecord | None:
    """The newest run of a stage for the whole cloud, where it is complete, of this release, and stands still.

    A database of it that was restored since then is no longer of the new release.
    """
    last = journal.last_run(stage, whole=True)
    if last is None or last.state != "complete" or last.release != cloud.release.name:
        return None
    restored = journal.records(RESTORE, component_of(stage)).values()
    return None if any(record.at > (last.finished_at or "") for record in restored) else last


def progress(cloud: Cloud, journal: Journal) -> Iterator[tuple[str, str]]:
    """Each stage in order, with how it stands: to do, under way, done, done but not compliant, or why it stands."""
    for stage in stages(cloud):
        begun = next((run for run in journal.runs(stage) if run.state in UNFINISHED), None)
        done = _done(cloud, journal, stage)
        if begun is not None:
            yield stage, "under way" if begun.state == "running" else begun.state
        elif done is not None:
            yield stage, "not compliant" if done.exit_code == NOT_COMPLIANT else "done"
        else:
            yield stage, "to do"


# The plan


def as_text(cloud: Cloud, found: Sequence[Part]) -> str:
    """The plans one after the other, below a summary: stages, steps, nodes, and how long it takes."""
    rows = [
        (
            f"{number}. {part.stage}",
            f"{len(part.lines)} steps",
            f"{len(part.nodes)} nodes",
            _words(part.takes) if part.to_do or part.begun else "-",
            part.stands(),
        )
        for number, part in enumerate(found, 1)
    ]
    nodes, whole = set[str]().union(*(part.nodes for part in found)), takes(found)
    steps = sum(len(part.lines) for part in found)
    rows.append(("in all", f"{steps} steps", f"{len(nodes)} nodes", _words(whole), _still(found)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    summary = [
        "  ".join((first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row, widths[1:], strict=False))))
        + (f"  {row[-1]}" if row[-1] else "")
        for first, *row in rows
    ]
    plans = ["\n".join([part.text, *([""] if part.rehearsed else []), *part.rehearsed]) for part in found]
    return "\n\n\n".join(["\n".join([cloud.heading("all stages"), "", *summary, *missing(cloud)]), *plans])


def takes(found: Sequence[Part]) -> Forecast | None:
    """How long what is not done will take; None where nothing is known of any of it."""
    left = [part for part in found if (part.to_do or part.begun) and part.nodes]
    known = [part.takes for part in left if part.takes is not None]
    unknown = sum(part.takes.unknown if part.takes else len(part.lines) for part in left)
    return Forecast(sum(each.seconds for each in known), unknown) if known or not unknown else None


def _words(forecast: Forecast | None) -> str:
    return str(forecast) if forecast else "not known"


def _still(found: Sequence[Part]) -> str:
    left = sum(part.to_do or part.begun is not None for part in found)
    return "" if left == len(found) else f"{left} of {len(found)} stages to do" if left else "all done"


def as_values(cloud: Cloud, found: Sequence[Part]) -> dict[str, Any]:
    """The plans for machines, in order, with the same summary."""
    whole = takes(found)
    return {
        "cloud": cloud.config.name,
        "release": cloud.release.name,
        "steps": sum(len(part.lines) for part in found),
        "nodes": len(set[str]().union(*(part.nodes for part in found))),
        "forecast": _forecast_values(whole),
        "stages": [
            {
                **part.values,
                "rehearsals": list(part.rehearsed),
                "state": "unfinished" if part.begun else "to do" if part.to_do else "done",
                "run": part.begun.id if part.begun else part.done.id if part.done else None,
                "compliant": None if part.done is None else part.done.exit_code != NOT_COMPLIANT,
                "forecast": _forecast_values(part.takes),
            }
            for part in found
        ],
    }


def _forecast_values(forecast: Forecast | None) -> dict[str, Any] | None:
    return None if forecast is None else {"seconds": round(forecast.seconds), "steps_unknown": forecast.unknown}


# The runs


class Conductor(Protocol):
    """Who sees the runs and is asked between them."""

    def told(self, line: str) -> None:
        """A line for the operator."""

    def begin(self, question: str) -> None:
        """Asked before anything is done.

        Raises:
            UsageError: no.
        """

    def go_on(self, question: str) -> bool:
        """Asked after a stage that is done, but not compliant."""

    def carry(self, call: Callable[[runs.Watch], runs.Finished | None]) -> runs.Finished | None:
        """Call with who sees the run and who is asked in it, and show its end."""


def run(cloud: Cloud, request: runs.Request, conductor: Conductor) -> int:
    """Run the stages that are not done, in order; what is not finished is gone on with first.

    Args:
        cloud: the cloud.
        request: what was asked for, with `ALL` for its stage; `afresh` does the stages again that are done.
        conductor: who sees it and is asked.

    Returns:
        The exit code: 0, or 3 where a stage is not compliant.

    Raises:
        UsageError: an option that is for one stage; or a run that must be ended first.
        CellstepError: a run did not end well; the stages after it were not begun.
    """
    if request.partial:
        raise UsageError("--step, --from, --limit and --catch-up are for one stage: name it in place of all")
    return _Sequence(cloud, request, conductor).run()


class _Sequence:
    """The runs of one call."""

    def __init__(self, cloud: Cloud, request: runs.Request, conductor: Conductor) -> None:
        self.cloud, self.request, self.conductor = cloud, request, conductor
        self.dry_run = request.options.dry_run
        self.ran: set[str] = set()
        self.code = 0

    def run(self) -> int:
        with self._journal() as journal:
            found = parts(self.cloud, journal, self.cloud.nodes)
        begun, left = self._begun(), self._left()
        self._announce(found, begun, left)
        while begun is not None:
            call = partial(runs.resume, self.cloud, budgets=self.request.options.budgets)
            if not self._one(begun.stage, call):
                return self.code
            begun = self._begun()
        for stage in stages(self.cloud):
            if stage in self._left():
                self.ran.add(stage)
                if not self._one(stage, partial(runs.start, self.cloud, replace(self.request, stage=stage))):
                    return self.code
        return self.code

    def _announce(self, found: Sequence[Part], begun: RunRecord | None, left: Sequence[str]) -> None:
        """What is done already, and a question about the rest."""
        release, told = self.cloud.release, self.conductor.told
        dry = " (dry run: nothing is changed)" if self.dry_run else ""
        told(f"all stages, {release.source} to {release.target}, on {self.cloud.config.name}{dry}")
        for line in missing(self.cloud):
            told(line)
        for part in found:
            if part.stage not in left and part.done is not None:
                told(f"{part.stage}: {part.stands()}: skipped (--afresh does it again)")
                if part.done.exit_code == NOT_COMPLIANT and not self.dry_run:
                    self.code = NOT_COMPLIANT
        if not (begun or left):
            return told("all stages are done")
        ahead = [part for part in found if part.stage in left and not (begun and begun.whole and part.begun == begun)]
        steps = sum(len(part.lines) for part in ahead)
        words = [f"go on with run {begun.id} of {begun.stage} ({begun.state})"] if begun else []
        words += [f"run {', '.join(part.stage for part in ahead)} ({steps} steps)"] if ahead else []
        question = ", then ".join(words)
        return self.conductor.begin(f"{question[0].upper()}{question[1:]} now?")

    @contextmanager
    def _journal(self) -> Iterator[Journal]:
        with closing(runs.open_journal(self.cloud, read_only=True)) as journal:
            yield journal

    def _begun(self) -> RunRecord | None:
        """The run that is gone on with.

        Raises:
            UsageError: it is none of a stage's, or stands in the way of doing all afresh.
        """
        if self.dry_run:
            return None
        with self._journal() as journal:
            open_runs = [run for run in journal.runs() if run.state in UNFINISHED]
        if self.request.afresh:
            open_runs = [run for run in open_runs if run.whole]
        if not open_runs:
            return None
        run = open_runs[0]
        if self.request.afresh or run.stage not in STAGES:
            also = ", `cellstep run all` without --afresh, too" if run.stage in STAGES else ""
            raise UsageError(
                f"run {run.id} of {run.stage} is not finished ({run.state}): `cellstep resume` goes on with it{also};"
                " `cellstep abandon` ends it"
            )
        return run

    def _left(self) -> list[str]:
        """The stages that are to be run still."""
        with self._journal() as journal:
            return [
                stage
                for stage in stages(self.cloud)
                if stage not in self.ran and (self.request.afresh or _done(self.cloud, journal, stage) is None)
            ]

    def _one(self, stage: str, call: Callable[[runs.Watch], runs.Finished | None]) -> bool:
        """Carry one run through; whether to go on after it."""
        self.conductor.told(f"\n{stage}")
        try:
            finished = self.conductor.carry(call)
        except BaseException:  # whatever ended it: what was not begun is said
            self._tell_rest(stage)
            raise
        if finished is None or finished.exit_code != NOT_COMPLIANT:
            return True
        self.code = NOT_COMPLIANT
        rest = [later for later in self._left() if later != stage]
        if not rest or self.conductor.go_on(f"{stage} is done, but not compliant. Go on with {rest[0]}?"):
            return True
        self._tell_rest(stage)
        return False

    def _tell_rest(self, stage: str) -> None:
        rest = [later for later in self._left() if later != stage]
        if rest:
            self.conductor.told(f"not begun: {', '.join(rest)}; `cellstep run all` goes on")
