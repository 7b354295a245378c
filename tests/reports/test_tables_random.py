"""The tables of random facts, against plain loops."""

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.tables import rpms, services
from tests.support.facts import beat, have, package, service, state, statuses

Frame = pd.DataFrame
_NAME = st.sampled_from(["h1", "h2", "h3"])
_VERSION = st.sampled_from(["1.0-1", "1.0-2", "1:0.9-1", "1.0"])
_INSTALLED = st.sampled_from(["1.0-1", "1.0-2", "1:0.9-1", "2.0-1"])


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.tuples(_NAME, st.sampled_from("pqr")), _VERSION),
    st.dictionaries(st.tuples(_NAME, st.sampled_from("pqrs")), _INSTALLED),
    st.sets(_NAME),
)
def test_rpms_by_plain_loops(expected, installed, unreachable):
    words = {"1.0-1": 1, "1.0-2": 2, "2.0-1": 3, "1:0.9-1": 4}  # from the oldest on
    table = rpms.table(
        Frame([package(name, expected=text, name=what) for (name, what), text in expected.items()]),
        Frame([have(name, text, what) for (name, what), text in installed.items()]),
        unreachable,
    )

    def status(key, want):
        if key[0] in unreachable:
            return "unreachable"
        if key not in installed:
            return "missing"
        found = installed[key]
        if want == "1.0" and found in ("1.0-1", "1.0-2"):
            return "ok"
        difference = words[found] - words.get(want, 1.5)
        return "ok" if not difference else "older" if difference < 0 else "newer"

    assert statuses(table, "host", "package") == {key: status(key, want) for key, want in expected.items()}


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(_NAME, st.tuples(st.sampled_from(["running", "stopped"]), st.sampled_from(["", "nova-cells"]))),
    st.dictionaries(_NAME, st.sampled_from(["running", "stopped"])),
    st.dictionaries(_NAME, st.none() | st.integers(0, 120)),
    st.sets(_NAME),
)
def test_services_by_plain_loops(expected, actual, ages, unreachable):
    table = services.table(
        Frame([service(name, expected=want, binary=binary) for name, (want, binary) in expected.items()]),
        Frame([state(name, found) for name, found in actual.items()]),
        Frame([beat(name, age) for name, age in ages.items()]),
        unreachable,
        60,
    )

    def status(name, want, binary):
        if name in unreachable or name not in actual:
            return "unreachable"
        if want != actual[name]:
            return actual[name]
        if want == "running" and binary and name not in ages:
            return "unregistered"
        if want == "running" and binary and (ages[name] is None or ages[name] > 60):
            return "stale"
        return "ok"

    assert statuses(table, "host") == {name: status(name, *rest) for name, rest in expected.items()}
