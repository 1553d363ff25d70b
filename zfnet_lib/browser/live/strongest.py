"""The pane of strongest units: the nine strongest of any map, over any data set at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from time import monotonic
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch

from ...architecture import Unit
from ...datasets import DATASETS, DENSE, Dataset, MissingDataError, dataset_folder, open_pack, open_to_look
from ...files import PROJECT, ZfnetError, data_root
from ...network import ConvNet
from ...paper.plots import tile
from ...strongest import ARRAYS, Block, Squares, TopUnits, blocks, strongest
from ..atlas import MANIFEST, SHOWN, read_manifest
from .widgets import Message, PointedPicture, beside, in_a_row, labelled

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
    """Open the pictures of a data set in which strongest units are looked for, or `folder:PATH`."""
    if name == "photos":
        return open_to_look(name, density=DENSE)
    try:
        return open_pack(name, "val") if name in DATASETS else open_to_look(name)
    except MissingDataError:
        return open_to_look(name)


class StrongestUnits:
    """The strongest units of a network over a data set, once an atlas was read or a search has run."""

    def __init__(self, net: ConvNet, dataset: Dataset):
        self.net, self.dataset = net, dataset
        self.squares = Squares(net, dataset)
        self.hits: Mapping[str, TopUnits] = {}
        self.source = ""

    def read_atlas(self, place: Path | None = None) -> None:
        """Take the strongest units from the network's atlas over these pictures."""
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
        """Look through the pictures."""
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
        """Project the strongest units of a map and cut out what caused them."""
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


TILE = 112
SOME = 300
"""Pictures that are looked through unless one asks for more."""

SEARCH = "look through them"


class StrongestPane:
    """The strongest units of a network over a data set."""

    def __init__(
        self,
        net: Callable[[], ConvNet],
        pictures: str,
        visit: Callable[[StrongestUnits, Unit], None],
        notice: Message,
    ):
        self.net, self.notice, self.nine, self.stopping = net, notice, None, False
        convs = net().spec.convs
        self.pictures = labelled(
            widgets.Combobox,
            260,
            options=at_hand(),
            value=pictures,
            description="pictures",
            placeholder="a data set, or folder:PATH",
        )
        self.most = labelled(widgets.BoundedIntText, 150, value=SOME, min=0, max=10**9, description="at most")
        self.atlas, self.search = widgets.Button(description="read the atlas"), widgets.Button(description=SEARCH)
        self.bar = widgets.IntProgress(layout=widgets.Layout(visibility="hidden"))
        layers = [conv.name for conv in convs]
        self.layer = labelled(widgets.Dropdown, options=layers, value=layers[-1], description="layer")
        self.map = labelled(widgets.BoundedIntText, 130, description="map", max=convs[-1].maps - 1)
        self.tile = PointedPicture(hint="point at one of the nine to read about it")
        self.show_unit = widgets.Button(description="show it under Units")
        self.show_unit.on_click(lambda _: visit(self.nine, self.unit))
        self.result = widgets.VBox(layout=widgets.Layout(width=f"{6 * TILE}px", max_width="100%"))
        self._listen()
        self.widget = widgets.VBox(
            [
                in_a_row(self.pictures, self.most, self.atlas, self.search, self.bar),
                in_a_row(self.layer, self.map),
                self.result,
            ]
        )

    def read_atlas(self) -> None:
        """Take the strongest units from the network's atlas."""
        with self.notice.errors():
            self._open()
            self.nine.read_atlas()
            self.show()

    def look(self) -> None:
        """Look through the pictures, to the end or until one stops it."""
        self.search.description, self.bar.layout.visibility, self.stopping = "stop", "visible", False
        self.bar.value, self.drawn = 0, monotonic()
        try:
            self._open()
            self.nine.search(self.most.value, self._moved)
            self.show()
        except StoppedError:
            self.notice.say("Stopped; nothing of this search was kept.")
        finally:
            self.search.description, self.bar.layout.visibility = SEARCH, "hidden"

    def show(self) -> None:
        """Show the nine strongest units of the chosen map, once something is known."""
        if self.nine is None:
            return
        with self.notice.errors():
            self.block: Block = self.nine.block(self.layer.value, self.map.value)
            what = f"{self.block.layer}, map {self.block.map}"
            alt = f"{what}: nine projections on grey, to the right the patches they come from"
            self.tile.show(tile(self.block.projections, self.block.patches, TILE), alt, (3, 6))
            self.result.children = (widgets.HTML(f"{what}: {escape(self.nine.source)}."), self.tile, self.show_unit)
            self.point(0, 0)

    def point(self, row: int, column: int) -> None:
        """Say which unit a small picture shows; its projection and its patch stand in two grids of three."""
        block, place = self.block, min(3 * row + column % 3, len(self.block.units) - 1)
        self.unit = block.units[place]
        self.tile.mark_at(place // 3, column // 3 * 3 + place % 3)
        self.tile.says = (
            f"Number {place + 1}: {block.names[place]}, row {self.unit.row}, column {self.unit.column}, "
            f"activation {block.scores[place]:.4g}."
        )

    def _open(self) -> None:
        name, net = self.pictures.value, self.net()
        if self.nine is None or (self.nine.dataset.name, self.nine.net) != (name, net):
            self.nine = StrongestUnits(net, pictures_named(name))

    def _moved(self, done: int, of: int) -> None:
        if self.stopping:
            raise StoppedError
        if monotonic() > self.drawn + 0.2:
            self.bar.max, self.bar.value, self.drawn = of, done, monotonic()

    def _pressed(self) -> None:
        if self.search.description == SEARCH:
            beside(self.notice, self.look)
        else:
            self.stopping = True

    def _listen(self) -> None:
        self.atlas.on_click(lambda _: self.read_atlas())
        self.search.on_click(lambda _: self._pressed())
        self.tile.on_point(self.point)
        self.layer.observe(lambda change: self._follow(change["new"]), "value")
        self.map.observe(lambda _: self.show(), "value")

    def _follow(self, layer: str) -> None:
        self.map.max = self.net().spec.conv(layer).maps - 1
        self.show()
