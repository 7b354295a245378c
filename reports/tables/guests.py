"""Virtual machines before and after: their process on its host, their row in the API's database and in their cell's.

Status: `unreachable` (its host could not be asked, and it was not seen elsewhere); `running` (same boot id and start
ticks: the very same process, and no database says otherwise); `new` (there is no list of its host from before to
compare with); `created`, `started`, `restarted`, `moved`, `changed`, `stopped` or `deleted`, `by user` or `by upgrade`;
and where no reason is known: `appeared` (ran nowhere before), `restarted` (another boot, or other ticks), `moved` (runs
on another host), `changed` (only its rows differ), `lost` (runs nowhere). `explanation` says what differs.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from reports.reasons import UNKNOWN, Reason, Standing, Traces
from reports.reasons.guests import Guests, Seen
from reports.tables import frames

COLUMNS = [
    "cell",
    "host",
    "uuid",
    "before_started",
    "after_started",
    "before_api",
    "after_api",
    "before_cell",
    "after_cell",
    "status",
    "explained_by",
    "action",
    "who",
    "when",
    "explanation",
]
STATUS = "status"
_PROCESS = {"lost": "lost", "restarted": "restarted", "moved": "moved", "appeared": "new", "changed": ""}
_VERBS = {"lost": "stopped", "restarted": "restarted", "moved": "moved", "appeared": "started", "changed": "changed"}
_BY_ACTION = {"delete": "deleted", "deleting": "deleted", "create": "created", "check-out test": "created"}
_ALL_VERBS = {*_VERBS.values(), "deleted", "created"}
EXPLAINED = {f"{verb} by {by}" for verb in _ALL_VERBS for by in ("user", "upgrade")}
GOOD = {"running", "new"} | EXPLAINED
WARN = {"unreachable", "new"} | EXPLAINED
_FACTS = ["cell", "host", "uuid", "boot_id", "start_ticks"]


def table(
    before: pd.DataFrame, after: pd.DataFrame, unreachable: Iterable[str], traces: Traces | None = None
) -> pd.DataFrame:
    """Compare two lists of guests.

    Args:
        before: cell, host, uuid, boot_id, start_ticks, started_at (ISO 8601, or seconds since 1970).
        after: the same.
        unreachable: names of hosts that could not be asked after.
        traces: what the databases say; None where there is no list from before.

    Returns:
        COLUMNS, sorted by cell, host, uuid. A guest that is on another host now is shown there. One of which only rows
        in databases differ has no host.

    Raises:
        ValueError: a column is not there.
    """
    was, now = _facts(before), _facts(after)
    here = was.merge(now, on=["cell", "host", "uuid"], how="outer", suffixes=("_b", "_a"), indicator=True)
    only_before = _one_side(here, "left_only", "_b")
    only_after = _one_side(here, "right_only", "_a")
    from_there = only_before.drop(columns="cell").rename(columns={"host": "was_on"})
    moved = from_there.merge(only_after, on="uuid", how="inner", suffixes=("_b", "_a"))
    stayed = here[(here["_merge"] == "both") | ~here["uuid"].isin(moved["uuid"])]
    rows = pd.concat([stayed, moved.assign(_merge="both")], ignore_index=True)

    seen_twice = rows["_merge"] == "both"
    alike = (rows["boot_id_b"] == rows["boot_id_a"]) & (rows["start_ticks_b"] == rows["start_ticks_a"])
    fresh = rows["host"].isin(list(traces.fresh)) if traces else True
    rules = {
        "unreachable": rows["host"].isin(list(unreachable)),
        "new": (rows["_merge"] == "right_only") & fresh,
        "appeared": rows["_merge"] == "right_only",
        "lost": rows["_merge"] == "left_only",
        "moved": seen_twice & (rows["was_on"].fillna("") != ""),
        "running": seen_twice & alike & (rows["boot_id_b"] != "") & (rows["start_ticks_b"] != ""),
    }
    rows["status"] = np.select(list(rules.values()), list(rules), default="restarted")
    rows["before_started"], rows["after_started"] = rows["started_b"], rows["started_a"]
    rows = _with_rows_alone(rows, traces)
    _explain(rows, traces or Traces())
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


def _with_rows_alone(rows: pd.DataFrame, traces: Traces | None) -> pd.DataFrame:
    """With the guests' rows in databases; guests of which only these differ are `changed`."""
    standings = traces.standings if traces else {}
    there = set(rows["uuid"])
    alone = [uuid for uuid, both in standings.items() if uuid not in there and any(each.differs for each in both)]
    more = pd.DataFrame({"uuid": sorted(alone)}, dtype="str").assign(cell="", host="", status="changed")
    rows = pd.concat([rows, more], ignore_index=True).astype({"status": "str"})
    found: list[tuple[Standing, Standing]] = [standings.get(uuid, (UNKNOWN, UNKNOWN)) for uuid in rows["uuid"]]
    for position, name in enumerate(("api", "cell")):
        rows[f"before_{name}"] = [both[position].before or "" for both in found]
        rows[f"after_{name}"] = [both[position].after or "" for both in found]
    differs = pd.Series([any(each.differs for each in both) for both in found], index=rows.index, dtype="bool")
    rows["status"] = rows["status"].mask(differs & (rows["status"] == "running"), "changed")
    return rows


def _explain(rows: pd.DataFrame, traces: Traces) -> None:
    """Say of each row that differs who made it so, and what differs."""
    known = Guests(traces)
    reasons: dict[Any, tuple[Reason | None, str]] = {}
    for at, row in rows.loc[rows["status"].isin(_VERBS)].fillna("").iterrows():
        process = _PROCESS[row["status"]] or ("running" if row["host"] else "")
        rebooted = row["boot_id_b"] != row["boot_id_a"]
        reasons[at] = known.why(Seen(row["uuid"], row["host"], row["was_on"], process, row["after_started"], rebooted))
    away = rows.loc[(rows["status"] == "unreachable") & rows["host"].isin(list(traces.ours.quarantine)), "host"]
    reasons |= {at: (traces.ours.quarantine[host], "") for at, host in away.items()}
    frames.reasoned(rows, reasons, _word)


def _word(status: str, reason: Reason) -> str:
    if status == "unreachable":
        return status
    verb = _VERBS[status]
    if verb != "restarted":
        verb = _BY_ACTION.get(reason.action, verb)
    return f"{verb} by {reason.by}"
