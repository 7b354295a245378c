"""CSV files and the workbook, read back as other programs read them."""

import csv
import subprocess
import sys

import openpyxl
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reports import workbook
from reports.judgement import tone, verdict
from reports.story import Story
from reports.tables import TABLES, hosts, quotas, rpms, services
from reports.writers import replacing, write_csv, write_xlsx

NASTY = ["=1+1", "+CMD", "-2", "@SUM(A1)", "http://example.org/", "00123", "ünïcödé ✓", "two\nlines", 'a "quote", b']


@pytest.fixture
def tables():
    """A table with each colour, one without rows, and texts that a spreadsheet could take for something else."""
    rows = [
        {"step": "stop", "cell": "top", "host": f"h{number}", "state": state, "attempts": number, "detail": text}
        for number, (state, text) in enumerate(zip(["ok", "unreachable", "failed"] * 3, NASTY, strict=True))
    ]
    usages = pd.DataFrame(
        [{"id": 1, "project_id": "p", "user_id": None, "resource": "fixed_ips", "in_use": 1, "reserved": 0}]
    )
    actual = pd.DataFrame([{"project_id": "p", "user_id": None, "resource": "floating_ips", "actual": 2}])
    empty = pd.DataFrame()
    return {
        "rpms": rpms.table(empty, empty, set()),
        "quotas": quotas.table(usages, actual, empty, per_user=True),
        "hosts": hosts.table(rows),
    }


@pytest.fixture
def book(tables, tmp_path):
    path = tmp_path / "out" / "nova.xlsx"
    write_xlsx(tables, path, Story("Nova & more", {"Run": "r1", "Note": "=not a formula"}))
    return openpyxl.load_workbook(path)


def test_csv_keeps_every_value(tables, tmp_path):
    paths = write_csv(tables, tmp_path / "nova")
    assert [path.name for path in paths] == ["rpms.csv", "quotas.csv", "hosts.csv"]
    raw = paths[2].read_bytes()
    assert b"\r" not in raw
    assert not raw.startswith(b"\xef\xbb\xbf")
    with paths[2].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["detail"] for row in rows] == NASTY
    assert [row["attempts"] for row in rows] == [str(number) for number in range(len(NASTY))]
    assert paths[1].read_text() == (
        "cell,project_id,user_id,resource,in_use,actual,reserved,reserved_actual,heals,status\n"
        "top,p,,fixed_ips,1,0,0,0,never,wrong\n"
        "top,p,,floating_ips,,2,,0,at the next reservation,missing\n"
    )
    assert paths[0].read_text() == ",".join(rpms.COLUMNS) + "\n"


def test_sheets_are_the_summary_and_one_a_table(book, tables):
    assert book.sheetnames == ["summary", *tables]
    for name, frame in tables.items():
        sheet = book[name]
        assert [cell.value for cell in sheet[1]] == list(frame.columns)
        assert sheet.max_row == len(frame) + 1
        assert sheet.freeze_panes == "A2"
        assert sheet.auto_filter.ref == f"A1:{sheet.cell(1, len(frame.columns)).column_letter}{len(frame) + 1}"
        assert all(8 <= sheet.column_dimensions[cell.column_letter].width <= 70 for cell in sheet[1])


def test_text_stays_text_and_numbers_stay_numbers(book):
    detail = [cell for cell in book["hosts"]["H"][1:] if cell.value is not None]
    assert [cell.value for cell in detail] == NASTY
    assert {cell.data_type for cell in detail} == {"s"}
    assert [cell.quotePrefix for cell in detail[:5]] == [True, True, True, True, False]
    assert all(cell.hyperlink is None for cell in detail)
    assert [cell.value for cell in book["hosts"]["E"][1:]] == list(range(len(NASTY)))
    assert {cell.data_type for cell in book["hosts"]["E"][1:]} == {"n"}
    missing = {cell.column_letter: cell.value for cell in book["quotas"][3]}
    assert (missing["E"], missing["F"], missing["J"]) == (None, 2, "missing")


def test_statuses_have_their_colours(book):
    fills = {cell.value: cell.fill.fgColor.rgb[2:] for cell in book["hosts"]["D"][1:]}
    assert fills == {
        "ok": workbook._COLOURS["good"]["bg_color"][1:],
        "unreachable": workbook._COLOURS["warn"]["bg_color"][1:],
        "failed": workbook._COLOURS["bad"]["bg_color"][1:],
    }


def test_the_summary_says_the_verdict_the_run_and_the_counts(book):
    values = [[cell.value for cell in row if cell.value is not None] for row in book["summary"].iter_rows()]
    lines = [row for row in values if row]
    assert lines[0] == ["Nova & more"]
    assert lines[1] == ["Not compliant; rows to look at: quotas 2 of 2"]
    assert ["Run", "r1"] in lines
    assert ["Note", "=not a formula"] in lines
    assert ["rpms", "no rows", 0, "RPM versions on every node, against the release's"] in lines
    about = "What came of every step on every host: one row for each, none left out"
    assert lines[-3:] == [["hosts", "failed", 3, about], ["unreachable", 3], ["ok", 3]]


def test_a_long_fact_is_shown_whole(tmp_path):
    fact = ", ".join(f"stage{number} (run 2014013{number}-090000)" for number in range(8))
    write_xlsx({}, tmp_path / "x.xlsx", Story("t", {"Run": "r1", "upgraded": fact}))
    sheet = openpyxl.load_workbook(tmp_path / "x.xlsx")["summary"]
    rows = {sheet.cell(row, 2).value: row for row in range(1, sheet.max_row + 1)}
    assert sheet.cell(rows["upgraded"], 3).alignment.wrap_text
    assert sheet.row_dimensions[rows["upgraded"]].height == 45
    assert sheet.row_dimensions[rows["Run"]].height is None


def one(status, name="rpms"):
    return {name: pd.DataFrame({TABLES[name].STATUS: [status]})}


@pytest.mark.parametrize(
    ("tables", "words", "colour"),
    [
        ({}, "Nothing was checked", "bad"),
        ({"rpms": pd.DataFrame({"status": []})}, "Nothing was checked", "bad"),
        (one("ok", "hosts"), "Nothing was checked", "bad"),
        (one("ok"), "Compliant", "good"),
        (one("new", "guests"), "Compliant", "good"),
        (one("unreachable"), "Not compliant", "warn"),
        (one("older"), "Not compliant", "bad"),
        (one("a status nobody knows"), "Not compliant", "bad"),
    ],
)
def test_verdicts(tables, words, colour):
    said, shown = verdict(tables)
    assert said.startswith(words)
    assert shown == colour


def test_more_rows_than_a_sheet_holds_go_on_in_another(monkeypatch, tables, tmp_path):
    monkeypatch.setattr(workbook, "MAX_ROWS", 5)
    write_xlsx(tables, tmp_path / "x.xlsx", Story("t"))
    book = openpyxl.load_workbook(tmp_path / "x.xlsx")
    assert book.sheetnames == ["summary", "rpms", "quotas", "hosts", "hosts (2)", "hosts (3)"]
    assert sum(book[name].max_row - 1 for name in book.sheetnames if name.startswith("hosts")) == len(NASTY)


def test_a_text_too_long_for_a_cell_is_cut_and_says_so(tmp_path):
    table = hosts.table([{"step": "s", "cell": "top", "host": "h", "state": "ok", "detail": "x" * 40_000}])
    write_xlsx({"hosts": table}, tmp_path / "x.xlsx", Story("t"))
    text = openpyxl.load_workbook(tmp_path / "x.xlsx")["hosts"]["H2"].value
    assert text.endswith("x ... (see the CSV)")
    assert len(text) <= 32_767


# What XML can hold, but no carriage return, which every reader of XML makes a line feed.
TEXT = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs"), include_characters="\t\n"))
ROW = st.fixed_dictionaries(
    {"host": TEXT, "detail": TEXT, "state": st.sampled_from(("ok", "failed", "", "odd")), "attempts": st.integers(0)}
)


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, max_size=12))
@example([{"host": "", "detail": "", "state": "ok", "attempts": 1}])
@example([{"host": "_x0041_", "detail": " %d %s </c> ", "state": "failed", "attempts": 2**53}])
def test_any_table_is_read_back_as_it_was(tmp_path_factory, rows):
    table = hosts.table([{"step": "s", "cell": "top", **row} for row in rows if row["attempts"] <= 2**53])
    path = tmp_path_factory.mktemp("any") / "x.xlsx"
    write_xlsx({"hosts": table}, path, Story("t"))
    read = [list(row) for row in openpyxl.load_workbook(path)["hosts"].iter_rows(min_row=2, values_only=True)]
    written = [[None if pd.isna(cell) or cell == "" else cell for cell in row] for row in table.itertuples(index=False)]
    assert read == written


def test_what_fails_leaves_the_old_file_and_no_scrap(tmp_path):
    path = tmp_path / "rpms.csv"
    path.write_text("old")

    def half():
        with replacing(path) as scratch:
            scratch.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        half()
    with pytest.raises(KeyError):  # a table nobody knows, met in the middle of the workbook
        write_xlsx({"odd": pd.DataFrame({"a": [1]})}, path, Story("t"))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("rpms.csv", "old")]


@pytest.mark.parametrize("modules", ["reports.writers, reports.nevra", "cellstep.cli.main"])
def test_what_every_command_imports_loads_no_pandas(modules):
    script = f"import sys, {modules}; print([m for m in ('pandas', 'xlsxwriter', 'jinja2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_every_status_of_the_tables_has_a_colour():
    assert {tone("services", status) for status in services.GOOD} == {"good"}
    assert tone("services", "stale") == "warn"
    assert tone("services", "stopped") == "bad"
