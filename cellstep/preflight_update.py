"""The preflight's rules about the update: can the release's packages replace what is installed?"""

import fnmatch
import re
from collections.abc import Iterator

from cellstep.preflight_case import NO_GO, WARNING, Case, Finding
from reports.nevra import compare_evr
from tasks.packages import matches
from tasks.preflight import Requirement, Said

WORDS_OF_YUM = 4


def update(case: Case) -> Iterator[Finding]:
    """The rule: yum's own answer, and why it is so where that can be told better than yum tells it."""
    facts, name = case.facts, case.questions.repository
    if facts.rpm_error or not (facts.pending or case.questions.kernel):
        return
    if facts.mode == "unpromoted":
        yield Finding("update", WARNING, f"the repository {name} is not promoted yet: cannot be asked")
        for each in _blockers(case):
            yield Finding("update", WARNING, f"{each}; unless {name} brings another one")
        yield from _kept_back(case)
        return
    said = case.said("update")
    if said is None:
        yield Finding("update", NO_GO, "yum could not be asked about the update")
        return
    missing = [each for each in facts.pending if not _in_transaction(each, said)]
    if said.status == 124:
        yield Finding("update", NO_GO, "yum did not answer about the update within 240 s")
        return
    blocked, kept = list(_blockers(case)) if missing else [], list(_kept_back(case))
    yield from (Finding("update", NO_GO, each) for each in blocked)
    yield from kept
    if missing and not blocked and not kept:
        yield _yums_words(missing, said, name)
    if not missing:
        yield from _download(case)


def _download(case: Case) -> Iterator[Finding]:
    said = case.said("download")
    if said is None or said.status not in {0, 1}:
        yield Finding(
            "update", WARNING, "whether the packages can be downloaded could not be tried", said.last if said else ""
        )
    elif said.status == 1:
        for line in said.lines:
            yield Finding("update", NO_GO, f"cannot be downloaded: {line}")


def _in_transaction(pending: str, said: Said) -> bool:
    """Whether yum's table of what it would do has the package: name, architecture, version, over line breaks."""
    words = " ".join(said.lines).partition("Dependencies resolved")[2].partition("Transaction Summary")[0]
    words = words or " ".join(said.lines).partition("Dependencies Resolved")[2].partition("Transaction Summary")[0]
    row = words.split()
    return any(
        fnmatch.fnmatchcase(f"{name}-{evr.rpartition(':')[2]}", pending)
        for name, evr in zip(row, row[2:], strict=False)
    )


_NOISE = re.compile(
    r"(?i)(last metadata|loaded plugins|setting up|resolving|--> |---> |is this ok|operation aborted|exiting on|"
    r"you could try|\(try to add|total|transaction|=+$|warning: rpmdb|errors during downloading metadata)"
)
_SPEED = re.compile(r"\d+(\.\d+)? ?[kMG]?B/s")


def _yums_words(missing: list[str], said: Said, repository: str) -> Finding:
    lines = [" ".join(line.split()) for line in said.lines]
    telling = [line for line in lines if line and not _NOISE.match(line) and not _SPEED.search(line)]
    errors = [at for at, line in enumerate(telling) if re.match(r"(?i)error|.*Problem", line)]
    words = telling[errors[0] :] if errors else []
    if any(re.search(r"(?i)metadata|repomd|Cannot retrieve|No such|baseurl", line) for line in words):
        return Finding("update", NO_GO, f"the repository {repository} cannot be read: {_brief(words)}")
    unknown = [each for each in missing if any(re.match(f"(?i)no.*{re.escape(each)}", line) for line in telling)]
    if unknown and len(unknown) == len(missing):
        return Finding("update", NO_GO, f"not in the repository {repository}: {', '.join(unknown)}")
    reasons = _brief(words) or "is the version in the repository?"
    return Finding("update", NO_GO, f"yum would not update to {', '.join(missing)}: {reasons}")


def _brief(lines: list[str]) -> str:
    words = [line.removeprefix("Error:").strip() for line in lines]
    return (
        "; ".join(word for word in words if word)[:600]
        if len(words) <= WORDS_OF_YUM
        else "; ".join(word for word in words[:WORDS_OF_YUM] if word)[:600] + " ..."
    )


def _blockers(case: Case) -> Iterator[str]:
    """Installed packages, not of the release, that cannot be with its new versions."""
    for each in case.facts.requirements:
        wanted = case.questions.packages.get(each.name)
        pending = wanted and any(not matches(evr, wanted) for evr in case.facts.packages.get(each.name, ()))
        if wanted and pending and each.package not in case.questions.packages and not satisfied(wanted, each):
            vendor = "" if each.vendor in {"", "(none)"} else f" ({each.vendor})"
            yield (
                f"{each.package}-{each.evr}{vendor} requires {each.name} {each.flags} {each.version}:"
                f" it blocks the update to {wanted}"
            )


def satisfied(have: str, wish: Requirement) -> bool:
    """Whether a version meets a requirement."""
    try:
        order = compare_evr(have, wish.version)
    except ValueError:
        return True  # not a version as rpm writes it: yum will say
    return (order == 0 and "=" in wish.flags) or (order > 0 and ">" in wish.flags) or (order < 0 and "<" in wish.flags)


def _kept_back(case: Case) -> Iterator[Finding]:
    """Packages that yum's configuration keeps at another version."""
    facts = case.facts
    for package, versions in facts.packages.items():
        wanted = case.questions.packages[package]
        if any(matches(evr, wanted) for evr in versions):
            continue
        for file, pattern in facts.locks:
            if _locked(pattern, package, wanted):
                yield Finding("update", NO_GO, f"versionlock keeps {package} back: {pattern} ({file})")
        for where, pattern in facts.excludes:
            full = f"{package}-{wanted.rpartition(':')[2]}"
            if fnmatch.fnmatchcase(package, pattern) or fnmatch.fnmatchcase(full, pattern):
                yield Finding("update", NO_GO, f"yum excludes {package}: {pattern} in {where}")


def _locked(pattern: str, package: str, wanted: str) -> bool:
    """Whether a line of versionlock.list keeps the package from the version; `!` locks a version out."""
    out, plain = pattern.startswith("!"), re.sub(r"(?<![^-!])\d+:", "", pattern).removeprefix("!")
    name = re.match(r"(.+?)-(?=[\d*])", plain)
    if not fnmatch.fnmatchcase(package, name[1] if name else plain):
        return False
    evr = wanted.rpartition(":")[2]
    full = f"{package}-{evr}" if "-" in evr else f"{package}-{evr}-0"
    hit = any(fnmatch.fnmatchcase(full + tail, plain) for tail in ("", ".noarch", ".x86_64"))
    return hit if out else not hit
