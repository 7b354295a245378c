"""How fast the cloud answers and boots, before an upgrade and after it: a row a call, and three for guests.

Status: `ok`, `slower` (by more than the site allows), `failing` (calls fail that did not before, or more of them),
`faster`, and `not before` or `not after` where only one side was measured. `before` and `after` are medians in
milliseconds, of the rate guests a minute. The row of the guests that one request makes has how many were made, and how
many faults there are: it is `failing` where they are too few, or not all of other, valid names, whatever was before.
"""

from collections.abc import Mapping
from statistics import median, quantiles
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = [
    *("what", "unit", "before", "after", "ratio", "before_p95", "after_p95", "before_failed", "after_failed"),
    *("status", "detail"),
]
STATUS = "status"
GOOD = {"ok", "faster"}
WARN = {"not before", "not after"}
SEVERAL = "guests made by one request"
GUESTS, RATE = "a guest until it is ACTIVE", "guests made at once"
MUCH_FASTER = 0.8


def table(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, slower: float) -> pd.DataFrame:
    """Make the table.

    Args:
        before: calls (name to seconds, failed, said), guests (the same, or None), rate (or None), several (count,
            names, faults; or None); None: not measured.
        after: the same.
        slower: the ratio of the medians from which on a call is slower.

    Returns:
        COLUMNS; sorted as the calls were measured, then the guests.
    """
    rows = [_row(name, old, new, slower) for name, old, new in _pairs(before, after)]
    rows += _rate(before, after, slower) + _several(before, after)
    made = frames.take(pd.DataFrame(rows), COLUMNS)
    made = frames.shaped(made, COLUMNS, numbers=["before_failed", "after_failed"])
    for name in ("before", "after", "ratio", "before_p95", "after_p95"):
        made[name] = pd.to_numeric(made[name], errors="coerce").astype("float64")
    return made


def _pairs(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[tuple[str, Any, Any]]:
    sides = [dict(side["calls"]) if side else {} for side in (before, after)]
    for side, calls in zip((before, after), sides, strict=True):
        if side and side["guests"]:
            calls[GUESTS] = side["guests"]
    names = dict.fromkeys([*sides[0], *sides[1]])
    return [(name, sides[0].get(name), sides[1].get(name)) for name in names]


def _row(name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, slower: float) -> dict[str, Any]:
    was, is_ = _milliseconds(old), _milliseconds(new)
    ratio = round(is_[0] / was[0], 2) if was and is_ and was[0] else None
    detail = new["said"] if new and new["failed"] else ""
    return {
        "what": name,
        "unit": "ms",
        "before": was and was[0],
        "after": is_ and is_[0],
        "ratio": ratio,
        "before_p95": was and was[1],
        "after_p95": is_ and is_[1],
        "before_failed": old["failed"] if old else None,
        "after_failed": new["failed"] if new else None,
        "status": _status(old, new, ratio, slower),
        "detail": detail,
    }


def _status(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, ratio: float | None, slower: float) -> str:
    if new is None:
        return "not after"
    if new["failed"] > (old["failed"] if old else 0):
        return "failing"
    if old is None:
        return "not before"
    if ratio is None:
        return "ok" if new["seconds"] else "failing"
    return "slower" if ratio > slower else "faster" if ratio < MUCH_FASTER else "ok"


def _rate(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, slower: float) -> list[dict[str, Any]]:
    was, is_ = (side["rate"] if side else None for side in (before, after))
    if was is None and is_ is None:
        return []
    ratio = round(is_ / was, 2) if was and is_ else None
    status = (
        "not before"
        if was is None
        else "not after"
        if is_ is None
        else "slower"
        if ratio and ratio < 1 / slower
        else "ok"
    )
    return [
        {"what": RATE, "unit": "a minute", "before": was, "after": is_, "ratio": ratio, "status": status, "detail": ""}
    ]


def _several(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    was, is_ = (side.get("several") if side else None for side in (before, after))
    judged = is_ or was
    if not judged:
        return []
    words = "; ".join(judged["faults"])
    detail = f"{words} (before the upgrade)" if words and not is_ else words
    status = "failing" if words else "not after" if not is_ else "not before" if not was else "ok"
    counts = [len(side["names"]) if side else None for side in (was, is_)]
    failed = [len(side["faults"]) if side else None for side in (was, is_)]
    row = {
        "what": SEVERAL,
        "unit": "guests",
        "before": counts[0],
        "after": counts[1],
        "ratio": None,
        "before_p95": None,
        "after_p95": None,
    }
    return [{**row, "before_failed": failed[0], "after_failed": failed[1], "status": status, "detail": detail}]


def regressed(made: pd.DataFrame) -> pd.DataFrame:
    """The rows of what is worse, or fails: not those of which only one side was measured.

    Args:
        made: by `table`.
    """
    return made.loc[~made[STATUS].isin(GOOD | WARN)]


def _milliseconds(side: Mapping[str, Any] | None) -> tuple[float, float] | None:
    """Median and 95th percentile."""
    if not side or not side["seconds"]:
        return None
    seconds = side["seconds"]
    high = quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return round(1000 * median(seconds), 1), round(1000 * high, 1)
