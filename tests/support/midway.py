"""A run in its middle, on a fleet of thousands: as its journal has it, without any node."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cellstep import runs
from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.journal import Journal
from cellstep.engine.plan import as_kept, expand_names, steps_of
from cellstep.stages import runbook_of
from tests.support.folders import lab_folder

UPDATE = "Update the RPMs on the compute nodes"
DENIED = "yum: exit status 1: no space left in /var"


def fleet_folder(folder: Path, nodes: int) -> Path:
    """The lab's cloud with so many compute nodes, half of them in each child cell."""
    lab_folder(folder)
    inventory = folder / "inventory.yaml"
    text = inventory.read_text(encoding="utf-8").partition("\nhosts:")[0]
    for cell in ("c01", "c02"):
        text = text.replace(f"{cell}-n[01-02]", f"{cell}-n[0001-{nodes // 2:04}]")
    inventory.write_text(text, encoding="utf-8")
    return folder


def at(seconds_ago: float) -> str:
    """A time of the journal."""
    when = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def halfway(cloud: Cloud, journal: Journal) -> str:
    """Begin a run of nova that took a minute a step, and is in the middle of the update of its compute nodes.

    Of these, seven in ten have ended, one a minute before now after the other; the third, fourth and fifth of the first
    cell failed with the same words, the sixth is in quarantine, and forty are being worked on.

    Returns:
        The run's id.
    """
    runbook = runbook_of("nova", cloud)
    lines = as_kept(cloud, runbook, cloud.nodes)
    run = journal.begin_run("nova", cloud.release.name, runbook.digest(cloud.nodes), {}, lines)
    journal.set_output(run, str(cloud.directory / "out" / run))
    cell_of = {node.name: node.cell for node in cloud.nodes}
    steps = steps_of(lines)
    last = next(number for number, line in enumerate(steps) if line["title"] == UPDATE)
    for number, line in enumerate(steps[: last + 1], 1):
        hosts = expand_names(line["nodes"])
        journal.begin_step(run, number, line["title"], [(cell_of[host], host) for host in hosts])
        if number <= last:
            journal.start_hosts(run, line["title"], dict.fromkeys(hosts, 1))
            journal.end_hosts(run, line["title"], [(host, "changed", "") for host in hosts])
            journal.end_step(run, line["title"], "done" if hosts else "empty")
    ended, busy = hosts[: len(hosts) * 7 // 10], hosts[len(hosts) * 7 // 10 :][:40]
    journal.start_hosts(run, UPDATE, dict.fromkeys([*ended, *busy], 1))
    journal.end_hosts(run, UPDATE, [(host, "changed", "") for host in ended])
    journal.end_hosts(run, UPDATE, [(host, "failed", f"{host}: {DENIED}") for host in ended[2:5]])
    journal.end_hosts(run, UPDATE, [(ended[5], "quarantined", "")])
    gone = {"host": ended[5], "cell": cell_of[ended[5]], "state": "unreachable", "detail": "no answer in 10 s"}
    journal.leave_out(run, "nova", UPDATE, [gone])
    with journal._write() as db:
        began = 60.0 * (last + 4)
        db.execute("UPDATE runs SET started_at=? WHERE id=?", (at(began), run))
        for number, line in enumerate(steps[: last + 1]):
            since, until = at(began - 60 * number), at(began - 60 * (number + 1))
            key = (run, line["title"])
            db.execute("UPDATE steps SET started_at=? WHERE run=? AND title=?", (since, *key))
            db.execute(
                "UPDATE host_steps SET started_at=? WHERE started_at IS NOT NULL AND run=? AND title=?", (since, *key)
            )
            if number < last:
                db.execute("UPDATE steps SET finished_at=? WHERE run=? AND title=?", (until, *key))
                db.execute("UPDATE host_steps SET finished_at=? WHERE run=? AND title=?", (until, *key))
        over = 240.0
        for place, host in enumerate(ended):
            when = at(over * (1 - place / len(ended)))
            db.execute(
                "UPDATE host_steps SET finished_at=? WHERE run=? AND title=? AND host=?", (when, run, UPDATE, host)
            )
    return run


def fleet(folder: Path, nodes: int) -> tuple[Cloud, Journal, str]:
    """A fleet, its journal and its run."""
    cloud = load_cloud(fleet_folder(folder, nodes))
    journal = runs.open_journal(cloud)
    return cloud, journal, halfway(cloud, journal)
