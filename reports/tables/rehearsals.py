"""Schema changes that were tried on copies of the databases: each version, what it took, and where it stopped.

Status: `ok`, `stopped` (the change did not come further than that version). Rows written are also those that were
copied into a new form of their table.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = [
    *("cell", "host", "database", "version", "seconds", "written", "changed", "deleted", "status", "detail"),
]
STATUS = "status"
GOOD = {"ok"}
WARN: set[str] = set()


def table(rehearsals: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table.

    Args:
        rehearsals: cell, place (NODE/DATABASE), start, end, seconds, steps (version, seconds, written, changed,
            deleted), error.

    Returns:
        COLUMNS: a row for each version, and one with the time of all; sorted by cell, host and database.
    """
    rows = [row for rehearsal in rehearsals for row in _rows(rehearsal)]
    made = frames.take(pd.DataFrame(rows), COLUMNS)
    made = frames.in_order(made, ["cell", "host", "database"])
    made = frames.shaped(made, COLUMNS, numbers=["version", "written", "changed", "deleted"])
    made["seconds"] = pd.to_numeric(made["seconds"], errors="coerce").astype("float64")
    return made


def _rows(rehearsal: Mapping[str, Any]) -> list[dict[str, Any]]:
    host, _, database = rehearsal["place"].partition("/")
    where = {"cell": rehearsal["cell"], "host": host, "database": database, "status": "ok", "detail": ""}
    rows = [{**where, **step} for step in rehearsal["steps"]]
    whole = f"{rehearsal['start']} to {rehearsal['end']}, in all"
    end = {
        "version": rehearsal["end"],
        "seconds": rehearsal["seconds"],
        **{name: sum(step[name] for step in rehearsal["steps"]) for name in ("written", "changed", "deleted")},
        "detail": rehearsal["error"] or whole,
        "status": "stopped" if rehearsal["error"] else "ok",
    }
    return [*rows, {**where, **end}]
