"""What the pane of units shows, without widgets: one picture, traced once, and any unit of it projected."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...architecture import Box, Unit, receptive_field
from ...deconv import deconv_units
from ...files import ZfnetError
from ...network import ConvNet
from ...strongest import fitted, patch, rows_first


@dataclass(frozen=True)
class View:
    """One unit of the picture.

    Attributes:
        unit: Which; its `image` is 0.
        activation: Its value.
        box: Its receptive field in the picture; near the border it reaches over the edge.
        patch: uint8 [s, s, 3], the picture in that field, or all of it where the field is larger.
        projection: float [3, s, s], of the same window.
    """

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
    """One picture at a time, as the convolutions of a network see it, and every unit in it.

    Args:
        net: Any network; only its convolutional layers are used.
        side: Side of the input in pixels; 0 takes the network's own.

    Attributes:
        layers: How many maps each layer has, from the picture upwards.
        seen: uint8 [side, side, 3], the picture as the network sees it, once there is one.
    """

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
        """Return a layer's rectified maps [maps, h, w].

        Raises:
            SpecError: No such layer, or one without maps.
        """
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
        """Project a unit (section 2.1).

        Raises:
            ZfnetError: No such layer, map or unit.
        """
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
