"""What a report tells beside its tables: of which cloud and nodes, which steps, what is new since the last one."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Place:
    """A node in the inventory: its name, its cell (`top` or a child cell's name), and its data centre or ""."""

    name: str
    cell: str
    data_centre: str


@dataclass(frozen=True)
class Bar:
    """A step of the run.

    Attributes:
        title: the step's.
        began: ISO 8601 UTC.
        ended: the same; "" where it has not ended.
        state: running, done, empty or stopped.
        note: what the journal says of it.
    """

    title: str
    began: str
    ended: str
    state: str
    note: str = ""


@dataclass(frozen=True)
class Change:
    """A row that is another than before.

    Attributes:
        kind: new, worse, changed, better or gone.
        table: the row's table.
        where: the row's node, or what else names it.
        text: what is different, in words.
        tone: good, warn or bad, of what it is now.
    """

    kind: str
    table: str
    where: str
    text: str
    tone: str


@dataclass(frozen=True)
class Changes:
    """What is new since another report; `since` names it in words."""

    since: str
    rows: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Trend:
    """One audit of several, oldest first: its time (ISO 8601 UTC), and how many nodes were in which state."""

    at: str
    tones: Mapping[str, int]


def listed(names: Iterable[str]) -> str:
    """Names one after the other: where nothing folds them."""
    return ",".join(names)


@dataclass(frozen=True)
class Story:
    """What a report is about.

    Attributes:
        title: the headline.
        facts: what the summary says, in this order.
        nodes: all of the cloud, in the inventory's order.
        silent: nodes that could not be asked, with the reason.
        steps: of the run, in order; none where the report is of no run.
        changes: since the last audit; None where there is none to compare with.
        trend: earlier audits and this one.
        fold: makes node names one short text.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[Place, ...] = ()
    silent: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Bar, ...] = ()
    changes: Changes | None = None
    trend: tuple[Trend, ...] = ()
    fold: Callable[[Iterable[str]], str] = listed
