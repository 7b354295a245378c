"""The preflight's rules about the update: can the release's packages replace what is installed?"""

import fnmatch
import re
from collections.abc import Iterator

from cellstep.preflight.case import NO_GO, WARNING, Case, Finding
from reports.nevra import compare_evr
from tasks.platforms.rpm import matches
from tasks.preflight import Requirement, Said

WORDS_OF_YUM = 4
LONGEST = 600


def update(case: Case) -> Iterator[Finding]:
    """The rule: yum's own answer, and why it is so where that can be told better than yum tells it."""
    facts, name = case.facts, case.questions.repository
    if facts.rpm_error or not (facts.pending or case.questions.kernel):
        return
    kept = _keepers(case)
    for words, packages in kept.items():
        yield Finding("update", NO_GO, words.format(", ".join(packages)))
    if facts.mode == "unpromoted":
        yield Finding("update", WARNING, f"the repository {name} is not promoted yet: cannot be asked")
        for each in _blockers(case):
            yield Finding("update", WARNING, f"{each}, unless {name} brings another of it")
        return
    said = case.said("update")
    if said is None or said.status == 124:
        why = "yum did not answer within 240 s" if said else "yum was not asked"
        yield Finding("update", NO_GO, f"whether the update can be done is not known: {why}")
        return
    missing = [each for each in facts.pending if not _in_transaction(each, said)]
    if not missing:
        yield from _download(case)
        return
    blockers = list(_blockers(case))
    yield from (Finding("update", NO_GO, each) for each in blockers)
    if not blockers and not kept:
        yield _yums_words(missing, said, name)
        return
    # What yum says of those is known already; what it does not have at all is another matter.
    named = {package for packages in kept.values() for package in packages}
    unknown = [each for each in _unknown(missing, said) if each.rsplit("-", 2)[0] not in named]
    if unknown:
        yield Finding("update", NO_GO, f"not in the repository {name}: {', '.join(unknown)}")


def _download(case: Case) -> Iterator[Finding]:
    said = case.said("download")
    if said is None or said.status not in {0, 1}:
        words = "whether the packages can be downloaded could not be tried"
        yield Finding("update", WARNING, words, said.last if said else "")
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
    unknown = _unknown(missing, said)
    if unknown and len(unknown) == len(missing):
        return Finding("update", NO_GO, f"not in the repository {repository}: {', '.join(unknown)}")
    reasons = _brief(words) or "is the version in the repository?"
    return Finding("update", NO_GO, f"yum would not update to {', '.join(missing)}: {reasons}")


def _unknown(missing: list[str], said: Said) -> list[str]:
    """Those that yum has no package for: `No match for argument: NAME`, `No package NAME available`."""
    return [each for each in missing if any(re.match(f"(?i)no .*{re.escape(each)}", line) for line in said.lines)]


def _brief(lines: list[str]) -> str:
    words = [word for line in lines if (word := line.removeprefix("Error:").strip())]
    return "; ".join(words[:WORDS_OF_YUM])[:LONGEST] + (" ..." if len(words) > WORDS_OF_YUM else "")


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


def _keepers(case: Case) -> dict[str, list[str]]:
    """What in yum's configuration keeps packages at another version: the words, with `{}` for them, and which."""
    found: dict[str, list[str]] = {}
    for package, versions in case.facts.packages.items():
        wanted = case.questions.packages[package]
        if any(matches(evr, wanted) for evr in versions):
            continue
        full = f"{package}-{wanted.rpartition(':')[2]}"
        lines = [
            f"versionlock keeps {{}} back: {_plain(pattern)} ({_plain(file)})"
            for file, pattern in case.facts.locks
            if _locked(pattern, package, wanted)
        ]
        lines += [
            f"yum excludes {{}}: {_plain(pattern)} in {_plain(where)}"
            for where, pattern in case.facts.excludes
            if fnmatch.fnmatchcase(package, pattern) or fnmatch.fnmatchcase(full, pattern)
        ]
        for line in lines:
            found.setdefault(line, []).append(package)
    return found


def _plain(text: str) -> str:
    """Text of the node's, for `str.format`."""
    return text.replace("{", "{{").replace("}", "}}")


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
