"""`plan all`, `run all` and a site's wrong steps as their users see them, on a cloud that does not answer."""

import json
from pathlib import Path

import pytest

from cellstep import sequence
from cellstep.cloud.load import load_cloud
from tests.cli.test_run_command import call
from tests.support.folders import lab_folder
from tests.support.pages import customise


@pytest.fixture
def cloud(tmp_path: Path) -> Path:
    return lab_folder(tmp_path / "cloud")


def test_plan_all_is_the_same_for_people_and_machines(cloud: Path):
    text = call(cloud, "plan", "all", expect=0)
    values = json.loads(call(cloud, "plan", "all", "--json", expect=0))
    names = [stage["stage"] for stage in values["stages"]]
    assert names == list(sequence.stages(load_cloud(cloud)))
    summary = [" ".join(line.split()) for line in text.splitlines()]
    assert f"in all {values['steps']} steps {values['nodes']} nodes not known" in summary
    for number, stage in enumerate(values["stages"], 1):
        nodes = {node for step in stage["steps"] for node in step["nodes"]}
        assert f"{number}. {stage['stage']} {len(stage['steps'])} steps {len(nodes)} nodes not known" in summary
        alone = call(cloud, "plan", stage["stage"], expect=0)
        assert alone.strip() in text
        assert json.loads(call(cloud, "plan", stage["stage"], "--json", expect=0)).items() <= stage.items()
    few = json.loads(call(cloud, "plan", "all", "--json", "--limit", "cell01", expect=0))
    assert few["nodes"] == 4, "the cell's own, and the staging node"


def test_run_all_stops_at_the_first_stage_that_does_not_end_well(cloud: Path):
    first, *rest = sequence.stages(load_cloud(cloud))
    said = call(cloud, "run", "all", "--yes", expect=4)
    assert f"\n{first}\n" in said
    assert f"not begun: {', '.join(rest)}; `cellstep run all` goes on" in said.replace("\n", " ")
    status = json.loads(call(cloud, "status", "--json", expect=0))
    assert (status["run"]["stage"], status["run"]["state"]) == (first, "stopped")
    again = call(cloud, "run", "all", expect=2)
    assert "say --yes" in again
    assert call(cloud, "run", "all", "--yes", expect=4).count("not begun") == 1
    assert json.loads(call(cloud, "status", "--json", expect=0))["run"]["id"] == status["run"]["id"]
    assert f"run {status['run']['id']} is not finished (stopped)" in call(cloud, "plan", "all", expect=0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "all"], "say --yes"),
        (["run", "all", "--yes", "--limit", "cell01"], "are for one stage"),
        (["run", "all", "--yes", "--step", "1"], "are for one stage"),
        (["run", "all", "--yes", "--catch-up"], "are for one stage"),
        (["run", "all", "--yes", "--budget", "lost=3"], "lost"),
    ],
)
def test_wrong_usage_begins_nothing(cloud: Path, arguments: list[str], said: str):
    assert said in call(cloud, *arguments, expect=2)
    assert not (cloud / "state" / "journal.sqlite3").exists()


def test_a_wrong_step_of_the_site_is_one_line_before_anything_begins(cloud: Path):
    customise(cloud)
    assert "Bring the network database up to date  (site)" in call(cloud, "plan", "nova", expect=0)
    file = cloud / "cloud.yaml"
    text = file.read_text(encoding="utf-8")
    for wrong, right, said in (
        ("network:sync_netwrk", "network:sync_network", "site/network.py has no 'sync_netwrk'; did you mean"),
        ("after: Update the top DBs", "after: Update the top DB", "did you mean “Update the top DB”?"),
    ):
        assert right in text
        file.write_text(text.replace(right, wrong, 1), encoding="utf-8")
        for arguments in (["run", "nova", "--yes"], ["run", "all", "--yes"], ["config", "check"], ["plan", "nova"]):
            *headings, line = call(cloud, *arguments, expect=2).splitlines()
            assert len(headings) == (arguments[:2] == ["run", "nova"])
            assert line.startswith("cloud.yaml:")
            assert said in line
    assert not (cloud / "state" / "journal.sqlite3").exists()
