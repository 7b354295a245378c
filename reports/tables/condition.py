"""The condition of every node: kernel, boot, Puppet, monit, files set aside, clock, space.

A row for each thing that is looked at. Status, by what it is: `ok`; `held` (off on purpose: a run that is not
finished holds it); kernel `not running` (a newer one is installed), reboot `due`; puppet `disabled`; monit `silent` (it
did not answer), `not watched` (a thing that it does not watch) and `failed` (a thing that it says is not well); boot
`not at boot` (a service that would not start with the node); files `set aside` (an update left them beside the
site's own); clock `off`; space `low`; and `unreachable`, a single row of the node.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from reports.tables import frames

COLUMNS = ["cell", "host", "what", "expected", "actual", "status"]
STATUS = "status"
GOOD = {"ok"}
WARN = {"held", "not running", "not at boot", "due", "not watched", "set aside", "unreachable"}
KEY = ["host", "what"]
PASSING = {"uptime"}
"""What changes by itself: no audit is another by that."""


def table(rows: Iterable[Mapping[str, Any]], unreachable: Iterable[Mapping[str, str]] = ()) -> pd.DataFrame:
    """Make the table.

    Args:
        rows: cell, host, what, expected, actual, status.
        unreachable: cell, host of those that could not be asked.

    Returns:
        COLUMNS, sorted by cell, host; what a node said keeps its order.
    """
    away = {"what": "node", "expected": "answers", "actual": "", "status": "unreachable"}
    lost = [{**where, **away} for where in unreachable]
    made = frames.take(pd.DataFrame([*rows, *lost]), COLUMNS)
    return frames.shaped(frames.in_order(made, ["cell", "host"]), COLUMNS)
