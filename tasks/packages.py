"""RPM packages: what is installed, and updating to an exact version."""

import shlex
from collections.abc import Mapping

from nornir.core.task import Result, Task

from tasks.holds import changed, skipped, unchanged
from tasks.shell import Refused, change, sh

UPDATE_TIMEOUT_S = 1800.0
EVR = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}"


def installed(task: Task, names: list[str]) -> dict[str, str]:
    """The `[epoch:]version-release` of those of the packages that are installed; the last of several."""
    if not names:
        return {}
    query = " ".join(shlex.quote(name) for name in names)
    lines = sh(task, f"rpm -q --qf '%{{NAME}} {EVR}\\n' {query} 2>/dev/null", ok=None).stdout.splitlines()
    return dict(line.split() for line in lines if len(line.split()) == 2)


def matches(have: str, want: str) -> bool:
    """Whether an installed EVR is the expected one; an expected one without a release matches every release."""
    return have == want or ("-" not in want and have.rpartition("-")[0] == want)


def clean(task: Task) -> Result:
    """`yum clean all`: nothing stale is taken for the repository's present state."""
    if not task.is_dry_run():
        change(task, "yum clean all", timeout=120)
    return changed(task, "yum clean all")


def _pending(task: Task, expected: Mapping[str, str]) -> dict[str, str]:
    have = installed(task, list(expected))
    return {name: expected[name] for name, evr in have.items() if not matches(evr, expected[name])}


def _arguments(expected: Mapping[str, str], kernel: bool) -> str:
    # Without the epoch: the yum of EL6 takes name-version-release and epoch:name-version-release, never name-epoch:...
    names = [
        f"{name}-{evr.rpartition(':')[2]}" + ("" if "-" in evr else "-*") for name, evr in sorted(expected.items())
    ]
    return " ".join(shlex.quote(name) for name in [*names, *(["kernel"] if kernel else [])])


def download(task: Task, *, expected: Mapping[str, str], kernel: bool = False) -> Result:
    """Bring the packages of the update into yum's cache, so that the dark time need not wait for them."""
    pending = _pending(task, expected)
    if not pending and not kernel:
        return skipped(task, "nothing to download")
    if not task.is_dry_run():
        change(
            task,
            f"yum -y --downloadonly update {_arguments(pending, kernel)}",
            what="downloading",
            timeout=UPDATE_TIMEOUT_S,
            ok=(0, 1),  # the downloadonly plugin of EL6 ends with 1 when it has downloaded
        )
        still = _pending(task, expected)
        if still != pending:
            raise Refused("packages changed while they were only to be downloaded; compare with /var/log/yum.log")
    return changed(task, f"downloaded {len(pending)} packages" + (" and the kernel" if kernel else ""))


def update(task: Task, *, expected: Mapping[str, str], kernel: bool = False) -> Result:
    """Update those of the packages that are installed to exactly the expected versions.

    Args:
        task: the Nornir task.
        expected: package name to `[epoch:]version[-release]`.
        kernel: update the kernel too (it is installed beside the running one).

    Raises:
        CommandFailed: yum failed.
        Refused: yum ended well, but the RPM database does not say what was expected.
    """
    pending = _pending(task, expected)
    kernels = installed_kernels(task) if kernel else []
    if not pending and not kernel:
        return skipped(task, "all up to date")
    if task.is_dry_run():
        return changed(task, f"would update {', '.join(sorted(pending)) or 'the kernel'}")
    change(task, f"yum -y update {_arguments(pending, kernel)}", what="yum update", timeout=UPDATE_TIMEOUT_S)
    wrong = _pending(task, expected)
    if wrong:
        have = installed(task, list(wrong))
        first = ", ".join(f"{name} is {have[name]}, not {evr}" for name, evr in sorted(wrong.items()))
        raise Refused(f"yum ended well, but {first}; is the version in the repository, is it excluded?")
    new = [name for name in (installed_kernels(task) if kernel else []) if name not in kernels]
    left = sh(
        task, "find /etc -name '*.rpmnew' -newer /proc/1/cmdline 2>/dev/null | sort | head -n 20", ok=None
    ).stdout.split()
    said = [f"updated {len(pending)} packages"] if pending else []
    said += [f"kernel {new[0]}"] if new else []
    said += [f"to merge: {' '.join(left)}"] if left else []
    return changed(task, "; ".join(said)) if pending or new else skipped(task, "all up to date")


def installed_kernels(task: Task) -> list[str]:
    """The installed kernels' version-release, oldest installation first."""
    script = "rpm -q --qf '%{INSTALLTIME} %{VERSION}-%{RELEASE}\\n' kernel 2>/dev/null | sort -n"
    return [line.split()[1] for line in sh(task, script, ok=None).stdout.splitlines() if len(line.split()) == 2]


def check(task: Task, *, expected: Mapping[str, str]) -> Result:
    """Read the installed versions; the result is {package: evr}."""
    return unchanged(task, installed(task, list(expected)))
