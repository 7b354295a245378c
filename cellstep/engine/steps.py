"""What a runbook is made of: steps, choices of nodes, findings.

A runbook is a list of lines made by `step`, `hold`, `lift` and `gate`. Nothing here knows SSH, SQL or OpenStack.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cellstep.cloud.nodes import Node
from tasks.holds import Hold, HostTask

if TYPE_CHECKING:
    import pandas as pd

    from cellstep.engine.context import Context

Kind = Literal["do", "hold", "lift", "settle", "save", "gate"]


@dataclass(frozen=True)
class Nodes:
    """A choice of nodes, with the words that the plan shows for it."""

    words: str
    choose: Callable[[Sequence[Node]], Sequence[Node]]


@dataclass(frozen=True)
class Finding:
    """One thing that a gate found.

    Attributes:
        text: one line: what, where, what to do.
        blocking: the run stops here (exit 4) unless the operator overrides the gate; otherwise it is reported, and the
            run ends with exit 3.
        note: it is as it should be, and only told: it stops nothing, and the run may end with 0.
    """

    text: str
    blocking: bool
    note: bool = False


Keep = Callable[["Context", str, Any], None]
Arguments = Callable[["Context", Node], Mapping[str, Any]]
Judge = Callable[["Context", Mapping[str, Any]], list[Finding]]


@dataclass(frozen=True)
class Step:
    """One line of a runbook.

    Attributes:
        title: the operators' words; unique in its runbook, and the key in the journal.
        kind: do, hold (places one), lift (puts it back), settle (lets it stay), save (keeps what it sees), gate
            (judges, may stop the run).
        does: the Nornir task that is run on each node, or the hold that is placed or lifted.
        on: the nodes.
        arguments: constant arguments of the task.
        per_node: further arguments, computed for each node when the step begins.
        judge: called with the results by node name when all nodes have answered.
        when_empty: what the line says where the cloud has no such node; without it that is an error.
        no_return: after this step the way back is closed.
        section: the heading above the step in the plan, where a new one begins.
        at_once: no canary, no growing window: all its nodes at once, as many as workers are free.
        reconnects: its nodes connect to RabbitMQ again: no more begin in a second than the site allows.
        bystanders: also on database nodes of the run's cells that the run otherwise leaves alone.
        keep: takes what a node's task noted (`tasks.holds.Noted`), before its end is in the journal.
        cell: the cell that it changes, where that is not its nodes' own.
        site: it is the site's own, of cloud.yaml.
        on_trial: of a gate: the title of the hold that it judges. Where the gate stops the run, the hold is lifted at
            once, and `resume` places it again.
    """

    title: str
    kind: Kind
    does: HostTask | Hold
    on: Nodes
    arguments: Mapping[str, Any] = field(default_factory=dict)
    per_node: Arguments | None = None
    judge: Judge | None = None
    when_empty: str = ""
    no_return: bool = False
    section: str = ""
    at_once: bool = False
    reconnects: bool = False
    bystanders: bool = False
    keep: Keep | None = None
    cell: str = ""
    site: bool = False
    on_trial: str = ""


@dataclass(frozen=True)
class Runbook:
    """A stage's steps, and which nodes the stage can do without for now.

    Attributes:
        stage: its name on the command line.
        steps: in order.
        may_miss: a node that fails or cannot be reached does not stop the run where this is true, within the budgets.
        way_back: what undoes the run up to its point of no return, in words; "" where nothing does.
        facts: what it brings its nodes to, by name: the versions of packages and schemas. They are part of the plan.
        report: makes the tables of its report where that is no verification of a stage.
        changes: what cloud.yaml changes of the stage's own steps, in words.
    """

    stage: str
    steps: tuple[Step, ...]
    may_miss: Callable[[Node], bool]
    way_back: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    report: "Callable[[Context], Mapping[str, pd.DataFrame]] | None" = None
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse two steps of one title, which the journal could not tell apart, and a trial of what is not placed."""
        titles = [step.title for step in self.steps]
        twice = sorted({title for title in titles if titles.count(title) > 1})
        if twice:
            raise ValueError(f"the runbook of {self.stage} has steps of the same title: {', '.join(twice)}")
        for place, step in enumerate(self.steps):
            placed = {each.title for each in self.steps[:place] if each.kind == "hold"}
            if step.on_trial and step.on_trial not in placed:
                raise ValueError(f"the runbook of {self.stage} places no hold “{step.on_trial}” before “{step.title}”")

    def digest(self, nodes: Sequence[Node]) -> str:
        """A digest of the steps with their nodes' names, and of the facts: two plans are the same when it is."""
        facts = [f"{name}: {value}" for name, value in sorted(self.facts.items())]
        lines = [f"{step.kind} {step.title} @ {[node.name for node in step.on.choose(nodes)]}" for step in self.steps]
        return hashlib.sha256("\n".join([*lines, *facts]).encode()).hexdigest()[:16]


def step(  # noqa: PLR0913 - all but two are given by name, in the line of a runbook
    title: str,
    task: HostTask,
    *,
    on: Nodes,
    per_node: Arguments | None = None,
    when_empty: str = "",
    section: str = "",
    at_once: bool = False,
    bystanders: bool = False,
    keep: Keep | None = None,
    cell: str = "",
    **arguments: Any,
) -> Step:
    """A step that does something on each node."""
    return Step(
        *(title, "do", task, on, arguments, per_node, None, when_empty),
        section=section,
        at_once=at_once,
        bystanders=bystanders,
        keep=keep,
        cell=cell,
    )


def hold(title: str, held: Hold, *, on: Nodes, when_empty: str = "", section: str = "", **arguments: Any) -> Step:
    """A step that places a hold; the prior state is journalled before."""
    return Step(title, "hold", held, on, arguments, when_empty=when_empty, section=section)


def lift(
    title: str,
    held: Hold,
    *,
    on: Nodes,
    when_empty: str = "",
    no_return: bool = False,
    section: str = "",
    reconnects: bool = False,
    keep: Keep | None = None,
    **arguments: Any,
) -> Step:
    """A step that puts back what a hold changed."""
    return Step(
        *(title, "lift", held, on, arguments, None, None, when_empty),
        no_return=no_return,
        section=section,
        reconnects=reconnects,
        keep=keep,
    )


def settle(
    title: str, held: Hold, *, on: Nodes, when_empty: str = "", no_return: bool = False, **arguments: Any
) -> Step:
    """A step that lets stay for good what a hold changed.

    Raises:
        ValueError: it is no hold of which that can be.
    """
    if held.settle is None:
        raise ValueError(f"the hold “{held.name}” is always put back: it cannot be settled")
    return Step(title, "settle", held, on, arguments, when_empty=when_empty, no_return=no_return)


def save(
    title: str,
    task: HostTask,
    *,
    on: Nodes,
    judge: Judge,
    per_node: Arguments,
    when_empty: str = "",
    section: str = "",
) -> Step:
    """A step that looks, and keeps what it saw for the comparison afterwards."""
    return Step(title, "save", task, on, {}, per_node, judge, when_empty, section=section)


def gate(
    title: str,
    task: HostTask,
    *,
    on: Nodes,
    judge: Judge,
    per_node: Arguments,
    section: str = "",
    when_empty: str = "",
    on_trial: str = "",
) -> Step:
    """A step that looks, and stops the run (or reports) where what it finds is wrong; then the operator is asked."""
    return Step(title, "gate", task, on, {}, per_node, judge, when_empty, section=section, on_trial=on_trial)
