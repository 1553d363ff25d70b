"""Figures: arrays and specs in, a matplotlib `Figure` out that Jupyter shows by itself.

Nothing here computes a network, reads or writes a file, or touches pyplot.
"""

from . import fig1, fig2, fig3, training
from .colour import projection_image, robust_maximum
from .fig2 import tile
from .filters import filters
from .style import Figure, FigureError
from .unit import unit_figure

__all__ = [
    "Figure",
    "FigureError",
    "fig1",
    "fig2",
    "fig3",
    "filters",
    "projection_image",
    "robust_maximum",
    "tile",
    "training",
    "unit_figure",
]
