"""Where the databases of a component are."""

from dataclasses import dataclass

from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node
from cellstep.errors import ConfigurationError, UsageError
from cellstep.releases.model import SchemaFact


@dataclass(frozen=True)
class Place:
    """One database of a component.

    Attributes:
        node: its server's node, with the role `database`.
        component: whose it is.
        database: the schema's name on that server.
        schema: what the release knows of it.
    """

    node: Node
    component: str
    database: str
    schema: SchemaFact

    def __str__(self) -> str:
        return f"{self.node.name}/{self.database}"


def places(cloud: Cloud, component: str) -> tuple[Place, ...]:
    """The databases of a component, in the order of the inventory.

    Raises:
        UsageError: the release has no such component, or it has no database.
        ConfigurationError: no node has it.
    """
    known = [name for name, fact in cloud.release.components.items() if fact.databases]
    if component not in known:
        raise UsageError(f"there is no component “{component}” with a database; there are: {', '.join(known)}")
    servers = [node for node in cloud.nodes if "database" in node.roles]
    found = []
    for schema in cloud.release.components[component].databases:
        chosen = _servers(cloud, component, schema, servers)
        found += [Place(node, component, cloud.database(component), schema) for node in chosen]
    return tuple(found)


def _servers(cloud: Cloud, component: str, schema: SchemaFact, servers: list[Node]) -> list[Node]:
    """One a cell with the component, or one in all: the one that cloud.yaml names, else the cell's first."""
    cells = cloud.cells_with(component)
    firsts: dict[str, Node] = {}
    for node in servers:
        if not schema.per_cell or node.cell in cells:
            firsts.setdefault(node.cell, node)
    named = next((node for node in cloud.nodes if node.name == cloud.config.databases.on.get(component)), None)
    if schema.per_cell and cells - {"top"}:
        return list((firsts | ({named.cell: named} if named else {})).values())
    if named is not None:
        return [named]
    if "top" not in firsts:
        raise ConfigurationError(
            [f"the top cell has no node with the role `database`; add it, or name one in databases.on.{component}"]
        )
    return [firsts["top"]]
