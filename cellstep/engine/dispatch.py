"""Sending one task to many nodes, and what came of each: the only place where the engine meets Nornir."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from nornir.core.inventory import Host
from nornir.core.task import MultiResult, Result, Task

from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from plugins.connections import jumphosts
from plugins.connections.errors import CommandTimeout, ConnectionLost, Unreachable
from plugins.errors import OperatorError
from plugins.runners.bounded import BoundedRunner
from plugins.runners.pace import Pace
from plugins.runners.reach import ReachRunner
from tasks.binding import Binding, Command, bind
from tasks.errors import Fenced
from tasks.holds import HostTask, Noted, changed
from tasks.jobs import attach
from tasks.peers import PEERS
from tasks.shell import has_changed

# Nornir logs each failed task with its traceback; the journal has what an operator needs of it.
logging.getLogger("nornir").addHandler(logging.NullHandler())
logging.getLogger("nornir").propagate = False

LEFT_UNDER_WAY_S = 8.5 * 3600
"""How long to wait for what an earlier try left under way: more than any job may take (a restore: 8 hours)."""

TRIES = 3
ASK_EVERY_S = 1.0
NOT_KNOWN = "what was sent to it before is not known to have ended"


@dataclass(frozen=True)
class Outcome:
    """What came of one node.

    Attributes:
        state: one of the journal's states.
        detail: one line for the operator.
        result: what the task returned; None unless it ended well.
        commands: what was sent that changes the node.
        fenced: another operator has taken the cloud over.
    """

    state: str
    detail: str
    result: Any = None
    commands: tuple[Command, ...] = ()
    fenced: bool = False


def outcome_of(results: MultiResult, commands: Sequence[Command] = ()) -> Outcome:
    """Read a node's outcome from what Nornir brought back.

    A node that could not be asked is `unreachable`. One that was lost after something had been sent is `unknown`:
    what was sent may have been done.
    """
    first: Result = results[0]
    if (told := getattr(first, "told", None)) is not None:
        return cast("Outcome", told)  # of a worker, which has read it from the same
    error, sent = first.exception, tuple(commands)
    if isinstance(error, ConnectionLost | CommandTimeout):
        return Outcome("unknown", str(error), commands=sent)
    if isinstance(error, Unreachable):
        return Outcome("unreachable", str(error), commands=sent)
    if error is not None:
        said = str(error) if isinstance(error, OperatorError) else f"{type(error).__name__}: {error}"
        return Outcome("failed", said, commands=sent, fenced=isinstance(error, Fenced))
    said = first.result.words if isinstance(first.result, Noted) else first.result
    detail = said if isinstance(said, str) else ""
    if getattr(first, "skipped", False):
        return Outcome("skipped", detail, first.result, sent)
    return Outcome("changed" if first.changed else "ok", detail, first.result, sent)


@dataclass(frozen=True)
class Errand:
    """How a task is sent: what is called when, and how fast.

    Attributes:
        started: called in the caller's thread with the nodes that are about to be sent to; if it raises, none is.
        ended: called in the caller's thread with the outcomes that came in since the last call.
        bindings: what binds each node's task to its run; none for questions.
        pace: how fast nodes begin.
        enough: once true, nothing new is sent.
    """

    started: Callable[[Sequence[str]], None] = lambda _: None
    ended: Callable[[Mapping[str, Outcome]], None] = lambda _: None
    bindings: Mapping[str, Binding] | None = None
    pace: Pace | None = None
    enough: Callable[[], bool] = lambda: False


class Dispatcher:
    """Runs tasks on the nodes of one cloud, over connections that stay open from step to step.

    Args:
        cloud: the cloud.
        dry_run: tasks are told to change nothing.
        stopping: when set, nothing new is dispatched and what runs is waited for.
    """

    def __init__(self, cloud: Cloud, *, dry_run: bool = False, stopping: threading.Event | None = None) -> None:
        self.stopping = stopping or threading.Event()
        self._runner = runner_for(cloud, self.stopping)
        self._nodes = {node.name: node for node in cloud.nodes}
        self._nornir = cloud.nornir(self._runner)
        self._nornir.data.dry_run = dry_run
        hosts = self._nornir.inventory.hosts
        for host in hosts.values():  # a step sees its own nodes alone, and what it asks may be told by another
            host.data[PEERS] = hosts

    def __enter__(self) -> "Dispatcher":
        return self

    def __exit__(self, *_: object) -> None:
        self.close_hosts()
        jumphosts.close_all()
        if isinstance(self._runner, ReachRunner):
            self._runner.close()

    def close_hosts(self) -> None:
        """End the connections to the nodes, but not those to jump hosts."""
        # Not by Nornir's own close_connections: that is a run like any other, through the runner and its callbacks.
        for host in self._nornir.inventory.hosts.values():
            host.close_connections()

    def send(
        self,
        task: HostTask,
        nodes: Iterable[Node],
        arguments: Mapping[str, Mapping[str, Any]],
        errand: Errand = Errand(),
    ) -> dict[str, Outcome]:
        """Run a task on nodes and return the outcome of each that was dispatched.

        Args:
            task: the Nornir task.
            nodes: where.
            arguments: the task's arguments by node name.
            errand: how it is sent.
        """
        names = {node.name for node in nodes}
        outcomes: dict[str, Outcome] = {}
        bindings = errand.bindings or {}

        def on_start(hosts: Sequence[Host]) -> None:
            errand.started([host.name for host in hosts])

        def on_results(batch: Sequence[tuple[Host, MultiResult]]) -> None:
            came = {}
            for host, results in batch:
                binding = bindings.get(host.name)
                came[host.name] = outcome_of(results, binding.commands if binding else ())
            outcomes.update(came)
            errand.ended(came)

        def one(nornir_task: Task) -> Result:
            name = nornir_task.host.name
            return _bound(nornir_task, task, arguments[name], bindings.get(name))

        chosen = self._nornir.filter(filter_func=lambda host: host.name in names)
        runner = self._runner
        runner.on_start, runner.on_results, runner.pace, runner.enough = (
            on_start,
            on_results,
            errand.pace,
            errand.enough,
        )
        if isinstance(runner, ReachRunner):
            runner.pack = partial(self._pack, task, arguments, bindings)
            runner.unpack = _unpack
            runner.tell = partial(_tell, bindings)
        try:
            chosen.run(task=one, name=getattr(task, "__name__", "task"), on_good=True, on_failed=True)
        finally:
            runner.on_start, runner.on_results, runner.pace, runner.enough = None, None, None, lambda: False
        return outcomes

    def _pack(
        self,
        task: HostTask,
        arguments: Mapping[str, Mapping[str, Any]],
        bindings: Mapping[str, Binding],
        hosts: Sequence[Host],
    ) -> bytes:
        """A shard, for a worker; the operator's lock is looked at here, since a worker cannot."""
        from cellstep.reach.parcel import Parcel, host_data, pack, plain_binding  # noqa: PLC0415 - rarely needed

        names = [host.name for host in hosts]
        bound = {name: bindings[name] for name in names if name in bindings}
        for still_ours in {binding.still_ours for binding in bound.values()}:
            still_ours()
        shard = Parcel(
            task,
            tuple(host_data(host, self._nodes[host.name]) for host in hosts),
            {name: arguments[name] for name in names},
            {name: plain_binding(binding) for name, binding in bound.items()},
            bool(self._nornir.data.dry_run),
        )
        return pack(shard)

    def ask(
        self, task: HostTask, nodes: Sequence[Node], arguments: Mapping[str, Mapping[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Ask nodes something that changes nothing.

        Returns:
            The answers by node name, and of each node without one the reason.
        """
        outcomes = self.send(task, nodes, arguments)
        answers = {name: outcome.result for name, outcome in outcomes.items() if outcome.state == "ok"}
        missing = [node.name for node in nodes if node.name not in answers]
        return answers, {n: outcomes[n].detail if n in outcomes else "not asked: interrupted" for n in missing}


def runner_for(cloud: Cloud, stopping: threading.Event) -> BoundedRunner:
    """The runner for a cloud's nodes: where some are reached through workers, one that knows the way to these.

    Raises:
        ConfigurationError: the way cannot be gone from this machine.
    """
    config = cloud.config
    if config.reach is None:
        return BoundedRunner(config.workers, config.workers_per_cell, stopping=stopping)
    from cellstep.reach.line import line_to  # noqa: PLC0415 - rarely needed

    line, cells = line_to(cloud, config.reach), config.reach.cells
    return ReachRunner(line, cells, config.workers, config.workers_per_cell, stopping=stopping)


def _unpack(host: Host, record: bytes) -> Result:
    """A worker's record as a result that `outcome_of` reads."""
    from cellstep.reach.parcel import unpack_outcome  # noqa: PLC0415 - rarely needed

    told = unpack_outcome(record)
    return Result(host, told=told, failed=told.state in {"failed", "unreachable", "unknown"})


def _tell(bindings: Mapping[str, Binding], host: str, text: str) -> None:
    if host in bindings:
        bindings[host].tell(text)


def _bound(nornir_task: Task, task: HostTask, arguments: Mapping[str, Any], binding: Binding | None) -> Result:
    """Run a node's task; where the try before has no known end, wait for what it left under way first."""
    finished: list[str] | None = []
    if binding is not None:
        bind(nornir_task, binding)
        if binding.again:
            finished = _finished_meanwhile(nornir_task)
    try:
        result = task(nornir_task, **arguments)
    except Fenced:
        raise
    except OperatorError as error:
        if finished is None:
            raise ConnectionLost(f"{error} ({NOT_KNOWN})") from error
        if isinstance(error, Unreachable) and has_changed(nornir_task):
            # It went away after something was sent: what was sent may have been done.
            raise ConnectionLost(f"{error} (after a change had been sent)") from error
        raise
    if finished and getattr(result, "skipped", False):
        return changed(nornir_task, f"{result.result}: {', '.join(finished)} had gone on while nobody watched")
    return result


def _finished_meanwhile(nornir_task: Task) -> list[str] | None:
    """The jobs of the try before that ended well; None while it is not known that nothing goes on any more.

    Raises:
        ConnectionLost: the node answers, and something may still be under way on it.
        Fenced: a newer operator is known.
    """
    pause = threading.Event()
    for left in reversed(range(TRIES)):
        try:
            return [job.name for job in attach(nornir_task, timeout=LEFT_UNDER_WAY_S) if job.exit_status == 0]
        except Unreachable:
            break  # the task says so itself, or waits for the node, as after a reboot
        except Fenced:
            raise
        except OperatorError as error:
            # Asking changes nothing: a node that went down while it was asked, as for its reboot, is asked again.
            if not (left and isinstance(error, ConnectionLost)):
                raise ConnectionLost(f"{error} ({NOT_KNOWN})") from error
        pause.wait(ASK_EVERY_S)
    return None
