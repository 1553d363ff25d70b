"""Tables for notebooks: rows of values in, Markdown out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A table that a notebook shows when it is a cell's last expression.

    Attributes:
        columns: Header of each key of the rows, in order.
        rows: One mapping a row; a missing key or None is an empty cell.
        note: What the rows rest on, in a sentence below them.

    Example:
        >>> print(Table({"layer": "Layer", "maps": "Maps"}, [{"layer": "conv1", "maps": 96}]).markdown())
        | Layer | Maps |
        |:---|---:|
        | conv1 | 96 |
        >>> print(Table({"error": "Error, %"}, [{"error": 38.4}, {"error": 40.0}]).markdown())
        | Error, % |
        |---:|
        | 38.4 |
        | 40.0 |
    """

    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, object]]
    note: str = ""

    def markdown(self) -> str:
        """Return the table as Markdown; columns of numbers are set flush right."""
        values = {key: [row.get(key) for row in self.rows] for key in self.columns}
        numeric = {key: any(isinstance(value, int | float) for value in values[key]) for key in self.columns}
        cells = {key: _cells(values[key]) for key in self.columns}
        lines = [
            "| " + " | ".join(self.columns.values()) + " |",
            "|" + "|".join("---:" if numeric[key] else ":---" for key in self.columns) + "|",
        ]
        lines += ["| " + " | ".join(row) + " |" for row in zip(*cells.values(), strict=True)]
        lines += ["", f"*{self.note}*"] if self.note else []
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        return self.markdown()


GLUED = "application/papermill.record/"
"""Before the type of what a cell keeps for the book and does not show."""


class Note(str):
    """A sentence that a notebook shows as prose when it is a cell's last expression."""

    @property
    def plain(self) -> str:
        """The sentence without marks, as other pages take it in.

        Example:
            >>> Note("`zfnet` beats `krizhevsky`.").plain
            'zfnet beats krizhevsky.'
        """
        return self.replace("`", "")

    def glue(self, name: str) -> None:
        """Hand the plain sentence to the book's prose, which takes it in by `{glue:text}`; the cell shows nothing.

        What `myst_nb.glue` does for any value; its import takes seconds, which every page would wait.
        """
        from IPython.display import display

        metadata = {"scrapbook": {"name": name, "mime_prefix": GLUED}}
        display({f"{GLUED}text/plain": repr(self.plain)}, raw=True, metadata=metadata)

    def _repr_markdown_(self) -> str:
        return f"*{self}*"


def _cells(values: Sequence[object]) -> list[str]:
    """Return a column's cells; its fractions have as many decimals as the longest needs."""
    shown = [_cell(value) for value in values]
    decimals = max((len(text.partition(".")[2]) for text in map(_fraction, values)), default=0)
    return [
        f"{value:.{decimals}f}" if _fraction(value) else text for value, text in zip(values, shown, strict=True)
    ]


def _fraction(value: object) -> str:
    """Return a float with four digits, unless that takes an exponent; nothing for other values."""
    text = f"{value:.4g}" if isinstance(value, float) else ""
    return "" if "e" in text or "n" in text else text


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
