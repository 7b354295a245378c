"""What the preflight's rules are given, and what they give."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cellstep.cloud.load import Cloud
from cellstep.cloud.model import PreflightConfig
from cellstep.cloud.nodes import Node
from tasks.preflight import NodeFacts, Said
from tasks.preflight_script import Questions

NO_GO, WARNING = "no-go", "warning"


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        check: which check found it.
        severity: no-go or warning.
        cause: the words, the same on every node where it is the same.
        detail: what is the node's own, such as a number.
    """

    check: str
    severity: str
    cause: str
    detail: str = ""


@dataclass(frozen=True)
class Case:
    """A node, what it was asked and what it said."""

    cloud: Cloud
    component: str
    node: Node
    questions: Questions
    facts: NodeFacts

    @property
    def limits(self) -> PreflightConfig:
        """The thresholds of cloud.yaml."""
        return self.cloud.config.preflight

    def said(self, name: str) -> Said | None:
        """An answer, None where it was not asked."""
        return self.facts.said.get(name)


Rule = Callable[[Case], Iterator[Finding]]
"""One check."""


def without_name(cloud: Cloud, node: Node, reason: str) -> str:
    """A reason without its node's name and address, so that nodes with the same one become one line."""
    names = "|".join(map(re.escape, {node.name, cloud.inventory.hosts[node.name].hostname or node.name}))
    return re.sub(rf"^({names})( \([^)]*\)| port \d+)?: ", "", reason)
