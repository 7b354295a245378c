"""A thousand nodes with the same trouble are one line: messages that differ only in the node's own name and address."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cellstep.cloud.load import Cloud

GROUPS_SHOWN = 8
"""How many different messages are printed at once; the rest is counted."""

NAMES_SHOWN = 160
"""Characters of folded names in a line; nodes without any order do not fold."""

NODE, ADDRESS = "NODE", "ADDRESS"


@dataclass(frozen=True)
class Group:
    """Nodes with the same trouble.

    Attributes:
        kind: the state, or what else tells groups apart.
        text: the message; where it was not the same letter by letter, NODE stands for the node's own name.
        nodes: their names, as they came.
    """

    kind: str
    text: str
    nodes: tuple[str, ...]


def groups_of(cloud: Cloud, troubles: Iterable[tuple[str, str, str]]) -> list[Group]:
    """Put nodes with the same trouble together, the most nodes first.

    Args:
        cloud: knows the nodes' addresses.
        troubles: (kind, message, node's name).
    """
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for kind, message, node in troubles:
        found.setdefault((kind, _anonymous(cloud, message, node)), []).append((node, message))
    groups = []
    for (kind, anonymous), members in found.items():
        said = {message.removeprefix(f"{node}: ") for node, message in members}
        text = said.pop() if len(said) == 1 else anonymous.removeprefix(f"{NODE}: ")
        groups.append(Group(kind, text, tuple(node for node, _ in members)))
    return sorted(groups, key=lambda group: -len(group.nodes))


def _anonymous(cloud: Cloud, message: str, node: str) -> str:
    """The message with NODE for the node's own name (also without its domain), ADDRESS for its address."""
    host = cloud.inventory.hosts.get(node)
    short = node.partition(".")[0]
    words = {node: NODE, short: NODE}
    if host is not None and host.hostname and host.hostname not in words:
        words[host.hostname] = ADDRESS
        if host.port:
            message = _put(
                message, {f"{host.hostname}:{host.port}": ADDRESS, f"[{host.hostname}]:{host.port}": ADDRESS}
            )
    return _put(message, words)


def _put(message: str, words: Mapping[str, str]) -> str:
    if not any(word in message for word in words):
        return message
    longest_first = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    whole = rf"(?<![A-Za-z0-9_.-])(?:{longest_first})(?![A-Za-z0-9_-])"
    return re.sub(whole, lambda found: words[found.group()], message)


def shown(groups: Sequence[Group]) -> tuple[Sequence[Group], str]:
    """What is printed of them, and what is said of the rest; "" where that is all."""
    rest = groups[GROUPS_SHOWN:]
    if not rest:
        return groups, ""
    nodes = sum(len(group.nodes) for group in rest)
    on = "one more node" if nodes == 1 else f"{nodes:,} more nodes"
    return groups[:GROUPS_SHOWN], f"and {len(rest):,} more, on {on}: see hosts.csv"


def names(cloud: Cloud, nodes: Iterable[str]) -> str:
    """Nodes folded into one line that is not too long."""
    known = list(nodes)
    folded = cloud.fold(known)
    if len(folded) <= NAMES_SHOWN:
        return folded
    cut = folded[:NAMES_SHOWN]
    while cut.count("[") != cut.count("]"):
        cut = cut[: cut.rindex("[")].rpartition(",")[0]
    return f"{cut.rpartition(',')[0]},... ({len(known):,} nodes)"
