"""Faults of a host's link. They are in its network namespace, which is there while the host is off, too."""

from lab import network
from lab.machine import Machine


def refuse(machine: Machine) -> None:
    """Answer new connections to its SSH port with a reset."""
    network.refuse_ssh(machine.spec, machine.host.name, refuse=True)


def allow(machine: Machine) -> None:
    """Let new connections in again."""
    network.refuse_ssh(machine.spec, machine.host.name, refuse=False)


def lose(machine: Machine, per_cent: int) -> None:
    """Drop that share of what reaches the host, at random: requests, and answers to its own."""
    network.lose_packets(machine.spec, machine.host.name, per_cent)


def lose_none(machine: Machine) -> None:
    """Drop nothing."""
    network.lose_packets(machine.spec, machine.host.name, 0)


def slow(machine: Machine, kbit_s: int) -> None:
    """Shape its link in both directions. Its packages are not slower: they come from the host's own repository."""
    network.shape(machine.spec, machine.host.name, kbit_s)


def full_speed(machine: Machine) -> None:
    """Shape nothing."""
    network.shape(machine.spec, machine.host.name, None)
