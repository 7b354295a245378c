"""The run's steps as bars, and each API's dark time above them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from reports.story import Bar


@dataclass(frozen=True)
class Mark:
    """A bar: where it begins and how wide it is, in per cent of the whole; its row's title, and words beside it."""

    title: str
    left: float
    width: float
    took: str
    state: str
    words: str


@dataclass(frozen=True)
class Row:
    """An API, with the times when it did not answer."""

    title: str
    marks: tuple[Mark, ...]
    took: str


@dataclass(frozen=True)
class Timeline:
    """The whole run: from when to when (ISO 8601 UTC), how long, APIs and steps."""

    began: str
    ended: str
    took: str
    dark: tuple[Row, ...]
    steps: tuple[Mark, ...]


def timeline(steps: Sequence[Bar], dark: pd.DataFrame | None) -> Timeline | None:
    """Lay the steps out between the first one's beginning and the last one's end; None where there are none.

    Args:
        steps: in order.
        dark: the table `darktime`, or None.
    """
    if not steps:
        return None
    ends = [bar.ended or bar.began for bar in steps]
    began, ended = min(bar.began for bar in steps), max(ends)
    first = _time(began)
    whole = max((_time(ended) - first).total_seconds(), 1.0)

    def placed(title: str, since: str, until: str, state: str, words: str) -> Mark:
        left = min(max((_time(since) - first).total_seconds() / whole * 100, 0.0), 100.0)
        seconds = max((_time(until) - _time(since)).total_seconds(), 0.0)
        width = min(max(seconds / whole * 100, 0.2), 100.0 - left + 0.2)
        return Mark(title, round(left, 2), round(width, 2), span(seconds), state, words)

    marks = [placed(bar.title, bar.began, bar.ended or bar.began, bar.state, bar.note) for bar in steps]
    rows: dict[str, list[Mark]] = {}
    seconds: dict[str, float] = {}
    for row in [] if dark is None else dark.to_dict("records"):
        if row["dark_from"]:
            until = row["dark_until"] or ended
            rows.setdefault(row["api"], []).append(placed(row["api"], row["dark_from"], until, "dark", row["answer"]))
            seconds[row["api"]] = seconds.get(row["api"], 0.0) + float(row["seconds"])
    apis = tuple(Row(api, tuple(found), span(seconds[api])) for api, found in rows.items())
    return Timeline(began, ended, span(whole), apis, tuple(marks))


def span(seconds: float) -> str:
    """Seconds in words: 0.4 s, 12 s, 3 min 5 s, 2 h 4 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def clock(time: str) -> str:
    """The time of day of an ISO 8601 time, to the second."""
    return f"{_time(time):%H:%M:%S}" if time else ""


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
