"""Trials side by side, each on a scripted cloud of its own, each with a line when it has ended."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.chaos import world
from tests.chaos.world import Ended, ScriptedCloud


@dataclass(frozen=True)
class Reference:
    """An undisturbed run: what it left, how much of what it did, and how long it took in seconds."""

    snapshot: dict[str, Any]
    counts: dict[str, int]
    seconds: float


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"\n{line}")
    sys.stdout.flush()


def undisturbed() -> Reference:
    """Run the stage once on a cloud of its own."""
    with world.up() as cloud:
        began = time.monotonic()
        ended = cloud.cellstep("run", "nova", "--yes", expect=0)
        seconds = time.monotonic() - began
        cloud.rest()
        cloud.check_accounting()
        reference = Reference(cloud.snapshot(), ended.counts, seconds)
    assert reference.snapshot["holds"] == {}
    assert not reference.snapshot["breaches"]
    say(f"undisturbed: {seconds:.1f} s, {ended.counts}")
    return reference


def as_undisturbed(cloud: ScriptedCloud, reference: Reference) -> None:
    """Nothing runs any more, everything is as after an undisturbed run, and everything is accounted for."""
    cloud.rest()
    same(cloud, reference)
    cloud.check_accounting()


def same(cloud: ScriptedCloud, reference: Reference, but: Sequence[str] = ()) -> None:
    """Everything that the reference has is so here, except how often these things were done."""
    found, wanted_ = (_without(snapshot, but) for snapshot in (cloud.snapshot(), reference.snapshot))
    wrong = {name: (found[name], wanted) for name, wanted in wanted_.items() if found[name] != wanted}
    lines = [line for name, (has, wanted) in wrong.items() for line in _differences(name, has, wanted)]
    assert not lines, "\n".join(["not as after an undisturbed run:", *lines])


def _without(snapshot: Mapping[str, Any], but: Sequence[str]) -> dict[str, Any]:
    def less(value: Any) -> Any:
        if isinstance(value, dict) and "counters" in value:
            return {**value, "counters": {name: n for name, n in value["counters"].items() if name not in but}}
        return value

    return {name: less(value) for name, value in snapshot.items()}


def _differences(name: str, has: Any, wanted: Any) -> list[str]:
    if isinstance(has, dict) and isinstance(wanted, dict):
        keys = sorted(has.keys() | wanted.keys())
        return [
            line
            for key in keys
            if has.get(key) != wanted.get(key)
            for line in _differences(f"{name}: {key}", has.get(key), wanted.get(key))
        ]
    return [f"{name}: {has!r}, not {wanted!r}"]


def told(cloud: ScriptedCloud, all_: Iterable[Ended]) -> str:
    """What the controllers said last, for a failure, and what was done to the hosts."""
    ends = [f"--- exit {ended.code}\n{ended.said[-700:]}" for ended in all_]
    return "\n".join([*ends[-3:], *(f"{name}: {cloud.did(name)[-6:]}" for name in cloud.names())])


def side_by_side(trials: Iterable[tuple[str, Callable[[ScriptedCloud], str]]], workers: int) -> None:
    """Carry trials out, and fail with all that went wrong.

    Args:
        trials: a name, and what is done on a new cloud; it returns a line, or fails.
        workers: how many at once.
    """

    def one(name: str, trial: Callable[[ScriptedCloud], str]) -> str:
        began = time.monotonic()
        try:
            with world.up() as cloud:
                said = trial(cloud)
        except (AssertionError, OSError) as error:
            say(f"{name}: WRONG")
            return f"{name}: {error or type(error).__name__}"
        say(f"{name}: {said} ({time.monotonic() - began:.1f} s)")
        return ""

    with ThreadPoolExecutor(workers) as pool:
        wrong = [line for line in pool.map(lambda trial: one(*trial), trials) if line]
    if wrong:
        pytest.fail("\n\n".join(wrong))
