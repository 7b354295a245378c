"""`cellstep keystone probe`: what it prints of whose token which server takes, and what it ends with."""

import json

import pytest
from typer.testing import CliRunner

from cellstep.cli.main import app
from cellstep.engine.dispatch import Dispatcher
from tasks.holds import Noted
from tasks.keystone.probe import Crossing, Issue, Matrix, crossed
from tests.support.folders import lab_folder

MAIN = ("top-api01", "top-api02")
PAIRS = [(one, other) for one in MAIN for other in MAIN]


def matrix(*pairs, issues=()):
    return Matrix("operator", issues, tuple(Crossing(one, other, "ok") for one, other in pairs))


@pytest.fixture
def answers(monkeypatch):
    """What the first server of each cell answers; one that is not here is silent."""
    cells = {name: matrix((name, name)) for name in ("c01-ctl01", "c02-ctl01")}
    known = {"top-api01": matrix(*PAIRS), **cells}

    def ask(_dispatcher, task, nodes, arguments):
        assert task is crossed
        assert {node.name: arguments[node.name]["servers"] for node in nodes} == {
            "top-api01": list(MAIN),
            "c01-ctl01": ["c01-ctl01"],
            "c02-ctl01": ["c02-ctl01"],
        }
        assert {arguments[node.name]["environment"] for node in nodes} == {"/root/openrc"}
        silent = {node.name: "it does not answer" for node in nodes if node.name not in known}
        return {name: Noted("", found) for name, found in known.items()}, silent

    monkeypatch.setattr(Dispatcher, "ask", ask)
    return known


def call(tmp_path, *arguments, code=0):
    done = CliRunner().invoke(app, ["keystone", "probe", *arguments, "--cloud", str(lab_folder(tmp_path / "cloud"))])
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.usefixtures("answers")
def test_servers_that_take_every_token(tmp_path):
    said = call(tmp_path)
    assert "top  top-api02 on top-api01's: ok" in said
    assert "cell02  c02-ctl01 on c02-ctl01's: ok" in said
    assert len(said.splitlines()) == 6


def test_a_mixed_fleet_and_a_server_without_tokens(answers, tmp_path):
    mixed = Crossing(*MAIN, "error", "HTTP 500: \x1b[2J'token'")
    answers["top-api01"] = Matrix("operator", (), (*answers["top-api01"].crossings[:1], mixed))
    answers["c01-ctl01"] = matrix(issues=(Issue("c01-ctl01", "refused", "HTTP 401: no"),))
    said = call(tmp_path, code=3)
    assert "top  top-api02 on top-api01's: error  HTTP 500: ?[2J'token'" in said
    assert "cell01  c01-ctl01 gives none: refused  HTTP 401: no" in said


def test_a_cell_that_cannot_be_asked_is_not_fine(answers, tmp_path):
    del answers["c02-ctl01"]
    said = json.loads(call(tmp_path, "--json", code=3))
    assert said["silent"] == {"cell02": "it does not answer"}
    assert said["good"] is False
    assert said["cells"]["cell01"] == [{"issuer": "c01-ctl01", "validator": "c01-ctl01", "status": "ok", "answer": ""}]
