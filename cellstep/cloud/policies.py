"""Which rules the policy files of a node must have."""

from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from tasks.policies import Policy


def policies_of(cloud: Cloud, component: str, node: Node) -> tuple[Policy, ...]:
    """The rules that the release needs in policy files on the node, where it has the files."""
    facts = cloud.release.components[component].policies
    return tuple(Policy(fact.file, fact.rule, fact.value) for fact in facts if node.tier in fact.tiers)
