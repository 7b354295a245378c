"""Waiting until RabbitMQ's queues are empty."""

import time

import pytest

from tasks import rabbitmq
from tasks.errors import CommandFailed, Refused
from tests.support.scripted import Bash, reply, task_on, told


class Broker(Bash):
    """A bash with a stand-in for `rabbitmqctl`: a file a vhost, as `list_queues` prints it.

    It reads all of its standard input, as programs do that are started by su or runuser.
    """

    def __init__(self, folder):
        super().__init__(folder / "bin")
        self.vhosts = folder / "vhosts"
        self.vhosts.mkdir()
        self.program(
            "rabbitmqctl",
            f"""cat >/dev/null
[ "$1" = -q ] || exit 64
cd {self.vhosts}
case "$2" in
  list_vhosts) for name in *; do echo "${{name//=//}}"; done;;
  list_queues) [ "$3" = -p ] && [ "$5 $6" = "name messages" ] || exit 64
    file=${{4//\\//=}}; echo "$4" >> ../asked
    grep -q broken "$file" && {{ echo "Error: unable to connect to node" >&2; exit 2; }}; cat "$file";;
esac""",
        )

    def has(self, vhost, *lines):
        (self.vhosts / vhost.replace("/", "=")).write_text("".join(f"{line}\n" for line in lines))

    @property
    def asked(self):
        return (self.vhosts.parent / "asked").read_text().splitlines()


@pytest.fixture
def broker(tmp_path, monkeypatch):
    monkeypatch.setattr(rabbitmq, "ASK_EVERY_S", 0.02)
    return Broker(tmp_path)


def wait(broker, timeout_s=0.0, accept_stuck=False):
    return reply(broker, rabbitmq.wait_until_empty, timeout_s=timeout_s, accept_stuck=accept_stuck)


def test_empty_queues_end_the_wait_at_once(broker):
    broker.has("/", "compute\t0", "scheduler\t0")
    broker.has("nova")
    assert wait(broker, 60) == "ok: all queues are empty"
    assert broker.asked == ["/", "nova"]


def test_every_vhost_is_looked_into(broker):
    """The message is in the last one."""
    broker.has("/", "compute\t0")
    broker.has("cinder", "volume\t0")
    broker.has("nova", "conductor\t7")
    with pytest.raises(Refused, match=r"after 0 s: conductor \(7 messages, vhost nova\); see who consumes them"):
        wait(broker)


def test_what_is_stuck_is_listed_with_its_whole_name(broker):
    """Names may have blanks; a newer RabbitMQ prints heads."""
    broker.has("/", "name\tmessages", "compute c01-n01 reply\t12", "conductor\t0", "notifications.info\t3000000")
    broker.has("name", "name\tmessages", "lost\t1")  # the head of list_vhosts, not a vhost
    with pytest.raises(Refused) as refused:
        wait(broker)
    assert str(refused.value) == (
        "queues not empty after 0 s: compute c01-n01 reply (12 messages, vhost /),"
        " notifications.info (3000000 messages, vhost /); see who consumes them"
    )


def test_what_is_stuck_is_accepted_where_the_site_says_so(broker):
    broker.has("/", "notifications.info\t12")
    assert wait(broker, accept_stuck=True) == "ok: not empty: notifications.info (12 messages, vhost /)"


def test_the_wait_goes_on_until_they_are_empty(broker):
    broker.has("/", "compute\t2")
    asked = broker.answer

    def consume(command, stdin, timeout):
        if len(broker.sent) == 3:
            broker.has("/", "compute\t0")
        return asked(command, stdin, timeout)

    broker.answer = consume
    assert wait(broker, 60) == "ok: all queues are empty"
    assert len(broker.sent) == 3


@pytest.mark.parametrize("accept_stuck", [False, True])
def test_the_wait_is_bounded(broker, accept_stuck):
    broker.has("/", "compute\t2")
    began = time.monotonic()
    if accept_stuck:
        assert wait(broker, 0.3, accept_stuck).startswith("ok: not empty: compute")
    else:
        with pytest.raises(Refused, match="compute"):
            wait(broker, 0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert len(broker.sent) > 1


def test_a_dry_run_looks_once(broker):
    broker.has("/", "compute\t2")
    task = task_on(broker, dry_run=True)
    assert told(rabbitmq.wait_until_empty(task, timeout_s=60, accept_stuck=False)).startswith("ok: not empty: compute")
    assert len(broker.sent) == 1


def test_a_broker_that_does_not_answer_is_never_taken_for_empty(broker):
    broker.has("/", "broken")
    broker.has("nova")
    with pytest.raises(CommandFailed, match="rabbitmqctl list_queues: exit status 1: Error: unable to connect to node"):
        wait(broker)
    broker.program("rabbitmqctl", "exit 69")
    with pytest.raises(CommandFailed, match="rabbitmqctl list_queues: exit status 69"):
        wait(broker)
