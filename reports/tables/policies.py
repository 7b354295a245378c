"""The rules that policy files must have, on each node that has the file.

Status, the first that applies: `unreachable`; `unreadable` (the file is no JSON); `missing` (the rule is not there:
`default` counts in its place); `open` (it lets everybody pass); `own` (the site has a rule of its own); `ok`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = ["cell", "host", "file", "rule", "expected", "actual", "status", "explanation"]
STATUS = "status"
GOOD = {"ok", "own"}
WARN = {"own", "unreachable"}
KEY = ["host", "file", "rule"]


def table(seen: Iterable[Mapping[str, Any]], unreachable: Sequence[Mapping[str, str]] = ()) -> pd.DataFrame:
    """Judge what stands in the files.

    Args:
        seen: cell, host, and what `tasks.policies.look` says of a rule.
        unreachable: cell, host of those that could not be asked.

    Returns:
        COLUMNS, sorted by cell, host, file, rule.
    """
    rows = [{**row, **_judged(row)} for row in seen]
    rows += [{**row, "file": "", "rule": "", "status": "unreachable", "explanation": ""} for row in unreachable]
    frame = pd.DataFrame(rows, columns=COLUMNS)
    return frames.shaped(frames.in_order(frame.fillna(""), ["cell", "host", "file", "rule"]), COLUMNS)


def _judged(row: Mapping[str, Any]) -> dict[str, str]:
    rule, actual, fallback = row["rule"], row["actual"], row["fallback"]
    if row["error"]:
        return {"status": "unreadable", "explanation": row["error"]}
    if actual is None and fallback is None:
        return {"actual": "", "status": "missing", "explanation": f"there is no {rule}, and no default"}
    if actual is None:
        everybody = ": whoever asks counts as one" if fallback in ('""', '"@"', "[]", "[[]]") else ""
        return {
            "actual": "",
            "status": "missing",
            "explanation": f"there is no {rule}, so that default counts ({fallback}){everybody}",
        }
    if row["open"]:
        return {"status": "open", "explanation": f"{rule} is {actual}: whoever asks passes; write {row['expected']}"}
    if actual != row["expected"]:
        return {"status": "own", "explanation": "the site's own rule"}
    return {"status": "ok", "explanation": ""}
