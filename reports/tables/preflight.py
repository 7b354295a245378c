"""What the preflight found, days ahead: one row for each node and check, and more where a check found more.

Status: `no-go` (mend it before the upgrade), `warning` (know of it), `ok`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = ["cell", "host", "check", "status", "cause", "detail"]
STATUS = "status"
GOOD = {"ok"}
WARN = {"warning"}


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table.

    Args:
        rows: with COLUMNS as keys; the checks of a node in the order in which they are made.

    Returns:
        COLUMNS, sorted by cell and host; the checks of a node keep their order. What is in no cell (the machine that
        cellstep runs on) is last.
    """
    facts = frames.take(pd.DataFrame(list(rows), columns=COLUMNS), COLUMNS)
    here = facts["cell"] == ""
    in_cells = frames.in_order(facts[~here], ["cell", "host"])
    return frames.shaped(pd.concat([in_cells, facts[here]], ignore_index=True), COLUMNS)
