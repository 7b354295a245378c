"""The dispatcher over Nornir's own machinery, with tasks that contact nobody."""

from collections import Counter

import pytest
from nornir.core.task import Result, Task

from cellstep.engine import dispatch
from cellstep.engine.dispatch import Dispatcher, Errand
from plugins.connections.errors import CommandTimeout, ConnectionLost, Unreachable
from tasks import peers
from tasks.binding import Binding
from tasks.errors import Refused
from tasks.holds import changed, skipped, unchanged
from tasks.shell import change, sh
from tests.support.scripted import Scripted, said


class Connected:
    """Stands for Nornir's plugin: a connection that is open."""

    def __init__(self, connection):
        self.connection = connection

    def close(self): ...


def by_role(task: Task, *, what: str) -> Result:
    if what == "raise":
        raise Refused("not so")
    if what == "skip":
        return skipped(task, "nothing to do")
    return changed(task, "did it") if what == "change" else unchanged(task, {"a": 1})


def test_each_node_starts_and_ends_once_even_when_the_dispatcher_is_left(cloud):
    """Leaving the dispatcher closes connections; that must not look like another good outcome of the last step."""
    started, ended = Counter(), Counter()
    what = {node.name: {"what": "raise"} for node in cloud.nodes}
    with Dispatcher(cloud) as dispatcher:
        outcomes = dispatcher.send(
            by_role,
            cloud.nodes,
            what,
            Errand(started=started.update, ended=lambda came: ended.update((host, came[host].state) for host in came)),
        )
    assert started == Counter(node.name for node in cloud.nodes)
    assert ended == Counter((node.name, "failed") for node in cloud.nodes)
    assert {outcome.detail for outcome in outcomes.values()} == {"not so"}


def test_a_node_that_failed_before_is_sent_to_again(cloud):
    """Nornir leaves out hosts that failed in an earlier run; a resumed step must not."""
    node = cloud.nodes[0]
    with Dispatcher(cloud) as dispatcher:
        dispatcher.send(by_role, [node], {node.name: {"what": "raise"}})
        assert dispatcher.send(by_role, [node], {node.name: {"what": "change"}})[node.name].state == "changed"


def test_a_step_on_one_node_can_ask_another(cloud):
    """Nornir's filter leaves the step only its own nodes; the old dashboard, or a replica's master, is another."""
    one, other = cloud.nodes[0], cloud.nodes[-1]
    asked = Scripted({"hostname": other.name})

    def asking(task: Task) -> Result:
        found = peers.host_of(task, other.name)
        found.connections["cellstep_ssh"] = Connected(asked)
        assert peers.host_of(task, one.name) is task.host
        return unchanged(task, peers.connection(task, other.name).run("hostname").stdout)

    with Dispatcher(cloud) as dispatcher:
        assert dispatcher.send(asking, [one], {one.name: {}})[one.name].detail == other.name


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (Unreachable("c01-n01: no answer"), "unreachable"),
        (ConnectionLost("c01-n01: lost"), "unknown"),
        (CommandTimeout("c01-n01: no end after 60 s"), "unknown"),
        (ValueError("what?"), "failed"),
    ],
)
def test_what_was_sent_and_not_answered_is_unknown(cloud, error, state):
    def failing(_task: Task) -> Result:
        raise error

    node = cloud.nodes[0]
    with Dispatcher(cloud) as dispatcher:
        outcome = dispatcher.send(failing, [node], {node.name: {}})[node.name]
    assert outcome.state == state
    assert str(error) in outcome.detail


def test_states_of_good_outcomes(cloud):
    nodes = cloud.nodes[:3]
    kinds = dict(zip((node.name for node in nodes), ("skip", "change", "read"), strict=True))
    with Dispatcher(cloud) as dispatcher:
        outcomes = dispatcher.send(by_role, nodes, {name: {"what": kind} for name, kind in kinds.items()})
    assert [outcomes[node.name].state for node in nodes] == ["skipped", "changed", "ok"]
    assert outcomes[nodes[2].name].result == {"a": 1}


class Lost(Scripted):
    """A node that cannot be reached any more after so many commands; Nornir's connection to it is given."""

    def __init__(self, after):
        super().__init__([("", lambda _: Unreachable("c01-n01: no answer") if len(self.sent) > after else "")])
        self.connection = self


@pytest.mark.parametrize(
    ("after", "state"),
    [(0, "unreachable"), (1, "unreachable"), (2, "unknown"), (3, "ok")],
)
def test_a_node_lost_after_a_change_was_sent_is_unknown(cloud, after, state):
    """Unreachable says that this command was not sent; what was sent before may have been done."""

    def asks_changes_asks(task: Task) -> Result:
        for send in (sh, change, sh):
            send(task, "a command")
        return unchanged(task, "all done")

    node = cloud.nodes[0]
    with Dispatcher(cloud) as dispatcher:
        dispatcher._nornir.inventory.hosts[node.name].connections["cellstep_ssh"] = Lost(after)
        outcome = dispatcher.send(asks_changes_asks, [node], {node.name: {}})[node.name]
    assert outcome.state == state
    assert ("after a change had been sent" in outcome.detail) == (state == "unknown")


def test_a_change_in_one_step_makes_no_later_step_unknown(cloud):
    def changes(task: Task, *, command: str) -> Result:
        (change if command == "change" else sh)(task, command)
        return changed(task, "done")

    node = cloud.nodes[0]
    lost = Lost(1)
    with Dispatcher(cloud) as dispatcher:
        dispatcher._nornir.inventory.hosts[node.name].connections["cellstep_ssh"] = lost
        assert dispatcher.send(changes, [node], {node.name: {"command": "change"}})[node.name].state == "changed"
        assert dispatcher.send(changes, [node], {node.name: {"command": "ask"}})[node.name].state == "unreachable"


def test_a_dry_run_sends_no_change(cloud):
    def changes(task: Task) -> Result:
        change(task, "rm -rf /", what="tidying")
        return changed(task, "done")

    node = cloud.nodes[0]
    untouched = Lost(9)
    with Dispatcher(cloud, dry_run=True) as dispatcher:
        dispatcher._nornir.inventory.hosts[node.name].connections["cellstep_ssh"] = untouched
        outcome = dispatcher.send(changes, [node], {node.name: {}})[node.name]
    assert (outcome.state, outcome.detail) == ("failed", "not sent in a dry run: tidying")
    assert untouched.sent == []


def test_a_command_that_fails_after_a_change_is_failed(cloud):
    """The node answered: what happened is known."""

    def changes(task: Task) -> Result:
        change(task, "yum -y update", what="yum update")
        return changed(task, "done")

    node = cloud.nodes[0]
    failing = Lost(9)
    failing.answer = lambda *_: said("", 1, "No space left")
    with Dispatcher(cloud) as dispatcher:
        dispatcher._nornir.inventory.hosts[node.name].connections["cellstep_ssh"] = failing
        outcome = dispatcher.send(changes, [node], {node.name: {}})[node.name]
    assert (outcome.state, outcome.detail) == ("failed", "yum update: exit status 1: No space left")


LOST = ConnectionLost("c01-n01: the connection broke in mid-command")


class Left(Scripted):
    """A node on which something may be under way; what it answers to that question is given."""

    def __init__(self, *answers):
        super().__init__([("idle ", list(answers)), ("", "")])
        self.connection = self


def refuses(_task: Task) -> Result:
    raise Refused("not so")


def sent_again(cloud, node, task):
    """Send a task to a node whose try before has no known end."""
    name = cloud.nodes[0].name
    with Dispatcher(cloud) as dispatcher:
        dispatcher._nornir.inventory.hosts[name].connections["cellstep_ssh"] = node
        binding = Binding("run", "One", again=True)
        return dispatcher.send(task, cloud.nodes[:1], {name: {}}, Errand(bindings={name: binding}))[name]


@pytest.mark.parametrize(
    "answer", [Unreachable("c01-n01: off"), said("", 211, "cellstep-guard: another command held it for 20 s")]
)
def test_unknown_stays_unknown_until_the_node_has_said_that_nothing_is_under_way(cloud, answer):
    """One that is away at the second look, too, must be asked at the third: not be sent a second db sync."""
    outcome = sent_again(cloud, Left(answer), refuses)
    assert outcome.state == "unknown"
    assert "not known to have ended" in outcome.detail


def does(_task: Task) -> Result:
    return changed(_task, "done")


@pytest.mark.parametrize(
    ("answers", "state"),
    [([LOST, LOST, ""], "changed"), ([LOST, Unreachable("c01-n01: off")], "changed"), ([LOST, LOST, LOST], "unknown")],
)
def test_a_node_that_goes_down_while_it_is_asked_what_is_under_way_is_asked_again(cloud, monkeypatch, answers, state):
    """As one does in the reboot that a dead controller began; asking it changes nothing."""
    monkeypatch.setattr(dispatch, "ASK_EVERY_S", 0.0)
    assert sent_again(cloud, Left(*answers), does).state == state


def test_what_fails_after_the_node_has_said_so_is_failed(cloud):
    assert sent_again(cloud, Left(said("")), refuses).state == "failed"
