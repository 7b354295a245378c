"""Running a runbook: one step after another, each node accounted for, every outcome journalled.

The flow of one node's step: `execute` takes the step, `_one_step` says which nodes it is for, `_dispatch` journals the
start and sends the task (`engine.dispatch`), the outcome is journalled as it comes in, `_settle` counts the nodes, lets
the gate judge and decides whether the run goes on.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

from cellstep.cloud.nodes import Node
from cellstep.engine.context import Context
from cellstep.engine.dispatch import Dispatcher, Outcome
from cellstep.engine.journal import DONE, STATES
from cellstep.engine.steps import Finding, Runbook, Step
from cellstep.errors import CellstepError, Stopped
from tasks.holds import Hold, HostTask

MISSED = frozenset({"unreachable", "unknown"})


class Interrupted(CellstepError):
    """The run was interrupted and drained: `cellstep resume` goes on."""

    exit_code = 130


class Display(Protocol):
    """What shows a run while it goes on."""

    def step_begins(self, number: int, total: int, step: Step, nodes: Sequence[Node]) -> None:
        """A step begins on these nodes (all that it is for, those left out included)."""

    def node_ended(self, step: Step, node: str, outcome: Outcome) -> None:
        """A node's outcome came in."""

    def step_ended(self, step: Step, counts: Mapping[str, int], seconds: float, note: str) -> None:
        """A step ended; counts by state sum up to its nodes."""

    def found(self, finding: Finding) -> None:
        """A gate found something."""


class Engine:
    """Runs one runbook in one context.

    Args:
        runbook: the steps.
        context: the run.
        dispatcher: sends tasks to the nodes.
        display: shows the progress.
        confirm: asked before a step after which there is no way back; False stops the run.
    """

    def __init__(
        self,
        runbook: Runbook,
        context: Context,
        dispatcher: Dispatcher,
        display: Display,
        confirm: Callable[[Step], bool],
    ) -> None:
        self.runbook, self.context, self.dispatcher, self.display = runbook, context, dispatcher, display
        self.confirm = confirm
        self.nodes = {node.name: node for node in context.cloud.nodes}

    def execute(self, steps: Sequence[Step]) -> None:
        """Run the steps in order, leaving out those that the journal says are done.

        Raises:
            Stopped: a node failed, one that the stage needs was not reached, or a gate found something that blocks.
            Interrupted: the dispatcher was told to stop; what ran was waited for and journalled.
        """
        journal, run = self.context.journal, self.context.run
        self.context.left_out.update(journal.left_out(run))
        done = {row["title"] for row in journal.steps(run) if row["state"] in {"done", "empty"}}
        numbers = {step.title: number for number, step in enumerate(self.runbook.steps, 1)}
        for step in steps:
            if step.title in done:
                continue
            if step.no_return and not self.context.options.dry_run and not self.confirm(step):
                raise Stopped(f"not confirmed: “{step.title}”; `cellstep resume` asks again")
            self._one_step(numbers[step.title], step)

    def _one_step(self, number: int, step: Step) -> None:
        journal, run = self.context.journal, self.context.run
        nodes = step.on.choose(self.context.witnesses() if step.kind == "gate" else self.context.nodes)
        began = time.monotonic()
        self.display.step_begins(number, len(self.runbook.steps), step, nodes)
        journal.begin_step(run, number, step.title, [(node.cell, node.name) for node in nodes])
        if not nodes:
            self._empty(step)
            return
        here = self._leave_out(step, nodes)
        outcomes = self._act(step, self._not_done(step, here))
        self._settle(step, nodes, outcomes, time.monotonic() - began)

    def _empty(self, step: Step) -> None:
        """A step without nodes is never silently green: it says why there is nothing to do, or stops."""
        why = "none of the limited nodes" if self.context.options.limit else step.when_empty
        state = "empty" if why else "stopped"
        self.context.journal.end_step(self.context.run, step.title, state, why)
        self.display.step_ended(step, {}, 0.0, why or "no such node")
        if not why:
            raise Stopped(f"“{step.title}”: the inventory has no {step.on.words}; add them, then `cellstep resume`")

    def _leave_out(self, step: Step, nodes: Sequence[Node]) -> list[Node]:
        left_out = self.context.left_out
        gone = [(node.name, "unreachable", left_out[node.name]) for node in nodes if node.name in left_out]
        self.context.journal.end_hosts(self.context.run, step.title, gone)
        return [node for node in nodes if node.name not in left_out]

    def _not_done(self, step: Step, nodes: Sequence[Node]) -> list[Node]:
        """The nodes that still need the step; a judge needs what every node says, so there it is all of them."""
        if step.judge:
            return list(nodes)
        rows = self.context.journal.hosts(self.context.run, step.title)
        done = {row["host"] for row in rows if row["state"] in DONE}
        return [node for node in nodes if node.name not in done]

    def _act(self, step: Step, nodes: Sequence[Node]) -> dict[str, Outcome]:
        if isinstance(step.does, Hold):
            return (self._place if step.kind == "hold" else self._lift)(step, step.does, nodes)
        arguments = {node.name: {**step.arguments, **self._computed(step, node)} for node in nodes}
        return self._dispatch(step, step.does, nodes, arguments)

    def _computed(self, step: Step, node: Node) -> Mapping[str, Any]:
        return step.per_node(self.context, node) if step.per_node else {}

    def _place(self, step: Step, held: Hold, nodes: Sequence[Node]) -> dict[str, Outcome]:
        """Read the prior state, journal it, and only then change anything."""
        journal, run, name = self.context.journal, self.context.run, held.name
        constant = {node.name: dict(step.arguments) for node in nodes}
        priors = self._dispatch(step, held.read, nodes, constant, half="first")
        ready = {
            host: {**constant[host], "prior": journal.place_hold(run, name, host, outcome.result)}
            for host, outcome in priors.items()
            if outcome.state == "ok"
        }
        placed = self._dispatch(step, held.place, [node for node in nodes if node.name in ready], ready, half="second")
        return {**priors, **placed}

    def _lift(self, step: Step, held: Hold, nodes: Sequence[Node]) -> dict[str, Outcome]:
        journal, run, name = self.context.journal, self.context.run, held.name
        priors = journal.open_holds(name)
        nothing = [node for node in nodes if node.name not in priors]
        journal.end_hosts(run, step.title, [(node.name, "skipped", f"no hold “{name}” here") for node in nothing])
        holding = [node for node in nodes if node.name in priors]
        arguments = {node.name: {**step.arguments, "prior": priors[node.name]} for node in holding}
        return self._dispatch(step, held.lift, holding, arguments, lifted=name)

    def _dispatch(
        self,
        step: Step,
        task: HostTask,
        nodes: Sequence[Node],
        arguments: Mapping[str, Mapping[str, Any]],
        *,
        half: Literal["", "first", "second"] = "",
        lifted: str = "",
    ) -> dict[str, Outcome]:
        """Send a task, and journal each node's start and outcome.

        Of a hold's two halves the first starts the node, and the second's outcome is the node's. `lifted` is the
        hold that a good outcome ends.
        """
        journal, run = self.context.journal, self.context.run

        def started(host: str) -> None:
            if half != "second":
                journal.start_host(run, step.title, host)

        def ended(host: str, outcome: Outcome) -> None:
            if half == "first" and outcome.state == "ok":
                return
            if lifted and outcome.state in DONE:
                journal.lift_hold(lifted, host)
            journal.end_host(run, step.title, host, outcome.state, outcome.detail)
            self.display.node_ended(step, host, outcome)

        return self.dispatcher.send(task, nodes, arguments, started=started, ended=ended)

    def _settle(self, step: Step, nodes: Sequence[Node], outcomes: Mapping[str, Outcome], seconds: float) -> None:
        """Count every node, let the gate judge, and stop where the run must not go on."""
        journal, run = self.context.journal, self.context.run
        names = {node.name for node in nodes}
        rows = [row for row in journal.hosts(run, step.title) if row["host"] in names]
        counts = account(nodes, rows)
        stop = self._trouble(step, rows)
        if not stop and not self.dispatcher.stopping.is_set():
            stop = self._judge(
                step, {name: outcome.result for name, outcome in outcomes.items() if outcome.result is not None}
            )
        # A gate that was not judged, or a step with nodes that were not sent to, is not done: resume comes back to it.
        undone = bool(step.judge) or counts.get("not_run", 0) + counts.get("unknown", 0) > 0
        state = "stopped" if stop or (self.dispatcher.stopping.is_set() and undone) else "done"
        journal.end_step(run, step.title, state, stop)
        self.display.step_ended(step, counts, seconds, stop)
        if stop:
            raise Stopped(f"“{step.title}”: {stop}")
        if self.dispatcher.stopping.is_set():
            raise Interrupted(f"interrupted at “{step.title}”; nothing runs any more; `cellstep resume` goes on")

    def _trouble(self, step: Step, rows: Sequence[Mapping[str, Any]]) -> str:
        """What of the nodes' outcomes stops the run, in words; nodes that may be missed are left out from here on."""
        fold = self.context.cloud.fold
        failed = [row["host"] for row in rows if row["state"] == "failed"]
        missed = [row for row in rows if row["state"] in MISSED and row["host"] not in self.context.left_out]
        needed = [row["host"] for row in missed if not self.runbook.may_miss(self.nodes[row["host"]])]
        if failed:
            return f"failed on {fold(failed)}; mend it, then `cellstep resume`"
        if needed:
            return f"not reached, and needed: {fold(needed)}; bring it back, then `cellstep resume`"
        if self.dispatcher.stopping.is_set():
            return ""
        if all(row["state"] in MISSED for row in rows):
            return f"none of its {len(rows)} nodes was reached; look at the network, then `cellstep resume`"
        for row in missed:
            self.context.journal.leave_out(self.context.run, row["host"], step.title, row["detail"])
        self.context.left_out.update(self.context.journal.left_out(self.context.run))
        return ""

    def _judge(self, step: Step, results: Mapping[str, Any]) -> str:
        if not step.judge:
            return ""
        findings = step.judge(self.context, results)
        self.context.journal.set_findings(self.context.run, step.title, [(f.blocking, f.text) for f in findings])
        for finding in findings:
            self.display.found(finding)
        blocking = [finding for finding in findings if finding.blocking]
        if not blocking or self.context.options.dry_run:
            return ""
        return f"{len(blocking)} finding(s) block; mend them, then `cellstep resume` looks again"


def account(nodes: Sequence[Node], rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count a step's nodes by state; every node is in exactly one.

    Raises:
        CellstepError: the journal's rows are not exactly the step's nodes (a fault of cellstep itself).
    """
    if sorted(row["host"] for row in rows) != sorted(node.name for node in nodes):
        raise CellstepError(f"host accounting: {len(nodes)} nodes expected, {len(rows)} in the journal")
    counts = Counter(row["state"] for row in rows)
    return {state: counts[state] for state in STATES if counts[state]}
