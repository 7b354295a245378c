"""Dumps: whose they are, what is in them, and whether restoring them has shown just that.

Status: `proven` (restored beside the live database, the same table by table), `not proven` (restored, and not the
same), `dumped` (not restored yet).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = [
    *("cell", "host", "database", "version", "server", "replica_of", "tables", "rows", "bytes", "sha256"),
    *("began", "ended", "status", "detail"),
]
STATUS = "status"
GOOD = {"proven", "dumped"}
WARN = {"dumped"}


def table(dumps: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Make the table.

    Args:
        dumps: cell, node, database, head, server (hostname, version), replica_of, tables, rows (how many), size,
            sha256, began, ended, and proof: its differences and the tables that were written to meanwhile, or None.

    Returns:
        COLUMNS, sorted by cell, host and database.
    """
    rows = [_row(dump) for dump in dumps]
    made = frames.in_order(frames.take(pd.DataFrame(rows), COLUMNS), ["cell", "host", "database"])
    return frames.shaped(made, COLUMNS, numbers=["version", "tables", "rows", "bytes"])


def _row(dump: Mapping[str, Any]) -> dict[str, Any]:
    proof = dump["proof"]
    server = dump["server"]
    detail = []
    if proof:
        written = [f"{table} was written to while it was dumped" for table in proof["unsteady"]]
        detail = [*proof["differences"], *written]
    return {
        **{name: dump[name] for name in COLUMNS if name in dump},
        "host": dump["node"],
        "version": dump["head"],
        "server": f"{server['hostname']}, {server['version']}",
        "bytes": dump["size"],
        "status": "dumped" if not proof else "not proven" if proof["differences"] else "proven",
        "detail": "; ".join(detail),
    }
