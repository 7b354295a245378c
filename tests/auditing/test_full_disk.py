"""An audit of real sshds whose reports, or whose kept audits, find a full disk: a tmpfs of a few kB."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cellstep.auditing import kept
from cellstep.cloud.load import load_cloud
from tests.support.loopback_fleet import Fleet, fleet

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a tmpfs")

CELLSTEP = [sys.executable, "-P", "-m", "cellstep"]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    with fleet(tmp_path_factory.mktemp("fleet"), 12) as made:
        audit(made.cloud)
        yield made


def audit(cloud: Path, *before: str) -> tuple[int, str, str]:
    """Make an audit, after these commands in a mount namespace of its own: exit code, what it printed, its folders."""
    script = "\n".join(
        (*before, '"$@"; code=$?', f"ls -A {cloud}/out {cloud}/out/* {cloud}/state/audits >&9", "exit $code")
    )
    listing = cloud.parent / "listing"
    with listing.open("w") as file:
        words = ["unshare", "--mount", "bash", "-c", f"exec 9>&{file.fileno()}\n{script}", "-", *CELLSTEP]
        words += ["audit", "--cloud", str(cloud)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            words, check=False, capture_output=True, text=True, env=environment, pass_fds=[file.fileno()], timeout=120
        )
    return done.returncode, done.stdout + done.stderr, listing.read_text()


def full(folder: Path, size: str) -> str:
    return f"mkdir -p {folder}; mount -t tmpfs -o size={size} none {folder}"


@pytest.mark.parametrize("size", ["4k", "16k", "64k"])
def test_a_full_disk_under_the_reports_is_one_line(up: Fleet, size: str):
    before = kept.names(load_cloud(up.cloud))
    code, said, listing = audit(up.cloud, full(up.cloud / "out", size))
    assert code == 1
    lines = [line for line in said.splitlines() if line.startswith("cellstep:")]
    assert len(lines) == 1, said
    assert "No space left on device" in lines[0]
    assert "Traceback" not in said
    # No half of a file looks like a whole one, and nothing leads to it.
    assert ".part" not in listing
    assert "latest" not in listing
    # What the next audit compares with is the last one that is whole.
    assert kept.names(load_cloud(up.cloud)) == before


def test_a_full_disk_under_the_kept_audits_is_one_line_and_leaves_those_before(up: Fleet):
    state, aside = up.cloud / "state" / "audits", up.cloud / "aside"
    copy = f"cp -a {state} {aside}"
    code, said, listing = audit(
        up.cloud, copy, full(state, "8k"), f"cp {aside}/* {state}/", f"head -c 1M /dev/zero > {state}/x || true"
    )
    assert code == 1
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert ".part" not in listing
    (only,) = kept.names(load_cloud(up.cloud))
    assert json.dumps(kept.load(load_cloud(up.cloud), only).tones)
    assert audit(up.cloud)[0] == 3
