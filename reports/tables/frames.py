"""What all tables share: columns and types, order, times.

Text columns have pandas' `str` type and an empty text where nothing is known; whole numbers have `Int64`,
which can be missing. So an empty table has the same columns and types as a full one.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from reports.reasons import UNEXPLAINED, Reason

Reasons: TypeAlias = Mapping[Any, tuple[Reason | None, str]]
"""A row's index to its reason, None where there is none, and what differs, in words."""

_DIGITS = re.compile(r"(\d+)", re.ASCII)


def take(frame: pd.DataFrame, columns: Sequence[str], *, keep_missing: bool = False) -> pd.DataFrame:
    """Copy these columns, as text; a frame without rows may lack them.

    Args:
        frame: the facts.
        columns: which to take, in this order.
        keep_missing: leave missing values missing instead of making them empty texts.

    Raises:
        ValueError: the frame has rows and lacks a column.
    """
    lacking = [column for column in columns if column not in frame.columns]
    if lacking and len(frame):
        raise ValueError(f"these columns are needed and not there: {', '.join(lacking)}")
    taken = frame.reindex(columns=list(columns)).reset_index(drop=True).astype("str")
    return taken if keep_missing else taken.fillna("")


def whole(values: pd.Series) -> pd.Series:
    """Whole numbers that may be missing; fractions are rounded down."""
    numbers = pd.to_numeric(values, errors="coerce")
    return (numbers // 1).astype("Int64")


def shaped(frame: pd.DataFrame, columns: Sequence[str], numbers: Iterable[str] = ()) -> pd.DataFrame:
    """Give a finished table its columns, their order and their types."""
    result = frame.reindex(columns=list(columns)).reset_index(drop=True)
    for column in columns:
        if column in numbers:
            result[column] = whole(result[column])
        else:
            result[column] = result[column].astype("str").fillna("")
    return result


def in_order(frame: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Sort by these columns; a `cell` has `top` first, cells and hosts go by the numbers in their names.

    So c2-n9 is before c2-n10. Rows alike in all of them keep the order they had.
    """
    keys = pd.DataFrame(index=frame.index)
    for column in by:
        keys[column] = _natural(frame[column]) if column in ("cell", "host") else frame[column]
    return frame.loc[keys.sort_values(list(by), kind="stable").index].reset_index(drop=True)


def _natural(names: pd.Series) -> pd.Series:
    def key(name: str) -> tuple[bool, list[tuple[int, int | str]], str]:
        parts = [part for part in _DIGITS.split(name) if part]
        return name != "top", [(0, int(part)) if part.isdecimal() else (1, part) for part in parts], name

    rank = {name: position for position, name in enumerate(sorted(names.unique(), key=key))}
    return names.map(rank)


def iso_utc(values: pd.Series) -> pd.Series:
    """Times as ISO 8601 text in UTC (2026-01-31T02:03:04Z); an empty text where there is none.

    Args:
        values: seconds since 1970, ISO 8601 texts or datetimes; those without a time zone are UTC.
    """
    if pd.api.types.is_numeric_dtype(values):
        times = pd.to_datetime(values, unit="s", utc=True)
    else:
        times = pd.to_datetime(values.replace("", None), utc=True, format="ISO8601")
    return times.dt.strftime("%Y-%m-%dT%H:%M:%SZ").astype("str").fillna("")


def reasoned(rows: pd.DataFrame, reasons: Reasons, word: Callable[[str, Reason], str]) -> None:
    """Give a table the columns explained_by, action, who, when and explanation; its status says a reason as well.

    Args:
        rows: with a status; changed in place.
        reasons: of the rows that differ, by their index.
        word: the status of a row with a reason, from the one that it has.
    """
    columns = ["explained_by", "action", "who", "when", "explanation", "said"]
    found = pd.DataFrame.from_dict(
        {
            at: (*_words(reason, explanation), word(str(rows["status"][at]), reason) if reason else rows["status"][at])
            for at, (reason, explanation) in reasons.items()
        },
        orient="index",
        columns=columns,
        dtype="str",
    ).reindex(rows.index)
    rows["status"] = rows["status"].where(found["said"].isna(), found["said"])
    for column in columns[:-1]:
        rows[column] = found[column].fillna("")


def _words(reason: Reason | None, explanation: str) -> tuple[str, ...]:
    if reason is None:
        return UNEXPLAINED, "", "", "", explanation
    more = "; ".join(text for text in (explanation, reason.words) if text)
    return reason.by, reason.action, reason.who, reason.when, more
