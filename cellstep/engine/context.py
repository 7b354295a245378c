"""What a run's steps may know of the run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import with_databases
from cellstep.engine.journal import Journal


@dataclass(frozen=True)
class Options:
    """How `run` was called.

    Attributes:
        dry_run: read the real state, say what would be done, change nothing.
        limit: the expression given with --limit, or "".
        repair_quotas: repair the quota usage before the APIs open.
        catch_up: it is for nodes in quarantine (`limit` names them).
        budgets: `NAME=N` wishes of the command line.
        overrides: gate's title to the operator's reason to go on although it blocks.
    """

    dry_run: bool = False
    limit: str = ""
    repair_quotas: bool = False
    catch_up: bool = False
    budgets: tuple[str, ...] = ()
    overrides: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Context:
    """One run of one stage.

    Attributes:
        cloud: the cloud's folder, configuration, release and nodes.
        journal: the cloud's journal.
        run: the run's id.
        stage: the stage.
        output: the run's folder below `out/`.
        nodes: the nodes that the run may touch, in inventory order.
        options: how it was called.
        left_out: nodes that missed a step, with the reason: they get nothing more in this run.
    """

    cloud: Cloud
    journal: Journal
    run: str
    stage: str
    output: Path
    nodes: tuple[Node, ...]
    options: Options
    left_out: dict[str, str] = field(default_factory=dict)

    def witnesses(self) -> tuple[Node, ...]:
        """The run's nodes, and the database nodes of their cells: what a gate asks, which changes nothing."""
        return with_databases(self.cloud, self.nodes)

    def present(self) -> tuple[Node, ...]:
        """The run's nodes that have not been left out."""
        return tuple(node for node in self.nodes if node.name not in self.left_out)
