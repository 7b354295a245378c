"""Jobs on a node: started once, outliving their connection, and told as they ended."""

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plugins.connections import sshconfig
from plugins.connections.errors import CommandTimeout, ConnectionLost, Unreachable
from plugins.connections.ssh import Ssh
from tasks import jobs, shell
from tasks.binding import Binding, bind
from tasks.errors import CommandFailed, Fenced, Refused
from tests.support import sshd
from tests.support.scripted import Bash, Scripted, said, task_on

RUN, STEP = "20140130-100000", "Update the RPMs"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """The node's folder for tokens and jobs, and its boot id."""
    monkeypatch.setattr(shell, "ROOT", str(tmp_path / "jobs"))
    monkeypatch.setattr(jobs, "BOOT_ID_FILE", str(tmp_path / "boot_id"))
    monkeypatch.setattr(jobs, "ASK_EVERY_S", 0.01)
    (tmp_path / "boot_id").write_text("b1\n")
    return tmp_path / "jobs"


def fill(disk):
    subprocess.run(["dd", "if=/dev/zero", f"of={disk}/log"], check=False, capture_output=True)


@pytest.fixture
def node(tmp_path):
    return Bash(tmp_path / "bin")


def bound(node, **more):
    task = task_on(node, dry_run=more.pop("dry_run", False))
    binding = Binding(**{"run": RUN, "step": STEP, "token": 1} | more)
    bind(task, binding)
    return task, binding


def detached(node, script, *, name="yum", timeout=15, ok=(0,), **more):
    return jobs.detached(bound(node, **more)[0], script, name=name, timeout=timeout, ok=ok)


def folder(root, name="yum", **more):
    return root / jobs.job_id(Binding(**{"run": RUN, "step": STEP} | more), name)


class Gate:
    """A script that tells when it runs, and ends when it is let."""

    def __init__(self, path):
        self.ran, self.fifo = path / "ran", path / "gate"
        os.mkfifo(self.fifo)
        self.script = f"echo $$ >> {self.ran}; echo begun; cat {self.fifo}; echo done >&2"

    def wait(self):
        """Until it runs; returns its pid."""
        deadline = time.monotonic() + 10
        while not (self.ran.exists() and self.ran.read_text().endswith("\n")):
            assert time.monotonic() < deadline, "the job does not run"
            threading.Event().wait(0.01)
        return int(self.ran.read_text().split()[-1])

    def open(self):
        self.fifo.write_text("let through\n")

    @property
    def times(self):
        return len(self.ran.read_text().split())


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


class Thread(threading.Thread):
    """A call in a thread, whose result or error `end` gives."""

    def __init__(self, function, *arguments, **more):
        super().__init__(daemon=True)
        self.call = lambda: function(*arguments, **more)
        self.start()

    def run(self):
        try:
            self.result, self.error = self.call(), None
        except BaseException as error:  # noqa: BLE001 - `end` raises it in the test's own thread
            self.result, self.error = None, error

    def end(self):
        self.join(20)
        assert not self.is_alive()
        if self.error:
            raise self.error
        return self.result


# What came of it


def test_a_job_brings_back_what_a_command_does(node):
    result = detached(node, 'echo "it\'s out"; echo err >&2; read -r x || echo no input; exit 3', ok=(3,))
    assert (result.exit_status, result.stdout, result.stderr) == (3, "it's out\nno input\n", "err\n")
    with pytest.raises(CommandFailed, match=r"yum update: exit status 4: No Packages"):
        jobs.detached(
            bound(node, step="x")[0], "echo No Packages >&2; exit 4", name="yum", what="yum update", timeout=9
        )


def test_the_jobs_shell_is_like_any_other(node):
    """Its umask, folder and environment: what it makes is as if it had been sent plainly."""
    script = "umask; pwd; env | grep -vE '^(_|SHLVL)=' | sort"
    assert detached(node, script).stdout == shell.change(task_on(node), script).stdout


def test_an_ended_job_leaves_a_log_and_its_status(node, root):
    detached(node, "echo out")
    left = folder(root)
    assert sorted(path.name for path in left.iterdir()) == ["err", "out", "start", "status"]
    assert left.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in left.iterdir()} == {0o600}
    assert (left / "start").read_text().split()[1] == "b1"


def test_a_job_is_recorded_as_the_node_has_it(node):
    task, binding = bound(node)
    with pytest.raises(CommandFailed):
        jobs.detached(task, "echo out; echo err >&2; exit 3", name="yum", what="yum update", timeout=9)
    (command,) = binding.commands
    assert (command.what, command.exit_status, command.size) == ("yum update", 3, 8)
    assert (command.head, command.tail) == ("out\nerr\n", "")
    assert command.sha256 == hashlib.sha256(b"out\nerr\n").hexdigest()


def test_of_a_long_output_both_ends_come_back_with_the_digest_of_all(node):
    task, binding = bound(node)
    result = jobs.detached(task, "printf '%06d\\n' {1..50000}; echo end >&2", name="yum", timeout=15)
    printed = "".join(f"{number:06d}\n" for number in range(1, 50_001))
    half = jobs.BOUND // 2
    left_out = f"\n[{len(printed) - 2 * half} bytes left out]\n"
    assert result.stdout == printed[:half] + left_out + printed[-half:]
    (command,) = binding.commands
    assert command.size == len(printed) + 4
    assert command.sha256 == hashlib.sha256(printed.encode() + b"end\n").hexdigest()


def test_output_that_looks_like_the_nodes_own_words_is_output(node):
    line = "cellstep-job ended 0 1 2 b1 b1 3 -\n"
    result = detached(node, f"printf '{line}'; echo 'cellstep-guard: x' >&2; exit 210", ok=(210,))
    assert (result.stdout, result.stderr) == (line, "cellstep-guard: x\n")


def test_a_job_that_takes_too_long_is_ended_by_its_node(node, root):
    with pytest.raises(CommandFailed, match=r"^yum update: ended after 1 s, which is all it may take: exit status 124"):
        jobs.detached(bound(node)[0], "echo begun; sleep 60", name="yum", what="yum update", timeout=1)
    assert (folder(root) / "status").read_text().split()[0] == "124"


def test_a_job_that_will_not_end_is_told_as_unknown(node, gate, monkeypatch):
    monkeypatch.setattr(jobs, "GRACE_S", 0.0)
    with pytest.raises(CommandTimeout, match="no end of yum within 1 s; it runs on there"):
        jobs.detached(bound(node)[0], f"trap '' TERM; {gate.script}", name="yum", what="yum", timeout=1)
    gate.open()
    monkeypatch.setattr(jobs, "GRACE_S", 10.0)
    assert "let through" in detached(node, "not this one", ok=None).stdout


def test_a_status_of_124_before_its_time_is_the_scripts_own(node):
    with pytest.raises(CommandFailed, match=r"^exit 124: exit status 124$"):
        detached(node, "exit 124")


# Once, and by whom


def test_a_job_is_there_once_and_answers_again(node, tmp_path):
    script = f"echo x >> {tmp_path}/count; wc -l < {tmp_path}/count"
    assert [detached(node, script).stdout for _ in range(3)] == ["1\n"] * 3
    assert detached(node, script, name="other").stdout == "2\n"
    assert detached(node, script, generation=2).stdout == "3\n"
    assert detached(node, script, step="another").stdout == "4\n"
    assert detached(node, script, run="another").stdout == "5\n"


def test_two_who_start_it_at_once_start_it_once(node, gate):
    threads = [Thread(detached, node, gate.script) for _ in range(6)]
    gate.wait()
    gate.open()
    assert {thread.end().stdout for thread in threads} == {"begun\nlet through\n"}
    assert gate.times == 1


def test_a_daemon_that_a_job_starts_does_not_hold_it(node, tmp_path):
    began = time.monotonic()
    detached(node, f"sleep 30 > /dev/null 2>&1 & echo $! > {tmp_path}/daemon")
    assert time.monotonic() - began < 10
    os.kill(int((tmp_path / "daemon").read_text()), 9)


@pytest.mark.usefixtures("gate")
def test_an_operator_who_was_replaced_starts_nothing(node, root, tmp_path):
    detached(node, "true", token=8)
    with pytest.raises(Fenced, match=r"^c01-n01: the operator with token 8 has taken over"):
        detached(node, f"touch {tmp_path}/changed", name="other", token=7)
    assert not folder(root, "other").exists()
    assert not (tmp_path / "changed").exists()


def test_a_script_that_arrives_in_part_is_not_started(node, root, tmp_path):
    task, binding = bound(node)
    whole = node.answer
    node.answer = lambda command, stdin, timeout: whole(command, stdin[:-5], timeout)
    with pytest.raises(Refused, match="did not arrive whole; nothing was started"):
        jobs.detached(task, f"touch {tmp_path}/changed; true", name="yum", timeout=9)
    assert not folder(root).exists()
    assert binding.commands == []


def test_a_dry_run_starts_nothing(node):
    task, _ = bound(node, dry_run=True)
    with pytest.raises(Refused, match="not sent in a dry run"):
        jobs.detached(task, "true", name="yum", timeout=9)
    assert jobs.attach(task, timeout=9) == []
    assert node.sent == []


def test_a_task_that_is_not_bound_runs_its_script_plainly():
    node = Scripted({"yum -y update": "Complete!\n"})
    task = task_on(node)
    assert jobs.detached(task, "yum -y update", name="yum", timeout=9).stdout == "Complete!\n"
    assert node.sent == ["yum -y update"]
    assert shell.has_changed(task)
    with pytest.raises(Refused, match="not part of a run"):
        jobs.begin(task, "reboot", name="reboot", timeout=9)
    assert (jobs.attach(task, timeout=9), jobs.earlier(task, "yum", timeout=9)) == ([], None)


# Cut off


def kill_job(gate):
    """End every process of the job's session with SIGKILL: its shell, `timeout` and the script."""
    session = os.getsid(gate.wait())
    assert session != os.getsid(0)
    found = subprocess.run(["ps", "-o", "pid=", "-s", str(session)], capture_output=True, text=True, check=True)
    # Its shell first, or it writes the status of what was killed before it.
    for pid in sorted(map(int, found.stdout.split()), key=lambda pid: pid != session):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("boot", "why"), [("b1", "it was killed"), ("b2", "the node was restarted")])
def test_a_job_without_a_status_was_cut_off(node, root, gate, tmp_path, boot, why):
    thread = Thread(detached, node, gate.script)
    gate.wait()
    (tmp_path / "boot_id").write_text(f"{boot}\n")
    kill_job(gate)
    with pytest.raises(jobs.CutOff, match=f"^c01-n01: echo .* was cut off: {why} while it ran: begun$"):
        thread.end()
    with pytest.raises(jobs.CutOff):
        detached(node, gate.script)
    assert gate.times == 1
    assert sorted(path.name for path in folder(root).iterdir()) == ["err", "lock", "out", "start"]


def test_a_job_whose_shell_was_killed_is_waited_for_all_the_same(node, gate):
    """Its script runs on: only when that has ended is it over."""
    thread = Thread(detached, node, gate.script)
    group = os.getpgid(gate.wait())
    assert group != os.getsid(group)
    os.kill(os.getsid(group), signal.SIGKILL)
    assert jobs.begin(bound(node)[0], "true", name="yum", timeout=9).state == "running"
    gate.open()
    with pytest.raises(jobs.CutOff, match=r"it was killed while it ran: begun \| let through \| done"):
        thread.end()


def test_a_node_without_room_says_so_and_starts_nothing(node, root, tmp_path):
    (disk := tmp_path / "disk").mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], check=False).returncode:
        pytest.skip("no tmpfs may be mounted here")
    try:
        root.symlink_to(disk)
        shell.fence(bound(node)[0])
        fill(disk)
        with pytest.raises(Refused, match=r"the node cannot keep a job in .*: No space left on device"):
            detached(node, f"touch {tmp_path}/changed")
        assert not (tmp_path / "changed").exists()
        (disk / "log").unlink()
        result = detached(node, f"cat /dev/zero > {disk}/log; exit 5", ok=(5,))
        assert result.exit_status == 5  # the status has its place from the start
    finally:
        subprocess.run(["umount", disk], check=True)


# After a try without a known end


def test_nothing_is_attached_to_where_nothing_was_started(node):
    assert jobs.attach(bound(node, again=True)[0], timeout=5) == []
    assert jobs.earlier(bound(node, again=True)[0], "yum", timeout=5) is None


def test_the_jobs_of_the_try_before_are_waited_for(node, gate):
    for other in ({"run": "other"}, {"step": "other"}, {"generation": 2}):
        detached(node, "true", **other)
    detached(node, "echo first; exit 4", name="First of All", ok=None)
    jobs.begin(bound(node)[0], gate.script, name="yum", timeout=15)
    thread = Thread(jobs.attach, bound(node, again=True)[0], timeout=15)
    gate.wait()
    gate.open()
    found = thread.end()
    assert [(job.name, job.state, job.exit_status, job.stdout) for job in found] == [
        ("first-of-all", "ended", 4, "first\n"),
        ("yum", "ended", 0, "begun\nlet through\n"),
    ]
    assert jobs.earlier(bound(node)[0], "yum", timeout=5) is None  # its end is known
    assert jobs.earlier(bound(node, again=True)[0], "yum", timeout=5).exit_status == 0
    assert gate.times == 1


def test_a_job_that_another_run_left_under_way_is_waited_for_too(node, gate):
    """A node comes back from quarantine while what an earlier run sent goes on: nothing is read before its end."""
    jobs.begin(bound(node, run="earlier")[0], gate.script, name="yum", timeout=15)
    thread = Thread(jobs.attach, bound(node, again=True)[0], timeout=15)
    gate.wait()
    assert thread.is_alive()
    gate.open()
    assert thread.end() == []


def test_a_plain_change_of_a_former_operator_is_waited_for(node, gate):
    thread = Thread(shell.change, bound(node)[0], gate.script)
    gate.wait()
    with pytest.raises(Refused, match="something that was sent before still changes this node"):
        jobs.attach(bound(node, token=2, again=True)[0], timeout=0)
    gate.open()
    assert jobs.attach(bound(node, token=2, again=True)[0], timeout=10) == []
    thread.end()


# Pruning


def test_old_jobs_go_and_running_ones_stay(node, root, gate):
    """At the start of another; this one's own is left, however old."""
    detached(node, "true", name="old")
    detached(node, "true", name="young")
    jobs.begin(bound(node)[0], gate.script, name="running", timeout=15)
    gate.wait()
    for name, days in (("old", 14), ("young", 13), ("running", 15)):
        seconds = time.time() - days * 86400 - 60
        os.utime(folder(root, name), (seconds, seconds))
    detached(node, "true", name="next")
    assert [name for name in ("old", "young", "running", "next") if folder(root, name).exists()] == [
        "young",
        "running",
        "next",
    ]
    gate.open()
    jobs.attach(bound(node)[0], timeout=10)


# Names

texts = st.text(max_size=60)
places = st.tuples(texts, texts, st.integers(1, 999), texts)


@settings(deadline=None)
@given(places, places)
def test_a_jobs_name_is_safe_and_its_own(one, other):
    names = [jobs.job_id(Binding(run, step, generation), name) for run, step, generation, name in (one, other)]
    assert all(re.fullmatch(r"[a-z0-9.-]{1,150}", name) for name in names)
    assert (names[0] == names[1]) == (one == other)
    assert not any(name.startswith(("-", "..")) for name in names)


@settings(deadline=None)
@given(places, places)
def test_only_a_try_of_its_own_is_attached_to(one, other):
    mine = jobs._prefix(Binding(*one[:3]))
    assert jobs.job_id(Binding(*other[:3]), other[3]).startswith(mine) == (one[:3] == other[:3])


# Over connections that break


def lost(count, error, then):
    """A node that answers with an error so many times, then as `then` does."""
    left = iter([error] * count)
    return Scripted([("cellstep-job", lambda _: next(left, then))])


ENDED = f"cellstep-job ended 0 100 107 b1 b1 4 {'0' * 64}\nout\n"


def test_a_lost_connection_is_made_again():
    node = lost(3, ConnectionLost("c01-n01: the connection broke"), said(ENDED))
    assert detached(node, "true").stdout == "out\n"
    assert len(node.sent) == 4


def test_a_node_that_cannot_be_reached_at_first_is_told_so():
    with pytest.raises(Unreachable):
        detached(lost(1, Unreachable("c01-n01: no answer"), said(ENDED)), "true")


def test_a_node_that_stays_away_is_given_up(monkeypatch):
    """A connection that breaks is a sign of life; none at all is not."""
    monkeypatch.setattr(jobs, "REATTACH_S", 0.2)
    answers = iter([ConnectionLost("c01-n01: broke"), Unreachable("no"), ConnectionLost("broke")])
    began = time.monotonic()
    node = Scripted([("cellstep-job", lambda _: next(answers, Unreachable("c01-n01: no route")))])
    with pytest.raises(ConnectionLost, match="c01-n01: no route; yum runs on there or has ended, its result is kept"):
        detached(node, "yum")
    assert 0.2 <= time.monotonic() - began < 10
    assert len(node.sent) > 4


def test_connections_that_break_for_ever_end_with_the_job_s_time(monkeypatch):
    monkeypatch.setattr(jobs, "GRACE_S", 0.0)
    with pytest.raises(ConnectionLost, match=r"broke; yum has run longer than 0.1 s"):
        detached(lost(10_000, ConnectionLost("c01-n01: broke"), ""), "yum", timeout=0.1)


@pytest.mark.sshd
def test_a_job_outlives_its_connection_and_its_server(tmp_path, gate):
    """A real sshd: the connection's process is killed in mid-job, then the server goes and comes back."""
    try:
        server = sshd.start(tmp_path)
    except sshd.SshdMissingError as missing:
        pytest.skip(str(missing))
    ssh = Ssh(sshconfig.settings("127.0.0.1", server.user, None, server.port, server.extras()))
    try:
        thread = Thread(detached, ssh, gate.script, timeout=30)
        gate.wait()
        for pid in server.children():
            os.kill(pid, signal.SIGKILL)
        server.restart()
        gate.open()
        result = thread.end()
        assert (result.exit_status, result.stdout, result.stderr) == (0, "begun\nlet through\n", "done\n")
        assert gate.times == 1
    finally:
        ssh.close()
        server.stop()
