"""A node of the cloud, as the runbooks see it."""

from dataclasses import dataclass
from typing import Literal

Tier = Literal["top", "cell", "compute", "dashboard", "client"]
_OTHERS: tuple[Tier, ...] = ("compute", "dashboard", "client")

_OF_THE_CLOUD = {"database", "replica", "queue", "loadbalancer"}


@dataclass(frozen=True, slots=True)
class Node:
    """One host of the cloud.

    Attributes:
        name: its name in the inventory.
        cell: `top`, or the child cell's name.
        roles: what it does there: controller, compute, database, queue, loadbalancer, dashboard, client, or the site's
            own words.
        data_centre: where it stands.
        platform: what it runs, `el6` for instance.
    """

    name: str
    cell: str
    roles: frozenset[str]
    data_centre: str
    platform: str

    @property
    def tier(self) -> Tier | None:
        """`top` (a top controller), `cell` (a child cell's controller), `compute`, `dashboard`, `client`, or None.

        A node that is controller and compute at once is upgraded with the controllers; a dashboard or the clients on
        such a node have its tier, and are found by their role.
        """
        if "controller" in self.roles:
            return "top" if self.cell == "top" else "cell"
        for name in _OTHERS:  # called often: twenty times a node in an audit
            if name in self.roles:
                return name
        return None

    @property
    def outside(self) -> bool:
        """Whether it only talks to the cloud: a dashboard's or a client's machine, which nothing else runs on."""
        return self.tier in {"dashboard", "client"} and not self.roles & _OF_THE_CLOUD
