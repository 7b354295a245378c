"""Nodes beside the task's own: a step sees its own nodes alone, and what it asks may be told by another."""

from collections.abc import Mapping

from nornir.core.inventory import Host
from nornir.core.task import Task

from plugins.connections.ssh import Ssh

PEERS = "peers"
"""In a host's data: all hosts by name, also those that the step is not for."""


def host_of(task: Task, name: str) -> Host:
    """The host of a name; the task's own, or another that the dispatcher knows."""
    if name == task.host.name:
        return task.host
    peers: Mapping[str, Host] = task.host.data[PEERS]
    return peers[name]


def connection(task: Task, name: str) -> Ssh:
    """The SSH connection to a node, which need not be the task's own."""
    found: Ssh = host_of(task, name).get_connection("cellstep_ssh", task.nornir.config)
    return found
