"""The volume list before and after.

Status: `lost` (only before), `new` (only after), `changed` (something of it differs; `explanation` says
what), `same`. A new volume is no fault of the upgrade, so it is compliant.
"""

import numpy as np
import pandas as pd

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
    "explanation",
]
STATUS = "status"
GOOD = {"same", "new"}
WARN = {"changed", "new"}
_COMPARED = {
    "status": "status",
    "size_gib": "size in GiB",
    "attached_to": "attached to",
    "name": "name",
    "project_id": "project",
}


def table(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Compare two lists of volumes.

    Args:
        before: id, name, project_id, status, size_gib, attached_to (an instance's uuid, or empty).
        after: the same.

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
        differs = (old != now) & ~lost & ~new
        said = word + " " + old.where(old != "", "none") + " -> " + now.where(now != "", "none")
        words = words.where(~differs, words + np.where(words != "", "; ", "") + said)
    rows["explanation"] = words.mask(lost, "in the list before, not in the list now").mask(
        new, "not in the list before"
    )
    rows["status"] = np.select([lost, new, words != ""], ["lost", "new", "changed"], default="same")
    for column in ("name", "project_id"):
        rows[column] = rows[f"{column}_a"].where(~lost, rows[f"{column}_b"])
    for side, suffix in (("before", "_b"), ("after", "_a")):
        for column in ("status", "size_gib", "attached_to"):
            rows[f"{side}_{column}"] = rows[f"{column}{suffix}"]
    rows = rows.sort_values("id", kind="stable")
    return frames.shaped(rows, COLUMNS, numbers=["before_size_gib", "after_size_gib"])


def _facts(volumes: pd.DataFrame) -> pd.DataFrame:
    facts = frames.take(volumes, ["id", "name", "project_id", "status", "size_gib", "attached_to"])
    facts["size_gib"] = frames.whole(facts["size_gib"]).astype("str").fillna("")
    return facts.drop_duplicates("id", keep="last")
