"""RPM packages by yum, or by dnf, which takes the same commands."""

import fnmatch
import shlex
from collections.abc import Sequence

from tasks.platforms.model import Back, Download, Expected, Installed, Packages

EVR = "%|EPOCH?{%{EPOCH}:}:{}|%{VERSION}-%{RELEASE}"
LISTING = f"rpm -qa --qf '%{{NAME}} {EVR}\\n'"
DATABASE = "the RPM database"
_ROWS = f"rpm -qa --qf '%{{NAME}} {EVR} %{{INSTALLTID}}\\n'"
_COLUMNS = 6
"""Of a transaction's table: package, architecture, version, repository, size and its unit."""


def parse(text: str) -> Installed:
    """Read lines of a name and a version each."""
    found: Installed = {}
    for line in text.splitlines():
        name, version = line.split()
        found.setdefault(name, []).append(version)
    return found


def matches(have: str, want: str) -> bool:
    """Whether an installed EVR is the expected one; an expected one without a release matches every release."""
    return have == want or ("-" not in want and have.rpartition("-")[0] == want)


def _names(expected: Expected) -> list[str]:
    # Without the epoch: the yum of EL6 takes name-version-release, never name-epoch:version-release.
    return [f"{name}-{evr.rpartition(':')[2]}" + ("" if "-" in evr else "-*") for name, evr in sorted(expected.items())]


def _arguments(expected: Expected, kernel: bool) -> str:
    return " ".join(shlex.quote(name) for name in [*_names(expected), *(["kernel"] if kernel else [])])


def words(packages: Expected) -> str:
    """Packages at exact versions for yum, without the epoch, which the yum of EL6 does not take there."""
    return " ".join(shlex.quote(f"{name}-{evr.rpartition(':')[2]}") for name, evr in sorted(packages.items()))


def _missing(expected: Expected, cached: str) -> list[str]:
    files = {path.rpartition("/")[2] for path in cached.split()}
    return [name for name in _names(expected) if not fnmatch.filter(files, f"{name}.*.rpm")]


def transaction(said: str) -> dict[str, str]:
    """Package name to version of all that yum (or dnf) says it would install or update."""
    found: dict[str, str] = {}
    parts: list[str] = []
    table = said.partition("Dependencies resolved")[2] or said.partition("Dependencies Resolved")[2]
    for line in table.partition("Transaction Summary")[0].splitlines():
        if not line.startswith(" ") or line.lstrip().startswith(("Package ", "replacing ")):
            parts = []
            continue
        parts += line.split()  # a name that is too long for its column stands on a line of its own
        if len(parts) >= _COLUMNS:
            found[parts[0]] = parts[2]
            parts = []
    return found


def _repositories(said: str) -> set[str]:
    return {line.split()[0].lstrip("!*").split("/")[0] for line in said.splitlines() if line.strip()}


def by(tool: str, *, mend: str, kernel: str) -> Packages:
    """The table of yum or dnf.

    Args:
        tool: `yum` or `dnf`.
        mend: what mends a package that is there twice.
        kernel: the package of which several versions stand beside each other.
    """

    def back(some: Expected, along: Expected, absent: Expected, new: Sequence[str]) -> str:
        lines = ["set -e"]
        if some:
            alone = f"{tool} -y downgrade {words(some)}"
            lines.append(f"{tool} -y downgrade {words({**some, **along})} || {alone}" if along else alone)
        if absent:
            lines.append(f"{tool} -y install {words(absent)}")
        # rpm refuses to remove what something else needs, where yum would take that along.
        lines += [f"rpm -e {shlex.quote(name)} || echo 'left: {name}'" for name in sorted(new)]
        return "\n".join(lines)

    def remove_kernels(kernels: Sequence[str]) -> str:
        names = " ".join(shlex.quote(f"{kernel}-{version}") for version in kernels)
        # A kernel of el9 is several packages that need each other.
        return f"rpm -e {names}" if kernel == "kernel" else f"{tool} -y remove {names}"

    return Packages(
        manager=tool,
        database=DATABASE,
        log=f"/var/log/{tool}.log",
        mend=mend,
        listing=LISTING,
        parse=parse,
        matches=matches,
        clean=f"{tool} clean all",
        update=lambda expected, new: f"{tool} -y update {_arguments(expected, new)}",
        download=Download(
            script=lambda expected, new: f"{tool} -y --downloadonly update {_arguments(expected, new)} 2>&1",
            # The plugin of EL6 ends yum with 1, which is also yum's general error: its words tell them apart.
            ok=(0, 1),
            well="--downloadonly specified",
            cached="find /var/cache/yum /var/cache/dnf -name '*.rpm' 2>/dev/null",
            missing=_missing,
            hint="is keepcache set?",
        ),
        install=lambda expected: f"{tool} -y install {_arguments(expected, False)}",
        resolve=lambda expected: f"printf 'N\n' | {tool} update {_arguments(expected, False)} 2>&1",
        transaction=transaction,
        set_aside="find /etc \\( -name '*.rpmnew' -o -name '*.rpmsave' \\) 2>/dev/null | sort",
        unmerged="find /etc -name '*.rpmnew' 2>/dev/null | sort",
        kernels=f"rpm -q --qf '%{{INSTALLTIME}} %{{VERSION}}-%{{RELEASE}}\\n' {kernel} 2>/dev/null | sort -n",
        remove_kernels=remove_kernels,
        repositories=f"{tool} -q repolist enabled",
        parse_repositories=_repositories,
        repolist=f"{tool} repolist",
        repository_file="/etc/yum.repos.d/cellstep-%s.repo",
        refresh=lambda name: f"{tool} -q --disablerepo='*' --enablerepo={shlex.quote(name)} clean metadata",
        busy="yum|dnf|dnf-3",
        back=Back(back, _ROWS, lambda verb, some: f"{tool} -y --downloadonly {verb} {words(some)} 2>&1"),
    )
