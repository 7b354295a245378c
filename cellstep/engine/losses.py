"""Nodes that a run loses on its way: which stop it, which it can do without, and for how many that holds."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cellstep.cloud.nodes import Node
from cellstep.engine.budgets import Budgets
from cellstep.engine.context import Context
from cellstep.engine.dispatch import Outcome
from cellstep.engine.steps import Step

MISSED = frozenset({"unreachable", "unknown"})
"""States of a node that was not reached, or lost on the way."""


class Losses:
    """Watches outcomes as they come in, and settles a step's when it ends.

    Args:
        context: the run.
        may_miss: whether the run can do without a node.
    """

    def __init__(self, context: Context, may_miss: Callable[[Node], bool]) -> None:
        self.context = context
        self._budgets = Budgets.of(context.cloud.config.budgets, context.options.budgets)
        self._spare = {node.name: node.cell for node in context.nodes if may_miss(node)}
        # Shares are of the whole cloud: a run for a few nodes may lose as many as one for all.
        self._sizes = Counter(node.cell for node in context.cloud.nodes if may_miss(node))
        self._lost = {
            host: _kind(row["state"])
            for host, row in context.journal.quarantined().items()
            if row["run"] == context.run and host in self._spare
        }
        self._needed_failed = False

    def watch(self, host: str, outcome: Outcome) -> None:
        """An outcome came in."""
        if outcome.state != "failed" and outcome.state not in MISSED:
            return
        if host in self._spare:
            self._lost[host] = _kind(outcome.state)
        else:
            self._needed_failed = True

    def too_many(self) -> bool:
        """Whether nothing more may be sent: a needed node is lost, or a budget is spent."""
        return self._needed_failed or bool(self._lost and self._overspent())

    def _overspent(self) -> list[str]:
        lost = [(self._spare[host], kind) for host, kind in self._lost.items()]
        return self._budgets.overspent(lost, self._sizes)

    def settle(self, step: Step, rows: Sequence[Mapping[str, Any]], *, stopping: bool) -> str:
        """What of the step's outcomes stops the run, in words; otherwise its lost nodes are quarantined."""
        fold = self.context.cloud.fold
        here = [row for row in rows if row["host"] not in self.context.left_out]
        lost = [row for row in here if row["state"] == "failed" or row["state"] in MISSED]
        failed = [row for row in lost if row["state"] == "failed" and row["host"] not in self._spare]
        if failed:
            host, said = failed[0]["host"], failed[0]["detail"]
            first = f"{host}: {said.removeprefix(f'{host}: ')}" if said else "no reason was given"
            return f"failed on {fold(row['host'] for row in failed)} ({first}); mend it, then `cellstep resume`"
        needed = [row["host"] for row in lost if row["host"] not in self._spare]
        if needed:
            return f"not reached, and needed: {fold(needed)}; bring it back, then `cellstep resume`"
        if stopping:
            return ""
        if lost and all(row["state"] in MISSED or row["state"] == "quarantined" for row in rows):
            return f"none of its {len(rows)} nodes was reached; look at the network, then `cellstep resume`"
        if spent := self._overspent():
            where = fold(row["host"] for row in lost)
            return (
                f"{'; '.join(spent)}; lost here: {where}; mend them, then `cellstep resume`, or allow more with"
                " `cellstep resume --budget NAME=N`"
            )
        if lost:
            self.context.journal.leave_out(self.context.run, self.context.stage, step.title, lost)
            self.context.left_out.update(self.context.journal.left_out(self.context.run))
        return ""


def _kind(state: str) -> str:
    return "failed" if state == "failed" else "unreachable"
