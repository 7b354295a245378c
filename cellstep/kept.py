"""The lists that a run keeps of the cloud as it was before: in its folder, each in a file of its own."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reports.writers import replacing

Row = Mapping[str, Any]


def load(folder: Path, name: str) -> list[Row] | None:
    """The rows of a list in a run's folder; None where it was not saved."""
    kept = _read(folder, name)
    return None if kept is None else kept[0]


def about(folder: Path, name: str) -> set[str]:
    """Whom a list in a run's folder is about, also those without rows."""
    kept = _read(folder, name)
    return set() if kept is None else kept[1]


def save(folder: Path, name: str, rows: Sequence[Row], nodes: Collection[str] | None = None) -> None:
    """Keep a list. What is there already is from before, and stays: a step that saves may be run again later.

    Args:
        folder: the run's folder.
        name: the list's name.
        rows: the list, as plain JSON values.
        nodes: whom it is about, also where there are no rows of theirs: only those that the list does not have yet are
            added. None for a list of the whole cloud, which is kept once.
    """
    before = _read(folder, name)
    if before is not None and nodes is None:
        return
    old, known = before or ([], set())
    text = {"nodes": sorted(known | set(nodes or ())), "rows": [*old, *without(rows, known)]}
    path = _file(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        scratch.write_text(json.dumps(text, indent=1, default=str) + "\n", encoding="utf-8")


def merged(lists: Iterable[Sequence[Row] | None]) -> list[Row] | None:
    """Node by node the rows of the first list that has them; None where there is no list."""
    found: list[Row] | None = None
    known: set[str] = set()
    for rows in lists:
        if rows is not None:
            fresh = without(rows, known)
            found = [*(found or []), *fresh]
            known |= nodes_of(fresh)
    return found


def without(rows: Iterable[Row], nodes: Collection[str]) -> list[Row]:
    """The rows without what is about these nodes."""
    if not nodes:
        return list(rows)
    left: list[Row] = []
    for row in rows:
        if "hosts" in row:
            hosts = [host for host in row["hosts"] if host not in nodes]
            left += [{**row, "hosts": hosts}] if hosts else []
        elif row.get("host") not in nodes:
            left.append(row)
    return left


def nodes_of(rows: Iterable[Row]) -> set[str]:
    """Whom rows are about: their `host`, or their `hosts`."""
    return {host for row in rows for host in row.get("hosts", (row.get("host"),)) if host}


def _file(folder: Path, name: str) -> Path:
    return folder / "before" / f"{name}.json"


def _read(folder: Path, name: str) -> tuple[list[Row], set[str]] | None:
    path = _file(folder, name)
    if not path.exists():
        return None
    kept = json.loads(path.read_text(encoding="utf-8"))
    # A file of version 0.1 has the rows only.
    rows, nodes = (kept, ()) if isinstance(kept, list) else (kept["rows"], kept["nodes"])
    return rows, nodes_of(rows) | set(nodes)
