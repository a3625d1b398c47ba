"""A table that is shown in the terminal and the HTML page, and written as CSV, LaTeX and Markdown."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

Cell = str | int | float | None
WIDTH = 160
"""Characters a line, where no terminal says how many there are."""


class Column(NamedTuple):
    """A heading, and to how many digits its numbers are shown (CSV files hold them in full), with which sign."""

    title: str
    digits: int = 1
    sign: str = ""


@dataclass(frozen=True)
class DataTable:
    """Rows under headings; None and NaN are shown as a dash.

    Attributes:
        name: of its files.
        title: above it; none if empty.
        note: defines its figures.
        columns: headings.
        rows: a cell a column.
        strong: positions of rows that are highlighted in the page; in the terminal the first begins a section.
    """

    name: str
    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    strong: frozenset[int] = field(default=frozenset())

    def texts(self) -> list[list[str]]:
        """The cells as they are shown."""
        return [[shown(cell, column) for cell, column in zip(row, self.columns, strict=True)] for row in self.rows]

    def numeric(self, column: int) -> bool:
        """Whether a column holds no texts."""
        return not any(isinstance(row[column], str) for row in self.rows)

    def show(self, console: Console) -> None:
        """Print it; names are broken where the terminal is narrow, figures never are."""
        table, texts = Table(title=self.title or None, title_justify="left"), self.texts()
        for index, (title, *_) in enumerate(self.columns):
            if self.numeric(index):
                longest = max((len(row[index]) for row in texts), default=0)
                table.add_column(escape(title), justify="right", min_width=max(longest, min(8, len(title))))
            else:
                table.add_column(escape(title), overflow="fold", min_width=8)
        for index, row in enumerate(texts):
            if index == min(self.strong, default=-1):
                table.add_section()
            table.add_row(*map(escape, row))
        console.print(table)

    def csv(self) -> str:
        """Comma-separated, numbers in full; a missing one is empty."""
        return csv_text([[column.title for column in self.columns], *self.rows])

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
        start = ["% needs \\usepackage{booktabs}", "\\begin{table}", "\\centering", caption]
        start += [f"\\begin{{tabular}}{{{kinds}}}", "\\toprule", head, "\\midrule"]
        return "\n".join([*start, *rows, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])


def shown(cell: Cell, column: Column) -> str:
    """A cell as text.

    >>> shown(0.125, Column("", 2)), shown(12345, Column("")), shown(None, Column("")), shown("a", Column(""))
    ('0.12', '12,345', '–', 'a')
    """
    if _missing(cell):
        return "–"
    if isinstance(cell, float):
        return f"{cell:{column.sign},.{column.digits}f}"
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def percent(value: float | None) -> float | None:
    """A share, 0..1, in %.

    >>> percent(0.5), percent(None)
    (50.0, None)
    """
    return None if value is None else 100 * value


def wide(console: Console | None) -> Console:
    """The console, or standard output; as wide as our tables where it is no terminal."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    return console


def csv_text(rows: Sequence[Sequence[Any]]) -> str:
    """Rows as CSV; a missing number is empty, and a text that a spreadsheet would run as a formula is quoted.

    >>> csv_text([["=1+1", -1, None]])
    "'=1+1,-1,\\r\\n"
    """
    text = StringIO(newline="")
    csv.writer(text).writerows([["" if _missing(cell) else _harmless(cell) for cell in row] for row in rows])
    return text.getvalue()


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _harmless(cell: Any) -> Any:
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
