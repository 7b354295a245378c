"""Keystone: the cells' own servers first, one cell after the other; then all of the main ones together.

A Grizzly server fails on a token of a Havana server. So the main ones, which share tokens, are never of two releases
while they serve, and go as soon as the cells' have passed their tests.
"""

from cellstep.check.gates import Checks
from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Runbook, Step, gate, hold, lift, save, step
from cellstep.stages import gates
from cellstep.stages.arguments import Site
from cellstep.stages.copies import Copies
from cellstep.stages.identity import MAIN, Identity
from cellstep.stages.preparation import backed_up, compared, proven
from cellstep.stages.rest import NOT_WATCHED, begin, end, reopen
from tasks import databases, evidence, hazards, loadbalancer, packages
from tasks.darktime import DARK_TIME
from tasks.keystone import directory, ec2, probe, server, tokens
from tasks.loadbalancer import FENCE
from tasks.monitoring import RESTARTS_AND_ALARMS
from tasks.services import DAEMONS

NO_PURGE = "keystone.purge_tokens in cloud.yaml does not ask for it"

# A runbook is read as a list: a step is one line, and wraps as prose does.
# fmt: off


def runbook(cloud: Cloud) -> Runbook:
    """The steps of the stage for one cloud."""
    site = Site(cloud, "keystone")
    own, checks = Identity(site), Checks(cloud, "keystone")
    return Runbook("keystone", (
        gate("Save the settings that must stay, and check that the main servers change together", server.look,
             on=own.everywhere, per_node=own.nothing, judge=own.all_together, section="Before anything is changed"),
        gate("Check that nothing in the databases stands against the schema change: EC2 keys above all", hazards.look,
             on=own.all_stores, per_node=checks.before, judge=checks.judge_before),
        save("See which server takes whose token now", probe.crossed, on=own.firsts, per_node=own.to_cross,
             judge=own.keep_shapes),
        save("Save a digest of the directory", directory.look, on=own.firsts, per_node=own.nothing,
             judge=own.keep_directory),
        *begin(site, own.everywhere),
        step("Delete the expired tokens, a few at a time", tokens.purge_all, on=own.stores_to_purge,
             when_empty=NO_PURGE, per_node=own.keys),
        *(line for cell in own.cells for line in _cell(site, own, checks, cell)),
        *_main(site, own, checks),
        gate("Check that the directory is untouched", directory.look, on=own.firsts, per_node=own.since,
             judge=own.directory_untouched),
        *end(site, own.everywhere),
    ), may_miss=lambda _node: False, facts=site.facts)


def _cell(site: Site, own: Identity, checks: Checks, cell: str) -> list[Step]:
    """The servers of one child cell."""
    nodes = own.of(cell)
    return [
        hold(f"{cell}: disable automatic restart by the monitoring system, mask alarms", RESTARTS_AND_ALARMS, on=nodes,
             section=f"Keystone of {cell}", **site.monitoring),
        hold(f"{cell}: stop keystone", DAEMONS, on=nodes, services=site.services),
        *_changed(site, own, checks, cell),
        lift(f"{cell}: start keystone", DAEMONS, on=nodes, services=site.services),
        *_tested(site, own, cell),
        lift(f"{cell}: enable monitoring and alarms", RESTARTS_AND_ALARMS, on=nodes, **site.monitoring),
    ]


def _main(site: Site, own: Identity, checks: Checks) -> list[Step]:
    """The servers of the top cell, all at rest at once."""
    nodes, nothing = own.of(MAIN), "no back end of keystone in fence.backends: nothing is blocked"
    return [
        hold("Begin to look at the API from outside", DARK_TIME, on=site.watcher, when_empty=NOT_WATCHED,
             section="The main servers, all together", **site.watched),
        hold("Block requests to the main servers", FENCE, on=site.balancers, when_empty=nothing, **site.fence),
        hold("Disable automatic restart by the monitoring system, mask alarms", RESTARTS_AND_ALARMS, on=nodes,
             **site.monitoring),
        hold("Stop all main servers", DAEMONS, on=nodes, services=site.services),
        *_changed(site, own, checks, MAIN),
        step("Check that user requests are still blocked", loadbalancer.still_fenced, on=site.balancers,
             when_empty=nothing, per_node=site.fenced, **site.fence),
        lift("Start all main servers", DAEMONS, on=nodes, services=site.services),
        *_tested(site, own, MAIN),
        *reopen(site, no_return=True),
    ]


def _changed(site: Site, own: Identity, checks: Checks, cell: str) -> list[Step]:
    """Servers at rest: their database dumped and changed, their packages updated."""
    copies, nodes, store, name = Copies(site.cloud, "keystone", cell), own.of(cell), own.store(cell), _prefix(cell)
    return [
        save(f"{name}save a digest of each EC2 key", ec2.fingerprints, on=store, per_node=own.keys,
             judge=own.keep_keys),
        gate(f"{name}check once more that nothing stands against the schema change", hazards.look, on=store,
             per_node=checks.before, judge=checks.judge_before),
        backed_up(copies),
        proven(copies),
        compared(copies),
        step(f"{name}update the RPMs", packages.update, on=nodes, per_node=site.packages, at_once=True),
        step(f"{name}update the DB: keystone-manage db_sync", databases.sync, on=own.first(cell),
             per_node=copies.forecast, **own.schema(cell)),
        gate(f"{name}check the schema: the release's, with all that is the site's own, and no row lost", hazards.look,
             on=store, per_node=checks.after, judge=checks.judge_after),
        gate(f"{name}check that every EC2 key is there, with its secret", ec2.fingerprints, on=store,
             per_node=own.keys, judge=own.keys_kept),
    ]


def _tested(site: Site, own: Identity, cell: str) -> list[Step]:
    """What must be well before the next cell begins, and before users are let in."""
    name = _prefix(cell)
    return [
        gate(f"{name}check the RPMs, the schema version and that keystone runs", evidence.gather,
             on=own.with_store(cell), per_node=site.asking("rpms", "services", "heads"), judge=gates.upgraded_and_up),
        gate(f"{name}check that token format, API versions and backends are as before", server.look, on=own.of(cell),
             per_node=own.listening, judge=own.same_settings),
        gate(f"{name}functional test: each server gives a token with a catalogue, and each takes it", probe.crossed,
             on=own.first(cell), per_node=own.to_cross, judge=own.tokens_work),
    ]


def _prefix(cell: str) -> str:
    return f"{cell}: " if cell != MAIN else "main servers: "
