"""Calls timed and guests made at once, by real commands in a real bash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import measure
from tasks.errors import CommandFailed, Refused
from tasks.measure import Guests, Measured
from tests.support.scripted import Bash, task_on

# A cloud in a folder: a guest is a file with the number of times that it is still shown as BUILD.
NOVA = """
cd {folder}
case $1 in
  boot) [ "$2" != "$BAD" ] || {{ echo 'ERROR: no valid host' >&2; exit 1; }}; echo 2 > "$2";;
  show) [ -e "$2" ] || {{ echo 'ERROR: No server with a name or ID' >&2; exit 1; }}
    left=$(cat "$2"); echo $((left - 1)) > "$2"
    [ "$left" -gt 0 ] && echo '| status | BUILD |' || echo '| status | ACTIVE |';;
  delete) [ -e "$2" ] || {{ echo 'ERROR: No server with a name or ID' >&2; exit 1; }}
    [ -z "$STUCK" ] || exit 1; rm "$2";;
esac
"""


@pytest.fixture
def node(tmp_path):
    found = Bash(tmp_path / "bin")
    (tmp_path / "guests").mkdir()
    found.program("nova", NOVA.format(folder=tmp_path / "guests"))
    return found


def guests(count, timeout_s=15.0):
    names = [f"g{n}" for n in range(count)]
    return Guests(names, *([f"nova {word} {name}" for name in names] for word in ("boot", "show", "delete")), timeout_s)


def measured(node, environment="", **arguments):
    result = measure.measure(task_on(node), environment=environment, **arguments).result
    return Measured.of(result.data)


def test_calls_are_timed_and_failures_counted(node, tmp_path):
    (tmp_path / "rc").write_text("export WHO=operator\n")
    calls = {"fast": "[ $WHO = operator ]", "slow": "sleep 0.2", "bad": "echo 'HTTP 500' >&2; exit 1"}
    found = measured(node, str(tmp_path / "rc"), calls=calls, repeat=3)
    assert [(len(each.seconds), each.failed, each.said) for each in found.calls.values()] == [
        *[(3, 0, ""), (3, 0, "")],
        (0, 3, "HTTP 500"),
    ]
    assert min(found.calls["slow"].seconds) >= 0.2
    assert found.guests is None


def test_guests_are_made_at_once_and_deleted(node, tmp_path):
    found = measured(node, calls={}, repeat=1, guests=guests(4))
    assert len(found.guests.seconds) == 4
    assert found.rate > 0
    assert list((tmp_path / "guests").iterdir()) == []


def test_a_guest_that_cannot_be_made_is_counted_and_the_others_are_deleted(node, tmp_path):
    (tmp_path / "rc").write_text("export BAD=g1\n")
    found = measured(node, str(tmp_path / "rc"), calls={}, repeat=1, guests=guests(3))
    assert (len(found.guests.seconds), found.guests.failed) == (2, 1)
    assert found.guests.said == "g1: FAILED ERROR: no valid host"
    assert list((tmp_path / "guests").iterdir()) == []


def test_a_guest_that_cannot_be_deleted_is_named(node, tmp_path):
    (tmp_path / "rc").write_text("export STUCK=yes\n")
    with pytest.raises(CommandFailed, match="deleting g0, g1: delete them by hand"):
        measured(node, str(tmp_path / "rc"), calls={}, repeat=1, guests=guests(2))


def test_what_is_cut_off_is_refused():
    with pytest.raises(Refused, match="1 times were told instead of 2"):
        measure.parse_call("1.0 2.0 0\n", 2)
    with pytest.raises(Refused, match="not every guest was told of"):
        measure.parse_guests("guest g0 1.0 2.0 ACTIVE\n", ["g0", "g1"])


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 10**6)), min_size=1, max_size=20))
def test_the_rate_is_of_all_from_the_first_request_to_the_last_boot(times):
    said = "".join(f"guest g{n} {at} {at + took} ACTIVE\n" for n, (at, took) in enumerate(times))
    timed, rate = measure.parse_guests(said, [f"g{n}" for n in range(len(times))])
    whole = max(at + took for at, took in times) - min(at for at, _ in times)
    assert rate == round(60 * len(times) / whole, 2)
    assert sorted(timed.seconds) == sorted(float(took) for _, took in times)
