"""A report as it was written, to be written again in another form: the CSVs, and report.json beside them."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from reports.story import Bar, Change, Changes, Place, Story, Trend, listed
from reports.tables import TABLES
from reports.writers import replacing

FILE = "report.json"
FORMAT = 1


class Unreadable(ValueError):
    """The files of a report cannot be read, or one of them is not there."""


def save(tables: Mapping[str, pd.DataFrame], directory: Path, story: Story) -> Path:
    """Write what the CSVs do not have: the story, and which columns are numbers.

    Raises:
        OSError: the file cannot be written.
    """
    types = {name: {str(column): str(kind) for column, kind in frame.dtypes.items()} for name, frame in tables.items()}
    told = asdict(replace(story, fold=listed))
    del told["fold"]
    path = directory / FILE
    with replacing(path) as scratch:
        scratch.write_text(json.dumps({"format": FORMAT, "tables": types, "story": told}), encoding="utf-8")
    return path


def load(directory: Path, fold: Callable[[Iterable[str]], str] = listed) -> tuple[dict[str, pd.DataFrame], Story]:
    """Read a report back.

    Args:
        directory: where its CSVs and report.json are.
        fold: makes node names one short text.

    Raises:
        Unreadable: a file is not there, or not as it was written.
    """
    path = directory / FILE
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["format"] != FORMAT:
            raise Unreadable(f"{path}: format {known['format']}, written by another cellstep; this one reads {FORMAT}")
        tables = {name: _table(directory / f"{name}.csv", types) for name, types in known["tables"].items()}
        return tables, _story(known["story"], fold)
    except FileNotFoundError as error:
        raise Unreadable(f"{error.filename}: not there, so that the report cannot be made of it again") from error
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise error if isinstance(error, Unreadable) else Unreadable(f"{path}: {error}") from error


def _table(path: Path, types: Mapping[str, str]) -> pd.DataFrame:
    name = path.stem
    if name not in TABLES:
        raise Unreadable(f"{path}: there is no table “{name}” any more")
    frame = pd.read_csv(path, dtype="str", keep_default_na=False, encoding="utf-8")
    for column, kind in types.items():
        if kind in {"str", "object"}:
            continue
        values = frame[column].replace("", None)
        frame[column] = (pd.to_numeric(values) if kind != "bool" else values == "True").astype(kind)  # type: ignore[call-overload]
    return frame


def _story(told: Mapping[str, Any], fold: Callable[[Iterable[str]], str]) -> Story:
    changes = told["changes"]
    return Story(
        title=told["title"],
        facts=told["facts"],
        nodes=tuple(Place(**each) for each in told["nodes"]),
        silent=told["silent"],
        steps=tuple(Bar(**each) for each in told["steps"]),
        changes=Changes(changes["since"], tuple(Change(**each) for each in changes["rows"])) if changes else None,
        trend=tuple(Trend(**each) for each in told["trend"]),
        fold=fold,
    )
