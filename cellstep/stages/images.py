"""What a cloud gives to the tasks of Glance's stage, beside what all stages get."""

from collections.abc import Mapping, Sequence
from typing import Any

from cellstep.cloud.nodes import Node
from cellstep.cloud.policies import policies_of
from cellstep.engine.context import Context
from cellstep.engine.steps import Arguments, Nodes
from cellstep.errors import ConfigurationError
from cellstep.stages import choices
from cellstep.stages.arguments import Site
from reports.writers import replacing

POLICY = "policy"
"""Of the journal's records: a rule that was added to a policy file."""
IMAGES = "images"
"""The key of fence.backends for Nova's image API."""


class ImagesSite(Site):
    """The arguments of Glance's tasks in one cloud."""

    @property
    def images_fence(self) -> dict[str, Any]:
        """HAProxy's admin socket and the back ends of Nova's image API."""
        return {"socket": self.config.fence.socket, "backends": tuple(self.config.fence.backends.get(IMAGES, ()))}

    @property
    def images_balancers(self) -> Nodes:
        """The load balancers, where cloud.yaml names a back end of Nova's image API."""
        return choices.BALANCERS if self.config.fence.backends.get(IMAGES) else Nodes("load balancers", lambda _: [])

    @property
    def live_schema(self) -> dict[str, Any]:
        """The same for a change from the staging node, which has the new release's command and none of its services.

        Raises:
            ConfigurationError: cloud.yaml has no command for it.
        """
        command = self.config.staging.live.get(self.component)
        sync = self.release.components[self.component].databases[0].sync
        if not command:
            words = f"cloud.yaml: staging.live has no command for {self.component}: its schema is changed before its"
            hint = f"{self.component}: {sync.replace(' ', ' --config-file /etc/FILE ', 1)}"
            raise ConfigurationError(
                [f"{words} packages are updated, with {self.target}'s code on the staging node; write, say, `{hint}`"]
            )
        return {**self.schema, "command": command, "version": "", "told_by": self.told_by}

    def policies(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The rules that policy files on the node must have, and the run that adds them."""
        return {"policies": policies_of(self.cloud, self.component, node), "run": context.run}

    def keep_policies(self, context: Context, host: str, mended: Sequence[Mapping[str, str]]) -> None:
        """Keep the rules that were added, and their diffs as a file among the run's."""
        if not mended or context.options.dry_run:
            return
        for each in mended:
            context.journal.keep_record(POLICY, self.component, f"{host}:{each['file']}", each, context.run)
        path = context.output / "policies" / f"{host}.diff"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as scratch:
            scratch.write_text("".join(each["diff"] for each in mended), encoding="utf-8")

    def images_through(self, api: str) -> Arguments:
        """The command of an ordinary user that lists the images through `nova` or `glance`, and where all of them are.

        Raises:
            ConfigurationError: cloud.yaml has none.
        """
        asks = self.config.checkout.images
        if asks is None:
            words = "cloud.yaml: checkout.images is not there: the lists of images are compared as an ordinary user"
            raise ConfigurationError([f"{words} gets them; write `images: {{environment: FILE, project: ID}}`"])
        node, database, _ = self.told_by
        command = asks.nova if api == "nova" else asks.glance
        known = {"environment": asks.environment, "project": asks.project}
        return lambda _context, _node: {**known, "command": command, "place": (node, database)}
