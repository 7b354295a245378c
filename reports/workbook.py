"""The workbook's sheets, as XlsxWriter makes them."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import pandas as pd
import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from reports.tables import TABLES, findings

Look: TypeAlias = str | int | bool  # the value of a format's property
MAX_ROWS = 1_048_576  # of a sheet, in Excel
_MAX_TEXT = 32_767  # characters in a cell, in Excel
_FORMULA_LIKE = ("=", "+", "-", "@")
_LINES: dict[str, Look] = {"bottom": 1, "bottom_color": "#E3E6EA"}
_FONT: dict[str, Look] = {"font_name": "Calibri", "font_size": 11, "valign": "vcenter"}
_INK = "#1F2A37"
_COLOURS: dict[str, dict[str, Look]] = {
    "good": {"bg_color": "#DDF3E4", "font_color": "#14532D"},
    "warn": {"bg_color": "#FDEFC8", "font_color": "#7A4A00"},
    "bad": {"bg_color": "#FBD9D7", "font_color": "#8B1A12"},
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
_ABOUT = {
    "rpms": "RPM versions on every node, against the release",
    "services": "Services: state on the node, heartbeat in the database",
    "volumes": "Volumes before and after",
    "quotas": "Quota usage against what is really in use",
    "guests": "Virtual machines before and after",
    "quarantine": "Nodes that missed a step, and still lack the rest",
    "hosts": "What came of each step on each host",
    "preflight": "What was asked of each node days ahead, and what was found",
}


def tone(name: str, status: str) -> str:
    """The colour of a status in a table: good, warn or bad."""
    kind = TABLES[name]
    if status in kind.WARN:
        return "warn"
    return "good" if status in kind.GOOD else "bad"


def verdict(tables: Mapping[str, pd.DataFrame]) -> tuple[str, str]:
    """Say in words, with its colour, what the tables come to; `hosts` tells what happened, not what is."""
    checked = {name: frame for name, frame in tables.items() if name != "hosts"}
    bad = {name: len(findings(name, frame)) for name, frame in checked.items()}
    if not any(len(frame) for name, frame in checked.items() if name != "quarantine"):
        return "Nothing was checked", "bad"
    if any(bad.values()):
        worst = "bad" if any(_has_bad(name, frame) for name, frame in checked.items()) else "warn"
        told = ", ".join(f"{name} {count:,} of {len(tables[name]):,}" for name, count in bad.items() if count)
        return f"Not compliant; rows to look at: {told}", worst
    return "Compliant: every row of every table is as it should be", "good"


def _has_bad(name: str, frame: pd.DataFrame) -> bool:
    return any(tone(name, status) == "bad" for status in frame[TABLES[name].STATUS].unique())


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

    def summary(self, tables: Mapping[str, pd.DataFrame], facts: Mapping[str, str]) -> None:
        """Write the first sheet: the verdict, the run's facts, and rows by table and status."""
        sheet = self._book.add_worksheet("summary")
        self._page(sheet, landscape=False)
        sheet.hide_gridlines(2)
        for column, width in enumerate((2, 20, 22, 12, 52)):
            sheet.set_column(column, column, width, self._format())
        sheet.set_row(1, 28)
        sheet.write_string(1, 1, self._title, self._format(bold=True, font_size=18, font_color=_INK))
        words, colour = verdict(tables)
        sheet.set_row(3, 30)
        sheet.merge_range(
            3,
            1,
            3,
            4,
            words,
            self._format(bold=True, font_size=13, indent=1, text_wrap=True, **_COLOURS[colour]),
        )
        row = 5
        for label, fact in facts.items():
            sheet.write_string(row, 1, label, self._format(font_color="#6B7280", indent=1))
            sheet.merge_range(row, 2, row, 4, "", self._format(align="left"))
            self._text(sheet, row, 2, str(fact), {"align": "left", "text_wrap": "\n" in str(fact)})
            row += 1
        self._counts(sheet, row + 1, tables)
        sheet.activate()

    def _counts(self, sheet: Worksheet, row: int, tables: Mapping[str, pd.DataFrame]) -> None:
        head, right = self._format(**_HEAD, indent=1), self._format(**_HEAD, align="right")
        for column, label in enumerate(("Table", "Status", "Rows", "What it shows"), start=1):
            sheet.write_string(row, column, label, right if label == "Rows" else head)
        for name, frame in tables.items():
            counts = self._ordered(name, frame)
            rows = list(counts.items()) or [("no rows", 0)]
            for position, (status, count) in enumerate(rows):
                row += 1
                line = _RULE if position == 0 else {}
                colour = tone(name, status) if counts else "none"
                link = self._format(**line, underline=1, font_color="#1D4ED8", bold=True, indent=1)
                if position == 0:
                    sheet.write_url(row, 1, f"internal:'{name}'!A1", link, name)
                    sheet.write_string(row, 4, _ABOUT.get(name, ""), self._format(**line, indent=1))
                else:
                    sheet.write_blank(row, 1, None, self._format(**line))
                sheet.write_string(row, 2, status, self._format(**line, indent=1, **_COLOURS[colour]))
                sheet.write_number(row, 3, count, self._format(**line, num_format="#,##0", align="right"))

    @staticmethod
    def _ordered(name: str, frame: pd.DataFrame) -> dict[str, int]:
        """Count rows by status: what is worst first."""
        counts = frame[TABLES[name].STATUS].value_counts()
        order = ("bad", "warn", "good")
        by_status = {str(status): int(count) for status, count in counts.items()}
        return dict(sorted(by_status.items(), key=lambda item: (order.index(tone(name, item[0])), item[0])))

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table's sheet; beyond what a sheet holds it goes on in `NAME (2)` and so on."""
        size = MAX_ROWS - 1
        for part, start in enumerate(range(0, max(len(frame), 1), size), start=1):
            sheet = self._book.add_worksheet(name if part == 1 else f"{name} ({part})")
            self._sheet(sheet, name, frame.iloc[start : start + size])

    def _sheet(self, sheet: Worksheet, name: str, frame: pd.DataFrame) -> None:
        self._page(sheet, landscape=True)
        sheet.freeze_panes(1, 0)
        sheet.repeat_rows(0)
        sheet.autofilter(0, 0, len(frame), len(frame.columns) - 1)
        # Project ids may be all digits; Excel need not remark on it.
        sheet.ignore_errors({"number_stored_as_text": f"A1:XFD{MAX_ROWS}"})
        sheet.set_row(0, 22)
        for column, label in enumerate(frame.columns):
            values = frame[label]
            numeric = pd.api.types.is_numeric_dtype(values)
            shown = values.astype("str").fillna("")
            longest = int(shown.str.len().max()) if len(shown) else 0
            width = min(max(longest + 2, len(str(label)) + 5, 8), 64)
            sheet.set_column(column, column, width, self._format())
            # Numbers stand right, and the filter's button in the head stands right of its text.
            side: dict[str, Look] = {"align": "right", "indent": 2} if numeric else {}
            sheet.write_string(0, column, str(label), self._format(**_HEAD, **side))
            if numeric:
                self._number_column(sheet, column, values)
            elif label == TABLES[name].STATUS:
                self._status_column(sheet, column, name, shown)
            else:
                self._text_column(sheet, column, shown)

    def _number_column(self, sheet: Worksheet, column: int, values: pd.Series) -> None:
        plain = self._format(num_format="0", align="right", indent=2, **_LINES)
        for row, value in enumerate(values.tolist(), start=1):
            if pd.isna(value):
                sheet.write_blank(row, column, None, plain)
            else:
                sheet.write_number(row, column, value, plain)

    def _status_column(self, sheet: Worksheet, column: int, name: str, values: pd.Series) -> None:
        formats = {
            status: self._format(indent=1, **_LINES, **_COLOURS[tone(name, status)]) for status in values.unique()
        }
        for row, status in enumerate(values.tolist(), start=1):
            sheet.write_string(row, column, status, formats[status])

    def _text_column(self, sheet: Worksheet, column: int, values: pd.Series) -> None:
        plain = self._format(**_LINES)
        for row, text in enumerate(values.tolist(), start=1):
            if text.startswith(_FORMULA_LIKE) or len(text) > _MAX_TEXT:
                self._text(sheet, row, column, text, _LINES)
            elif text:
                sheet.write_string(row, column, text, plain)
            else:
                sheet.write_blank(row, column, None, plain)

    def _text(self, sheet: Worksheet, row: int, column: int, text: str, look: dict[str, Look]) -> None:
        """Write a text as text: Excel's own mark (a leading quote) keeps it so even when it is edited."""
        if len(text) > _MAX_TEXT:
            text = text[: _MAX_TEXT - 20] + " ... (see the CSV)"
        quoted = {"quote_prefix": True} if text.startswith(_FORMULA_LIKE) else {}
        sheet.write_string(row, column, text, self._format(**look, **quoted))

    def _page(self, sheet: Worksheet, *, landscape: bool) -> None:
        sheet.set_landscape() if landscape else sheet.set_portrait()
        sheet.set_paper(9)  # A4
        sheet.fit_to_pages(1, 0)
        sheet.set_margins(left=0.4, right=0.4, top=0.6, bottom=0.6)
        sheet.set_footer("&L&8" + self._title.replace("&", "&&") + "&C&8&A&R&8&P / &N")

    def _format(self, **look: Look) -> Format:
        key = repr(sorted(look.items()))
        if key not in self._formats:
            self._formats[key] = self._book.add_format({**_FONT, **look})
        return self._formats[key]
