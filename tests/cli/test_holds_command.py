"""`cellstep holds`, `holds lift` and `abandon`, on a cloud none of whose nodes answers."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cellstep import runs
from cellstep.cli.holds import words
from cellstep.cli.main import app
from cellstep.cloud.load import load_cloud
from cellstep.engine.journal import Journal
from cellstep.errors import CellstepError
from tests.support.folders import lab_folder

COMPUTES = ["c01-n01", "c01-n02", "c02-n01", "c02-n02"]
PRIOR = {"openstack-nova-compute": {"actual": "running", "boot": "on"}}
STOP = "Compute nodes: stop the daemons"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lab_folder(tmp_path / "cloud")


@pytest.fixture
def journal(folder: Path) -> Journal:
    return runs.open_journal(load_cloud(folder))


def call(folder: Path, *arguments: str, code: int = 0) -> str:
    """The command's output, with its error's text where it ended with one."""
    done = CliRunner().invoke(app, [*arguments, "--cloud", str(folder)])
    if isinstance(done.exception, CellstepError):
        assert done.exception.exit_code == code, done.output
        return f"{done.output}{done.exception}"
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.output


@pytest.fixture
def run(journal: Journal) -> str:
    run = journal.begin_run("nova", "grizzly-havana", "d", {})
    journal.begin_step(run, 26, STOP, [(host[:3], host) for host in COMPUTES])
    journal.place_holds(run, "nova", STOP, "daemons", dict.fromkeys(COMPUTES, PRIOR))
    journal.place_holds(run, "nova", "Stop Puppet", "puppet", {"c01-n01": {"enabled": False, "reason": "ask Anna"}})
    journal.end_hosts(run, STOP, [(host, "changed", "") for host in COMPUTES])
    journal.end_step(run, STOP, "done")
    journal.end_run(run, "stopped", 4, "stopped")
    return run


def test_nothing_is_held_where_there_was_no_run(folder: Path):
    assert "nothing is held" in call(folder, "holds")
    assert json.loads(call(folder, "holds", "--json")) == []
    assert "nothing is held" in call(folder, "holds", "lift")
    assert not (folder / "state").exists()


def test_nodes_that_are_held_alike_are_one_line_with_what_was_before(folder: Path, run: str):
    said = " ".join(call(folder, "holds").split())
    assert "c[01-02]-n[01-02] daemons 20" in said
    assert f"{run} {STOP} openstack-nova-compute: running, boot on" in said
    assert f"{run} Stop Puppet not enabled, reason ask Anna" in said
    rows = json.loads(call(folder, "holds", "--json"))
    assert [(row["host"], row["name"]) for row in rows] == [
        *((host, "daemons") for host in COMPUTES),
        ("c01-n01", "puppet"),
    ]
    assert rows[0]["prior"] == PRIOR
    assert rows[0].keys() == {"name", "host", "prior", "run", "placed_at", "stage", "title", "prior_words"}


def test_lifting_beside_an_unfinished_run_needs_a_yes_and_says_which_run_and_step(folder: Path, run: str):
    said = call(folder, "holds", "lift", code=2)
    assert f"Run {run} of nova is not finished (stopped at step 26, “{STOP}”)" in " ".join(said.split())
    assert "say --yes" in said


def test_what_cannot_be_lifted_is_told_by_node_and_stays_held(folder: Path, run: str, journal: Journal):
    said = call(folder, "holds", "lift", "c01-n[01-02]", "--name", "daemons", "--yes", code=4)
    assert "still held: daemons on c01-n[01-02]: unreachable: " in said
    assert "something is still held" in said
    assert len(journal.holds()) == 5
    unfinished = journal.unfinished_run()
    assert unfinished is not None
    assert unfinished.id == run
    assert json.loads(call(folder, "status", "--json"))["run"]["id"] == run


@pytest.mark.usefixtures("run")
def test_another_hold_or_node_is_refused(folder: Path):
    assert "those that are: daemons, puppet" in call(folder, "holds", "lift", "--name", "fence", "--yes", code=2)
    assert "c77" in call(folder, "holds", "lift", "c77-n01", "--yes", code=2)
    assert "nothing is held there" in call(folder, "holds", "lift", "top-api01", "--yes")


def test_abandon_refuses_and_takes_just_the_list_that_it_prints(folder: Path, run: str, journal: Journal):
    said = call(folder, "abandon", code=2)
    exact = said.rpartition("--accept '")[2].removesuffix("'")
    assert exact == "c[01-02]-n[01-02]/daemons c01-n01/puppet"
    assert "another list" in call(folder, "abandon", "--accept", "c01-n01/puppet", code=2)
    assert f"run {run} of nova is abandoned; left in place: {exact}" in call(folder, "abandon", "--accept", exact)
    assert journal.unfinished_run() is None
    status = json.loads(call(folder, "status", "--json"))
    assert (status["run"]["state"], status["next"]) == ("abandoned", "")
    assert "no run is unfinished" in call(folder, "abandon", code=2)


def test_abandon_names_an_older_run_that_is_not_finished_either(folder: Path, run: str, journal: Journal):
    journal.end_hosts("", "", [(host, "changed", "") for host in COMPUTES], lifted="daemons")
    journal.end_hosts("", "", [(host, "changed", "") for host in ["c01-n01"]], lifted="puppet")
    journal.end_run(journal.begin_run("nova", "r", "d", {"step": "7"}), "stopped", 4)
    said = call(folder, "abandon")
    assert f"run {run} of nova is not finished either (stopped)" in said


def test_abandon_without_any_run(folder: Path):
    assert "no run yet" in call(folder, "abandon", code=2)
    assert not (folder / "state").exists()


@pytest.mark.parametrize(
    ("prior", "said"),
    [
        ({"enabled": True, "reason": ""}, "enabled, reason -"),
        ({"line": 'A="yes"'}, 'line A="yes"'),
        ({"servers": {"a/x": "UP", "a/y": "MAINT"}}, "servers: a/x UP, a/y MAINT"),
        ({"services": {}, "alarms": "on"}, "services: nothing; alarms on"),
        (
            {"api": {"actual": "running", "boot": "on"}, "cert": {"actual": "running", "boot": "on"},
             "cells": {"actual": "stopped", "boot": "off"}},
            "api, cert: running, boot on; cells: stopped, boot off",
        ),
        ({}, "nothing"),
    ],
)  # fmt: skip
def test_what_was_before_in_words(prior, said):
    assert words(prior) == said
