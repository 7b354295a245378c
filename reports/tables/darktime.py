"""When users got no answer from an API, as it was seen from outside: a row for each such time.

Status: `served` (all the time: a row without times), `dark` (it came back), `not back`, and `cut off` where the looking
ended early, because its node was restarted.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = ["api", "address", "dark_from", "dark_until", "seconds", "answer", "status"]
STATUS = "status"
GOOD = {"served", "dark"}
WARN = {"cut off"}


def table(seen: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table.

    Args:
        seen: api, url, began, ended (seconds since 1970), whole, spans (began, ended or None, status).

    Returns:
        COLUMNS: a row for each time in which an API did not serve; times are UTC, `seconds` to a tenth.
    """
    made = frames.take(pd.DataFrame([row for each in seen for row in _rows(each)]), COLUMNS)
    made = frames.shaped(made, COLUMNS)
    made["seconds"] = pd.to_numeric(made["seconds"], errors="coerce").astype("float64")
    return made


def _rows(seen: Mapping[str, Any]) -> list[dict[str, Any]]:
    where = {"api": seen["api"], "address": seen["url"]}
    rows = [
        {
            **where,
            "dark_from": _time(span["began"]),
            "dark_until": _time(span["ended"]),
            "seconds": round((span["ended"] or seen["ended"]) - span["began"], 1),
            "answer": f"HTTP {span['status']}" if span["status"] else "none",
            "status": "not back" if span["ended"] is None else "dark",
        }
        for span in seen["spans"]
    ]
    if not seen["whole"]:
        cut = {"dark_from": "", "dark_until": _time(seen["ended"]), "seconds": 0.0, "answer": "", "status": "cut off"}
        rows.append({**where, **cut})
    return rows or [{**where, "dark_from": "", "dark_until": "", "seconds": 0.0, "answer": "", "status": "served"}]


def _time(when: float | None) -> str:
    return "" if when is None else datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")
