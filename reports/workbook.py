"""The workbook's sheets, as XlsxWriter makes them."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import pandas as pd
import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from reports.judgement import WORDS, by_cell, counts, states, tone, verdict
from reports.sheets import Column, ColumnSheet
from reports.story import Story
from reports.tables import TABLES, about

Look: TypeAlias = str | int | bool  # the value of a format's property
MAX_ROWS = 1_048_576  # of a sheet, in Excel
_VERDICT_LINE = 110  # characters of the verdict, or of a fact, that fit into one line
_LINE_HEIGHT = 15  # points
_CHANGES = 30  # lines of the summary; the page and the CSV have more
_MAX_TEXT = 32_767  # characters in a cell, in Excel
_FORMULA_LIKE = ("=", "+", "-", "@")
_LINES: dict[str, Look] = {"bottom": 1, "bottom_color": "#E3E6EA"}
_FONT: dict[str, Look] = {"font_name": "Calibri", "font_size": 11, "valign": "vcenter"}
_INK = "#1F2A37"
_COLOURS: dict[str, dict[str, Look]] = {
    "good": {"bg_color": "#DDF3E4", "font_color": "#14532D"},
    "warn": {"bg_color": "#FDEFC8", "font_color": "#7A4A00"},
    "bad": {"bg_color": "#FBD9D7", "font_color": "#8B1A12"},
    "silent": {"bg_color": "#E8DEFA", "font_color": "#4A2399"},
    "none": {"font_color": "#6B7280"},
}
_HEAD: dict[str, Look] = {
    "bold": True,
    "bg_color": _INK,
    "font_color": "#FFFFFF",
    "border": 1,
    "border_color": _INK,
}
_RULE: dict[str, Look] = {"top": 1, "top_color": "#C9CED6"}


class Workbook:
    """A workbook being written; it is closed, and so on disk, at the end of the `with` block."""

    def __init__(self, path: Path, title: str) -> None:
        self._title = title
        # Without constant_memory: it silently drops cells that are not written row by row.
        self._book = xlsxwriter.Workbook(
            path,
            {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False},
        )
        self._book.set_properties({"title": title, "comments": "Written by cellstep"})
        self._formats: dict[str, Format] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._book.close()
        else:  # not written at all; XlsxWriter warns of a workbook that is not closed
            self._book.fileclosed = 1

    def summary(self, tables: Mapping[str, pd.DataFrame], story: Story) -> None:
        """Write the first sheet: the verdict, the run's facts, rows by table and status, what is new, the cells."""
        sheet = self._book.add_worksheet("summary")
        self._page(sheet)
        sheet.hide_gridlines(2)
        for column, width in enumerate((2, 20, 22, 12, 92)):
            sheet.set_column(column, column, width, self._format())
        sheet.set_row(1, 28)
        sheet.write_string(1, 1, self._title, self._format(bold=True, font_size=18, font_color=_INK))
        words, colour = verdict(tables, story.silent)
        sheet.set_row(3, 30 if len(words) < _VERDICT_LINE else 46)
        sheet.merge_range(
            3,
            1,
            3,
            4,
            words,
            self._format(bold=True, font_size=13, indent=1, text_wrap=True, **_COLOURS[colour]),
        )
        row = 5
        for label, fact in story.facts.items():
            sheet.write_string(row, 1, label, self._format(font_color="#6B7280", indent=1, valign="top"))
            sheet.merge_range(row, 2, row, 4, "", self._format(align="left"))
            # A row of merged cells is never made higher by itself.
            if (lines := sum(-(-len(line) // _VERDICT_LINE) for line in str(fact).splitlines())) > 1:
                sheet.set_row(row, _LINE_HEIGHT * lines)
            self._text(sheet, row, 2, str(fact), {"align": "left", "valign": "top", "text_wrap": lines > 1})
            row += 1
        row = self._counts(sheet, row + 1, tables)
        row = self._changes(sheet, row + 2, story)
        self._cells(sheet, row + 2, tables, story)
        sheet.activate()

    def _heads(self, sheet: Worksheet, row: int, labels: Sequence[str], numbers: Sequence[str] = ()) -> None:
        head, right = self._format(**_HEAD, indent=1), self._format(**_HEAD, align="right")
        for column, label in enumerate(labels, start=1):
            sheet.write_string(row, column, label, right if label in numbers else head)

    def _counts(self, sheet: Worksheet, row: int, tables: Mapping[str, pd.DataFrame]) -> int:
        """Rows by table and status; each table's name leads to its sheet. Returns the last row."""
        self._heads(sheet, row, ("Table", "Status", "Rows", "What it shows"), ("Rows",))
        for name, frame in tables.items():
            by_status = counts(name, frame)
            rows = list(by_status.items()) or [("no rows", 0)]
            for position, (status, count) in enumerate(rows):
                row += 1
                line = _RULE if position == 0 else {}
                colour = tone(name, status) if by_status else "none"
                link = self._format(**line, underline=1, font_color="#1D4ED8", bold=True, indent=1)
                if position == 0:
                    sheet.write_url(row, 1, f"internal:'{name}'!A1", link, name)
                    sheet.write_string(row, 4, about(name), self._format(**line, indent=1))
                else:
                    sheet.write_blank(row, 1, None, self._format(**line))
                sheet.write_string(row, 2, status, self._format(**line, indent=1, **_COLOURS[colour]))
                sheet.write_number(row, 3, count, self._format(**line, num_format="#,##0", align="right"))

        return row

    def _changes(self, sheet: Worksheet, row: int, story: Story) -> int:
        """What is new since the report before, the first lines of it. Returns the last row."""
        if story.changes is None:
            return row - 2
        sheet.write_string(row, 1, f"New since {story.changes.since}", self._format(bold=True, font_size=13))
        row += 1
        self._heads(sheet, row, ("What", "Where", "Table", "How"))
        for change in story.changes.rows[:_CHANGES]:
            row += 1
            sheet.write_string(row, 1, change.kind, self._format(indent=1, **_COLOURS[change.tone]))
            for column, text in enumerate((change.where, change.table, change.text), start=2):
                self._text(sheet, row, column, text, {"indent": 1})
        more = len(story.changes.rows) - _CHANGES
        if more > 0 or not story.changes.rows:
            row += 1
            said = f"and {more:,} more" if more > 0 else "nothing"
            sheet.write_string(row, 1, said, self._format(font_color="#6B7280", indent=1))
        return row

    def _cells(self, sheet: Worksheet, row: int, tables: Mapping[str, pd.DataFrame], story: Story) -> None:
        """How many nodes of each cell are as they should be."""
        cells = by_cell(story.nodes, states(tables, story.nodes, story.silent))
        if not cells:
            return
        sheet.write_string(row, 1, "Nodes by cell", self._format(bold=True, font_size=13))
        row += 1
        self._heads(sheet, row, ("Cell", "As it should be", "Nodes", "Not so"), ("Nodes",))
        for cell in cells:
            row += 1
            share = "nothing asked" if cell.share is None else f"{int(cell.share * 1000) / 10:.1f} %"
            wrong = [f"{n:,} {WORDS[tone]}" for tone in ("bad", "silent", "warn") if (n := cell.count(tone))]
            colour = "none" if cell.share is None else "good" if not wrong else "bad" if cell.count("bad") else "warn"
            self._text(sheet, row, 1, cell.name, {"indent": 1})
            sheet.write_string(row, 2, share, self._format(indent=1, **_COLOURS[colour]))
            sheet.write_number(row, 3, len(cell.nodes), self._format(num_format="#,##0", align="right"))
            sheet.write_string(row, 4, ", ".join(wrong), self._format(indent=1))

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table's sheet; beyond what a sheet holds it goes on in `NAME (2)` and so on."""
        size = MAX_ROWS - 1
        for part, start in enumerate(range(0, max(len(frame), 1), size), start=1):
            sheet = self._book.add_worksheet(name if part == 1 else f"{name} ({part})", ColumnSheet)
            self._sheet(sheet, name, frame.iloc[start : start + size])

    def _sheet(self, sheet: ColumnSheet, name: str, frame: pd.DataFrame) -> None:
        self._page(sheet)
        sheet.freeze_panes(1, 0)
        sheet.repeat_rows(0)
        sheet.autofilter(0, 0, len(frame), len(frame.columns) - 1)
        # The lines between rows, at once: a format for each cell, empty ones too, would take as long as the texts.
        line = self._book.add_format(_LINES)
        sheet.conditional_format(
            1, 0, max(len(frame), 1), len(frame.columns) - 1, {"type": "no_errors", "format": line}
        )
        # Project ids may be all digits; Excel need not remark on it.
        sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{MAX_ROWS}"})
        sheet.set_row(0, 22)
        columns = []
        for position, label in enumerate(map(str, frame.columns)):
            values = frame[label]
            numeric = pd.api.types.is_numeric_dtype(values)
            cells = Column.of(values, _within, partial(self._look, name, label, numeric=numeric))
            longest = max((len(str(value)) for value in cells.values if value is not None), default=0)
            width = min(max(longest + 2, len(label) + 5, 8), 64)
            sheet.set_column(position, position, width, self._format())
            # Numbers stand right, and the filter's button in the head stands right of its text.
            side: dict[str, Look] = {"align": "right", "indent": 2} if numeric else {}
            sheet.write_string(0, position, label, self._format(**_HEAD, **side))
            columns.append(cells)
        sheet.fill(1, columns)

    def _look(self, name: str, label: str, text: str, *, numeric: bool) -> Format | None:
        if numeric:
            return self._format(num_format="0", align="right", indent=2)
        if label == TABLES[name].STATUS:
            return self._format(indent=1, **_COLOURS[tone(name, text)])
        return self._format(**_quoted(text)) if text.startswith(_FORMULA_LIKE) else None

    def _text(self, sheet: Worksheet, row: int, column: int, text: str, look: dict[str, Look]) -> None:
        """Write a text as text: Excel's own mark (a leading quote) keeps it so even when it is edited."""
        sheet.write_string(row, column, _within(text), self._format(**look, **_quoted(text)))

    def _page(self, sheet: Worksheet) -> None:
        sheet.set_landscape()
        sheet.set_paper(9)  # A4
        sheet.fit_to_pages(1, 0)
        sheet.set_margins(left=0.4, right=0.4, top=0.6, bottom=0.6)
        sheet.set_footer("&L&8" + self._title.replace("&", "&&") + "&C&8&A&R&8&P / &N")

    def _format(self, **look: Look) -> Format:
        key = repr(sorted(look.items()))
        if key not in self._formats:
            self._formats[key] = self._book.add_format({**_FONT, **look})
        return self._formats[key]


def _within(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 20] + " ... (see the CSV)"


def _quoted(text: str) -> dict[str, Look]:
    return {"quote_prefix": True} if text.startswith(_FORMULA_LIKE) else {}
