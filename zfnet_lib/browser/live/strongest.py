"""The pane of strongest units: the nine strongest of any map, over any data set at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from html import escape
from pathlib import Path
from time import monotonic

import ipywidgets as widgets
import numpy as np
import torch

from ...architecture import Unit
from ...datasets import DATASETS, DENSE, Dataset, MissingDataError, dataset_folder, open_pack, open_to_look
from ...files import PROJECT, ZfnetError, data_root
from ...network import Network
from ...strongest import ARRAYS, Squares, TopUnits, blocks, strongest
from ..atlas import MANIFEST, SHOWN, read_manifest
from ..pages import nine
from .widgets import Message, PointedPicture, button, in_a_row, labelled

ATLASES = PROJECT / "atlas"  # where `zfnet atlas` writes
AGREEING = 0.01  # share by which a score of an atlas may differ from the network's; its manifest has four digits
TILE = 112
SOME = 300  # pictures that are looked through unless one asks for more
SEARCH = "look through them"

Found = tuple[Mapping[str, TopUnits], str]  # the strongest units by layer, and where they are from


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
    if name in DATASETS and name != "photos":
        with suppress(MissingDataError):
            return open_pack(name, "val")
    return open_to_look(name, **({"density": DENSE} if name == "photos" else {}))


def read_atlas(net: Network, dataset: Dataset, place: Path) -> Found:
    """Take the strongest units from the network's atlas over these pictures, below a folder."""
    pictures = f"{dataset.name} {dataset.split} ({dataset.fingerprint})"
    wanted = {"pictures": pictures, "side": (side := net.preparation.crop)}
    problem = f"{net.name} at {side} pixels has no atlas over {dataset.name}"
    maps = {layer: net.shapes(side, side)[layer][0] for layer in net.outline}
    for folder in sorted(path.parent for path in place.rglob(MANIFEST)):
        try:
            manifest = read_manifest(folder)
        except ZfnetError as error:  # damaged, or of an older format; another one may be whole
            problem = str(error).rpartition("; ")[0]
            continue
        held = {layer["layer"]: layer["maps"] for layer in manifest["layers"]}
        if not (wanted.items() <= manifest.items() and maps.items() <= held.items()):
            continue
        found = {}
        for layer in (layer for layer in manifest["layers"] if layer["layer"] in maps):
            values = {name: torch.full((layer["maps"], SHOWN), -1.0 if name == "score" else -1) for name in ARRAYS}
            for entry in layer["entries"]:
                columns = (entry["scores"], entry["images"], *zip(*entry["places"], strict=True))
                for name, column in zip(ARRAYS, columns, strict=True):
                    values[name][entry["map"], : len(column)] = torch.tensor(column)
            found[layer["layer"]] = top = TopUnits(layer["layer"], **values)
        # A manifest holds no weights: does this network give a unit of the last layer the score that stands there?
        if not (units := top.units(int(top.score[:, 0].argmax()))):
            problem = f"the atlas {folder.name} has no unit of {top.layer} to compare"
            continue
        unit = units[0]
        given = net.trace(Squares(net, dataset)[[unit.image]], unit.layer)[unit.layer].maps[0]
        score = float(top.score[unit.map, 0])
        if abs(float(given[unit[2:]]) - score) <= AGREEING * score:
            return found, f"from the atlas {folder.name}"
        problem = f"the atlas {folder.name} is of other weights than this network's"
    repair = "look through the pictures here, or write one: zfnet atlas NETWORK --pictures PICTURES"
    raise ZfnetError(f"{problem}; {repair}")


def search(
    net: Network, dataset: Dataset, most: int = 0, report: Callable[[int, int], None] = lambda done, of: None
) -> Found:
    """Look through the pictures, or through so many of them, evenly spread."""
    n = len(dataset)
    count = min(most or n, n)
    rows, variety = np.linspace(0, n - 1, count).round().astype(int), hasattr(dataset, "windows")
    options = {"rows": rows, "variety": variety, "report": lambda done: report(done, count)}
    found = strongest(net, dataset, min(SHOWN, count), net.outline, **options)
    lost = [dataset.names[image] for image in found.left_out]
    rest = f"; {len(lost)} cannot be read: {', '.join(lost)}" if lost else ""
    return found, f"found here in {found.pictures:,} of {n:,} pictures{rest}"


class StrongestPane:
    """The strongest units of a network over a data set, once an atlas was read or a search has run."""

    def __init__(
        self, net: Callable[[], Network], pictures: str, visit: Callable[[Squares, Unit], None], notice: Message
    ):
        self.net, self.notice, self.squares, self.found, self.stopping = net, notice, None, None, False
        layers = net().outline
        offered = {"options": at_hand(), "value": pictures, "placeholder": "a data set, or folder:PATH"}
        self.pictures = labelled(widgets.Combobox, 260, description="pictures", **offered)
        self.most = labelled(widgets.BoundedIntText, 150, value=SOME, min=0, max=10**9, description="at most")
        self.atlas = button("read the atlas", lambda _: self.read_atlas())
        self.search = button(SEARCH, lambda _: self._pressed())
        self.bar = widgets.IntProgress(layout=widgets.Layout(visibility="hidden"))
        self.layer = labelled(widgets.Dropdown, options=layers, value=layers[-1], description="layer")
        self.map = labelled(widgets.BoundedIntText, 130, description="map")
        self.tile = PointedPicture(hint="point at one of the nine to read about it")
        self.show_unit = button("show it under Units", lambda _: visit(self.shown, self.unit))
        self.says = widgets.HTML()
        self.result = widgets.VBox(layout=widgets.Layout(width=f"{6 * TILE}px", max_width="100%"))

        def follow(layer: str) -> None:
            self.map.max = net().shapes()[layer][0] - 1
            self.show()

        follow(layers[-1])
        self.tile.on_point(self.point)
        self.layer.observe(lambda change: follow(change["new"]), "value")
        self.map.observe(lambda _: self.show(), "value")
        head = in_a_row(self.pictures, self.most, self.atlas, self.search, self.bar)
        self.widget = widgets.VBox([head, in_a_row(self.layer, self.map), self.result])

    def _open(self) -> None:
        name, net = self.pictures.value, self.net()
        if self.squares is None or (self.squares.dataset.name, self.squares.net) != (name, net):
            self.squares, self.found = Squares(net, pictures_named(name)), None

    def read_atlas(self) -> None:
        """Take the strongest units from the network's atlas."""
        with self.notice.errors():
            self._open()
            self.found = read_atlas(self.squares.net, self.squares.dataset, ATLASES)
            self.show()

    def look(self) -> None:
        """Look through the pictures, to the end or until one stops it."""
        drawn = monotonic()

        def report(done: int, of: int) -> None:
            nonlocal drawn
            if self.stopping:
                raise StoppedError
            if monotonic() > drawn + 0.2:
                self.bar.max, self.bar.value, drawn = of, done, monotonic()

        self.search.description, self.bar.layout.visibility, self.stopping = "stop", "visible", False
        self.bar.value = 0
        try:
            self._open()
            squares = self.squares
            found = search(squares.net, squares.dataset, self.most.value, report)
            self.squares, self.found = squares, found  # others may have been opened meanwhile
            self.show()
        except StoppedError:
            self.notice.say("Stopped; nothing of this search was kept.")
        finally:
            self.search.description, self.bar.layout.visibility = SEARCH, "hidden"

    def _pressed(self) -> None:
        if self.search.description == SEARCH:
            self.notice.beside(self.look)
        else:
            self.stopping = True

    def show(self) -> None:
        """Show the nine strongest units of the chosen map, once something is known."""
        if self.squares is None:
            return
        with self.notice.errors():
            if self.found is None:
                raise ZfnetError("nothing is known of these pictures yet; read an atlas, or look through them")
            (top, source), layer, map_ = self.found, self.layer.value, self.map.value
            block = next(blocks(self.squares.net, self.squares, top[layer], [map_]), None)
            if block is None or max(block.scores) <= 0:
                raise ZfnetError(f"nothing in these pictures excites map {map_} of {layer}; choose another map")
            self.block, self.shown = block, self.squares  # others may be opened while these are shown
            self.tile.show(*nine(block, TILE), (3, 6))
            self.says.value = escape(f"{self.shown.dataset.name}, {layer}, map {map_}: {source}.")
            self.result.children = (self.says, self.tile, self.show_unit)
            self.point(0, 0)

    def point(self, row: int, column: int) -> None:
        """Say which unit a small picture shows; its projection and its patch stand in two grids of three."""
        block, place = self.block, min(3 * row + column % 3, len(self.block.units) - 1)
        self.unit = unit = block.units[place]
        self.tile.mark_at(place // 3, column // 3 * 3 + place % 3)
        where = f"{block.names[place]}, row {unit.row}, column {unit.column}"
        self.tile.says = f"Number {place + 1}: {where}, activation {block.scores[place]:.4g}."
