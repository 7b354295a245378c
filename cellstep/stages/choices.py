"""Which nodes a step is for, in the operators' words."""

from collections.abc import Callable, Sequence

from cellstep.cloud.nodes import Node
from cellstep.engine.steps import Nodes


def _where(words: str, rule: Callable[[Node], bool]) -> Nodes:
    return Nodes(words, lambda nodes: [node for node in nodes if rule(node)])


def _first_of_each_cell(rule: Callable[[Node], bool]) -> Callable[[Sequence[Node]], Sequence[Node]]:
    def choose(nodes: Sequence[Node]) -> Sequence[Node]:
        firsts: dict[str, Node] = {}
        for node in nodes:
            if rule(node):
                firsts.setdefault(node.cell, node)
        return list(firsts.values())

    return choose


def _top(node: Node) -> bool:
    return node.cell == "top"


def _served(node: Node) -> bool:
    return node.tier in {"top", "cell", "compute"}


# A dashboard's or a client's machine has a stage of its own, and no other touches it.
EVERY_NODE = _where("all nodes", lambda node: not node.outside)
STAGE_NODES = _where("controllers and compute nodes", _served)
TOP_CONTROLLERS = _where("top API controllers", lambda node: node.tier == "top")
CELL_CONTROLLERS = _where("cell controllers", lambda node: node.tier == "cell")
CONTROLLERS = _where("controllers", lambda node: node.tier in {"top", "cell"})
COMPUTE_NODES = _where("compute nodes", lambda node: node.tier == "compute")

FIRST_TOP_CONTROLLER = Nodes("the first top API controller", _first_of_each_cell(lambda node: node.tier == "top"))
A_CONTROLLER_IN_EACH_CELL = Nodes("one controller in each cell", _first_of_each_cell(lambda node: node.tier == "cell"))

TOP_NODES = _where("nodes of the top cell", lambda node: _top(node) and not node.outside)
CELL_NODES = _where(
    "nodes of the child cells but compute nodes", lambda n: not _top(n) and n.tier != "compute" and not n.outside
)

DASHBOARDS = _where("dashboards", lambda node: "dashboard" in node.roles)
CLIENTS = _where("clients", lambda node: "client" in node.roles)

BALANCERS = _where("load balancers", lambda node: "loadbalancer" in node.roles)
TOP_BALANCERS = _where("load balancers of the top cell", lambda node: _top(node) and "loadbalancer" in node.roles)
CELL_BALANCERS = _where("load balancers of the child cells", lambda n: not _top(n) and "loadbalancer" in n.roles)
NO_BALANCERS = _where("load balancers on compute nodes", lambda n: n.tier == "compute" and "loadbalancer" in n.roles)

DATABASES = _where("database nodes", lambda node: "database" in node.roles)
TOP_DATABASE = Nodes("the top cell's database node", _first_of_each_cell(lambda n: _top(n) and "database" in n.roles))
CELL_DATABASES = _where("database nodes of the child cells", lambda n: not _top(n) and "database" in n.roles)
COMPUTE_DATABASES = _where("databases on compute nodes", lambda n: n.tier == "compute" and "database" in n.roles)

QUEUES = _where("RabbitMQ nodes", lambda node: "queue" in node.roles)
TOP_QUEUES = _where("RabbitMQ nodes of the top cell", lambda node: _top(node) and "queue" in node.roles)
CELL_QUEUES = _where("RabbitMQ nodes of the child cells", lambda node: not _top(node) and "queue" in node.roles)
COMPUTE_QUEUES = _where("RabbitMQ on compute nodes", lambda n: n.tier == "compute" and "queue" in n.roles)

CONTROLLERS_AND_DATABASES = _where(
    "controllers and database nodes", lambda node: node.tier in {"top", "cell"} or "database" in node.roles
)
COMPUTE_NODES_AND_DATABASES = _where(
    "compute and database nodes", lambda node: node.tier == "compute" or "database" in node.roles
)
STAGE_NODES_AND_DATABASES = _where(
    "controllers, compute and database nodes", lambda node: _served(node) or "database" in node.roles
)


def named(name: str) -> Nodes:
    """One node by its name."""
    return _where(name, lambda node: node.name == name)
