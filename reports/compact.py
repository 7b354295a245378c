"""Tables kept small: nodes whose rows are the same share them, and in a cloud most do."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

VOLATILE = {"heartbeat_age_s"}
"""Columns that are another at each look, and say nothing by that."""


def pack(frame: pd.DataFrame) -> dict[str, Any]:
    """Make plain JSON values of a table; all values become texts, and what is volatile is left out.

    Returns:
        columns; sets: each with `rows` and the `hosts` (name, cell) that have just these. A table without the column
        `host` is one set without hosts.
    """
    texts = frame.drop(columns=VOLATILE & set(frame.columns)).astype("str").fillna("").replace("<NA>", "")
    if "host" not in texts.columns:
        rows = texts.to_numpy().tolist()
        return {"columns": list(texts.columns), "sets": [{"hosts": [], "rows": rows}] if rows else []}
    named = ["host", *(["cell"] if "cell" in texts.columns else [])]
    columns = [column for column in texts.columns if column not in {"cell", "host"}]
    by_place: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for place, row in zip(_tuples(texts, named), _tuples(texts, columns), strict=True):
        by_place.setdefault(place, []).append(row)
    alike: dict[tuple[tuple[str, ...], ...], list[list[str]]] = {}
    for place, its in by_place.items():
        alike.setdefault(tuple(its), []).append(list(place))
    sets = [{"hosts": hosts, "rows": [list(row) for row in same]} for same, hosts in alike.items()]
    return {"columns": [*named, *columns], "sets": sets}


def _tuples(texts: pd.DataFrame, columns: list[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(texts[column].tolist() for column in columns), strict=True)


def unpack(packed: Mapping[str, Any]) -> pd.DataFrame:
    """The table again, as texts; nodes with the same rows stand together."""
    rows = [[*host, *row] for group in packed["sets"] for host in (group["hosts"] or [[]]) for row in group["rows"]]
    return pd.DataFrame(rows, columns=packed["columns"], dtype="str")
