"""What tables come to: the colour of a status, the verdict in words, the state of each node, the cells' counts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from reports.story import Place
from reports.tables import TABLES, findings

HAPPENED = "hosts"
"""The table that tells what happened, not what is: it is never judged."""

STATES = ("bad", "silent", "warn", "good", "none")
"""Of a node, the worst first: a row is wrong, it did not answer, a row is worth a look, all well, nothing asked."""

WORDS = {
    "bad": "not as it should be",
    "silent": "no answer",
    "warn": "worth a look",
    "good": "as it should be",
    "none": "nothing asked",
}


def tone(name: str, status: str) -> str:
    """The colour of a status in a table: good, warn or bad."""
    kind = TABLES[name]
    if status in kind.WARN:
        return "warn"
    return "good" if status in kind.GOOD else "bad"


def judged(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The tables that say what is."""
    return {name: frame for name, frame in tables.items() if name != HAPPENED}


def verdict(tables: Mapping[str, pd.DataFrame], silent: Iterable[str] = ()) -> tuple[str, str]:
    """Say in words, with its colour, what the tables come to.

    Args:
        tables: by name.
        silent: nodes that could not be asked; none of them is ever compliant.
    """
    checked = judged(tables)
    deaf = len(set(silent))
    unasked = f"{deaf:,} {'node' if deaf == 1 else 'nodes'} could not be asked" if deaf else ""
    if not any(len(frame) for name, frame in checked.items() if name != "quarantine"):
        return "; ".join(filter(None, ("Nothing was checked", unasked))), "bad"
    bad = {name: len(findings(name, frame)) for name, frame in checked.items()}
    if any(bad.values()):
        worst = "bad" if any(_has_bad(name, frame) for name, frame in checked.items()) else "warn"
        told = ", ".join(f"{name} {count:,} of {len(tables[name]):,}" for name, count in bad.items() if count)
        return "; ".join(filter(None, (f"Not compliant; rows to look at: {told}", unasked))), worst
    if deaf:
        return f"Not compliant: {unasked}; every row of every table is as it should be", "warn"
    return "Compliant: every row of every table is as it should be", "good"


def _has_bad(name: str, frame: pd.DataFrame) -> bool:
    return any(tone(name, status) == "bad" for status in frame[TABLES[name].STATUS].unique())


def counts(name: str, frame: pd.DataFrame) -> dict[str, int]:
    """Rows by status: what is worst first."""
    order = ("bad", "warn", "good")
    by_status = {str(status): int(count) for status, count in frame[TABLES[name].STATUS].value_counts().items()}
    return dict(sorted(by_status.items(), key=lambda item: (order.index(tone(name, item[0])), item[0])))


@dataclass
class State:
    """How a node stands.

    Attributes:
        tone: of `STATES`.
        why: what is not as it should be, a line a table and status.
    """

    tone: str = "none"
    why: list[str] = field(default_factory=list)


def states(tables: Mapping[str, pd.DataFrame], nodes: Sequence[Place], silent: Mapping[str, str]) -> dict[str, State]:
    """How each node stands, by its rows in all tables that have a column `host`.

    Args:
        tables: by name.
        nodes: all of the cloud.
        silent: nodes that could not be asked, with the reason.

    Returns:
        By node name, in the order of `nodes`.
    """
    found = {node.name: State() for node in nodes}
    for name, frame in judged(tables).items():
        if "host" not in frame.columns:
            continue
        status = str(TABLES[name].STATUS)
        counted = frame.groupby(["host", status], sort=True).size()
        for key, count in zip(counted.index.tolist(), counted.tolist(), strict=True):
            host, word = key
            if host in found:
                _add(found[host], tone(name, word), name, word, count)
    if all(state.tone == "none" for state in found.values()) and HAPPENED in tables:
        _of_the_run(tables[HAPPENED], found)
    for host, why in silent.items():
        if host in found:
            found[host] = State("silent", [why])
    return found


_OF_THE_RUN = {"failed": "bad", "unknown": "bad", "unreachable": "silent", "quarantined": "silent", "not_run": "warn"}


def _of_the_run(rows: pd.DataFrame, found: Mapping[str, State]) -> None:
    """Where nothing was asked, as after a run that stopped: what came of the nodes in its steps."""
    for host, step, state in rows[["host", "step", "state"]].itertuples(index=False, name=None):
        if host in found:
            _add(found[host], _OF_THE_RUN.get(state, "good"), f"“{step}”", state, 1)


def _add(state: State, colour: str, name: str, word: str, count: int) -> None:
    if STATES.index(colour) < STATES.index(state.tone):
        state.tone = colour
    if colour != "good":
        state.why.append(f"{name}: {count:,} {word}" if count > 1 else f"{name}: {word}")


@dataclass(frozen=True)
class Cell:
    """A cell and its nodes.

    Attributes:
        name: its name.
        data_centre: where it stands, "" where that is not known.
        nodes: name and state of each.
    """

    name: str
    data_centre: str
    nodes: tuple[tuple[str, State], ...]

    def count(self, *tones: str) -> int:
        """How many nodes stand like that."""
        return sum(state.tone in tones for _, state in self.nodes)

    @property
    def asked(self) -> int:
        """Nodes of which something was asked."""
        return len(self.nodes) - self.count("none")

    @property
    def share(self) -> float | None:
        """The share of those that are as they should be, 0 to 1; None where nothing was asked."""
        return self.count("good") / self.asked if self.asked else None


def by_cell(nodes: Sequence[Place], found: Mapping[str, State]) -> list[Cell]:
    """The cells in the inventory's order, each with its nodes."""
    cells: dict[str, list[Place]] = {}
    for node in nodes:
        cells.setdefault(node.cell, []).append(node)
    return [
        Cell(name, places[0].data_centre, tuple((place.name, found[place.name]) for place in places))
        for name, places in cells.items()
    ]
