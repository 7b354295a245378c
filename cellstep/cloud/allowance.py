"""A number of nodes, or a share of them, as budgets are written."""

import math
import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Allowance:
    """A number of nodes, or a share of them.

    Attributes:
        nodes: the number; None where it is a share.
        percent: 0 to 100.
    """

    nodes: int | None = None
    percent: float = 0.0

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read `5` or `2%`.

        Raises:
            ValueError: it is neither.
        """
        found = re.fullmatch(r"(\d{1,6})|(\d{1,3}(?:\.\d{1,3})?) ?%", str(text).strip())
        if found is None or (found[2] and float(found[2]) > 100):
            raise ValueError(f"'{str(text)[:40]}' is no budget; write a number such as 5, or a share such as 2%")
        return cls(nodes=int(found[1])) if found[1] else cls(percent=float(found[2]))

    def of(self, nodes: int) -> int:
        """How many of so many nodes; a share is rounded up, so that a small cell may lose one."""
        return self.nodes if self.nodes is not None else math.ceil(round(nodes * self.percent / 100, 6))

    def __str__(self) -> str:
        return str(self.nodes) if self.nodes is not None else f"{self.percent:g}%"
