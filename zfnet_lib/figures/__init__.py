"""Figures: arrays and specs in, a matplotlib `Figure` out that Jupyter shows by itself.

Nothing here computes a network, reads or writes a file, or touches pyplot.
"""

from . import correspondence, fig1, fig2, fig3, fig4, fig5, fig6, invariance, sanity, training, verdicts
from .colour import projection_image, robust_maximum
from .fig2 import tile
from .filters import filters, grid_of_filters
from .grid import picture_grid
from .maps import grid_of_maps, heat
from .style import Figure, FigureError
from .unit import unit_figure

__all__ = [
    "Figure",
    "FigureError",
    "correspondence",
    "fig1",
    "fig2",
    "fig3",
    "fig4",
    "fig5",
    "fig6",
    "filters",
    "grid_of_filters",
    "grid_of_maps",
    "heat",
    "invariance",
    "picture_grid",
    "projection_image",
    "robust_maximum",
    "sanity",
    "tile",
    "training",
    "unit_figure",
    "verdicts",
]
