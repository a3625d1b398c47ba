"""A table that is shown in the page and written as CSV, LaTeX and Markdown."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, NamedTuple

Cell = str | int | float | None


class Column(NamedTuple):
    """A heading, and to how many digits its numbers are shown; CSV files hold them in full."""

    title: str
    digits: int = 1


@dataclass(frozen=True)
class Sheet:
    """Rows under headings.

    Attributes:
        name: of its files.
        title: above it.
        note: defines its figures.
        columns: headings.
        rows: a cell a column; None is shown as a dash.
        strong: positions of rows that are set off.
    """

    name: str
    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    strong: frozenset[int] = field(default=frozenset())

    def texts(self) -> list[list[str]]:
        """The cells as they are shown."""
        digits = [column.digits for column in self.columns]
        return [[shown(cell, places) for cell, places in zip(row, digits, strict=True)] for row in self.rows]

    def numeric(self, column: int) -> bool:
        """Whether a column holds no texts."""
        return not any(isinstance(row[column], str) for row in self.rows)

    def csv(self) -> str:
        """Comma-separated, numbers in full; a missing one is empty."""
        text = StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow([unspread(column.title) for column in self.columns])
        writer.writerows([["" if _missing(cell) else unspread(cell) for cell in row] for row in self.rows])
        return text.getvalue()

    def markdown(self) -> str:
        """A table of pipes under its title, and its note."""
        rules = ["---:" if self.numeric(index) else "---" for index in range(len(self.columns))]
        rows = [[column.title for column in self.columns], *self.texts()]
        lines = ["| " + " | ".join(_markdown(text) for text in row) + " |" for row in rows]
        lines.insert(1, "| " + " | ".join(rules) + " |")
        return f"**{_markdown(self.title)}**\n\n" + "\n".join(lines) + f"\n\n{_markdown(self.note)}\n"

    def latex(self) -> str:
        """A ``table`` of booktabs, with the note in its caption."""
        kinds = "".join("r" if self.numeric(index) else "l" for index in range(len(self.columns)))
        rows = [" & ".join(map(_latex, row)) + r" \\" for row in self.texts()]
        head = " & ".join(_latex(column.title) for column in self.columns) + r" \\"
        caption = f"\\caption{{{_latex(self.title)}. {_latex(self.note)}}}"
        body = ["\\toprule", head, "\\midrule", *rows, "\\bottomrule"]
        start = ["% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering", caption]
        start.append(f"\\begin{{tabular}}{{{kinds}}}")
        return "\n".join([*start, *body, "\\end{tabular}", "\\end{table}", ""])


def shown(cell: Cell, digits: int) -> str:
    """A cell as text.

    >>> shown(0.125, 2), shown(12345, 1), shown(None, 1), shown("a", 1)
    ('0.12', '12,345', '–', 'a')
    """
    if cell is None or _missing(cell):
        return "–"
    if isinstance(cell, float):
        return f"{cell:,.{digits}f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def _missing(cell: Cell) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def unspread(cell: Any) -> Any:
    """A cell of a CSV file; a text that a spreadsheet would run is quoted.

    >>> unspread("=1+1"), unspread(-1)
    ("'=1+1", -1)
    """
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in tuple("=+-@\t\r") else cell


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "±": r"$\pm$",
    "<": r"$<$",
    ">": r"$>$",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
