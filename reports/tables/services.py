"""Services: their state on the node, and their heartbeat in the cell's database.

Status, the first that applies: `unreachable`; `stopped` (should run, does not); `running` (should be stopped,
runs); `unregistered` (should report, and has no row); `stale` (its last heartbeat is too old); `ok`.
A service that should be stopped owes no heartbeat.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from reports.tables import frames

COLUMNS = ["cell", "host", "service", "expected", "actual", "boot", "heartbeat_age_s", "status"]
STATUS = "status"
GOOD = {"ok"}
WARN = {"stale", "unreachable"}
KEY = ["host", "service"]


def table(
    expected: pd.DataFrame,
    actual: pd.DataFrame,
    heartbeats: pd.DataFrame,
    unreachable: Iterable[str],
    stale_after_s: float,
) -> pd.DataFrame:
    """Compare the services' states and heartbeats with what is expected.

    Args:
        expected: cell, host, service, expected (`running` or `stopped`), binary (its name in the database's
            services table; empty where the service has no heartbeat).
        actual: host, service, actual (`running` or `stopped`), boot (`on` or `off`). A host without any row
            here did not answer, and counts as unreachable.
        heartbeats: cell, host, binary, age_s (seconds since the last report by the database's clock; missing
            where it never reported, which is stale). Of several rows of a binary the freshest counts.
        unreachable: names of hosts that could not be asked.
        stale_after_s: a heartbeat older than so many seconds is stale.

    Returns:
        COLUMNS, sorted by cell, host, service.

    Raises:
        ValueError: a column is not there.
    """
    want = frames.take(expected, ["cell", "host", "service", "expected", "binary"])
    have = frames.take(actual, ["host", "service", "actual", "boot"])
    rows = want.merge(have.drop_duplicates(["host", "service"], keep="last"), on=["host", "service"], how="left")
    silent = rows["host"].isin(list(unreachable)) | ~rows["host"].isin(have["host"])
    rows.loc[silent, ["actual", "boot"]] = np.nan
    rows["actual"] = rows["actual"].fillna("")

    reporting = _with_heartbeats(rows, heartbeats)
    age = pd.to_numeric(reporting["age_s"], errors="coerce").astype("Float64")
    rows["heartbeat_age_s"] = age
    must_run = rows["expected"] == "running"
    must_report = must_run & (rows["binary"] != "")
    rules = {
        "unreachable": silent,
        "stopped": must_run & (rows["actual"] != "running"),
        "running": ~must_run & ~rows["actual"].isin(["stopped", ""]),
        "unregistered": must_report & ~reporting["registered"],
        "stale": must_report & ~(age <= stale_after_s).fillna(value=False).astype(bool),
    }
    rows["status"] = np.select(list(rules.values()), list(rules), default="ok")
    ordered = frames.in_order(rows, ["cell", "host", "service"])
    return frames.shaped(ordered, COLUMNS, numbers=["heartbeat_age_s"])


def _with_heartbeats(rows: pd.DataFrame, heartbeats: pd.DataFrame) -> pd.DataFrame:
    """Age and `registered` for each row; hosts match in full, or a short name the full one's first part."""
    key = ["cell", "host", "binary"]
    beats = frames.take(heartbeats, key)
    beats["age_s"] = pd.to_numeric(heartbeats.reindex(columns=["age_s"])["age_s"], errors="coerce").to_numpy()
    beats["host"] = beats["host"].str.lower()
    beats = beats.sort_values("age_s", kind="stable", na_position="last")
    wanted = rows[key].assign(host=rows["host"].str.lower())

    def looked_up(left: pd.DataFrame, right: pd.DataFrame) -> pd.DataFrame:
        found = left.merge(right.drop_duplicates(key).assign(registered=True), on=key, how="left")
        return found.assign(registered=found["registered"].notna())

    short_wanted = wanted.assign(host=wanted["host"].str.split(".").str[0])
    short_beats = beats.assign(host=beats["host"].str.split(".").str[0])
    result = looked_up(wanted, beats)
    for other in (looked_up(short_wanted, beats), looked_up(wanted, short_beats)):
        better = ~result["registered"] & other["registered"]
        result = result.where(~better, other)
    return result
