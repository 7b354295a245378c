"""`cellstep inventory` and `cellstep config`."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cellstep.cli.config import app as config
from cellstep.cli.inventory import inventory
from cellstep.errors import ConfigurationError, UsageError
from tests.support import clouds

SHIPPED = Path(__file__).parents[2] / "inventory"

app = typer.Typer()
app.command()(inventory)
app.add_typer(config, name="config")


@pytest.fixture
def call(monkeypatch):
    """Call the command; what it raises is raised here."""
    monkeypatch.delenv("CELLSTEP_CLOUD", raising=False)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*arguments):
        result = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def test_the_table_has_folded_names_and_counts_at_100_columns(call):
    text = call("inventory", "--cloud", str(SHIPPED / "cern"))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    assert any("geneva01" in line and "g01-ctl[01-02]" in line for line in lines)
    assert any("compute" in line and " 240 " in line and "p01-[001-240]" in line for line in lines)
    assert "2,059 nodes in the top cell and 10 child cells, 2 data centres" in text
    assert "2,000 compute" in text


def test_json_is_for_machines(call):
    shown = json.loads(call("inventory", "--json", "--cloud", str(SHIPPED / "lab")))
    assert [cell["name"] for cell in shown["cells"]] == ["top", "cell01", "cell02"]
    assert shown["cells"][1]["roles"]["compute"] == {"count": 2, "nodes": "c01-n[01-02]"}
    assert shown["groups"]["budapest"] == "c02-ctl01,c02-n[01-02]"
    assert shown["hosts"][7] == {
        "name": "c01-n01",
        "cell": "cell01",
        "tier": "compute",
        "roles": ["compute"],
        "data_centre": "geneva",
        "platform": "el6",
        "address": "c01-n01",
        "port": None,
        "username": "root",
    }


def test_the_cloud_is_named_by_option_environment_or_current_folder(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="--cloud DIR or CELLSTEP_CLOUD"):
        call("config", "check")
    clouds.write(tmp_path)
    assert "ok, 25 nodes in 3 cells, release grizzly-havana" in call("config", "check")
    assert "ok, 25 nodes" in call("config", "check", "--cloud", str(tmp_path / "cloud.yaml"))
    monkeypatch.setenv("CELLSTEP_CLOUD", str(SHIPPED / "lab"))
    assert "ok, 12 nodes" in call("config", "check")


def test_check_lists_the_faults(call, tmp_path):
    clouds.write(tmp_path, clouds.CLOUD + "wokers: 1\n", clouds.INVENTORY + "hots: {}\n")
    with pytest.raises(ConfigurationError) as caught:
        call("config", "check", "--cloud", str(tmp_path))
    assert caught.value.faults == [
        "cloud.yaml:5: unknown key 'wokers'; did you mean 'workers'?",
        "inventory.yaml:11: unknown key 'hots'; did you mean 'hosts'?",
    ]


def test_the_schema_describes_every_key_of_both_files(call):
    both = json.loads(call("config", "schema"))
    assert set(both) == {"cloud.yaml", "inventory.yaml"}
    for schema in both.values():
        for model in (schema, *schema["$defs"].values()):
            assert model["additionalProperties"] is False
            assert all("description" in field for field in model["properties"].values()), model["title"]
    one = json.loads(call("config", "schema", "inventory.yaml"))
    assert one == both["inventory.yaml"]
    ranges = one["$defs"]["Cell"]["properties"]["roles"]["additionalProperties"]
    assert {kind["type"] for kind in ranges["anyOf"]} == {"string", "array"}
