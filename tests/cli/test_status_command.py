"""`cellstep status`, and what a run prints: from a journal, without asking any node."""

import json
import os
import socket
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from cellstep import runs
from cellstep.cli.asking import Asker
from cellstep.cli.display import RunDisplay
from cellstep.cli.main import app
from cellstep.cloud.load import Cloud, load_cloud
from cellstep.engine.dispatch import Outcome
from cellstep.engine.journal import Journal
from cellstep.engine.lock import Holder
from cellstep.engine.plan import as_kept
from cellstep.engine.run import Crossing
from cellstep.errors import JournalFailed, UsageError
from cellstep.folding import GROUPS_SHOWN, NAMES_SHOWN, groups_of, names, shown
from cellstep.stages import runbook_of
from plugins.inventory.ranges import expand, split
from tasks.binding import Command
from tests.support.folders import lab_folder

COMPUTES = ["c01-n01", "c01-n02", "c02-n01", "c02-n02"]
UPDATE = "Update the RPMs on the compute nodes"
KEYS = {
    "cloud", "run", "under_way", "crashed", "taken_over", "lock", "steps", "steps_total", "unknown", "holds",
    "left_out", "quarantine", "findings", "events", "elapsed_s", "forecast", "next",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lab_folder(tmp_path / "cloud")


@pytest.fixture
def cloud(folder: Path) -> Cloud:
    return load_cloud(folder)


@pytest.fixture
def journal(cloud: Cloud) -> Journal:
    return runs.open_journal(cloud)


def call(folder: Path, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments, "--cloud", str(folder)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


def values(folder: Path) -> dict:
    found = json.loads(call(folder, "status", "--json"))
    assert set(found) == KEYS
    return found


def begin(journal: Journal, title: str = UPDATE, hosts: list[str] | None = None) -> str:
    run = journal.begin_run(
        "nova", "grizzly-havana", "d", {}, [{"kind": "do", "title": title, "nodes": "c01-n[01-02]"}]
    )
    journal.begin_step(run, 1, title, [(host[:3], host) for host in hosts or COMPUTES])
    return run


def test_no_run_yet(folder: Path, cloud: Cloud):
    assert "no run yet" in call(folder, "status")
    assert json.loads(call(folder, "status", "--json")) == {"cloud": cloud.config.name, "run": None}
    assert not (folder / "state").exists()


def test_a_run_under_way_its_process_and_its_rate(folder: Path, cloud: Cloud, journal: Journal):
    with runs.lock_of(cloud).held(journal, "run nova"):
        run = begin(journal)
        journal.start_hosts(run, UPDATE, dict.fromkeys(COMPUTES[:3], 1))
        journal.end_hosts(run, UPDATE, [(host, "changed", "") for host in COMPUTES[:2]])
        found = values(folder)
        said = call(folder, "status")
    assert (found["under_way"], found["crashed"], found["next"]) == (True, False, "")
    assert found["lock"]["holder"]["pid"] == os.getpid()
    assert found["steps"][0]["hosts"] == {"changed": 2, "not_run": 1, "unknown": 1}
    assert found["unknown"] == {UPDATE: ["c02-n01"]}
    assert found["forecast"] == {"seconds": 0, "steps_unknown": 0}
    assert f"pid {os.getpid()} on {socket.gethostname()}" in said
    assert "under way" in said
    assert f"being worked on at “{UPDATE}”: c02-n01" in said
    assert "2 changed 1 not run 1 unknown running" in said


def test_the_facts_of_a_plan_are_none_of_its_steps(folder: Path, cloud: Cloud, journal: Journal):
    """A rule such as `role:admin` is no node."""
    plan = as_kept(cloud, runbook_of("glance", cloud), cloud.nodes)
    run = journal.begin_run("glance", "grizzly-havana", "d", {}, plan)
    journal.begin_step(run, 1, plan[0]["title"], [("top", "top-infra01")])
    journal.end_run(run, "stopped", 4)
    assert values(folder)["steps_total"] == len(runbook_of("glance", cloud).steps) < len(plan)


def test_a_crashed_run(folder: Path, journal: Journal):
    run = begin(journal)
    journal.start_hosts(run, UPDATE, {"c01-n01": 1})
    found = values(folder)
    assert (found["under_way"], found["crashed"]) == (False, True)
    assert found["next"] == "the process is gone: `cellstep resume` goes on"
    said = call(folder, "status")
    assert "the process is gone" in said
    assert "cut off" in said
    assert f"nothing is known of at “{UPDATE}”: c01-n01" in said


def test_another_command_that_holds_the_lock_does_not_make_a_crashed_run_live(
    folder: Path, cloud: Cloud, journal: Journal
):
    begin(journal)
    with journal._write() as db:
        db.execute("UPDATE runs SET pid=1")
    with runs.lock_of(cloud).held(journal, "quota repair nova"):
        assert values(folder)["crashed"] is True
        assert "quota repair nova" in call(folder, "lock", "show")


def test_a_run_that_was_taken_over_from(folder: Path, cloud: Cloud, journal: Journal):
    with runs.lock_of(cloud).held(journal, "run nova"):
        begin(journal)
        runs.lock_of(cloud).take_over(runs.open_journal(cloud), "its terminal is lost")
        found = values(folder)
        assert found["crashed"] is True
        assert found["taken_over"].endswith("its terminal is lost")
        assert found["next"] == "the cloud was taken over: `cellstep resume` goes on"
        assert "its terminal is lost" in call(folder, "status")


def test_a_run_that_stopped_says_everything_that_matters(folder: Path, journal: Journal):
    run = begin(journal)
    outcomes = [(host, "failed", f"{host}: yum: exit status 1: {host} has no space") for host in COMPUTES[:3]]
    journal.end_hosts(run, UPDATE, [*outcomes, (COMPUTES[3], "changed", "")])
    journal.end_step(run, UPDATE, "stopped", "too many")
    rows = [{"host": COMPUTES[0], "cell": "cell01", "state": "failed", "detail": f"{COMPUTES[0]}: no space"}]
    journal.leave_out(run, "nova", UPDATE, rows)
    journal.note_disabled({COMPUTES[0]: False})
    journal.place_holds(run, "nova", "Compute nodes: stop the daemons", "daemons", {host: {} for host in COMPUTES})
    journal.set_findings(run, "A gate", [(True, "schema 161")], "the vendor says so")
    journal.event(run, "went on past the gate “A gate”")
    journal.end_run(run, "stopped", 4, "too many failed; `cellstep resume`")
    found = values(folder)
    assert found["quarantine"][0]["host"] == COMPUTES[0]
    assert found["quarantine"][0]["age_s"] >= 0
    assert found["findings"][0]["overridden"] == "the vendor says so"
    assert found["holds"] == {"daemons": COMPUTES}
    assert found["left_out"].keys() == {COMPUTES[0]}
    said = call(folder, "status")
    for words in (
        "stopped, exit 4",
        f"failed at “{UPDATE}”: c01-n[01-02],c02-n01: yum: exit status 1: NODE has no space",
        "held: daemons on c[01-02]-n[01-02]",
        "scheduling disabled: c01-n01: no space",
        "`cellstep run nova --catch-up`",
        "finding: schema 161 (went on all the same: the vendor says so)",
        "went on past the gate “A gate”",
        "too many failed; `cellstep resume`",
        "`cellstep resume` goes on, `cellstep abandon` ends it",
    ):
        assert words in said, said


def test_a_run_that_settled_holds_is_not_the_run_that_status_shows(folder: Path, journal: Journal):
    run = begin(journal)
    journal.end_run(run, "complete", 0)
    other = journal.begin_run("nova", "r", "", {"holds": ["daemons"], "limit": "c01-n01"})
    journal.end_run(other, "settled", 0)
    found = values(folder)
    assert found["run"]["id"] == run
    assert (found["forecast"], found["next"]) == (None, "")


def test_with_2000_nodes_and_55_steps_it_is_a_few_questions_to_the_journal(folder: Path, journal: Journal):
    """Not timed: however many nodes and steps there are, the questions are as many, and no row is fetched a node."""
    run = begin(journal, "Step 0", ["c01-n01"])
    hosts = [(f"cell{n // 200:02}", f"p{n // 200:02}-{n % 200:03}") for n in range(2000)]
    with journal._write() as db:
        for step in range(55):
            title = f"Step {step}"
            db.execute("INSERT OR IGNORE INTO steps VALUES (?, ?, ?, 'done', '2014-01-01T00:00:00.000Z', NULL, '')",
                       (run, step + 1, title))  # fmt: skip
            db.executemany(
                "INSERT INTO host_steps VALUES (?, ?, ?, ?, 'changed', 1, '2014-01-01T00:00:00.000Z',"
                " '2014-01-01T00:00:10.000Z', '', 1)",
                [(run, title, cell, host) for cell, host in hosts],
            )
    asked: list[str] = []
    fetched: list[int] = []
    rows = Journal._rows

    def counting(self: Journal, sql: str, arguments: tuple = ()) -> list:
        found = rows(self, sql, arguments)
        asked.append(sql)
        fetched.append(len(found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "_rows", counting)
        patch.setattr("cellstep.standing._until", lambda *_, **__: "2014-01-01T01:00:00.000Z")
        found = values(folder)
    assert len(found["steps"]) == 55
    assert found["steps"][54]["hosts"] == {"changed": 2000}
    assert len(asked) < 20
    assert max(fetched) < 200


def test_what_a_newer_cellstep_or_a_reader_without_a_disk_may_do(folder: Path, journal: Journal):
    """Nothing is written by who only looks, also where nothing can be."""
    begin(journal)
    journal.close()
    state = folder / "state"
    before = {path.name: path.read_bytes() for path in state.iterdir() if path.name.endswith("sqlite3")}
    call(folder, "status")
    call(folder, "holds")
    call(folder, "lock", "show")
    assert {path.name: path.read_bytes() for path in state.iterdir() if path.name.endswith("sqlite3")} == before
    assert not (state / "lock").exists()


@pytest.mark.parametrize("crashed", [True, False])
def test_where_no_file_can_be_made_beside_the_journal_it_is_read_all_the_same(
    folder: Path, journal: Journal, monkeypatch, crashed: bool
):
    """A full disk, or a read-only one: SQLite cannot make the file by which readers and writers share the journal."""
    run = begin(journal)
    state = folder / "state"
    kept = {path.name: path.read_bytes() for path in state.iterdir() if not path.name.endswith("-shm")}
    journal.close()
    if crashed:
        assert kept["journal.sqlite3-wal"]
        for name, content in kept.items():
            (state / name).write_bytes(content)

    def unable(*_: object, **__: object) -> Journal:
        raise JournalFailed("unable to open database file")

    monkeypatch.setattr(runs, "open_journal", unable)  # as SQLite says there; root may write nearly everywhere
    assert values(folder)["run"]["id"] == run
    assert "nothing is held" in call(folder, "holds")


# The same trouble on many nodes


def test_messages_that_differ_in_the_nodes_own_name_and_address_are_one_line(cloud: Cloud):
    addresses = {node.name: cloud.inventory.hosts[node.name].hostname for node in cloud.nodes}
    troubles = [("failed", f"{n}: ssh to {addresses[n]}:9 as {n}.cern.ch: refused", n) for n in COMPUTES]
    (group,) = groups_of(cloud, [*troubles])
    assert (group.nodes, group.text) == (tuple(COMPUTES), "ssh to ADDRESS as NODE.cern.ch: refused")


def test_a_message_of_one_node_is_told_as_it_is(cloud: Cloud):
    (group,) = groups_of(cloud, [("failed", "c01-n01: c01-n01 is not c01-n011", "c01-n01")])
    assert group.text == "c01-n01 is not c01-n011"


def test_a_name_within_another_is_not_the_nodes_own(cloud: Cloud):
    groups = groups_of(cloud, [("failed", "see c01-n010", "c01-n01"), ("failed", "see c01-n020", "c01-n02")])
    assert [group.text for group in groups] == ["see c01-n010", "see c01-n020"]


def test_so_many_different_messages_are_printed_and_the_rest_is_counted(cloud: Cloud):
    troubles = [("failed", f"trouble {n}", f"x{n}") for n in range(20)] + [
        ("failed", "the same", f"y{n}") for n in (1, 2)
    ]
    groups, rest = shown(groups_of(cloud, troubles))
    assert len(groups) == GROUPS_SHOWN
    assert groups[0].nodes == ("y1", "y2")
    assert rest == f"and {21 - GROUPS_SHOWN} more, on {21 - GROUPS_SHOWN} more nodes: see hosts.csv"


def test_names_without_order_are_cut_where_a_name_ends(cloud: Cloud):
    many = [f"{chr(97 + n % 26)}{n * 7919 % 1000:03}-{n}" for n in range(300)]
    said = names(cloud, many)
    assert len(said) < NAMES_SHOWN + 30
    assert said.endswith(",... (300 nodes)")
    part = said.removesuffix(",... (300 nodes)")
    assert {name for each in split(part) for name in expand(each)} <= set(many)


def test_a_steps_lines_fold_the_same_trouble(cloud: Cloud):
    console = Console(width=200, record=True, force_terminal=False)
    display = RunDisplay(cloud, console)
    step = next(step for step in runbook_of("nova", cloud).steps if step.title == UPDATE)
    nodes = [node for node in cloud.nodes if node.name in COMPUTES]
    display.step_begins(35, 57, step, nodes)
    for node in nodes:
        display.node_ended(step, node.name, Outcome("failed", f"yum update: exit status 1: {node.name} is full"))
    display.step_ended(step, {"failed": 4}, 3.0, "")
    said = console.export_text()
    assert "failed c[01-02]-n[01-02]: yum update: exit status 1: NODE is full" in said
    assert said.count("exit status 1") == 1


# The questions


def ask(cloud: Cloud, crossing: Crossing, capsys: pytest.CaptureFixture[str]) -> str:
    asker = Asker(cloud, RunDisplay(cloud, Console()), yes=False)
    asker._show(crossing)
    return " ".join(capsys.readouterr().out.split())


def test_a_gate_says_what_can_be_undone_what_is_held_and_what_is_ahead(cloud: Cloud, journal: Journal, capsys):
    run = begin(journal)
    journal.place_holds(run, "nova", "s", "daemons", {host: {} for host in COMPUTES})
    steps = runbook_of("nova", cloud).steps
    gate = next(step for step in steps if step.title.startswith("Check the controllers"))
    said = ask(cloud, Crossing(gate, False, "`cellstep backout nova` brings it back", (UPDATE, "Another")), capsys)
    assert "can be undone `cellstep backout nova` brings it back" in said
    assert "no way back after “Enable user facing APIs at the top cells”; you are asked again before it" in said
    assert "held daemons: c[01-02]-n[01-02]" in said
    assert "ahead 2 steps, up to “Another”: how long it takes is not known" in said


def test_the_point_of_no_return_says_that_it_is_one(cloud: Cloud, journal: Journal, capsys):
    run = begin(journal)
    for host, state in zip(COMPUTES, ("failed", "changed", "changed", "not_run"), strict=True):
        journal.start_hosts(run, UPDATE, {host: 1})
        journal.end_hosts(run, UPDATE, [(host, state, "")])
    last = runbook_of("nova", cloud).steps[-1]
    said = ask(cloud, Crossing(last, True, "the dumps bring it back", (UPDATE,)), capsys)
    assert "up to here the dumps bring it back" in said
    assert "after this step there is no way back" in said
    assert f"ahead one step, up to “{UPDATE}”: less than a minute" in said


def test_where_nothing_undoes_what_was_done_it_is_said(cloud: Cloud, capsys):
    gate = runbook_of("nova", cloud).steps[0]
    said = ask(cloud, Crossing(gate, False, "", (UPDATE,)), capsys)
    assert "can be undone nothing undoes what was done" in said
    assert "no way back" not in said


def test_a_holder_elsewhere_is_never_taken_for_frozen():
    assert not Holder("me", "another-machine", os.getpid(), "now", "run nova", 1).frozen()
    assert not Holder("me", socket.gethostname(), os.getpid(), "now", "run nova", 1).frozen()
    assert not Holder("me", socket.gethostname(), 2**22 + 1, "now", "run nova", 1).frozen()


def test_what_a_run_did_to_a_node_is_shown_with_what_the_node_said(folder: Path, journal: Journal):
    run = journal.begin_run("nova", "r", "d", {})
    journal.begin_step(run, 1, UPDATE, [("cell01", "c01-n01"), ("cell01", "c01-n02")])
    journal.start_hosts(run, UPDATE, {"c01-n01": 1, "c01-n02": 1})
    printed = "".join(f"line {number}\n" for number in range(40)) + "No space left on device\n"
    command = Command.of("yum update", 1, 12.34, printed)
    journal.end_hosts(run, UPDATE, [("c01-n01", "failed", "yum update: exit status 1")], [("c01-n01", 1, command)])
    said = call(folder, "status", "--node", "c01-n[01-02]")
    assert "c01-n01 in run" in said
    assert f"{UPDATE}  failed" in said
    assert f"$ yum update: exit status 1, 12.3 s, {len(printed)} bytes, SHA-256 {command.sha256[:12]}" in said
    assert "      No space left on device" in said
    assert "line 5\n" not in said
    assert f"{UPDATE}  unknown" in said
    found = json.loads(call(folder, "status", "--node", "c01-n01", "--json"))
    (only,) = found["nodes"]["c01-n01"]
    assert (only["state"], only["commands"][0]["head"]) == ("failed", printed)
    with pytest.raises(UsageError, match="neither a node nor a group"):
        call(folder, "status", "--node", "c09")
