"""A back-out's rest, and the repository that is moved back."""

import subprocess

import pytest

from tasks import backout
from tasks.errors import CommandFailed, Refused
from tests.support.scripted import Bash, Scripted, reply, said, task_on, told

SYNC = "nova-manage db sync"
LISTED = "repo id   repo name\ngrizzly   OpenStack grizzly\n"
HAVANA = LISTED + "havana    OpenStack havana\n"


def test_what_still_runs_is_waited_for(monkeypatch):
    monkeypatch.setattr(backout, "ASK_EVERY_S", 0.01)
    node = Scripted({"pgrep": ["12 yum\n", "12 yum\n", ""]})
    assert reply(node, backout.wait_until_idle, sync=SYNC) == "ok: nothing of the upgrade runs"
    assert len(node.sent_with("pgrep")) == 3


def test_what_never_ends_is_refused(monkeypatch):
    monkeypatch.setattr(backout, "ASK_EVERY_S", 0.01)
    monkeypatch.setattr(backout, "IDLE_TIMEOUT_S", 0.05)
    with pytest.raises(Refused, match=r"still running after 0 s: 7 nova-manage db sync; see what it waits for"):
        reply(Scripted({"pgrep": "7 nova-manage db sync\n"}), backout.wait_until_idle, sync=SYNC)


def test_a_dry_run_says_what_runs_and_does_not_wait():
    task = task_on(Scripted({"pgrep": "7 yum\n"}), dry_run=True)
    assert told(backout.wait_until_idle(task, sync=SYNC)) == "ok: runs: 7 yum"


def test_a_real_process_is_seen_and_the_look_does_not_see_itself(tmp_path, monkeypatch):
    """With a command of the test's own, since others may run here."""
    monkeypatch.setattr(backout, "IDLE_TIMEOUT_S", 0)
    command = f"sleep-{tmp_path.name} db sync"
    bash = Bash(tmp_path / "bin")
    bash.program("pgrep", 'case "$*" in *yum*|*mysqldump*) exit 1;; esac; exec /usr/bin/pgrep "$@"')
    assert reply(bash, backout.wait_until_idle, sync=command) == "ok: nothing of the upgrade runs"
    with subprocess.Popen(["bash", "-c", "read -r", *command.split()], stdin=subprocess.PIPE) as running:
        with pytest.raises(Refused, match=f"still running after 0 s: {running.pid} "):
            reply(bash, backout.wait_until_idle, sync=command)
        running.communicate(b"\n", timeout=10)


def test_where_the_cloud_is_at_rest_nothing_is_waited_for():
    wait = {"rested": True, "timeout_s": 1, "accept_stuck": False}
    at_rest = "skipped: at rest since the dumps were made"
    assert reply(Scripted({}), backout.wait_for_tasks, database="nova", **wait) == at_rest
    assert reply(Scripted({}), backout.wait_until_empty, service="rabbitmq-server", **wait) == at_rest


@pytest.mark.parametrize(
    ("status", "answer"), [(3, "skipped: rabbitmq-server does not run"), (0, "ok: all queues are empty")]
)
def test_the_queues_of_a_rabbitmq_that_runs_are_waited_for(status, answer):
    node = Scripted([("chkconfig", f"rabbitmq-server {status} on\n"), ("list_queues", "")])
    wait = {"rested": False, "service": "rabbitmq-server", "timeout_s": 1, "accept_stuck": False}
    assert reply(node, backout.wait_until_empty, **wait) == answer


def move(promoted, *, command="undo", asks="is-promoted", dry_run=False):
    node = Scripted([("is-promoted", [said(status=0 if yes else 1) for yes in promoted]), ("undo", "")])
    try:
        return told(backout.move_back(task_on(node, dry_run=dry_run), command=command, promoted=asks))
    finally:
        move.sent = node.sent_with("undo")


def test_the_repository_is_moved_back_and_asked_for_again():
    assert move([True, False]) == "changed: ran: undo"


def test_a_repository_that_is_not_promoted_is_left_alone():
    assert move([False]) == move([False], command="") == "skipped: not promoted"
    assert move.sent == []


def test_a_command_that_moves_nothing_is_refused():
    with pytest.raises(Refused, match="`undo` ended well, and the repository is promoted still"):
        move([True, True])


def test_without_a_command_the_operator_is_asked_to_do_it():
    with pytest.raises(Refused, match=r"no repository.promote.undo: move it back by hand"):
        move([True], command="")
    assert move([True], command="", dry_run=True).endswith("must be moved back by hand")


def test_where_nothing_can_be_asked_the_nodes_will_tell():
    assert move([], asks="") == "changed: ran: undo"
    assert move([], asks="", command="").startswith("ok: cloud.yaml has no repository.promote.undo")


def test_a_dry_run_moves_nothing():
    assert move([True], dry_run=True) == "changed: ran: undo"
    assert move.sent == []


def lose(*listed, ended="", dry_run=False):
    node = Scripted([("repolist", list(listed)), ("puppet-run", ended)])
    try:
        task = task_on(node, dry_run=dry_run)
        return told(backout.lose_repository(task, repository="havana", run="puppet-run"))
    finally:
        lose.sent = node.sent_with("puppet-run")


def test_a_node_without_the_repository_needs_no_puppet_run():
    assert lose(LISTED) == "ok: has no repository havana"
    assert lose.sent == []


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_forced_run_takes_the_repository_away(status):
    """That the run failed elsewhere is no matter here."""
    assert lose(HAVANA, LISTED, ended=said("", status)) == "changed: lost the repository havana by a forced Puppet run"


def test_a_repository_that_stays_is_refused():
    with pytest.raises(Refused, match="`yum repolist` still lists havana after a Puppet run"):
        lose(HAVANA, HAVANA)
    with pytest.raises(CommandFailed, match="the forced Puppet run: exit status 1: administratively disabled"):
        lose(HAVANA, HAVANA, ended=said("", 1, "administratively disabled"))


def test_a_dry_run_runs_no_puppet():
    assert lose(HAVANA, dry_run=True) == "changed: has the repository havana: would run Puppet once"
    assert lose.sent == []


def test_a_dry_run_does_not_ask_services_that_are_down():
    task = task_on(Scripted({}), dry_run=True)
    answer = backout.cells_answer(task, environment="", services="nova service-list", expected={"api!cell01": ["n"]})
    assert told(answer) == "ok: would ask for the services of api!cell01"
