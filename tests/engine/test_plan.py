"""The plan: its golden text, and finding a step in it."""

from dataclasses import replace

import pytest

from cellstep.engine.plan import as_kept, as_text, as_values, difference, find_step
from cellstep.errors import UsageError
from cellstep.stages import STAGES, runbook_of
from tests.engine.conftest import ROOT

GOLDEN = ROOT / "tests" / "golden"


@pytest.mark.parametrize("stage", STAGES)
def test_the_plan_is_the_golden_text(cloud, stage):
    """A changed step shows here: read it beside the procedure, then write the file anew with `cellstep plan STAGE`."""
    golden = GOLDEN / f"plan-{stage}-lab.txt"
    assert as_text(cloud, runbook_of(stage, cloud), cloud.nodes) + "\n" == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("stage", STAGES)
def test_every_hold_is_lifted_on_every_node_that_it_was_placed_on(cloud, stage):
    held: dict[str, set[str]] = {}
    lifted: dict[str, set[str]] = {}
    for step in as_values(cloud, runbook_of(stage, cloud), cloud.nodes)["steps"]:
        if step["kind"] in {"hold", "lift", "settle"}:
            (held if step["kind"] == "hold" else lifted).setdefault(step["hold"], set()).update(step["nodes"])
    assert held == {name: lifted[name] & nodes for name, nodes in held.items()}


def test_a_tier_is_finished_before_the_next_begins(cloud):
    titles = [step.title for step in runbook_of("nova", cloud).steps]
    tiers = [title.split(":")[0] for title in titles if title.split(":")[0] in TIERS]
    assert tiers == [tier for tier in TIERS for _ in range(6)]


TIERS = ("Top API controllers", "Cell controllers", "Compute nodes")


@pytest.mark.parametrize(
    ("wanted", "found"), [("1", 0), ("29", 28), ("update the top db", 32), ("Save a list of all v", 0)]
)
def test_a_step_is_found_by_number_title_or_beginning(cloud, wanted, found):
    assert find_step(runbook_of("nova", cloud), wanted) == found


@pytest.mark.parametrize("wanted", ["0", "99", "Save a list", "no such"])
def test_a_step_that_is_not_one_is_refused_in_one_line(cloud, wanted):
    with pytest.raises(UsageError) as error:
        find_step(runbook_of("nova", cloud), wanted)
    assert "\n" not in str(error.value)


def test_an_unknown_stage_names_those_that_are_there(cloud):
    with pytest.raises(UsageError, match=r"the stages are: .*nova"):
        runbook_of("nowa", cloud)


def test_another_version_in_the_middle_of_a_run_is_another_plan(cloud):
    book = runbook_of("nova", cloud)
    other = replace(book, facts={**book.facts, "package openstack-nova-api": "2013.2.2-1.el6"})
    assert book.digest(cloud.nodes) != other.digest(cloud.nodes)
    changes = difference(as_kept(cloud, book, cloud.nodes), as_kept(cloud, other, cloud.nodes))
    assert changes == ["~ package openstack-nova-api: 2013.2.1-1.el6 before, 2013.2.2-1.el6 now"]


def test_a_difference_names_steps_and_nodes_once(cloud):
    before = as_kept(cloud, runbook_of("nova", cloud), cloud.nodes)
    assert difference(before, before) == []
    fewer = as_kept(cloud, runbook_of("nova", cloud), [n for n in cloud.nodes if n.name != "c01-n02"])
    (change,) = difference(before, fewer)
    assert change.startswith("~ - c01-n02 in “Save a list of all guests” and ")
    swapped = [before[1], before[0], *before[2:]]
    assert difference(before, swapped) == ["~ steps in another order"]
    assert difference(before, before[1:]) == [f"- {before[0]['title']}"]
