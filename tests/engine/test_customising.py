"""The example of docs/customising.md, word for word: planned, run, killed, put back; and on a real MariaDB."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cellstep.cloud.load import load_cloud
from cellstep.engine.plan import as_text
from cellstep.stages import runbook_of
from plugins.connections.mysql import Mysql
from tests.chaos import world
from tests.chaos.strikes import Strike
from tests.chaos.world import ScriptedCloud, needs_namespaces
from tests.support import mariadb
from tests.support.folders import lab_folder
from tests.support.pages import customise
from tests.support.scripted import Scripted, task_on, told

JOB = "0 3 * * * root /usr/local/bin/network-export\n"
TITLES = (
    "Put the help button back on the dashboard's login page",
    "Bring the network database up to date",
    "Keep the nightly job from writing to the network database",
    "Let the nightly job write to the network database again",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The lab's cloud, with the page's example in it."""
    made = lab_folder(tmp_path / "cloud")
    customise(made)
    return made


def test_the_plan_has_the_examples_steps_and_says_what_was_left_out(folder: Path):
    cloud = load_cloud(folder)
    text = as_text(cloud, runbook_of("nova", cloud), cloud.nodes)
    marked = [line for line in text.splitlines() if line.endswith("(site)")]
    assert {title for title in TITLES for line in marked if title in line} == set(TITLES)
    assert len(marked) == len(TITLES)
    assert "left out: “Run “yum clean all” on all the nodes”: our mirror is on the nodes' own disks" in text


class Server(Mysql):
    """The scratch server, as a node's connection."""

    opened = 0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Mysql]:
    try:
        with mariadb.running(tmp_path) as server:
            server.load("""
                CREATE DATABASE nova; CREATE DATABASE network;
                CREATE TABLE nova.instances (uuid varchar(36), hostname varchar(255), deleted int);
                CREATE TABLE nova.fixed_ips (address varchar(39), instance_uuid varchar(36), deleted int);
                CREATE TABLE network.hosts (name varchar(255), address varchar(39)) ENGINE=InnoDB;
                INSERT INTO nova.instances VALUES ('a', 'vm1', 0), ('b', 'vm2', 0), ('c', 'gone', 3);
                INSERT INTO nova.fixed_ips VALUES ('192.0.2.1', 'a', 0), ('192.0.2.2', 'b', 0), ('192.0.2.9', 'b', 7),
                  ('192.0.2.3', 'c', 0), ('192.0.2.4', NULL, 0);
                INSERT INTO network.hosts VALUES ('vm1', '192.0.2.1');
            """)
            mysql = Server("scratch", "root", "", "127.0.0.1", server.port)
            yield mysql
            mysql.close()
    except mariadb.MariadbMissingError as missing:
        pytest.skip(str(missing))


@pytest.mark.mariadb
def test_the_examples_function_writes_what_lacks_once(folder: Path, database: Mysql):
    step = next(step for step in runbook_of("nova", load_cloud(folder)).steps if step.title == TITLES[1])

    def sync(*, dry_run: bool = False) -> str:
        return told(step.does(task_on(Scripted({}), database=database, dry_run=dry_run), **step.arguments))

    def known() -> list[tuple[str, str]]:
        rows = database.query("SELECT * FROM hosts ORDER BY name", database="network")
        return [(row["name"], row["address"]) for row in rows]

    assert sync(dry_run=True) == "changed: would write 1 addresses"
    assert known() == [("vm1", "192.0.2.1")]
    assert sync() == "changed: wrote 1 addresses"
    assert known() == [("vm1", "192.0.2.1"), ("vm2", "192.0.2.2")]
    assert sync() == "skipped: every guest's address is known"


@pytest.fixture
def scripted_cloud() -> Iterator[ScriptedCloud]:
    needs_namespaces()
    with world.up() as cloud:
        customise(cloud.folder)
        infra, api = cloud.host("top-infra01"), cloud.host("top-api01")
        (infra / "etc/cron.d").mkdir()
        (infra / "etc/cron.d/network").write_text(JOB)
        for root in (api, cloud.host("top-api02")):
            (root / "root/help.html").write_text("<button>Help</button>\n")
        (api / "var/www/dashboard").mkdir(parents=True)
        (api / "var/www/dashboard/help.html").write_text("<button>Help</button>\n")
        yield cloud


def test_the_example_runs_is_held_put_back_after_a_kill_and_resumed(scripted_cloud: ScriptedCloud) -> None:
    """Killed in the middle of the upgrade, when the site's hold is in place."""
    cloud = scripted_cloud
    job = cloud.host("top-infra01") / "etc/cron.d/network"
    killed = cloud.cellstep("run", "nova", "--yes", strike=Strike("begin_step", 41))
    assert killed.code == -9, killed.said[-2000:]
    assert not job.exists()
    held = json.loads(cloud.cellstep("holds", "--json", expect=0).said)
    assert [(row["host"], row["title"], row["prior_words"]) for row in held if row["name"] == "network-job"] == [
        ("top-infra01", TITLES[2], f"state {JOB.strip()}, not in place")
    ]
    cloud.cellstep("holds", "lift", "--name", "network-job", "--yes", expect=0)
    assert job.read_text() == JOB
    ended = cloud.cellstep("resume", "--yes", expect=0)
    assert f"{TITLES[2]}  (site)" in ended.said
    assert job.read_text() == JOB
    with cloud.journal() as journal:
        run = journal.last_run(whole=True)
        assert run is not None
        assert run.state == "complete"
        assert [row["title"] for row in journal.steps(run.id)] == [
            step.title for step in runbook_of("nova", cloud.cloud).steps
        ]
        rows = {(row["step"], row["host"]): row["state"] for row in journal.hosts(run.id) if row["step"] in TITLES}
        assert journal.all_open_holds() == {}
    assert rows == {
        (TITLES[0], "top-api01"): "skipped",
        (TITLES[0], "top-api02"): "changed",
        (TITLES[1], "top-infra01"): "skipped",
        (TITLES[2], "top-infra01"): "changed",
        (TITLES[3], "top-infra01"): "changed",
    }
    for name in ("top-api01", "top-api02"):
        assert (cloud.host(name) / "var/www/dashboard/help.html").read_text() == "<button>Help</button>\n"
    assert not cloud.breaches()
