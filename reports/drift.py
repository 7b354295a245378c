"""What is another than in the audit before: rows that are new, gone, worse, changed or better, the worst first."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from reports.compact import VOLATILE
from reports.judgement import STATES, tone
from reports.story import Change, Changes
from reports.tables import TABLES

OLD_RPMS = "on old RPMs"
RANK = ("old", "silent", "worse", "new", "node", "gone", "changed", "better")
PACKAGES_NAMED = 3


@dataclass(frozen=True)
class Side:
    """An audit as it is compared.

    Attributes:
        tables: by name.
        silent: nodes that could not be asked, with the reason.
        nodes: the names of all nodes that it was about.
    """

    tables: Mapping[str, pd.DataFrame]
    silent: Mapping[str, str] = field(default_factory=dict)
    nodes: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Line:
    rank: str
    kind: str
    table: str
    where: str
    text: str
    tone: str


def changes(before: Side, after: Side, since: str, fold: Callable[[Iterable[str]], str]) -> Changes:
    """Compare two audits. Only tables that both have, and that name their rows, are compared.

    Args:
        before: the older one.
        after: the newer one.
        since: names the older one, in words.
        fold: makes node names one short text.

    Returns:
        What differs: a node on old RPMs that was not there before is the first line; then those that do not answer any
        more, what is worse, new, gone, changed and better. Lines alike but for their node are one.
    """
    known = before.nodes & after.nodes if before.nodes and after.nodes else before.nodes | after.nodes
    lines = [*_of_nodes(before, after), *_old_rpms(before, after, known)]
    for name in after.tables:
        if name in before.tables and hasattr(TABLES[name], "KEY"):
            lines += _of_table(name, before, after, known)
    alike: dict[tuple[str, str, str, str, str], list[str]] = {}
    for line in lines:
        alike.setdefault((line.rank, line.kind, line.table, line.text, line.tone), []).append(line.where)
    rows = [
        Change(kind, table, fold(sorted(set(where))) if where[0] else "", text, colour)
        for (_, kind, table, text, colour), where in sorted(
            alike.items(), key=lambda item: (RANK.index(item[0][0]), STATES.index(item[0][4]), -len(item[1]), item[0])
        )
    ]
    return Changes(since, tuple(rows))


def _of_nodes(before: Side, after: Side) -> list[_Line]:
    """Nodes that answer no more, that answer again, and those of the inventory that are new or gone."""
    lines = [
        _Line("silent", "worse", "answers", host, f"answers no more: {why}", "silent")
        for host, why in after.silent.items()
        if host not in before.silent and host in before.nodes
    ]
    again = [host for host in before.silent if host in after.nodes and host not in after.silent]
    lines += [_Line("better", "better", "answers", host, "answers again", "good") for host in again]
    if before.nodes and after.nodes:
        lines += [_Line("node", "new", "inventory", host, "a new node", "good") for host in after.nodes - before.nodes]
        lines += [
            _Line("node", "gone", "inventory", host, "not in the inventory any more", "warn")
            for host in before.nodes - after.nodes
        ]
    return lines


def _old_rpms(before: Side, after: Side, known: frozenset[str]) -> list[_Line]:
    """Nodes with RPMs that are older than they should be, and were not."""
    if "rpms" not in after.tables or "rpms" not in before.tables:
        return []
    rows = after.tables["rpms"]
    older = rows[(rows["status"] == "older") & rows["host"].isin(known)]
    was = before.tables["rpms"]
    old_before = set(was.loc[was["status"] == "older", ["host", "package"]].itertuples(index=False, name=None))
    found: dict[str, list[str]] = {}
    for host, package, installed in older[["host", "package", "installed"]].itertuples(index=False, name=None):
        if (host, package) not in old_before:
            found.setdefault(host, []).append(f"{package} {installed}")
    lines = []
    for host, packages in found.items():
        more = f" and {len(packages) - PACKAGES_NAMED} more" if len(packages) > PACKAGES_NAMED else ""
        came = f"came back {OLD_RPMS}" if host in before.silent else f"is {OLD_RPMS} again"
        lines.append(
            _Line("old", "worse", "rpms", host, f"{came}: {', '.join(packages[:PACKAGES_NAMED])}{more}", "bad")
        )
    return lines


def _of_table(name: str, before: Side, after: Side, known: frozenset[str]) -> list[_Line]:
    key = [column for column in TABLES[name].KEY if column in after.tables[name].columns]
    status = str(TABLES[name].STATUS)
    was, now = (_texts(side.tables[name], key) for side in (before, after))
    if "host" in key:
        # Who was or is away has a line of its own; who is new or gone too.
        heard = known - before.silent.keys() - after.silent.keys()
        was, now = was[was["host"].isin(heard)], now[now["host"].isin(known - after.silent.keys())]
    rest = [column for column in now.columns if column in was.columns and column not in {*key, "cell"}]
    both = was[[*key, *rest]].merge(now[[*key, *rest]], on=key, how="outer", suffixes=("_b", "_a"), indicator=True)
    differs = both["_merge"] != "both"
    for column in rest:
        differs |= both[f"{column}_b"].fillna("") != both[f"{column}_a"].fillna("")
    if hasattr(TABLES[name], "PASSING"):
        differs &= ~both[key[-1]].isin(TABLES[name].PASSING)
    lines = []
    for row in both[differs].fillna("").astype("str").to_dict("records"):
        line = _line(name, key, rest, status, {str(column): str(value) for column, value in row.items()})
        if line and not (name == "rpms" and line.tone == "bad" and row[f"{status}_a"] == "older"):
            lines.append(line)
    return lines


def _line(name: str, key: list[str], rest: list[str], status: str, row: Mapping[str, str]) -> _Line | None:
    where = row.get("host", "")
    what = " ".join(row[column] for column in key if column != "host" and row[column])
    was, now = row[f"{status}_b"], row[f"{status}_a"]
    if row["_merge"] == "left_only":
        return _Line("gone", "gone", name, where, f"{what}: not there any more (was {was})", "warn")
    if row["_merge"] == "right_only":
        colour = tone(name, now)
        if colour == "good":
            return None
        more = ", ".join(row[f"{column}_a"] for column in rest if column != status and row[f"{column}_a"])
        return _Line("new", "new", name, where, f"{what}: {now}{f' ({more})' if more else ''}", colour)
    old, new = STATES.index(tone(name, was)), STATES.index(tone(name, now))
    kind = "worse" if new < old else "better" if new > old else "changed"
    told = [
        f"{column.replace('_', ' ')} {row[f'{column}_b'] or 'none'} → {row[f'{column}_a'] or 'none'}"
        for column in rest
        if column not in {status, "expected"} and row[f"{column}_b"] != row[f"{column}_a"]
    ]
    said = f"{was} → {now}" if was != now else ""
    words = "; ".join(filter(None, (said, ", ".join(told))))
    return _Line(kind, kind, name, where, f"{what}: {words}", tone(name, now))


def _texts(frame: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    texts = frame.drop(columns=VOLATILE & set(frame.columns)).astype("str").fillna("").replace("<NA>", "")
    return texts.drop_duplicates(key, keep="first")
