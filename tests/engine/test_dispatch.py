"""The dispatcher over Nornir's own machinery, with tasks that contact nobody."""

from collections import Counter

import pytest
from nornir.core.task import Result, Task

from cellstep.engine.dispatch import Dispatcher
from plugins.connections.errors import CommandTimeout, ConnectionLost, Unreachable
from tasks.holds import changed, skipped, unchanged
from tasks.shell import Refused


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
            started=lambda host: started.update([host]),
            ended=lambda host, outcome: ended.update([(host, outcome.state)]),
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
