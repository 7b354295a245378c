"""Running a runbook: one step after another, each node accounted for, every outcome journalled.

The flow of one node's step: `execute` takes the step, `_one_step` says which nodes it is for, `_dispatch` journals the
start and sends the task (`engine.dispatch`), the outcome is journalled as it comes in and watched (`engine.losses`),
`_settle` counts the nodes, lets the gate judge and decides whether the run goes on.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, Literal, Protocol

from cellstep.cloud.nodes import Node
from cellstep.engine.context import Context
from cellstep.engine.dispatch import Errand, Outcome
from cellstep.engine.journal import DONE, STATES
from cellstep.engine.losses import Losses
from cellstep.engine.steps import Finding, Runbook, Step
from cellstep.errors import CellstepError, Stopped, TakenOver
from plugins.runners.pace import Pace
from tasks.binding import Binding
from tasks.holds import Hold, HostTask, Noted


class Interrupted(CellstepError):
    """The run was interrupted and drained: `cellstep resume` goes on."""

    exit_code = 130


@dataclass(frozen=True)
class Crossing:
    """A place where the operator is asked whether to go on.

    Attributes:
        step: the gate that has passed, or the step after which there is no way back.
        no_return: it is the latter, and has not been done yet.
        way_back: what undoes the run up to its point of no return; "" where nothing does.
        ahead: titles of the steps up to the next such place.
    """

    step: Step
    no_return: bool
    way_back: str
    ahead: tuple[str, ...]


class Sender(Protocol):
    """What sends tasks to nodes: `engine.dispatch.Dispatcher`."""

    stopping: Any

    def send(
        self, task: HostTask, nodes: Sequence[Node], arguments: Mapping[str, Mapping[str, Any]], errand: Errand
    ) -> dict[str, Outcome]:
        """Run a task on nodes and return the outcome of each that was dispatched."""


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

    def told(self, node: str, text: str) -> None:
        """A node's task has something to say while it runs; of any thread."""


class Engine:
    """Runs one runbook in one context.

    Args:
        runbook: the steps.
        context: the run.
        dispatcher: sends tasks to the nodes.
        display: shows the progress.
        confirm: asked after a gate has passed and before the point of no return; False stops the run.
        still_ours: raises `Fenced` where another operator has taken the cloud over.
        token: this operator's fencing token.
    """

    def __init__(
        self,
        runbook: Runbook,
        context: Context,
        dispatcher: Sender,
        display: Display,
        confirm: Callable[[Crossing], bool],
        still_ours: Callable[[], None] = lambda: None,
        token: int = 0,
    ) -> None:
        self.runbook, self.context, self.dispatcher, self.display = runbook, context, dispatcher, display
        self.confirm, self.still_ours, self.token = confirm, still_ours, token
        self.losses = Losses(context, runbook.may_miss)
        self._told: SimpleQueue[str] = SimpleQueue()
        # Something may be under way there, sent by this run or an earlier one, of which the end is not known.
        self.uncertain = context.journal.uncertain()

    def execute(self, steps: Sequence[Step]) -> None:
        """Run the steps in order, leaving out those that the journal says are done on all their nodes.

        Raises:
            Stopped: a node that the stage needs failed or was not reached, a budget is spent, a gate found something
                that blocks, or the operator did not confirm.
            TakenOver: another operator has taken the cloud over.
            Interrupted: the dispatcher was told to stop; what ran was waited for and journalled.
        """
        self.context.left_out.update(self.context.journal.left_out(self.context.run))
        done = self._nodes_done()
        numbers = {step.title: number for number, step in enumerate(self.runbook.steps, 1)}
        for index, step in enumerate(steps):
            if step.title not in done or not {node.name for node in self._nodes(step)} <= done[step.title]:
                if step.no_return:
                    self._ask(step, steps[index:])
                self._one_step(numbers[step.title], step)
            if step.kind == "gate":
                self._ask(step, steps[index + 1 :])

    def _nodes_done(self) -> dict[str, set[str]]:
        """Of the steps that have ended: the nodes that need them no more."""
        journal, run = self.context.journal, self.context.run
        ended = {row["title"] for row in journal.steps(run) if row["state"] in {"done", "empty"}}
        done = {title: set(self.context.left_out) for title in ended}
        for row in journal.hosts(run) if ended else ():
            if row["step"] in ended and row["state"] in DONE:
                done[row["step"]].add(row["host"])
        return done

    def _ask(self, step: Step, rest: Sequence[Step]) -> None:
        if self.context.options.dry_run:
            return
        until = next((n for n, later in enumerate(rest) if n and (later.kind == "gate" or later.no_return)), len(rest))
        ahead = tuple(later.title for later in rest[: until + 1])
        consent = f"went on {'to' if step.no_return else 'after'} “{step.title}”"
        journal, run = self.context.journal, self.context.run
        if not ahead or any(event["what"] == consent for event in journal.events(run)):
            return
        if not self.confirm(Crossing(step, step.no_return, self.runbook.way_back, ahead)):
            raise Stopped(f"not confirmed at “{step.title}”; `cellstep resume` asks there again")
        journal.event(run, consent)

    def _nodes(self, step: Step) -> Sequence[Node]:
        wider = step.judge or step.bystanders
        return step.on.choose(self.context.witnesses() if wider else self.context.nodes)

    def _one_step(self, number: int, step: Step) -> None:
        journal, run = self.context.journal, self.context.run
        nodes = self._nodes(step)
        began = time.monotonic()
        self.display.step_begins(number, len(self.runbook.steps), step, nodes)
        journal.begin_step(run, number, step.title, [(node.cell, node.name) for node in nodes])
        if not nodes:
            self._empty(step)
            return
        here = self._leave_out(step, nodes)
        rows = {row["host"]: row for row in journal.hosts(run, step.title)}
        # A judge needs what every node says; others that are done need the step no more.
        todo = here if step.judge else [node for node in here if rows[node.name]["state"] not in DONE]
        outcomes = self._act(step, todo, self._bindings(step, todo, rows))
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
        gone = [(node.name, "quarantined", left_out[node.name]) for node in nodes if node.name in left_out]
        if gone:
            self.context.journal.end_hosts(self.context.run, step.title, gone)
        return [node for node in nodes if node.name not in left_out]

    def _act(self, step: Step, nodes: Sequence[Node], bindings: Mapping[str, Binding]) -> dict[str, Outcome]:
        if isinstance(step.does, Hold):
            if step.kind == "hold":
                return self._place(step, step.does, nodes, bindings)
            end = step.does.settle if step.kind == "settle" and step.does.settle else step.does.lift
            return self._lift(step, step.does, end, nodes, bindings)
        arguments = {node.name: {**step.arguments, **self._computed(step, node)} for node in nodes}
        return self._dispatch(step, step.does, nodes, arguments, bindings)

    def _computed(self, step: Step, node: Node) -> Mapping[str, Any]:
        return step.per_node(self.context, node) if step.per_node else {}

    def _bindings(self, step: Step, nodes: Sequence[Node], rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Binding]:
        """Each node's next try: of a generation of its own, or that of a try whose end is not known."""
        found = {}
        for node in nodes:
            unknown = rows[node.name]["state"] == "unknown"
            generation = rows[node.name]["generation"] + (not unknown)
            again = unknown or node.name in self.uncertain
            tell = partial(self._tell, node.name)
            found[node.name] = Binding(
                self.context.run, step.title, generation, self.token, again, self.still_ours, tell
            )
        return found

    def _tell(self, node: str, text: str) -> None:
        """Show a node's word at once; the engine's own thread journals it when a node has ended."""
        self.display.told(node, text)
        self._told.put(f"{node}: {text}")

    def _place(
        self, step: Step, held: Hold, nodes: Sequence[Node], bindings: Mapping[str, Binding]
    ) -> dict[str, Outcome]:
        """Read the prior state, journal it, and only then change anything."""
        journal, run = self.context.journal, self.context.run
        constant = {node.name: dict(step.arguments) for node in nodes}
        priors = self._dispatch(step, held.read, nodes, constant, bindings, half="first")
        read = {host: outcome.result for host, outcome in priors.items() if outcome.state == "ok"}
        placed: dict[str, Outcome] = {}
        if read and not self.dispatcher.stopping.is_set() and not self.losses.too_many():
            first = journal.place_holds(run, self.context.stage, step.title, held.name, read)
            ready = {host: {**constant[host], "prior": prior} for host, prior in first.items()}
            here = [node for node in nodes if node.name in ready]
            placed = self._dispatch(step, held.place, here, ready, bindings, half="second")
        # Only asked, and nothing was sent that changes them: not lost, but not done.
        asked = [(host, "not_run", "") for host in read if host not in placed]
        if asked:
            journal.end_hosts(run, step.title, asked)
        return {**priors, **placed}

    def _lift(
        self, step: Step, held: Hold, end: HostTask, nodes: Sequence[Node], bindings: Mapping[str, Binding]
    ) -> dict[str, Outcome]:
        journal, run = self.context.journal, self.context.run
        priors = journal.open_holds(held.name)
        nothing = [(node.name, "skipped", f"no hold “{held.name}” here") for node in nodes if node.name not in priors]
        if nothing:
            journal.end_hosts(run, step.title, nothing)
        holding = [node for node in nodes if node.name in priors]
        arguments = {node.name: {**step.arguments, "prior": priors[node.name]} for node in holding}
        return self._dispatch(step, end, holding, arguments, bindings, lifted=held.name)

    def _undo(self, title: str) -> str:
        """Lift a hold that was on trial, whatever else was lost, so that `resume` places it again; what came of it."""
        journal, run = self.context.journal, self.context.run
        number, step = next((n, each) for n, each in enumerate(self.runbook.steps, 1) if each.title == title)
        held = step.does
        priors = journal.open_holds(held.name) if isinstance(held, Hold) else {}
        nodes = [node for node in self._nodes(step) if node.name in priors]
        if not nodes or not isinstance(held, Hold):
            return f"“{title}” was not in place"
        journal.begin_step(run, number, title, [(node.cell, node.name) for node in nodes])
        bindings = self._bindings(step, nodes, {row["host"]: row for row in journal.hosts(run, title)})
        arguments = {node.name: {**step.arguments, "prior": priors[node.name]} for node in nodes}
        came = self._dispatch(step, held.lift, nodes, arguments, bindings, lifted=held.name, always=True)
        back = {host: outcome.detail for host, outcome in came.items() if outcome.state in DONE}
        journal.end_hosts(run, title, [(host, "not_run", f"undone: {detail}") for host, detail in back.items()])
        left = [node.name for node in nodes if node.name not in back]
        words = f"“{title}” is undone: {', '.join(back.values())}" if back else ""
        if left:
            why = "; ".join(f"{host}: {came[host].detail if host in came else 'not sent to'}" for host in left)
            words += f"{'; ' if words else ''}“{title}” could NOT be undone ({why}): `cellstep holds lift`"
        journal.end_step(run, title, "stopped", words)
        journal.event(run, words)
        return words

    def _dispatch(
        self,
        step: Step,
        task: HostTask,
        nodes: Sequence[Node],
        arguments: Mapping[str, Mapping[str, Any]],
        bindings: Mapping[str, Binding],
        *,
        half: Literal["", "first", "second"] = "",
        lifted: str = "",
        always: bool = False,
    ) -> dict[str, Outcome]:
        """Send a task, and journal each node's start and outcome.

        Of a hold's two halves the first starts the node, and the second's outcome is the node's. `lifted` is the
        hold that a good outcome ends; `always` sends although the run must stop.
        """
        journal, run = self.context.journal, self.context.run

        def started(hosts: Sequence[str]) -> None:
            if half != "second":
                journal.start_hosts(run, step.title, {host: bindings[host].generation for host in hosts})

        def ended(came: Mapping[str, Outcome]) -> None:
            if any(outcome.fenced for outcome in came.values()):
                raise TakenOver(next(outcome.detail for outcome in came.values() if outcome.fenced))
            final = {host: came[host] for host in came if half != "first" or came[host].state != "ok"}
            states = [(host, outcome.state, outcome.detail) for host, outcome in final.items()]
            sent = [(host, bindings[host].generation, c) for host, outcome in final.items() for c in outcome.commands]
            self._keep(step, final)
            if states:
                journal.end_hosts(run, step.title, states, sent, lifted)
            for host, outcome in final.items():
                if outcome.state != "unknown":
                    self.uncertain.discard(host)
                self.losses.watch(host, outcome)
                self.display.node_ended(step, host, outcome)

        enough = (lambda: False) if always else self.losses.too_many
        errand = Errand(started, ended, bindings, self._pace(step), enough)
        return self.dispatcher.send(task, nodes, arguments, errand)

    def _keep(self, step: Step, outcomes: Mapping[str, Outcome]) -> None:
        """Journal what nodes' tasks said and found out, before it says that they have ended."""
        while not self._told.empty():
            self.context.journal.event(self.context.run, self._told.get())
        for host, outcome in outcomes.items():
            if step.keep and isinstance(outcome.result, Noted):
                step.keep(self.context, host, outcome.result.data)

    def _pace(self, step: Step) -> Pace | None:
        if step.judge or self.context.options.dry_run:
            return None
        config = self.context.cloud.config.pace
        return Pace(
            0 if step.at_once else config.canary, config.growth, config.reconnects_per_s if step.reconnects else None
        )

    def _settle(self, step: Step, nodes: Sequence[Node], outcomes: Mapping[str, Outcome], seconds: float) -> None:
        """Count every node, let the gate judge, and stop where the run must not go on."""
        journal, run, stopping = self.context.journal, self.context.run, self.dispatcher.stopping.is_set()
        names = {node.name for node in nodes}
        rows = [row for row in journal.hosts(run, step.title) if row["host"] in names]
        counts = account(nodes, rows)
        stop = self.losses.settle(step, rows, stopping=stopping)
        if not stop and not stopping:
            answers = {name: outcome.result for name, outcome in outcomes.items() if outcome.result is not None}
            stop = self._judge(step, answers)
        if stop and step.on_trial and not self.context.options.dry_run:
            stop = f"{stop}; {self._undo(step.on_trial)}"
        # A gate that was not judged, or a step with nodes that were not sent to, is not done: resume comes back to it.
        undone = bool(step.judge) or counts.get("not_run", 0) + counts.get("unknown", 0) > 0
        journal.end_step(run, step.title, "stopped" if stop or (stopping and undone) else "done", stop)
        self.display.step_ended(step, counts, seconds, stop)
        if stop:
            raise Stopped(f"“{step.title}”: {stop}")
        if stopping:
            raise Interrupted(f"interrupted at “{step.title}”; nothing runs any more; `cellstep resume` goes on")

    def _judge(self, step: Step, results: Mapping[str, Any]) -> str:
        if not step.judge:
            return ""
        journal, run, options = self.context.journal, self.context.run, self.context.options
        judged = step.judge(self.context, results)
        findings = [finding for finding in judged if not finding.note]
        for note in (finding for finding in judged if finding.note):
            journal.event(run, f"“{step.title}”: {note.text}")
            self.display.found(note)
        blocking = [finding for finding in findings if finding.blocking]
        reason = options.overrides.get(step.title, "") if blocking else ""
        journal.set_findings(run, step.title, [(f.blocking, f.text) for f in findings], reason)
        for finding in findings:
            self.display.found(finding)
        if not blocking or options.dry_run:
            return ""
        if reason:
            journal.event(run, f"went on past the gate “{step.title}” with {len(blocking)} finding(s): {reason}")
            return ""
        return (
            f"{len(blocking)} finding(s) block; mend them, then `cellstep resume` looks again"
            f" (or go on knowingly: `cellstep resume --override '{step.title}' --reason '...'`)"
        )


def account(nodes: Sequence[Node], rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Count a step's nodes by state; every node is in exactly one.

    Raises:
        CellstepError: the journal's rows are not exactly the step's nodes (a fault of cellstep itself).
    """
    if sorted(row["host"] for row in rows) != sorted(node.name for node in nodes):
        raise CellstepError(f"host accounting: {len(nodes)} nodes expected, {len(rows)} in the journal")
    counts = Counter(row["state"] for row in rows)
    return {state: counts[state] for state in STATES if counts[state]}
