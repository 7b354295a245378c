"""A node of the cloud, as the runbooks see it."""

from dataclasses import dataclass
from typing import Literal

Tier = Literal["top", "cell", "compute"]


@dataclass(frozen=True, slots=True)
class Node:
    """One host of the cloud.

    Attributes:
        name: its name in the inventory.
        cell: `top`, or the child cell's name.
        roles: what it does there: controller, compute, database, queue, loadbalancer, or the site's own words.
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
        """`top` (a top controller), `cell` (a child cell's controller), `compute`, or None for the rest.

        A node that is controller and compute at once is upgraded with the controllers.
        """
        if "controller" in self.roles:
            return "top" if self.cell == "top" else "cell"
        return "compute" if "compute" in self.roles else None
