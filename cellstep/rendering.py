"""A report written again: of a run, or of anything else that left its files, in the form that is asked for."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cellstep import proof, reporting
from cellstep.cloud.load import Cloud
from cellstep.engine.journal import Journal
from cellstep.errors import UsageError
from reports.story import Story

if TYPE_CHECKING:
    import pandas as pd

LATEST = "latest"
FORMATS = {"csv": "", "xlsx": "{stage}.xlsx", "html": "{stage}.html", "json": "{stage}.json", "junit": "junit.xml"}
"""Format to the name of its file; CSV is a file a table."""


@dataclass(frozen=True)
class Found:
    """A report that is there.

    Attributes:
        stage: what it is about; its files are named so.
        folder: where its files are.
        tables: by name.
        story: what it tells beside them.
    """

    stage: str
    folder: Path
    tables: "dict[str, pd.DataFrame]"
    story: Story


def find(cloud: Cloud, journal: Journal, what: str) -> Found:
    """Read the report of a run or an audit.

    Args:
        cloud: the cloud.
        journal: its journal.
        what: a run's id, the name of a folder below `out/` (`audit-...`, `verify-...`), a folder's path, or `latest`.

    Raises:
        UsageError: there is no such report, or its files cannot be read.
    """
    from reports.saved import FILE, Unreadable, load  # noqa: PLC0415 - brings pandas, 0.6 s

    for base in _places(cloud, journal, what):
        for path in (base / FILE, *sorted(base.glob(f"*/{FILE}"))):
            if path.is_file():
                try:
                    tables, story = load(path.parent, cloud.fold)
                except Unreadable as error:
                    raise UsageError(str(error)) from error
                return Found(path.parent.resolve().name, path.parent, tables, story)
    run = next((run for run in journal.runs() if run.id == what), None)
    if run is None:
        known = ", ".join(_known(cloud, journal)) or "none yet"
        raise UsageError(f"there is no report of “{what}”; those there are, newest first: {known}")
    # A run that was killed has written none: what the journal knows of it is a report all the same.
    folder = (Path(run.output) if run.output else reporting.output_folder(cloud.directory, None, run.id)) / run.stage
    return Found(run.stage, folder, *proof.of_journal(cloud, journal, run))


def _places(cloud: Cloud, journal: Journal, what: str) -> list[Path]:
    """Where the report may be."""
    out = cloud.directory / "out"
    places = [Path(run.output) for run in journal.runs() if run.id == what and run.output]
    if "/" in what or what in {".", ".."}:
        return [Path(what)]
    return [*places, out / what]


def _known(cloud: Cloud, journal: Journal, most: int = 6) -> list[str]:
    """The names of the newest reports."""
    names = {run.id: run.started_at for run in journal.runs()}
    with contextlib.suppress(OSError):
        folders = [path for path in (cloud.directory / "out").iterdir() if path.is_dir() and not path.is_symlink()]
        names |= {path.name: _time(path.name) for path in folders if path.name not in names}
    return sorted(names, key=lambda name: (names[name], name), reverse=True)[:most]


def _time(name: str) -> str:
    """The time in a folder's name, as the journal writes times; as far as it goes."""
    digits = name.rpartition("-")[2]
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[9:11]}:{digits[11:13]}:{digits[13:15]}"


def write(found: Found, kind: str, path: Path | None) -> list[Path]:
    """Write a report in one form.

    Args:
        found: the report.
        kind: of `FORMATS`.
        path: the file, or for CSV the folder; None: beside the report's other files.

    Returns:
        The files' paths.

    Raises:
        UsageError: there is no such form.
        OSError: a file cannot be written.
    """
    from reports import writers  # noqa: PLC0415 - brings pandas, 0.6 s

    if kind not in FORMATS:
        raise UsageError(f"there is no format “{kind}”; the formats are: {', '.join(FORMATS)}")
    if kind == "csv":
        return writers.write_csv(found.tables, path or found.folder)
    calls: Mapping[str, Callable[..., None]] = {
        "xlsx": writers.write_xlsx,
        "html": writers.write_html,
        "json": writers.write_json,
        "junit": writers.write_junit,
    }
    where = path or found.folder / FORMATS[kind].format(stage=found.stage)
    calls[kind](found.tables, where, found.story)
    return [where]
