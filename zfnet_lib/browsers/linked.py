"""The browser of a static page: every picture is prepared, and sliders choose among them without a kernel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ipywidgets as widgets

from .markup import block_page


def linked_browser(layers: Mapping[str, Sequence], size: int = 84) -> widgets.Widget:
    """Show layers as tabs and their maps as a slider, each with nine projections beside their patches.

    The slider is linked in the browser, so the widget works in a page that has no kernel.

    Args:
        layers: By layer: blocks with `map`, `scores`, `projections`, `patches` and `names`, as of Fig. 2.
        size: Side of each small picture in pixels.
    """
    tabs = widgets.Tab([_layer(layer, blocks, size) for layer, blocks in layers.items()])
    tabs.titles = tuple(layers)
    tabs.selected_index = len(layers) - 1
    return tabs


def _layer(layer: str, blocks: Sequence, size: int) -> widgets.Widget:
    slider = widgets.SelectionSlider(
        options=[block.map for block in blocks], description="map", layout=widgets.Layout(width="95%")
    )
    stack = widgets.Stack([widgets.HTML(block_page(layer, block, size)) for block in blocks], selected_index=0)
    widgets.jslink((slider, "index"), (stack, "selected_index"))
    return widgets.VBox([slider, stack])
