"""What the claims' own statistics look at: a profile's network, some validation pictures, and their objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import torch
from torch import Tensor

from ...architecture import MINI, Unit
from ...batches import squares_of
from ...datasets import Dataset, open_dataset
from ...evaluation import probabilities
from ...images import centre_square
from ...network import ConvNet
from ...strongest import Ranking, strongest
from ..fig2 import drawn_maps
from ..setting import DATA, network_of, profile_of
from ..trainings import training_data


@dataclass(frozen=True)
class Scale:
    """How much the statistics rest on.

    Attributes:
        pictures: Among which the strongest units are looked for.
        maps: Drawn from each layer.
        units: Of each map, at most nine.
        few: Pictures that are covered place by place, or taken apart in other ways that take long.
    """

    pictures: int
    maps: int
    units: int
    few: int


SCALES = {
    "smoke": Scale(pictures=128, maps=6, units=3, few=16),
    "tiny": Scale(pictures=4000, maps=50, units=9, few=200),
    "paper": Scale(pictures=20_000, maps=50, units=9, few=300),
}


class Subject:
    """A network and pictures, both as a profile has them.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        seed: Of every draw, and of the random weights that serve as control.
    """

    def __init__(self, profile: str, seed: int = 0):
        self.profile, self.seed, self.scale = profile_of(profile).name, seed, SCALES[profile]
        self.kept: dict = {}  # what takes long and serves several claims

    @cached_property
    def net(self) -> ConvNet:
        """The profile's network, whole."""
        return network_of(self.profile).eval()

    @cached_property
    def name(self) -> str:
        """What it is called."""
        return profile_of(self.profile).network

    @cached_property
    def untrained(self) -> Subject:
        """The same pictures, with random weights in the same architecture."""
        return self.seen_by(ConvNet(self.net.spec, self.net.preparation, self.seed))

    def enlarged(self, side: int) -> Subject:
        """Return the same pictures at a larger size, seen by the convolutions alone."""
        return self.seen_by(self.net.features(side=max(side, self.net.preparation.crop)))

    def seen_by(self, net: ConvNet) -> Subject:
        """Return the same pictures with another network."""
        other = Subject(self.profile, self.seed)
        other.net, other.dataset, other.scale, other.rows = net.eval(), self.dataset, self.scale, self.rows
        return other

    @cached_property
    def dataset(self) -> Dataset:
        """The validation pictures of what the network was trained on."""
        if self.name == MINI.name:
            drawn = open_dataset(DATA[self.profile], "val")
            drawn.sample = cache(drawn.sample)  # drawing takes longer than looking
            return drawn
        return training_data(DATA[self.profile], "val")

    @cached_property
    def rows(self) -> list[int]:
        """The pictures that are looked through, drawn by seed."""
        order = np.random.default_rng(self.seed).permutation(len(self.dataset))
        return sorted(order[: self.scale.pictures].tolist())

    @property
    def few(self) -> list[int]:
        """The first of `rows` in the order of the draw, evenly spread over them."""
        return self.rows[:: max(len(self.rows) // self.scale.few, 1)][: self.scale.few]

    @property
    def layers(self) -> list[str]:
        """The convolutional layers, from the picture upwards."""
        return [conv.name for conv in self.net.spec.convs]

    @cached_property
    def hits(self) -> Ranking:
        """The strongest units of every map over `rows`."""
        return strongest(self.net.features(), self.dataset, 9, rows=self.rows)

    def units(self, layer: str) -> list[Unit]:
        """Return the strongest units of some maps of a layer, drawn by seed; `image` counts in the data set."""
        hits = self.hits[layer]
        maps = drawn_maps(hits, self.scale.maps, self.seed)
        return [unit for map_ in maps for unit in hits.units(map_)[: self.scale.units]]

    def squares(self, rows: Sequence[int]) -> Tensor:
        """Return pictures, uint8 [n, 3, short_side, short_side]."""
        return squares_of(self.dataset, rows, self.net.preparation)

    def x(self, rows: Sequence[int]) -> Tensor:
        """Return prepared pictures [n, 3, crop, crop]."""
        return self.net.prepare(self.squares(rows)).contiguous(memory_format=torch.channels_last)

    def objects(self, rows: Sequence[int]) -> Tensor:
        """Return where the labelled objects are, bool [n, crop, crop]: masks where there are any, else boxes."""
        return torch.stack([self._object(row) for row in rows])

    @cached_property
    def right(self) -> list[int]:
        """The `rows` that the network classifies correctly, whose object covers less than half of the picture."""
        labels = torch.as_tensor(self.dataset.labels)
        found = []
        for part in torch.tensor(self.rows).split(64):
            answers = probabilities(self.net, self.squares(part.tolist())).argmax(1)
            found += part[answers == labels[part]].tolist()
        return [row for row in found if 0.02 < float(self._object(row).float().mean()) < 0.5]

    def _object(self, row: int) -> Tensor:
        preparation = self.net.preparation
        sample = self.dataset.sample(row).squared(preparation.short_side)
        mask = sample.mask
        if mask is None:
            mask = torch.zeros(preparation.short_side, preparation.short_side, dtype=torch.bool)
            top, left, bottom, right = (round(edge) for edge in sample.box or (0, 0, 0, 0))
            mask[top:bottom, left:right] = True
        return centre_square(mask, preparation.crop)
