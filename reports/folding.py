"""Rows that say the same of many nodes are one row: what a page shows of a table of thousands."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.judgement import tone
from reports.tables import TABLES

PLACE = frozenset({"cell", "host", "role", "heartbeat_age_s", "started_at", "finished_at", "attempts"})
"""Columns by which rows differ although they say the same."""

ALIKE = 100
"""Rows that are as they should be are told apart by a column only where it has no more values than this."""

SHOWN = 300
"""Groups of a table at most; the CSV has all rows."""

NAMED = 50
"""Nodes of rows that are as they should be are named up to this number."""

_ORDER = ("bad", "warn", "good")


@dataclass(frozen=True)
class Group:
    """Rows that say the same.

    Attributes:
        cells: the values of the columns that are shown; "" where rows differ.
        where: the rows' nodes, folded; "" where the table has none.
        rows: how many.
        status: theirs.
        tone: its colour.
    """

    cells: tuple[str, ...]
    where: str
    rows: int
    status: str
    tone: str


@dataclass(frozen=True)
class Folded:
    """A table as a page shows it.

    Attributes:
        name: its name.
        columns: those that say something, without `PLACE` and the status.
        groups: the worst first.
        hidden: how many more groups there are.
        rows: of the whole table.
        with_nodes: whether its rows are about nodes.
        worst: the colour of the worst row; none where there are no rows.
    """

    name: str
    columns: tuple[str, ...]
    groups: tuple[Group, ...]
    hidden: int
    rows: int
    with_nodes: bool
    worst: str


def folded(name: str, frame: pd.DataFrame, fold: Callable[[Iterable[str]], str]) -> Folded:
    """Fold a table.

    Args:
        name: the table's.
        frame: its rows.
        fold: makes node names one short text.
    """
    status = str(TABLES[name].STATUS)
    texts = frame.astype("str").fillna("").replace("<NA>", "").reset_index(drop=True)
    tones = texts[status].map({word: tone(name, word) for word in texts[status].unique()})
    with_nodes = "host" in texts.columns
    columns = tuple(
        str(column)
        for column in texts.columns
        if column not in PLACE and column != status and texts[column].str.len().max() > 0
    )
    keys = _told_apart(texts[list(columns)], tones == "good").assign(_status=texts[status], _tone=tones)
    codes, found = pd.factorize(pd.MultiIndex.from_frame(keys))
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(order) else []
    nodes = texts["host"].to_numpy() if with_nodes else None
    groups = []
    for at, key in zip(parts, found, strict=True):
        *values, word, colour = map(str, key)
        groups.append((tuple(values), [] if nodes is None else list(dict.fromkeys(nodes[at])), len(at), word, colour))
    # Steps of a run stay in its order; of everything else the worst is first.
    groups.sort(key=lambda group: _ORDER.index(group[-1]))
    worst = groups[0][-1] if groups else "none"
    shown = [
        Group(cells, _where(hosts, colour, fold), rows, word, colour)
        for cells, hosts, rows, word, colour in groups[:SHOWN]
    ]
    return Folded(name, columns, tuple(shown), max(len(groups) - SHOWN, 0), len(frame), with_nodes, worst)


def _where(hosts: Sequence[str], colour: str, fold: Callable[[Iterable[str]], str]) -> str:
    """The nodes of a group in one text; of many that are well only how many they are."""
    return f"{len(hosts):,} nodes" if colour == "good" and len(hosts) > NAMED else fold(sorted(hosts))


def _told_apart(texts: pd.DataFrame, good: pd.Series) -> pd.DataFrame:
    """The columns by which rows are told apart; of those that are as they should be only what few of them have."""
    fine = texts[good]
    each = [column for column in texts.columns if fine[column].nunique() > ALIKE]
    if len(fine.drop(columns=each).drop_duplicates()) > ALIKE:
        each = list(texts.columns)
    return texts.assign(**{column: texts[column].mask(good, "") for column in each})
