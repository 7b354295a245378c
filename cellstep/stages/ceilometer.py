"""Ceilometer, the first: Havana's works with Grizzly's Nova, and copes with cells and with many hypervisors."""

from cellstep.check.gates import Checks
from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Runbook, gate, lift, save, step
from cellstep.stages import gates, metering
from cellstep.stages.arguments import Site
from cellstep.stages.choices import DATABASES, FIRST_TOP_CONTROLLER
from cellstep.stages.copies import Copies
from cellstep.stages.preparation import backed_up, compared, proven
from cellstep.stages.rest import begin, end, quiet, reopen
from tasks import databases, evidence, hazards, packages, samples
from tasks.services import DAEMONS

NO_AGENTS = "no agent of ceilometer runs on compute nodes"

# A runbook is read as a list: a step is one line, and wraps as prose does.
# fmt: off


def runbook(cloud: Cloud) -> Runbook:
    """The steps of the stage for one cloud."""
    site = Site(cloud, "ceilometer")
    copies, checks, ask = Copies(cloud, "ceilometer"), Checks(cloud, "ceilometer"), evidence.gather
    return Runbook("ceilometer", (
        save("Save a list of all guests, whose samples must come afterwards", ask, on=DATABASES,
             per_node=site.asking("guests"), judge=gates.save_instances, section="Before the dark time"),
        *begin(site, site.controllers_and_computes),
        *quiet(site, "the collector, the agents and the API", site.controllers_and_computes),
        gate("Check that nothing in the database stands against the schema change", hazards.look,
             on=checks.on, per_node=checks.before, judge=checks.judge_before, section="The upgrade"),
        backed_up(copies),
        proven(copies),
        compared(copies),
        step("Update the RPMs on top controllers", packages.update, on=site.controllers, per_node=site.packages),
        step("Update the DB: ceilometer-dbsync", databases.sync, on=FIRST_TOP_CONTROLLER,
             per_node=copies.forecast, **site.schema),
        gate("Check the schema: the release's, with all that is the site's own, and no row lost", hazards.look,
             on=checks.on, per_node=checks.after, judge=checks.judge_after),
        step("Update the agent's RPMs on the compute nodes", packages.update, on=site.computes,
             when_empty=NO_AGENTS, per_node=site.packages),
        lift("Start the collector, the central agent and the API", DAEMONS, on=site.controllers,
             services=site.services, section="Back to service"),
        lift("Start the agents on the compute nodes", DAEMONS, on=site.computes, reconnects=True,
             when_empty=NO_AGENTS, services=site.services),
        gate("Check the RPMs (the site's own build where cloud.yaml says so), the schema version and the services", ask,
             on=site.with_databases, per_node=site.asking("rpms", "services", "heads"), judge=gates.upgraded_and_up),
        gate("Check that samples arrive from every cell", samples.arriving, on=checks.on,
             per_node=site.samples_to_come, judge=metering.samples_arrive),
        *reopen(site, no_return=True),
        *end(site, site.controllers_and_computes),
    ), may_miss=lambda node: node.tier == "compute", facts=site.facts)
