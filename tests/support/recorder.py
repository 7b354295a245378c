"""Stands for the display of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cellstep.engine.dispatch import Outcome
from cellstep.engine.steps import Step


@dataclass
class Recorder:
    """Stands for the display: remembers what was shown."""

    ended: list[tuple[str, dict[str, int], str]] = field(default_factory=list)
    findings: list[Any] = field(default_factory=list)
    heard: list[tuple[str, str]] = field(default_factory=list)

    def step_begins(self, number: int, total: int, step: Step, nodes: Any) -> None: ...

    def node_ended(self, step: Step, node: str, outcome: Outcome) -> None: ...

    def step_ended(self, step: Step, counts: Mapping[str, int], seconds: float, note: str) -> None:
        assert seconds >= 0
        self.ended.append((step.title, dict(counts), note))

    def told(self, node: str, text: str) -> None:
        self.heard.append((node, text))

    def found(self, finding: Any) -> None:
        self.findings.append(finding)
