"""Chaos: tests that break things on purpose, too slow for `bin/test`. `nox -s chaos` runs them.

`nox -s chaos -- --seed 7 --points 60` at other places; `nox -s chaos -- -k disk` some of them.
"""

from pathlib import Path

import pytest

HERE = Path(__file__).parent
OPTIONS = {"seed": 1, "points": 40, "workers": 2}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--chaos", action="store_true", help="run the tests of tests/chaos")
    for name, default in OPTIONS.items():
        group.addoption(f"--{name}", type=int, default=default, help=f"of the chaos (default: {default})")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: breaks things for minutes; `nox -s chaos` runs it")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mine = [item for item in items if item.path.is_relative_to(HERE)]
    for item in mine:
        item.add_marker(pytest.mark.chaos)
        item.add_marker(pytest.mark.timeout(2400))
    if mine and not config.getoption("--chaos", default=False):
        items[:] = [item for item in items if item not in mine]
        config.hook.pytest_deselected(items=mine)


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    """What the random places come from."""
    number: int = request.config.getoption("--seed")
    return number


@pytest.fixture(scope="session")
def points(request: pytest.FixtureRequest) -> int:
    """How many random places."""
    number: int = request.config.getoption("--points")
    return number


@pytest.fixture(scope="session")
def workers(request: pytest.FixtureRequest) -> int:
    """How many clouds side by side."""
    number: int = request.config.getoption("--workers")
    return number
