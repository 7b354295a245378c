"""A node for tests of tasks, without SSH: answers by a script, or from a real bash on this machine."""

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

from nornir.core import Nornir
from nornir.core.configuration import Config
from nornir.core.inventory import Defaults, Host, Inventory
from nornir.core.processor import Processors
from nornir.core.task import Task

from plugins.connections.ssh import CommandResult

Answer = CommandResult | BaseException | str | Callable[[str], Any] | list[Any]
Rules = Mapping[str | re.Pattern[str], Answer] | Sequence[tuple[str | re.Pattern[str], Answer]]


def said(stdout: str = "", status: int = 0, stderr: str = "") -> CommandResult:
    """What a command came to."""
    return CommandResult(status, stdout, stderr, 0.0)


class _Node:
    """What both kinds of node have of an `Ssh`, and a record of what was sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.opened = 0
        self.closed = 0

    def run(
        self,
        command: str,
        *,
        stdin: str = "",
        timeout: float | None = None,
        sink: BinaryIO | None = None,
        source: BinaryIO | None = None,
    ) -> CommandResult:
        self.sent.append(command)
        if source is not None:
            stdin += source.read().decode("utf-8", "surrogateescape")
        result = self.answer(command, stdin, timeout)
        if sink is None:
            return result
        sink.write(result.stdout.encode("utf-8", "surrogateescape"))
        return CommandResult(result.exit_status, "", result.stderr, result.seconds)

    def answer(self, command: str, stdin: str, timeout: float | None) -> CommandResult:
        raise NotImplementedError

    def sent_with(self, text: str) -> list[str]:
        """The commands with a text in them, in the order in which they were sent."""
        return [command for command in self.sent if text in command]

    def close(self) -> None:
        self.closed += 1


class Scripted(_Node):
    """Answers by rules; the first whose text or regular expression is in the command holds.

    An answer is what the command prints, a `CommandResult`, an exception to raise, or a function of the command that
    returns one of these. A list is answered one after the other, each once.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__()
        pairs = rules.items() if isinstance(rules, Mapping) else rules
        self.rules = [(pattern, iter(a) if isinstance(a, list) else a) for pattern, a in pairs]

    def answer(self, command: str, stdin: str, timeout: float | None) -> CommandResult:
        del stdin, timeout
        for pattern, answer in self.rules:
            if pattern in command if isinstance(pattern, str) else pattern.search(command):
                return self._given(command, answer)
        raise AssertionError(f"the script has no answer to: {command}")

    def _given(self, command: str, answer: Any) -> CommandResult:
        if hasattr(answer, "__next__"):
            try:
                answer = next(answer)
            except StopIteration:
                raise AssertionError(f"asked more often than the script answers: {command}") from None
        if callable(answer):
            answer = answer(command)
        if isinstance(answer, BaseException):
            raise answer
        return said(answer) if isinstance(answer, str) else answer


class Bash(_Node):
    """Runs what is sent in a real bash, with stand-ins for the node's programs first on its PATH.

    Args:
        programs: a folder for the stand-ins.
        longest: seconds that a command may take, whatever it is given.
    """

    def __init__(self, programs: Path, longest: float = 20.0) -> None:
        super().__init__()
        self.programs, self.longest = programs, longest
        programs.mkdir(parents=True, exist_ok=True)

    def program(self, name: str, script: str) -> None:
        """Put a bash script on the PATH."""
        path = self.programs / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def answer(self, command: str, stdin: str, timeout: float | None) -> CommandResult:
        done = subprocess.run(
            ["bash", "-c", command],
            input=stdin.encode("utf-8", "surrogateescape"),
            capture_output=True,
            check=False,
            timeout=min(timeout or self.longest, self.longest),
            env={**os.environ, "PATH": f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
        )
        return said(done.stdout.decode("utf-8", "surrogateescape"), done.returncode, done.stderr.decode())


class _Host(Host):
    """A host whose connections are given; one that a task closes comes back at its next use."""

    def open_connection(self, connection: str, *_: Any, **__: Any) -> Any:
        given = self.data["given"][connection]
        given.opened = getattr(given, "opened", 0) + 1  # a real Ssh counts nothing
        self.connections[connection] = SimpleNamespace(connection=given, close=given.close)
        return self.connections[connection]


class Database:
    """Stands for a `Mysql`: answers queries one after the other, the last one again and again."""

    def __init__(self, *answers: list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.opened = 0
        self.asked: list[tuple[str, Any, str | None]] = []

    def query(self, sql: str, args: Any = (), *, database: str | None = None) -> list[dict[str, Any]]:
        self.asked.append((sql, args, database))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def close(self) -> None: ...


def task_on(node: _Node, *, dry_run: bool = False, database: Database | None = None) -> Task:
    """A Nornir task on a host whose `cellstep_ssh` (and `cellstep_mysql`) is the given one."""
    host = _Host(name="c01-n01", hostname="c01-n01", data={"given": {"cellstep_ssh": node, "cellstep_mysql": database}})
    nornir = Nornir(inventory=Inventory({host.name: host}, {}, Defaults()), config=Config())
    task = Task(task_on, nornir, dry_run, Processors())
    task.host = host
    return task


def reply(node: _Node, function: Callable[..., Any], **arguments: Any) -> str:
    """Call a task, and say in short what came of it: `changed: ...`, `skipped: ...` or `ok: ...`."""
    return told(function(task_on(node), **arguments))


def told(result: Any) -> str:
    """A task's result in short: `changed: ...`, `skipped: ...` or `ok: ...`."""
    state = "skipped" if getattr(result, "skipped", False) else "changed" if result.changed else "ok"
    return f"{state}: {result.result}"
