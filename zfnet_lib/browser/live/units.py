"""The pane of units: point at the picture, at a map or at a unit of it, and see its projection at once."""

from __future__ import annotations

from math import ceil, sqrt
from typing import NamedTuple

import ipywidgets as widgets
import numpy as np
from torch import Tensor

from ...architecture import Box, Unit
from ...deconv import deconv_units, strongest_unit
from ...files import ZfnetError
from ...images import projection_image
from ...network import Network
from ...paper.plots import grid_of_maps, heat
from ...strongest import fitted, patch, rows_first
from .widgets import SIDE, Message, PointedPicture, button, in_a_row, in_columns, labelled, small

LARGER = 224  # the paper's input size; convolutions that were trained on smaller pictures run at it too


class View(NamedTuple):
    """One unit of the picture, what it sees, and its projection (section 2.1)."""

    unit: Unit
    title: str
    activation: float
    box: Box
    patch: np.ndarray
    projection: np.ndarray


class UnitPane:
    """The units of one picture, as the layers of a network see it."""

    def __init__(self, net: Network, notice: Message, layer: str = ""):
        self.whole, self.notice, self.view = net, notice, None
        self.net = net.features()
        crop, layers = net.preparation.crop, [name for name in net.layers if name in (*net.outline, layer)]
        sides = [(f"{side} pixels", side) for side in sorted({crop, max(crop, LARGER)})]
        self.layer = labelled(widgets.Dropdown, options=layers, value=layers[-1], description="layer")
        self.map = labelled(widgets.BoundedIntText, 130, description="map")
        self.side = labelled(widgets.Dropdown, options=sides, value=crop, description="input")
        self.strongest = button("strongest map", lambda _: self.go(self.layer.value))
        self.picture = PointedPicture(hint="point at it to choose the unit that looks there")
        self.maps = PointedPicture(hint="point at a map to choose it")
        self.units = PointedPicture(hint="point at a unit to project it", crisp=True)
        self.patch, self.projection = widgets.HTML(), widgets.HTML()
        pictures = {
            "The picture": self.picture,
            "The map": self.units,
            "What the unit sees": self.patch,
            "Its projection": self.projection,
        }
        controls = in_a_row(self.layer, self.map, self.strongest, self.side)
        maps = in_columns({"All maps of the layer": self.maps}, 3 * SIDE)
        self.widget = widgets.VBox([controls, in_columns(pictures), maps])

        def choose(layer: str, map_: int | None = None) -> None:
            unit = self.view.unit
            if layer != unit.layer or map_ not in (None, unit.map):  # else the control follows what is shown
                self.go(layer, map_)

        def point(row: int, column: int) -> None:
            self.go(self.view.unit.layer, self.view.unit.map, (row, column))

        self.layer.observe(lambda change: choose(change["new"]), "value")
        self.map.observe(lambda change: choose(self.layer.value, change["new"]), "value")
        self.side.observe(lambda change: self._resize(change["new"]), "value")
        self.picture.on_point(lambda y, x: point(*self.nearest(self.layer.value, y, x)))
        self.maps.on_point(lambda row, column: choose(self.layer.value, row * self.maps.grid[1] + column))
        self.units.on_point(point)

    def show(self, picture: Tensor, name: str) -> None:
        """Take another picture, uint8 [3, h, w], and go to the strongest unit of the layer."""
        self.pixels, self.name, self.view = picture, name, None
        self._trace()
        self.go(self.layer.value)

    def _resize(self, side: int) -> None:
        """Look at the same picture and map at another size, if the network takes it."""
        if side == self.net.preparation.crop:
            return
        with self.notice.errors():
            net = self.whole.features(side=side)
            try:
                net.shapes(side, side)
            except ZfnetError:
                self.side.value = self.net.preparation.crop
                raise
            self.net, before, self.view = net, self.view, None
            if before:
                self._trace()
                self.go(before.unit.layer, before.unit.map)

    def _trace(self) -> None:
        self.x = self.net.prepare([self.pixels])
        self.trace = self.net.trace(self.x, keep=self.layer.options)
        self.seen = rows_first(self.net.preparation.visible(self.x)[0])

    def look(self, layer: str, map_: int | None = None, place: tuple[int, int] | None = None) -> View:
        """Return a unit of the picture: by default the strongest of its map, and the map that is strongest."""
        maps = self.trace[layer].maps[0]
        if map_ is not None and not 0 <= map_ < len(maps):
            raise ZfnetError(f"{layer} has no map {map_}; its maps are 0 to {len(maps) - 1}")
        map_, *strongest = strongest_unit(maps, map_)
        unit = Unit(0, layer, map_, *(place or strongest))
        shown = deconv_units(self.net, self.x, [unit])
        pixels, window = fitted(shown.projections[0].cpu(), shown.boxes[0], self.x.shape[-1])
        title = f"{layer}, map {map_}, row {unit.row}, column {unit.column}"
        activation, seen = float(maps[unit[2:]]), self.net.preparation.visible(self.x)[0]
        return View(unit, title, activation, shown.boxes[0], patch(seen, window), pixels.numpy())

    def nearest(self, layer: str, y: float, x: float) -> tuple[int, int]:
        """Return row and column of the unit whose receptive field is centred nearest to a pixel."""
        place, sides = [], self.x.shape[-2:]
        fields, counts = self.net.fields(layer, *sides), self.trace[layer].maps.shape[-2:]
        for at, field, count, side in zip((y, x), fields, counts, sides, strict=True):
            middle = field.offset + (field.size - 1) / 2
            # Units that all see the whole picture lie on it as on their map.
            nearest = round((at - middle) / field.stride) if field.stride else int(at * count / side)
            place.append(min(max(nearest, 0), count - 1))
        return place[0], place[1]

    def go(self, layer: str, map_: int | None = None, place: tuple[int, int] | None = None) -> None:
        """Show a unit, chosen as by `look`, and draw what has changed since the one before."""
        with self.notice.errors():
            view = self.look(layer, map_, place)
            unit, before, self.view = view.unit, self.view and self.view.unit, view
            self.layer.value = layer
            with self.map.hold_trait_notifications():
                self.map.max, self.map.value = len(self.trace[layer].maps[0]) - 1, unit.map
            maps = self.trace[layer].maps[0].cpu().numpy()
            if not before:
                side = len(self.seen)
                self.picture.show(self.seen, f"{self.name}, as the network sees it", (side, side))
            if not before or before.layer != layer:
                columns = ceil(sqrt(len(maps)))
                shape = (ceil(len(maps) / columns), columns)
                self.maps.show(grid_of_maps(maps, 6 * SIDE), f"the {len(maps)} maps of {layer}", shape)
                self.maps.says = f"{len(maps)} maps, bright where they are active; point at one."
            if not before or before[1:3] != unit[1:3]:
                self.units.show(heat(maps[unit.map]), f"{layer}, map {unit.map}", maps.shape[1:])

            side, frames = len(self.seen), []
            fields = self.net.fields(layer, side, side)
            for first, field, place, count in zip(view.box[:2], fields, unit[3:], maps.shape[1:], strict=True):
                # Of units that see the whole picture, the frame is their place on the map.
                frames.append((first, field.size) if field.stride else (place * side / count, side / count))
            (top, height), (left, width) = frames
            self.picture.mark = [-height / 2, -width / 2, height, width]
            self.picture.step = fields[0].stride or ceil(side / maps.shape[1])
            self.picture.mark_at(top + height / 2, left + width / 2)
            frame = f"The frame is the unit's field, {width} pixels wide; point elsewhere to move it."
            whole = "Every unit here sees the whole picture; the frame is its place on the map."
            self.picture.says = frame if all(field.stride for field in fields) else whole
            self.maps.mark_at(*divmod(unit.map, self.maps.grid[1]))
            self.units.mark_at(unit.row, unit.column)
            self.units.says = f"{view.title}: activation {view.activation:.4g}. Point at another unit."
            self.patch.value = small(view.patch, f"the piece of the picture that {view.title} looks at")
            self.projection.value = small(projection_image(view.projection), f"the projection of {view.title}")
