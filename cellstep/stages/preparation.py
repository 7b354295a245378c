"""Days ahead: the databases of a component dumped, the dumps proven, and its schema change rehearsed on the copies."""

from collections.abc import Callable
from dataclasses import replace

from cellstep.cloud.load import Cloud
from cellstep.engine.steps import Runbook, Step, gate, step
from cellstep.stages.copies import Copies
from tasks import backup, staging


def backed_up(copies: Copies) -> Step:
    """The dumps, cells side by side."""
    return step(copies.back_up, backup.back_up,
                on=copies.sources, per_node=copies.dumps, at_once=True, keep=copies.keep_backups)  # fmt: skip


def proven(copies: Copies) -> Step:
    """The dumps restored, and the schema change tried on what was restored."""
    return step(copies.prove, staging.prove, on=copies.provers, per_node=copies.to_prove, at_once=True,
                keep=copies.keep_proofs)  # fmt: skip


def compared(copies: Copies) -> Step:
    """The gate before a schema is changed."""
    return gate(copies.gate, backup.compare_all, on=copies.sources, per_node=copies.to_compare, judge=copies.proven)


def backup_of(component: str) -> Callable[[Cloud], Runbook]:
    """The runbook of `cellstep backup`."""

    def runbook(cloud: Cloud) -> Runbook:
        copies = Copies(cloud, component)
        return _runbook(f"{component}-backup", copies, backed_up(copies))

    return runbook


def replica_backup_of(component: str) -> Callable[[Cloud], Runbook]:
    """The runbook of `cellstep backup --replica`."""

    def runbook(cloud: Cloud) -> Runbook:
        copies = Copies(cloud, component)
        dumped = replace(backed_up(copies), on=copies.replicas, per_node=copies.dumps_of_replica)
        return _runbook(f"{component}-replica-backup", copies, dumped)

    return runbook


def rehearsal_of(component: str) -> Callable[[Cloud], Runbook]:
    """The runbook of `cellstep rehearse`."""

    def runbook(cloud: Cloud) -> Runbook:
        copies = Copies(cloud, component)
        return _runbook(f"{component}-rehearsal", copies, backed_up(copies), proven(copies))

    return runbook


def _runbook(stage: str, copies: Copies, *steps: Step) -> Runbook:
    return Runbook(stage, steps, may_miss=lambda _node: False, report=copies.tables)
