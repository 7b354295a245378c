"""Two snapshots of a lab are compared entry by entry; nothing that stands in one only is overlooked."""

from tests.support.snapshot import differences

HOST = {
    "nevras": ["a-1", "b-1"],
    "services": {"nova-api": "running on"},
    "puppet": "enabled",
    "processes": {"u1": "boot 5"},
    "counters": {"boots": 1},
}


def test_the_same_has_no_differences():
    assert differences({"h": HOST}, {"h": dict(HOST)}) == []


def test_each_difference_is_one_line():
    other = HOST | {
        "nevras": ["a-1", "b-2"],
        "services": {"nova-api": "running off"},
        "counters": {"boots": 2, "yum update": 1},
    }
    assert differences({"h": HOST}, {"h": other}) == [
        "h counters boots: 1, 2",
        "h counters yum update: (none), 1",
        "h nevras b-1: there, (none)",
        "h nevras b-2: (none), there",
        "h services nova-api: running on, running off",
    ]


def test_what_is_ignored_may_differ_and_nothing_else():
    other = HOST | {"processes": {"u1": "boot 9"}, "counters": {"boots": 3}, "puppet": "disabled: x"}
    lines = differences({"h": HOST}, {"h": other}, ignore=("processes", "counters boots"))
    assert lines == ["h puppet: enabled, disabled: x"]


def test_a_host_that_does_not_answer_differs_in_everything_it_had():
    lines = differences({"h": HOST}, {"h": {"unreachable": "refused"}})
    assert "h unreachable: (none), refused" in lines
    assert len(lines) == 7
    assert differences({"h": HOST, "i": HOST}, {"h": HOST}) != []
