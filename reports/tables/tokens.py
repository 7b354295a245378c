"""Whose tokens which keystone server takes: a row for each issuer and validator that share a database.

Status: `ok`, `refused` (the server says that the token is none, or that the user may not ask), `error` (the server
failed: a Grizzly server on a Havana server's token), `silent` (no answer). A server that gives no token at all is a row
without a validator.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = ["cell", "issuer", "validator", "answer", "status"]
STATUS = "status"
GOOD = {"ok"}
WARN: set[str] = set()


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table.

    Args:
        rows: cell, issuer, validator, answer, status.

    Returns:
        COLUMNS, in the order of cells, issuers and validators.
    """
    made = frames.shaped(frames.take(pd.DataFrame(list(rows)), COLUMNS), COLUMNS)
    return frames.in_order(made, ["cell", "issuer", "validator"])
