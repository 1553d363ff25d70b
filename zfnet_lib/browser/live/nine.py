"""What the pane of strongest units shows, without widgets: the nine strongest of every map over a data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets import DATASETS, DENSE, Dataset, MissingDataError, dataset_folder, open_pack, open_to_look
from ...files import PROJECT, ZfnetError, data_root
from ...network import ConvNet
from ...strongest import ARRAYS, Block, Squares, TopUnits, blocks, strongest
from ..atlas import MANIFEST, SHOWN, read_manifest

ATLASES = PROJECT / "atlas"
"""Where `zfnet atlas` writes."""

AGREEING = 0.01
"""Share by which a score of an atlas may differ from the network's; its manifest has four digits."""


class StoppedError(Exception):
    """Somebody asked to stop."""


def at_hand() -> list[str]:
    """Return the names of the data sets that can be opened: drawn in code, fetched, or packed."""
    packs = data_root() / "packs"
    return [
        name
        for name, entry in DATASETS.items()
        if entry.reader is None or dataset_folder(name).is_dir() or list(packs.glob(f"{name}-val-*"))
    ]


def pictures_named(name: str) -> Dataset:
    """Open the pictures of a data set in which strongest units are looked for, or `folder:PATH`.

    Raises:
        DataError: Unknown, or not at hand; the message names what brings it.
    """
    if name == "photos":
        return open_to_look(name, density=DENSE)
    try:
        return open_pack(name, "val") if name in DATASETS else open_to_look(name)
    except MissingDataError:
        return open_to_look(name)


class Nine:
    """The strongest units of a network over a data set, once an atlas was read or a search has run.

    Args:
        net: The network.
        dataset: The pictures.

    Attributes:
        hits: By layer; nothing at first.
        source: Where they come from, in words.
    """

    def __init__(self, net: ConvNet, dataset: Dataset):
        self.net, self.dataset = net, dataset
        self.squares = Squares(net, dataset)
        self.hits: Mapping[str, TopUnits] = {}
        self.source = ""

    def read_atlas(self, place: Path | None = None) -> None:
        """Take the strongest units from the network's atlas over these pictures.

        Args:
            place: Where atlases lie; where `zfnet atlas` writes them by default.

        Raises:
            ZfnetError: There is none, or one of other weights.
        """
        wanted = (self.net.spec.name, self._pictures, self.net.preparation.crop)
        other = None
        for folder in sorted(path.parent for path in (place or ATLASES).rglob(MANIFEST)):
            manifest = read_manifest(folder)
            if tuple(manifest[key] for key in ("network", "pictures", "side")) != wanted:
                continue
            hits = {layer["layer"]: _hits(layer) for layer in manifest["layers"]}
            if self._agrees(hits):
                self.hits, self.source = hits, f"from the atlas {folder.name}"
                return
            other = folder
        repair = "look through the pictures here, or write one: zfnet atlas NETWORK --pictures PICTURES"
        if other:
            raise ZfnetError(f"the atlas {other.name} is of other weights than this network's; {repair}")
        name, side = self.net.spec.name, self.net.preparation.crop
        raise ZfnetError(f"{name} at {side} pixels has no atlas over {self.dataset.name}; {repair}")

    def search(self, most: int = 0, report: Callable[[int, int], None] | None = None) -> None:
        """Look through the pictures.

        Args:
            most: So many of them, spread evenly; all where it is 0.
            report: Called with how many were looked at, and of how many; what it raises stops the search.
        """
        n = len(self.dataset)
        count = min(most or n, n)
        rows = np.linspace(0, n - 1, count).round().astype(int)
        found = strongest(
            self.net,
            self.dataset,
            min(SHOWN, count),
            rows=rows,
            variety=hasattr(self.dataset, "windows"),
            report=report and (lambda done: report(done, count)),
        )
        lost = [self.dataset.names[image] for image in found.left_out]
        rest = f"; {len(lost)} cannot be read: {', '.join(lost)}" if lost else ""
        self.hits, self.source = found, f"found here in {found.pictures:,} of {n:,} pictures{rest}"

    def block(self, layer: str, map_: int) -> Block:
        """Project the strongest units of a map and cut out what caused them.

        Raises:
            ZfnetError: Nothing was read or searched yet, there is no such layer or map, or no picture excites it.
        """
        if not self.hits:
            raise ZfnetError("nothing is known of these pictures yet; read an atlas, or look through them")
        conv = self.net.spec.conv(layer)
        if not 0 <= map_ < conv.maps:
            raise ZfnetError(f"{layer} has no map {map_}; its maps are 0 to {conv.maps - 1}")
        for block in blocks(self.net, self.squares, self.hits[layer], [map_]):
            if block.units and max(block.scores) > 0:
                return block
        raise ZfnetError(f"nothing in these pictures excites map {map_} of {layer}; choose another map")

    @property
    def _pictures(self) -> str:
        return f"{self.dataset.name} {self.dataset.split} ({self.dataset.fingerprint})"

    @torch.no_grad()
    def _agrees(self, hits: Mapping[str, TopUnits]) -> bool:
        """Tell whether this network gives a unit of the atlas the score that stands there."""
        layer = list(hits)[-1]
        found = hits[layer]
        unit = found.units(int(found.score[:, 0].argmax()))[0]
        maps = self.net.trace(self.squares[[unit.image]], upto=layer)[layer].maps[0]
        score = float(found.score[unit.map, 0])
        return abs(float(maps[unit.map, unit.row, unit.column]) - score) <= AGREEING * score


def _hits(layer: dict[str, Any]) -> TopUnits:
    """Return what an atlas's manifest says of a layer as hits."""
    shape = (layer["maps"], SHOWN)
    values = {name: torch.full(shape, -1.0 if name == "score" else -1) for name in ARRAYS}
    for entry in layer["entries"]:
        map_, n = entry["map"], len(entry["scores"])
        places = torch.tensor(entry["places"]).view(n, 2)
        found = (torch.tensor(entry["scores"]), torch.tensor(entry["images"]), places[:, 0], places[:, 1])
        for name, value in zip(ARRAYS, found, strict=True):
            values[name][map_, :n] = value
    return TopUnits(layer["layer"], **values)
