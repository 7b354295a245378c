"""A sheet of a workbook that is written by the column: some hundred thousand rows in seconds.

XlsxWriter keeps every cell as an object and writes each by itself, 5 µs a cell; with 10,000 hosts of 60 packages each
that is half a minute and half a GB. The tables' columns hold few different values: here each is turned into its part
of the XML once, and a row is then put together of parts.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import pandas as pd
from xlsxwriter.format import Format
from xlsxwriter.utility import xl_col_to_name
from xlsxwriter.worksheet import Worksheet


@dataclass(frozen=True, slots=True)
class Column:
    """One column's cells below the head.

    Attributes:
        values: the different values there are; a missing one is an empty cell.
        codes: for each row, which of the values it has.
        formats: each value's; None: the column's own.
    """

    values: Sequence[str | float | None]
    codes: Sequence[int]
    formats: Sequence[Format | None]

    @classmethod
    def of(cls, cells: pd.Series, shown: Callable[[str], str], look: Callable[[str], Format | None]) -> Self:
        """A column of a frame: texts where they are texts, and numbers where they are numbers.

        Args:
            cells: the column.
            shown: the text that stands for a text.
            look: the format of a text, or of a number's digits; None: the column's own.
        """
        codes, uniques = pd.factorize(cells, use_na_sentinel=False)
        different = uniques.tolist()
        values: list[str | float | None]
        if pd.api.types.is_numeric_dtype(cells):
            values = [None if pd.isna(each) else each for each in different]
        else:
            values = [shown(each) if not pd.isna(each) and each else None for each in different]
        return cls(values, codes.tolist(), [look(str(each)) for each in different])


@dataclass
class _Filled:
    first: int
    columns: Sequence[Column]
    parts: list[list[str]] = field(default_factory=list)


class ColumnSheet(Worksheet):  # type: ignore[misc]
    """A sheet whose rows, from one on, come as columns; all else is XlsxWriter's own.

    It overrides what XlsxWriter calls private: the tests read what comes of it with another program.
    """

    _filled: _Filled | None = None

    def fill(self, first: int, columns: Sequence[Column]) -> None:
        """Give the rows from `first` (0 is the sheet's first) to the last; nothing else is written there."""
        rows = len(columns[0].codes) if columns else 0
        if not rows:
            return
        self._check_dimensions(first, 0)
        self._check_dimensions(first + rows - 1, len(columns) - 1)
        self._filled = _Filled(first, columns)
        for each in columns:
            counts = Counter(each.codes)
            self._filled.parts.append([self._value(value, counts[code]) for code, value in enumerate(each.values)])

    def _value(self, value: str | float | None, cells: int) -> str:
        """What comes after a cell's address and format."""
        if value is None:
            return "/>"
        if not isinstance(value, str):
            return f"><v>{value:.16G}</v></c>"
        index = self.str_table._get_shared_string_index(value)  # noqa: SLF001 - as Worksheet itself does
        self.str_table.count += cells - 1
        return f' t="s"><v>{index}</v></c>'

    def _write_rows(self) -> None:
        filled = self._filled
        if filled is None:
            super()._write_rows()
            return
        # The rows above, without going through those that are not its own.
        self.dim_rowmax, last = filled.first - 1, self.dim_rowmax
        super()._write_rows()
        self.dim_rowmax = last
        numbers = range(filled.first + 1, last + 2)
        places: list[Sequence[object]] = [numbers]
        line = '<row r="%d">'
        for position, (each, parts) in enumerate(zip(filled.columns, filled.parts, strict=True)):
            own = self.col_info[position].column_format if position in self.col_info else None
            ready = [self._style(look or own) + part for look, part in zip(each.formats, parts, strict=True)]
            line += f'<c r="{xl_col_to_name(position)}%d"%s'
            places += [numbers, list(map(ready.__getitem__, each.codes))]
        self.fh.writelines(map((line + "</row>").__mod__, zip(*places, strict=True)))

    @staticmethod
    def _style(look: Format | None) -> str:
        return f' s="{look._get_xf_index()}"' if look else ""  # noqa: SLF001 - as Worksheet itself does
