"""Back out of the Nova stage: from any place before its point of no return to what was there before.

One line is one step, checked before the next begins. A step that is not needed, since the upgrade had not come so far,
finds that out by itself. Why in this order: docs/adr/0004-the-way-back.md.
"""

from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Runbook, gate, hold, lift, step
from cellstep.stages import gates, nova
from cellstep.stages.back import WayBack
from cellstep.stages.choices import (
    BALANCERS,
    CELL_CONTROLLERS,
    COMPUTE_NODES,
    COMPUTE_NODES_AND_DATABASES,
    DATABASES,
    EVERY_NODE,
    FIRST_TOP_CONTROLLER,
    QUEUES,
    STAGE_NODES,
    STAGE_NODES_AND_DATABASES,
    TOP_CONTROLLERS,
    TOP_DATABASE,
)
from cellstep.verification import BACKOUT
from tasks import backout, checkout, downgrade, evidence, loadbalancer, puppet, restore
from tasks.loadbalancer import FENCE
from tasks.monitoring import RESTARTS_AND_ALARMS
from tasks.services import DAEMONS, RABBITMQ

# A runbook is read as a list: a step is one line, and wraps as prose does.
# fmt: off


def runbook(cloud: Cloud) -> Runbook:
    """The steps of the back-out for one cloud."""
    site = WayBack(cloud, nova.runbook(cloud))
    ask, no_balancer = evidence.gather, "no load balancer: nothing is blocked"
    return Runbook(f"nova{BACKOUT}", (
        gate("Check that the way back is open, and that its dumps are there", ask, on=TOP_DATABASE,
             per_node=site.asking("heads"), judge=gates.way_back_is_open, section="Before anything goes back"),
        step("Check that user requests are still blocked, where they were", loadbalancer.still_fenced, on=BALANCERS,
             when_empty=no_balancer, per_node=site.fenced, **site.fence),
        hold("Disable Puppet automatic software updating", puppet.UPDATES, on=EVERY_NODE, **site.updates),
        hold("Stop Puppet running on all nodes", puppet.AGENT, on=EVERY_NODE, **site.puppet),
        step("Wait until nothing of the upgrade runs on any node", backout.wait_until_idle, on=EVERY_NODE,
             at_once=True, **site.under_way),
        step("Check the dumps: whole, the same on both sides, of the schema before", restore.check, on=DATABASES,
             per_node=site.dump, at_once=True),
        step("Download the packages of before to every node", downgrade.download, on=STAGE_NODES,
             per_node=site.versions),

        hold("Block requests to stop new operations arriving", FENCE, on=BALANCERS,
             when_empty="no load balancer here: nothing to block", section="The cloud comes to rest", **site.fence),
        step("Wait until no instance has a task state", backout.wait_for_tasks, on=DATABASES, per_node=site.rest,
             **site.task_wait),
        step("Wait until the queues are empty", backout.wait_until_empty, on=QUEUES, per_node=site.rest,
             service=site.rabbitmq[0], **site.wait),
        hold("Disable automatic restart of daemons by the monitoring system, mask alarms", RESTARTS_AND_ALARMS,
             on=EVERY_NODE, **site.monitoring),
        hold("Stop the daemons on the top controllers", DAEMONS, on=TOP_CONTROLLERS, services=site.services),
        hold("Stop the daemons on the cell controllers", DAEMONS, on=CELL_CONTROLLERS, services=site.services),
        hold("Stop nova-compute", DAEMONS, on=COMPUTE_NODES, services=site.services),
        hold("Disable RabbitMQ", RABBITMQ, on=QUEUES, services=site.rabbitmq),

        step("Bring the RPMs on the top controllers back", downgrade.to_before, on=TOP_CONTROLLERS,
             per_node=site.versions, section=f"Back to {site.source}"),
        step("Bring the top controllers back to the kernel that they had", downgrade.kernel_to_before,
             on=TOP_CONTROLLERS, per_node=site.kernel),
        step("Bring the RPMs on the cell controllers back", downgrade.to_before, on=CELL_CONTROLLERS,
             per_node=site.versions),
        step("Bring the cell controllers back to the kernel that they had", downgrade.kernel_to_before,
             on=CELL_CONTROLLERS, per_node=site.kernel),
        step("Bring the RPMs on the compute nodes back", downgrade.to_before, on=COMPUTE_NODES,
             per_node=site.versions),
        step("Restore the DBs from the dumps, where their schema was touched", restore.restore, on=DATABASES,
             per_node=site.dump, at_once=True),
        gate("Check the RPMs, the kernels and the schema versions: all as before", ask,
             on=STAGE_NODES_AND_DATABASES, per_node=site.asking("rpms", "heads"), judge=gates.brought_back),

        step("Check that user requests are still blocked", loadbalancer.still_fenced, on=BALANCERS,
             when_empty=no_balancer, per_node=site.fenced, section="Back to service", **site.fence),
        lift("Enable RabbitMQ", RABBITMQ, on=QUEUES, services=site.rabbitmq),
        lift("Enable services on top controllers", DAEMONS, on=TOP_CONTROLLERS, services=site.services),
        lift("Enable services in child cell controllers", DAEMONS, on=CELL_CONTROLLERS, services=site.services),
        lift("Enable nova-compute", DAEMONS, on=COMPUTE_NODES, reconnects=True, services=site.services),
        gate("Check out the service communications", ask, on=EVERY_NODE,
             per_node=site.asking("services", patient=True), judge=gates.services_up),
        lift("Enable monitoring and alarms on all nodes", RESTARTS_AND_ALARMS, on=EVERY_NODE, **site.monitoring),
        step(f"Move the {site.target} repository back from the master branch in Puppet", backout.move_back,
             on=site.promotion_node, **site.demotion),
        lift("Enable Puppet on all nodes", puppet.AGENT, on=EVERY_NODE, **site.puppet),
        step(f"Prove that no node has the {site.target} repository any more", backout.lose_repository, on=EVERY_NODE,
             **site.repository),
        lift("Lift the hold on Puppet automatic software updating", puppet.UPDATES, on=EVERY_NODE, **site.updates),

        *nova.scheduled(site),

        step("Check that user requests are still blocked, now that Puppet runs again", loadbalancer.still_fenced,
             on=BALANCERS, when_empty=no_balancer, per_node=site.fenced, section="Check-out tests", **site.fence),
        step("Check-out test: every cell answers over RabbitMQ", backout.cells_answer, on=FIRST_TOP_CONTROLLER,
             per_node=site.cells_to_answer),
        step("Check-out test: create and delete a guest in each cell, past the fence", checkout.guest_in_each_cell,
             on=FIRST_TOP_CONTROLLER, per_node=site.guests_to_create),
        step("Check-out test: the site's own commands", checkout.site_command, on=site.command_nodes,
             per_node=site.site_commands, when_empty="cloud.yaml has none"),
        gate("Check that no volume was lost", ask, on=DATABASES, per_node=site.asking("volumes"),
             judge=gates.volumes_kept),
        gate("Check that no guest was lost, restarted or left over", ask, on=COMPUTE_NODES_AND_DATABASES,
             per_node=site.asking("guests"), judge=gates.guests_kept_and_no_more),
        gate("Check that the quota usage is as before", ask, on=TOP_DATABASE, per_node=site.asking("quotas"),
             judge=gates.quotas_as_before),
        lift("Enable user facing APIs at the top cells", FENCE, on=BALANCERS,
             when_empty="no load balancer in the inventory: open them by hand", **site.fence),
        gate("Check the services once more, and close the upgrade's run as backed out", ask, on=EVERY_NODE,
             per_node=site.asking("services"), judge=gates.close_upgrade),
    ), may_miss=lambda node: node.tier == "compute")
