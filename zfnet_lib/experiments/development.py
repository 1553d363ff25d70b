"""What Fig. 4 shows, and its files: projections as 8-bit arrays, and every number as a record."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from .. import records
from ..evolution import crossing
from ..files import ZfnetError, check, sha256, storing
from ..records import Provenance, Record
from ..tables import Note, Table
from ..training import FIGURE_4_OF
from .setting import Source

INDEX, PROJECTIONS, NUMBERS = "index.json", "projections.safetensors", "numbers.jsonl"

ALIGNMENT = "alignment of the answers with the last ones"
NEARNESS = "mean cosine of the last units' projections with the last ones"
PROBE = "accuracy of a linear probe"
KINDS = ("same unit", "same picture", "other picture")
"""What becomes of a map's strongest unit from one moment to the next, in the order of `evolution`'s numbers."""
LARGEST = "share of changes of picture among the tenth of the steps that change appearance most"

PAPER = {"conv1": "a few epochs", "conv2": "a few epochs", "conv4": "40-50 epochs", "conv5": "40-50 epochs"}
"""When lower and upper layers settle according to section 4, whose layers we take to be 1, 2 and 4, 5."""


@dataclass(frozen=True)
class Feature:
    """One map at all moments.

    Attributes:
        map: Its number.
        pictures: uint8 [moments, s, s, 3]: the projection of its strongest unit, 0 at grey, each at a contrast of
            its own; the receptive field, or the whole picture where that is smaller.
        contrasts: The value that reaches full contrast, one a moment.
        scores: The unit's activation.
        names: The training picture that it comes from.
        places: Its row and column.
    """

    map: int
    pictures: np.ndarray
    contrasts: list[float]
    scores: list[float]
    names: list[str]
    places: list[tuple[int, int]]

    @property
    def changes(self) -> list[bool]:
        """Whether the unit comes from another picture than at the moment before; never at the first one."""
        return [False, *(name != before for before, name in zip(self.names, self.names[1:], strict=False))]


@dataclass(frozen=True)
class Development:
    """Fig. 4: features at several moments of a training, and when they settle. Empty where it was not run.

    Attributes:
        epochs: The moments, in epochs of the paper's 70.
        features: By layer.
        numbers: Records of settling, probes and jumps.
        source: What it was computed from, or how to compute it.
    """

    epochs: Sequence[int]
    features: dict[str, list[Feature]]
    numbers: list[Record]
    source: Source | Note

    def block(self, layer: str) -> list[tuple[int, np.ndarray, list[bool]]]:
        """Return (map, pictures, changes) of a layer's maps, as `figures.fig4.block` takes them.

        Raises:
            ZfnetError: No such layer.
        """
        if self.features and layer not in self.features:
            raise ZfnetError(f"layer {layer!r} was not followed; here are {', '.join(self.features)}")
        return [(feature.map, feature.pictures, feature.changes) for feature in self.features.get(layer, [])]

    @property
    def alignment(self) -> dict[str, list[float]]:
        """By layer: how far its answers are what they are in the end, at each moment."""
        return self._curves(ALIGNMENT)

    @property
    def nearness(self) -> dict[str, list[float]]:
        """By layer: how far projections are what they are in the end, at each moment."""
        return self._curves(NEARNESS)

    @property
    def probes(self) -> dict[str, list[float]]:
        """By layer: accuracy of linear probes in percent, at each moment."""
        return self._curves(PROBE)

    @property
    def settled(self) -> Table:
        """From when on each layer stays at 0.9 of what it becomes."""
        nearness = self.nearness
        rows = [
            {
                "layer": layer,
                "answers": crossing(self.epochs, values),
                "projections": crossing(self.epochs, nearness[layer]),
                "share": f"{crossing(self.epochs, values) / FIGURE_4_OF:.0%}",
                "paper": PAPER.get(layer),
            }
            for layer, values in self.alignment.items()
        ]
        columns = {
            "layer": "Layer",
            "answers": f"Answers, from epoch (of {FIGURE_4_OF})",
            "share": "Share of training",
            "projections": "Projections, from epoch",
            "paper": "Paper",
        }
        return Table(columns, rows)

    @property
    def jumps(self) -> Table:
        """What becomes of strongest units from moment to moment, and how far the projection changes then."""
        rows: dict[str, dict[str, object]] = {}
        for record in self.numbers:
            kind = record.parameters.get("kind")
            if kind or record.quantity == LARGEST:
                row = rows.setdefault(record.parameters["layer"], {"layer": record.parameters["layer"]})
                row[f"{kind} {record.unit}" if kind else "largest"] = round(record.value, 2)
        columns = {"layer": "Layer"}
        for kind in KINDS:
            columns |= {f"{kind} %": f"{kind.capitalize()}, %", f"{kind} cosine": "cosine"}
        return Table(columns | {"largest": "Other picture among the largest changes, %"}, list(rows.values()))

    def save(self, folder: Path, parameters: dict[str, Any]) -> None:
        """Write the result to a folder as a whole; `parameters` are what it was asked for with."""
        arrays = {
            f"{layer}.{one.map}": np.ascontiguousarray(one.pictures)  # safetensors writes memory as it lies
            for layer, found in self.features.items()
            for one in found
        }
        features = {
            layer: [{key: value for key, value in vars(one).items() if key != "pictures"} for one in found]
            for layer, found in self.features.items()
        }
        with storing(folder) as temporary:
            temporary.mkdir()
            save_file(arrays, temporary / PROJECTIONS)
            records.store(temporary / NUMBERS, self.numbers)
            index = {
                "parameters": parameters,
                "epochs": list(self.epochs),
                "source": asdict(self.source),
                "features": features,
            }
            (temporary / INDEX).write_text(json.dumps(index, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, parameters: dict[str, Any]) -> Development | None:
        """Read what `save` wrote; None where there is nothing, or a result for other parameters.

        Raises:
            ZfnetError: It is damaged.
        """
        try:
            check(folder)
            if not (folder / INDEX).exists():
                return None
            index = json.loads((folder / INDEX).read_text())
            if index["parameters"] != parameters:
                return None
            if "sha256" in index and sha256(folder / PROJECTIONS) != index["sha256"]:
                raise ValueError(f"the SHA-256 of {PROJECTIONS} differs")
            arrays = load_file(folder / PROJECTIONS)
            features = {
                layer: [Feature(pictures=arrays[f"{layer}.{values['map']}"], **values) for values in found]
                for layer, found in index["features"].items()
            }
            source = index["source"] | {"provenance": Provenance(**index["source"]["provenance"])}
            return cls(index["epochs"], features, records.read(folder / NUMBERS), Source(**source))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ZfnetError(
                f"{folder} is damaged ({error}); restore it, or remove it and compute it again"
            ) from error

    def _curves(self, quantity: str) -> dict[str, list[float]]:
        curves: dict[str, list[float]] = {}
        for record in self.numbers:
            if record.quantity == quantity:
                curves.setdefault(record.parameters["layer"], []).append(record.value)
        return curves
