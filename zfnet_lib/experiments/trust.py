"""Sanity: what is left of projections when weights, switches or the rule of the way down change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ..files import ZfnetError
from ..network import ConvNet
from ..sanity import (
    GRADIENT,
    WAYS,
    Similarity,
    cascade,
    copied,
    projections,
    randomised,
    rivals,
    seen,
    similarity,
    strongest_units,
)
from ..tables import Note, Table
from ..windows import Unit
from .robustness import spread
from .setting import Source, opened

FOLLOWED = ("deconvnet", "forward mask", "guided")
"""The ways whose projections are followed through the randomisation."""
CANDIDATES = 20
"""Pictures among which those are found that excite the layer."""


@dataclass(frozen=True)
class Randomisation:
    """Projections while the weights are replaced.

    Attributes:
        steps: The layers that are random at each step.
        similarities: By way [steps, units, 3]: to the trained network's projection, as `Similarity`.
        projections: Of the deconvnet: one list a step, of float [3, h, w], one a unit.
    """

    steps: tuple[tuple[str, ...], ...]
    similarities: dict[str, np.ndarray]
    projections: list[list[np.ndarray]]


@dataclass(frozen=True)
class Trust:
    """How far the projections of some units can be trusted.

    Attributes:
        units: The strongest of each picture first, then the second strongest …; `image` counts in the data set.
        patches: uint8 [h, w, 3], what each can see.
        shown: By way: their projections, float [3, h, w].
        downwards: Random weights from the top down.
        alone: Random weights in one layer at a time.
        owed: What the projections of each way owe to the unit and to the picture.
        verdict: The same in words.
        source: What it was computed from.
    """

    units: list[Unit]
    patches: list[np.ndarray]
    shown: dict[str, list[np.ndarray]]
    downwards: Randomisation
    alone: Randomisation
    owed: Table
    verdict: Note
    source: Source

    @property
    def names(self) -> list[str]:
        """Layer and map of each unit, on two lines."""
        return [f"{unit.layer}\nmap {unit.map}" for unit in self.units]

    @property
    def curves(self) -> dict[str, tuple]:
        """Steps and similarities of both randomisations, as `figures.sanity.curves` takes them."""
        both = {"from the top down": self.downwards, "one layer alone": self.alone}
        return {title: (one.steps, one.similarities) for title, one in both.items()}


def sanity(
    profile: str,
    pictures: str = "",
    network: str = "",
    layer: str = "",
    count: int = 5,
    units: int = 2,
    seed: int = 0,
) -> Trust:
    """Put the projections of the strongest units to the tests of later work.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        network: Weights; the profile's by default.
        layer: The units' layer; the highest convolutional one by default.
        count: Pictures, the first of classes spread over the data set that excite as many maps as wanted.
        units: Units of each picture, of different maps.
        seed: Of the random weights.

    Raises:
        ZfnetError: Unknown profile, data set or layer, or more pictures or units than there are.
    """
    chosen = opened(profile, pictures, network)
    net, dataset = chosen.net, chosen.dataset
    layer = layer or net.spec.convs[-1].name
    part = net.features(layer)
    rows = spread(dataset, min(max(count, min(CANDIDATES, len(dataset.classes))), len(dataset)))
    x = net.prepare([dataset[row].picture for row in rows])
    found = _units(part, x, layer, count, units)
    shown = {way: projections(part, x, found, way) for way in (*WAYS, GRADIENT)}
    steps = cascade(part, layer)
    single = tuple(step[-1:] for step in steps)
    downwards, alone = (_randomisation(part, x, found, shown, chosen, seed) for chosen in (steps, single))
    owed = _owed(part, x, found, shown)
    return Trust(
        [unit._replace(image=rows[unit.image]) for unit in found],
        [_rows_first(seen(net, net.preparation.visible(x[unit.image]), unit)) for unit in found],
        shown,
        downwards,
        alone,
        owed,
        _verdict(owed, downwards),
        chosen.source(seed),
    )


def _units(net: ConvNet, x: Tensor, layer: str, count: int, units: int) -> list[Unit]:
    """Return units of the first `count` pictures that excite as many maps: the strongest of each picture first."""
    found = strongest_units(net, x, layer, units)
    if not 1 <= count <= len(found) // units:
        raise ZfnetError(
            f"of {len(x)} pictures {len(found) // units} excite {units} maps of {layer}; "
            f"choose a count from 1 to that, not {count}, or fewer units"
        )
    return [unit for rank in range(units) for unit in found[rank : count * units : units]]


def _randomisation(net, x, units, shown, steps, seed) -> Randomisation:
    """Project the units again with random weights, one step after the other."""
    similarities, pictures = {way: [] for way in FOLLOWED}, []
    for step in steps:
        changed = randomised(net, step, seed)
        for way, found in similarities.items():
            again = projections(changed, x, units, way)
            found.append([similarity(*pair) for pair in zip(shown[way], again, strict=True)])
            if way == FOLLOWED[0]:
                pictures.append(again)
    return Randomisation(steps, {way: np.array(found) for way, found in similarities.items()}, pictures)


def _owed(net: ConvNet, x: Tensor, units: Sequence[Unit], shown: dict[str, list[np.ndarray]]) -> Table:
    """Compare each projection with that of another map, with that from another picture, and with edges."""
    others = rivals(net, x, units)
    pictures = list(dict.fromkeys(unit.image for unit in units))
    following = dict(zip(pictures, [*pictures[1:], pictures[0]], strict=True))
    elsewhere = [unit._replace(image=following[unit.image]) for unit in units]
    rows = []
    for way, own in shown.items():
        by_map = _similarity(own, projections(net, x, others, way))
        by_picture = _similarity(own, projections(net, x, elsewhere, way))
        rows.append(
            {
                "way": way,
                "map": round(by_map.cosine, 3),
                "map places": round(by_map.spearman, 3),
                "picture": round(by_picture.cosine, 3),
                "edges": _copied(own, _windows(net, x, units)),
                "other edges": _copied(own, _windows(net, x, elsewhere)),
            }
        )
    columns = {
        "way": "Way to the pixels",
        "map": "Other map, same place: cosine",
        "map places": "the same: Spearman",
        "picture": "Same unit, other picture: cosine",
        "edges": "Edges of its picture",
        "other edges": "Edges of another picture",
    }
    return Table(columns, rows)


def _verdict(owed: Table, downwards: Randomisation) -> Note:
    """Say what the deconvnet's projections owe to the unit, and what to the picture."""
    ways = {row["way"]: row for row in owed.rows}
    ours, exact = ways[FOLLOWED[0]], ways[GRADIENT]
    cosine = Similarity._fields.index("cosine")
    first, last = (downwards.similarities[FOLLOWED[0]][step, :, cosine].mean() for step in (0, -1))
    return Note(
        f"Two units of different maps at the same place of a picture: the deconvnet shows the same to a cosine of "
        f"{ours['map']:.2f}, the exact gradient to {exact['map']:.2f}. The same unit on another picture: "
        f"{ours['picture']:z.2f}. Random weights in {downwards.steps[0][0]} leave a cosine of {first:.2f} with the "
        f"trained projection, random weights in all layers {last:.2f}. The deconvnet's edges follow those of the "
        f"picture by {ours['edges']:.2f}, those of another picture by {ours['other edges']:z.2f}."
    )


def _similarity(some: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> Similarity:
    """Return the mean similarity of pairs."""
    return Similarity(*np.mean([similarity(*pair) for pair in zip(some, others, strict=True)], axis=0))


def _copied(some: Sequence[np.ndarray], windows: Sequence[np.ndarray]) -> float:
    return round(float(np.mean([copied(*pair) for pair in zip(some, windows, strict=True)])), 3)


def _windows(net: ConvNet, x: Tensor, units: Sequence[Unit]) -> list[np.ndarray]:
    """Return what each unit can see."""
    return [seen(net, x[unit.image], unit).cpu().numpy() for unit in units]


def _rows_first(picture: Tensor) -> np.ndarray:
    return picture.permute(1, 2, 0).numpy()
