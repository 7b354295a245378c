"""Which lists from before the upgrade a gate or a verification compares with."""

from pathlib import Path

import pytest

from cellstep.engine.journal import Journal
from cellstep.verification import Baseline, save_baseline


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "state" / "journal.sqlite3")


def run(journal: Journal, tmp_path: Path, state: str, volumes: str = "", **options: str) -> Path:
    """A run that saved a list of one volume, or none."""
    name = journal.begin_run("nova", "r", "d", options)
    folder = tmp_path / name
    journal.set_output(name, str(folder))
    if volumes:
        save_baseline(folder, "volumes", [{"id": volumes}])
    if state != "running":
        journal.end_run(name, state, 0)
    return folder


def found(journal: Journal, folder: Path) -> str | None:
    rows = Baseline.find(journal, "nova", folder).volumes
    return None if rows is None else str(rows[0]["id"])


def test_a_run_has_what_it_saved(journal: Journal, tmp_path: Path):
    assert found(journal, run(journal, tmp_path, "running", "mine")) == "mine"


def test_without_any_there_is_nothing(journal: Journal, tmp_path: Path):
    assert found(journal, run(journal, tmp_path, "running")) is None


def test_a_run_begun_afresh_compares_with_what_was_before_the_first(journal: Journal, tmp_path: Path):
    run(journal, tmp_path, "complete", "long ago")
    run(journal, tmp_path, "superseded", "before")
    assert found(journal, run(journal, tmp_path, "running", "half upgraded")) == "before"


def test_a_single_step_or_a_few_nodes_do_not_replace_the_list(journal: Journal, tmp_path: Path):
    run(journal, tmp_path, "complete", "before")
    run(journal, tmp_path, "complete", "of one step", step="1")
    run(journal, tmp_path, "complete", "of one node", limit="c01-n01")
    assert found(journal, tmp_path / "verify") == "before"


def test_a_limited_run_compares_with_its_own(journal: Journal, tmp_path: Path):
    run(journal, tmp_path, "complete", "before")
    assert found(journal, run(journal, tmp_path, "running", "of one node", limit="c01-n01")) == "of one node"


def test_a_second_upgrade_compares_with_its_own(journal: Journal, tmp_path: Path):
    run(journal, tmp_path, "complete", "first")
    run(journal, tmp_path, "complete", "second")
    assert found(journal, tmp_path / "verify") == "second"
