"""Python packages by pip: clients on machines that have no repository of packages (Windows, Mac)."""

import json
import re
import shlex
from collections.abc import Sequence

from tasks.platforms.model import Back, Download, Expected, Installed, Packages

FOLDER = "/var/cache/cellstep-pip"
DATABASE = "pip's list"
DOUBT = "does the index have that version, for this Python?"

# The first Python that has pip.
_PIP = (
    "export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1; pip() { local each; for each in python3 python python2; do"
    ' if "$each" -c "import pip" >/dev/null 2>&1; then "$each" -m pip "$@"; return; fi; done;'
    " echo 'no Python here has pip' >&2; return 127; }; "
)


def normal(name: str) -> str:
    """A project's name as PEP 503 normalises it: `python_novaclient` and `python-novaclient` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def upstream(version: str) -> str:
    """A version without what an RPM's has more: `1:2.15.0-1.el6` is `2.15.0`; none of pip's own has `:` or `-`."""
    return version.rpartition(":")[2].partition("-")[0]


def matches(have: str, want: str) -> bool:
    """Whether an installed version is the expected one, with PEP 440's zeros: 2.15 is 2.15.0."""
    return _padded(have) == _padded(upstream(want))


def _padded(version: str) -> str:
    version = version.strip().lower().removeprefix("v")
    release = version[: len(version) - len(version.lstrip("0123456789.!"))]
    return re.sub(r"(\.0+)+$", "", release.rstrip(".")) + version[len(release) :]


def parse(text: str) -> Installed:
    """Read what `pip list --format json` printed.

    Raises:
        ValueError: it is cut off or not of that form.
    """
    found: Installed = {}
    for row in listed(text):
        found.setdefault(normal(row["name"]), []).append(row["version"])
    return found


def listed(text: str) -> list[dict[str, str]]:
    """The rows of a list in JSON, each with a name and a version.

    Raises:
        ValueError: it is cut off or not of that form.
    """
    rows = json.loads(text)
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) and isinstance(row.get("version"), str)
        for row in rows
    ):
        raise ValueError(f"a list of names and versions is expected, not {text[:80]!r}")
    return rows


def requirements(expected: Expected) -> list[str]:
    """`NAME==VERSION` for each."""
    return [f"{name}=={upstream(version)}" for name, version in sorted(expected.items())]


def _arguments(expected: Expected) -> str:
    return " ".join(map(shlex.quote, requirements(expected)))


# A wheel, or a source: the version begins with a digit, and has no hyphen.
_SAVED = re.compile(
    r"^ *Saved (?:.*[/\\])?([^/\\]+?)-(\d[^-/\\]*?)(?:-[^/\\]+\.whl|\.tar\.(?:gz|bz2)|\.zip)\r?$", re.MULTILINE
)


def _resolve(expected: Expected) -> str:
    # pip has --dry-run from 22.2 on, the last one for Python 2 is 20.3: that downloads all of it, for nothing.
    words = _arguments(expected)
    return (
        f"{_PIP}if pip install --help | grep -e --dry-run > /dev/null; then pip install --dry-run {words} 2>&1; else"
        f' folder=$(mktemp -d) && pip download -d "$folder" {words} 2>&1; status=$?;'
        ' rm -rf -- "$folder"; exit $status; fi'
    )


def transaction(said: str) -> dict[str, str]:
    """Package name to version of all that `pip install --dry-run` would install, or that `pip download` has saved."""
    lines = [line for line in said.splitlines() if line.startswith("Would install ")]
    pairs = (word.rpartition("-") for line in lines for word in line.removeprefix("Would install ").split())
    return {normal(name): version for name, version in [*_SAVED.findall(said), *((n, v) for n, _, v in pairs)]}


def _back(some: Expected, along: Expected, absent: Expected, new: Sequence[str]) -> str:
    del along  # pip numbers no transactions: nothing is known to have come along
    lines = [f"{_PIP}set -e"]
    if some or absent:
        lines.append(f"pip install --find-links {FOLDER} {_arguments({**some, **absent})}")
    lines += [f"pip uninstall -y {shlex.quote(name)} || echo 'left: {name}'" for name in sorted(new)]
    return "\n".join(lines)


PIP = Packages(
    manager="pip",
    database=DATABASE,
    log="pip's cache",
    mend="pip install --force-reinstall",
    listing=f"{_PIP}pip list --format json",
    parse=parse,
    matches=matches,
    normal=normal,
    version=upstream,
    update=lambda expected, _kernel: f"{_PIP}pip install --find-links {FOLDER} {_arguments(expected)}",
    doubt=DOUBT,
    download=Download(
        script=lambda expected, _kernel: f"{_PIP}pip download -q -d {FOLDER} {_arguments(expected)} 2>&1",
    ),
    resolve=_resolve,
    transaction=transaction,
    back=Back(_back, download=lambda _, some: f"{_PIP}pip download -q -d {FOLDER} {_arguments(some)} 2>&1"),
)
"""pip under bash."""
