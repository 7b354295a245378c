"""rpm's version comparison, against rpm itself."""

import shutil
import subprocess
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.nevra import Evr, compare_evr, compare_version, newest_last, parse_evr

KNOWN = [
    ("2013.1.4-1.el6", "2013.2.1-1.el6", -1),
    ("2013.2.1-1.el6", "2013.2.1-1.slc6", -1),  # letters by their order
    ("2013.2-5.el6", "2013.2.1-1.el6", -1),
    ("1:0.4.2-1.slc6.1", "2.0-1", 1),  # an epoch wins over any version
    ("0:1.0-1", "1.0-1", 0),
    ("1.0~rc1-1", "1.0-1", -1),
    ("1.0^git1-1", "1.0-1", 1),
    ("1.0^git1-1", "1.0.1-1", -1),
    ("1.0~rc1^git1-1", "1.0~rc1-1", 1),
    ("1.05-1", "1.5-1", 0),  # leading zeros do not count
    ("1.010-1", "1.9-1", 1),  # numbers, not texts
    ("1.a-1", "1.1-1", -1),  # letters are older than digits
    ("1.0.-1", "1.0-1", 0),
    ("2.15.0", "2.15.0-1.el6", 0),  # without a release the releases do not count
    ("1:2.15.0", "2.15.0-1.el6", 1),
]


@pytest.mark.parametrize(("a", "b", "expected"), KNOWN)
def test_known_pairs_both_ways(a, b, expected):
    assert compare_evr(a, b) == expected
    assert compare_evr(b, a) == -expected


@pytest.mark.parametrize(
    "text",
    ["", " ", "python-nova-2013.2-1.el6", "1.0-", "-1", "a:1.0-1", ":1.0-1", "1.0 -1", "1.0-1\n", "\u0661:1.0-1"],
)
def test_what_is_not_a_version_is_refused_by_name(text):
    with pytest.raises(ValueError, match="not a version of a package") as raised:
        parse_evr(text)
    assert repr(text) in str(raised.value)


def test_parts_and_their_text():
    assert parse_evr("1:0.4.2-1.slc6.1") == Evr(1, "0.4.2", "1.slc6.1")
    assert parse_evr("(none):1.0-2") == Evr(0, "1.0", "2")
    assert str(parse_evr("0:1.0-2")) == "1.0-2"
    assert str(parse_evr("3:1.0")) == "3:1.0"


def test_newest_last():
    assert newest_last(["1:1-1", "2.10-1", "2.9-1"]) == ["2.9-1", "2.10-1", "1:1-1"]


_NEEDS_RPM = pytest.mark.skipif(not shutil.which("rpm"), reason="rpm is not installed (apt-get install rpm)")
# Short texts of few characters meet rpm's special cases far more often than long ones do.
_LETTERS = "0129abAZ.+_~^"
_EVR_TEXT = st.from_regex(r"([019]:)?[0129abAZ.+_~^]{1,8}-[0129abAZ.+_~^]{1,4}", fullmatch=True)


def _part(random, most=8):
    return "".join(random.choices(_LETTERS, k=random.randint(1, most)))


def _pairs(seed, make):
    """Many pairs from one seed; half of them differ in one place only."""
    random = Random(seed)  # noqa: S311 - test data, no secret
    pairs = []
    for _ in range(400):
        a, b = make(random), make(random)
        if random.random() < 0.5:
            place = random.randrange(len(a))
            b = a[:place] + random.choice("01aZ.~^") + a[place + random.randint(0, 1) :]
            b = b if b.count("-") == a.count("-") and "-" not in (b[0], b[-1]) else a
        pairs.append((a, b))
    return pairs


def _by_rpm(pairs):
    """Rpm's own verdict on many pairs in one call."""
    rows = ", ".join(f"{{'{a}', '{b}'}}" for a, b in pairs)
    script = f"for _, p in ipairs({{ {rows} }}) do print(rpm.vercmp(p[1], p[2]) .. ' ') end"
    done = subprocess.run(
        ["rpm", "--eval", f"%{{lua: {script}}}"], capture_output=True, text=True, check=True, timeout=60
    )
    return [int(word) for word in done.stdout.split()]


@_NEEDS_RPM
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_whole_versions_compare_as_rpm_does(seed):
    def whole(random):
        return f"{random.choice(['', '0:', '1:', '12:'])}{_part(random)}-{_part(random, 4)}"

    pairs = [pair for pair in _pairs(seed, whole) if all(_readable(text) for text in pair)]
    assert len(pairs) > 300
    assert [(a, b, compare_evr(a, b)) for a, b in pairs] == [
        (a, b, verdict) for (a, b), verdict in zip(pairs, _by_rpm(pairs), strict=True)
    ]


def _readable(text):
    """A change in one place may have made something that is no version."""
    try:
        parse_evr(text)
    except ValueError:
        return False
    return True


@_NEEDS_RPM
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_parts_compare_as_rpm_does(seed):
    pairs = _pairs(seed, lambda random: _part(random) + random.choice(["", "~", "^", ".", "0", "é"]))
    assert [(a, b, compare_version(a, b)) for a, b in pairs] == [
        (a, b, verdict) for (a, b), verdict in zip(pairs, _by_rpm(pairs), strict=True)
    ]


@given(_EVR_TEXT, _EVR_TEXT)
def test_comparison_turns_round(a, b):
    assert compare_evr(a, b) == -compare_evr(b, a)
    assert compare_evr(a, a) == 0
