"""What a node is asked in one command, in a real bash with real processes."""

import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from tasks import facts
from tasks.errors import CommandFailed
from tests.support.scripted import Bash, task_on


@pytest.fixture
def node(tmp_path):
    bash = Bash(tmp_path / "bin")
    bash.program("rpm", r"printf 'python-nova 2013.1.4-1.el6\nkernel 1-1\nkernel 2-1\npython-novaclient 1:2.15.0-7\n'")
    bash.program("chkconfig", '[ "$2" = nova ] && echo "nova 0:off 3:on" || exit 1')
    bash.program("service", "exit 0")
    return bash


def test_a_node_tells_all_with_one_command(node):
    found = facts.ask_node(task_on(node), ["nova", "missing"])
    assert len(node.sent) == 1
    assert found.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert found.packages["kernel"] == ["1-1", "2-1"]
    assert found.packages["python-novaclient"] == ["1:2.15.0-7"]
    assert found.services == {"nova": {"actual": "running", "boot": "on"}}


def test_a_node_with_a_broken_rpm_database_gives_no_facts(node):
    node.program("rpm", "echo python-nova 2013.1.4-1.el6; exit 1")
    with pytest.raises(CommandFailed, match="gathering facts: exit status 1: the RPM database cannot be read"):
        facts.ask_node(task_on(node), ())


@pytest.mark.parametrize("name", ["qemu-kvm", "qemu) S 1 (x"])
def test_guests_are_found_with_their_start(node, tmp_path, name):
    """Under names with blanks and parentheses too; what only mentions qemu is none."""
    program = tmp_path / name
    shutil.copy(shutil.which("sleep"), program)
    guest, other = str(uuid.uuid4()), str(uuid.uuid4())
    # sleep takes no -uuid: bash gives the words, and stays as the process.
    script = "read -r _"
    shutil.copy(shutil.which("bash"), program)
    began = time.time()
    running = [
        subprocess.Popen([program, "-c", script, "-uuid", guest, "-m", "512"], stdin=subprocess.PIPE),
        subprocess.Popen(["bash", "-c", script, "about", "qemu", "-uuid", other], stdin=subprocess.PIPE),
    ]
    try:
        found = {one.uuid: one for one in facts.ask_node(task_on(node), ()).guests}
        ticks = int(Path(f"/proc/{running[0].pid}/stat").read_text().rpartition(") ")[2].split()[19])
    finally:
        for process in running:
            process.kill()
            process.wait(5)
            process.stdin.close()
    assert other not in found
    assert found[guest].start_ticks == ticks
    assert abs(found[guest].started - began) < 3
