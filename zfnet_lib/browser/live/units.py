"""The pane of units: point at the picture, at a map or at a unit of it, and see its projection at once."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from ...architecture import Box, Unit, receptive_field
from ...deconv import deconv_units
from ...files import ZfnetError
from ...images import projection_image
from ...network import ConvNet
from ...paper.plots import grid_of_maps, heat
from ...strongest import fitted, patch, rows_first
from .widgets import SIDE, Message, PointedPicture, column, in_a_row, in_columns, labelled, shown


@dataclass(frozen=True)
class View:
    """One unit of the picture."""

    unit: Unit
    activation: float
    box: Box
    patch: np.ndarray
    projection: np.ndarray

    @property
    def title(self) -> str:
        """The unit in words."""
        unit = self.unit
        return f"{unit.layer}, map {unit.map}, row {unit.row}, column {unit.column}"

    def __str__(self) -> str:
        return f"{self.title}: activation {self.activation:.4g}"


class Explorer:
    """One picture at a time, as the convolutions of a network see it, and every unit in it."""

    def __init__(self, net: ConvNet, side: int = 0):
        self.net = net.features(side=side)
        self.layers = {conv.name: conv.maps for conv in self.net.spec.convs}

    @torch.no_grad()
    def show(self, picture: Tensor) -> None:
        """Trace another picture, uint8 [3, h, w]."""
        self.x = self.net.prepare([picture])
        self.trace = self.net.trace(self.x)
        self.picture = self.net.preparation.visible(self.x)[0]
        self.seen = rows_first(self.picture)

    def maps(self, layer: str) -> np.ndarray:
        """Return a layer's rectified maps [maps, h, w]."""
        return self.trace[self.net.spec.conv(layer).name].maps[0].cpu().numpy()

    def strongest_map(self, layer: str) -> int:
        """Return the map of a layer with the largest activation in the picture."""
        return int(self.maps(layer).max((1, 2)).argmax())

    def strongest_unit(self, layer: str, map_: int) -> tuple[int, int]:
        """Return row and column of a map's largest activation; of equal ones the first."""
        values = self._map(layer, map_)
        row, column = divmod(int(values.argmax()), values.shape[1])
        return row, column

    def nearest(self, layer: str, y: float, x: float) -> tuple[int, int]:
        """Return row and column of the units whose receptive fields are centred nearest to a pixel."""
        field = receptive_field(self.net.spec, layer)
        middle = field.offset + (field.size - 1) / 2
        last = self.maps(layer).shape[-1] - 1
        row, column = (min(max(round((at - middle) / field.stride), 0), last) for at in (y, x))
        return row, column

    def view(self, layer: str, map_: int, row: int, column: int) -> View:
        """Project a unit (section 2.1)."""
        values = self._map(layer, map_)
        unit = Unit(0, layer, map_, row, column)
        shown = deconv_units(self.net, self.x, [unit])
        pixels, window = fitted(shown.projections[0].cpu(), shown.boxes[0], self.x.shape[-1])
        activation = float(values[row, column])
        return View(unit, activation, shown.boxes[0], patch(self.picture, window), pixels.numpy())

    def _map(self, layer: str, map_: int) -> np.ndarray:
        maps = self.maps(layer)
        if not 0 <= map_ < len(maps):
            raise ZfnetError(f"{layer} has no map {map_}; its maps are 0 to {len(maps) - 1}")
        return maps[map_]


LARGER = 224
"""The paper's input size; convolutions that were trained on smaller pictures run at it too."""


class UnitPane:
    """The units of one picture."""

    def __init__(self, net: ConvNet, notice: Message):
        self.net, self.notice, self.view = net, notice, None
        self.explorer = Explorer(net)
        crop, layers = net.preparation.crop, list(self.explorer.layers)
        sides = [(f"{side} pixels", side) for side in sorted({crop, max(crop, LARGER)})]
        self.layer = labelled(widgets.Dropdown, options=layers, value=layers[-1], description="layer")
        self.map = labelled(widgets.BoundedIntText, 130, description="map")
        self.side = labelled(widgets.Dropdown, options=sides, value=crop, description="input")
        self.strongest = widgets.Button(description="strongest map")
        self.picture = PointedPicture(hint="point at it to choose the unit that looks there")
        self.maps = PointedPicture(hint="point at a map to choose it")
        self.units = PointedPicture(hint="point at a unit to project it", crisp=True)
        self.patch, self.projection = widgets.HTML(), widgets.HTML()
        self._listen()
        controls = in_a_row(self.layer, self.map, self.strongest, self.side)
        pictures = in_columns(
            column(self.picture, title="The picture"),
            column(self.maps, title="All maps of the layer"),
            column(self.units, title="The map"),
            column(self.patch, title="What the unit sees"),
            column(self.projection, title="Its projection"),
        )
        self.widget = widgets.VBox([controls, pictures])

    def enlarge(self) -> None:
        """Look at the larger of the sizes from now on: at pictures that have the pixels for it."""
        self.side.value = max(side for _, side in self.side.options)

    def show(self, picture: Tensor, name: str) -> None:
        """Take another picture, uint8 [3, h, w], and go to the strongest unit of the layer."""
        self.pixels, self.name, self.view = picture, name, None
        self.explorer.show(picture)
        self.go(self.layer.value)

    def go(self, layer: str, map_: int | None = None, place: tuple[int, int] | None = None) -> None:
        """Project a unit: by default the strongest of its map, and the map that is strongest in the picture."""
        with self.notice.errors():
            map_ = self.explorer.strongest_map(layer) if map_ is None else map_
            row, column = place or self.explorer.strongest_unit(layer, map_)
            view = self.explorer.view(layer, map_, row, column)
            before, self.view = self.view, view
            self.layer.value = layer
            with self.map.hold_trait_notifications():
                self.map.max, self.map.value = self.explorer.layers[layer] - 1, map_
            self._draw(before)

    def _listen(self) -> None:
        self.layer.observe(lambda change: self._chosen(change["new"], None), "value")
        self.map.observe(lambda change: self._chosen(self.layer.value, change["new"]), "value")
        self.side.observe(lambda change: self._resize(change["new"]), "value")
        self.strongest.on_click(lambda _: self.go(self.layer.value))
        self.picture.on_point(lambda y, x: self._go_to(*self.explorer.nearest(self.layer.value, y, x)))
        self.maps.on_point(lambda row, column: self._chosen(self.layer.value, row * self.maps.grid[1] + column))
        self.units.on_point(self._go_to)

    def _chosen(self, layer: str, map_: int | None) -> None:
        """Follow the controls, unless they were set to what is shown already."""
        unit = self.view.unit
        if layer != unit.layer or map_ not in (None, unit.map):
            self.go(layer, map_)

    def _go_to(self, row: int, column: int) -> None:
        self.go(self.view.unit.layer, self.view.unit.map, (row, column))

    def _resize(self, side: int) -> None:
        """Look at the same picture and map at another size."""
        before, self.view = self.view, None
        self.explorer = Explorer(self.net, side)
        if before:
            self.explorer.show(self.pixels)
            self.go(before.unit.layer, before.unit.map)

    def _draw(self, before: View | None) -> None:
        """Draw what has changed since the view before."""
        unit, maps = self.view.unit, self.explorer.maps(self.view.unit.layer)
        old = before.unit if before else None
        if not old:
            side = len(self.explorer.seen)
            self.picture.show(self.explorer.seen, f"{self.name}, as the network sees it", (side, side))
        if not old or old.layer != unit.layer:
            columns = ceil(sqrt(len(maps)))
            grid = (ceil(len(maps) / columns), columns)
            self.maps.show(grid_of_maps(maps, 2 * SIDE), f"the {len(maps)} maps of {unit.layer}", grid)
            self.maps.says = f"{len(maps)} maps, bright where they are active; point at one."
        if not old or (old.layer, old.map) != (unit.layer, unit.map):
            self.units.show(heat(maps[unit.map]), f"{unit.layer}, map {unit.map}", maps.shape[1:])
        self._draw_unit()

    def _draw_unit(self) -> None:
        view, unit = self.view, self.view.unit
        field = receptive_field(self.explorer.net.spec, unit.layer)
        half = field.size / 2
        self.picture.mark, self.picture.step = [-half, -half, field.size, field.size], field.stride
        self.picture.mark_at(view.box.top + half, view.box.left + half)
        self.picture.says = f"The frame is the unit's field, {field.size} pixels wide; point elsewhere to move it."
        self.maps.mark_at(*divmod(unit.map, self.maps.grid[1]))
        self.units.mark_at(unit.row, unit.column)
        self.units.says = f"{view}. Point at another unit."
        self.patch.value = shown(view.patch, f"the piece of the picture that {view.title} looks at")
        self.projection.value = shown(projection_image(view.projection), f"the projection of {view.title}")
