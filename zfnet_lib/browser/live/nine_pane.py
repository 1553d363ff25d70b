"""The pane of strongest units: the nine strongest of any map, over any data set at hand."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from time import monotonic

import ipywidgets as widgets

from ...architecture import Unit
from ...network import ConvNet
from ...paper.plots import tile
from ...strongest import Block
from .nine import Nine, StoppedError, at_hand, pictures_named
from .pad import Pad
from .parts import Notice, beside, in_a_row, labelled

TILE = 112
SOME = 300
"""Pictures that are looked through unless one asks for more."""

SEARCH = "look through them"


class NinePane:
    """The strongest units of a network over a data set.

    Args:
        net: Returns the convolutions, at the input size that the other panes look at.
        pictures: The data set that is chosen at first.
        visit: Called with the state and a unit that one wants to see in its picture.
        notice: For what goes wrong.

    Attributes:
        nine: The state; None until a data set was opened.
    """

    def __init__(
        self, net: Callable[[], ConvNet], pictures: str, visit: Callable[[Nine, Unit], None], notice: Notice
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
        self.tile = Pad(hint="point at one of the nine to read about it")
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
            self.nine = Nine(net, pictures_named(name))

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
