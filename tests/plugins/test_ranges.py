"""Node ranges: folding, expanding, and what is refused."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from plugins.inventory.ranges import RangeError, expand, fold, split


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("c01-ctl01", ["c01-ctl01"]),
        ("p05-[001-003]", ["p05-001", "p05-002", "p05-003"]),
        ("n[8-11]", ["n8", "n9", "n10", "n11"]),
        ("n[1-9/4]", ["n1", "n5", "n9"]),
        ("n[1,3-4],m2", ["n1", "n3", "n4", "m2"]),
        ("a[1-2]b[1-2]", ["a1b1", "a1b2", "a2b1", "a2b2"]),
        ("n1.cern.ch, n2", ["n1.cern.ch", "n2"]),
        ("n1,n1", ["n1", "n1"]),
    ],
)
def test_ranges_expand(text, names):
    assert expand(text) == names


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "an empty range"),
        ("n1,,n2", "an empty range"),
        ("p05-[001-]", "'001-' between brackets"),
        ("p05-[200-001]", "write [001-200]"),
        ("p05-[001-200", "a ']' is missing"),
        ("p05-001-200]", "a '[' is missing"),
        ("p05-[]", "nothing between brackets"),
        ("n[1-3/0]", "a step of 0"),
        ("n[01-3]", "write [01-03]"),
        ("n[1-2,2]", "names a node twice"),
        ("n[1-999999999]", "the limit is 100000"),
        ("n[1-999][1-999]", "the limit is 100000"),
        ("n[[1-2]]", "malformed"),
        ("two words", "not a node's name"),
        ("@group", "not a node's name"),
        ("n[1-3]!n2", "malformed"),
        ("n*", "not a node's name"),
        ("-n[1-2]", "not a node's name"),
        ("n[\u0661-\u0662]", "between brackets"),
    ],
)
def test_bad_ranges_are_refused_with_a_hint(text, hint):
    with pytest.raises(RangeError) as caught:
        expand(text)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


NAMES = st.from_regex(r"[a-z][a-z-]{0,4}[0-9]{1,4}([a-z][0-9]{1,2})?", fullmatch=True)


@given(st.sets(NAMES, min_size=1, max_size=40))
@example({"n1", "n01", "n001"})
@example({"n9", "n10", "n08"})
def test_what_is_folded_expands_to_the_same_names(names):
    assert set(expand(fold(names))) == names


@given(st.text(alphabet="ab01-[],/!@&^ .", max_size=20))
def test_any_text_expands_or_is_refused(text):
    try:
        names = expand(text)
    except RangeError:
        return
    assert all(set(name) <= set("ab01-.") and name for name in names)


def test_commas_in_brackets_do_not_split():
    assert list(split("n[1,3] , !m1,cell01")) == ["n[1,3]", "!m1", "cell01"]


def test_no_names_fold_to_nothing():
    assert fold([]) == ""
