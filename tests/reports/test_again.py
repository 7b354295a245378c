"""Reports read back and written again: report.json, JSON, JUnit; what tables come to; rows folded."""

import json
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from reports.folding import ALIKE, folded
from reports.judgement import by_cell, states
from reports.saved import FILE, Unreadable, load, save
from reports.story import Place
from reports.tables import TABLES, about, rpms
from reports.writers import write_csv, write_html, write_json, write_junit
from tests.support.fleets import places, story, tables

NODES = places(8)
SILENT = {"c01-n008": "no answer"}


@pytest.fixture
def made():
    return tables(NODES, {"c01-n003"}, {"c01-n004"}, set(SILENT))


def test_a_report_comes_back_as_it_was_written(made, tmp_path):
    told = story(NODES, SILENT)
    write_csv(made, tmp_path)
    save(made, tmp_path, told)
    tables_back, back = load(tmp_path, told.fold)
    assert back == told
    assert list(tables_back) == list(made)
    for name, frame in made.items():
        pd.testing.assert_frame_equal(tables_back[name], frame)
    for each in ("one", "two"):
        write_html(made if each == "one" else tables_back, tmp_path / f"{each}.html", told)
    assert (tmp_path / "one.html").read_text() == (tmp_path / "two.html").read_text()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / FILE).unlink(), "not there"),
        (lambda folder: (folder / "rpms.csv").unlink(), "rpms.csv"),
        (lambda folder: (folder / FILE).write_text("{"), FILE),
        (lambda folder: (folder / FILE).write_text('{"format": 99}'), "format 99"),
        (lambda folder: (folder / FILE).write_text('{"format": 1, "tables": {"odd": {}}, "story": {}}'), "odd"),
        (lambda folder: (folder / "rpms.csv").write_text("nothing\n"), FILE),
    ],
)
def test_a_report_that_cannot_be_read_says_which_file(made, tmp_path, spoil, words):
    write_csv(made, tmp_path)
    save({**made, "services": made["services"]}, tmp_path, story(NODES, SILENT))
    spoil(tmp_path)
    if words == FILE and (tmp_path / FILE).read_text() != "{":
        (tmp_path / "services.csv").write_text("nothing\n")
    with pytest.raises(Unreadable, match=words):
        load(tmp_path)


def test_json_has_all_rows_and_the_verdict(made, tmp_path):
    write_json(made, tmp_path / "x.json", story(NODES, SILENT))
    values = json.loads((tmp_path / "x.json").read_text())
    assert values["compliant"] is False
    assert values["unreachable"] == SILENT
    assert {name: len(rows) for name, rows in values["tables"].items()} == {name: len(made[name]) for name in made}
    assert values["counts"]["rpms"] == {"older": 4, "unreachable": 4, "ok": 32}


def test_junit_has_a_case_for_each_node_and_fails_those_that_are_wrong(made, tmp_path):
    write_junit(made, tmp_path / "junit.xml", story(NODES, SILENT))
    root = ET.parse(tmp_path / "junit.xml").getroot()  # noqa: S314 - what was just written
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("22", "2", "1")
    failed = {
        (case.get("classname"), case.get("name")) for case in root.iter("testcase") if case.find("failure") is not None
    }
    assert failed == {("rpms", "c01-n003"), ("services", "c01-n004")}
    (error,) = [case for case in root.iter("testcase") if case.find("error") is not None]
    assert error.get("name") == "c01-n008"
    assert "hosts" not in {suite.get("name") for suite in root}


def test_junit_holds_what_xml_cannot(tmp_path):
    rows = rpms.table(
        pd.DataFrame([{"cell": "a\x00b", "host": "h<\x1b", "role": "r", "package": "p", "expected": "1-1"}]),
        pd.DataFrame(),
        set(),
    )
    write_junit({"rpms": rows}, tmp_path / "junit.xml", story(NODES, {}))
    assert ET.parse(tmp_path / "junit.xml").getroot().get("failures") == "1"  # noqa: S314 - what was just written


def test_nodes_stand_as_their_worst_row_and_cells_count_them(made):
    found = states(made, NODES, SILENT)
    assert {name: state.tone for name, state in found.items() if state.tone != "good"} == {
        "c01-n003": "bad",
        "c01-n004": "bad",
        "c01-n008": "silent",
    }
    top, cell = by_cell(NODES, found)
    assert (top.name, top.share, cell.count("bad"), cell.asked) == ("top", 1.0, 2, 8)
    assert cell.share == pytest.approx(5 / 8)
    assert by_cell([Place("n", "c", "")], states({}, [Place("n", "c", "")], {}))[0].share is None


def test_rows_that_are_well_are_told_apart_only_while_they_are_few():
    many = pd.DataFrame(
        [{"id": str(n), "name": f"v{n}", "status": "same"} for n in range(ALIKE + 1)]
        + [{"id": "x", "name": "lost one", "status": "lost"}]
    )
    made = folded("volumes", many, ",".join)
    assert [(group.status, group.rows, group.cells) for group in made.groups] == [
        ("lost", 1, ("x", "lost one")),
        ("same", ALIKE + 1, ("", "")),
    ]


def test_every_table_says_what_it_shows():
    assert all(10 < len(about(name)) < 130 for name in TABLES)
