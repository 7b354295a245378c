"""What binds a task to its place in a run: whose it is, which try it is, and what it sent.

The engine binds each node's task before it calls it; `tasks.shell` and `tasks.jobs` look here. A task that is not bound
(a single question, a test) runs its commands as they are.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from nornir.core.task import Task

from tasks.masking import masked

# Characters of an output that are kept from its beginning and from its end.
HEAD, TAIL = 1000, 2000


@dataclass(frozen=True)
class Command:
    """One command that a task sent and that changes its node, as the journal keeps it.

    Attributes:
        what: the words for it.
        exit_status: as in a shell.
        seconds: from its start to its end, by the node's clock where it ran detached.
        size: bytes that it printed, standard output and error together.
        sha256: of what it printed, hexadecimal.
        head: the first 1,000 characters.
        tail: the last 2,000 characters, "" where the head is all.
    """

    what: str
    exit_status: int
    seconds: float
    size: int
    sha256: str
    head: str
    tail: str

    @classmethod
    def of(cls, what: str, exit_status: int, seconds: float, said: str) -> "Command":
        """The record of a command of which all the output is here."""
        printed = said.encode("utf-8", "surrogateescape")
        digest = hashlib.sha256(printed).hexdigest()
        return cls(what, exit_status, seconds, len(printed), digest, *ends(said))


def ends(said: str) -> tuple[str, str]:
    """The head and the tail that are kept of an output, passwords masked."""
    return masked(said[:HEAD]), masked(said[max(HEAD, len(said) - TAIL) :])


@dataclass
class Binding:
    """A node's task in a run.

    Attributes:
        run: the run's id.
        step: the step's title.
        generation: which try of the step this is on the node: the same again where the one before has no known end.
        token: the fencing token of the operator who holds the cloud; it only grows.
        again: the try before has no known end: ask the node what became of it before doing anything.
        still_ours: raises `Fenced` where somebody else has taken the cloud over.
        tell: takes a line for the operator, while the task runs; of any thread.
        commands: filled with what was sent.
    """

    run: str
    step: str
    generation: int = 1
    token: int = 0
    again: bool = False
    still_ours: Callable[[], None] = lambda: None
    tell: Callable[[str], None] = lambda _line: None
    commands: list[Command] = field(default_factory=list)


_BOUND: WeakKeyDictionary[Task, Binding] = WeakKeyDictionary()


def bind(task: Task, binding: Binding) -> None:
    """Bind a node's task."""
    _BOUND[task] = binding


def binding_of(task: Task) -> Binding | None:
    """The task's binding, None where it has none."""
    return _BOUND.get(task)
