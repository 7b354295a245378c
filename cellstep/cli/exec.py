"""`cellstep exec`: any command on many nodes at once, equal outputs shown once."""

import contextlib
import io
import logging
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated

import typer
from nornir.core.inventory import Host
from nornir.core.task import Result, Task
from rich.console import Console

from cellstep.cli.options import CloudOption, reach_cloud
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select
from cellstep.engine.dispatch import Dispatcher, Errand, Outcome
from plugins.connections.ssh import Ssh
from plugins.runners.bounded import draining_on_signals

OK, FAILED, UNREACHABLE, UNKNOWN, NOT_RUN = "ok", "failed", "unreachable", "unknown", "not run"


@dataclass(frozen=True)
class Answer:
    """What one node answered.

    Attributes:
        state: ok (exit status 0), failed, unreachable, or unknown (lost in mid-command).
        status: the exit status; None where there is none.
        text: what the command printed, or why there is no exit status.
    """

    state: str
    status: int | None
    text: str


@dataclass
class Answers:
    """The answers of a whole command; a node without one was not run."""

    nodes: tuple[Node, ...]
    by_name: dict[str, Answer] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """How many nodes are in each state; their sum is the number of nodes."""
        counted = Counter(answer.state for answer in self.by_name.values())
        counted[NOT_RUN] = len(self.nodes) - len(self.by_name)
        return {state: counted[state] for state in (OK, FAILED, UNREACHABLE, UNKNOWN, NOT_RUN)}

    def groups(self) -> dict[Answer, list[str]]:
        """The nodes by equal answer, in the cloud's order of their first nodes."""
        grouped: dict[Answer, list[str]] = {}
        for node in self.nodes:
            if node.name in self.by_name:
                grouped.setdefault(self.by_name[node.name], []).append(node.name)
        return grouped

    def not_run(self) -> list[str]:
        """The nodes which the command was not sent to."""
        return [node.name for node in self.nodes if node.name not in self.by_name]


def exec_(
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="For bash on each node; words are joined.")],
    on: Annotated[
        str,
        typer.Option("--on", metavar="NODES", help="Nodes, groups (top, cell01, compute), ranges; !NAME leaves out."),
    ],
    cloud: CloudOption = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", min=0.1, help="At most so long; else cloud.yaml's.", show_default=False),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Nodes at once; else cloud.yaml's.", show_default=False)
    ] = None,
) -> None:
    """Run a command on many nodes at once, and show equal outputs once.

    Nodes that could not be reached are listed. The first Ctrl-C waits for the nodes that run it, the second does not.

    Exit code: 0 when it ended with 0 everywhere, 3 when not, 130 or 143 when interrupted.
    """
    loaded = reach_cloud(cloud)
    nodes = select(loaded, on)
    stopped_by: list[int] = []
    answers = run_everywhere(loaded, nodes, " ".join(command), timeout, workers, stopped_by)
    show(answers, loaded)
    if stopped_by:
        raise typer.Exit(128 + stopped_by[0])
    raise typer.Exit(0 if answers.counts()[OK] == len(nodes) else 3)


def run_everywhere(
    cloud: Cloud,
    nodes: tuple[Node, ...],
    command: str,
    timeout: float | None,
    workers: int | None,
    stopped_by: list[int],
) -> Answers:
    """Run the command on the nodes, and close each connection when its node is done.

    Args:
        cloud: the nodes' cloud.
        nodes: where.
        command: for bash.
        timeout: seconds; None for the cloud's own.
        workers: nodes at once; None for the cloud's own.
        stopped_by: gets the number of the first SIGINT or SIGTERM. After the second one, the nodes that still ran the
            command are `unknown`.
    """
    answers = Answers(nodes)
    stopping = threading.Event()
    screen = Console(stderr=True, highlight=False)
    config = cloud.config.model_copy(update={"workers": workers or cloud.config.workers})
    arguments = {node.name: {"command": command, "timeout": timeout} for node in nodes}

    with screen.status(f"0 of {len(nodes)}") as status:

        def on_ended(came: Mapping[str, Outcome]) -> None:
            answers.by_name.update({name: answer_of(outcome) for name, outcome in came.items()})
            status.update(f"{len(answers.by_name)} of {len(nodes)}")

        started: list[str] = []

        def on_signal(number: int) -> None:
            stopped_by.append(number)
            name = signal.Signals(number).name
            # Not printed: a print from a handler fails where it interrupts another one.
            os.write(2, f"{name}: waiting for the nodes that run it; once more to end at once\n".encode())

        try:
            with (
                draining_on_signals(stopping, on_signal),
                Dispatcher(replace(cloud, config=config), stopping=stopping) as dispatcher,
            ):
                dispatcher.send(call, nodes, arguments, Errand(started.extend, on_ended))
        except KeyboardInterrupt:
            for name in started:
                answers.by_name.setdefault(name, Answer(UNKNOWN, None, "interrupted while it ran"))
    return answers


def call(task: Task, *, command: str, timeout: float | None) -> Result:
    """Run the command on the task's node, and close the connection."""
    try:
        ssh: Ssh = task.host.get_connection("cellstep_ssh", task.nornir.config)
        return Result(task.host, result=ssh.run(command, timeout=timeout))
    finally:
        task.host.close_connections()


def answer_of(outcome: Outcome) -> Answer:
    """A node's answer."""
    if outcome.result is None:
        # The host is named beside it; without it equal reasons fold.
        return Answer(outcome.state, None, outcome.detail.partition(": ")[2] or outcome.detail)
    found = outcome.result
    text = found.stdout + ("\n" if found.stdout and not found.stdout.endswith("\n") and found.stderr else "")
    return Answer(OK if found.exit_status == 0 else FAILED, found.exit_status, text + found.stderr)


def show(answers: Answers, cloud: Cloud) -> None:
    """Print each different output once, under the folded names of its nodes; then who is missing, and the account."""
    print_result = _print_result()
    groups = answers.groups()
    for answer, names in groups.items():
        if answer.status is not None:
            # nornir-utils prints a result under its host's name: here that of all who gave it.
            host = Host(f"{cloud.fold(names)} ({len(names)})")
            failed = answer.state == FAILED
            result = Result(host, answer.text.rstrip("\n"), failed=failed, name=f"exit {answer.status} ")
            result.severity_level = logging.ERROR if failed else logging.INFO
            result.changed = None  # type: ignore[assignment] # print_result leaves it out: we cannot know
            print_result(result)
    for answer, names in groups.items():
        if answer.status is None:
            typer.secho(f"{answer.state}: {cloud.fold(names)} ({len(names)}): {answer.text}", fg="red")
    if missing := answers.not_run():
        typer.secho(f"{NOT_RUN}: {cloud.fold(missing)} ({len(missing)})", fg="yellow")
    typer.echo(account(answers.counts()))


def account(counts: dict[str, int]) -> str:
    """`6 nodes: 4 ok, 1 failed, 1 unreachable`: every node in one state."""
    total = sum(counts.values())
    parts = [f"{count} {state}" for state, count in counts.items() if count or state == OK]
    return f"{total} {'node' if total == 1 else 'nodes'}: {', '.join(parts)}"


def _print_result() -> Callable[[Result], None]:
    """nornir-utils' print_result, without what its import does to the terminal.

    It wraps sys.stdout for good (colorama), colours what goes into a file, and leaves the colour on.
    """
    streams = sys.stdout, sys.stderr
    from nornir_utils.plugins.functions import print_result  # noqa: PLC0415 - imported between the two lines around

    sys.stdout, sys.stderr = streams

    def printer(result: Result) -> None:
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            print_result(result)
        typer.echo(re.sub(r"^(\x1b\[.*)$", "\\1\x1b[0m", text.getvalue(), flags=re.MULTILINE), nl=False)

    return printer
