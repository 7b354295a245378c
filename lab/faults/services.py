"""Faults of what runs on a host: commands and services that say they did it, and did not."""

from lab.machine import Machine
from lab.state import write_whole

_COMMANDS = ("usr/sbin/reboot", "usr/sbin/shutdown")
_SYSTEMCTL = "/bin/systemctl"  # what both are links to
_LOADED = "etc/lab/dashboard-fault"  # the dashboard's stand-in looks for it at every request
_FROZEN = "etc/lab/frozen-heartbeat"  # the stand-ins look for it at every heartbeat

_SEVERAL = "etc/lab/several-names"  # nova-api names several guests of one request by it


def no_reboot(machine: Machine) -> None:
    """Replace `reboot` and `shutdown` by a program that does nothing, well."""
    for name in _COMMANDS:
        (machine.root() / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(machine.root() / name, "#!/bin/sh\nexit 0\n", 0o755)


def reboot(machine: Machine) -> None:
    """Put the real ones back."""
    for name in _COMMANDS:
        path = machine.root() / name
        if path.exists() and not path.is_symlink():
            new = path.with_name(f".{path.name}.new")
            new.unlink(missing_ok=True)
            new.symlink_to(_SYSTEMCTL)
            new.replace(path)


def freeze_heartbeat(machine: Machine) -> None:
    """Its services do all they did but report; one that is started later does the same."""
    path = machine.root() / _FROZEN
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, "")


def thaw_heartbeat(machine: Machine) -> None:
    """They report again within their usual five seconds."""
    (machine.root() / _FROZEN).unlink(missing_ok=True)


def fail_under_load(machine: Machine, requests: int) -> None:
    """Its dashboard answers 500 to what is more than so many requests in three seconds, log-ins among them."""
    path = machine.root() / _LOADED
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{requests}\n", 0o644)


def bear_load(machine: Machine) -> None:
    """It answers all again."""
    (machine.root() / _LOADED).unlink(missing_ok=True)


def equal_names(machine: Machine) -> None:
    """Guests that its nova-api makes by one request have all the name that was asked for."""
    _name_several(machine, "{name}")


def invalid_names(machine: Machine) -> None:
    """They have a template's rest in their names."""
    _name_several(machine, "{name}-%(uuid)s")


def _name_several(machine: Machine, template: str) -> None:
    path = machine.root() / _SEVERAL
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{template}\n")


def own_names(machine: Machine) -> None:
    """Each has a name of its own again."""
    (machine.root() / _SEVERAL).unlink(missing_ok=True)
