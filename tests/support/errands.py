"""Tasks for tests that are sent through a worker, which imports them from here."""

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from nornir.core.task import Result, Task

from plugins.connections.errors import Unreachable
from tasks.binding import binding_of
from tasks.errors import Refused
from tasks.holds import changed, unchanged
from tasks.jobs import detached
from tasks.peers import PEERS
from tasks.shell import change, sh


def where(task: Task, **_: Any) -> Result:
    """The pid of the process that asks, and what the node says."""
    return unchanged(task, {"pid": os.getpid(), "said": sh(task, "echo $SSH_CONNECTION").stdout.split()})


def tells(task: Task) -> Result:
    """Only tells the operator something."""
    binding = binding_of(task)
    assert binding is not None
    binding.tell(f"a word of {task.host.name}")
    return unchanged(task, "told")


def touch(task: Task, *, folder: str) -> Result:
    """Change the node: one more line in a file of its name."""
    change(task, f"echo once >> {folder}/{task.host.name}", what="touching")
    return changed(task, "touched")


def linger(task: Task, *, folder: str, seconds: float = 60.0) -> Result:
    """As `touch`, and then wait for a file `go`."""
    change(task, f"echo once >> {folder}/{task.host.name}", what="touching")
    ended, pause = time.monotonic() + seconds, threading.Event()
    while not Path(folder, "go").exists():
        if time.monotonic() > ended:
            raise Refused("nobody said go")
        pause.wait(0.05)
    return changed(task, "lingered")


def uneven(task: Task, *, folder: str) -> Result:
    """The node that ends with 1 is quick, the others linger."""
    return touch(task, folder=folder) if task.host.name.endswith("1") else linger(task, folder=folder)


def troubled(task: Task, *, what: str) -> Result:
    """Ends as it is told."""
    if what == "refuse":
        raise Refused("not so")
    if what == "away":
        raise Unreachable(f"{task.host.name}: no answer")
    if what == "socket":
        return unchanged(task, socket.socket())
    return unchanged(task, sorted(task.host.data[PEERS]))


def secret(task: Task, *, password: Any, word: str) -> Result:
    """What the cloud's function gives here."""
    return unchanged(task, f"{word} {password().get_secret_value()}")


def work(task: Task, *, folder: str) -> Result:
    """A long command: ends when somebody says go, and leaves a line."""
    script = f"touch {folder}/{task.host.name}.began; until [ -e {folder}/go ]; do sleep 0.1; done"
    detached(task, f"{script}; echo once >> {folder}/{task.host.name}", name="work", what="working", timeout=120)
    return changed(task, "worked")
