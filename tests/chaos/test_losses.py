"""Connections break, compute nodes fail or vanish: the others finish, and what was missed is caught up with."""

from itertools import zip_longest
from random import Random
from typing import Any

import pytest

from cellstep.stages import runbook_of
from tests.chaos import world
from tests.chaos.side_by_side import Reference, as_undisturbed, same, side_by_side, told, undisturbed
from tests.chaos.strikes import Strike
from tests.chaos.world import Ended, ScriptedCloud, needs_namespaces

FIRST, SECOND = "c01-n01", "c02-n02"
UPDATE = "Update the RPMs on the compute nodes"


@pytest.fixture(scope="module")
def reference() -> Reference:
    needs_namespaces()
    return undisturbed()


@pytest.fixture(scope="module")
def compute_steps() -> list[str]:
    """The steps that go to compute nodes."""
    needs_namespaces()
    with world.up() as cloud:
        steps = runbook_of("nova", cloud.cloud).steps
        return [s.title for s in steps if FIRST in {node.name for node in s.on.choose(cloud.cloud.nodes)}]


def carried_on(cloud: ScriptedCloud, first: Ended) -> list[Ended]:
    """Resumed while it stops, then caught up with while a node is missing; every end."""
    ends = [first]
    while ends[-1].code == 4 and len(ends) < 6:
        ends.append(cloud.cellstep("resume", "--yes"))
    if ends[-1].code == 3:
        ends.append(cloud.cellstep("run", "nova", "--yes", "--catch-up"))
    return ends


def test_a_job_whose_connection_breaks_is_attached_to_again(reference: Reference, seed: int, workers: int) -> None:
    def trial(number: int):
        random = Random(f"{seed} lost jobs {number}")  # noqa: S311 - no secret
        chosen = sorted(random.sample(range(1, reference.counts["job"] + 1), 5))
        lost = {n: round(random.uniform(0.0, 0.4), 2) for n in chosen}

        def run(cloud: ScriptedCloud) -> str:
            ended = cloud.cellstep("run", "nova", "--yes", strike=Strike(lose={"job": lost}))
            assert ended.code == 0, f"{lost}\n{told(cloud, [ended])}"
            as_undisturbed(cloud, reference)
            return f"lost in jobs {lost}: as undisturbed, without a resume"

        return run

    side_by_side([(f"seed {seed}, lost jobs {number}", trial(number)) for number in range(4)], workers)


def test_any_command_whose_connection_breaks_is_asked_for(reference: Reference, seed: int, workers: int) -> None:
    def trial(number: int):
        random = Random(f"{seed} lost commands {number}")  # noqa: S311 - no secret
        lost = {random.randint(1, reference.counts["command"]): round(random.choice((0.0, 0.01, 0.05)), 2)}

        def run(cloud: ScriptedCloud) -> str:
            ends = carried_on(cloud, cloud.cellstep("run", "nova", "--yes", strike=Strike(lose={"command": lost})))
            assert ends[-1].code == 0, f"{lost}\n{told(cloud, ends)}"
            cloud.rest()
            same(cloud, reference, but=("yum download",))
            return f"lost in command {lost}: exits {[ended.code for ended in ends]}, as undisturbed"

        return run

    side_by_side([(f"seed {seed}, lost command {number}", trial(number)) for number in range(6)], workers)


def test_a_compute_node_is_lost_at_each_step_in_turn(
    reference: Reference, compute_steps: list[str], seed: int, workers: int
) -> None:
    def trial(first: str, second: str, ways: tuple[str, str]):
        ailing = {FIRST: [first, ways[0]], SECOND: [second, ways[1]]}

        def run(cloud: ScriptedCloud) -> str:
            ended = cloud.cellstep("run", "nova", "--yes", strike=Strike(ailing=ailing))
            assert ended.code == 3, f"{ailing}\n{told(cloud, [ended])}"
            cloud.rest()
            others = {name: reference.snapshot[name] for name in cloud.names() if name not in ailing}
            same(cloud, Reference(others, {}, 0.0))
            with cloud.journal() as journal:
                quarantined = {host: (row["title"], row["state"]) for host, row in journal.quarantined().items()}
            for host, (title, way) in ailing.items():
                # Unreachable just when a change was to be sent counts as lost on the way.
                assert quarantined.pop(host) in {(title, way), (title, "unknown" if way == "unreachable" else way)}
            assert not quarantined
            caught_up = cloud.cellstep("run", "nova", "--yes", "--catch-up")
            assert caught_up.code == 0, f"{ailing}\n{told(cloud, [ended, caught_up])}"
            cloud.rest()
            same(cloud, reference, but=("yum download",))
            return f"{ways[0]} at “{first}”, {ways[1]} at “{second}”: the others finish, caught up, as undisturbed"

        return run

    # Two steps a run, and which way a node is lost is the other one with the next seed.
    pairs = list(zip_longest(compute_steps[::2], compute_steps[1::2], fillvalue=compute_steps[0]))
    ways = ("failed", "unreachable")
    trials = [
        (f"lost {number}", trial(*pair, ways if (number + seed) % 2 else ways[::-1]))
        for number, pair in enumerate(pairs, 1)
    ]
    side_by_side(trials, workers)


@pytest.mark.parametrize("how", ["failed", "unreachable"])
def test_past_the_budget_nothing_more_is_sent(reference: Reference, how: str) -> None:
    with world.up() as cloud:
        ailing = {FIRST: [UPDATE, how]}
        none = ("--budget", f"{how}=0", "--budget", f"{how}-per-cell=0")
        ended = cloud.cellstep("run", "nova", "--yes", *none, strike=Strike(ailing=ailing), expect=4)
        cloud.rest()
        assert f"{how}-per-cell" in ended.said.replace("\n", "")
        states: dict[str, Any] = {}
        with cloud.journal() as journal:
            run = journal.last_run("nova")
            assert run is not None
            assert journal.steps(run.id)[-1]["title"] == UPDATE
            states = {row["host"]: row["state"] for row in journal.hosts(run.id, UPDATE)}
        assert states == {FIRST: how, "c01-n02": "changed", "c02-n01": "not_run", SECOND: "not_run"}
        for name in ("c02-n01", SECOND):
            assert "yum begins" not in cloud.did(name)
        cloud.cellstep("resume", "--yes", expect=0)
        as_undisturbed(cloud, reference)
