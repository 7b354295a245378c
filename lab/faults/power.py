"""Faults of a host as a whole: power, and processes that stand still."""

from lab import network
from lab.machine import Machine


def hang(machine: Machine) -> None:
    """Stop every process of the host where it stands."""
    machine.group.freeze(frozen=True)


def thaw(machine: Machine) -> None:
    """Let them go on."""
    machine.group.freeze(frozen=False)


def off(machine: Machine) -> None:
    """Take its power away; its network answers open connections with a reset."""
    machine.power_off()


def cut(machine: Machine) -> None:
    """Pull its cable first: nobody hears a reset or a goodbye, open connections just fall silent."""
    network.link(machine.spec, machine.host.name, up=False)
    machine.power_off()


def plug_in(machine: Machine) -> None:
    """For a power fault that was begun only: `clear` boots a host which is off."""
    network.link(machine.spec, machine.host.name, up=True)
