"""Nova, last and hardest: the steps that CERN took from Grizzly to Havana, in that order.

One line is one step, checked before the next begins. Titles are the operators' own words; what a step does stands in
`tasks/`, what a gate finds in `cellstep/stages/gates.py`, what a cloud gives to it in `cellstep/stages/arguments.py`.
"""

from cellstep.check.gates import Checks
from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Nodes, Runbook, Step, gate, hold, lift, save, step
from cellstep.quota import repair_if_asked
from cellstep.stages import gates
from cellstep.stages.arguments import Site
from cellstep.stages.choices import (
    A_CONTROLLER_IN_EACH_CELL,
    BALANCERS,
    CELL_BALANCERS,
    CELL_CONTROLLERS,
    CELL_DATABASES,
    CELL_NODES,
    CELL_QUEUES,
    COMPUTE_DATABASES,
    COMPUTE_NODES,
    COMPUTE_NODES_AND_DATABASES,
    COMPUTE_QUEUES,
    CONTROLLERS_AND_DATABASES,
    DATABASES,
    EVERY_NODE,
    FIRST_TOP_CONTROLLER,
    NO_BALANCERS,
    QUEUES,
    STAGE_NODES,
    TOP_BALANCERS,
    TOP_CONTROLLERS,
    TOP_DATABASE,
    TOP_NODES,
    TOP_QUEUES,
)
from cellstep.stages.copies import Copies
from cellstep.stages.preparation import backed_up, compared, proven
from tasks import checkout, databases, evidence, hazards, loadbalancer, packages, puppet, rabbitmq, reboot, scheduling
from tasks.loadbalancer import FENCE
from tasks.monitoring import RESTARTS_AND_ALARMS
from tasks.services import DAEMONS, RABBITMQ

# A runbook is read as a list: a step is one line, and wraps as prose does.
# fmt: off


def runbook(cloud: Cloud) -> Runbook:
    """The steps of the stage for one cloud."""
    site = Site(cloud, "nova")
    copies, checks = Copies(cloud, "nova"), Checks(cloud, "nova")
    nova, release, ask = site.packages, site.release_packages, evidence.gather
    return Runbook("nova", (
        save("Save a list of all volumes", ask, on=TOP_DATABASE, per_node=site.asking("volumes", "quotas"),
             judge=gates.save_volumes, section="Before the dark time"),
        save("Save a list of all guests", ask, on=COMPUTE_NODES_AND_DATABASES, per_node=site.asking("guests"),
             judge=gates.save_guests),
        hold("Disable Puppet automatic software updating", puppet.UPDATES, on=EVERY_NODE, **site.updates),
        save("Save the versions of all RPMs", ask, on=STAGE_NODES, per_node=site.asking("rpms"),
             judge=gates.save_packages),
        step(f"Move the {site.target} repository from QA to the master branch in Puppet", puppet.promote,
             on=site.promotion_node, **site.promotion),
        step(f"Prove that every node has the {site.target} repository and that nothing was upgraded",
             puppet.receive_repository, on=EVERY_NODE, per_node=site.packages_before, **site.repository),
        step("Run “yum clean all” on all the nodes", packages.clean, on=EVERY_NODE),
        step("Download the packages to every node beforehand", packages.download, on=STAGE_NODES,
             per_node=site.packages_and_kernel),
        hold("Stop Puppet running on all nodes", puppet.AGENT, on=EVERY_NODE, **site.puppet),

        *_quiet(site, "Top API controllers", TOP_CONTROLLERS, TOP_NODES, TOP_BALANCERS, TOP_DATABASE, TOP_QUEUES),
        *_quiet(site, "Cell controllers", CELL_CONTROLLERS, CELL_NODES, CELL_BALANCERS, CELL_DATABASES, CELL_QUEUES),
        *_quiet(site, "Compute nodes",
                COMPUTE_NODES, COMPUTE_NODES, NO_BALANCERS, COMPUTE_DATABASES, COMPUTE_QUEUES),

        gate("Check that nothing in the databases stands against the schema change", hazards.look,
             on=checks.on, per_node=checks.before, judge=checks.judge_before, section="The upgrade"),
        backed_up(copies),
        proven(copies),
        compared(copies),
        step("Update all the Nova RPMs and the kernel on top controllers", packages.update, on=TOP_CONTROLLERS,
             per_node=nova, kernel=True),
        step("Update the top DB", databases.sync, on=FIRST_TOP_CONTROLLER, per_node=copies.forecast, **site.schema),
        step("Reboot the top controllers to get the latest Linux kernel", reboot.for_new_kernel,
             on=TOP_CONTROLLERS, **site.reboot),
        step("Update all the Nova RPMs and the kernel on the cell controllers", packages.update, on=CELL_CONTROLLERS,
             per_node=nova, kernel=True),
        step("Update the cell DBs", databases.sync, on=A_CONTROLLER_IN_EACH_CELL, at_once=True,
             per_node=copies.forecast, **site.schema),
        step("Reboot the cell controllers for the new kernel", reboot.for_new_kernel, on=CELL_CONTROLLERS,
             **site.reboot),
        step("Update the RPMs on the compute nodes", packages.update, on=COMPUTE_NODES, per_node=nova),
        gate("Check the schemas: the release's, with all that is the site's own, and no row lost", hazards.look,
             on=checks.on, per_node=checks.after, judge=checks.judge_after),
        gate("Check the controllers' RPMs and the schema versions", ask, on=CONTROLLERS_AND_DATABASES,
             per_node=site.asking("rpms", "heads"), judge=gates.upgraded),

        step("Check that user requests are still blocked", loadbalancer.still_fenced, on=BALANCERS,
             when_empty="no load balancer: nothing is blocked", per_node=site.fenced, **site.fence,
             section="Back to service"),
        lift("Enable RabbitMQ", RABBITMQ, on=QUEUES, services=site.rabbitmq),
        lift("Enable services on top controllers", DAEMONS, on=TOP_CONTROLLERS, services=site.services),
        lift("Enable services in child cell controllers", DAEMONS, on=CELL_CONTROLLERS, services=site.services),
        lift("Enable nova-compute", DAEMONS, on=COMPUTE_NODES, reconnects=True, services=site.services),
        gate("Check out the service communications", ask, on=EVERY_NODE,
             per_node=site.asking("services", patient=True), judge=gates.services_up),
        step("Update the compute nodes: all release packages, stragglers too", packages.update, on=COMPUTE_NODES,
             per_node=release),
        lift("Enable monitoring and alarms on all nodes", RESTARTS_AND_ALARMS, on=EVERY_NODE, **site.monitoring),
        lift("Enable Puppet on all nodes", puppet.AGENT, on=EVERY_NODE, **site.puppet),
        lift("Lift the hold on Puppet automatic software updating", puppet.UPDATES, on=EVERY_NODE, **site.updates),

        *scheduled(site),

        step("Check that user requests are still blocked, now that Puppet runs again", loadbalancer.still_fenced,
             on=BALANCERS, when_empty="no load balancer: nothing is blocked", per_node=site.fenced, **site.fence,
             section="Check-out tests"),
        step("Check-out test: every cell answers over RabbitMQ", checkout.cells_answer, on=FIRST_TOP_CONTROLLER,
             per_node=site.cells_to_answer),
        step("Check-out test: create and delete a guest in each cell, past the fence", checkout.guest_in_each_cell,
             on=FIRST_TOP_CONTROLLER, per_node=site.guests_to_create),
        step("Check-out test: the site's own commands", checkout.site_command, on=site.command_nodes,
             per_node=site.site_commands, when_empty="cloud.yaml has none"),
        gate("Check that no volume was lost", ask, on=DATABASES, per_node=site.asking("volumes"),
             judge=gates.volumes_kept),
        gate("Check that no guest was lost or restarted", ask, on=COMPUTE_NODES_AND_DATABASES,
             per_node=site.asking("guests"), judge=gates.guests_kept),
        step("Repair the quota usage, where --repair-quotas asks for it", repair_if_asked, on=TOP_DATABASE,
             per_node=site.quota_repair),
        gate("Check the quota usage: its repair is simplest now", ask, on=TOP_DATABASE,
             per_node=site.asking("quotas"), judge=gates.quotas_counted),
        lift("Enable user facing APIs at the top cells", FENCE, on=BALANCERS, no_return=True,
             when_empty="no load balancer in the inventory: open them by hand", **site.fence),
    ), may_miss=lambda node: node.tier == "compute", way_back="`cellstep backout nova` brings back what was",
       facts=site.facts)


def scheduled(site: Site) -> list[Step]:
    """Nodes in quarantine get no guests, those that were caught up get them again."""
    return [
        save("Note how quarantined compute nodes stand in the services table", scheduling.standing, on=DATABASES,
             per_node=site.in_quarantine, judge=gates.note_disabled),
        step("Disable nova-compute of quarantined nodes in the services table, enable it where one was caught up",
             scheduling.settle, on=DATABASES, per_node=site.scheduling, bystanders=True),
    ]


def _quiet(
    site: Site, tier: str, daemons: Nodes, nodes: Nodes, balancers: Nodes, server: Nodes, queues: Nodes
) -> list[Step]:
    """One tier brought to rest; a tier is finished before the next begins."""
    return [
        hold(f"{tier}: block requests to stop new operations arriving", FENCE, on=balancers,
             when_empty="no load balancer here: nothing to block", section=tier, **site.fence),
        step(f"{tier}: wait until no instance has a task state", databases.wait_for_tasks, on=server,
             when_empty="no database here: nothing to wait for", **site.task_wait),
        step(f"{tier}: wait until the queues are empty", rabbitmq.wait_until_empty, on=queues,
             when_empty="no RabbitMQ here: nothing to wait for", service=site.rabbitmq[0], **site.wait),
        hold(f"{tier}: disable automatic restart of daemons by the monitoring system, mask alarms",
             RESTARTS_AND_ALARMS, on=nodes, **site.monitoring),
        hold(f"{tier}: stop the daemons", DAEMONS, on=daemons, services=site.services),
        hold(f"{tier}: disable RabbitMQ", RABBITMQ, on=queues, services=site.rabbitmq,
             when_empty="no RabbitMQ here: nothing to disable"),
    ]
