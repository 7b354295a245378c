"""After a crash, or when a run is given up: lifting what it left in place, and ending it.

A hold is lifted as its runbook lifts it, by the engine: journalled before and after, with the prior state, in the
runbook's order. Only its nodes are others, and one that fails keeps no other back.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from nornir.core.task import Result, Task

from cellstep import reporting, runs
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select
from cellstep.engine.context import Context, Options
from cellstep.engine.dispatch import Dispatcher, Errand, Outcome
from cellstep.engine.journal import DONE, UNFINISHED, Journal, RunRecord
from cellstep.engine.losses import Losses
from cellstep.engine.plan import expand_names
from cellstep.engine.run import Crossing, Engine, Interrupted
from cellstep.engine.steps import Nodes, Runbook, Step
from cellstep.errors import UsageError
from cellstep.reopening import Reopening, name_of, refuse_unless
from cellstep.stages import runbook_of
from cellstep.wayback import SETTLES, SYNCED, synced, under_way
from plugins.inventory.ranges import RangeError
from tasks.binding import Binding
from tasks.shell import fence

UNKNOWN = "unknown"
"""In a list of what is left in place: not a hold, but a node of which nothing is known."""

SETTLING, SETTLED = "settling", "settled"
"""States of a run that lifts holds: `resume` has nothing to do with it, `holds lift` can be called again."""


@dataclass
class Settled:
    """What came of the holds that were to be lifted.

    Attributes:
        run: the run that lifted them; "" where there was nothing to lift.
        lifted: hold to nodes.
        left: hold to nodes on which it is still in place, with the reason.
    """

    run: str = ""
    lifted: dict[str, list[str]] = field(default_factory=dict)
    left: dict[str, dict[str, str]] = field(default_factory=dict)


class _NoBudgets(Losses):
    """A node that fails keeps no other back: every hold that can be lifted is."""

    lost = False

    def watch(self, host: str, outcome: Outcome) -> None:
        """Remember that something went wrong."""
        del host
        self.lost = self.lost or outcome.state not in DONE

    def too_many(self) -> bool:
        """Never."""
        return False

    def settle(self, step: Step, rows: Sequence[Mapping[str, Any]], *, stopping: bool) -> str:
        """Nothing stops it, and nobody is put into quarantine."""
        del step, rows, stopping
        return ""


def chosen(cloud: Cloud, journal: Journal, expression: str = "", name: str = "") -> list[dict[str, Any]]:
    """The open holds of these nodes and of this name; all where neither is given.

    Raises:
        UsageError: no such node, or no open hold of that name.
    """
    rows = journal.holds()
    known = sorted({row["name"] for row in rows})
    if name and rows and name not in known:
        raise UsageError(f"no hold “{name}” is in place; those that are: {', '.join(known)}")
    wanted = {node.name for node in select(cloud, expression)} if expression else {row["host"] for row in rows}
    return [row for row in rows if row["host"] in wanted and name in {"", row["name"]}]


def unfinished(journal: Journal) -> list[RunRecord]:
    """The runs that are not finished, the newest first."""
    return [run for run in journal.runs() if run.state in UNFINISHED]


def lift(cloud: Cloud, watch: runs.Watch, wanted: Sequence[Mapping[str, Any]], accepted: str = "") -> Settled:
    """Lift open holds, stage by stage.

    A run that is not finished places them again when it is resumed, and waits for rest and dumps again where they had
    kept the cloud at rest: `reopening`.

    Args:
        cloud: the cloud.
        watch: who sees it.
        wanted: rows of `chosen`.
        accepted: `reopening.NO_MATCH` from an operator who ends the rest although a schema change was begun.

    Raises:
        Locked: somebody else holds the cloud.
        UsageError: the holds have changed since they were shown, or what was to be accepted was not.
        Interrupted: the dispatcher was told to stop; what ran was waited for and journalled.
    """
    cloud.database_password()
    journal, lock = runs.open_journal(cloud), runs.lock_of(cloud)
    settled = Settled()
    with contextlib.closing(journal), lock.held(journal, "holds lift") as holder:
        meant = {(row["name"], row["host"]) for row in wanted}
        rows = [row for row in journal.holds() if (row["name"], row["host"]) in meant]
        if len(rows) != len(meant):
            raise UsageError("the holds have changed since they were shown: look again with `cellstep holds`")
        refuse_unless(cloud, journal, (row["name"] for row in rows), accepted)
        for stage in dict.fromkeys(row["stage"] for row in rows):
            of_stage = [row for row in rows if row["stage"] == stage]
            ours = _Ours(holder.token, lambda: lock.check(holder.token))
            _Stage(cloud, journal, stage, of_stage).lift(watch, ours, settled)
    return settled


@dataclass(frozen=True)
class _Ours:
    """What the engine needs of the lock."""

    token: int
    check: Callable[[], None]


class _Stage:
    """The open holds of one stage, as a run of their own.

    Args:
        cloud: the cloud.
        journal: its journal.
        stage: the stage that placed them.
        rows: the holds, as the journal has them.
    """

    def __init__(self, cloud: Cloud, journal: Journal, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
        self.cloud, self.journal, self.rows = cloud, journal, rows
        self.book = runbook_of(stage, cloud)
        self.hosts: dict[str, set[str]] = {}
        for row in rows:
            self.hosts.setdefault(row["name"], set()).add(row["host"])
        everywhere = set().union(*self.hosts.values())
        self.nodes = tuple(node for node in cloud.nodes if node.name in everywhere)
        self.why: dict[tuple[str, str], str] = {}
        self.reopening = Reopening(cloud, journal)

    def lift(self, watch: runs.Watch, ours: _Ours, settled: Settled) -> None:
        """Lift them, and say what came of each."""
        journal, limit = self.journal, self.cloud.fold(node.name for node in self.nodes)
        begun = synced(journal, self.book, under_way(journal, self.book.stage))
        options = {SETTLES: sorted(self.hosts), SYNCED: sorted(begun), "limit": limit}
        # Of a state of its own from the first moment on: `resume` leaves it alone.
        run = journal.begin_run(self.book.stage, self.cloud.release.name, "", options, state=SETTLING)
        settled.run = run
        output = reporting.output_folder(self.cloud.directory, None, run)
        journal.set_output(run, str(output))
        self.reopening.open_again(self.hosts, limit)
        context = Context(self.cloud, journal, run, self.book.stage, output, self.nodes, Options(limit=limit))
        try:
            with Dispatcher(self.cloud, stopping=watch.stopping) as dispatcher:
                quiet = self._quiet(dispatcher, ours)
                runbook = Runbook(self.book.stage, self._lifts(quiet), lambda _: True)
                engine = Engine(runbook, context, dispatcher, watch.display, _go_on, ours.check, ours.token)
                engine.losses = losses = _NoBudgets(context, runbook.may_miss)
                self._execute(engine, losses)
        except Interrupted as error:
            journal.end_run(run, SETTLED, error.exit_code, "interrupted")
            raise Interrupted("interrupted; `cellstep holds` shows what is still in place") from None
        self._tell(run, settled)
        journal.end_run(run, SETTLED, 4 if settled.left else 0)

    def _execute(self, engine: Engine, losses: _NoBudgets) -> None:
        """The lifts, one after another; the last one (the APIs open again) only where all before went well."""
        for step in engine.runbook.steps:
            if step.no_return and (losses.lost or self.why):
                reason = "kept: something else is still in place; settle that first, or name this hold alone"
                self.why |= {(name_of(step), node.name): reason for node in step.on.choose(self.nodes)}
            else:
                engine.execute([step])

    def _lifts(self, nodes: Sequence[Node]) -> tuple[Step, ...]:
        """The runbook's own lifts of these holds, in its order, for these nodes only."""
        found = []
        for step in self.book.steps:
            hosts = self.hosts.get(name_of(step), set()) if step.kind in {"lift", "settle"} else set()
            here = [node for node in step.on.choose(nodes) if node.name in hosts]
            if here:
                # One that a whole run lets stay for good is put back here like any other.
                on = Nodes(step.on.words, partial(_these, here))
                found.append(replace(step, kind="lift", on=on, section=""))
        return tuple(found)

    def _quiet(self, dispatcher: Dispatcher, ours: _Ours) -> list[Node]:
        """The nodes on which nothing is under way any more: what a run left there, known or not, is waited for."""
        for run in unfinished(self.journal):
            for title, unknown in self.journal.unknown_hosts(run.id).items():
                nodes = [node for node in self.nodes if node.name in unknown]
                if not nodes:
                    continue
                tries = {row["host"]: row["generation"] for row in self.journal.hosts(run.id, title)}
                bindings = {n.name: Binding(run.id, title, tries[n.name], ours.token, again=True) for n in nodes}
                outcomes = dispatcher.send(
                    _take_token, nodes, {node.name: {} for node in nodes}, Errand(bindings=bindings)
                )
                for host, outcome in outcomes.items():
                    if outcome.state not in DONE:
                        reason = f"“{title}” may still be under way there: {outcome.state}: {outcome.detail}"
                        self.why |= {(name, host): reason for name in self.hosts}
        busy = {host for _, host in self.why}
        return [node for node in self.nodes if node.name not in busy]

    def _tell(self, run: str, settled: Settled) -> None:
        """Which of the holds are open still, and why."""
        still = {(row["name"], row["host"]) for row in self.journal.holds()}
        names = {step.title: name_of(step) for step in self.book.steps}
        for row in self.journal.hosts(run):
            if row["state"] not in DONE:
                self.why[names[row["step"]], row["host"]] = f"{row['state']}: {row['detail']}"
        none = (
            "no step of the runbook lifts it here: is the node still in the inventory, with the same role, and the"
            " site's own hold still in cloud.yaml?"
        )
        for held in self.rows:
            name, host = held["name"], held["host"]
            if (name, host) in still:
                settled.left.setdefault(name, {})[host] = self.why.get((name, host), none)
            else:
                settled.lifted.setdefault(name, []).append(host)
        self.reopening.known_now(settled.lifted)


def _these(nodes: Sequence[Node], _all: Sequence[Node]) -> Sequence[Node]:
    return nodes


def _go_on(_crossing: Crossing) -> bool:
    return True


def _take_token(task: Task) -> Result:
    fence(task)
    return Result(host=task.host)


# Ending a run for good


def left_in_place(journal: Journal, run: RunRecord) -> dict[str, list[str]]:
    """What a run would leave behind: hold to nodes, and `unknown` to nodes of which nothing is known."""
    found = {name: list(dict.fromkeys(hosts)) for name, hosts in journal.all_open_holds().items()}
    unknown = dict.fromkeys(host for hosts in journal.unknown_hosts(run.id).values() for host in hosts)
    return {**found, **({UNKNOWN: list(unknown)} if unknown else {})}


def as_list(cloud: Cloud, left: Mapping[str, Iterable[str]]) -> str:
    """What is left in place as one text, `NODES/HOLD` with blanks between."""
    return " ".join(f"{cloud.fold(hosts)}/{name}" for name, hosts in left.items())


def read_list(text: str) -> dict[str, set[str]]:
    """Read what `as_list` wrote.

    Raises:
        UsageError: it is not such a list.
    """
    found: dict[str, set[str]] = {}
    for part in text.split():
        nodes, _, name = part.rpartition("/")
        try:
            found.setdefault(name, set()).update(expand_names(nodes))
        except RangeError as error:
            raise UsageError(f"--accept: {error}") from None
        if not nodes or not name:
            raise UsageError(f"--accept: '{part[:80]}' is not NODES/HOLD")
    return found


def abandon(cloud: Cloud, accepted: str = "") -> RunRecord:
    """End the run that is not finished, for good.

    Args:
        cloud: the cloud.
        accepted: exactly what is left in place, as the refusal printed it; "" where nothing is.

    Returns:
        The run that was ended.

    Raises:
        UsageError: there is none; or something is left in place, and another list or none was accepted.
        Locked: it is under way.
    """
    if not runs.journal_path(cloud).exists():
        raise UsageError("no run yet: there is nothing to abandon")
    journal, lock = runs.open_journal(cloud), runs.lock_of(cloud)
    with contextlib.closing(journal), lock.held(journal, "abandon"):
        run = next(iter(unfinished(journal)), None)
        if run is None:
            raise UsageError("no run is unfinished: there is nothing to abandon")
        left = left_in_place(journal, run)
        agreed = read_list(accepted)
        if agreed != {name: set(hosts) for name, hosts in left.items()}:
            raise UsageError(_refusal(cloud, run, left, agreed))
        journal.event(run.id, f"abandoned; left in place, and accepted: {as_list(cloud, left) or 'nothing'}")
        message = f"abandoned with this left in place: {as_list(cloud, left)}" if left else "abandoned"
        journal.end_run(run.id, "abandoned", None, message)
    return run


def _refusal(cloud: Cloud, run: RunRecord, left: Mapping[str, list[str]], agreed: Mapping[str, set[str]]) -> str:
    if not left:
        return f"nothing is left in place by run {run.id}: abandon it without --accept"
    lines = [f"run {run.id} of {run.stage} would leave this in place:"]
    for name, nodes in left.items():
        what = "nothing is known of" if name == UNKNOWN else f"{name} held on"
        lines.append(f"  {what} {cloud.fold(nodes)}")
    if agreed:
        extra = {name: hosts - set(left.get(name, ())) for name, hosts in agreed.items()}
        missing = {name: set(hosts) - agreed.get(name, set()) for name, hosts in left.items()}
        for words, differs in (("not in place", extra), ("not in your list", missing)):
            named = {name: hosts for name, hosts in differs.items() if hosts}
            if named:
                lines.append(f"--accept names another list; {words}: {as_list(cloud, named)}")
    if set(left) - {UNKNOWN}:
        lines.append("`cellstep holds lift` puts back what is held;")
    if UNKNOWN in left:
        lines.append("`cellstep resume` asks the nodes of which nothing is known;")
    lines.append(f"or accept it as it is: cellstep abandon --accept '{as_list(cloud, left)}'")
    return "\n".join(lines)
