"""Debian: apt-get, dpkg, systemctl."""

import dataclasses
import re
import shlex
from collections.abc import Sequence

from tasks.platforms import posix
from tasks.platforms.model import Back, Download, Expected, Installed, Packages, Platform
from tasks.platforms.systemd import SYSTEMD

_APT = (
    "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
)
# Installed ones alone: what was removed with its configuration left behind is listed as well.
_LISTING = "dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n'"
_KERNEL = "linux-image-$(dpkg --print-architecture)"


def parse(text: str) -> Installed:
    """Read the lines of dpkg-query: status, name, version; a package of several architectures counts once."""
    found: Installed = {}
    for line in text.splitlines():
        state, name, *version = line.split()
        if state[1:2] == "i" and version and version[0] not in found.setdefault(name, []):
            found[name].append(version[0])
    return found


def matches(have: str, want: str) -> bool:
    """Whether an installed version is the expected one; an expected one without a revision matches every revision."""
    return have == want or ("-" not in want and have.rpartition("-")[0] == want)


def _arguments(expected: Expected, kernel: bool) -> str:
    names = [f"{name}={version}" + ("" if "-" in version else "-*") for name, version in sorted(expected.items())]
    return " ".join([*map(shlex.quote, names), *([_KERNEL] if kernel else [])])


def _exactly(expected: Expected) -> str:
    return " ".join(shlex.quote(f"{name}={version}") for name, version in sorted(expected.items()))


def _missing(expected: Expected, cached: str) -> list[str]:
    files = [path.rpartition("/")[2].replace("%3a", ":") for path in cached.split()]
    there = {(name, version) for name, version, _ in (file.split("_", 2) for file in files if file.count("_") > 1)}
    return [
        f"{name}={version}"
        for name, version in sorted(expected.items())
        if not any(name == each and matches(have, version) for each, have in there)
    ]


_INST = re.compile(r"^Inst (\S+) (?:\[\S+\] )?\((\S+) ", re.MULTILINE)


def transaction(said: str) -> dict[str, str]:
    """Package name to version of all that `apt-get --simulate` says it would install or update."""
    return dict(_INST.findall(said))


def _back(some: Expected, along: Expected, absent: Expected, new: Sequence[str]) -> str:
    lines = ["set -e"]
    if some or absent:
        alone = f"{_APT} --allow-downgrades install {_exactly({**some, **absent})}"
        all_of_them = f"{_APT} --allow-downgrades install {_exactly({**some, **absent, **along})}"
        lines.append(f"{all_of_them} || {alone}" if along else alone)
    # dpkg refuses to remove what something else needs, where apt-get would take that along.
    lines += [f"dpkg --remove {shlex.quote(name)} || echo 'left: {name}'" for name in sorted(new)]
    return "\n".join(lines)


def _repositories(said: str) -> set[str]:
    return {word for line in said.splitlines() for word in line.split("\t") if word}


PACKAGES = Packages(
    manager="apt-get",
    database="dpkg's database",
    log="/var/log/apt/history.log",
    mend="dpkg --configure -a",
    listing=_LISTING,
    parse=parse,
    matches=matches,
    clean="apt-get clean && apt-get -q update",
    update=lambda expected, kernel: f"{_APT} install --only-upgrade {_arguments(expected, kernel)}",
    download=Download(
        script=lambda expected, kernel: (
            f"{_APT} --download-only install --only-upgrade {_arguments(expected, kernel)} 2>&1"
        ),
        cached="find /var/cache/apt/archives -name '*.deb' 2>/dev/null",
        missing=_missing,
        hint="is Dir::Cache another folder?",
    ),
    resolve=lambda expected: f"LC_ALL=C {_APT} --simulate install --only-upgrade {_arguments(expected, False)} 2>&1",
    transaction=transaction,
    doubt="is the version in the repository, is it pinned or on hold?",
    set_aside="find /etc \\( -name '*.dpkg-dist' -o -name '*.dpkg-old' \\) 2>/dev/null | sort",
    unmerged="find /etc -name '*.dpkg-dist' 2>/dev/null | sort",
    kernels="dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' 'linux-image-[0-9]*' 2>/dev/null"
    " | sed -n 's/^ii  *linux-image-/0 /p' | sort -V",
    repositories="apt-get indextargets --format '$(SITE)\t$(RELEASE)\t$(CODENAME)\t$(SUITE)\t$(LABEL)\t$(ORIGIN)'",
    parse_repositories=_repositories,
    repolist="apt-get indextargets",
    busy="apt-get|apt|dpkg|unattended-upgr",
    back=Back(
        _back, download=lambda _, some: f"{_APT} --download-only --allow-downgrades install {_exactly(some)} 2>&1"
    ),
)

DEBIAN = Platform(
    name="debian",
    words="Debian",
    interpreter="bash",
    services=SYSTEMD,
    packages=PACKAGES,
    system=dataclasses.replace(
        posix.LINUX, pending="cat /run/reboot-required.pkgs /run/reboot-required 2>/dev/null || :"
    ),
    guard=posix.GUARD,
)
