"""The site's own steps: what `steps` in cloud.yaml adds to a runbook, and what it changes of it.

What is wrong with an entry is found when a runbook is made, before anything is sent: all faults at once, a line each.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from cellstep.cloud.load import CLOUD_FILE, Cloud
from cellstep.cloud.select import select
from cellstep.cloud.steps import StepConfig
from cellstep.engine.steps import Nodes, Runbook, Step
from cellstep.errors import ConfigurationError
from cellstep.stages.functions import Functions, NotFound
from cellstep.verification import BACKOUT
from plugins.inventory.validation import did_you_mean, nearest
from tasks import backout as going_back
from tasks import (
    backup,
    commands,
    databases,
    downgrade,
    loadbalancer,
    packages,
    policies,
    rabbitmq,
    restore,
    scheduling,
    staging,
)
from tasks.holds import Hold, HostTask
from tasks.loadbalancer import FENCE

Books = Mapping[str, Callable[[Cloud], Runbook]]

PROTECTING = frozenset(
    {
        *(databases.wait_for_tasks, rabbitmq.wait_until_empty, loadbalancer.still_fenced),
        *(backup.back_up, staging.prove, packages.update, databases.sync, scheduling.settle),
        *(packages.install, policies.fix),
        *(going_back.wait_until_idle, going_back.wait_for_tasks, going_back.wait_until_empty),
        *(restore.check, downgrade.to_before, restore.restore),
    }
)
"""Tasks that keep data safe, or by which the journal knows how far an upgrade is: a site cannot do without them."""

KINDS = {
    "gate": "is a gate: it cannot be {}; one that blocks is passed knowingly, with `cellstep resume --override`",
    "save": "saves what a gate compares with afterwards: it cannot be {}",
    "hold": "places the hold {hold}, which protects the cloud while it is upgraded: it cannot be {}",
    "lift": "lifts the hold {hold}: it cannot be {}, or the cloud would not be put back as it was",
    "settle": "ends the hold {hold}, whose change stays: it cannot be {}, or it would be held for ever",
}


class Steps:
    """The entries of `steps` in cloud.yaml.

    Args:
        cloud: the cloud.
        books: stage to what makes its own runbook.
    """

    def __init__(self, cloud: Cloud, books: Books) -> None:
        self.cloud, self.books = cloud, books
        self.entries = cloud.config.steps
        self.faults: dict[int, str] = {}  # by the entry's place

    def check(self) -> None:
        """See whether every entry is right.

        Raises:
            ConfigurationError: with all faults.
        """
        for stage in dict.fromkeys(entry.stage for entry in self.entries if self._is_known(entry)):
            self._weave(self.books[stage](self.cloud))
        self._refuse()

    def woven(self, runbook: Runbook) -> Runbook:
        """A runbook with the site's steps in it.

        Raises:
            ConfigurationError: an entry is not right, be it of another stage.
        """
        if not self.entries:
            return runbook
        self.check()
        made = self._weave(runbook)
        self._refuse()
        return made

    def _is_known(self, entry: StepConfig) -> bool:
        if entry.stage not in self.books:
            place = next(n for n, other in enumerate(self.entries) if other is entry)
            hint = did_you_mean(entry.stage, self.books, "stages")
            self._fault(place, f"there is no stage '{entry.stage}'{hint}")
        return entry.stage in self.books

    def _fault(self, place: int, text: str) -> None:
        line = self.cloud.step_lines[place] if place < len(self.cloud.step_lines) else None
        self.faults[place] = f"{CLOUD_FILE}{f':{line}' if line else ''}: steps.{place}: {text}"

    def _refuse(self) -> None:
        if self.faults:
            raise ConfigurationError([self.faults[place] for place in sorted(self.faults)])

    def _weave(self, runbook: Runbook) -> Runbook:
        """Without those entries that have faults."""
        loom = _Loom(self.cloud, runbook)
        for place, entry in enumerate(self.entries):
            if entry.stage == runbook.stage:
                try:
                    loom.take(entry)
                except _Fault as error:
                    self._fault(place, str(error))
        forward = runbook.stage.removesuffix(BACKOUT)
        for place, entry in enumerate(self.entries):
            if forward != runbook.stage and entry.stage == forward and entry.kind == "hold":
                try:
                    loom.lift_before_the_end(entry)
                except _Fault as error:
                    self._fault(place, str(error))
        return loom.done()


class _Fault(Exception):
    """What is wrong with one entry, in words."""


class _Loom:
    """One runbook, while the site's steps are woven into it."""

    def __init__(self, cloud: Cloud, runbook: Runbook) -> None:
        self.cloud, self.runbook = cloud, runbook
        self.steps = list(runbook.steps)
        self.facts = dict(runbook.facts)
        self.changes: list[str] = []
        self.functions = Functions(cloud.directory)
        self.following: set[str] = set()  # titles of the site's steps that were put after another: in the file's order

    def done(self) -> Runbook:
        """The runbook as it is now."""
        changes = (*self.runbook.changes, *self.changes)
        return replace(self.runbook, steps=tuple(self.steps), facts=self.facts, changes=changes)

    def take(self, entry: StepConfig) -> None:
        """Do what an entry says.

        Raises:
            _Fault: it cannot be done; nothing was.
        """
        if entry.leave_out is not None:
            self._leave_out(entry, self._own(entry.leave_out, "left out"))
            return
        made = self._made(entry)
        if entry.replace is not None:
            self._replace(entry, self._own(entry.replace, "replaced"), made)
            return
        self._refuse_twice(made.title)
        place = self._after(entry.after, entry.before)
        if entry.kind == "hold":
            lifted = self._lift_of(entry, made)
            end = self._after(entry.lift_after, entry.lift_before)
            if end < place:
                raise _Fault("is lifted before it is placed; name a later step in lift_after or lift_before")
            self._put(end, lifted, after=entry.lift_after is not None)
        self._put(place, made, after=entry.after is not None)
        self._note(entry, made)

    def _put(self, place: int, step: Step, *, after: bool) -> None:
        self.steps.insert(place, step)
        if after:
            self.following.add(step.title)

    def lift_before_the_end(self, entry: StepConfig) -> None:
        """Have the way back lift what the stage's own step would have lifted.

        Raises:
            _Fault: there is a step of its title.
        """
        made = self._made(entry)
        if any(step.kind == "lift" and _hold_of(step) == _hold_of(made) for step in self.steps):
            return  # the site's own steps of the way back see to it
        opens = (n for n, step in enumerate(self.steps) if step.kind == "lift" and step.does == FENCE)
        self.steps.insert(next(opens, len(self.steps) - 1), self._lift_of(entry, made))

    # What an entry makes

    def _made(self, entry: StepConfig) -> Step:
        does = self._does(entry)
        if isinstance(does, Hold):
            taken = {_hold_of(step) for step in self.steps if step.kind == "hold"}
            if does.name in taken and self.runbook.stage == entry.stage:
                raise _Fault(f"the hold '{does.name}' has the name of another one of {self.runbook.stage}; rename it")
        return Step(entry.title_given, entry.kind, does, self._nodes(entry), _arguments(entry), site=True)

    def _does(self, entry: StepConfig) -> HostTask | Hold:
        if entry.run is None:
            return commands.hold_of(entry.hold) if entry.hold else commands.carry_out
        try:
            if entry.kind == "hold":
                return self.functions.hold(entry.run, entry.arguments)
            return self.functions.task(entry.run, entry.arguments)
        except NotFound as error:
            raise _Fault(str(error)) from error

    def _nodes(self, entry: StepConfig) -> Nodes:
        names = {node.name for node in select(self.cloud, entry.on)}
        return Nodes(entry.on, lambda nodes: [node for node in nodes if node.name in names])

    def _lift_of(self, entry: StepConfig, made: Step) -> Step:
        self._refuse_twice(entry.title_of_lift)
        if entry.title_of_lift == made.title:
            raise _Fault("has a lift_title that is its title; write another")
        return replace(made, title=entry.title_of_lift, kind="lift")

    def _note(self, entry: StepConfig, made: Step) -> None:
        """What stands behind a step is part of the plan: another command is another plan."""
        said = entry.model_dump(include={"run", "arguments", "command", "already", "read", "place", "lift"})
        self.facts[f"the site's step “{made.title}”"] = ", ".join(f"{k}: {v}" for k, v in said.items() if v)

    # What it changes

    def _leave_out(self, entry: StepConfig, place: int) -> None:
        gone = self.steps.pop(place)
        if gone.section and place < len(self.steps) and not self.steps[place].section:
            self.steps[place] = replace(self.steps[place], section=gone.section)
        self.changes.append(f"left out: “{gone.title}”: {entry.reason}")
        self.facts[f"left out: “{gone.title}”"] = entry.reason

    def _replace(self, entry: StepConfig, place: int, made: Step) -> None:
        gone = self.steps[place]
        if made.title != gone.title:
            self._refuse_twice(made.title)
        self.steps[place] = replace(made, section=gone.section)
        by = f" by “{made.title}”" if made.title != gone.title else ""
        self.changes.append(f"replaced: “{gone.title}”{by}: {entry.reason}")
        self.facts[f"replaced: “{gone.title}”"] = entry.reason
        self._note(entry, made)

    def _own(self, title: str, what: str) -> int:
        """The place of a step of the product's own that a site can do without.

        Raises:
            _Fault: there is none, or it protects data.
        """
        place = self._place(title)
        step = self.steps[place]
        if step.site:
            raise _Fault(f"“{title}” is a step of the site's own; take its entry away instead")
        if step.kind in KINDS:
            raise _Fault(f"“{title}” {KINDS[step.kind].format(what, hold=_hold_of(step))}")
        if step.does in PROTECTING:
            raise _Fault(f"“{title}” keeps data safe, or what is needed to go back: it cannot be {what}")
        return place

    # Where

    def _after(self, after: str | None, before: str | None) -> int:
        """Where a step is put that comes after one (and after the site's own that follow it already) or before one."""
        if before is not None:
            return self._place(before)
        place = self._place(after or "") + 1
        while place < len(self.steps) and self.steps[place].title in self.following:
            place += 1
        return place

    def _place(self, title: str) -> int:
        titles = [step.title for step in self.steps]
        if title in titles:
            return titles.index(title)
        guess = nearest(title, titles)
        hint = f"did you mean “{guess}”?" if guess else f"`cellstep plan {self.runbook.stage}` shows its titles"
        raise _Fault(f"{self.runbook.stage} has no step “{title}”; {hint}")

    def _refuse_twice(self, title: str) -> None:
        if any(step.title == title for step in self.steps):
            raise _Fault(f"{self.runbook.stage} has a step “{title}” already; write another title")


def _hold_of(step: Step) -> str:
    return step.does.name if isinstance(step.does, Hold) else ""


def _arguments(entry: StepConfig) -> dict[str, object]:
    if entry.run is not None:
        return dict(entry.arguments)
    shared = {"already": entry.already, "timeout_s": entry.timeout_s}
    if entry.kind == "hold":
        return {"read": entry.read, "place": entry.place, "lift": entry.lift, **shared}
    return {"command": entry.command, **shared}
