"""Writing a run's or a verification's tables: `out/<run>/<stage>/`, and `out/latest` which points to the last."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellstep.cloud.load import Cloud
from reports.story import Bar, Changes, Place, Story, Trend

if TYPE_CHECKING:
    import pandas as pd


def output_folder(cloud_directory: Path, chosen: Path | None, name: str) -> Path:
    """The folder of a run or a verification: below `--output`, or `out/` beside cloud.yaml."""
    return (chosen.resolve() if chosen else cloud_directory / "out") / name


def dated(what: str) -> str:
    """A folder's name for something that is no run: `verify-20140224T160000Z`."""
    return f"{what}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def story(
    cloud: Cloud,
    title: str,
    facts: Mapping[str, str],
    *,
    silent: Mapping[str, str] | None = None,
    steps: Iterable[Mapping[str, Any]] = (),
) -> Story:
    """What a report tells beside its tables.

    Args:
        cloud: the cloud, for its nodes and their names.
        title: the headline.
        facts: what the summary says, in this order.
        silent: nodes that could not be asked, with the reason.
        steps: of the run, as the journal has them.
    """
    return Story(
        title,
        dict(facts),
        tuple(Place(node.name, node.cell, node.data_centre) for node in cloud.nodes),
        dict(silent or {}),
        tuple(
            Bar(step["title"], step["started_at"], step["finished_at"] or "", step["state"], step["note"] or "")
            for step in steps
        ),
        fold=cloud.fold,
    )


def with_changes(told: Story, changes: Changes | None, trend: Iterable[Trend]) -> Story:
    """The same, with what is new since the audit before, and how the fleet stood in the audits so far."""
    return replace(told, changes=changes, trend=tuple(trend))


def write(folder: Path, stage: str, tables: "Mapping[str, pd.DataFrame]", told: Story) -> Path:
    """Write one CSV a table, the workbook and the page, and point `latest` beside the folder to it.

    Returns:
        The folder with the files.
    """
    from reports.saved import save  # noqa: PLC0415 - brings pandas, 0.6 s
    from reports.writers import write_csv, write_html, write_xlsx  # noqa: PLC0415 - the same

    where = folder / stage
    write_csv(tables, where)
    save(tables, where, told)
    write_html(tables, where / f"{stage}.html", told)
    write_xlsx(tables, where / f"{stage}.xlsx", told)
    point_latest(folder)
    return where


def point_latest(folder: Path) -> None:
    """Make the folder, and let `latest` beside it point to it, at once: there is always one."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder.parent / f".latest-{folder.name}"
    scratch.unlink(missing_ok=True)
    scratch.symlink_to(folder.name)
    scratch.replace(folder.parent / "latest")


def hosts_table(rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """The table `hosts` from the journal's rows."""
    from reports.tables import hosts  # noqa: PLC0415 - brings pandas

    return hosts.table(rows)


def quarantine_table(rows: Iterable[Mapping[str, Any]], now: str) -> "pd.DataFrame":
    """The table `quarantine` from the journal's rows."""
    from reports.tables import quarantine  # noqa: PLC0415 - brings pandas

    words = {None: "", 0: "yes", 1: "before"}
    return quarantine.table(
        ({**row, "step": row["title"], "scheduling_disabled": words[row["was_disabled"]]} for row in rows), now
    )


def darktime_table(seen: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """The table `darktime` from the journal's records."""
    from reports.tables import darktime  # noqa: PLC0415 - brings pandas

    return darktime.table(seen)


def dashboard_table(measured: Mapping[str, Mapping[str, Any]]) -> "pd.DataFrame":
    """The table `dashboard` from the journal's records."""
    from reports.tables import dashboard  # noqa: PLC0415 - brings pandas

    return dashboard.table(measured)


def tokens_table(rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """The table `tokens` from the rows of `cellstep.stages.identity.rows`."""
    from reports.tables import tokens  # noqa: PLC0415 - brings pandas

    return tokens.table(rows)


def verdicts(tables: "Mapping[str, pd.DataFrame]") -> dict[str, dict[str, int]]:
    """Rows by status of each table, the compliant statuses last."""
    from reports.tables import TABLES  # noqa: PLC0415 - brings pandas

    found = {}
    for name, frame in tables.items():
        kind = TABLES[name]
        counts = frame[str(kind.STATUS)].value_counts().to_dict()
        order = sorted(counts, key=lambda status: (status in kind.GOOD, str(status)))
        found[name] = {str(status): int(counts[status]) for status in order}
    return found


def compliant(tables: "Mapping[str, pd.DataFrame]") -> bool:
    """Whether no table but `hosts` (what happened, not what is) has a row that is not as it should be."""
    from reports.tables import findings  # noqa: PLC0415 - brings pandas

    return all(findings(name, frame).empty for name, frame in tables.items() if name != "hosts")
