"""The schemas after the upgrade: a row for each database and thing that was compared.

Status: `ok` (as the release has it), `kept` (the site's own, as before), `as before` (unlike the release, as it was
before), `own` (the site's own; what was before is not known), `missing`, `other` (unlike the release), `unexpected`
(of neither, and not there before), `lost` (the site's own, gone or changed), `changed` (rows that the release leaves as
they are), `empty` (a column without a value), `wrong` (the schema version), `unknown` (it could not be counted).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = ["cell", "host", "database", "check", "what", "status", "before", "after"]
STATUS = "status"
GOOD = {"ok", "kept", "as before", "own"}
WARN = {"unexpected", "unknown"}
KEY = ["host", "database", "check", "what"]


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table.

    Args:
        rows: with COLUMNS as keys, all of them texts; those of a database in the order to show them.

    Returns:
        COLUMNS, sorted by cell, host and database.
    """
    facts = frames.take(pd.DataFrame(list(rows), columns=COLUMNS), COLUMNS)
    return frames.shaped(frames.in_order(facts, ["cell", "host", "database"]), COLUMNS)
