"""The controller's disk fills up: it stops before it does what it cannot journal."""

from random import Random

import pytest

from tests.chaos.side_by_side import Reference, as_undisturbed, side_by_side, told, undisturbed
from tests.chaos.strikes import Strike
from tests.chaos.world import ScriptedCloud, needs_namespaces


@pytest.fixture(scope="module")
def reference() -> Reference:
    needs_namespaces()
    return undisturbed()


def filled(cloud: ScriptedCloud, strike: Strike, reference: Reference) -> str:
    """The disk fills up in mid-run; there is room again; the run goes on."""
    cloud.small_disk("8m")
    ended = cloud.cellstep("run", "nova", "--yes", strike=strike)
    cloud.rest()
    try:
        if ended.code == 0:  # so late that what the journal's file had left was enough
            as_undisturbed(cloud, reference)
            return f"disk full {strike}: nothing more needed room"
        assert ended.code == 4, told(cloud, [ended])
        assert "cannot be used" in ended.said
        assert "cellstep resume" in ended.said.replace("\n", " ")
        assert not cloud.breaches()
        done = {name: cloud.did(name) for name in cloud.names()}
        refused = cloud.cellstep("resume", "--yes")
        assert refused.code == 4, told(cloud, [ended, refused])
        cloud.rest()
        assert {name: cloud.did(name) for name in cloud.names()} == done, (
            "a host was changed by a resume on a full disk"
        )
        cloud.cellstep("status", expect=0)
        (cloud.state / "filling").unlink()
        resumed = cloud.cellstep("resume", "--yes")
        assert resumed.code == 0, told(cloud, [ended, resumed])
        as_undisturbed(cloud, reference)
    except AssertionError as error:
        raise AssertionError(f"{strike}: {error}") from error
    return f"disk full {strike}: exit 4, nothing sent, room again, as undisturbed"


def test_on_a_full_disk_nothing_is_done_that_cannot_be_journalled(
    reference: Reference, seed: int, workers: int
) -> None:
    def trial(number: int):
        random = Random(f"{seed} disk {number}")  # noqa: S311 - no secret
        strike = Strike("write", random.randint(3, reference.counts["write"] - 5), deed="fill")
        return lambda cloud: filled(cloud, strike, reference)

    side_by_side([(f"seed {seed}, disk {number}", trial(number)) for number in range(1, 7)], workers)
