"""What nodes print, and how it is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import facts
from tasks.platforms import el6, rpm

FACTS = """@boot_id
5f1c
2.6.32-431.el6.x86_64
@packages
python-nova 2013.2.1-1.el6
python-novaclient 1:2.15.0-1.el6
kernel 2.6.32-358.el6
kernel 2.6.32-431.el6
@services
openstack-nova-compute 0 on
@guests
btime 1390500000
guest 7a1f 12300
"""


def test_facts_are_read():
    read = facts.parse(FACTS)
    assert (read.boot_id, read.kernel) == ("5f1c", "2.6.32-431.el6.x86_64")
    assert read.packages["kernel"] == ["2.6.32-358.el6", "2.6.32-431.el6"]
    assert read.services == {"openstack-nova-compute": {"actual": "running", "boot": "on"}}
    assert read.guests == [facts.Guest("7a1f", 12300, 1390500123.0)]


@given(st.integers(0, len(FACTS) - 40))
def test_facts_that_are_cut_off_are_never_taken_for_whole(length: int):
    """Whatever is lost at the end: either it is refused, or the guests' section was reached."""
    text = FACTS[:length]
    if "@guests" not in text:
        with pytest.raises(ValueError, match=r"cut off|unpack"):
            facts.parse(text)


@pytest.mark.parametrize(
    ("have", "want", "same"),
    [
        ("2013.2.1-1.el6", "2013.2.1-1.el6", True),
        ("2013.2.1-1.el6", "2013.2.1-2.el6", False),
        ("1:2.15.0-1.el6", "1:2.15.0", True),
        ("2.15.0-1.el6", "2.15.0", True),
        ("2.15.0.1-1.el6", "2.15.0", False),
    ],
)
def test_an_expected_version_without_a_release_matches_every_release(have: str, want: str, same: bool):
    assert rpm.matches(have, want) == same


def test_a_service_that_hangs_between_states_is_not_running():
    states = el6.parse_states("a 0 on\nb 3 off\nc 1 on\nd 2 off\n")
    assert [states[name]["actual"] for name in "abcd"] == ["running", "stopped", "stopped", "stopped"]
