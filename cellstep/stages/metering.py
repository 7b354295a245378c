"""What the gate of Ceilometer's stage judges: whose samples came."""

from collections.abc import Mapping, Sequence

from cellstep import kept
from cellstep.engine.context import Context
from cellstep.engine.steps import Finding


def samples_arrive(context: Context, results: Mapping[str, Mapping[str, Sequence[str]]]) -> list[Finding]:
    """Of every cell with running guests samples must have come; a node without any is reported.

    Of which cells nothing can be told is said, too: nothing that came of nothing is no proof.
    """
    if kept.load(context.output, "instances") is None:
        text = "no list of guests was saved before: whether their samples come cannot be told"
        return [] if context.options.dry_run else [Finding(text, blocking=False)]  # a dry run keeps no list
    cells = {node.name: node.cell for node in context.nodes}
    computes = [node for node in context.present() if node.tier == "compute"]
    agents = {node.cell for node in computes if context.cloud.runs("ceilometer", node)}
    asked = {cells.get(host, "") for silent in results.values() for host in (*silent["came"], *silent["lacking"])}
    found = [
        Finding(f"{cell}: no guest ran there when the run began: whether samples come cannot be told", False, note=True)
        for cell in context.cloud.cells
        if cell in agents - asked
    ]
    for silent in results.values():
        lacking: dict[str, list[str]] = {}
        for host in silent["lacking"]:
            lacking.setdefault(cells.get(host, ""), []).append(host)
        whole = {cells.get(host, "") for host in silent["came"]}
        for cell, hosts in lacking.items():
            nowhere = bool(cell) and cell not in whole
            words = f"{cell}: no sample came of any guest on {context.cloud.fold(hosts)}; see the agent's log there"
            found.append(Finding(words + (", and the collector's" if nowhere else ""), blocking=nowhere))
    return found
