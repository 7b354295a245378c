"""RPM versions on every node, against the release's.

One row for each expected package of each host. Status: `unreachable` (the host could not be asked), `missing`
(not installed), else `older`, `newer` or `ok` as rpm compares.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from reports.nevra import compare_evr, newest_last, parse_evr
from reports.tables import frames

COLUMNS = ["cell", "host", "role", "package", "expected", "installed", "status"]
STATUS = "status"
GOOD = {"ok"}
WARN = {"newer", "unreachable"}
KEY = ["host", "package"]
_WORDS = {-1: "older", 0: "ok", 1: "newer"}


def table(expected: pd.DataFrame, installed: pd.DataFrame, unreachable: Iterable[str]) -> pd.DataFrame:
    """Compare what is installed with what is expected.

    Args:
        expected: cell, host, role, package, expected (`[epoch:]version[-release]`; without a release only
            epoch and version are compared).
        installed: host, package, installed (`[epoch:]version-release`). Of several versions of one package
            on a host (an update that was cut off) the oldest counts and is shown.
        unreachable: names of hosts that could not be asked.

    Returns:
        COLUMNS, sorted by cell, host, package.

    Raises:
        ValueError: a version cannot be read, or a column is not there.
    """
    want = frames.take(expected, ["cell", "host", "role", "package", "expected"])
    rows = want.merge(_oldest(installed), on=["host", "package"], how="left")
    lost = rows["host"].isin(list(unreachable))
    rows.loc[lost, "installed"] = np.nan
    absent = rows["installed"].isna()
    rows["status"] = np.select([lost, absent], ["unreachable", "missing"], default=_compared(rows))
    return frames.shaped(frames.in_order(rows, ["cell", "host", "package"]), COLUMNS)


def _oldest(installed: pd.DataFrame) -> pd.DataFrame:
    have = frames.take(installed, ["host", "package", "installed"])
    written = {text: str(parse_evr(text)) for text in have["installed"].unique()}
    have["installed"] = have["installed"].map(written).astype("str")
    rank = {text: position for position, text in enumerate(newest_last(list(written.values())))}
    return (
        have.assign(rank=have["installed"].map(rank))
        .sort_values("rank", kind="stable")
        .drop_duplicates(["host", "package"], keep="first")
        .drop(columns="rank")
    )


def _compared(rows: pd.DataFrame) -> np.ndarray:
    """The status of each row by its versions alone: each different pair is compared once."""
    codes, pairs = pd.factorize(pd.MultiIndex.from_frame(rows[["installed", "expected"]]))
    words = [_WORDS[compare_evr(have, want)] if isinstance(have, str) else "missing" for have, want in pairs]
    return np.array(words, dtype=object)[codes]
