"""Features and answers while pictures are moved, enlarged and turned (the arXiv version's figure, as recalled)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MultipleLocator
from PIL import Image

from .colour import require_picture
from .style import BLUE, GREEN, NORMAL, ORANGE, PURPLE, SKY, SMALL, VERMILION, Figure, FigureError

STYLES = (
    (BLUE, "-"),
    (VERMILION, "--"),
    (GREEN, "-."),
    (ORANGE, ":"),
    (PURPLE, (0, (5, 1, 1, 1, 1, 1))),
    (SKY, "-"),
)
"""Of the pictures, in turn."""
THUMB, GAP, BAR = 76, 6, 10
"""Pixels of a small picture's side, between them, and of the bar in the colour of its line."""


def sweeps(found: Sequence, ends: tuple[str, str], views: Mapping[str, Sequence[Sequence[np.ndarray]]]) -> Figure:
    """Draw for each transformation what the network sees, distances at two layers, and the class's probability.

    Args:
        found: `invariance.Sweep`s.
        ends: The lowest and the highest layer.
        views: By name of the transformation: for each picture some views, uint8 [h, w, 3].

    Raises:
        FigureError: More pictures than can be told apart.
    """
    pictures = len(found[0].filled)
    if pictures > len(STYLES):
        raise FigureError(f"{len(STYLES)} pictures can be told apart; given {pictures}")
    curves = 2 if found[0].probabilities is None else 3
    figure = Figure(0.3 + 2.45 * len(found))
    panels = figure.subplots(len(found), 1 + curves, squeeze=False, width_ratios=[0.37 * curves, *[1] * curves])
    highest = max(1.0, *(sweep.distances[layer].max() for sweep in found for layer in ends))
    for line, sweep in zip(panels, found, strict=True):
        _pictures(line[0], views[sweep.transformation.name], sweep.transformation.name)
        drawn = [(f"{layer}: distance", sweep.distances[layer], highest) for layer in ends]
        drawn += [("probability", sweep.probabilities, 1.0)][: curves - 2]
        for axes, (title, values, top) in zip(line[1:], drawn, strict=True):
            for own, (colour, style) in zip(values, STYLES, strict=False):
                axes.plot(sweep.transformation.steps, own, color=colour, linestyle=style, linewidth=1.5)
            axes.set_ylim(-0.04, 1.04 * top)
            _label(axes, title, sweep.transformation.unit)
    figure.tight_layout()
    return figure


def _pictures(axes, views: Sequence[Sequence[np.ndarray]], title: str) -> None:
    """Set the views of each picture in a row, after a bar in its colour."""
    for row, (own, (colour, style)) in enumerate(zip(views, STYLES, strict=False)):
        top = row * (THUMB + GAP)
        axes.plot([-BAR, -BAR], [top, top + THUMB], color=colour, linestyle=style, linewidth=2.4)
        for column, view in enumerate(own):
            left = column * (THUMB + GAP)
            small = Image.fromarray(require_picture(view)).resize((THUMB, THUMB), Image.Resampling.LANCZOS)
            axes.imshow(np.asarray(small), extent=(left, left + THUMB, top + THUMB, top))
    side = THUMB + GAP
    axes.set(xlim=(-2 * BAR, side * len(views[0])), ylim=(side * len(views), -GAP), aspect="equal")
    axes.set_axis_off()
    axes.set_anchor("W")
    axes.set_title(title, fontsize=NORMAL, loc="left")


def _label(axes, title: str, unit: str) -> None:
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.set_xlabel(unit, fontsize=SMALL)
    axes.tick_params(labelsize=SMALL)
    if unit == "degrees":
        axes.xaxis.set_major_locator(MultipleLocator(90))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
