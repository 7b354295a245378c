"""The quota cache (nova's table quota_usages) against what is really in use.

A row's identity is project, user and resource. Status, the first that applies: `orphan` (project_id is
NULL), `duplicate` (more than one live row for the identity), `missing` (something is in use and there is no
row: in_use is empty), `wrong` (in_use differs), `leaked` (only reserved differs from the live reservations),
`ok`. After a back-out a row that was as odd before the upgrade is `as before`.
"""

from typing import Any

import numpy as np
import pandas as pd

from reports.tables import frames

COLUMNS = [
    "cell",
    "project_id",
    "user_id",
    "resource",
    "in_use",
    "actual",
    "reserved",
    "reserved_actual",
    "status",
]
STATUS = "status"
GOOD = {"ok", "as before"}
WARN = {"leaked"}
RESOURCES = ("instances", "cores", "ram", "security_groups", "floating_ips", "fixed_ips")
_IDENTITY = ["project_id", "user_id", "resource"]
_NUMBERS = ["in_use", "actual", "reserved", "reserved_actual"]
_NULL = "\0"  # cannot be in an identifier, so NULL and an empty text stay two things


def table(
    usages: pd.DataFrame,
    actual: pd.DataFrame,
    reservations: pd.DataFrame,
    cell: str = "top",
    *,
    per_user: bool,
) -> pd.DataFrame:
    """Compare the quota cache with what is in use.

    Args:
        usages: id, project_id, user_id, resource, in_use, reserved: the live rows.
        actual: project_id, user_id, resource, actual: what is in use, one row for each identity.
        reservations: usage_id, reserved: live reservations, one or more rows for a usage.
        cell: whose database it is.
        per_user: the rows have a user (Havana); without it (Grizzly) user_id is left aside.

    Returns:
        COLUMNS, sorted by project, user and resource; one row for each live row, one for each missing one.

    Raises:
        ValueError: a column is not there.
    """
    rows = compared(usages, actual, reservations, cell, per_user=per_user)
    return frames.shaped(rows, COLUMNS, numbers=_NUMBERS)


def records(
    usages: pd.DataFrame,
    actual: pd.DataFrame,
    reservations: pd.DataFrame,
    cell: str = "top",
    *,
    per_user: bool,
) -> list[dict[str, Any]]:
    """The same rows as `table`, for a repair: plain dicts with the row's `id`, and None for NULL."""
    rows = compared(usages, actual, reservations, cell, per_user=per_user)
    plain = rows[["id", *COLUMNS]].astype(object)
    names = [str(name) for name in plain.columns]
    return [
        dict(zip(names, (None if pd.isna(value) else value for value in row), strict=True))
        for row in plain.itertuples(index=False)
    ]


def compared(
    usages: pd.DataFrame,
    actual: pd.DataFrame,
    reservations: pd.DataFrame,
    cell: str = "top",
    *,
    per_user: bool,
) -> pd.DataFrame:
    """The same rows as `table`, with the row's `id` and with NULL left missing."""
    have = _identified(usages, per_user=per_user)
    for column in ("id", "in_use", "reserved"):
        have[column] = _numbers(usages, column)
    have = have[have["resource"].isin(RESOURCES)]
    real = _identified(actual, per_user=per_user)
    real["actual"] = _numbers(actual, "actual")
    real = real[real["resource"].isin(RESOURCES) & (real["actual"] != 0) & real["project_id"].notna()]
    real = real.groupby(["_key"], as_index=False, sort=False).agg(
        {**dict.fromkeys(_IDENTITY, "first"), "actual": "sum"}
    )

    rows = have.merge(real, on="_key", how="outer", suffixes=("", "_real"), indicator=True)
    missing = rows["_merge"] == "right_only"
    for column in _IDENTITY:
        rows[column] = rows[column].where(~missing, rows[f"{column}_real"])
    rows["actual"] = rows["actual"].fillna(0)
    held = frames.take(reservations, ["usage_id"])
    held["id"] = frames.whole(held["usage_id"])
    held["amount"] = _numbers(reservations, "reserved")
    rows["reserved_actual"] = rows["id"].map(held.groupby("id")["amount"].sum()).astype("Int64").fillna(0)

    rules = {
        "orphan": rows["project_id"].isna(),
        "duplicate": rows.duplicated("_key", keep=False),
        "missing": missing,
        "wrong": (rows["in_use"] != rows["actual"]).fillna(value=True),
        "leaked": (rows["reserved"] != rows["reserved_actual"]).fillna(value=True),
    }
    conditions = [rule.to_numpy(dtype=bool) for rule in rules.values()]
    rows["status"] = np.select(conditions, list(rules), default="ok")
    rows["cell"] = cell
    order = rows[[*_IDENTITY, "id"]].fillna(dict.fromkeys(_IDENTITY, ""))
    rows = rows.loc[order.sort_values([*_IDENTITY, "id"], kind="stable").index].reset_index(drop=True)
    return rows[["id", *COLUMNS]]


def _numbers(facts: pd.DataFrame, column: str) -> pd.Series:
    return frames.whole(facts.reindex(columns=[column])[column].reset_index(drop=True))


def _identified(facts: pd.DataFrame, *, per_user: bool) -> pd.DataFrame:
    """The identity's columns, and one text for it that is equal where the database calls two of them equal.

    Nova's tables have MySQL's utf8_general_ci: it compares without case and without spaces at the end.
    """
    if not per_user:
        facts = facts.assign(user_id=None)
    identity = frames.take(facts, _IDENTITY, keep_missing=True)
    parts = [identity[column].str.rstrip(" ").str.lower().fillna(_NULL) for column in _IDENTITY]
    return identity.assign(_key=parts[0] + "\n" + parts[1] + "\n" + parts[2])
