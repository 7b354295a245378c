"""Calls timed and guests made at once, by real commands in a real bash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import measure
from tasks.errors import CommandFailed, Refused
from tasks.guests import Commands, Several
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
  list) echo '| ID | Name | Status |'; for each in *; do [ -e "$each" ] || continue
    left=$(cat "$each"); [ "$left" -gt 0 ] && state=BUILD || state=ACTIVE; echo $((left - 1)) > "$each"
    name=$each; [ -z "$ROWS" ] || name=$(cat "../names/$each" 2> /dev/null || echo "$each")
    echo "| $each | $name | $state |"; done;;
  several) for ((n = 0; n < $2; n++)); do echo 1 > "id$n"; done
    mkdir -p ../names; shift 2; n=0; for each; do echo "$each" > "../names/id$n"; n=$((n + 1)); done;;
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
    return Guests(names, *([f"nova {word} {name}" for name in names] for word in ("boot", "show")), timeout_s)


def commands(environment="", timeout_s=5.0):
    return Commands(environment, "nova list", "nova delete {name}", timeout_s)


def measured(node, environment="", **arguments):
    result = measure.measure(task_on(node), commands=commands(environment), **arguments).result
    return Measured.of(result.data)


def named(node, tmp_path, *names, count=None):
    """Several guests by one request, which get these names."""
    (tmp_path / "rc").write_text("export ROWS=yes\n")
    count = len(names) if count is None else count
    words = " ".join(f"'{name}'" for name in names)
    several = Several("cellstep-several-1", count, f"nova several {len(names)} {words}")
    found = measured(node, str(tmp_path / "rc"), calls={}, repeat=1, guests=guests(1), several=several)
    assert list((tmp_path / "guests").iterdir()) == []
    return found.several


UUID = "8a4e3c7e-5b0f-4b8e-9a53-0d5d5a0f6a01"


def test_several_by_one_request_with_names_of_their_own_are_well(node, tmp_path):
    found = named(node, tmp_path, f"cellstep-several-1-{UUID}", "cellstep-several-1-2")
    assert found["faults"] == []
    assert (found["count"], len(found["names"])) == (2, 2)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("cellstep-several-1", "cellstep-several-1"), "2 guests have the same name cellstep-several-1"),
        (("cellstep-several-1-%s", "cellstep-several-1-2"), "%s is a template's rest"),
        (("cellstep-several-1-%(uuid)s", "cellstep-several-1-2"), "%(uuid)s is a template's rest"),
        (("cellstep-several-1-$(uuid)", "cellstep-several-1-2"), "$(uuid is a template's rest"),
        (("cellstep-several-1_a", "cellstep-several-1-2"), "more than letters, digits and hyphens"),
        ((f"cellstep-several-1-{UUID}-{UUID}", "cellstep-several-1-2"), "92 characters, more than 63"),
    ],
)
def test_equal_or_invalid_names_of_several_guests_are_told_and_all_are_deleted(node, tmp_path, names, words):
    assert words in "; ".join(named(node, tmp_path, *names)["faults"])


def test_too_few_of_several_guests_are_told(node, tmp_path):
    assert named(node, tmp_path, "cellstep-several-1-1", count=2)["faults"] == ["1 guests instead of 2"]


def test_what_a_killed_measurement_left_is_deleted_and_told(node, tmp_path):
    for name in ("cellstep-measure-abc-1", "cellstep-several-abc", "users"):
        (tmp_path / "guests" / name).write_text("0")
    said = measure.clean(task_on(node), commands=commands()).result
    assert said == "deleted 2 that an earlier measurement left: cellstep-measure-abc-1, cellstep-several-abc"
    assert [each.name for each in (tmp_path / "guests").iterdir()] == ["users"]
    assert measure.clean(task_on(node), commands=commands()).result == "no guest of a measurement is there"
    (tmp_path / "guests" / "cellstep-measure-abd-1").write_text("0")
    result = measure.measure(task_on(node), commands=commands(), calls={}, repeat=1, guests=guests(1)).result
    assert "deleted 1 that an earlier measurement left: cellstep-measure-abd-1" in str(result)


def test_a_guest_that_stays_after_it_was_deleted_is_named(node, tmp_path):
    (tmp_path / "guests" / "cellstep-measure-abc-1").write_text("0")
    slow = Commands("", "nova list", "true {name}", 1.0)
    with pytest.raises(Refused, match="still listed 1 s after deleting"):
        measure.clean(task_on(node), commands=slow)


def test_no_more_than_ten_clients_run_at_once(node, tmp_path):
    log = tmp_path / "log"
    node.program("boot", f"echo begin >> {log}; sleep 0.2; nova boot $1; echo end >> {log}")
    names = [f"g{n}" for n in range(23)]
    many = Guests(names, [f"boot {name}" for name in names], [f"nova show {name}" for name in names], 15.0)
    found = measured(node, calls={}, repeat=1, guests=many)
    assert len(found.guests.seconds) == 23
    running = most = 0
    for line in log.read_text().split():
        running += 1 if line == "begin" else -1
        most = max(most, running)
    assert 1 < most <= measure.AT_ONCE


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
    with pytest.raises(CommandFailed, match=r"deleting g0 \(g0\), g1 \(g1\): delete them by hand"):
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
