"""`cellstep lock`: who is at work, and taking over, beside a real process that holds the lock."""

import getpass
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cellstep import runs
from cellstep.cli.main import app
from cellstep.cloud.load import Cloud, load_cloud
from cellstep.errors import CellstepError
from tests.support.folders import ROOT, lab_folder

HOLDER = """
import sys
from pathlib import Path
from cellstep import runs
from cellstep.cloud.load import load_cloud
cloud = load_cloud(Path(sys.argv[1]))
journal = runs.open_journal(cloud)
with runs.lock_of(cloud).held(journal, "run nova"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    return load_cloud(lab_folder(tmp_path / "cloud"))


@pytest.fixture
def holder(cloud: Cloud) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", HOLDER, str(cloud.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def call(cloud: Cloud, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["lock", *arguments, "--cloud", str(cloud.directory)])
    if isinstance(done.exception, CellstepError):
        assert done.exception.exit_code == code, done.output
        return f"{done.output}{done.exception}"
    assert done.exit_code == code, done.output
    return done.output


def show(cloud: Cloud) -> tuple[int | None, bool, bool]:
    found = json.loads(call(cloud, "show", "--json"))
    assert found.keys() == {"cloud", "holder", "alive", "frozen"}
    return (found["holder"] or {}).get("pid"), found["alive"], found["frozen"]


def test_a_free_cloud(cloud: Cloud):
    assert "free" in call(cloud, "show")
    assert show(cloud) == (None, False, False)
    assert "nothing to take over" in call(cloud, "take-over", "--reason", "r", "--yes", code=2)
    assert not (cloud.directory / "state").exists()


def test_a_holder_that_lives_is_frozen_and_is_killed(cloud: Cloud, holder: "subprocess.Popen[str]"):
    assert show(cloud) == (holder.pid, True, False)
    said = call(cloud, "show")
    assert f"run nova by {getpass.getuser()} on {os.uname().nodename}, pid {holder.pid}" in said
    assert "\nalive\n" in said
    holder.send_signal(signal.SIGSTOP)
    os.waitpid(holder.pid, os.WUNTRACED)
    assert show(cloud) == (holder.pid, True, True)
    assert "stopped by a signal" in call(cloud, "show")
    holder.kill()
    holder.wait(timeout=20)
    assert show(cloud) == (holder.pid, False, False)
    assert "crashed: the process is gone; `cellstep resume`" in call(cloud, "show")
    assert "nothing to take over" in call(cloud, "take-over", "--reason", "r", "--yes", code=2)


def test_taking_over_is_asked_for_explained_and_journalled(cloud: Cloud, holder: "subprocess.Popen[str]"):
    said = call(cloud, "take-over", "--reason", "the laptop was stolen", code=2)
    assert "say --yes" in said
    assert f"pid {holder.pid}" in said
    assert "changes nothing any more" in said
    assert show(cloud) == (holder.pid, True, False), "nothing was taken over"
    assert "--reason is needed" in call(cloud, "take-over", "--reason", " ", "--yes", code=2)
    assert "`cellstep resume`" in call(cloud, "take-over", "--reason", "the laptop was stolen", "--yes")
    assert show(cloud) == (None, False, False)
    (event,) = runs.open_journal(cloud).events()
    assert event["what"].startswith("took over from run nova by ")
    assert event["what"].endswith("the laptop was stolen")
    assert "the laptop was stolen" in call(cloud, "show")


def test_a_reason_is_asked_for(cloud: Cloud):
    assert "--reason" in call(cloud, "take-over", "--yes", code=2)
