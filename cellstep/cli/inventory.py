"""`cellstep inventory`: the cloud's nodes by cell and role."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cellstep.cli.options import CloudOption, open_cloud
from cellstep.cloud.load import Cloud
from cellstep.cloud.nodes import Node

_ROLES = (
    "controller",
    "loadbalancer",
    "database",
    "queue",
    "compute",
    "dashboard",
    "client",
)  # the order they are shown in; others follow


def inventory(
    cloud: CloudOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON, for machines.")] = False,
) -> None:
    """Show the cloud's nodes: cells, data centres and roles, with folded names."""
    loaded = open_cloud(cloud)
    if as_json:
        typer.echo(json.dumps(describe(loaded), indent=2))
        return
    console = Console(highlight=False)
    console.print(_table(loaded))
    console.print(_summary(loaded), style="bold")


def describe(cloud: Cloud) -> dict[str, Any]:
    """The cloud for machines: its cells with folded names, its groups, and every host."""
    return {
        "cloud": cloud.config.name,
        "directory": str(cloud.directory),
        "release": cloud.release.name,
        "cells": [_describe_cell(cloud, name) for name in ("top", *cloud.cells)],
        "groups": {name: cloud.fold(node.name for node in nodes) for name, nodes in cloud.groups.items()},
        "hosts": [_describe_host(cloud, node) for node in cloud.nodes],
    }


def _describe_cell(cloud: Cloud, name: str) -> dict[str, Any]:
    nodes = cloud.groups[name]
    return {
        "name": name,
        "data_centres": _data_centres(nodes),
        "count": len(nodes),
        "roles": {
            role: {"count": len(members), "nodes": cloud.fold(node.name for node in members)}
            for role, members in _by_role(nodes).items()
        },
    }


def _describe_host(cloud: Cloud, node: Node) -> dict[str, Any]:
    host = cloud.inventory.hosts[node.name]
    return {
        "name": node.name,
        "cell": node.cell,
        "tier": node.tier,
        "roles": sorted(node.roles),
        "data_centre": node.data_centre,
        "platform": node.platform,
        "address": host.hostname or node.name,
        "port": host.port,
        "username": host.username or cloud.config.ssh.username,
    }


def _data_centres(nodes: tuple[Node, ...]) -> list[str]:
    return list(dict.fromkeys(node.data_centre for node in nodes))


def _by_role(nodes: tuple[Node, ...]) -> dict[str, list[Node]]:
    roles = {role for node in nodes for role in node.roles}
    order = [role for role in _ROLES if role in roles] + sorted(roles.difference(_ROLES))
    return {role: [node for node in nodes if role in node.roles] for role in order}


def _table(cloud: Cloud) -> Table:
    table = Table(title=f"{cloud.config.name}: {cloud.release.name}", title_justify="left", title_style="bold")
    table.add_column("cell", no_wrap=True)
    table.add_column("data centre", no_wrap=True)
    table.add_column("role", no_wrap=True)
    table.add_column("nodes", justify="right", no_wrap=True)
    table.add_column("names", overflow="fold")
    for cell in ("top", *cloud.cells):
        nodes = cloud.groups[cell]
        first = (cell, ", ".join(_data_centres(nodes)))
        for role, members in _by_role(nodes).items():
            names = cloud.fold(node.name for node in members).replace(",", ", ")
            table.add_row(*first, role, f"{len(members):,}", names)
            first = ("", "")
        table.add_section()
    return table


def _summary(cloud: Cloud) -> str:
    cells, centres = len(cloud.cells), _data_centres(cloud.nodes)
    roles = ", ".join(f"{len(members):,} {role}" for role, members in _by_role(cloud.nodes).items())
    return (
        f"{len(cloud.nodes):,} nodes in the top cell and {cells} child cell{'' if cells == 1 else 's'}, "
        f"{len(centres)} data centre{'' if len(centres) == 1 else 's'}\n{roles}"
    )
