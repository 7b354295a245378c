"""How the fleet stood in earlier audits: a column each."""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.judgement import STATES
from reports.story import Trend

SHOWN = 60
"""Columns: the newest."""


@dataclass(frozen=True)
class Column:
    """An audit: its time, its parts from the bottom (state, per cent of the nodes asked), and all of it in words."""

    at: str
    parts: tuple[tuple[str, float], ...]
    words: str


def columns(trend: Sequence[Trend]) -> list[Column]:
    """The newest audits, oldest first; none where there is but one."""
    if len(trend) < 2:
        return []
    made = []
    for each in trend[-SHOWN:]:
        tones = {tone: each.tones.get(tone, 0) for tone in STATES if tone != "none"}
        asked = sum(tones.values()) or 1
        parts = tuple((tone, round(count / asked * 100, 2)) for tone, count in tones.items() if count)
        made.append(Column(each.at, parts, ", ".join(f"{count:,} {tone}" for tone, count in tones.items() if count)))
    return made
