"""Nodes in quarantine: they missed a step of a run, and still lack what it did from there on.

No row of it is good: a cloud with a node in quarantine is not as it should be, although all else may be.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = ["cell", "host", "since", "age", "stage", "run", "step", "state", "reason", "scheduling_disabled"]
STATUS = "state"
GOOD: set[str] = set()
WARN = {"unreachable", "unknown"}
DAY_S = 86400


def table(rows: Iterable[Mapping[str, Any]], now: str) -> pd.DataFrame:
    """Make the table.

    Args:
        rows: cell, host, since (ISO 8601), stage, run, step (the one that was missed), state (failed, unreachable,
            unknown), reason, and scheduling_disabled: `yes` where the upgrade took the node's nova-compute out of
            scheduling, `before` where somebody else had, "" where it was not touched.
        now: the time by which `age` is counted, ISO 8601.

    Returns:
        COLUMNS, sorted by cell and host; age as `3 days 4 h` or `4 h 10 min`.
    """
    facts = pd.DataFrame(list(rows), columns=[column for column in COLUMNS if column != "age"])
    table = frames.take(facts, list(facts.columns))
    table["since"] = frames.iso_utc(facts["since"])
    ages = pd.to_datetime(now, utc=True) - pd.to_datetime(facts["since"], utc=True, format="ISO8601")
    table["age"] = [_age(int(age.total_seconds())) for age in ages]
    return frames.shaped(frames.in_order(table, ["cell", "host"]), COLUMNS)


def _age(seconds: int) -> str:
    hours, minutes = max(0, seconds) // 3600, max(0, seconds) // 60 % 60
    if seconds < DAY_S:
        return f"{hours} h {minutes} min"
    days = hours // 24
    return f"{days} day{'s' * (days != 1)} {hours % 24} h"
