"""Sending one task to many nodes, and what came of each: the only place where the engine meets Nornir."""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nornir.core.inventory import Host
from nornir.core.task import MultiResult, Result, Task

from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from plugins.connections.errors import CommandTimeout, ConnectionLost, Unreachable
from plugins.errors import OperatorError
from plugins.runners.bounded import BoundedRunner
from tasks.holds import HostTask
from tasks.shell import has_changed

# Nornir logs each failed task with its traceback; the journal has what an operator needs of it.
logging.getLogger("nornir").addHandler(logging.NullHandler())
logging.getLogger("nornir").propagate = False


@dataclass(frozen=True)
class Outcome:
    """What came of one node.

    Attributes:
        state: one of the journal's states.
        detail: one line for the operator.
        result: what the task returned; None unless it ended well.
    """

    state: str
    detail: str
    result: Any = None


def outcome_of(results: MultiResult) -> Outcome:
    """Read a node's outcome from what Nornir brought back.

    A node that could not be asked is `unreachable`. One that was lost after something had been sent is `unknown`:
    what was sent may have been done.
    """
    first: Result = results[0]
    error = first.exception
    if isinstance(error, ConnectionLost | CommandTimeout):
        return Outcome("unknown", str(error))
    if isinstance(error, Unreachable):
        return Outcome("unreachable", str(error))
    if error is not None:
        known = isinstance(error, OperatorError)
        return Outcome("failed", str(error) if known else f"{type(error).__name__}: {error}")
    detail = first.result if isinstance(first.result, str) else ""
    if getattr(first, "skipped", False):
        return Outcome("skipped", detail, first.result)
    return Outcome("changed" if first.changed else "ok", detail, first.result)


Started = Callable[[str], None]
Ended = Callable[[str, Outcome], None]


class Dispatcher:
    """Runs tasks on the nodes of one cloud, over connections that stay open from step to step.

    Args:
        cloud: the cloud.
        dry_run: tasks are told to change nothing.
        stopping: when set, nothing new is dispatched and what runs is waited for.
    """

    def __init__(self, cloud: Cloud, *, dry_run: bool = False, stopping: threading.Event | None = None) -> None:
        self.stopping = stopping or threading.Event()
        config = cloud.config
        self._runner = BoundedRunner(config.workers, config.workers_per_cell, stopping=self.stopping)
        self._nornir = cloud.nornir(self._runner)
        self._nornir.data.dry_run = dry_run

    def __enter__(self) -> "Dispatcher":
        return self

    def __exit__(self, *_: object) -> None:
        # Not by Nornir's own close_connections: that is a run like any other, through the runner and its callbacks.
        for host in self._nornir.inventory.hosts.values():
            host.close_connections()

    def send(
        self,
        task: HostTask,
        nodes: Iterable[Node],
        arguments: Mapping[str, Mapping[str, Any]],
        *,
        started: Started = lambda _: None,
        ended: Ended = lambda _name, _outcome: None,
    ) -> dict[str, Outcome]:
        """Run a task on nodes and return the outcome of each that was dispatched.

        Args:
            task: the Nornir task.
            nodes: where.
            arguments: the task's arguments by node name.
            started: called in this thread before a node is dispatched; if it raises, nothing more is.
            ended: called in this thread as each node's outcome comes in.
        """
        names = {node.name for node in nodes}
        outcomes: dict[str, Outcome] = {}

        def on_start(host: Host) -> None:
            started(host.name)

        def on_result(host: Host, results: MultiResult) -> None:
            outcomes[host.name] = outcome_of(results)
            ended(host.name, outcomes[host.name])

        def one(nornir_task: Task) -> Result:
            try:
                return task(nornir_task, **arguments[nornir_task.host.name])
            except Unreachable as error:
                if has_changed(nornir_task):  # it went away after something was sent: what was sent may have been done
                    raise ConnectionLost(f"{error} (after a change had been sent)") from error
                raise

        chosen = self._nornir.filter(filter_func=lambda host: host.name in names)
        self._runner.on_start, self._runner.on_result = on_start, on_result
        try:
            chosen.run(task=one, name=getattr(task, "__name__", "task"), on_good=True, on_failed=True)
        finally:
            self._runner.on_start = self._runner.on_result = None
        return outcomes
