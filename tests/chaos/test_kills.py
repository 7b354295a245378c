"""The controller is killed, and resumed; and what it leaves is what an undisturbed run leaves."""

from random import Random

import pytest

from tests.chaos import world
from tests.chaos.side_by_side import Reference, as_undisturbed, side_by_side, told, undisturbed
from tests.chaos.strikes import Strike
from tests.chaos.world import Ended, ScriptedCloud, needs_namespaces

KILLED = -9
# The journal's call that is the boundary, and which of a resumed controller's is the next one.
BOUNDARIES = (
    ("begin_step", "before", 2),
    ("begin_step", "after", 2),
    ("end_step", "before", 2),
    ("end_step", "after", 1),
)


@pytest.fixture(scope="module")
def reference() -> Reference:
    needs_namespaces()
    return undisturbed()


def relay(cloud: ScriptedCloud, point: str, when: str, following: int, reference: Reference) -> str:
    """Killed at a step's boundary, resumed, killed at the next one, and so on to the end."""
    ended = [cloud.cellstep("run", "nova", "--yes", strike=Strike(point, 1, when))]
    while ended[-1].code == KILLED:
        assert len(ended) <= reference.counts[point] + 1, f"no way onward\n{told(cloud, ended)}"
        ended.append(cloud.cellstep("resume", "--yes", strike=Strike(point, following, when)))
    assert ended[-1].code == 0, told(cloud, ended)
    kills = len(ended) - 1
    assert kills == reference.counts[point], f"{kills} kills at {reference.counts[point]} boundaries"
    as_undisturbed(cloud, reference)
    return f"{kills} kills, one a step: as undisturbed"


def test_killed_at_every_boundary_of_a_step(reference: Reference, workers: int) -> None:
    def trial(point: str, when: str, following: int):
        return lambda cloud: relay(cloud, point, when, following, reference)

    side_by_side([(f"{when} every {point}", trial(point, when, n)) for point, when, n in BOUNDARIES], workers)


def moment(random: Random, reference: Reference, share: float = 1.0) -> Strike:
    """A moment of a run that is left to do by so large a share; jobs oftener than their share of the time."""
    point = random.choices(("job", "write", "command", "seconds"), (4, 3, 2, 1))[0]
    if point == "seconds":
        return Strike(point, round(random.uniform(0.05, reference.seconds * share), 2))
    n = random.randint(1, max(1, round(reference.counts[point] * share)))
    if point == "write":
        return Strike(point, n, random.choice(("before", "within", "after")))
    return Strike(
        point, n, random.choice(("before", "after")), random.choice((0.0, round(random.uniform(0.01, 0.6), 2)))
    )


def struck(cloud: ScriptedCloud, random: Random, reference: Reference) -> str:
    """Killed at a moment, perhaps again in the resume, and resumed to the end."""
    strikes = [moment(random, reference)]
    ended: list[Ended] = [cloud.cellstep("run", "nova", "--yes", strike=strikes[0])]
    while ended[-1].code == KILLED:
        again = moment(random, reference, 0.3) if len(strikes) < 4 and random.random() < 0.5 else None
        strikes += [again] if again else []
        ended.append(cloud.cellstep("resume", "--yes", strike=again))
    said = " and ".join(map(str, strikes))
    assert ended[-1].code == 0, f"{said}\n{told(cloud, ended)}"
    try:
        as_undisturbed(cloud, reference)
    except AssertionError as error:
        raise AssertionError(f"{said}: {error}\n{told(cloud, ended)}") from error
    return f"killed {said}: {len(ended) - 1} kills, as undisturbed"


@pytest.mark.parametrize("n", [1, 2])
def test_killed_while_there_are_guests_of_the_check_out_tests(reference: Reference, n: int) -> None:
    """They have no names but the run's: the next try deletes them."""
    with world.up() as cloud:
        killed = cloud.cellstep("run", "nova", "--yes", strike=Strike("guest", n, "after"))
        assert killed.code == KILLED
        cloud.rest()
        assert cloud.snapshot()["guests of the tests"]
        cloud.cellstep("resume", "--yes", expect=0)
        as_undisturbed(cloud, reference)


def test_killed_at_random_moments(reference: Reference, seed: int, points: int, workers: int) -> None:
    def trial(number: int):
        return lambda cloud: struck(cloud, Random(f"{seed} {number}"), reference)  # noqa: S311 - no secret

    side_by_side([(f"seed {seed}, point {number}", trial(number)) for number in range(1, points + 1)], workers)
