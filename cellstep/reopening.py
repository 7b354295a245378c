"""Holds that are lifted under a run that is not finished: what that run does again when it goes on.

It places the holds again. Where they had kept the cloud at rest, it also waits for rest again and makes its dumps anew:
those from before no longer match what is in the databases.
"""

from collections.abc import Iterable, Mapping, Set

from cellstep.cloud.load import Cloud
from cellstep.engine.journal import DONE, UNFINISHED, Journal, RunRecord
from cellstep.engine.steps import Runbook, Step
from cellstep.errors import UsageError
from cellstep.stages import STAGES, runbook_of
from cellstep.verification import component_of
from cellstep.wayback import GOING_BACK, REST, Upgrade, synced
from tasks import backup, hazards, rabbitmq, staging
from tasks.holds import Hold
from tasks.services import RABBITMQ

LIFTED = "lifted by `cellstep holds lift`: placed again when the run goes on"
ANEW = "done again when the run goes on: `cellstep holds lift` ended the rest that it stood on"
STILL_DISABLED = "RabbitMQ is still disabled here"

NO_MATCH = "the dumps no longer match"
"""What an operator accepts who ends the rest of a cloud whose schema is being changed."""


def name_of(step: Step) -> str:
    """The name of the hold that a step places or lifts, "" where it does neither."""
    return step.does.name if isinstance(step.does, Hold) else ""


def standing_on_rest(book: Runbook) -> list[Step]:
    """The steps that are worth nothing without the rest: waits between the holds that bring it, checks and dumps."""
    places = [n for n, step in enumerate(book.steps) if step.kind == "hold" and name_of(step) in REST]
    between = book.steps[places[0] : places[-1]] if places else ()
    worthless = {hazards.look, backup.back_up, staging.prove, backup.compare_all}
    dumps = [step for step in book.steps if step.does in worthless]
    return [*(step for step in between if step.kind == "do"), *dumps]


def refuse_unless(cloud: Cloud, journal: Journal, names: Iterable[str], accepted: str) -> None:
    """Where a schema change was begun, ending the rest is not undone by `resume`: it cannot make the dumps anew.

    Args:
        cloud: the cloud.
        journal: its journal.
        names: the holds that are to be lifted.
        accepted: `NO_MATCH`, from an operator who wants it all the same.

    Raises:
        UsageError: it was not accepted.
    """
    ending = sorted(REST & set(names))
    if not ending or accepted == NO_MATCH:
        return
    unfinished = dict.fromkeys(component_of(run.stage) for run in journal.runs() if run.state in UNFINISHED)
    for stage in (component for component in unfinished if component in STAGES):
        upgrade = Upgrade.find(cloud, journal, runbook_of(stage, cloud))
        under_way = upgrade and upgrade.last.state in UNFINISHED | {GOING_BACK}
        cells = sorted(upgrade.synced()) if upgrade and under_way else []
        if cells:
            raise UsageError(
                f"the schema change of {stage} has begun in {', '.join(cells)}, and `resume` cannot make new dumps"
                f" after that: once you lift {', '.join(ending)}, {NO_MATCH} what is in the databases, and a back-out"
                " loses what is written from then on. Name other holds with --name, or, all the same:"
                f" `cellstep holds lift --accept '{NO_MATCH}'`"
            )


class Reopening:
    """The runs that are not finished, while holds are lifted under them.

    Args:
        cloud: the cloud.
        journal: its journal.
    """

    def __init__(self, cloud: Cloud, journal: Journal) -> None:
        self.journal = journal
        unfinished = [run for run in journal.runs() if run.state in UNFINISHED]
        # A hold of the upgrade may be lifted under its back-out: the runbook is that of the run, the holds' names tell.
        self.runs = [(run, runbook_of(run.stage, cloud)) for run in unfinished]

    def open_again(self, hosts: Mapping[str, Set[str]], where: str) -> None:
        """Open the steps again that will have to be done again; called before anything is lifted.

        Args:
            hosts: hold to the nodes on which it is lifted.
            where: the same nodes in words.
        """
        for run, book in self.runs:
            for step in book.steps:
                if step.kind == "hold":
                    self._end(run, step, "not_run", LIFTED, self._done(run, step) & hosts.get(name_of(step), set()))
            if REST & hosts.keys() and not synced(self.journal, book, [run]):
                for step in standing_on_rest(book):
                    disabled = self._disabled(step) - hosts.get(RABBITMQ.name, set())
                    self._end(run, step, "not_run", ANEW, self._done(run, step) - disabled)
            self.journal.event(run.id, f"holds lifted on {where}: {', '.join(sorted(hosts))}")

    def known_now(self, lifted: Mapping[str, Iterable[str]]) -> None:
        """Called after the lifting.

        Where placing or lifting a hold had no known end, it is known now that the hold is not there. Where RabbitMQ
        could not be enabled, its queues are as they were, and cannot be asked for.
        """
        for run, book in self.runs:
            steps = {step.title: step for step in book.steps}
            for title, unknown in self.journal.unknown_hosts(run.id).items():
                if title in steps:
                    gone = set(lifted.get(name_of(steps[title]), ()))
                    self._end(run, steps[title], "not_run", LIFTED, gone & set(unknown))
            for step in standing_on_rest(book):
                rows = self.journal.hosts(run.id, step.title)
                again = {row["host"] for row in rows if row["state"] == "not_run" and row["detail"] == ANEW}
                self._end(run, step, "skipped", STILL_DISABLED, again & self._disabled(step))

    def _disabled(self, step: Step) -> set[str]:
        """The nodes on which a wait cannot ask RabbitMQ, as it is stopped by a hold: nothing can have come in there."""
        return set(self.journal.open_holds(RABBITMQ.name)) if step.does == rabbitmq.wait_until_empty else set()

    def _done(self, run: RunRecord, step: Step) -> set[str]:
        return {row["host"] for row in self.journal.hosts(run.id, step.title) if row["state"] in DONE}

    def _end(self, run: RunRecord, step: Step, state: str, why: str, hosts: Set[str]) -> None:
        if hosts:
            self.journal.end_hosts(run.id, step.title, [(host, state, why) for host in sorted(hosts)])
