"""The quickest and most telling of tests/chaos: on the scripted cloud, in seconds."""

import signal
from collections.abc import Iterator

import pytest

from tests.chaos import world
from tests.chaos.strikes import Strike
from tests.chaos.world import ScriptedCloud, needs_namespaces

KILLED = -9
# By the kind of node: transactions begun and ended, reboots, dumps.
ONCE = {"api": [1, 1, 1, 0], "infra": [0, 0, 0, 1], "ctl": [1, 1, 1, 1], "n": [2, 2, 0, 0]}


@pytest.fixture
def scripted_cloud() -> Iterator[ScriptedCloud]:
    needs_namespaces()
    with world.up() as cloud:
        yield cloud


def each_once(cloud: ScriptedCloud) -> None:
    """Every transaction, sync, dump and reboot was done once, nothing is held, every node is accounted for."""
    cloud.rest()
    cloud.check_accounting()
    found = cloud.snapshot()
    assert not found["breaches"]
    assert not found["holds"]
    assert not found["guests of the tests"]
    assert found["schemas"] == dict.fromkeys(("top", "cell01", "cell02"), "216")
    for name in cloud.names():
        kind = name.split("-")[1].rstrip("0123456789")
        counters = found[name]["counters"]
        done = [counters.get(what, 0) for what in ("yum begins", "yum transaction", "reboot", "dump nova")]
        assert (name, done) == (name, ONCE[kind])
        assert not [what for what in counters if what.startswith(("CLASH", "CRASH"))]
    assert [cloud.counters(name).get("db sync", 0) for name in ("top-api01", "c01-ctl01", "c02-ctl01")] == [1, 1, 1]


def test_killed_in_the_middle_of_updates_a_sync_and_a_check_out_test(scripted_cloud: ScriptedCloud) -> None:
    """Jobs go on without their controller and are not started twice, guests are not left behind; five kills."""
    cloud = scripted_cloud
    ended = cloud.cellstep("run", "nova", "--yes", strike=Strike("job", 12, "after", 0.1))  # the first update
    for n, when in ((2, "after"), (3, "before"), (4, "after")):
        assert ended.code == KILLED, ended.said[-2000:]
        ended = cloud.cellstep("resume", "--yes", strike=Strike("job", n, when, 0.05))
    assert ended.code == KILLED, ended.said[-2000:]
    ended = cloud.cellstep("resume", "--yes", strike=Strike("guest", 2, "after"))  # in the check-out tests
    assert ended.code == KILLED, ended.said[-2000:]
    ended = cloud.cellstep("resume", "--yes")
    assert ended.code == 0, ended.said[-2000:]
    each_once(cloud)


def test_a_frozen_holder_that_was_taken_over_from_changes_nothing_any_more(scripted_cloud: ScriptedCloud) -> None:
    cloud = scripted_cloud
    first = cloud.start("run", "nova", "--yes", strike=Strike("job", 14, "after", deed="freeze"))
    cloud.wait_until_frozen(first)
    refused = cloud.cellstep("resume", "--yes", expect=5)
    assert f"pid {first}" in refused.said.replace("\n", " ")
    cloud.cellstep("lock", "take-over", "--reason", "it hangs", "--yes", expect=0)
    cloud.cellstep("resume", "--yes", expect=0)
    each_once(cloud)
    logs = {name: cloud.did(name) for name in cloud.names()}
    cloud.signal(first, signal.SIGCONT)
    assert cloud.wait(first).code == 5
    assert {name: cloud.did(name) for name in cloud.names()} == logs
    each_once(cloud)
