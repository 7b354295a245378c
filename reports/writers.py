"""Writes tables as CSV files and as one workbook.

Both are written beside their name and then renamed, so that a reader never sees half a file. CSV keeps every
value as it is; in the workbook a text that begins like a formula stays text. pandas and XlsxWriter are
imported where they are used, because they take longer to load than most commands take to run.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


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


def write_xlsx(tables: Mapping[str, "pd.DataFrame"], path: Path, title: str, facts: Mapping[str, str]) -> None:
    """Write one workbook: a sheet `summary`, then a sheet for each table, named the same.

    Args:
        tables: frames of `reports.tables`, by name.
        path: the workbook's.
        title: the summary's headline, e.g. "Nova, Grizzly to Havana: lab".
        facts: what the summary says of the run, in this order.

    Raises:
        OSError: the file cannot be written.
    """
    from reports.workbook import Workbook  # noqa: PLC0415 - see the module's docstring

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch, Workbook(scratch, title) as book:
        book.summary(tables, facts)
        for name, frame in tables.items():
            book.table(name, frame)


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
