"""A run is killed while it brings the cloud to rest, and given up: what it held is put back, also over another kill."""

import re
from random import Random
from typing import Any

from tests.chaos.side_by_side import side_by_side, told
from tests.chaos.strikes import Strike
from tests.chaos.world import ScriptedCloud, needs_namespaces

KILLED = -9
HELD = ("running", "boot", "puppet", "updates", "alarms", "servers", "packages", "kernel", "guests")
AT_REST = 70  # commands that change a host, until all is at rest


def standing(cloud: ScriptedCloud) -> dict[str, Any]:
    """What holds change on the hosts, and what nothing may have changed yet."""
    found = cloud.snapshot()
    return {name: {what: found[name][what] for what in HELD} for name in cloud.names()}


def given_up(cloud: ScriptedCloud, random: Random) -> str:
    """Killed, lifted (and that killed, too), lifted again, abandoned."""
    before = standing(cloud)
    strike = Strike("command", random.randint(1, AT_REST), random.choice(("before", "after")))
    ends = [cloud.cellstep("run", "nova", "--yes", strike=strike)]
    assert ends[-1].code == KILLED, told(cloud, ends)
    again = Strike("command", random.randint(1, 30), random.choice(("before", "after")))
    ends.append(cloud.cellstep("holds", "lift", "--yes", strike=again))
    while ends[-1].code == KILLED:
        ends.append(cloud.cellstep("holds", "lift", "--yes"))
    said = f"killed {strike}, the lifting {again}"
    assert ends[-1].code == 0, f"{said}\n{told(cloud, ends)}"
    cloud.rest()
    now = standing(cloud)
    wrong = [
        f"{name}: {w}: {now[name][w]}, not {before[name][w]}"
        for name in now
        for w in HELD
        if now[name][w] != before[name][w]
    ]
    assert not wrong, "\n".join([said, *wrong])
    assert not cloud.snapshot()["holds"]
    assert not cloud.breaches()
    ends.append(cloud.cellstep("abandon"))
    accepted = re.search(r"--accept '([^']*)'", ends[-1].said.replace("\n", ""))
    if accepted:  # of nodes whose command was cut off nothing is known: that is accepted by name
        assert accepted[1].endswith("/unknown")
        ends.append(cloud.cellstep("abandon", "--accept", accepted[1]))
    assert ends[-1].code == 0, f"{said}\n{told(cloud, ends)}"
    assert "nothing to resume" in cloud.cellstep("resume", "--yes", expect=0).said
    return f"{said}: all as before, abandoned"


def test_what_a_killed_run_held_is_put_back(seed: int, workers: int) -> None:
    needs_namespaces()

    def trial(number: int):
        return lambda cloud: given_up(cloud, Random(f"{seed} given up {number}"))  # noqa: S311 - no secret

    side_by_side([(f"seed {seed}, given up {number}", trial(number)) for number in range(1, 9)], workers)
