"""Writes tables as CSV files, as one workbook, as one HTML page, as JSON and as JUnit XML.

All are written beside their name and then renamed, so that a reader never sees half a file. CSV keeps every
value as it is; in the workbook a text that begins like a formula stays text. pandas and XlsxWriter are
imported where they are used, because they take longer to load than most commands take to run.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from reports.story import Story

_ROWS = 10_000  # made into values at once


def write_csv(tables: Mapping[str, "pd.DataFrame"], directory: Path) -> list[Path]:
    """Write each table to `directory/NAME.csv`: UTF-8, lines ended by a line feed, no index.

    Returns:
        The files' paths, in the tables' order.

    Raises:
        OSError: a file cannot be written; those before it are.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / f"{name}.csv" for name in tables]
    for path, frame in zip(paths, tables.values(), strict=True):
        with replacing(path) as scratch:
            frame.to_csv(scratch, index=False, encoding="utf-8", lineterminator="\n")
    return paths


def write_xlsx(tables: Mapping[str, "pd.DataFrame"], path: Path, story: "Story") -> None:
    """Write one workbook: a sheet `summary`, then a sheet for each table, named the same.

    Args:
        tables: frames of `reports.tables`, by name.
        path: the workbook's.
        story: the summary's headline and what it says beside the tables.

    Raises:
        OSError: the file cannot be written.
    """
    from reports.workbook import Workbook  # noqa: PLC0415 - see the module's docstring

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch, Workbook(scratch, story.title) as book:
        book.summary(tables, story)
        for name, frame in tables.items():
            book.table(name, frame)


def write_html(tables: Mapping[str, "pd.DataFrame"], path: Path, story: "Story") -> None:
    """Write one page that needs nothing else: arguments and errors as `write_xlsx`."""
    from reports.page import render  # noqa: PLC0415 - see the module's docstring

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        scratch.write_text(render(tables, story), encoding="utf-8")


def write_json(tables: Mapping[str, "pd.DataFrame"], path: Path, story: "Story") -> None:
    """Write all rows of all tables for a machine, with the verdict: arguments and errors as `write_xlsx`."""
    from reports.judgement import counts, verdict  # noqa: PLC0415 - see the module's docstring

    words, colour = verdict(tables, story.silent)
    values = {
        "title": story.title,
        "verdict": words,
        "compliant": colour == "good",
        "facts": dict(story.facts),
        "unreachable": dict(story.silent),
        "counts": {name: counts(name, frame) for name, frame in tables.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.writelines(json_parts(values, tables))


def json_parts(values: Mapping[str, Any], tables: Mapping[str, "pd.DataFrame"]) -> Iterator[str]:
    """The text of a JSON object: the values, then `tables`, a row a line; never are all rows there at once."""
    yield json.dumps(values, ensure_ascii=False, indent=1, default=str).removesuffix("\n}") + ',\n "tables": {'
    for number, (name, frame) in enumerate(tables.items()):
        yield f"{',' if number else ''}\n  {json.dumps(name)}: ["
        between = "\n   "
        for start in range(0, len(frame), _ROWS):
            for row in records(frame.iloc[start : start + _ROWS]):
                yield between + json.dumps(row, ensure_ascii=False, default=str)
                between = ",\n   "
        yield "]"
    yield "\n }\n}\n"


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """A table's rows as plain values; what is missing is None."""
    plain = frame.astype(object)
    return [
        {str(column): value for column, value in row.items()}
        for row in plain.where(plain.notna(), None).to_dict("records")
    ]


def write_junit(tables: Mapping[str, "pd.DataFrame"], path: Path, story: "Story") -> None:
    """Write JUnit XML for a pipeline: arguments and errors as `write_xlsx`."""
    from reports.junit import junit  # noqa: PLC0415 - see the module's docstring

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        junit(tables, story).write(scratch, encoding="utf-8", xml_declaration=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a scratch path beside `path`: renamed to it when the block ends well, removed when it fails."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield scratch
        with scratch.open("rb") as written:
            os.fsync(written.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
