"""What was looked for in the databases before their schema is changed: a row for each database and thing.

Status: `no-go` (the change would stop, or lose data: mend it before), `warning` (know of it), `local` (the site's own,
must be there afterwards), `note` (what the change does to rows), `ok` (looked for, and not there).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = ["cell", "host", "database", "check", "status", "what", "rows", "remedy"]
STATUS = "status"
GOOD = {"ok", "local", "note"}
WARN = {"warning"}


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table.

    Args:
        rows: with COLUMNS as keys, `rows` a number or None; those of a database in the order to show them.

    Returns:
        COLUMNS, sorted by cell, host and database.
    """
    given = pd.DataFrame(list(rows), columns=COLUMNS)
    facts = frames.take(given, COLUMNS)
    facts["rows"] = frames.whole(given["rows"])
    return frames.shaped(frames.in_order(facts, ["cell", "host", "database"]), COLUMNS, numbers=["rows"])
