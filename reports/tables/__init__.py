"""The tables: a module for each, frames of facts in, one frame out.

Each module has `table(...)`, COLUMNS, STATUS (the column that has the status), GOOD (the statuses that are
compliant) and WARN (those worth a look: amber in the workbook, where others that are not good are red).
One whose rows an audit compares with those of the audit before has KEY, the columns that name a row.
A new check is a new module here and a line in TABLES.
"""

from types import ModuleType

import pandas as pd

from reports.tables import (
    backups,
    condition,
    darktime,
    dashboard,
    guests,
    hazards,
    hosts,
    images,
    performance,
    policies,
    preflight,
    quarantine,
    quotas,
    rehearsals,
    rpms,
    schemas,
    services,
    tokens,
    volumes,
)

TABLES: dict[str, ModuleType] = {
    "rpms": rpms,
    "services": services,
    "condition": condition,
    "volumes": volumes,
    "quotas": quotas,
    "guests": guests,
    "quarantine": quarantine,
    "hosts": hosts,
    "preflight": preflight,
    "hazards": hazards,
    "schemas": schemas,
    "backups": backups,
    "rehearsals": rehearsals,
    "darktime": darktime,
    "dashboard": dashboard,
    "images": images,
    "policies": policies,
    "tokens": tokens,
    "performance": performance,
}


def findings(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table that are not compliant.

    Raises:
        KeyError: there is no such table.
    """
    kind = TABLES[name]
    good: set[str] = kind.GOOD
    return frame.loc[~frame[str(kind.STATUS)].isin(good)]


def about(name: str) -> str:
    """What a table shows, in one line: the first of its module's docstring.

    Raises:
        KeyError: there is no such table.
    """
    return (TABLES[name].__doc__ or name).partition("\n")[0].rstrip(".")
