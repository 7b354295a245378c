"""Faults that can be given to a host, each real, each undone by `--clear`.

A new fault is a line in FAULTS below and two functions, one that makes it and one that undoes it, in the module beside
this one where its kin are. A marker file per fault in the host's folder says what is in place; it is written before the
fault is made and removed after it is undone, so that whatever is interrupted can be cleared.
"""

from lab import network
from lab.commands import wait_until
from lab.errors import LabError, LabUsageError
from lab.faults import disk, keys, links, packages, power, services
from lab.faults.fault import Amount, Fault
from lab.machine import Machine
from lab.state import write_whole

__all__ = ["FAULTS", "Amount", "Fault", "clear", "in_place", "place"]

# In the order they are undone in: a frozen host first, power last.
FAULTS: dict[str, Fault] = {
    "hang": Fault("every process of it stands still", power.hang, power.thaw),
    "packet-loss": Fault(
        "that share of the packets to it is lost",
        links.lose,
        links.lose_none,
        amount=Amount(30, 1, 99, "per cent"),
        lasting=True,
    ),
    "slow-link": Fault(
        "its link carries that many kbit/s in each direction",
        links.slow,
        links.full_speed,
        amount=Amount(64, 8, 1_000_000, "kbit/s"),
        lasting=True,
    ),
    "refuse-ssh": Fault("new connections to its SSH port are reset", links.refuse, links.allow, lasting=True),
    "rpm-lock": Fault("a process on it holds rpm's lock", packages.hold_lock, packages.release_lock),
    "full-var": Fault(f"/var has {disk.VAR_SIZE_MB} MB more, all used up", disk.fill_var, disk.empty_var),
    "broken-rpmdb": Fault("its RPM database cannot be read", packages.break_database, packages.mend, lasting=True),
    "no-repository": Fault("its RPM repositories are empty", packages.hide, packages.show),
    "new-host-key": Fault("its sshd has another host key", keys.new_host_key, keys.old_host_key, lasting=True),
    "refused-key": Fault("its sshd refuses the operator's key", keys.refuse, keys.accept, lasting=True),
    "no-reboot": Fault("`reboot` ends with 0, and nothing happens", services.no_reboot, services.reboot, lasting=True),
    "frozen-heartbeat": Fault(
        "its nova services run, and report no more", services.freeze_heartbeat, services.thaw_heartbeat, lasting=True
    ),
    "500-under-load": Fault(
        "its dashboard answers HTTP 500 to what is more than so many requests in 3 seconds, log-ins among them",
        services.fail_under_load,
        services.bear_load,
        amount=Amount(12, 1, 1000, "requests"),
        lasting=True,
    ),
    "equal-names": Fault(
        "guests that its nova-api makes by one request have equal names",
        services.equal_names,
        services.own_names,
        lasting=True,
    ),
    "invalid-names": Fault(
        "guests that its nova-api makes by one request have names that no host may have",
        services.invalid_names,
        services.own_names,
        lasting=True,
    ),
    "power-cut": Fault("its cable is pulled, then its power: connections fall silent", power.cut, power.plug_in),
    "power-off": Fault("its power is gone: connections are reset", power.off, power.plug_in),
}


def place(machine: Machine, kind: str, amount: int | None = None) -> bool:
    """Give a host a fault.

    Args:
        machine: the host.
        kind: of FAULTS.
        amount: for the faults that have one; their default when None.

    Returns:
        False when it has that fault already, whatever its amount.

    Raises:
        LabUsageError: there is no such kind, or the amount is not one for it.
        LabError: it could not be made; what was begun is undone.
    """
    fault = FAULTS.get(kind)
    if fault is None:
        raise LabUsageError(f"no fault {kind!r}: use one of {', '.join(FAULTS)}")
    wanted = fault.amount_of(amount)
    if kind in in_place(machine):
        return False
    if machine.supervisor() is None and not kind.startswith("power-"):
        raise LabError(f"{machine.host.name} is off: `cellstep lab fault {machine.host.name} --clear` boots it")
    marker = machine.folder / "faults" / kind
    write_whole(marker, "" if wanted is None else f"{wanted}\n")
    try:
        if wanted is None:
            fault.place(machine)
        else:
            fault.place(machine, wanted)
    except (LabError, OSError) as error:
        if fault.lasting or machine.supervisor() is not None:
            fault.undo(machine)
        marker.unlink()
        raise error if isinstance(error, LabError) else LabError(f"{kind} on {machine.host.name}: {error}") from error
    return True


def clear(machine: Machine) -> list[str]:
    """Undo every fault of a host, boot it if it is off, and wait until it is up.

    Returns:
        The kinds that were undone.

    Raises:
        LabError: one could not be undone; the others before it are.
    """
    undone: list[str] = []
    for kind in in_place(machine):
        if FAULTS[kind].lasting or machine.supervisor() is not None:
            FAULTS[kind].undo(machine)
        (machine.folder / "faults" / kind).unlink(missing_ok=True)
        undone.append(kind)
    if machine.supervisor() is None:
        machine.power_on()
        machine.wait_booted()
        wait_until(
            lambda: machine.host.name in network.answering(machine.spec, [machine.host]),
            timeout=30,
            what=f"{machine.host.name} to answer on its SSH port",
        )
    return undone


def in_place(machine: Machine) -> list[str]:
    """The kinds of fault a host has, in the order they are undone in."""
    folder = machine.folder / "faults"
    return [kind for kind in FAULTS if (folder / kind).exists()]
