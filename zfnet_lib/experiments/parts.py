"""Correspondence: whether hiding the same part changes the features of different pictures in the same way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from .. import correspondence as faces
from ..correspondence import GROUP, RANDOM, SAME, Correspondence, Places
from ..datasets import Dataset, MissingDataError, open_dataset
from ..files import ZfnetError
from ..network import ConvNet
from ..records import Stopwatch
from ..tables import Note, Table
from .setting import Setting, Source, network_of, profile_of

RECALLED = {
    "left eye": ("0.069 ± 0.007", "0.068 ± 0.013"),
    "right eye": ("0.067 ± 0.007", "0.069 ± 0.015"),
    "nose": ("0.079 ± 0.017", "0.069 ± 0.011"),
    RANDOM: ("0.107 ± 0.017", "0.073 ± 0.014"),
}
"""The arXiv version's table for layers 5 and 7, dogs, as it is remembered."""


@dataclass(frozen=True)
class Parts:
    """How consistently a network treats the parts of faces.

    Attributes:
        found: Distances by layer, part and group of five pictures.
        shown: One row for each picture of the first group: as it is, then with each part hidden; uint8 [h, w, 3].
        table: Delta of every part and layer, beside the arXiv version's as recalled.
        verdict: In how many groups the parts are below the random places.
        source: What it was computed from.
    """

    found: Correspondence
    shown: list[tuple[np.ndarray, ...]]
    table: Table
    verdict: Note
    source: Source


def correspondence(profile: str, pictures: str = "", network: str = "", groups: int = 12, seed: int = 0) -> Parts:
    """Hide eyes, nose or a random place in faces and compare the changes (after the arXiv version, as recalled).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: `caltech-101` (its aligned `Faces_easy`) or `shapes` (its drawn faces). By default `shapes` in
            `smoke`, otherwise `caltech-101` where it is at hand, else `shapes`; the result says which.
        network: Weights; the profile's by default.
        groups: Of five pictures each.
        seed: Of the random places.

    Raises:
        ZfnetError: Pictures without known parts, or fewer of them.
    """
    watch, net = Stopwatch(), network_of(profile, network)
    dataset, rows, places = _faces(net, pictures or _at_hand(profile), groups, seed)
    x = net.prepare([dataset[row].picture for row in rows])
    masks = {part: faces.squares(centres, net.preparation) for part, centres in places.items()}
    found = faces.correspondence(net, x, masks)
    first = [x[:GROUP], *(faces.masked(x[:GROUP], mask[:GROUP]) for mask in masks.values())]
    return Parts(
        found,
        list(zip(*(_seen(net, pictures) for pictures in first), strict=True)),
        _table(found),
        _verdict(found),
        Setting(network or profile_of(profile).network, net, dataset, watch).source(seed),
    )


def _at_hand(profile: str) -> str:
    if profile_of(profile).name == "smoke":
        return "shapes"
    try:
        return open_dataset("caltech-101", "all").name
    except MissingDataError:
        return "shapes"


def _faces(net: ConvNet, pictures: str, groups: int, seed: int) -> tuple[Dataset, list[int], Places]:
    """Open a data set and find faces in it, the pictures of a group far apart: neighbours often show one person."""
    if pictures not in ("caltech-101", "shapes"):
        raise ZfnetError(f"the parts of {pictures!r} are not known; choose caltech-101 (Faces_easy) or shapes")
    easy = pictures == "caltech-101"
    # Drawn at the network's own size: enlarged drawings would have no fine structure.
    options = {"split": "all"} if easy else {"split": "val", "size": net.preparation.short_side}
    dataset = open_dataset(pictures, **options)
    rows = np.flatnonzero(dataset.labels == dataset.classes.index("Faces easy" if easy else "face"))
    most = len(rows) // GROUP
    if not 1 <= groups <= most:
        raise ZfnetError(f"{len(rows)} faces of {pictures} make 1 to {most} groups of {GROUP}, not {groups}")
    chosen = rows[: GROUP * most].reshape(GROUP, most).T[:groups].ravel().tolist()
    places = faces.easy_face_places(len(chosen), seed) if easy else faces.drawn_face_places(dataset, chosen, seed)
    return dataset, chosen, places


def _table(found: Correspondence) -> Table:
    columns = {
        "layer": "Layer",
        "part": "Hidden",
        "delta": "Δ",
        "relative": "Δ / Δ by chance",
        "changed": "Changed, %",
        "paper": "Δ in the arXiv version, dogs (recalled)",
    }
    rows = []
    for i, layer in enumerate(found.layers):
        for j, part in enumerate(found.parts):
            rows.append(
                {
                    "layer": layer,
                    "part": part,
                    "delta": _spread(found.delta[i, j]),
                    "relative": _spread(found.relative[i, j]),
                    "changed": round(100 * float(found.changed[i, j].mean()), 1),
                    "paper": RECALLED.get(part, ("", ""))[int(layer.startswith("fc"))],
                }
            )
    return Table(columns, rows)


def _verdict(found: Correspondence) -> Note:
    """Count the groups in which the parts are treated more consistently than random places."""
    parts = [place for place, part in enumerate(found.parts) if part not in (RANDOM, SAME)]
    sentences = []
    for level, layer in enumerate(found.layers):
        delta, relative = found.delta[level], found.relative[level]
        below, by_chance, controlled = (
            int((values[parts] < values[found.parts.index(other)]).sum())
            for values, other in ((delta, RANDOM), (relative, RANDOM), (relative, SAME))
        )
        sentences.append(
            f"In {layer} Δ of a true part is below that of a random place in {below} of {delta[parts].size} "
            f"comparisons, and in {by_chance} when each is divided by what chance gives; then it is "
            f"below one random place for all in {controlled}."
        )
    return Note(" ".join(sentences))


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else "")


def _seen(net: ConvNet, x: Tensor) -> np.ndarray:
    """Return prepared pictures as they look, uint8 [n, h, w, 3]."""
    return net.preparation.visible(x).permute(0, 2, 3, 1).numpy()
