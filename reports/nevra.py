"""Versions of RPM packages, compared exactly as rpm compares them.

The rules are those of rpm 4.18's `rpmio/rpmvercmp.c` (segments of digits or letters, `~` before everything,
`^` after the end but before anything else) and of `lib/rpmds.c` for a version without a release, which is
compared by epoch and version alone.
"""

import re
from functools import cmp_to_key, lru_cache
from typing import NamedTuple

_EVR = re.compile(r"(?:([0-9]+|\(none\)):)?([^\s:-]+)(?:-([^\s:-]+))?", re.ASCII)
_SEPARATORS = re.compile(r"[^a-zA-Z0-9~^]+")
_SEGMENT = {True: re.compile(r"[0-9]*"), False: re.compile(r"[a-zA-Z]*")}


class Evr(NamedTuple):
    """A package's epoch, version and release.

    Attributes:
        epoch: 0 where the package has none.
        version: never empty.
        release: None where it was not given: then only epoch and version are compared.
    """

    epoch: int
    version: str
    release: str | None

    def __str__(self) -> str:
        """Write it as rpm does: `[epoch:]version[-release]`, without an epoch of 0."""
        epoch = f"{self.epoch}:" if self.epoch else ""
        release = "" if self.release is None else f"-{self.release}"
        return f"{epoch}{self.version}{release}"


@lru_cache(maxsize=4096)
def parse_evr(text: str) -> Evr:
    """Read `[epoch:]version[-release]`; an epoch written `(none)`, as rpm prints it, is 0.

    Raises:
        ValueError: text is not such a version (a package's name before it is the usual fault).
    """
    match = _EVR.fullmatch(text)
    if match is None:
        raise ValueError(f"not a version of a package: {text!r}; write [epoch:]version[-release]")
    epoch, version, release = match.groups()
    return Evr(0 if epoch in (None, "(none)") else int(epoch), version, release)


def compare_evr(a: str, b: str) -> int:
    """Compare two `[epoch:]version[-release]`: -1 if a is older than b, 0 if equal, 1 if newer.

    Where one of them has no release, the releases are not compared.

    Raises:
        ValueError: one of them is not a version.
    """
    one, two = parse_evr(a), parse_evr(b)
    if one.epoch != two.epoch:
        return 1 if one.epoch > two.epoch else -1
    by_version = compare_version(one.version, two.version)
    if by_version or one.release is None or two.release is None:
        return by_version
    return compare_version(one.release, two.release)


def newest_last(versions: list[str]) -> list[str]:
    """Sort `[epoch:]version[-release]` texts, the newest last.

    Raises:
        ValueError: one of them is not a version.
    """
    return sorted(versions, key=cmp_to_key(compare_evr))


def compare_version(a: str, b: str) -> int:
    """Compare two versions, or two releases, as `rpmvercmp()`: -1, 0 or 1."""
    while a or b:
        a, b = _skip_separators(a), _skip_separators(b)
        mark = _compare_marks(a, b)
        if mark is None:  # both begin with the same mark
            a, b = a[1:], b[1:]
            continue
        if mark:
            return mark
        if not a or not b:
            break
        numeric = a[0].isdigit()
        one, two = _segment(a, numeric=numeric), _segment(b, numeric=numeric)
        if not two:  # digits are newer than letters
            return 1 if numeric else -1
        a, b = a[len(one) :], b[len(two) :]
        difference = _compare_segments(one, two, numeric=numeric)
        if difference:
            return difference
    return bool(a) - bool(b)


def _skip_separators(text: str) -> str:
    match = _SEPARATORS.match(text)
    return text[match.end() :] if match else text


def _compare_marks(a: str, b: str) -> int | None:
    """Decide by `~` and `^` at the beginning; 0 if neither has one, None if both have the same."""
    if a[:1] == "~" or b[:1] == "~":
        return None if a[:1] == b[:1] else -1 if a[:1] == "~" else 1
    if a[:1] == "^" or b[:1] == "^":
        if a[:1] == b[:1]:
            return None
        if not a or not b:  # a snapshot after a release is newer than the release itself
            return 1 if a else -1
        return -1 if a[:1] == "^" else 1
    return 0


def _segment(text: str, *, numeric: bool) -> str:
    match = _SEGMENT[numeric].match(text)
    return match.group() if match else ""


def _compare_segments(one: str, two: str, *, numeric: bool) -> int:
    if numeric:
        one, two = one.lstrip("0"), two.lstrip("0")
        if len(one) != len(two):
            return 1 if len(one) > len(two) else -1
    return (one > two) - (one < two)
