"""The dashboard under the same load, before the switch to the new machine and after it: a row each.

Status: `before`; afterwards `as before`, or `worse`, with the reasons as detail: users were switched back then, unless
the operator went on past the gate.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = [
    *("when", "machine", "address", "requests", "errors", "logins", "failed_logins", "median_ms", "p95_ms"),
    *("status", "detail"),
]
STATUS = "status"
GOOD = {"before", "as before"}
WARN: set[str] = set()


def table(measured: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table.

    Args:
        measured: `before` and `after` (or one of them) to machine, address, requests, errors, logins, failed_logins,
            median_ms and p95_ms (milliseconds or None), statuses (HTTP status to requests), worse (reasons).

    Returns:
        COLUMNS, before first.
    """
    rows = [_row(when, measured[when]) for when in ("before", "after") if when in measured]
    made = frames.take(pd.DataFrame(rows), COLUMNS)
    made = frames.shaped(made, COLUMNS, numbers=["requests", "errors", "logins", "failed_logins"])
    for name in ("median_ms", "p95_ms"):
        made[name] = pd.to_numeric(made[name], errors="coerce").astype("float64")
    return made


def _row(when: str, seen: Mapping[str, Any]) -> dict[str, Any]:
    same = ("machine", "address", "requests", "errors", "logins", "failed_logins", "median_ms", "p95_ms")
    after = "worse" if seen["worse"] else "as before"
    answers = ", ".join(f"{count} x HTTP {code}" for code, count in seen["statuses"].items() if int(code) >= 500)
    return {
        "when": when,
        **{name: seen[name] for name in same},
        "status": "before" if when == "before" else after,
        "detail": "; ".join([*seen["worse"], *([answers] if answers else [])]),
    }
