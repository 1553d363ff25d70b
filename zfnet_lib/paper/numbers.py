"""The paper's numbers, errors and open questions (`paper.json`) as data."""

from __future__ import annotations

import json
import tomllib
from functools import cache
from importlib.resources import files
from types import SimpleNamespace
from typing import Any


@cache
def contents() -> dict[str, Any]:
    """Return everything in `paper.json`: tables, hyperparameters, architecture, figures, errata …."""
    return json.loads((files(__package__) / "paper.json").read_text(encoding="utf-8"))


@cache
def claims() -> dict[str, Any]:
    """Return `claims/claims.toml` as it stands; `claims.registry` makes claims of it."""
    return tomllib.loads((files(__package__) / "claims/claims.toml").read_text(encoding="utf-8"))


def errata() -> list[SimpleNamespace]:
    """Return the paper's errors: id, title, places with the printed words, arithmetic, and how we read it."""
    return [SimpleNamespace(**entry) for entry in contents()["errata"]]


def ambiguities() -> list[SimpleNamespace]:
    """Return what the paper leaves open: id, question, where, our default, and the code that takes it."""
    return [SimpleNamespace(**entry) for entry in contents()["ambiguities"]]


def cell(table: int, row: str, column: str, base: str = "") -> float:
    """Return a number of Table 1 to 6, by how its row's label begins; `base`: the network changed in Table 2."""
    for each in contents()["tables"][f"table_{table}"]["rows"]:
        if each["label"].startswith(row) and base in each.get("base_model", ""):
            return each["values"][column]
    raise LookupError(f"Table {table} has no row {row!r}")


def hyperparameter(name: str) -> Any:
    """Return what the paper's text states, such as `epochs`."""
    return next(each["value"] for each in contents()["hyperparameters"] if each["id"] == name)
