"""Figure 3: the architecture in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from .. import paper
from ..checkpoints import load_network
from ..receptive import receptive_fields
from ..specs import ARCHITECTURES, STEMS, TABLE_2, ZFNET, ArchSpec, architecture
from ..tables import Table


@dataclass(frozen=True)
class Sizes:
    """Fig. 3: an architecture, its sizes beside the paper's, and the same numbers by place.

    Attributes:
        spec: The architecture.
        table: One row a layer or pool.
        agrees: Whether every size that the paper prints, or that is recalled from it, equals ours.
    """

    spec: ArchSpec
    table: Table
    agrees: bool


def fig3(name: str = "zfnet") -> Sizes:
    """Work out sizes, parameters, multiply-accumulates and receptive fields of an architecture (Fig. 3).

    Args:
        name: A named architecture, or the name of weights that are here.
    """
    spec = architecture(name) if name in ARCHITECTURES else load_network(name).spec
    printed, recalled = (paper.printed_shapes(), paper.recalled_shapes()) if spec == ZFNET else ({}, {})
    shapes, parameters, macs = spec.shapes(), spec.parameters(), spec.macs()
    fields = receptive_fields(spec)
    rows = [
        {
            "layer": place,
            "ours": _size(shapes[place]),
            "printed": _size(printed.get(place)),
            "recalled": _size(recalled.get(place)),
            "field": fields[place].size if place in fields else None,
            "stride": fields[place].stride if place in fields else None,
            "parameters": parameters.get(place),
            "macs": macs.get(place),
        }
        for place in shapes
    ]
    rows.append({"layer": "**all**", "parameters": sum(parameters.values()), "macs": sum(macs.values())})
    columns = {
        "layer": "Layer",
        "ours": "Ours",
        "printed": "Printed",
        "recalled": "Recalled",
        "field": "Field",
        "stride": "Stride",
        "parameters": "Parameters",
        "macs": "MACs",
    }
    agrees = all(shapes[place] == size for known in (printed, recalled) for place, size in known.items())
    return Sizes(spec, Table(columns, rows), agrees)


def table_2_sizes() -> Table:
    """Return parameters and multiply-accumulates of every row of Table 2 and of the crossed stems."""
    rows = [
        {"name": name, "parameters": sum(spec.parameters().values()), "macs": sum(spec.macs().values())}
        for name, spec in (TABLE_2 | STEMS).items()
    ]
    return Table({"name": "Network", "parameters": "Parameters", "macs": "Multiply-accumulates"}, rows)


def _size(shape: tuple[int, int, int] | None) -> str | None:
    """Write a shape as the paper does, for example 96 maps of 55x55."""
    if shape is None:
        return None
    count, rows, columns = shape
    return str(count) if rows == columns == 1 else f"{count}×{rows}×{columns}"
