"""Two operators: the second is refused, or takes over on purpose; then the first changes nothing any more."""

import signal
import time
from random import Random

import pytest

from tests.chaos import world
from tests.chaos.side_by_side import Reference, as_undisturbed, side_by_side, told, undisturbed
from tests.chaos.strikes import Strike
from tests.chaos.world import ScriptedCloud, needs_namespaces


@pytest.fixture(scope="module")
def reference() -> Reference:
    needs_namespaces()
    return undisturbed()


def frozen(cloud: ScriptedCloud, strike: Strike) -> int:
    """Start a run that is stopped by SIGSTOP at its moment; its process id, when it stands still."""
    pid = cloud.start("run", "nova", "--yes", strike=strike)
    cloud.wait_until_frozen(pid)
    return pid


def test_a_second_operator_is_refused_with_the_holders_name(reference: Reference) -> None:
    with world.up() as cloud:
        first = frozen(cloud, Strike("job", 10, "after", deed="freeze"))
        for arguments in (("run", "nova", "--yes"), ("resume", "--yes"), ("holds", "lift", "--yes")):
            refused = cloud.cellstep(*arguments, expect=5)
            assert "run nova by root on" in refused.said
            assert f"pid {first}" in refused.said.replace("\n", " ")
        cloud.signal(first, signal.SIGCONT)
        assert cloud.wait(first).code == 0, told(cloud, [cloud.wait(first)])
        as_undisturbed(cloud, reference)


def taken_over(cloud: ScriptedCloud, strike: Strike, reference: Reference) -> str:
    """The first is frozen, the second takes over and resumes to the end, the first wakes up."""
    first = frozen(cloud, strike)
    cloud.cellstep("lock", "take-over", "--reason", "its terminal is gone", "--yes", expect=0)
    second = cloud.cellstep("resume", "--yes")
    assert second.code == 0, f"{strike}\n{told(cloud, [second])}"
    try:
        as_undisturbed(cloud, reference)
        logs = {name: cloud.did(name) for name in cloud.names()}
        with cloud.journal() as journal:
            run = journal.last_run("nova")
            assert run is not None
            rows = journal.hosts(run.id)
        cloud.signal(first, signal.SIGCONT)
        woken = cloud.wait(first)
        assert woken.code == 5, f"the first ended with {woken.code}: {woken.said[-800:]}"
        assert "taken over" in woken.said.replace("\n", " ")
        as_undisturbed(cloud, reference)
        assert {name: cloud.did(name) for name in cloud.names()} == logs, "the first changed a host after all"
        with cloud.journal() as journal:
            assert journal.hosts(run.id) == rows, "the first wrote to the journal after all"
    except AssertionError as error:
        raise AssertionError(f"{strike}: {error}") from error
    return f"frozen {strike}, taken over, woken up: exit 5, nothing changed"


def test_a_holder_that_was_frozen_and_taken_over_from_changes_nothing_any_more(
    reference: Reference, seed: int, workers: int
) -> None:
    def moment(random: Random) -> Strike:
        point = random.choices(("job", "command", "write"), (3, 2, 1))[0]
        when = random.choice(("before", "after"))
        delay = round(random.uniform(0.0, 0.4), 2) if point != "write" else 0.0
        return Strike(point, random.randint(1, reference.counts[point]), when, delay, "freeze")

    def trial(number: int):
        strike = moment(Random(f"{seed} frozen {number}"))  # noqa: S311 - no secret
        return lambda cloud: taken_over(cloud, strike, reference)

    side_by_side([(f"seed {seed}, frozen {number}", trial(number)) for number in range(1, 9)], workers)


def test_a_holder_that_was_frozen_in_the_middle_of_a_write_can_be_taken_over_from(reference: Reference) -> None:
    with world.up() as cloud:
        strike = Strike("write", reference.counts["write"] // 2, "within", deed="freeze")
        first = frozen(cloud, strike)
        began = time.monotonic()
        said = cloud.cellstep("lock", "take-over", "--reason", "it hangs", "--yes")
        assert time.monotonic() - began < 60
        if said.code != 0:  # its transaction holds the journal: then the way out is said, and is one
            assert f"pid {first}" in said.said.replace("\n", " ")
            cloud.signal(first, signal.SIGKILL)
            cloud.wait(first)
        cloud.cellstep("resume", "--yes", expect=0)
        as_undisturbed(cloud, reference)
