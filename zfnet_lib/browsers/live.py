"""The live browser of JupyterLab: choose picture, layer and map, and see patch and projection at once."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import ipywidgets as widgets
import numpy as np
import torch

from ..deconv import Unit, deconv
from ..figures import projection_image
from ..network import ConvNet, Trace
from ..paths import ZfnetError
from ..receptive import Box, receptive_field
from .markup import picture_tag


@dataclass(frozen=True)
class View:
    """What the live browser shows of one unit.

    Attributes:
        unit: The map's strongest unit in the picture.
        activation: Its value.
        box: Its receptive field.
        picture, projection: uint8 [H, W, 3], the whole picture and the whole projection.
    """

    unit: Unit
    activation: float
    box: Box
    picture: np.ndarray
    projection: np.ndarray


class Explorer:
    """The state of the live browser, without widgets: one picture at a time, traced once.

    Args:
        net: Any network.
        dataset: Pictures to choose from.
    """

    def __init__(self, net: ConvNet, dataset):
        self.net, self.dataset = net, dataset
        self.layers = {conv.name: conv.maps for conv in net.spec.convs}
        self.choose(0)

    def choose(self, picture: int) -> None:
        """Trace another picture of the data set.

        Raises:
            ZfnetError: There is no such picture.
        """
        if not 0 <= picture < len(self.dataset):
            raise ZfnetError(f"{self.dataset.name} has no picture {picture}; it has {len(self.dataset)}")
        self.picture = picture
        x = self.net.prepare([self.dataset[picture].picture])
        with torch.no_grad():
            self.trace: Trace = self.net.trace(x)
        self.seen = self.net.preparation.visible(x)[0].permute(1, 2, 0).contiguous().numpy()

    def strongest_map(self, layer: str) -> int:
        """Return the map of a layer with the largest activation in the picture."""
        return int(self.trace[layer].maps[0].flatten(1).amax(1).argmax())

    def view(self, layer: str, map_: int) -> View:
        """Project the strongest unit of a map.

        Raises:
            ZfnetError: No such layer or map.
        """
        maps = self.trace[self.net.spec.conv(layer).name].maps[0]
        if not 0 <= map_ < len(maps):
            raise ZfnetError(f"{layer} has no map {map_}; its maps are 0 to {len(maps) - 1}")
        row, column = divmod(int(maps[map_].argmax()), maps.shape[2])
        box = receptive_field(self.net.spec, layer).box(row, column)
        pixels = deconv(self.trace, layer, (map_, row, column))[0].numpy()
        unit = Unit(self.picture, layer, map_, row, column)
        return View(unit, float(maps[map_, row, column]), box, self.seen, projection_image(pixels))


def live_browser(net: ConvNet, dataset) -> widgets.Widget:
    """Return the widget: menus for picture and layer, a slider for the map, picture and projection below.

    Args:
        net: Any network.
        dataset: Pictures to choose from.
    """
    explorer = Explorer(net, dataset)
    names = [(dataset.sample(i).name or str(i), i) for i in range(len(dataset))]
    picture = widgets.Dropdown(options=names, description="picture")
    layer = widgets.Dropdown(options=list(explorer.layers), value=list(explorer.layers)[-1], description="layer")
    map_ = widgets.IntSlider(description="map", continuous_update=False, layout=widgets.Layout(width="60%"))
    shown = widgets.HTML()

    def draw(_=None) -> None:
        shown.value = _markup(explorer.view(layer.value, map_.value))

    def follow(_=None) -> None:
        """Go to the strongest map of the chosen picture and layer."""
        explorer.choose(picture.value)
        with map_.hold_trait_notifications():
            map_.max = explorer.layers[layer.value] - 1
            map_.value = explorer.strongest_map(layer.value)
        draw()

    picture.observe(follow, "value")
    layer.observe(follow, "value")
    map_.observe(draw, "value")
    follow()
    return widgets.VBox([widgets.HBox([picture, layer]), map_, shown])


def _markup(view: View) -> str:
    unit = view.unit
    text = f"{unit.layer}, map {unit.map}, row {unit.row}, column {unit.column}: activation {view.activation:.4g}"
    pictures = [
        picture_tag(_outlined(view.picture, view.box), "the picture, the receptive field outlined", "48%"),
        picture_tag(view.projection, f"projection of {text}", "48%"),
    ]
    return f"<p>{escape(text)}</p>" + " ".join(pictures)


def _outlined(picture: np.ndarray, box: Box) -> np.ndarray:
    """Return the picture with a white and black line around the receptive field."""
    framed = picture.copy()
    top, left, bottom, right = box.clipped(*picture.shape[:2])
    for line, value in ((0, 255), (1, 0)):
        window = framed[top + line : bottom - line, left + line : right - line]
        window[[0, -1], :] = value
        window[:, [0, -1]] = value
    return framed
