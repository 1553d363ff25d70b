"""The strongest units of every map over a data set (section 4, Fig. 2)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from .deconv import Unit
from .network import ConvNet
from .paths import ZfnetError


@dataclass(frozen=True)
class Hits:
    """The k strongest units of every map of one layer, strongest first.

    Attributes:
        layer: `conv1` ….
        score: float32 [maps, k]: the rectified activation, before pool and normalisation.
        image: int64 [maps, k]: index in the data set; one hit per picture.
        row, column: int64 [maps, k]: place in the map.
    """

    layer: str
    score: Tensor
    image: Tensor
    row: Tensor
    column: Tensor

    def units(self, map_: int) -> list[Unit]:
        """Return the hits of one map as units; `Unit.image` counts in the data set."""
        places = zip(self.image[map_], self.row[map_], self.column[map_], strict=True)
        return [Unit(int(image), self.layer, map_, int(row), int(column)) for image, row, column in places]


def strongest(
    net: ConvNet, dataset, k: int = 9, layers: Iterable[str] | None = None, batch: int = 32, progress: bool = False
) -> dict[str, Hits]:
    """Stream a data set once and keep the k strongest units of every map, one hit per picture (Fig. 2).

    Units are ranked at the rectified maps. Ties go to the earlier picture, then to the earlier row and column.

    Args:
        net: The network; it prepares the pictures itself.
        dataset: `len` and `[i] -> (uint8 picture [3, h, w], label)`.
        k: Hits a map, at most the number of pictures.
        layers: Convolutional layers; all by default.
        batch: Pictures in one forward pass.
        progress: Show a bar.

    Returns:
        `Hits` by layer.

    Raises:
        ZfnetError: k is below 1 or above the number of pictures.
    """
    if not 1 <= k <= len(dataset):
        raise ZfnetError(f"k = {k}: the data set has {len(dataset)} pictures, so k lies between 1 and that")
    names = [net.spec.conv(name).name for name in layers or (conv.name for conv in net.spec.convs)]
    last = [conv.name for conv in net.spec.convs if conv.name in names][-1]
    best: dict[str, Hits] = {}
    for start, pictures in tqdm(_batches(dataset, batch), total=-(-len(dataset) // batch), disable=not progress):
        with torch.no_grad():
            trace = net.trace(net.prepare(pictures), upto=last)
        for name in names:
            found = _peaks(name, trace[name].maps, start)
            best[name] = _merged(best[name], found, k) if name in best else _merged(found, None, k)
    return best


def _batches(dataset, size: int) -> Iterator[tuple[int, list[Tensor]]]:
    for start in range(0, len(dataset), size):
        samples = (dataset[i] for i in range(start, min(start + size, len(dataset))))
        yield start, [picture for picture, _ in samples]


def _peaks(layer: str, maps: Tensor, start: int) -> Hits:
    """Return the strongest place of every map in every picture of a batch: `Hits` of [maps, n]."""
    score, place = maps.flatten(2).cpu().max(dim=2)
    columns = maps.shape[-1]
    image = torch.arange(start, start + len(maps)).expand(maps.shape[1], -1)
    return Hits(layer, score.T, image, place.T // columns, place.T % columns)


def _merged(a: Hits, b: Hits | None, k: int) -> Hits:
    """Keep the k strongest of both, in the order of pictures where scores tie."""
    fields = ("score", "image", "row", "column")
    parts = {name: torch.cat([getattr(hits, name) for hits in (a, b) if hits], dim=1) for name in fields}
    order = parts["score"].sort(dim=1, descending=True, stable=True).indices[:, :k]
    return Hits(a.layer, **{name: values.gather(1, order) for name, values in parts.items()})
