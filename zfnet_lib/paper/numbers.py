"""The paper's numbers, errors and open questions (`paper.json`) as data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Erratum:
    """One place where the paper contradicts itself, its tables or its sources.

    Attributes:
        id, title: Short names.
        places: Where it stands, each with the printed words where there are any.
        arithmetic: What a check of the printed numbers gives.
        reading: How this reproduction takes it.
    """

    id: str
    title: str
    places: tuple[dict[str, str | None], ...]
    arithmetic: str
    reading: str


@dataclass(frozen=True)
class Ambiguity:
    """A choice that the paper leaves open.

    Attributes:
        id, question: What is open.
        where: The place in the paper.
        default: The assumption taken.
        code: What in the library takes it.
    """

    id: str
    question: str
    where: str
    default: str
    code: str


@cache
def contents() -> dict[str, Any]:
    """Return everything in `paper.json`: tables, hyperparameters, architecture, figures, errata …."""
    return json.loads((files(__package__) / "paper.json").read_text(encoding="utf-8"))


def errata() -> tuple[Erratum, ...]:
    """Return the paper's errors, in its order.

    Example:
        >>> errata()[0].id
        'table-5-means'
    """
    fields = ("id", "title", "places", "arithmetic", "reading")
    return tuple(Erratum(**{field: entry[field] for field in fields}) for entry in contents()["errata"])


def ambiguities() -> tuple[Ambiguity, ...]:
    """Return the open questions with the assumptions taken.

    Example:
        >>> ambiguities()[0].code
        'zfnet_lib.specs.Conv.overhang'
    """
    return tuple(Ambiguity(**entry) for entry in contents()["ambiguities"])


def printed_shapes() -> dict[str, tuple[int, int, int]]:
    """Return (maps, rows, columns) of what the caption of Fig. 3 prints: `input`, `pool1` and `pool5`."""
    facts = {fact["fact"]: fact["value"] for fact in contents()["architecture"]["stated_in_the_caption"]}
    rows, columns, planes = facts["input"]
    top = facts["top convolutional features"]
    height, width, maps = facts["layer 1 output"]
    return {
        "input": (planes, rows, columns),
        "pool1": (maps, height, width),
        "pool5": (top["maps"], top["height"], top["width"]),
    }


def recalled_shapes() -> dict[str, tuple[int, int, int]]:
    """Return (maps, rows, columns) as recalled from the image of Fig. 3, which the supplied text lacks."""
    shapes = {}
    for layer in contents()["architecture"]["recalled_from_the_published_figure"]["layers"]:
        number = layer["layer"]
        if "conv_output" in layer:
            shapes[f"conv{number}"] = (layer["maps"], layer["conv_output"], layer["conv_output"])
            if layer["pool"]:
                shapes[f"pool{number}"] = (layer["maps"], layer["output"], layer["output"])
        elif isinstance(layer["units"], int):
            shapes[f"fc{number}"] = (layer["units"], 1, 1)
    return shapes


def own_rows(table: str) -> list[dict[str, Any]]:
    """Return the rows of Table 1 or 2 that report the paper's own networks, each with `label` and `values`.

    Args:
        table: `table_1` or `table_2`.

    Example:
        >>> own_rows("table_2")[7]["values"]["val_top1"]
        38.4
    """
    return [row for row in contents()["tables"][table]["rows"] if row.get("ours", True)]


def cell(table: int, row: str, column: str, base: str = "") -> float:
    """Return one printed number: of Table 1 to 6, the row by the beginning of its label, the column.

    Args:
        base: In Table 2, which network the row changes: `ours` or `krizhevsky`.

    Example:
        >>> cell(2, "Removed layers 6,7", "val_top5")
        22.4
    """
    for each in contents()["tables"][f"table_{table}"]["rows"]:
        if each["label"].startswith(row) and base in each.get("base_model", ""):
            return each["values"][column]
    raise LookupError(f"Table {table} has no row {row!r}")


def hyperparameter(name: str) -> Any:
    """Return what the paper's text states, such as `epochs`."""
    return next(each["value"] for each in contents()["hyperparameters"] if each["id"] == name)
