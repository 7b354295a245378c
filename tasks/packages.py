"""RPM packages: what is installed, and updating to an exact version."""

import fnmatch
import shlex
from collections.abc import Iterable, Mapping

from nornir.core.task import Result, Task

from tasks.errors import CommandFailed, Refused
from tasks.holds import Noted, changed, skipped, unchanged
from tasks.jobs import detached, earlier
from tasks.shell import change, sh

UPDATE_TIMEOUT_S = 1800.0
EVR = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}"


def versions(task: Task, names: Iterable[str]) -> dict[str, list[str]]:
    """The installed `[epoch:]version-release` of those of the packages that are installed, one or more each.

    Asks for the whole RPM database: of one that is broken, `rpm -q NAME` says no more than "is not installed".

    Raises:
        CommandFailed: the RPM database cannot be read.
    """
    wanted = set(names)
    found: dict[str, list[str]] = {}
    for line in sh(task, f"rpm -qa --qf '%{{NAME}} {EVR}\\n'", what="reading the RPM database").stdout.splitlines():
        name, evr = line.split()
        if name in wanted:
            found.setdefault(name, []).append(evr)
    return found


def installed(task: Task, names: Iterable[str]) -> dict[str, str]:
    """As `versions`, of packages of which one version is installed at a time.

    Raises:
        Refused: one is there twice, because a transaction was cut off.
    """
    found = versions(task, names)
    twice = [f"{name} ({', '.join(evrs)})" for name, evrs in found.items() if len(evrs) > 1]
    if twice:
        raise Refused(f"installed twice, after a cut-off transaction: {'; '.join(twice)}; mend with package-cleanup")
    return {name: evrs[0] for name, evrs in found.items()}


def matches(have: str, want: str) -> bool:
    """Whether an installed EVR is the expected one; an expected one without a release matches every release."""
    return have == want or ("-" not in want and have.rpartition("-")[0] == want)


def clean(task: Task) -> Result:
    """`yum clean all`: nothing stale is taken for the repository's present state."""
    if not task.is_dry_run():
        change(task, "yum clean all", timeout=120)
    return changed(task, "yum clean all")


def _pending(task: Task, expected: Mapping[str, str]) -> dict[str, str]:
    """Of the packages that are installed, those of another version than expected, with the expected one."""
    have = installed(task, expected)
    if not have:
        raise Refused(f"none of these is installed here: {', '.join(sorted(expected))}; is this node's role right?")
    return {name: expected[name] for name, evr in have.items() if not matches(evr, expected[name])}


def _names(expected: Mapping[str, str]) -> list[str]:
    # Without the epoch: the yum of EL6 takes name-version-release, never name-epoch:version-release.
    return [f"{name}-{evr.rpartition(':')[2]}" + ("" if "-" in evr else "-*") for name, evr in sorted(expected.items())]


def _arguments(expected: Mapping[str, str], kernel: bool) -> str:
    return " ".join(shlex.quote(name) for name in [*_names(expected), *(["kernel"] if kernel else [])])


def download(task: Task, *, expected: Mapping[str, str], kernel: bool = False) -> Result:
    """Bring the packages of the update into yum's cache, so that the dark time need not wait for them.

    Raises:
        CommandFailed: yum failed.
        tasks.jobs.CutOff: yum was killed, or the node was restarted meanwhile.
        Refused: yum ended well, but a package is not in its cache, or was installed.
    """
    earlier(task, "download", timeout=UPDATE_TIMEOUT_S)
    pending = _pending(task, expected)
    if not pending and not kernel:
        return skipped(task, "nothing to download")
    if not task.is_dry_run():
        script = f"yum -y --downloadonly update {_arguments(pending, kernel)} 2>&1"
        ended = detached(task, script, name="download", what="downloading", timeout=UPDATE_TIMEOUT_S, ok=(0, 1))
        # The plugin of EL6 ends yum with 1, which is also yum's general error: its words tell them apart.
        if ended.exit_status and "--downloadonly specified" not in ended.stdout:
            raise CommandFailed("downloading", ended)
        cached = sh(task, "find /var/cache/yum /var/cache/dnf -name '*.rpm' 2>/dev/null", ok=None).stdout.split()
        files = {path.rpartition("/")[2] for path in cached}
        missing = [name for name in _names(pending) if not fnmatch.filter(files, f"{name}.*.rpm")]
        if missing:
            raise Refused(f"yum ended well, but these are not in its cache: {', '.join(missing)}; is keepcache set?")
        if _pending(task, expected) != pending:
            raise Refused("packages changed while they were only to be downloaded; compare with /var/log/yum.log")
    return changed(task, f"downloaded {len(pending)} packages" + (" and the kernel" if kernel else ""))


def resolve(task: Task, *, expected: Mapping[str, str], owners: Mapping[str, str]) -> Result:
    """See what the update would bring: yum works it out, is told no, and nothing is changed.

    Args:
        task: the Nornir task.
        expected: package name to `[epoch:]version[-release]`.
        owners: package name to the component that has it.

    Returns:
        A `Noted` whose data is package name to its component of all that comes, "" for what is no component's.

    Raises:
        CommandFailed: the update cannot be worked out: a dependency that nothing has, say.
        Refused: yum would not update one of the packages.
    """
    pending = _pending(task, expected)
    if not pending:
        return unchanged(task, Noted("all up to date", {}))
    if task.is_dry_run():  # the repository of the stage is not placed then; `cellstep preflight` has one for a moment
        return unchanged(task, Noted(f"would work out the update of {len(pending)} packages", {}))
    command = f"printf 'N\n' | yum update {_arguments(pending, kernel=False)} 2>&1"
    said = sh(task, command, what="working out the update", timeout=UPDATE_TIMEOUT_S, ok=None)
    comes = transaction(said.stdout)
    if not comes:
        raise CommandFailed("working out the update", said)
    if missing := sorted(pending.keys() - comes.keys()):
        raise Refused(f"yum would not update {', '.join(missing)}: is the version in the repository, is it excluded?")
    more = [f"{name} {comes[name]}" for name in sorted(comes.keys() - pending.keys())]
    words = f"{len(pending)} packages" + (f", and with them {', '.join(more)}" if more else ", nothing else")
    return unchanged(task, Noted(words, {name: owners.get(name, "") for name in comes}))


def transaction(said: str) -> dict[str, str]:
    """Package name to version of all that yum (or dnf) says it would install or update."""
    found: dict[str, str] = {}
    words: list[str] = []
    table = said.partition("Dependencies resolved")[2] or said.partition("Dependencies Resolved")[2]
    for line in table.partition("Transaction Summary")[0].splitlines():
        if not line.startswith(" ") or line.lstrip().startswith(("Package ", "replacing ")):
            words = []
            continue
        words += line.split()  # a name that is too long for its column stands on a line of its own
        if len(words) >= _COLUMNS:
            found[words[0]] = words[2]
            words = []
    return found


_COLUMNS = 6
"""Package, architecture, version, repository, size and its unit."""


def update(task: Task, *, expected: Mapping[str, str], kernel: bool = False) -> Result:
    """Update those of the packages that are installed to exactly the expected versions.

    Args:
        task: the Nornir task.
        expected: package name to `[epoch:]version[-release]`.
        kernel: update the kernel too (it is installed beside the running one).

    Raises:
        CommandFailed: yum failed, or the RPM database cannot be read.
        tasks.jobs.CutOff: yum was killed, or the node was restarted in the middle of its transaction.
        Refused: yum ended well, but the RPM database does not say what was expected.
    """
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
    command = f"yum -y update {_arguments(pending, kernel)}"
    detached(task, command, name="update", what="yum update", timeout=UPDATE_TIMEOUT_S)
    wrong = _pending(task, expected)
    if wrong:
        have = installed(task, wrong)
        first = ", ".join(f"{name} is {have[name]}, not {evr}" for name, evr in sorted(wrong.items()))
        raise Refused(f"yum ended well, but {first}; is the version in the repository, is it excluded?")
    new = [name for name in (installed_kernels(task) if kernel else []) if name not in kernels]
    left = [path for path in _unmerged(task) if path not in unmerged]
    said = [f"updated {len(pending)} packages"] if pending else []
    said += [f"kernel {new[0]}"] if new else []
    said += [f"to merge: {' '.join(left)}"] if left else []
    return changed(task, "; ".join(said)) if pending or new else skipped(task, "all up to date")


def _unmerged(task: Task) -> list[str]:
    """Configuration files that an update left beside those which the site had changed."""
    return sh(task, "find /etc -name '*.rpmnew' 2>/dev/null | sort", ok=None).stdout.split()


def installed_kernels(task: Task) -> list[str]:
    """The installed kernels' version-release, oldest installation first."""
    script = "rpm -q --qf '%{INSTALLTIME} %{VERSION}-%{RELEASE}\\n' kernel 2>/dev/null | sort -n"
    return [line.split()[1] for line in sh(task, script, ok=None).stdout.splitlines() if len(line.split()) == 2]
