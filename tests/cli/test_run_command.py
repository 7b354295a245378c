"""The command as its users call it, on a cloud none of whose nodes answers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cellstep.cli.output import reported
from cellstep.engine.journal import Journal
from tests.support.folders import lab_folder

ROOT = Path(__file__).parents[2]
CELLSTEP = [sys.executable, "-P", "-m", "cellstep"]


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    """The lab's cloud folder, with every node at a port of loopback where nobody listens."""
    return lab_folder(tmp_path / "cloud")


def call(cloud: Path, *arguments: str, expect: int) -> str:
    done = subprocess.run(
        [*CELLSTEP, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "CELLSTEP_CLOUD": str(cloud)},
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout + done.stderr
    assert done.returncode == expect, said
    assert "Traceback" not in said
    assert "secret-of-this-test" not in said
    return said


def test_a_needed_node_that_does_not_answer_stops_the_run(cloud: Path):
    said = call(cloud, "run", "nova", "--yes", expect=4)
    assert "not reached, and needed: top-infra01" in said
    assert "1 = 1 unreachable" in said
    status = json.loads(call(cloud, "status", "--json", expect=0))
    assert (status["run"]["state"], status["run"]["exit_code"]) == ("stopped", 4)
    hosts = cloud / "out" / "latest" / "nova" / "hosts.csv"
    assert "top-infra01,unreachable,1," in hosts.read_text(encoding="utf-8")
    assert call(cloud, "resume", "--yes", expect=4)
    assert "top-infra01,unreachable,2," in hosts.read_text(encoding="utf-8")


def test_verify_has_a_row_for_everything_expected_of_nodes_that_do_not_answer(cloud: Path):
    report = json.loads(call(cloud, "verify", "nova", "--json", expect=3))
    assert report["compliant"] is False
    assert set(report["counts"]) == {"rpms", "services", "guests", "quarantine", "hosts"}
    assert report["counts"]["rpms"] == {"unreachable": 46}
    assert report["counts"]["services"] == {"unreachable": 18}
    assert {row["host"] for row in report["tables"]["guests"]} == {"c01-n01", "c01-n02", "c02-n01", "c02-n02"}
    assert len(report["unreachable"]) == 9


def test_verify_of_what_only_a_silent_database_knows_is_not_compliant(cloud: Path):
    report = json.loads(call(cloud, "verify", "nova", "--table", "quotas", "--json", expect=3))
    assert report["tables"] == {}
    assert list(report["unreachable"]) == ["top-infra01"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nova"], "say --yes"),
        (["run", "nowa", "--yes"], "there is no stage “nowa”; the stages are: "),
        (["run", "nova", "--yes", "--limit", "c09-n01"], "c09-n01"),
        (["run", "nova", "--yes", "--step", "99"], "there is no step 99"),
        (["plan", "nova", "--limit", "c01-n[01-"], "c01-n[01-"),
        (["verify", "nova", "--table", "rpm"], "the tables are: rpms"),
        (["verify", "nova", "--limit", "!top,!cell01,!cell02"], "matches no node"),
        (["quota", "check", "nowa"], "the stages are: nova"),
        (["--no-such-option"], "No such option"),
    ],
)
def test_wrong_usage_is_one_clear_line_and_exit_2(cloud: Path, arguments, said):
    assert said in call(cloud, *arguments, expect=2)
    assert not (cloud / "state" / "journal.sqlite3").exists()


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_drains_and_ends_the_run_with_its_own_code(cloud: Path, number: signal.Signals, expected: int):
    """A node that takes the connection and says nothing: the run waits for its greeting when the signal comes."""
    inventory = cloud / "inventory.yaml"
    text = inventory.read_text(encoding="utf-8")
    found = re.search(r"top-infra01: \{address: (127\.0\.1\.\d+), port: 9\}", text)
    assert found
    with socket.create_server((found[1], 0)) as silent:
        inventory.write_text(text.replace(f"{found[1]}, port: 9", f"{found[1]}, port: {silent.getsockname()[1]}"))
        with subprocess.Popen(
            [*CELLSTEP, "run", "nova", "--yes"],
            env={**os.environ, "CELLSTEP_CLOUD": str(cloud)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as run:
            silent.settimeout(60)
            connection, _ = silent.accept()
            run.send_signal(number)
            said, _ = run.communicate(timeout=60)
            connection.close()
    assert run.returncode == expected, said
    assert "what runs is waited for" in said
    status = json.loads(call(cloud, "status", "--json", expect=0))
    assert (status["run"]["state"], status["run"]["exit_code"]) == ("interrupted", None)


def test_nothing_to_resume_and_no_run_yet_are_no_errors(cloud: Path):
    assert "nothing to resume" in call(cloud, "resume", expect=0)
    assert "no run yet" in call(cloud, "status", expect=0)


def test_a_password_file_that_others_may_read_is_refused_before_anything_begins(cloud: Path):
    (cloud / "password").chmod(0o644)
    assert "chmod 600" in call(cloud, "run", "nova", "--yes", expect=2)


def test_a_second_operator_is_told_who_holds_the_cloud(cloud: Path):
    code = """
import sys
from pathlib import Path
from cellstep.engine.journal import Journal
from cellstep.engine.lock import Lock
state = Path(sys.argv[1])
with Lock(state / "lock").held(Journal(state / "journal.sqlite3"), "run nova"):
    print("held", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(cloud / "state")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for arguments in (["run", "nova", "--yes"], ["resume", "--yes"], ["quota", "repair", "nova", "--apply"]):
            assert f"pid {holder.pid}" in call(cloud, *arguments, expect=5)
        holder.kill()


def test_plan_is_the_same_for_people_and_machines(cloud: Path):
    text = call(cloud, "plan", "nova", expect=0)
    steps = json.loads(call(cloud, "plan", "nova", "--json", expect=0))["steps"]
    assert all(f"{step['number']:>3}. {step['title']}" in text for step in steps)


def test_help_names_every_command(cloud: Path):
    said = call(cloud, "--help", expect=0)
    around = ("preflight", "holds", "abandon", "lock", "backout", "status", "inventory", "config", "exec", "lab")
    for name in ("plan", "run", "resume", "verify", "quota", *around):
        assert f" {name} " in said


def test_afresh_takes_the_place_of_the_run_that_stopped(cloud: Path):
    call(cloud, "run", "nova", "--yes", expect=4)
    assert "cellstep resume" in call(cloud, "run", "nova", "--yes", expect=2)
    call(cloud, "run", "nova", "--yes", "--step", "1", expect=4)
    call(cloud, "run", "nova", "--yes", "--afresh", expect=4)
    journal = Journal(cloud / "state" / "journal.sqlite3")
    assert [run.state for run in journal.runs()] == ["stopped", "superseded", "superseded"]


def test_resume_refuses_another_plan_than_the_run_began_with(cloud: Path):
    call(cloud, "run", "nova", "--yes", expect=4)
    inventory = cloud / "inventory.yaml"
    text = inventory.read_text(encoding="utf-8")
    inventory.write_text(text.replace("compute: c01-n[01-02]", "compute: c01-n[01-03]"), encoding="utf-8")
    said = call(cloud, "resume", "--yes", expect=2)
    assert "+ c01-n03 in “Save a list of all guests” and" in said
    assert "--accept-plan" in said
    inventory.write_text(text, encoding="utf-8")
    call(cloud, "resume", "--yes", expect=4)


def test_a_cell_whose_database_is_not_known_is_refused_before_anything_begins(cloud: Path):
    inventory = cloud / "inventory.yaml"
    text = inventory.read_text(encoding="utf-8")
    inventory.write_text(text.replace("      database: c02-ctl01\n", ""), encoding="utf-8")
    assert "role database in cell02" in call(cloud, "run", "nova", "--yes", expect=2)


def test_an_unexpected_error_is_one_line(capsys: pytest.CaptureFixture[str]):
    assert reported(lambda: 1 // 0) == 1
    assert "unexpected error: ZeroDivisionError" in capsys.readouterr().err


def test_a_journal_that_is_none_is_one_line(cloud: Path):
    (cloud / "state").mkdir()
    (cloud / "state" / "journal.sqlite3").write_text("this is no database, and long enough to be taken for one\n" * 40)
    assert "cannot be used: file is not a database" in call(cloud, "status", expect=4)


def test_what_a_limited_verification_was_asked_for_is_asked(cloud: Path):
    """The quota usage is the top cell's: a limit to other nodes must not make an empty table look good."""
    report = json.loads(call(cloud, "verify", "nova", "--limit", "c01-n01", "--table", "quotas", "--json", expect=3))
    assert "top-infra01" in report["unreachable"]
    call(cloud, "verify", "nova", "--limit", "top-infra01", "--table", "rpms", expect=3)
