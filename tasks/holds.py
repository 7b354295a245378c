"""A hold: a temporary change to a node that is put back as it was.

A hold has three Nornir tasks. `read` tells the present state, and changes nothing; the engine journals it before
`place` is called. `lift` gets that prior state back and restores it: what was off before is never switched on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nornir.core.task import Result

HostTask = Callable[..., Result]


@dataclass(frozen=True)
class Hold:
    """What to call for one kind of temporary change.

    Attributes:
        name: as the plan and the journal name it, for example `puppet`.
        read: `read(task, **arguments)`; its result is the prior state, as plain JSON values.
        place: `place(task, prior=..., **arguments)`.
        lift: `lift(task, prior=..., **arguments)`.
        settle: `settle(task, prior=..., **arguments)`: what was changed stays for good, and the hold is over. None for
            what is always put back.
    """

    name: str
    read: HostTask
    place: HostTask
    lift: HostTask
    settle: HostTask | None = None


@dataclass(frozen=True)
class Noted:
    """What a step says to the operator, and what it found out beside that, for the journal.

    Attributes:
        words: one line.
        data: what the step's `keep` takes.
    """

    words: str
    data: Any


def skipped(task: Any, why: str | Noted) -> Result:
    """A result for a node on which there was nothing to do."""
    return Result(host=task.host, result=why, changed=False, skipped=True)


def changed(task: Any, what: str | Noted) -> Result:
    """A result for a node that was changed (or, in a dry run, would be)."""
    return Result(host=task.host, result=what, changed=True)


def unchanged(task: Any, what: Any) -> Result:
    """A result for a node that was found as it should be, or only read."""
    return Result(host=task.host, result=what, changed=False)
