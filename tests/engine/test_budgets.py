"""Budgets: as they are written, and when they are passed."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellstep.cloud.allowance import Allowance
from cellstep.cloud.model import BudgetsConfig
from cellstep.engine.budgets import KINDS, Budgets
from cellstep.errors import UsageError


@given(st.integers(0, 999_999), st.integers(0, 10_000))
def test_a_number_of_nodes_is_that_number_whatever_there_is(number: int, nodes: int):
    allowance = Allowance.parse(f" {number} ")
    assert allowance.of(nodes) == number
    assert Allowance.parse(str(allowance)) == allowance


@given(st.integers(0, 1000), st.integers(0, 10_000))
def test_a_share_is_rounded_up(tenths: int, nodes: int):
    """Exactly: no share of a float's last digit allows a node more."""
    allowance = Allowance.parse(f"{tenths / 10}%")
    assert allowance.of(nodes) == math.ceil(nodes * tenths / 1000)
    assert Allowance.parse(str(allowance)) == allowance


@pytest.mark.parametrize("text", ["", "-1", "101%", "2 %%", "1.5", "half", "1e3", "%", "10000000"])
def test_what_is_no_budget_is_refused_with_what_to_write(text: str):
    with pytest.raises(ValueError, match="write a number such as 5, or a share such as 2%"):
        Allowance.parse(text)


def test_wishes_change_the_budgets_of_the_cloud():
    budgets = Budgets.of(BudgetsConfig(), ["failed-per-cell=3", "unreachable=0", "failed_per_cell=4"])
    assert str(budgets.failed_per_cell) == "4"
    assert budgets.unreachable.of(2000) == 0
    assert budgets.failed == Allowance(percent=2)


@pytest.mark.parametrize(("wish", "said"), [("broken=3", "the budgets are: failed, failed-per-cell,"), ("failed", "5")])
def test_a_wish_that_cannot_be_is_refused(wish: str, said: str):
    with pytest.raises(UsageError, match=said):
        Budgets.of(BudgetsConfig(), [wish])


cells = st.sampled_from(["cell01", "cell02", "cell03"])


@given(
    st.lists(st.tuples(cells, st.sampled_from(KINDS)), max_size=40),
    st.dictionaries(cells, st.integers(1, 30), min_size=3),
    st.tuples(*[st.integers(0, 12)] * 4),
)
def test_a_budget_is_passed_by_the_first_node_too_many(lost, nodes, allowed):
    names = ("failed", "failed_per_cell", "unreachable", "unreachable_per_cell")
    budgets = Budgets(**{name: Allowance(nodes=number) for name, number in zip(names, allowed, strict=True)})
    counts = Counter(lost)
    passed = budgets.overspent(lost, nodes)
    expected = 0
    for kind in KINDS:
        expected += sum(counts[cell, kind] > getattr(budgets, f"{kind}_per_cell").of(0) for cell in nodes)
        expected += sum(counts[cell, kind] for cell in nodes) > getattr(budgets, kind).of(0)
    assert len(passed) == expected
    assert all("allowed by the budget" in line for line in passed)
