"""How long what is left of a run will take: from its own rate so far, and from earlier runs.

A step's time is the time in which at least one of its nodes was busy: the nights in which a run stood are not in it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MINUTE, HOUR = 60.0, 3600.0


@dataclass(frozen=True)
class Took:
    """What a step took in an earlier run.

    Attributes:
        title: the step's.
        nodes: how many it was carried through on.
        seconds: in which at least one of them was busy.
        same: that run had the same plan.
        idle: there was nothing to do on any of them, so that it says little of a run in which there is.
    """

    title: str
    nodes: int
    seconds: float
    same: bool = True
    idle: bool = False


@dataclass(frozen=True)
class Left:
    """A step that is not done.

    Attributes:
        title: the step's.
        nodes: how many are still to go.
        ended: how many have ended in this run.
        busy_s: seconds in which at least one of those was busy.
        waiting_s: seconds since the step began, where none has ended yet.
    """

    title: str
    nodes: int
    ended: int = 0
    busy_s: float = 0.0
    waiting_s: float = 0.0


@dataclass(frozen=True)
class Forecast:
    """How long what is left will take.

    Attributes:
        seconds: of the steps of which something is known.
        unknown: how many steps are left of which nothing is known.
    """

    seconds: float
    unknown: int

    def __str__(self) -> str:
        if not self.unknown:
            return about(self.seconds)
        steps = "one step" if self.unknown == 1 else f"{self.unknown} steps"
        return f"{about(self.seconds)}, and {steps} of which nothing is known yet"


def forecast(left: Sequence[Left], earlier: Iterable[Took]) -> Forecast | None:
    """Say how long the steps that are left will take; None where nothing is known of any of them.

    Args:
        left: in any order; one without nodes takes no time.
        earlier: what steps took in earlier runs, the newest first. A run of the same plan goes before one of another,
            and one that had something to do before both.
    """
    best: dict[str, Took] = {}
    for took in sorted(earlier, key=lambda took: (took.idle, not took.same)):
        if took.nodes > 0:
            best.setdefault(took.title, took)
    found = [_of(step, best.get(step.title)) for step in left if step.nodes > 0]
    known = [seconds for seconds in found if seconds is not None]
    if found and not known:
        return None
    return Forecast(sum(known), len(found) - len(known))


def _of(step: Left, took: Took | None) -> float | None:
    """Seconds of one step; its own rate counts for more the more of its nodes have ended."""
    before = took.seconds * step.nodes / took.nodes if took else None
    if not step.ended:
        return None if before is None else max(0.0, before - step.waiting_s)
    rate = step.busy_s * step.nodes / step.ended
    if before is None:
        return rate
    trust = step.ended / (step.ended + step.nodes)
    return trust * rate + (1 - trust) * before


def about(seconds: float) -> str:
    """A time in words, no more exact than it can be: `about 12 min`."""
    if seconds < MINUTE:
        return "less than a minute"
    for unit, below in ((MINUTE, 20 * MINUTE), (5 * MINUTE, HOUR), (15 * MINUTE, 4 * HOUR)):
        rounded = round(seconds / unit) * unit
        if rounded < below:
            return f"about {_words(int(rounded))}"
    return f"about {_words(round(seconds / HOUR) * 3600)}"


def _words(seconds: int) -> str:
    hours, minutes = divmod(seconds // 60, 60)
    return " ".join([f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes or not hours))


def span(seconds: float) -> str:
    """How long ago or how old something is, in one unit: `45 min`, `5 h`, `3 days`."""
    for unit, words, below in ((1, "s", 90), (60, "min", 90 * 60), (3600, "h", 48 * 3600)):
        if seconds < below:
            return f"{max(0, int(seconds // unit))} {words}"
    return f"{int(seconds // 86400)} days"
