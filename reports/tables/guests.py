"""Virtual machines before and after, by their host's boot and their process's start.

Status: `unreachable` (its host could not be asked, and it was not seen elsewhere); `running` (same boot id
and start ticks: the very same process); `restarted` (same uuid, another boot or other ticks); `lost`; `new`.
A new guest is no fault of the upgrade, so it is compliant.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from reports.tables import frames

COLUMNS = ["cell", "host", "uuid", "before_started", "after_started", "status"]
STATUS = "status"
GOOD = {"running", "new"}
WARN = {"unreachable", "new"}
_FACTS = ["cell", "host", "uuid", "boot_id", "start_ticks"]


def table(before: pd.DataFrame, after: pd.DataFrame, unreachable: Iterable[str]) -> pd.DataFrame:
    """Compare two lists of guests.

    Args:
        before: cell, host, uuid, boot_id, start_ticks, started_at (ISO 8601, or seconds since 1970).
        after: the same.
        unreachable: names of hosts that could not be asked after.

    Returns:
        COLUMNS, sorted by cell, host, uuid. A guest that is on another host now is shown there.

    Raises:
        ValueError: a column is not there.
    """
    was, now = _facts(before), _facts(after)
    here = was.merge(now, on=["cell", "host", "uuid"], how="outer", suffixes=("_b", "_a"), indicator=True)
    only_before = _one_side(here, "left_only", "_b")
    only_after = _one_side(here, "right_only", "_a")
    moved = only_before.drop(columns=["cell", "host"]).merge(only_after, on="uuid", how="inner", suffixes=("_b", "_a"))
    stayed = here[(here["_merge"] == "both") | ~here["uuid"].isin(moved["uuid"])]
    rows = pd.concat([stayed, moved.assign(_merge="both")], ignore_index=True)

    seen_twice = rows["_merge"] == "both"
    alike = (rows["boot_id_b"] == rows["boot_id_a"]) & (rows["start_ticks_b"] == rows["start_ticks_a"])
    rules = {
        "unreachable": rows["host"].isin(list(unreachable)),
        "new": rows["_merge"] == "right_only",
        "lost": rows["_merge"] == "left_only",
        "running": seen_twice & alike & (rows["boot_id_b"] != "") & (rows["start_ticks_b"] != ""),
    }
    rows["status"] = np.select(list(rules.values()), list(rules), default="restarted")
    rows["before_started"], rows["after_started"] = rows["started_b"], rows["started_a"]
    return frames.shaped(frames.in_order(rows, ["cell", "host", "uuid"]), COLUMNS)


def _facts(guests: pd.DataFrame) -> pd.DataFrame:
    facts = frames.take(guests, _FACTS)
    times = guests.reindex(columns=["started_at"])["started_at"].reset_index(drop=True)
    # Ticks that came as 12 on one side and 12.0 on the other (a column with gaps) are the same ticks.
    facts["start_ticks"] = frames.whole(facts["start_ticks"]).astype("str").fillna("")
    return facts.assign(started=frames.iso_utc(times)).drop_duplicates(["cell", "host", "uuid"], keep="last")


def _one_side(merged: pd.DataFrame, side: str, suffix: str) -> pd.DataFrame:
    names = {f"{column}{suffix}": column for column in ("boot_id", "start_ticks", "started")}
    rows = merged.loc[merged["_merge"] == side, ["cell", "host", "uuid", *names]]
    return rows.rename(columns=names)
