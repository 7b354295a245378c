"""The run as the operator sees it: a line a step when it ended, and what runs now below it."""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.engine.dispatch import Outcome
from cellstep.engine.steps import Finding, Step
from cellstep.folding import groups_of, names, shown

COLOURS = {
    "ok": "green",
    "changed": "yellow",
    "skipped": "dim",
    "failed": "bold red",
    "unreachable": "red",
    "unknown": "bold red",
    "not_run": "magenta",
    "quarantined": "red",
}
TROUBLE = ("failed", "unknown", "unreachable")
CELLS_SHOWN = 12
TELL_EVERY_S = 10
"""Where it is no terminal, a long step says so often how far it is."""

REFRESH_PER_SECOND = 4  # more costs seconds of CPU on thousands of nodes


class RunDisplay:
    """Shows a run on a console; plain lines where it is not a terminal.

    Args:
        cloud: the cloud, for folding names.
        console: where to.
        dry_run: the words are those of a rehearsal.
    """

    def __init__(self, cloud: Cloud, console: Console, *, dry_run: bool = False) -> None:
        self.cloud, self.console, self.dry_run = cloud, console, dry_run
        self._live: Live | None = None
        self._notice = ""
        self._step: tuple[int, int, Step] | None = None
        self._cell_of = {node.name: node.cell for node in cloud.nodes}
        self._expected: Counter[str] = Counter()
        self._ended: Counter[str] = Counter()
        self._troubled: list[tuple[str, str, str]] = []
        self._findings: list[Finding] = []
        self._began = self._told = time.monotonic()

    @contextlib.contextmanager
    def showing(self) -> Iterator[None]:
        """Keep the lower part of the terminal for what runs now; it is left as it was, however this ends."""
        if not self.console.is_terminal:
            yield
            return
        with Live(self, console=self.console, refresh_per_second=REFRESH_PER_SECOND, transient=True) as self._live:
            yield
        self._live = None

    def pause(self) -> None:
        """Stop drawing, for a question."""
        if self._live:
            self._live.stop()

    def notice(self, text: str) -> None:
        """Say something from a signal's handler, where a print fails if it interrupts another one."""
        if self._live:
            self._notice = text  # the next refresh, by a thread of its own, shows it
        else:
            os.write(2, f"{text}\n".encode())

    def proceed(self) -> None:
        """Draw again."""
        if self._live:
            self._live.start()

    # What the engine calls

    def step_begins(self, number: int, total: int, step: Step, nodes: Sequence[Node]) -> None:
        """A step begins."""
        if step.section:
            self.console.print(f"\n[bold]{escape(step.section)}[/bold]", highlight=False)
        self._step = (number, total, step)
        self._expected = Counter(node.cell for node in nodes)
        self._ended = Counter()
        self._troubled, self._findings = [], []
        self._began = self._told = time.monotonic()
        if self._live:
            self._live.refresh()

    def node_ended(self, step: Step, node: str, outcome: Outcome) -> None:
        """A node's outcome came in."""
        self._ended[self._cell_of[node]] += 1
        if not self.console.is_terminal and time.monotonic() - self._told > TELL_EVERY_S:
            self._told = time.monotonic()
            done, nodes = self._ended.total(), self._expected.total()
            self.console.print(
                f"   {step.title}: {done} of {nodes} nodes, {self._told - self._began:.0f} s", style="dim"
            )
        if outcome.state in TROUBLE or (self.dry_run and outcome.detail):
            self._troubled.append((outcome.state, outcome.detail, node))

    def step_ended(self, step: Step, counts: Mapping[str, int], seconds: float, note: str) -> None:
        """One line with the accounting, then what went wrong, equal messages folded under their nodes."""
        number, total, _ = self._step or (0, 0, step)
        self._step = None
        bad = any(counts.get(state) for state in TROUBLE)
        mark, colour = ("✗", "bold red") if note and counts else ("!", "red") if bad else ("✓", "green")
        if not counts:
            mark, colour = "·", "dim"
        line = Text.assemble((f"{mark} ", colour), (f"{number:>2}/{total} ", "dim"), step.title)
        line.append("  (site)" if step.site else "", "dim")
        self.console.print(line)
        self.console.print(Text("        ").append_text(self._account(counts, seconds, note)))
        self._print_troubled()
        for finding in self._findings:
            self._print_finding(finding)

    def _print_troubled(self) -> None:
        """What came of nodes, those with the same message in one line."""
        groups, rest = shown(groups_of(self.cloud, self._troubled))
        for group in groups:
            word = (self._word(group.kind), COLOURS[group.kind])
            said = f" {names(self.cloud, group.nodes)}: {group.text}"
            self.console.print(Text.assemble("        ", word, said))
        if rest:
            self.console.print(Text(f"        {rest}", style="dim"))

    def found(self, finding: Finding) -> None:
        """A finding of a gate, shown below its step's line; in a dry run it is what is so before the steps above."""
        self._findings.append(finding)

    def told(self, node: str, text: str) -> None:
        """A line of a node's task, at once."""
        self.console.print(Text(f"        {node}: {text}"))

    def _print_finding(self, finding: Finding) -> None:
        mark, colour = ("blocks", "bold red") if finding.blocking else ("finding", "yellow")
        if finding.note:
            mark, colour = "note", "dim"
        elif self.dry_run:
            mark, colour = "now", "dim"
        self.console.print(Text.assemble("        ", (f"{mark}: ", colour), finding.text))

    def _account(self, counts: Mapping[str, int], seconds: float, note: str) -> Text:
        if not counts:
            return Text(note or "no nodes", style="dim")
        text = Text(f"{sum(counts.values())} = ", style="dim")
        for n, (state, count) in enumerate(counts.items()):
            text.append(" + " if n else "", "dim").append(f"{count} {self._word(state)}", COLOURS[state])
        return text.append(f"  {seconds:.1f} s", "dim")

    def _word(self, state: str) -> str:
        return "would change" if self.dry_run and state == "changed" else state.replace("_", " ")

    # What runs now

    def __rich__(self) -> Table:
        """The lower part: the overall bar, the step, and the cells that it is busy in."""
        table = Table.grid(padding=(0, 1))
        if self._step is None:
            return table
        number, total, step = self._step
        elapsed = time.monotonic() - self._began
        table.add_row(ProgressBar(total=total, completed=number - 1, width=24), Text(f"step {number} of {total}"))
        table.add_row(Text(f"{elapsed:>6.0f} s", style="cyan"), Text(step.title, style="bold"))
        busy = [(cell, self._ended[cell], count) for cell, count in self._expected.items() if self._ended[cell] < count]
        for cell, ended, count in busy[:CELLS_SHOWN]:
            table.add_row(ProgressBar(total=count, completed=ended, width=24), Text(f"{cell}  {ended} of {count}"))
        if len(busy) > CELLS_SHOWN:
            table.add_row("", Text(f"and {len(busy) - CELLS_SHOWN} more cells", style="dim"))
        if self._notice:
            table.add_row("", Text(self._notice, style="bold yellow"))
        return table
