"""Changes of a bound task: the token that fences a former operator out, and what is kept of each command."""

import hashlib
import os
import subprocess
import threading

import pytest

from tasks import shell
from tasks.binding import Binding, bind
from tasks.errors import CommandFailed, Fenced, Refused
from tests.support.scripted import Bash, task_on


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The node's folder for tokens and jobs."""
    folder = tmp_path / "node's" / "jobs"
    monkeypatch.setattr(shell, "ROOT", str(folder))
    return folder


@pytest.fixture
def node(tmp_path):
    return Bash(tmp_path / "bin")


def bound(node, token=1, **more):
    task = task_on(node, dry_run=more.pop("dry_run", False))
    binding = Binding("20140130-100000", "Stop it", token=token, **more)
    bind(task, binding)
    return task, binding


@pytest.mark.usefixtures("root")
def test_a_script_runs_as_it_would_without_the_fence(node):
    """Its input, output, exit status, quotes and all; its shell's options and umask are its own."""
    script = 'read -r x; echo "it\'s $x"; umask; echo err >&2; set -e; (exit 7); echo not here # a comment'
    fenced, plain = (shell.change(task, script, stdin="in\n", ok=(7,)) for task in (bound(node)[0], task_on(node)))
    assert (fenced.stdout, fenced.stderr, fenced.exit_status) == (plain.stdout, "err\n", 7)
    assert fenced.stdout.startswith("it's in\n0")


def test_the_newest_token_is_kept_for_root_alone(node, root):
    for token in (3, 3, 12):
        shell.change(bound(node, token)[0], "true")
        assert (root / "token").read_text() == f"{token}\n"
    assert root.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in root.iterdir()} == {
        "token": 0o600,
        "lock": 0o600,
        "busy": 0o600,
    }


@pytest.mark.parametrize("newer", [lambda task: shell.change(task, "true"), shell.fence])
def test_an_older_token_changes_nothing(node, root, tmp_path, newer):
    newer(bound(node, 10)[0])
    task, binding = bound(node, 9)
    with pytest.raises(Fenced, match=r"^c01-n01: the operator with token 10 has taken over from the one with token 9$"):
        shell.change(task, f"touch {tmp_path}/changed")
    assert not (tmp_path / "changed").exists()
    assert (root / "token").read_text() == "10\n"
    assert binding.commands == []
    with pytest.raises(Fenced):
        shell.fence(task)


def test_nothing_is_sent_once_somebody_else_has_the_cloud(node):
    def gone():
        raise Fenced("taken over by mary")

    task, _ = bound(node, still_ours=gone)
    with pytest.raises(Fenced, match="mary"):
        shell.change(task, "true")
    assert node.sent == []


@pytest.mark.usefixtures("root")
def test_a_script_with_the_status_of_the_fence_is_not_taken_for_it(node):
    task, _ = bound(node)
    assert shell.change(task, "echo cellstep-guard: no >&2; exit 1", ok=None).exit_status == 1
    assert shell.change(task, "exit 210", ok=None).exit_status == 210


def test_a_full_disk_is_named(node, root, tmp_path):
    (disk := tmp_path / "disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        root.parent.mkdir(parents=True)
        root.symlink_to(disk)
        subprocess.run(["dd", "if=/dev/zero", f"of={disk}/log"], check=False, capture_output=True)
        with pytest.raises(Refused, match=r"^c01-n01: the node cannot keep the token in .*: No space left on device$"):
            shell.change(bound(node)[0], f"touch {tmp_path}/changed")
        assert not (tmp_path / "changed").exists()
        (disk / "log").unlink()
        shell.change(bound(node)[0], f"touch {tmp_path}/changed")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_cannot_be_is_named(node, root):
    root.parent.mkdir(parents=True)
    root.write_text("a file")
    with pytest.raises(Refused, match=r"cannot keep what was started in .*: (File exists|Not a directory)"):
        shell.change(bound(node)[0], "true")


def test_a_command_is_kept_also_when_its_status_is_not_taken(node, root):
    task, binding = bound(node)
    with pytest.raises(CommandFailed, match="stopping: exit status 3: no"):
        shell.change(task, "echo out; echo no >&2; exit 3", what="stopping")
    (command,) = binding.commands
    assert (command.what, command.exit_status, command.head, command.tail) == ("stopping", 3, "out\nno\n", "")
    assert (command.size, command.sha256) == (7, hashlib.sha256(b"out\nno\n").hexdigest())
    assert root.exists()


@pytest.mark.usefixtures("root")
def test_of_a_long_output_the_ends_are_kept(node):
    task, binding = bound(node)
    shell.change(task, "printf '%05d' {1..2000}")
    (command,) = binding.commands
    assert (command.what, command.size) == ("printf '%05d' {1..2000}", 10_000)
    assert (len(command.head), len(command.tail)) == (1000, 2000)
    assert command.head.endswith("00200")
    assert command.tail.startswith("01601")


def test_a_dry_run_sends_nothing_and_fences_nothing(node, root):
    task, _ = bound(node, dry_run=True)
    with pytest.raises(Refused, match="not sent in a dry run: true"):
        shell.change(task, "true")
    shell.fence(task)
    assert node.sent == []
    assert not root.exists()
    assert not shell.has_changed(task)


def test_a_task_that_is_not_bound_sends_its_script_as_it_is(node, root):
    task = task_on(node)
    shell.change(task, "echo so")
    shell.fence(task)
    assert node.sent == ["echo so"]
    assert not root.exists()


def test_the_fence_waits_for_a_change_that_is_under_way(node, tmp_path, root):
    """And not for a daemon that the change has started."""
    os.mkfifo(tmp_path / "gate")
    daemon = f"(sleep 30 < /dev/null > /dev/null 2>&1 & echo $! > {tmp_path}/daemon)"
    script = f"{daemon}; echo > {tmp_path}/gate; read -r x < {tmp_path}/gate; touch {tmp_path}/done"
    thread = threading.Thread(target=shell.change, args=(bound(node, 1)[0], script))
    thread.start()
    try:
        (tmp_path / "gate").read_text()
        with pytest.raises(Refused, match="sent before still changes this node after 0 s"):
            shell.fence(bound(node, 2)[0], timeout=0)
        assert (root / "token").read_text() == "2\n"
        (tmp_path / "gate").write_text("go\n")
        shell.fence(bound(node, 2)[0], timeout=10)
        assert (tmp_path / "done").exists()
    finally:
        thread.join(20)
        os.kill(int((tmp_path / "daemon").read_text()), 9)
