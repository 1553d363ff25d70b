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

    Example:
        >>> print(Table({"layer": "Layer", "maps": "Maps"}, [{"layer": "conv1", "maps": 96}]).markdown())
        | Layer | Maps |
        |:---|---:|
        | conv1 | 96 |
    """

    columns: Mapping[str, str]
    rows: Sequence[Mapping[str, object]]

    def markdown(self) -> str:
        """Return the table as Markdown; columns of numbers are set flush right."""
        numeric = {key: any(isinstance(row.get(key), int | float) for row in self.rows) for key in self.columns}
        lines = [
            "| " + " | ".join(self.columns.values()) + " |",
            "|" + "|".join("---:" if numeric[key] else ":---" for key in self.columns) + "|",
        ]
        lines += ["| " + " | ".join(_cell(row.get(key)) for key in self.columns) + " |" for row in self.rows]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        return self.markdown()


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
