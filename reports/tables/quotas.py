"""The quota cache (the table quota_usages of nova or cinder) against what is really in use.

A row's identity is project, user and resource. Status, the first that applies:

- `orphan`: nothing is counted by it. It has no project; or a user where the release counts by project; or no user
  where it counts by user, and nothing in use is without one.
- `duplicate`: more than one live row for the identity.
- `missing`: something is in use and there is no row: in_use is empty. `due` where it is no loss: the release had no
  such rows before, makes them at the project's next reservation, and counts then.
- `wrong`: in_use differs.
- `leaked`: only reserved differs from the live reservations.
- `busy`: in_use differs by no more than what is reserved for requests that are under way.
- `uncounted`: what is in use cannot be counted from the database (nova's `networks`), so actual is empty.
- `ok`.

`heals` tells when the release itself puts it right: it counts again where the row is missing, in_use is negative,
or until_refresh has come down to 0; `reserved` is never counted again. After a back-out a row that was as odd before
the upgrade is `as before`.
"""

import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from reports.tables import frames

COLUMNS = [
    "cell",
    "project_id",
    "user_id",
    "resource",
    "in_use",
    "actual",
    "reserved",
    "reserved_actual",
    "heals",
    "status",
]
STATUS = "status"
GOOD = {"ok", "busy", "due", "uncounted", "as before"}
WARN = {"leaked"}
KEY = ["cell", "project_id", "user_id", "resource"]
BY_USER = ("instances", "cores", "ram", "security_groups")
BY_PROJECT = ("floating_ips", "fixed_ips", "networks")
_IDENTITY = ["project_id", "user_id", "resource"]
_NUMBERS = ["in_use", "actual", "reserved", "reserved_actual"]
_NULL = "\0"  # cannot be in an identifier, so NULL and an empty text stay two things
_NEXT = "at the next reservation"
_NEVER = "never"


@dataclass(frozen=True)
class Rules:
    """How the release counts.

    Attributes:
        per_user: the rows have a user.
        counted: the resources whose use was counted.
        by_user: those whose rows have a user, where rows have one at all.
        by_project: those whose rows never have one.
        later: those whose missing rows are no loss.
        exact: the database compares identifiers byte by byte, not as utf8_general_ci does.
    """

    per_user: bool
    counted: Collection[str]
    by_user: Collection[str] = BY_USER
    by_project: Collection[str] = BY_PROJECT
    later: Collection[str] = ()
    exact: bool = False

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "Rules":
        """The rules that came with the facts; nova's, where a list that was kept long ago has none."""
        said = facts.get("rules")
        return cls(per_user=facts["per_user"], **said) if said else cls.nova(per_user=facts["per_user"])

    @classmethod
    def nova(cls, *, per_user: bool) -> "Rules":
        """Nova's: Havana's where the rows have a user, else Grizzly's."""
        counted = [*BY_USER, "floating_ips", *(["fixed_ips"] if per_user else [])]
        return cls(per_user=per_user, counted=counted)


def of_facts(facts: Mapping[str, Any], cell: str = "top") -> pd.DataFrame:
    """The table of what `tasks.quotas.read` gave."""
    return frames.shaped(_compared_facts(facts, cell), COLUMNS, numbers=_NUMBERS)


def odd_records(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the same facts that a repair has to do with (`records` has all)."""
    rows = _compared_facts(facts, "top")
    return _plain(rows[~rows["status"].isin(["ok", "busy", "uncounted"])])


def table(
    usages: pd.DataFrame,
    actual: pd.DataFrame,
    reservations: pd.DataFrame,
    cell: str = "top",
    *,
    per_user: bool,
    rules: Rules | None = None,
) -> pd.DataFrame:
    """Compare the quota cache with what is in use.

    Args:
        usages: id, project_id, user_id, resource, in_use, reserved, and until_refresh where it is known: the live rows.
        actual: project_id, user_id, resource, actual: what is in use, one row for each identity or more.
        reservations: usage_id, reserved: live reservations, one or more rows for a usage. Where it is known, delta,
            and under_way: whether it has not expired, so that its request may be going on.
        cell: whose database it is.
        per_user: the rows have a user (nova's of Havana); without it user_id is left aside.
        rules: how the release counts; nova's if not given.

    Returns:
        COLUMNS, sorted by project, user and resource; one row for each live row, one for each missing one.

    Raises:
        ValueError: a column is not there.
    """
    rows = compared(usages, actual, reservations, cell, rules or Rules.nova(per_user=per_user))
    return frames.shaped(rows, COLUMNS, numbers=_NUMBERS)


def records(
    usages: pd.DataFrame,
    actual: pd.DataFrame,
    reservations: pd.DataFrame,
    cell: str = "top",
    *,
    per_user: bool,
    rules: Rules | None = None,
) -> list[dict[str, Any]]:
    """The same rows as `table`, for a repair: plain dicts, None for NULL.

    Besides they have the row's `id`, `key` (equal where two identities are) and `under_way`, how many live
    reservations have not expired.
    """
    return _plain(compared(usages, actual, reservations, cell, rules or Rules.nova(per_user=per_user)))


def _plain(rows: pd.DataFrame) -> list[dict[str, Any]]:
    plain = rows.astype(object).where(rows.notna(), None)
    found: list[dict[str, Any]] = [
        {str(name): value for name, value in row.items()} for row in plain.to_dict("records")
    ]
    return found


def _compared_facts(facts: Mapping[str, Any], cell: str) -> pd.DataFrame:
    usages, actual, reservations = (pd.DataFrame(facts[name]) for name in ("usages", "actual", "reservations"))
    return compared(usages, actual, reservations, cell, Rules.of(facts))


def compared(
    usages: pd.DataFrame, actual: pd.DataFrame, reservations: pd.DataFrame, cell: str, rules: Rules
) -> pd.DataFrame:
    """The same rows as `table`, with `id`, `key` and `under_way`, and with NULL left missing."""
    have = _identified(usages, rules)
    for column in ("id", "in_use", "reserved", "until_refresh"):
        have[column] = _numbers(usages, column)
    real = _identified(actual, rules)
    real["actual"] = _numbers(actual, "actual")
    real = real[real["resource"].isin(list(rules.counted)) & (real["actual"] != 0) & real["project_id"].notna()]
    real = real.groupby(["key"], as_index=False, sort=False).agg({**dict.fromkeys(_IDENTITY, "first"), "actual": "sum"})

    rows = have.merge(real, on="key", how="outer", suffixes=("", "_real"), indicator=True)
    missing = rows["_merge"] == "right_only"
    for column in _IDENTITY:
        rows[column] = rows[column].where(~missing, rows[f"{column}_real"])
    counted = rows["resource"].isin(list(rules.counted))
    rows["actual"] = rows["actual"].fillna(0).where(counted)
    for column, held in _held(reservations).items():
        rows[column] = rows["id"].map(held).astype("Int64").fillna(0)

    differs = counted & (rows["in_use"] != rows["actual"]).fillna(value=False)
    # A request under way may have made, or deleted, what it reserved for, and not have said so yet.
    fewest, most = rows["actual"] - rows["more"], rows["actual"] + rows["less"]
    explained = ((rows["in_use"] >= fewest) & (rows["in_use"] <= most)).fillna(value=False) & (rows["under_way"] > 0)
    later = rows["resource"].isin(list(rules.later))
    statuses = {
        "orphan": rows["project_id"].isna() | _misplaced(rows, rules),
        "duplicate": rows.duplicated("key", keep=False),
        "due": missing & later,
        "missing": missing,
        "wrong": differs & ~explained,
        "leaked": (rows["reserved"] != rows["reserved_actual"]).fillna(value=True),
        "busy": differs,
        "uncounted": ~counted,
    }
    rows["status"] = np.select([rule.to_numpy(dtype=bool) for rule in statuses.values()], list(statuses), default="ok")
    rows["heals"] = _heals(rows)
    rows["cell"] = cell
    order = rows[[*_IDENTITY, "id"]].fillna(dict.fromkeys(_IDENTITY, ""))
    rows = rows.loc[order.sort_values([*_IDENTITY, "id"], kind="stable").index].reset_index(drop=True)
    return rows[["id", "key", "under_way", *COLUMNS]]


def _misplaced(rows: pd.DataFrame, rules: Rules) -> pd.Series:
    """Rows with a user where the release counts by project, or without one where it counts by user."""
    if not rules.per_user:
        return pd.Series(data=False, index=rows.index)
    userless = rows["user_id"].isna()
    unused = (rows["actual"] == 0).fillna(value=False)
    with_user = ~userless & rows["resource"].isin(list(rules.by_project))
    return with_user | (userless & rows["resource"].isin(list(rules.by_user)) & unused)


def _held(reservations: pd.DataFrame) -> dict[str, pd.Series]:
    """By usage: what is reserved in all; and of what may be under way how many, how much more and how much less."""
    held = frames.take(reservations, ["usage_id"])
    amounts = pd.DataFrame(
        {"id": frames.whole(held["usage_id"]), "reserved_actual": _numbers(reservations, "reserved")}
    )
    amounts["under_way"] = (_numbers(reservations, "under_way").fillna(0) != 0).astype("Int64")
    delta = _numbers(reservations, "delta").fillna(0) * amounts["under_way"]
    amounts["more"], amounts["less"] = delta.clip(lower=0), -delta.clip(upper=0)
    sums = amounts.groupby("id").sum()
    return {str(column): sums[column] for column in sums.columns}


def _heals(rows: pd.DataFrame) -> pd.Series:
    left = rows["until_refresh"].clip(lower=1)
    wrong = ("in " + left.astype("str") + " reservations").where(left > 1, _NEXT).where(left.notna(), _NEVER)
    wrong = wrong.where(~(rows["in_use"] < 0).fillna(value=False), _NEXT)
    by_status = {"missing": _NEXT, "due": _NEXT, "orphan": _NEVER, "duplicate": _NEVER, "leaked": _NEVER}
    return rows["status"].map(by_status).where(rows["status"] != "wrong", wrong).fillna("")


def _numbers(facts: pd.DataFrame, column: str) -> pd.Series:
    return frames.whole(facts.reindex(columns=[column])[column].reset_index(drop=True))


def _identified(facts: pd.DataFrame, rules: Rules) -> pd.DataFrame:
    """The identity's columns, and one text for it, `key`, that is equal where the release finds two of them equal.

    The database compares project and user; resources are names in the release's own Python.
    """
    if not rules.per_user:
        facts = facts.assign(user_id=None)
    identity = frames.take(facts, _IDENTITY, keep_missing=True)
    project, user = (_folded(identity[column], exact=rules.exact) for column in ("project_id", "user_id"))
    return identity.assign(key=project + "\n" + user + "\n" + identity["resource"].fillna(_NULL))


def _folded(names: pd.Series, *, exact: bool) -> pd.Series:
    """Equal where the database calls two names equal: spaces at the end never count, case and accents seldom do."""
    folded = names.str.rstrip(" ")
    if not exact:
        accented = folded.str.contains(r"[^\x00-\x7f]", regex=True, na=False)
        folded = folded.str.lower()
        if accented.any():
            folded = folded.where(~accented, names.str.rstrip(" ").map(_without_accents, na_action="ignore"))
    return folded.fillna(_NULL)


def _without_accents(name: str) -> str:
    """As utf8_general_ci weighs letters: by their base letter, `ß` as `s`."""
    return "".join(unicodedata.normalize("NFD", letter)[0] for letter in name.replace("ß", "s")).lower()
