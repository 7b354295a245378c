"""`--limit` and the like: an expression for some of a cloud's nodes."""

from collections.abc import Iterator, Sequence

from cellstep.cloud.cloud import Cloud
from cellstep.cloud.nodes import Node
from cellstep.errors import UsageError
from plugins.inventory.ranges import RangeError, expand, split
from plugins.inventory.validation import nearest

EVERYBODY = "all"


def select(cloud: Cloud, expression: str) -> tuple[Node, ...]:
    """The nodes an expression means.

    Args:
        cloud: whose nodes.
        expression: comma-separated nodes, groups (top, cells, roles, data centres), `all`, and ranges such as
            `c01-n[01-02]` or `cell[01-03]`; one after `!` is left out. With nothing but exclusions, all others.

    Returns:
        the nodes, each once, in the cloud's order.

    Raises:
        UsageError: a name that is neither a node nor a group, a malformed range, or nobody is left.
    """
    wanted: set[str] = set()
    unwanted: set[str] = set()
    only_exclusions = True
    for part in split(expression):
        excluded = part.startswith("!")
        only_exclusions = only_exclusions and excluded
        (unwanted if excluded else wanted).update(_names(cloud, part.removeprefix("!").strip(), expression))
    chosen = tuple(
        node for node in cloud.nodes if node.name not in unwanted and (only_exclusions or node.name in wanted)
    )
    if not chosen:
        raise UsageError(f"'{expression}' matches no node of {cloud.config.name}; `cellstep inventory` shows them")
    return chosen


def with_databases(cloud: Cloud, nodes: Sequence[Node], *, top: bool = False) -> tuple[Node, ...]:
    """These nodes, and the database nodes of their cells, which know how they are; in the cloud's order.

    Args:
        cloud: whose nodes.
        nodes: which.
        top: the top cell's database nodes too.
    """
    names, cells = {node.name for node in nodes}, {node.cell for node in nodes} | ({"top"} if top else set())
    return tuple(n for n in cloud.nodes if n.name in names or (n.cell in cells and "database" in n.roles))


def _names(cloud: Cloud, part: str, expression: str) -> Iterator[str]:
    """The nodes of one part: a node, a group, or a range of either."""
    try:
        words = expand(part)
    except RangeError as error:
        where = "" if part == expression else f" in '{expression}'"
        raise UsageError(f"{error}{where}") from None
    known = {node.name for node in cloud.nodes}
    for word in words:
        if word in cloud.groups:
            yield from (node.name for node in cloud.groups[word])
        elif word in known:
            yield word
        elif word == EVERYBODY:
            yield from known
        else:
            guess = nearest(word, [*cloud.groups, *known])
            hint = f"did you mean '{guess}'?" if guess else "`cellstep inventory` shows them"
            raise UsageError(f"'{word}' is neither a node nor a group of {cloud.config.name}; {hint}")
