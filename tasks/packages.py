"""Packages: what is installed, and updating to an exact version."""

from collections.abc import Iterable, Mapping

from nornir.core.task import Result, Task

from tasks.errors import CommandFailed, Refused
from tasks.holds import Noted, changed, skipped, unchanged
from tasks.jobs import detached, earlier
from tasks.platforms import lacking, platform_of
from tasks.platforms.model import Download, Installed, Packages
from tasks.shell import change, sh

UPDATE_TIMEOUT_S = 1800.0


def versions(task: Task, names: Iterable[str]) -> dict[str, list[str]]:
    """The installed versions (of RPMs `[epoch:]version-release`) of those of the packages that are installed.

    Asks for all that is installed: of an RPM database that is broken, `rpm -q NAME` says no more than "is not
    installed".

    Raises:
        CommandFailed: the database cannot be read.
        Refused: its answer cannot be read.
    """
    mine = platform_of(task).packages
    wanted = {mine.normal(name): name for name in names}
    everything = _read(task, mine)
    return {name: everything[normal] for normal, name in wanted.items() if normal in everything}


def _read(task: Task, mine: Packages) -> Installed:
    said = sh(task, mine.listing, what=f"reading {mine.database}").stdout
    try:
        return mine.parse(said)
    except ValueError as error:
        raise Refused(f"{task.host.name}: {mine.database} gave no answer that can be read: {error}") from error


def installed(task: Task, names: Iterable[str]) -> dict[str, str]:
    """As `versions`, of packages of which one version is installed at a time.

    Raises:
        Refused: one is there twice, because a transaction was cut off.
    """
    found = versions(task, names)
    twice = [f"{name} ({', '.join(evrs)})" for name, evrs in found.items() if len(evrs) > 1]
    if twice:
        mend = platform_of(task).packages.mend
        raise Refused(f"installed twice, after a cut-off transaction: {'; '.join(twice)}; mend with {mend}")
    return {name: evrs[0] for name, evrs in found.items()}


def clean(task: Task) -> Result:
    """`yum clean all`: nothing stale is taken for the repository's present state."""
    script = platform_of(task).packages.clean
    if not script:
        return skipped(task, f"nothing to clean: {platform_of(task).packages.manager} asks its index each time")
    if not task.is_dry_run():
        change(task, script, timeout=120)
    return changed(task, script)


def _pending(task: Task, expected: Mapping[str, str]) -> dict[str, str]:
    """Of the packages that are installed, those of another version than expected, with the expected one."""
    have = installed(task, expected)
    if not have:
        raise Refused(f"none of these is installed here: {', '.join(sorted(expected))}; is this node's role right?")
    matches = platform_of(task).packages.matches
    return {name: expected[name] for name, evr in have.items() if not matches(evr, expected[name])}


def download(task: Task, *, expected: Mapping[str, str], kernel: bool = False) -> Result:
    """Bring the packages of the update to the node, so that the dark time need not wait for them.

    Raises:
        CommandFailed: the package manager failed.
        tasks.jobs.CutOff: it was killed, or the node was restarted meanwhile.
        Refused: it ended well, but a package is not in its cache, or was installed.
    """
    mine = platform_of(task).packages
    how, kernel = mine.download, kernel and bool(mine.kernels)
    if how is None:
        return skipped(task, f"{mine.manager} brings nothing beforehand")
    earlier(task, "download", timeout=UPDATE_TIMEOUT_S)
    pending = _pending(task, expected)
    if not pending and not kernel:
        return skipped(task, "nothing to download")
    if not task.is_dry_run():
        bring(task, how, how.script(pending, kernel), name="download")
        missing = absent(task, how, pending)
        if missing:
            raise Refused(
                f"{mine.manager} ended well, but these are not in its cache: {', '.join(missing)}; {how.hint}"
            )
        if _pending(task, expected) != pending:
            raise Refused(f"packages changed while they were only to be downloaded; compare with {mine.log}")
    return changed(task, f"downloaded {len(pending)} packages" + (" and the kernel" if kernel else ""))


def bring(task: Task, how: Download, script: str, *, name: str) -> None:
    """Run a script that downloads packages.

    Raises:
        CommandFailed: the package manager failed.
    """
    ended = detached(task, script, name=name, what="downloading", timeout=UPDATE_TIMEOUT_S, ok=how.ok)
    if ended.exit_status and how.well not in ended.stdout:
        raise CommandFailed("downloading", ended)


def absent(task: Task, how: Download, expected: Mapping[str, str]) -> list[str]:
    """Which of the packages are not on the node, in the package manager's words."""
    return how.missing(expected, sh(task, how.cached, ok=None).stdout) if how.cached else []


def resolve(task: Task, *, expected: Mapping[str, str], owners: Mapping[str, str]) -> Result:
    """See what the update would bring: the package manager works it out, and nothing is changed.

    Args:
        task: the Nornir task.
        expected: package name to `[epoch:]version[-release]`.
        owners: package name to the component that has it.

    Returns:
        A `Noted` whose data is package name to its component of all that comes, "" for what is no component's.

    Raises:
        CommandFailed: the update cannot be worked out: a dependency that nothing has, say.
        Refused: the package manager would not update one of the packages.
        tasks.platforms.Lacking: it cannot work out an update beforehand.
    """
    mine = platform_of(task).packages
    if mine.resolve is None:
        raise lacking(task, "way to work out an update beforehand")
    pending = _pending(task, expected)
    if not pending:
        return unchanged(task, Noted("all up to date", {}))
    if task.is_dry_run():  # the repository of the stage is not placed then; `cellstep preflight` has one for a moment
        return unchanged(task, Noted(f"would work out the update of {len(pending)} packages", {}))
    said = sh(task, mine.resolve(pending), what="working out the update", timeout=UPDATE_TIMEOUT_S, ok=None)
    comes = mine.transaction(said.stdout)
    if not comes:
        raise CommandFailed("working out the update", said)
    if missing := sorted(name for name in pending if mine.normal(name) not in comes):
        raise Refused(f"{mine.manager} would not update {', '.join(missing)}: {mine.doubt}")
    mine_too = set(map(mine.normal, pending))
    more = [f"{name} {comes[name]}" for name in sorted(comes.keys() - mine_too)]
    words = f"{len(pending)} packages" + (f", and with them {', '.join(more)}" if more else ", nothing else")
    return unchanged(task, Noted(words, {name: owners.get(name, "") for name in comes}))


def update(task: Task, *, expected: Mapping[str, str], kernel: bool = False) -> Result:
    """Update those of the packages that are installed to exactly the expected versions.

    Args:
        task: the Nornir task.
        expected: package name to the version, of RPMs `[epoch:]version[-release]`.
        kernel: update the kernel too (it is installed beside the running one).

    Raises:
        CommandFailed: the package manager failed, or its database cannot be read.
        tasks.jobs.CutOff: it was killed, or the node was restarted in the middle of its transaction.
        Refused: it ended well, but its database does not say what was expected.
    """
    mine = platform_of(task).packages
    kernel = kernel and bool(mine.kernels)
    before = earlier(task, "update", timeout=UPDATE_TIMEOUT_S)  # in the middle of a transaction all is there twice
    pending = _pending(task, expected)
    if not pending and before is not None and before.exit_status == 0:
        return changed(task, "updated by the try before, of which the end was not known")
    kernels = installed_kernels(task) if kernel else []
    if not pending and not kernel:
        return skipped(task, "all up to date")
    if task.is_dry_run():
        return changed(task, f"would update {', '.join(sorted(pending)) or 'the kernel'}")
    unmerged = _unmerged(task)
    ended = detached(
        task, mine.update(pending, kernel), name="update", what=f"{mine.manager} update", timeout=UPDATE_TIMEOUT_S
    )
    wrong = _pending(task, expected)
    if wrong:
        have = installed(task, wrong)
        first = ", ".join(f"{name} is {have[name]}, not {evr}" for name, evr in sorted(wrong.items()))
        raise Refused(f"{mine.manager} ended well, but {first}; {mine.doubt}")
    new = [name for name in (installed_kernels(task) if kernel else []) if name not in kernels]
    left = [path for path in _unmerged(task) if path not in unmerged]
    said = [f"updated {len(pending)} packages"] if pending else []
    said += [f"kernel {new[0]}"] if new else []
    said += [f"to merge: {' '.join(left)}"] if left else []
    said += ["a reboot is due"] if mine.reboot_due and mine.reboot_due in ended.stdout else []
    return changed(task, "; ".join(said)) if pending or new else skipped(task, "all up to date")


def install(task: Task, *, expected: Mapping[str, str]) -> Result:
    """Bring the packages to exactly the expected versions, those too that are not installed: on a new machine.

    Args:
        task: the Nornir task.
        expected: package name to the version, of RPMs `[epoch:]version[-release]`.

    Raises:
        CommandFailed: the package manager failed, or its database cannot be read.
        tasks.jobs.CutOff: it was killed, or the node was restarted in the middle of its transaction.
        Refused: it ended well, but its database does not say what was expected.
        tasks.platforms.Lacking: the platform has no such command.
    """
    mine = platform_of(task).packages
    if mine.install is None:
        raise lacking(task, "way to install packages at exact versions")
    before = earlier(task, "install", timeout=UPDATE_TIMEOUT_S)

    def others() -> dict[str, str]:
        have = installed(task, expected)
        wrong = (name for name, evr in expected.items() if name not in have or not mine.matches(have[name], evr))
        return {name: have.get(name, "not there") for name in wrong}

    missing = others()
    if not missing:
        if before is not None and before.exit_status == 0:
            return changed(task, "installed by the try before, of which the end was not known")
        return skipped(task, "all there already")
    wanted = {name: expected[name] for name in sorted(missing)}
    if not task.is_dry_run():
        detached(task, mine.install(wanted), name="install", what=f"{mine.manager} install", timeout=UPDATE_TIMEOUT_S)
        if left := others():
            first = ", ".join(f"{name} is {have}, not {expected[name]}" for name, have in sorted(left.items()))
            raise Refused(f"{mine.manager} ended well, but {first}; {mine.doubt}")
    return changed(task, f"installed {', '.join(f'{name} {evr}' for name, evr in wanted.items())}")


def _unmerged(task: Task) -> list[str]:
    """Configuration files that an update left beside those which the site had changed."""
    script = platform_of(task).packages.unmerged
    return sh(task, script, ok=None).stdout.split() if script else []


def installed_kernels(task: Task) -> list[str]:
    """The installed kernels' version-release, oldest installation first; none where a kernel is no package."""
    script = platform_of(task).packages.kernels
    if not script:
        return []
    return [line.split()[1] for line in sh(task, script, ok=None).stdout.splitlines() if len(line.split()) == 2]
