"""How many compute nodes a run may lose before it stops: failed and unreachable apart, in each cell and in all."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cellstep.cloud.allowance import Allowance
from cellstep.cloud.pace import BudgetsConfig
from cellstep.errors import UsageError

KINDS = ("failed", "unreachable")


@dataclass(frozen=True)
class Budgets:
    """What a run may lose; the names are those of cloud.yaml and of `--budget`."""

    failed: Allowance
    failed_per_cell: Allowance
    unreachable: Allowance
    unreachable_per_cell: Allowance

    @classmethod
    def of(cls, config: BudgetsConfig, wishes: Iterable[str] = ()) -> "Budgets":
        """Those of cloud.yaml, changed by `NAME=N` or `NAME=N%` of the command line (names with - or _).

        Raises:
            UsageError: no such name, or no such number.
        """
        given = {name: getattr(config, name) for name in BudgetsConfig.model_fields}
        for wish in wishes:
            name, _, value = wish.partition("=")
            field = name.strip().replace("-", "_")
            if field not in given:
                known = ", ".join(known.replace("_", "-") for known in given)
                raise UsageError(f"there is no budget '{name[:40]}'; the budgets are: {known}")
            given[field] = value
        try:
            return cls(**{name: Allowance.parse(value) for name, value in given.items()})
        except ValueError as error:
            raise UsageError(str(error)) from None

    def overspent(self, lost: Iterable[tuple[str, str]], nodes: Mapping[str, int]) -> list[str]:
        """Which budgets are passed, one line each.

        Args:
            lost: (cell, `failed` or `unreachable`) of each node that was lost in the run.
            nodes: how many nodes that it may lose the run has in each cell.
        """
        counts = Counter(lost)
        found = []
        for kind in KINDS:
            allowance: Allowance = getattr(self, f"{kind}_per_cell")
            for cell, of in nodes.items():
                if (n := counts[cell, kind]) > allowance.of(of):
                    found.append(_words(n, kind, of, f"in {cell}", allowance, f"{kind}-per-cell"))
            allowance = getattr(self, kind)
            total = sum(count for (_, of_kind), count in counts.items() if of_kind == kind)
            if total > allowance.of(sum(nodes.values())):
                found.append(_words(total, kind, sum(nodes.values()), "in all", allowance, kind))
        return found


def _words(count: int, kind: str, of: int, where: str, allowance: Allowance, name: str) -> str:
    share = f" ({allowance})" if allowance.nodes is None else ""
    return f"{count} {kind} of {of} compute nodes {where}, {allowance.of(of)}{share} allowed by the budget {name}"
