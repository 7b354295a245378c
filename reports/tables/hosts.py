"""What came of every step on every host: one row for each, none left out."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = ["step", "cell", "host", "state", "attempts", "started_at", "finished_at", "detail"]
STATUS = "state"
GOOD = {"ok", "changed", "skipped"}
WARN = {"skipped", "quarantined", "unreachable", "not_run"}


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table of a run.

    Args:
        rows: one for each step and host, with COLUMNS as keys, in the run's order; times as ISO 8601 texts,
            datetimes or seconds since 1970.

    Returns:
        COLUMNS; steps in the order they first appear (the run's), then sorted by cell and host.
    """
    facts = pd.DataFrame(list(rows), columns=COLUMNS)
    table = frames.take(facts, ["step", "cell", "host", "state", "detail"])
    table["attempts"] = facts["attempts"]
    for column in ("started_at", "finished_at"):
        table[column] = frames.iso_utc(facts[column])
    table["_step"] = pd.factorize(table["step"])[0]
    return frames.shaped(frames.in_order(table, ["_step", "cell", "host"]), COLUMNS, numbers=["attempts"])
