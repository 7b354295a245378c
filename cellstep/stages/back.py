"""What the steps of a back-out get: what each node had before the upgrade, and where its dumps are."""

from collections.abc import Mapping
from typing import Any

from cellstep.baseline import Baseline
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.engine.context import Context
from cellstep.engine.steps import Runbook
from cellstep.errors import Stopped
from cellstep.stages.arguments import Site
from cellstep.wayback import BACKED_OUT, GOING_BACK, Upgrade


class WayBack(Site):
    """As `Site`, for the back-out of a stage.

    Args:
        cloud: the cloud.
        forward: the stage's runbook.
    """

    def __init__(self, cloud: Cloud, forward: Runbook) -> None:
        super().__init__(cloud, forward.stage)
        self.forward = forward
        self.source = self.release.source.capitalize()
        self._systems: dict[str, Mapping[str, Any]] | None = None

    def upgrade(self, context: Context) -> Upgrade:
        """The upgrade that is backed out.

        Raises:
            Stopped: there is none, its way back is closed, or nobody has begun to go back.
        """
        found = Upgrade.find(self.cloud, context.journal, self.forward)
        if found is None:
            raise Stopped(f"no way back: there is no run of {self.component} to go back from")
        if context.options.limit:  # a node that missed the back-out
            if found.last.state != BACKED_OUT:
                raise Stopped(
                    f"run {found.last.id} of {self.component} was not backed out: there is nothing to catch up"
                )
        elif why := found.closed():
            raise Stopped(f"no way back: {why}")
        elif found.last.state != GOING_BACK and not context.options.dry_run:
            raise Stopped(f"begin with `cellstep backout {self.component}`: it closes the upgrade's run first")
        return found

    # Packages and kernels

    def _system(self, context: Context, host: str) -> Mapping[str, Any]:
        if self._systems is None:
            rows = Baseline.find(self.cloud, context.journal, self.component, context.output).systems or ()
            self._systems = {name: row for row in rows for name in row["hosts"]}
        return self._systems.get(host, {})

    def versions(self, context: Context, node: Node) -> Mapping[str, Any]:
        """What the node had before: of the release's packages, and of all."""
        before = self.packages_before(context, node)["before"] or None
        if before is None and self.upgrade(context).updated(node.name):
            raise Stopped(f"{node.name} was updated, and the list of its versions before is not there any more")
        release = [name for component in self.release.components.values() for name in component.packages]
        return {
            "before": before,
            "everything": self._system(context, node.name).get("packages", {}),
            "release": release,
        }

    def kernel(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The kernel that ran on the node, and those that were installed."""
        system = self._system(context, node.name)
        return {"running": system.get("kernel"), "kernels": system.get("packages", {}).get("kernel", ()), **self.reboot}

    @property
    def under_way(self) -> dict[str, Any]:
        """What of the upgrade may still run on a node."""
        return {"sync": self.schema["command"]}

    # Rest

    def rest(self, context: Context, _node: Node) -> Mapping[str, Any]:
        """Whether there is anything to wait for: where the upgrade came to rest, nothing new has come in since."""
        return {"rested": self.upgrade(context).rested()}

    # Databases

    def dump(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The dump from before the first schema change on this node's database, where one was begun."""
        upgrade = self.upgrade(context)
        kept = upgrade.dump(node, self.database) if node.cell in upgrade.synced() else None
        fact = self.release.components[self.component].databases[0]
        return {
            "database": self.database,
            "repository_id": fact.repository_id,
            "start": fact.start,
            "folder": f"{self.config.backup_folder}/{kept[0] if kept else context.run}",
            "here": kept[1] if kept else None,
        }

    # Repository

    @property
    def demotion(self) -> dict[str, Any]:
        """The site's command that moves the repository back."""
        promote = self.config.repository.promote
        return {"command": promote.undo, "promoted": promote.already}
