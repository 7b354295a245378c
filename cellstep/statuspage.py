"""`out/latest/status.html`: the run as a page for those who only want to know how far it is; no server is needed.

A thread of the run writes it, from its own look at the journal, so that no step ever waits for it.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cellstep import reporting, runs, watching
from cellstep.cloud.load import Cloud
from cellstep.engine.forecast import about
from cellstep.engine.journal import Journal
from cellstep.errors import CellstepError
from cellstep.folding import names
from cellstep.stages.arguments import DARK
from cellstep.verification import component_of
from cellstep.watching import Picture
from reports.story import Bar
from reports.writers import replacing

if TYPE_CHECKING:
    from reports.page.status import Status

NAME = "status.html"
EVERY_S = 5.0
SHARE = 20
"""It rests for so many times as long as a page took, so that it costs the run at most a twentieth of a processor."""

STAGE_TONES = {"done": "good", "not compliant": "warn", "under way": "busy", "to do": "none"}


@contextlib.contextmanager
def kept(told: Callable[[str, str], None], cloud: Cloud, run: str, folder: Path) -> Iterator[None]:
    """Keep the page of a run up to date while the block lasts, and write how it ended.

    Args:
        told: called once, with what and why, where the page cannot be written. The run goes on all the same.
        cloud: the cloud.
        run: the run's id.
        folder: its folder.
    """
    ended = threading.Event()
    keeper = threading.Thread(target=_keep, args=(cloud, run, folder, told, ended), name="status page", daemon=True)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def _keep(cloud: Cloud, run: str, folder: Path, told: Callable[[str, str], None], ended: threading.Event) -> None:
    said = last = False
    while not last:
        last = ended.is_set()  # looked at first: what is written after the end tells of the end
        began = time.monotonic()
        try:
            write(cloud, run, folder / NAME)
        except (OSError, CellstepError) as error:
            if not said:
                told(NAME, f"cannot be written, and is tried again: {error}")
            said = True
        ended.wait(max(EVERY_S, SHARE * (time.monotonic() - began)))


def write(cloud: Cloud, run: str, path: Path) -> None:
    """Write the page at once: whoever loads it finds the old one or the new one, whole.

    Raises:
        OSError: it cannot be written.
        JournalFailed: the journal cannot be read.
    """
    from reports.page.status import render  # noqa: PLC0415 - brings pandas, 0.6 s

    with contextlib.closing(runs.open_journal(cloud, read_only=True)) as journal:
        record = next(each for each in journal.runs() if each.id == run)
        text = render(status_of(cloud, journal, watching.picture(cloud, journal, record)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8")


def status_of(cloud: Cloud, journal: Journal, seen: Picture) -> "Status":
    """What the page shows of a run."""
    from reports.page.status import CellStatus, Status, Trouble  # noqa: PLC0415 - brings pandas

    run, stands, fold = seen.run, seen.standing, cloud.fold
    live = stands.under_way
    of: dict[str, list[tuple[str, str]]] = {cell.name: [] for cell in seen.cells}
    cell_of = {node.name: node.cell for node in cloud.nodes}
    for node, state in seen.nodes.items():
        word = "busy" if live and state == "unknown" else state
        of.setdefault(cell_of.get(node, "not in the inventory"), []).append((node, word))
    dark = journal.records(DARK, component_of(run.stage), run.id)
    return Status(
        title=f"{cloud.config.name}: {run.stage}, {cloud.release.source} to {cloud.release.target}",
        words=_words(seen),
        tone=_tone(seen),
        facts=_facts(seen),
        share=sum(step["state"] in {"done", "empty"} for step in stands.steps) / max(stands.total, 1),
        stages=tuple((name, words, STAGE_TONES.get(words, "bad")) for name, words in seen.stages),
        step=seen.step["title"] if seen.step else "",
        cells=tuple(CellStatus(name, tuple(states)) for name, states in of.items() if states),
        troubles=tuple(
            Trouble(group.kind, trouble.title, names(cloud, group.nodes), len(group.nodes), group.text)
            for trouble in seen.troubles
            for group in trouble.groups
        ),
        waiting=tuple(_waiting(seen, fold)),
        steps=tuple(
            Bar(
                step["title"],
                step["started_at"],
                step["finished_at"] or (seen.at if live else ""),
                step["state"] if live or step["state"] != "running" else "stopped",
                step["note"] or "",
            )
            for step in stands.steps
        ),
        dark=reporting.darktime_table(record.data for record in dark.values()) if dark else None,
        to_come=seen.to_come,
    )


def _words(seen: Picture) -> str:
    said = seen.headline
    if seen.standing.under_way and seen.nodes:
        said += f": {seen.ended:,} of {len(seen.nodes):,} nodes"
    return "; ".join(filter(None, (said, seen.end)))


def _tone(seen: Picture) -> str:
    stands = seen.standing
    if stands.under_way:
        return "bad" if stands.process.frozen else "busy"
    if seen.run.state == "complete":
        return "good" if seen.run.exit_code == 0 else "warn"
    return "bad"


def _facts(seen: Picture) -> dict[str, str]:
    stands, run = seen.standing, seen.run
    left = stands.left
    return {
        "as of": f"{_clock(seen.at)} UTC"
        + ("; where this stands still, the process is gone" if stands.under_way else ""),
        "run": f"{run.id} by {run.operator} on {run.machine}",
        "began": f"{_clock(run.started_at)} UTC, {about(stands.elapsed_s)} ago"
        if stands.under_way
        else f"{_clock(run.started_at)} UTC, {about(stands.elapsed_s)}",
        "ended": f"{_clock(run.finished_at)} UTC" if run.finished_at and not stands.under_way else "",
        "what is left takes": str(left) if left else "not known yet" if stands.under_way else "",
        "rate": f"{seen.rate:,.0f} nodes a minute" if seen.rate else "",
    }


def _waiting(seen: Picture, fold: Callable[[list[str]], str]) -> Iterator[str]:
    if seen.quarantined:
        yield f"In quarantine: {fold(list(seen.quarantined))} ({len(seen.quarantined):,})"
    for hosts, holds in seen.held:
        yield f"Held: {', '.join(holds)} on {fold(list(hosts))}"


def _clock(time: str) -> str:
    return f"{time[:10]} {time[11:19]}"
