"""What a cloud and its release give to the tasks: the arguments that runbooks hand over by name."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from cellstep import kept
from cellstep.baseline import Baseline, windows_of
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node, Tier
from cellstep.cloud.places import places
from cellstep.cloud.select import select
from cellstep.continuity import CHECKOUT_PREFIX, TABLES
from cellstep.engine.context import Context
from cellstep.engine.steps import Arguments, Nodes
from cellstep.errors import ConfigurationError
from cellstep.stages import choices
from cellstep.verification import CLIENTS, expected_heartbeats, homes, wanted
from tasks.evidence import Patience
from tasks.loadbalancer import FENCE

RABBITMQ_SERVICE = "rabbitmq-server"
MEASURED = "dashboard"
"""Of the journal's records: figures of a dashboard under load, `before` and `after`."""
DARK = "dark"
"""Of the journal's records: what was seen of an API from outside."""

TIERS = {
    ("top",): "top API controllers",
    ("cell",): "cell controllers",
    ("compute",): "compute nodes",
    ("top", "cell"): "controllers",
    ("top", "compute"): "top API controllers and compute nodes",
    ("cell", "compute"): "cell controllers and compute nodes",
    ("top", "cell", "compute"): "controllers and compute nodes",
}
"""The operators' words for nodes of some tiers."""


class Site:
    """The arguments of one stage's tasks in one cloud.

    Args:
        cloud: the cloud.
        component: the stage's component in the release data, for example `nova`.
    """

    def __init__(self, cloud: Cloud, component: str) -> None:
        self.cloud, self.component = cloud, component
        self.config, self.release = cloud.config, cloud.release
        self.target = self.release.target.capitalize()
        self.services = cloud.services(component)
        self.rabbitmq = [RABBITMQ_SERVICE]
        self._before: dict[str, dict[str, str]] | None = None

    # Packages

    def packages(self, _context: Context, _node: Node) -> Mapping[str, Any]:
        """The component's packages as they should be on the node."""
        return {"expected": self.cloud.expected_packages(self.release.components[self.component].packages)}

    def packages_and_kernel(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The release's packages, and the kernel on those nodes that will be rebooted."""
        return {**self.release_packages(context, node), "kernel": node.tier in {"top", "cell"}}

    def release_packages(self, _context: Context, _node: Node) -> Mapping[str, Any]:
        """The stage's packages and the clients."""
        return {"expected": self.cloud.expected_packages(self._stage_names())}

    def _stage_names(self) -> list[str]:
        components = (self.release.components.get(name) for name in (self.component, CLIENTS))
        return [name for component in components if component for name in component.packages]

    def to_resolve(self, _context: Context, _node: Node) -> Mapping[str, Any]:
        """The component's packages, and whose all the release's packages are."""
        owners = {name: whose for whose, each in self.release.components.items() for name in each.packages}
        return {**self.packages(_context, _node), "owners": owners}

    @property
    def stage_repository(self) -> dict[str, Any]:
        """The release's repository for the time of this stage: its own packages and the clients' alone.

        Raises:
            ConfigurationError: cloud.yaml does not tell its address.
        """
        repository = self.config.repository
        if not repository.baseurl:
            words = f"cloud.yaml: repository.baseurl is not there: {self.component} is updated before {repository.name}"
            raise ConfigurationError([f"{words} is promoted for all; write its address on the nodes"])
        return {
            "repository": repository.name,
            "baseurl": repository.baseurl,
            "packages": tuple(self._stage_names()),
            "gpgcheck": repository.gpgcheck,
        }

    def packages_before(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The versions of the release's packages on the node when the run began."""
        if self._before is None:
            self._before = {}
            for row in Baseline.find(self.cloud, context.journal, self.component, context.output).packages or ():
                self._before.setdefault(row["host"], {})[row["package"]] = row["installed"]
        return {"before": self._before.get(node.name, {})}

    @property
    def facts(self) -> dict[str, str]:
        """The versions that the stage brings packages and schemas to."""
        component = self.release.components[self.component]
        packages = self.cloud.expected_packages(component.packages)
        schemas = {f"schema {fact.repository_id}": str(component.head(fact)) for fact in component.databases}
        rules = {f"policy {fact.file} {fact.rule}": fact.value for fact in component.policies}
        return {**{f"package {name}": evr for name, evr in sorted(packages.items())}, **schemas, **rules}

    # Where

    def _running(self, *tiers: str) -> Nodes:
        """The nodes of these tiers on which a service of the component runs, as the release or `services` says."""
        there = tuple(tier for tier in tiers if self.cloud.services_on(self.component, cast("Tier", tier)))
        return Nodes(TIERS[there or tiers], lambda nodes: [node for node in nodes if node.tier in there])

    @property
    def controllers(self) -> Nodes:
        """The controllers on which the component runs."""
        return self._running("top", "cell")

    @property
    def computes(self) -> Nodes:
        """The compute nodes on which it runs."""
        return self._running("compute")

    @property
    def controllers_and_computes(self) -> Nodes:
        """Both."""
        return self._running("top", "cell", "compute")

    @property
    def with_databases(self) -> Nodes:
        """The nodes with the component's services, and with its databases."""
        tiers = {tier for fact in self.release.components[self.component].services for tier in fact.tiers}
        stores = homes(self.cloud, self.component)
        return Nodes(
            f"{self.component}'s nodes and databases",
            lambda nodes: [node for node in nodes if node.tier in tiers or node.name in stores],
        )

    # Puppet, monitoring, fence

    @property
    def updates(self) -> dict[str, Any]:
        """Where Puppet's automatic updating is switched, and its lock file."""
        updates = self.config.puppet.updates
        return {"file": updates.file, "key": updates.key, "off": updates.off, **self.puppet}

    @property
    def puppet(self) -> dict[str, Any]:
        """The agent's lock file."""
        return {"lock": self.config.puppet.lock}

    @property
    def promotion(self) -> dict[str, Any]:
        """The site's command that promotes the repository."""
        promote = self.config.repository.promote
        return {"command": promote.command, "already": promote.already}

    @property
    def promotion_node(self) -> Nodes:
        """The node on which the repository is promoted."""
        return choices.named(self.config.repository.promote.on)

    @property
    def repository(self) -> dict[str, Any]:
        """The repository's id, and how to force a Puppet run."""
        return {"repository": self.config.repository.name, "run": self.config.puppet.run}

    @property
    def monitoring(self) -> dict[str, Any]:
        """The monitoring daemon and the site's alarm commands."""
        monitoring = self.config.monitoring
        return {
            "service": "" if monitoring.kind == "none" else monitoring.kind,
            "masked": monitoring.alarms_masked,
            "mask": monitoring.mask_alarms,
            "unmask": monitoring.unmask_alarms,
        }

    @property
    def fence(self) -> dict[str, Any]:
        """HAProxy's admin socket and the back ends of the user-facing APIs."""
        return {"socket": self.config.fence.socket, "backends": tuple(self._backends)}

    @property
    def _backends(self) -> Sequence[str]:
        return self.config.fence.backends.get(self.component, ())

    @property
    def balancers(self) -> Nodes:
        """The load balancers, where cloud.yaml names a back end of the stage."""
        return choices.BALANCERS if self._backends else Nodes("load balancers", lambda _nodes: [])

    # The look from outside

    @property
    def watcher(self) -> Nodes:
        """The node that looks at the stage's API; none where cloud.yaml does not tell from where, or at what."""
        apis = self.config.apis
        there = [n for n in self.cloud.nodes if n.name == apis.watch_from and self.component in apis.urls]
        return Nodes(apis.watch_from or "a node outside", lambda nodes: there if nodes else [])

    @property
    def watched(self) -> dict[str, Any]:
        """The API and its address."""
        apis = self.config.apis
        return {"api": self.component, "url": apis.urls.get(self.component, ""), "every_s": apis.every_s}

    def keep_dark(self, context: Context, _host: str, seen: Mapping[str, Any] | None) -> None:
        """Keep what was seen from outside."""
        if seen is not None:
            context.journal.keep_record(DARK, self.component, str(seen["api"]), seen, context.run)

    def fenced(self, context: Context, node: Node) -> Mapping[str, Any]:
        """What was open on the balancer before it was fenced."""
        return {"prior": context.journal.open_holds(FENCE.name).get(node.name, {"servers": {}})}

    # Waits

    @property
    def wait(self) -> dict[str, Any]:
        """How long to wait for rest, and whether what is stuck is accepted."""
        return {"timeout_s": self.config.drain.timeout_s, "accept_stuck": self.config.drain.accept_stuck}

    @property
    def task_wait(self) -> dict[str, Any]:
        """The same, with the database to look in."""
        return {**self.wait, "database": self.database}

    @property
    def reboot(self) -> dict[str, Any]:
        """How long a reboot may take."""
        return {"timeout_s": self.config.reboot_timeout_s}

    # Databases

    @property
    def database(self) -> str:
        """The name of the component's database."""
        return self.cloud.database(self.component)

    @property
    def schema(self) -> dict[str, Any]:
        """The component's schema: its commands, where the release starts from and its head."""
        component = self.release.components[self.component]
        fact = component.databases[0]
        known = {"command": fact.sync, "version": fact.version, "start": fact.start, "head": component.head(fact)}
        if fact.version:
            return known
        return {**known, "told_by": self.told_by}  # it has no command that tells: the row in its database does

    @property
    def told_by(self) -> tuple[str, str, str]:
        """What tells the version of the component's only schema: its node, its name, its row in `migrate_version`."""
        place = places(self.cloud, self.component)[0]
        return place.node.name, place.database, place.schema.repository_id

    def quota_repair(self, context: Context, _node: Node) -> Mapping[str, Any]:
        """Whether and where the quota usage is repaired."""
        return {
            "database": self.database,
            "asked": context.options.repair_quotas,
            "undo": context.output / self.component / "quota-undo.sql",
        }

    # Quarantine

    def in_quarantine(self, context: Context, node: Node) -> Mapping[str, Any]:
        """The quarantined compute nodes of the database's cell."""
        return {"database": self.database, "hosts": sorted(self._quarantined(context, node))}

    def scheduling(self, context: Context, node: Node) -> Mapping[str, Any]:
        """Which of them to disable, with the reason, and which to enable: those that this run has caught up.

        Only one that was enabled before us is touched.
        """
        ours = {host: row for host, row in self._quarantined(context, node).items() if row["was_disabled"] == 0}
        caught_up = {node.name for node in context.present()}
        return {
            "database": self.database,
            "disable": {
                host: f"missed “{row['title']}” of run {row['run']}"
                for host, row in ours.items()
                if host not in caught_up
            },
            "enable": sorted(ours.keys() & caught_up),
        }

    @staticmethod
    def _quarantined(context: Context, node: Node) -> dict[str, dict[str, Any]]:
        return {host: row for host, row in context.journal.quarantined().items() if row["cell"] == node.cell}

    # Evidence

    def asking(self, *tables: str, patient: bool = False) -> Arguments:
        """What a gate asks of a node for these tables; `patient` waits for the heartbeats of all present services."""

        def per_node(context: Context, node: Node) -> Mapping[str, Any]:
            patience, windows = None, None
            if "database" in node.roles and not TABLES.isdisjoint(tables):
                windows = windows_of(self.cloud, context.journal, self.component, context.output)
            if patient and "database" in node.roles:
                expected = expected_heartbeats(self.cloud, self.component, context.present(), node.cell)
                patience = Patience(tuple(expected), self.config.stale_after_s, self.config.settle_s)
            return {"wanted": wanted(self.cloud, self.component, node, tables, patience, windows)}

        return per_node

    # Check-out

    def _cell_path(self, cell: str) -> str:
        return self.config.checkout.cell_path.format(cell=cell)

    def cells_to_answer(self, context: Context, _node: Node) -> Mapping[str, Any]:
        """The cells that must answer, with the hosts that each must know."""
        expected: dict[str, Sequence[str]] = {}
        for cell in self.cloud.cells:
            hosts = [host for host, _ in expected_heartbeats(self.cloud, self.component, context.present(), cell)]
            if hosts:
                expected[self._cell_path(cell)] = sorted(set(hosts))
        checks = self.config.checkout
        return {"environment": checks.environment, "services": checks.services, "expected": expected}

    def samples_to_come(self, context: Context, _node: Node) -> Mapping[str, Any]:
        """The guests of each compute node that ran when the run began, and how long to wait for samples of them."""
        saved = kept.load(context.output, "instances") or []
        agents = [node for node in context.present() if node.tier == "compute" and self.cloud.runs("ceilometer", node)]
        present = {node.name.partition(".")[0]: node.name for node in agents}
        guests: dict[str, list[str]] = {}
        for row in (row for each in saved for row in each["instances"]):
            host = present.get(str(row["host"] or "").partition(".")[0])
            if host and row["vm_state"] == "active":
                guests.setdefault(host, []).append(row["uuid"])
        return {"database": self.database, "guests": guests, "timeout_s": self.config.checkout.samples_s}

    def guests_to_create(self, context: Context, _node: Node) -> Mapping[str, Any]:
        """The site's commands for a guest, and the cells that have a compute node."""
        cells = {node.cell for node in context.present() if node.tier == "compute"}
        checks = self.config.checkout
        return {
            "environment": checks.environment,
            "create": checks.create,
            "show": checks.show,
            "delete": checks.delete,
            "cells": [self._cell_path(cell) for cell in self.cloud.cells if cell in cells],
            "untested": [self._cell_path(cell) for cell in self.cloud.cells if cell not in cells],
            "prefix": f"{CHECKOUT_PREFIX}{context.run}",
            "timeout_s": self.config.settle_s,
        }

    @property
    def command_nodes(self) -> Nodes:
        """The nodes for which cloud.yaml has check-out commands."""
        chosen = {node.name for entry in self.config.checkout.commands for node in select(self.cloud, entry.on)}
        return Nodes("nodes named in cloud.yaml", lambda nodes: [node for node in nodes if node.name in chosen])

    def site_commands(self, _context: Context, node: Node) -> Mapping[str, Any]:
        """The site's own check-out commands for the node."""
        mine = [e.command for e in self.config.checkout.commands if node in select(self.cloud, e.on)]
        return {"environment": self.config.checkout.environment, "commands": mine}
