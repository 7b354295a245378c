"""The way back of packages and kernels: exactly what was on the node before the upgrade."""

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nornir.core.task import Result, Task

from tasks.errors import Refused
from tasks.holds import changed, skipped
from tasks.jobs import detached, earlier
from tasks.packages import UPDATE_TIMEOUT_S, absent, bring, installed_kernels
from tasks.platforms import lacking, platform_of
from tasks.platforms.model import Back
from tasks.reboot import restart, running_kernel, taken_up
from tasks.shell import change, sh

SHOWN = 4


@dataclass(frozen=True)
class Way:
    """What is to be done to a node's packages.

    Attributes:
        back: the release's packages of another version than before: name to the version before.
        absent: the release's packages that were there before and are not now.
        along: other packages that the same transactions updated: name to the version before.
        new: what the same transactions brought in, and was not there before: name to the version it has.
    """

    back: Mapping[str, str]
    absent: Mapping[str, str]
    along: Mapping[str, str]
    new: Mapping[str, str]

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.back or self.absent or self.new)


def way_back(
    rows: Sequence[tuple[str, str, str]],
    before: Mapping[str, str],
    everything: Mapping[str, Sequence[str]],
    release: Sequence[str],
) -> Way:
    """Find what must be done.

    Args:
        rows: name, `[epoch:]version-release` and id of the transaction, of all that is installed.
        before: of the release's packages: name to the version before.
        everything: the same of all packages, several versions each where several were installed; empty if not known.
        release: the names of the release's packages.

    Raises:
        Refused: a package of the release is installed twice.
    """
    versions: dict[str, list[str]] = {}
    for name, evr, _ in rows:
        versions.setdefault(name, []).append(evr)
    twice = [f"{n} ({', '.join(versions[n])})" for n in sorted({*release, *before}) if len(versions.get(n, ())) > 1]
    if twice:
        raise Refused(f"installed twice, after a cut-off transaction: {'; '.join(twice)}; mend with package-cleanup")
    back = {name: evr for name, evr in before.items() if name in versions and versions[name] != [evr]}
    absent = {name: evr for name, evr in before.items() if name not in versions}
    new = {name: versions[name][0] for name in release if name in versions and name not in before}
    along: dict[str, str] = {}
    transactions = {tid for name, _, tid in rows if tid and (name in back or name in new)}
    for name, evr, tid in rows:
        # Kernels stand beside each other and have a step of their own.
        if tid not in transactions or name in before or name in new or name.startswith("kernel") or not everything:
            continue
        was = everything.get(name, ())
        if not was:
            new[name] = evr
        elif len(was) == 1 and evr not in was:
            along[name] = was[0]
    return Way(back, absent, along, new)


def _rows(task: Task) -> list[tuple[str, str, str]]:
    """Name, version and transaction of all that is installed; "" for one that the package manager does not number.

    Raises:
        CommandFailed: the database cannot be read.
    """
    mine = platform_of(task).packages
    script = mine.back.rows if mine.back else ""
    said = sh(task, script or mine.listing, what=f"reading {mine.database}").stdout
    if not script:
        return [(name, version, "") for name, versions in mine.parse(said).items() for version in versions]
    return [(name, evr, tid) for name, evr, tid in (line.split() for line in said.splitlines())]


def _way(task: Task) -> Back:
    """How the node's package manager goes back.

    Raises:
        tasks.platforms.Lacking: it does not.
    """
    back = platform_of(task).packages.back
    if back is None:
        raise lacking(task, "way back for packages")
    return back


def _shown(packages: Mapping[str, str]) -> str:
    words = [f"{name} {evr}" for name, evr in sorted(packages.items())]
    return ", ".join(words[:SHOWN]) + (f" and {len(words) - SHOWN} more" if len(words) > SHOWN else "")


def download(
    task: Task, *, before: Mapping[str, str] | None, everything: Mapping[str, Sequence[str]], release: Sequence[str]
) -> Result:
    """Bring the versions of before to the node: that they are to be had is known before anything is stopped.

    Raises:
        CommandFailed: the package manager failed.
        Refused: it ended well, but a package is not in its cache.
    """
    if before is None:
        return skipped(task, "no versions were saved: nothing had been updated then")
    way = way_back(_rows(task), before, everything, release)
    wanted = {**way.back, **way.absent}
    if not wanted:
        return skipped(task, "at the versions of before already")
    if task.is_dry_run():
        return changed(task, f"would download {_shown(wanted)}")
    mine, verbs = platform_of(task).packages, (("downgrade", way.back), ("install", way.absent))
    how, fetch = mine.download, _way(task).download
    if how is None or fetch is None:
        return skipped(task, f"{mine.manager} brings nothing beforehand")
    for verb, some in verbs:
        if some:
            bring(task, how, fetch(verb, some), name=verb)
    if lacks := absent(task, how, wanted):
        raise Refused(f"not in {mine.manager}'s cache: {' '.join(lacks)}; has the node its repository?")
    return changed(task, f"downloaded {len(wanted)} packages")


def to_before(
    task: Task, *, before: Mapping[str, str] | None, everything: Mapping[str, Sequence[str]], release: Sequence[str]
) -> Result:
    """Bring the release's packages back to exactly the versions before, and take away what the update brought in.

    Args:
        task: the Nornir task.
        before: package of the release to the version that the node had; None where none were saved.
        everything: all packages of the node before; empty if not known: what came along is left then.
        release: the names of the release's packages.

    Raises:
        CommandFailed: the package manager failed, or its database cannot be read.
        tasks.jobs.CutOff: it was killed, or the node was restarted in the middle of its transaction.
        Refused: it ended well, but its database does not say what it said before.
    """
    if before is None:
        return skipped(task, "no versions were saved: nothing had been updated then")
    tried = earlier(task, "downgrade", timeout=UPDATE_TIMEOUT_S)  # in the middle of a transaction all is there twice
    way = way_back(_rows(task), before, everything, release)
    if not way and tried is not None and tried.exit_status == 0:
        return changed(task, "brought back by the try before, of which the end was not known")
    if not way:
        return skipped(task, "at the versions of before already")
    if task.is_dry_run():
        return changed(task, f"would bring back {_shown({**way.back, **way.absent})}")
    script, manager = (
        _way(task).script(way.back, way.along, way.absent, list(way.new)),
        platform_of(task).packages.manager,
    )
    detached(task, script, name="downgrade", what=f"{manager} downgrade", timeout=UPDATE_TIMEOUT_S)
    rows = _rows(task)
    have = {name: evr for name, evr, _ in rows}
    after = way_back(rows, before, everything, release)
    wrong = {**after.back, **after.absent}
    if wrong:
        first = ", ".join(f"{name} is {have.get(name, 'not there')}, not {evr}" for name, evr in sorted(wrong.items()))
        raise Refused(f"{manager} ended well, but {first}; is the version in a repository, is it excluded?")
    left = {name: have[name] for name in [*way.along, *way.new] if name in have and have[name] != way.along.get(name)}
    said = [f"back to {_shown({**way.back, **way.absent})}"] if way.back or way.absent else []
    gone = sorted(way.new.keys() - have.keys())
    said += [f"removed {', '.join(gone)}"] if gone else []
    said += [f"left as it is, since others need it: {_shown(left)}"] if left else []
    return changed(task, "; ".join(said))


def kernel_to_before(task: Task, *, running: str | None, kernels: Sequence[str], timeout_s: float) -> Result:
    """Reboot into the kernel that ran before the upgrade, and remove those that it installed.

    Args:
        task: the Nornir task.
        running: `uname -r` before; None where it was not saved.
        kernels: the kernels that were installed before, version-release.
        timeout_s: seconds until the node must answer again.

    Raises:
        Refused: the kernel of before is not there any more; the node did not come back, or on another kernel.
    """
    if running is None:
        return skipped(task, "no kernel was saved: none had been installed then")
    until = time.monotonic() + timeout_s
    after = taken_up(task, until, timeout_s)
    now = running_kernel(task)
    extra = _extra(task, kernels)
    if now == running and not extra and after is None:
        return skipped(task, f"runs {running}, as before")
    if task.is_dry_run():
        return changed(task, f"would reboot into kernel {running}" if now != running else f"would remove {extra}")
    said = ""
    if now != running or after is not None:
        if after is None:
            _make_default(task, running, extra)
            after = restart(task, until, timeout_s)
            now = running_kernel(task)
        if now != running:
            raise Refused(f"rebooted (boot id {after}), but runs kernel {now}, not {running}; look at its boot loader")
        said = f"rebooted into kernel {running}, boot id {after}"
        extra = _extra(task, kernels)
    if extra:
        change(task, _remove(task, extra), what="removing the new kernel", timeout=UPDATE_TIMEOUT_S)
    if left := _extra(task, kernels):
        raise Refused(f"still installed: kernel {', '.join(left)}")
    return changed(task, said or f"removed kernel {', '.join(extra)}, which did not run")


def _extra(task: Task, kernels: Sequence[str]) -> list[str]:
    return [kernel for kernel in installed_kernels(task) if kernel not in kernels]


def _remove(task: Task, kernels: Sequence[str]) -> str:
    script = platform_of(task).packages.remove_kernels
    if script is None:
        raise lacking(task, "way to remove kernels")
    return script(kernels)


def _make_default(task: Task, running: str, extra: Sequence[str]) -> None:
    """Let the boot loader take the kernel of before.

    Without grubby it takes the newest that is there, so the new ones go before the reboot.
    """
    if not any(running == kernel or running.startswith(f"{kernel}.") for kernel in installed_kernels(task)):
        raise Refused(f"kernel {running}, which ran before, is not installed any more: install it, then resume")
    image = shlex.quote(f"/boot/vmlinuz-{running}")
    otherwise = _remove(task, extra) if extra else "true"
    script = f"if type -P grubby >/dev/null; then grubby --set-default={image}; else {otherwise}; fi"
    change(task, script, what=f"making {running} the default kernel", timeout=UPDATE_TIMEOUT_S)
