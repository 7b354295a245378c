"""What every stage but Nova has in common: the release's packages for the stage alone, rest, and back from it."""

from cellstep.engine.steps import Nodes, Step, gate, hold, lift, save, step
from cellstep.stages import gates
from cellstep.stages.arguments import Site
from tasks import evidence, packages, puppet
from tasks.darktime import DARK_TIME
from tasks.loadbalancer import FENCE
from tasks.monitoring import RESTARTS_AND_ALARMS
from tasks.repositories import STAGE_REPOSITORY
from tasks.services import DAEMONS

NOT_WATCHED = "apis in cloud.yaml does not tell from where, or at what: nothing is measured"

# A runbook is read as a list: a step is one line, and wraps as prose does.
# fmt: off


def begin(site: Site, nodes: Nodes) -> list[Step]:
    """Hands off by Puppet, and the stage's packages within reach, while all still serves."""
    return [
        save("Save the versions of all RPMs", evidence.gather, on=nodes, per_node=site.asking("rpms"),
             judge=gates.save_packages),
        hold("Disable Puppet automatic software updating", puppet.UPDATES, on=nodes, **site.updates),
        hold("Stop Puppet running", puppet.AGENT, on=nodes, **site.puppet),
        hold(f"Place the {site.target} repository, for the packages of this stage alone", STAGE_REPOSITORY, on=nodes,
             **site.stage_repository),
        gate("Check what the update brings: a resolver's dry run", packages.resolve, on=nodes,
             per_node=site.to_resolve, judge=gates.resolved),
        step("Download the packages beforehand", packages.download, on=nodes, per_node=site.packages),
    ]


def quiet(site: Site, what: str, nodes: Nodes) -> list[Step]:
    """The API closed, watched from outside, and the daemons stopped."""
    return [
        hold("Begin to look at the API from outside", DARK_TIME, on=site.watcher, when_empty=NOT_WATCHED,
             section="The dark time", **site.watched),
        hold("Block requests to stop new operations arriving", FENCE, on=site.balancers,
             when_empty=f"no back end of {site.component} in fence.backends: nothing is blocked", **site.fence),
        hold("Disable automatic restart of daemons by the monitoring system, mask alarms", RESTARTS_AND_ALARMS,
             on=nodes, **site.monitoring),
        hold(f"Stop {what}", DAEMONS, on=nodes, services=site.services),
    ]


def reopen(site: Site, *, no_return: bool = False) -> list[Step]:
    """The API open again, and how long it was not."""
    return [
        lift("Enable the user facing API", FENCE, on=site.balancers, no_return=no_return,
             when_empty=f"no back end of {site.component} in fence.backends: nothing was blocked", **site.fence),
        lift("End the look at the API from outside, and tell the dark time", DARK_TIME, on=site.watcher,
             when_empty=NOT_WATCHED, keep=site.keep_dark, **site.watched),
    ]


def end(site: Site, nodes: Nodes) -> list[Step]:
    """All that was held for the time of the stage."""
    return [
        lift("Enable monitoring and alarms", RESTARTS_AND_ALARMS, on=nodes, **site.monitoring),
        lift(f"Take the {site.target} repository away again", STAGE_REPOSITORY, on=nodes, **site.stage_repository),
        lift("Enable Puppet", puppet.AGENT, on=nodes, **site.puppet),
        lift("Lift the hold on Puppet automatic software updating", puppet.UPDATES, on=nodes, **site.updates),
    ]
