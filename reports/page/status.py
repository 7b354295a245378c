"""The page that says how far a run is: rewritten while it goes on, and loaded again by the browser by itself."""

from collections import Counter
from dataclasses import dataclass, field

import pandas as pd

from reports.page import environment
from reports.page.timeline import clock, span, timeline
from reports.story import Bar

REFRESH_S = 10
"""So often the browser loads the page again, seconds."""

TROUBLES = 40
"""Groups of nodes that are listed."""

TONES = {
    "ok": "good",
    "changed": "good",
    "skipped": "good",
    "busy": "busy",
    "not_run": "none",
    "failed": "bad",
    "unknown": "bad",
    "unreachable": "silent",
    "quarantined": "silent",
}
"""The colour of a node's state in a step; `busy` is one that is being worked on."""

WORDS = {
    "good": "done",
    "busy": "being worked on",
    "none": "waiting",
    "bad": "failed or not known",
    "silent": "unreachable or in quarantine",
}


@dataclass(frozen=True)
class CellStatus:
    """A cell in the step that is under way: its nodes, each with its state in that step (the keys of `TONES`)."""

    name: str
    states: tuple[tuple[str, str], ...]

    @property
    def ended(self) -> int:
        """How many have ended, well or not."""
        return sum(state not in {"busy", "not_run"} for _, state in self.states)

    @property
    def nodes(self) -> list[tuple[str, str, str]]:
        """Name, colour and words of each."""
        return [
            (name, TONES[state], "being worked on" if state == "busy" else state.replace("_", " "))
            for name, state in self.states
        ]


@dataclass(frozen=True)
class Trouble:
    """Nodes that said the same; `state` is failed or unreachable, `nodes` their folded names."""

    state: str
    step: str
    nodes: str
    count: int
    text: str

    @property
    def tone(self) -> str:
        """Its colour."""
        return TONES[self.state]


@dataclass(frozen=True)
class Status:
    """How a run is.

    Attributes:
        title: the headline.
        words: how it stands, one sentence.
        tone: good, busy, warn or bad: the colour of that.
        facts: times, rates and so on, in this order.
        share: of the steps that are done, 0 to 1.
        stages: name, words and colour of each stage.
        step: the title above the map.
        cells: the step's nodes by cell.
        troubles: the newest first.
        waiting: further lines below them: nodes in quarantine, what is held.
        steps: those that have begun.
        dark: the table `darktime`, where there is one.
        to_come: titles of the steps that have not begun.
    """

    title: str
    words: str
    tone: str
    facts: dict[str, str]
    share: float
    stages: tuple[tuple[str, str, str], ...] = ()
    step: str = ""
    cells: tuple[CellStatus, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    waiting: tuple[str, ...] = ()
    steps: tuple[Bar, ...] = ()
    dark: pd.DataFrame | None = field(default=None, compare=False)
    to_come: tuple[str, ...] = ()

    @property
    def begun(self) -> int:
        """How many steps have begun."""
        return len(self.steps)

    @property
    def legend(self) -> list[tuple[str, int, str]]:
        """Colour, number of nodes and words, of the colours that there are."""
        count = Counter(TONES[state] for cell in self.cells for _, state in cell.states)
        return [(tone, count[tone], words) for tone, words in WORDS.items() if count[tone]]

    @property
    def listed(self) -> tuple[Trouble, ...]:
        """Those that are listed."""
        return self.troubles[:TROUBLES]

    @property
    def hidden(self) -> int:
        """Groups of nodes that are not listed."""
        return max(len(self.troubles) - TROUBLES, 0)


def render(status: Status) -> str:
    """Make the page."""
    shown = timeline(status.steps, status.dark)
    return (
        environment()
        .get_template("status.html.j2")
        .render(
            story=status,
            verdict=status.words,
            tone=status.tone,
            refresh_s=REFRESH_S,
            timeline=shown,
            clock=clock,
            span=span,
        )
    )
