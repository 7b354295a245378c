"""`steps` in cloud.yaml: what an entry must have, and what it must not, each a line."""

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.errors import ConfigurationError
from tests.support import clouds

DO = {"stage": "nova", "after": "A", "title": "B", "on": "top", "command": "'true'"}
HOLD = {
    "stage": "nova",
    "kind": "hold",
    "after": "A",
    "title": "B",
    "on": "top",
    "hold": "cron",
    "lift_after": "C",
    "read": "'true'",
    "place": "'true'",
    "lift": "'true'",
}
RUN = {**{key: value for key, value in DO.items() if key != "command"}, "run": "network:sync"}


def entry(base, **changes):
    """One entry as YAML; a key that is None is left out."""
    pairs = {**base, **changes}.items()
    return "{" + ", ".join(f"{key}: {value}" for key, value in pairs if value is not None) + "}"


CASES = [
    (entry(DO, after=None), "steps.0: needs one of after, before, replace and leave_out; write just one"),
    (entry(DO, before="C"), "steps.0: needs one of after, before, replace and leave_out; write just one"),
    (entry(DO, after=None, replace="A"), "steps.0: needs a reason with replace; write why"),
    ("{stage: nova, leave_out: A}", "steps.0: needs a reason with leave_out; write why"),
    (
        "{stage: nova, leave_out: A, reason: x, on: top}",
        "steps.0: has on, which means nothing with leave_out; leave it out",
    ),
    (entry(DO, title=None), "steps.0: needs title; write it"),
    (entry(DO, on=None), "steps.0: needs on; write it"),
    (entry(DO, on="c09"), "steps.0.on: 'c09' is neither a node nor a group of test; did you mean 'c02-n9'?"),
    (entry(DO, command=None), "steps.0: needs run or command; write one of them"),
    (entry(DO, run="a:b"), "steps.0: needs run or command; write one of them"),
    (entry(DO, arguments="{a: 1}"), "steps.0: has arguments, which are for run; leave them out"),
    (
        entry(RUN, already="'true'"),
        "steps.0: has already, which is for commands; the function of run sees to that itself",
    ),
    (
        entry(RUN, run="network"),
        ("steps.0.run: 'network' is no function; write module:function, such as network:sync_network"),
    ),
    (entry(DO, lift_after="C"), "steps.0: has lift_after, which is for holds; leave it out, or write kind: hold"),
    (entry(DO, kind="gate"), "steps.0.kind is 'gate'; write 'do' or 'hold'"),
    (entry(DO, titel="x"), "unknown key 'titel' in steps.0; did you mean 'title'?"),
    (entry(DO, timeout_s="0"), "steps.0.timeout_s is the number 0; write more than 0"),
    (
        entry(HOLD, after=None, replace="A", reason="x"),
        ("steps.0: is a hold in place of a step; write it after or before one"),
    ),
    (entry(HOLD, command="x"), "steps.0: has command, which is no hold's; write read, place and lift"),
    (entry(HOLD, run="a:B"), "steps.0: has both run and read; keep one"),
    (entry(HOLD, read=None), "steps.0: needs run, or hold (its name) with read, place and lift; write them"),
    (entry(HOLD, hold=None), "steps.0: needs run, or hold (its name) with read, place and lift; write them"),
    (
        entry(HOLD, lift_after=None),
        "steps.0: needs lift_after or lift_before; every hold is lifted by a step, write after or before which",
    ),
    (
        entry(HOLD, lift_before="D"),
        "steps.0: needs lift_after or lift_before; every hold is lifted by a step, write after or before which",
    ),
]


@pytest.mark.parametrize(("text", "said"), CASES)
def test_each_fault_of_an_entry_is_one_line(tmp_path, text, said):
    with pytest.raises(ConfigurationError) as caught:
        load_cloud(clouds.write(tmp_path, f"{clouds.CLOUD}steps:\n  - {text}\n"))
    assert caught.value.faults == [f"cloud.yaml:6: {said}"]


@pytest.mark.parametrize("text", [entry(DO), entry(HOLD), entry(RUN, arguments="{a: [1, {b: null}]}")])
def test_a_sound_entry_knows_its_line(tmp_path, text):
    cloud = load_cloud(clouds.write(tmp_path, f"{clouds.CLOUD}steps:\n\n  - {text}\n"))
    assert cloud.step_lines == (7,)
    assert cloud.config.steps[0].title_of_lift == "Put back: B"
