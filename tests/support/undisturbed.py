"""An undisturbed upgrade of a lab, which disturbed ones are compared with; watched and searched for secrets."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

from lab.commands import wait_until
from lab.control import machine
from lab.state import LabFolder
from tests.support.controllers import Books, controller
from tests.support.labs import TestLab, lab_up
from tests.support.secrecy import Found, Sightings, search_lab, secrets_of, watching
from tests.support.snapshot import Snapshot

NAME, CELLS, COMPUTES = "chaos", 1, 2
RUN = ("run", "nova", "--yes", "--repair-quotas")

# What comes and goes on a host by itself: logs, caches, and what servers and the system keep for themselves.
ITS_OWN = (
    *("var/log", "var/cache", "var/tmp", "tmp", "run", "root/.cache"),
    *("var/lib/mysql", "var/lib/rabbitmq", "var/lib/systemd", "var/lib/puppet", "var/lib/monit", "var/lib/dnf"),
    *("var/lib/private", "srv/lab", "etc/lab", "var/lib/rpm", "var/lib/haproxy"),
)
KEPT = {"start", "out", "err", "status"}


@dataclass(frozen=True)
class Undisturbed:
    """What an undisturbed run left, and what was seen of it.

    Attributes:
        snapshot: of all hosts, after a run of Puppet on each.
        files: the files on each host, as `files_of` tells them.
        sightings: in the process lists while it ran.
        found: the search for secrets afterwards.
        seconds: that the run took.
    """

    snapshot: Snapshot
    files: dict[str, list[str]]
    sightings: Sightings
    found: Found
    seconds: float


@cache
def undisturbed() -> Undisturbed:
    """Bring a lab up, upgrade it once, look, and take it down; once for all tests of a session."""
    with lab_up(NAME, CELLS, COMPUTES) as lab:
        for host in lab.spec.hosts():
            if "controller" in host.roles:  # its db sync takes so long that whoever looks at the processes sees it
                lab.on(host.name, "mkdir -p /etc/lab; echo 0.05 > /etc/lab/db-sync-pause")
        began = time.monotonic()
        with watching(secrets_of(lab)) as sightings, controller(lab, *RUN) as run:
            run.wait(expect=0)
        seconds = time.monotonic() - began
        Books(lab).check()
        settle(lab)
        return Undisturbed(lab.snapshot(), files_of(lab), sightings, search_lab(lab), seconds)


def settle(lab: TestLab) -> None:
    """Run Puppet now wherever it is enabled, so that it does not do so at any moment: it updates what is left to it."""
    script = "puppet-run || [ -e /var/lib/puppet/state/agent_disabled.lock ]"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: lab.on(host.name, script), lab.spec.hosts()))


def files_of(lab: TestLab) -> dict[str, list[str]]:
    """What has been written on each host since its birth, but for what comes and goes by itself.

    Of jobs and dumps only what a finished one does not leave is told.
    """
    return {host.name: _files_of(lab, host.name) for host in lab.spec.hosts()}


def _files_of(lab: TestLab, host: str) -> list[str]:
    upper = machine(lab.name, host).outside() / "upper"
    found = []
    for path in upper.rglob("*"):
        inside = path.relative_to(upper)
        if any(inside.is_relative_to(own) for own in ITS_OWN) or (path.is_dir() and not path.is_symlink()):
            continue
        match inside.parts:
            case ("var", "lib", "cellstep", "jobs", job, name):
                # The job that reboots a host is always cut off by that.
                if name not in KEPT and ".reboot." not in job:
                    found.append(f"job {job.split('.')[3]} {name}")
            case ("var", "lib", "cellstep", "backups", _, name):
                found.append(f"dump {name}")
            case ("var", "lib", "cellstep", "staging", _, name):
                found.append(f"staging {name}")
            case _:
                found.append(str(inside))
    return sorted(found)


def at_rest(lab: TestLab) -> None:
    """Wait until no job runs on any host: one holds its lock as long as it does."""
    for host in lab.spec.hosts():
        wait_until(partial(_rests, lab, host.name), timeout=60, what=f"the end of all jobs on {host.name}", every=1.0)


def _rests(lab: TestLab, host: str) -> bool:
    held = "for lock in /var/lib/cellstep/jobs/*/lock; do [ ! -e $lock ] || flock -n $lock true || echo $lock; done"
    scopes = "systemctl list-units --type=scope --all --no-legend 'cellstep-*'"
    return not lab.on(host, f"{held}; {scopes}").strip()


def slow(lab: TestLab, host: str, what: str, seconds: float) -> None:
    """Make room for a kill: `yum`, `mysqldump` or `db-sync` waits so long in mid-command on that host; 0: no more."""
    path = machine(lab.name, host).root() / "etc/lab" / f"{what}-pause"
    if seconds:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{seconds}\n", encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def transactions(lab: TestLab, host: str) -> list[str]:
    """What yum changed on a host: `begun update`, `done update` and so on, in order."""
    path = machine(lab.name, host).root() / "srv/lab/transactions"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [" ".join(line.split()[1:3]) for line in lines]


def boots(lab: TestLab, host: str) -> int:
    """How often a host has booted."""
    return len((LabFolder(lab.name).host(host) / "upper/srv/lab/boots").read_text(encoding="utf-8").splitlines())
