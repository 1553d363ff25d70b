"""What Fig. 2 shows of a map: its strongest units, projected, beside the pieces of pictures that caused them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from .deconv import Unit, cut, deconv_units
from .figures import projection_image
from .files import ZfnetError, check, storing
from .images import GREY
from .network import ConvNet
from .ranking import Hits
from .receptive import Box


@dataclass(frozen=True)
class Block:
    """One map and its strongest units, strongest first.

    Attributes:
        layer, map: Which map.
        scores: Activations.
        projections: float [3, s, s] each, s being the receptive field, or the picture where that is smaller.
        patches: uint8 [s, s, 3] each: the same windows of the pictures, grey beyond their edge.
        boxes: Where the windows lie in the prepared pictures.
        units: The units; `image` counts in the data set.
        names: Of the pictures.
    """

    layer: str
    map: int
    scores: list[float]
    projections: list[np.ndarray]
    patches: list[np.ndarray]
    boxes: list[Box]
    units: list[Unit]
    names: list[str]


class Squares:
    """Pictures of a data set as a network prepares them; each is read and resized once.

    Args:
        net: The network.
        dataset: A data set or a pack.
    """

    def __init__(self, net: ConvNet, dataset):
        self.net, self.dataset = net, dataset
        self.known: dict[int, Tensor] = {}

    def __getitem__(self, images: Sequence[int]) -> Tensor:
        """Return prepared pictures, float32 [n, 3, crop, crop]."""
        for image in set(images) - self.known.keys():
            self.known[image] = self.net.preparation.square(self.dataset[image][0])
        return self.net.prepare(torch.stack([self.known[image] for image in images]))


def blocks(net: ConvNet, squares: Squares, hits: Hits, maps: Sequence[int], together: int = 32) -> Iterator[Block]:
    """Project the hits of some maps and cut out what caused them (Fig. 2).

    Args:
        net: The network.
        squares: The pictures in which the hits were found.
        hits: Of one layer.
        maps: Which maps.
        together: Maps whose units are projected at once.
    """
    for start in range(0, len(maps), together):
        yield from _together(net, squares, hits, maps[start : start + together])


def _together(net: ConvNet, squares: Squares, hits: Hits, maps: Sequence[int]) -> Iterator[Block]:
    units = {number: hits.units(number) for number in maps}
    images = sorted({unit.image for of_map in units.values() for unit in of_map})
    if not images:
        return
    place = {image: i for i, image in enumerate(images)}
    x = squares[images]
    seen = net.preparation.visible(x)
    flat = [unit._replace(image=place[unit.image]) for number in maps for unit in units[number]]
    shown = deconv_units(net, x, flat)
    pairs = zip(shown.projections, shown.boxes, strict=True)
    windows = iter([fitted(projection.cpu(), box, x.shape[-1]) for projection, box in pairs])
    for number in maps:
        found = [(unit, *next(windows)) for unit in units[number]]
        yield Block(
            hits.layer,
            number,
            hits.score[number, : len(found)].tolist(),
            [pixels.numpy() for _, pixels, _ in found],
            [patch(seen[place[unit.image]], box) for unit, _, box in found],
            [box for *_, box in found],
            units[number],
            [squares.dataset.names[unit.image] for unit in units[number]],
        )


def fitted(projection: Tensor, box: Box, side: int) -> tuple[Tensor, Box]:
    """Return a projection and its box; the whole picture, of `side` pixels, where the field is larger."""
    if projection.shape[-1] < side:
        return projection, box
    whole = Box(-box.top, -box.left, side - box.top, side - box.left)
    return cut(projection, whole), Box(0, 0, side, side)


def patch(picture: Tensor, box: Box) -> np.ndarray:
    """Cut a box out of a picture [3, h, w]: uint8 [s, s, 3], grey beyond the edge."""
    return rows_first((cut(picture.float() - GREY, box) + GREY).to(torch.uint8))


def rows_first(picture: Tensor) -> np.ndarray:
    """Return a picture [3, h, w] as an array [h, w, 3]."""
    return picture.permute(1, 2, 0).contiguous().numpy()


def save_blocks(path: Path, found: Sequence[Block], notes: dict[str, Any]) -> None:
    """Store blocks without their patches: what a network made of pictures, never the pictures.

    Args:
        path: Of one npz file.
        found: The blocks; projections are stored as the 8-bit pictures that Fig. 2 shows.
        notes: What they were computed from.
    """
    arrays = {
        f"{block.layer}.{block.map}": np.stack([projection_image(pixels) for pixels in block.projections])
        for block in found
    }
    facts = [
        {"layer": b.layer, "map": b.map, "scores": b.scores, "boxes": b.boxes, "units": b.units, "names": b.names}
        for b in found
    ]
    index = np.frombuffer(json.dumps({"notes": notes, "blocks": facts}).encode(), np.uint8)
    with storing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, index=index, **arrays)


def load_blocks(path: Path, squares: Squares | None = None) -> tuple[list[Block], dict[str, Any]]:
    """Read what `save_blocks` wrote; patches come with the pictures, where those are at hand.

    Returns:
        The blocks, whose projections run from -1 to 1, and the notes.

    Raises:
        ZfnetError: The file is missing or damaged.
    """
    try:
        check(path)
        with np.load(path) as file:
            index = json.loads(file["index"].tobytes())
            found = [
                _restored(facts, file[f"{facts['layer']}.{facts['map']}"], squares) for facts in index["blocks"]
            ]
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ZfnetError(f"{path} holds no projections ({error}); restore it, or compute them again") from error
    return found, index["notes"]


def _restored(facts: dict[str, Any], shown: np.ndarray, squares: Squares | None) -> Block:
    units, boxes = [Unit(*unit) for unit in facts["units"]], [Box(*box) for box in facts["boxes"]]
    projections = [(image.astype(np.float32).transpose(2, 0, 1) - GREY) / (255 - GREY) for image in shown]
    patches = []
    if squares:
        seen = squares.net.preparation.visible(squares[[unit.image for unit in units]])
        patches = [patch(picture, box) for picture, box in zip(seen, boxes, strict=True)]
    return Block(facts["layer"], facts["map"], facts["scores"], projections, patches, boxes, units, facts["names"])
