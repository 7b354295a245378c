"""The list of images before and after, and whose each difference is.

Status: `ok`; `new` (there is no list from before to compare with); `created by user`, `changed by user`, `deleted by
user`: the row's own times say that it was done since; and where they do not: `appeared` (only after), `changed`
(something of it differs), `missing` (only before). `explanation` says what differs.
"""

from typing import Any

import numpy as np
import pandas as pd

from reports.reasons import Reason, Traces
from reports.reasons.images import Images
from reports.tables import frames

COLUMNS = [
    "id",
    "name",
    "owner",
    "is_public",
    "before_status",
    "after_status",
    "before_size",
    "after_size",
    "status",
    "explained_by",
    "action",
    "who",
    "when",
    "explanation",
]
STATUS = "status"
_VERBS = {"missing": "deleted", "appeared": "created", "changed": "changed"}
EXPLAINED = {f"{verb} by user" for verb in _VERBS.values()}
GOOD = {"ok", "new"} | EXPLAINED
WARN = {"new"} | EXPLAINED
_COMPARED = {
    "name": "name",
    "status": "status",
    "is_public": "public",
    "owner": "owner",
    "size": "size in bytes",
    "checksum": "checksum",
    "protected": "protected",
}


def table(before: pd.DataFrame, after: pd.DataFrame, traces: Traces | None = None) -> pd.DataFrame:
    """Compare two lists of images.

    Args:
        before: id, name, status, is_public, owner, size (bytes), checksum, protected.
        after: the same.
        traces: what was done since; None where there is no list from before.

    Returns:
        COLUMNS, sorted by id; name, owner and is_public as they are after, or were before if it is missing.

    Raises:
        ValueError: a column is not there.
    """
    rows = _facts(before).merge(_facts(after), on="id", how="outer", suffixes=("_b", "_a"), indicator=True)
    missing, more = rows["_merge"] == "left_only", rows["_merge"] == "right_only"
    words = pd.Series("", index=rows.index, dtype="str")
    for column, word in _COMPARED.items():
        old, now = rows[f"{column}_b"].fillna(""), rows[f"{column}_a"].fillna("")
        differs = (old != now) & ~missing & ~more
        said = word + " " + old.where(old != "", "none") + " -> " + now.where(now != "", "none")
        words = words.where(~differs, words + np.where(words != "", "; ", "") + said)
    rows["explanation"] = words.mask(missing, "in the list before, not in the list now").mask(
        more, "not in the list before"
    )
    appeared = "new" if traces is None else "appeared"
    rows["status"] = np.select([missing, more, words != ""], ["missing", appeared, "changed"], default="ok")
    _explain(rows, traces or Traces())
    for column in ("name", "owner", "is_public"):
        rows[column] = rows[f"{column}_a"].where(~missing, rows[f"{column}_b"])
    for side, suffix in (("before", "_b"), ("after", "_a")):
        for column in ("status", "size"):
            rows[f"{side}_{column}"] = rows[f"{column}{suffix}"]
    rows = rows.sort_values("id", kind="stable")
    return frames.shaped(rows, COLUMNS, numbers=["before_size", "after_size"])


def _explain(rows: pd.DataFrame, traces: Traces) -> None:
    """Say of each row that differs who made it so."""
    known = Images(traces)
    why = {"missing": known.missing, "appeared": known.appeared, "changed": known.changed}
    reasons: dict[Any, tuple[Reason | None, str]] = {
        at: (why[row["status"]](row["id"]), row["explanation"])
        for at, row in rows.loc[rows["status"].isin(_VERBS)].iterrows()
    }
    words = rows["explanation"]
    frames.reasoned(rows, reasons, lambda status, reason: f"{_VERBS[status]} by {reason.by}")
    rows["explanation"] = words.where(rows["explanation"] == "", rows["explanation"])


def _facts(images: pd.DataFrame) -> pd.DataFrame:
    facts = frames.take(images, ["id", *_COMPARED])
    for column in ("size", "is_public", "protected"):
        facts[column] = frames.whole(facts[column]).astype("str").fillna("")
    return facts.drop_duplicates("id", keep="last")
