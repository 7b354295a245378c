"""The client CLIs: Linux machines by a change of repository and yum, Windows and Mac ones by pip; then a real call."""

from collections.abc import Mapping
from typing import Any

from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.cloud.select import select
from cellstep.engine.context import Context
from cellstep.engine.steps import Nodes, Runbook, gate, hold, lift, save, step
from cellstep.stages import gates
from cellstep.stages.arguments import Site
from cellstep.stages.choices import CLIENTS
from tasks import clients, evidence, packages, platforms, puppet
from tasks.repositories import STAGE_REPOSITORY

NO_CLIENTS = "no node has the role `client`"
NO_YUM = "no client machine has a repository of packages"

# A runbook is read as a list: a step is one line, and wraps as prose does.
# fmt: off


def runbook(cloud: Cloud) -> Runbook:
    """The steps of the stage for one cloud."""
    site, own, ask = Site(cloud, "clients"), Machines(cloud), evidence.gather
    return Runbook("clients", (
        save("Save the versions of all packages", ask, on=CLIENTS, per_node=site.asking("rpms"), when_empty=NO_CLIENTS,
             judge=gates.save_packages, section="The clients"),
        hold("Disable Puppet automatic software updating", puppet.UPDATES, on=own.with_yum, when_empty=NO_YUM,
             **site.updates),
        hold("Stop Puppet running", puppet.AGENT, on=own.with_yum, when_empty=NO_YUM, **site.puppet),
        hold(f"Change the repository to {site.target}'s, for the clients alone", STAGE_REPOSITORY, on=own.with_yum,
             when_empty=NO_YUM, **own.repository(site)),
        gate("Check what the update brings: a resolver's dry run", packages.resolve, on=CLIENTS,
             when_empty=NO_CLIENTS, per_node=site.to_resolve, judge=gates.resolved),
        step("Update the clients", packages.update, on=CLIENTS, when_empty=NO_CLIENTS, per_node=site.packages),
        gate("Check each client's version", ask, on=CLIENTS, when_empty=NO_CLIENTS, per_node=site.asking("rpms"),
             judge=gates.clients_upgraded),
        step("Make an actual call on each machine", clients.call, on=CLIENTS, when_empty=NO_CLIENTS,
             per_node=own.calls),
        lift(f"Take the {site.target} repository away again", STAGE_REPOSITORY, on=own.with_yum, when_empty=NO_YUM,
             **own.repository(site)),
        lift("Enable Puppet", puppet.AGENT, on=own.with_yum, when_empty=NO_YUM, **site.puppet),
        lift("Lift the hold on Puppet automatic software updating", puppet.UPDATES, on=own.with_yum,
             when_empty=NO_YUM, **site.updates),
    ), may_miss=lambda node: node.tier == "client", facts=site.facts)
# fmt: on


class Machines:
    """What the stage's steps are given beside what all stages are."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud

    @property
    def with_yum(self) -> Nodes:
        """The client machines whose packages come from a repository."""
        return Nodes(
            "client machines with repositories",
            lambda nodes: [n for n in CLIENTS.choose(nodes) if platforms.named(n.platform).packages.repositories],
        )

    def repository(self, site: Site) -> dict[str, Any]:
        """The stage's repository; nothing where no machine needs it."""
        return site.stage_repository if self.with_yum.choose(self.cloud.nodes) else {}

    def calls(self, _context: Context, node: Node) -> Mapping[str, Any]:
        """The calls of cloud.yaml for a machine, and what is known of how they fail."""
        mine = [each.command for each in self.cloud.config.clients.calls if node in select(self.cloud, each.on)]
        known = {
            error.says: f"{error.cause}; {error.remedy}" for error in self.cloud.release.components["clients"].errors
        }
        return {"commands": mine, "known": known}
