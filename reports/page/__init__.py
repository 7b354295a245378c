"""The report as one HTML page: no script, nothing from elsewhere, light and dark, printable.

The page is a template (`page.html.j2`, with `style.css` put into it) that is given what `reports.judgement`,
`reports.folding` and `timeline` make of the tables. jinja2 escapes every text.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from reports.folding import folded
from reports.judgement import HAPPENED, WORDS, by_cell, states, verdict
from reports.page import trends
from reports.page.timeline import clock, span, timeline
from reports.story import Story
from reports.tables import TABLES, about

HERE = Path(__file__).parent
WORST_NODES = 40
"""Groups of nodes that are listed below the map."""
CHANGES = 200
"""Changes that are shown; the CSV has all."""


@cache
def environment() -> jinja2.Environment:
    """The templates, with what they use."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"thousands": lambda number: f"{number:,}", "words": lambda name: name.replace("_", " ")}
    made.globals |= {"style": Markup((HERE / "style.css").read_text(encoding="utf-8")), "state_words": WORDS}  # noqa: S704 - our own file
    return made


def render(tables: Mapping[str, pd.DataFrame], story: Story) -> str:
    """Make the page.

    Args:
        tables: frames of `reports.tables`, by name.
        story: what the report tells beside them.
    """
    found = states(tables, story.nodes, story.silent)
    cells = by_cell(story.nodes, found)
    words, colour = verdict(tables, story.silent)
    shown = [folded(name, frame, story.fold) for name, frame in tables.items()]
    return (
        environment()
        .get_template("page.html.j2")
        .render(
            story=story,
            verdict=words,
            tone=colour,
            cells=cells,
            legend=_legend(cells),
            asked=any(cell.asked for cell in cells),
            troubled=_troubled(cells, story),
            timeline=timeline(story.steps, tables.get("darktime")),
            changes=story.changes,
            shown_changes=story.changes.rows[:CHANGES] if story.changes else (),
            trend=trends.columns(story.trend),
            tables=shown,
            about=about,
            happened=HAPPENED,
            # What is not as it should be is open; whoever looks for the rest opens it.
            opened={each.name for each in shown if each.worst in {"bad", "warn"} and each.name != HAPPENED},
            statuses={name: str(kind.STATUS) for name, kind in TABLES.items()},
            clock=clock,
            span=span,
        )
    )


def _legend(cells: list[Any]) -> dict[str, int]:
    """How many nodes are in which state; those that no node is in are left out."""
    made = {tone: sum(cell.count(tone) for cell in cells) for tone in WORDS}
    return {tone: count for tone, count in made.items() if count}


def _troubled(cells: list[Any], story: Story) -> tuple[list[tuple[str, str, str, int]], int]:
    """Nodes that are not as they should be, with why, folded, the worst first; and how many are left."""
    alike: dict[tuple[str, str], list[str]] = {}
    for cell in cells:
        for name, state in cell.nodes:
            if state.why:
                alike.setdefault((state.tone, "; ".join(state.why)), []).append(name)
    order = list(WORDS)
    rows = sorted(alike.items(), key=lambda item: (order.index(item[0][0]), -len(item[1])))
    made = [(tone, story.fold(names), why, len(names)) for (tone, why), names in rows]
    return made[:WORST_NODES], max(len(made) - WORST_NODES, 0)
