"""Glance: all its servers stopped, its database changed from the staging node, packages everywhere, started again.

Nova's image API is closed meanwhile and opens last: without the rule `context_is_admin` a release's policy shows the
images of all projects through it.
"""

from cellstep.check.gates import Checks
from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Runbook, gate, hold, lift, save, step
from cellstep.stages import gates
from cellstep.stages.choices import CONTROLLERS, DATABASES, TOP_CONTROLLERS
from cellstep.stages.copies import Copies
from cellstep.stages.images import IMAGES, ImagesSite
from cellstep.stages.preparation import backed_up, compared, proven
from cellstep.stages.rest import begin, end, quiet, reopen
from tasks import checkout, databases, evidence, hazards, loadbalancer, packages, policies
from tasks.loadbalancer import IMAGES_FENCE
from tasks.services import DAEMONS

NO_IMAGES_FENCE = f"no back end “{IMAGES}” in fence.backends: Nova's image API is not blocked"

# A runbook is read as a list: a step is one line, and wraps as prose does.
# fmt: off


def runbook(cloud: Cloud) -> Runbook:
    """The steps of the stage for one cloud."""
    site = ImagesSite(cloud, "glance")
    copies, checks, ask = Copies(cloud, "glance"), Checks(cloud, "glance"), evidence.gather
    return Runbook("glance", (
        save("Save a list of all images", ask, on=DATABASES, per_node=site.asking("images"),
             judge=gates.save_images, section="Before the dark time"),
        *begin(site, site.controllers),
        hold("Block requests to Nova's image API", IMAGES_FENCE, on=site.images_balancers,
             when_empty=NO_IMAGES_FENCE, **site.images_fence),
        *quiet(site, "the Glance service", site.controllers),

        gate("Check that nothing in the database stands against the schema change", hazards.look,
             on=checks.on, per_node=checks.before, judge=checks.judge_before, section="The upgrade"),
        backed_up(copies),
        proven(copies),
        compared(copies),
        step(f"Perform the database upgrade from the staging node, which has {site.target}'s code", databases.sync,
             on=copies.stagers, per_node=copies.forecast_of_stager, cell=copies.cell, **site.live_schema),
        gate("Check the schema: the release's, with all that is the site's own, and no row lost", hazards.look,
             on=checks.on, per_node=checks.after, judge=checks.judge_after),
        step(f"Install the {site.target} packages in all top and cell controllers", packages.update,
             on=site.controllers, per_node=site.packages),
        gate("Look for rules that Glance's and Nova's policies lack", ask, on=CONTROLLERS,
             per_node=site.asking("policies"), judge=gates.policies_found, section="The policies"),
        step("Add the rules that policies lack, with a backup and a diff", policies.fix, on=CONTROLLERS,
             per_node=site.policies, keep=site.keep_policies),
        gate("Check that no policy lacks a rule", ask, on=CONTROLLERS, per_node=site.asking("policies"),
             judge=gates.policies_right),

        step("Check that user requests are still blocked", loadbalancer.still_fenced, on=site.balancers,
             when_empty="no back end of glance in fence.backends", per_node=site.fenced, **site.fence,
             section="Back to service"),
        lift("Re-enable Glance", DAEMONS, on=site.controllers, services=site.services),
        gate("Check the RPMs, the schema version and the services", ask, on=site.with_databases,
             per_node=site.asking("rpms", "services", "heads"), judge=gates.upgraded_and_up),
        gate("Check the new list of images to see it matches", ask, on=DATABASES, per_node=site.asking("images"),
             judge=gates.images_kept),
        gate("Check that an ordinary user's “glance image-list” shows nobody else's images, past the fence",
             checkout.images_shown, on=TOP_CONTROLLERS, per_node=site.images_through("glance"),
             judge=gates.nothing_shown_too_much),
        *reopen(site, no_return=True),
        gate("Check that an ordinary user's “nova image-list” shows nobody else's images, past the fence",
             checkout.images_shown, on=TOP_CONTROLLERS, per_node=site.images_through("nova"),
             judge=gates.nothing_shown_too_much),
        lift("Enable Nova's image API", IMAGES_FENCE, on=site.images_balancers, when_empty=NO_IMAGES_FENCE,
             **site.images_fence),
        *end(site, site.controllers),
    ), may_miss=lambda _node: False, facts=site.facts)
