"""The volume list before and after, and who made each difference.

Status: `same`; `new` (there is no list from before to compare with); `created`, `changed` or `deleted`, `by user` or
`by upgrade`; and where no reason is known: `appeared` (only after), `changed` (something of it differs), `lost` (only
before). `explanation` says what differs.
"""

from typing import Any

import numpy as np
import pandas as pd

from reports.reasons import Reason, Traces
from reports.reasons.volumes import Volumes
from reports.tables import frames

COLUMNS = [
    "id",
    "name",
    "project_id",
    "before_status",
    "after_status",
    "before_size_gib",
    "after_size_gib",
    "before_attached_to",
    "after_attached_to",
    "status",
    "explained_by",
    "action",
    "who",
    "when",
    "explanation",
]
STATUS = "status"
_VERBS = {"lost": "deleted", "appeared": "created", "changed": "changed"}
EXPLAINED = {f"{verb} by {by}" for verb in _VERBS.values() for by in ("user", "upgrade")}
GOOD = {"same", "new"} | EXPLAINED
WARN = {"new"} | EXPLAINED
_COMPARED = {
    "status": "status",
    "size_gib": "size in GiB",
    "attached_to": "attached to",
    "name": "name",
    "project_id": "project",
    "attach_status": "attachment",
    "mountpoint": "device",
}
_SINCE_LATELY = ("attach_status", "mountpoint")
"""What lists that were kept by an earlier cellstep do not have: it is compared where both have it."""


def table(before: pd.DataFrame, after: pd.DataFrame, traces: Traces | None = None) -> pd.DataFrame:
    """Compare two lists of volumes.

    Args:
        before: id, name, project_id, status, size_gib, attached_to (an instance's uuid, or empty), and where known
            attach_status, mountpoint.
        after: the same.
        traces: what was done since; None where there is no list from before.

    Returns:
        COLUMNS, sorted by id; name and project_id as they are after, or were before if it is lost.

    Raises:
        ValueError: a column is not there.
    """
    rows = _facts(before).merge(_facts(after), on="id", how="outer", suffixes=("_b", "_a"), indicator=True)
    lost, new = rows["_merge"] == "left_only", rows["_merge"] == "right_only"
    words = pd.Series("", index=rows.index, dtype="str")
    for column, word in _COMPARED.items():
        old, now = rows[f"{column}_b"].fillna(""), rows[f"{column}_a"].fillna("")
        known = rows[f"{column}_b"].notna() & rows[f"{column}_a"].notna()
        differs = (old != now) & known
        said = word + " " + old.where(old != "", "none") + " -> " + now.where(now != "", "none")
        words = words.where(~differs, words + np.where(words != "", "; ", "") + said)
    rows["explanation"] = words.mask(lost, "in the list before, not in the list now").mask(
        new, "not in the list before"
    )
    appeared = "new" if traces is None else "appeared"
    rows["status"] = np.select([lost, new, words != ""], ["lost", appeared, "changed"], default="same")
    _explain(rows, traces or Traces())
    for column in ("name", "project_id"):
        rows[column] = rows[f"{column}_a"].where(~lost, rows[f"{column}_b"])
    for side, suffix in (("before", "_b"), ("after", "_a")):
        for column in ("status", "size_gib", "attached_to"):
            rows[f"{side}_{column}"] = rows[f"{column}{suffix}"]
    rows = rows.sort_values("id", kind="stable")
    return frames.shaped(rows, COLUMNS, numbers=["before_size_gib", "after_size_gib"])


def _explain(rows: pd.DataFrame, traces: Traces) -> None:
    """Say of each row that differs who made it so."""
    known = Volumes(traces)
    unknown = {name for name in _SINCE_LATELY if rows[[f"{name}_b", f"{name}_a"]].isna().all().any()}
    reasons: dict[Any, tuple[Reason | None, str]] = {}
    for at, row in rows.loc[rows["status"].isin(_VERBS)].fillna("").iterrows():
        if row["status"] == "changed":
            both = {column: (row[f"{column}_b"], row[f"{column}_a"]) for column in _COMPARED}
            absent = {column for column in _SINCE_LATELY if column in unknown}
            differs = {column: pair for column, pair in both.items() if pair[0] != pair[1] and column not in absent}
            reason = known.changed(row["id"], differs)
        else:
            reason = known.lost(row["id"]) if row["status"] == "lost" else known.new(row["id"])
        reasons[at] = reason, row["explanation"]
    words = rows["explanation"]
    frames.reasoned(rows, reasons, lambda status, reason: f"{_VERBS[status]} by {reason.by}")
    rows["explanation"] = words.where(rows["explanation"] == "", rows["explanation"])


def _facts(volumes: pd.DataFrame) -> pd.DataFrame:
    facts = frames.take(volumes, ["id", "name", "project_id", "status", "size_gib", "attached_to"])
    facts["size_gib"] = frames.whole(facts["size_gib"]).astype("str").fillna("")
    lately = volumes.reindex(columns=[*_SINCE_LATELY]).reset_index(drop=True)
    for column in _SINCE_LATELY:
        facts[column] = lately[column].astype("str")
    return facts.drop_duplicates("id", keep="last")
