"""Cinder: the list that CERN followed, each line checked. Volumes stay attached and in use all the time."""

from cellstep.check.gates import Checks
from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Runbook, gate, lift, save, step
from cellstep.stages import gates
from cellstep.stages.arguments import Site
from cellstep.stages.choices import COMPUTE_NODES_AND_DATABASES, DATABASES, FIRST_TOP_CONTROLLER
from cellstep.stages.copies import Copies
from cellstep.stages.preparation import backed_up, compared, proven
from cellstep.stages.rest import begin, end, quiet, reopen
from tasks import databases, evidence, hazards, loadbalancer, packages
from tasks.services import DAEMONS

# A runbook is read as a list: a step is one line, and wraps as prose does.
# fmt: off


def runbook(cloud: Cloud) -> Runbook:
    """The steps of the stage for one cloud."""
    site = Site(cloud, "cinder")
    copies, checks, ask = Copies(cloud, "cinder"), Checks(cloud, "cinder"), evidence.gather
    return Runbook("cinder", (
        save("Save a list of all volumes", ask, on=DATABASES, per_node=site.asking("volumes"),
             judge=gates.save_volumes, section="Before the dark time"),
        save("Save a list of all guests", ask, on=COMPUTE_NODES_AND_DATABASES, per_node=site.asking("guests"),
             judge=gates.save_guests),
        *begin(site, site.controllers),
        *quiet(site, "the daemons for cinder", site.controllers),
        gate("Check that nothing in the database stands against the schema change", hazards.look,
             on=checks.on, per_node=checks.before, judge=checks.judge_before, section="The upgrade"),
        backed_up(copies),
        proven(copies),
        compared(copies),
        step("Update all RPMs", packages.update, on=site.controllers, per_node=site.packages),
        step("Update the DB: cinder-manage db sync", databases.sync, on=FIRST_TOP_CONTROLLER,
             per_node=copies.forecast, **site.schema),
        gate("Check the schema: the release's, with all that is the site's own, and no row lost", hazards.look,
             on=checks.on, per_node=checks.after, judge=checks.judge_after),
        step("Check that user requests are still blocked", loadbalancer.still_fenced, on=site.balancers,
             when_empty="no back end of cinder in fence.backends", per_node=site.fenced, **site.fence,
             section="Back to service"),
        lift("Restart the daemons", DAEMONS, on=site.controllers, services=site.services),
        gate("Check the RPMs, the schema version and that every service reports", ask, on=site.with_databases,
             per_node=site.asking("rpms", "services", "heads", patient=True), judge=gates.upgraded_and_up),
        gate("Check the new list of volumes to see it matches", ask, on=DATABASES, per_node=site.asking("volumes"),
             judge=gates.volumes_kept),
        *reopen(site, no_return=True),
        gate("Check that all guests ran on, with their volumes in use", ask, on=COMPUTE_NODES_AND_DATABASES,
             per_node=site.asking("guests"), judge=gates.guests_kept),
        *end(site, site.controllers),
    ), may_miss=lambda node: node.tier == "compute", facts=site.facts)
