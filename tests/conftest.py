"""For all tests: the longest ones first, so that workers that run side by side end together."""

import pytest
from hypothesis import settings

# How long one example takes says nothing on a machine that is busy with other tests.
settings.register_profile("cellstep", deadline=None)
settings.load_profile("cellstep")

LONGEST_FIRST = (
    "tests/lab/test_upgrade.py",
    "tests/lab/test_keystone.py",
    "tests/lab/test_stages.py",
    "tests/lab/test_glance.py",
    "tests/lab/test_stand_ins.py",
    "tests/lab/test_machine_hosts.py",
    "tests/engine/test_chaos_quick.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        name = item.nodeid.split("::")[0]
        return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)

    items.sort(key=rank)
