"""Fig. 5: filters of first layers, projections of second layers, and their frequencies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.colors import LogNorm

from .colour import projection_image
from .filters import grid_of_filters, in_square
from .sheet import Sheet
from .style import BLUE, DPI, GREY, HEAT, NORMAL, ORANGE, PALE, SMALL, VERMILION, WIDTH, Figure, FigureError

MARGIN, SPACE, LABEL = 0.05, 0.25, 0.3
"""Inches: around the panels, between them, and for the name above each."""
EDGES = (1 / 8, 1 / 4)
"""Cycles a pixel: where the middle band begins and ends."""
DECADES = 4
"""Of energy that a spectrum's colours span."""


def layer_1(panels: Mapping[str, np.ndarray | None], title: str = "Layer 1", columns: int = 2) -> Figure:
    """Draw the filters of first layers, each layer at one contrast (Fig. 5 a-c).

    Args:
        panels: By name: weights [maps, 3, k, k]; None is drawn as not run.
        title: Of the figure.
        columns: Panels side by side.

    Raises:
        FigureError: No panels, or weights of another shape.
    """
    return _panels(panels, title, columns, grid_of_filters)


def layer_2(panels: Mapping[str, Sequence[np.ndarray] | None], title: str = "Layer 2", columns: int = 2) -> Figure:
    """Draw projections of units of second layers, each at a contrast of its own (Fig. 5 d, e).

    Args:
        panels: By name: projections [3, s, s], one a map; None is drawn as not run.
        title: Of the figure.
        columns: Panels side by side.

    Raises:
        FigureError: No panels, or projections of another shape.
    """
    return _panels(panels, title, columns, _mosaic)


def frequencies(panels: Mapping[str, tuple[np.ndarray, int] | None]) -> Figure:
    """Draw at which frequency each filter's spectrum is largest; a dot a filter.

    A line across each row marks half the frequency at which the layer's stride samples.

    Args:
        panels: By name: frequencies [maps] in cycles a pixel, and the layer's stride; None is drawn as not run.
    """
    figure = Figure(0.9 + 0.5 * len(panels))
    axes = figure.add_subplot()
    rng = np.random.default_rng(0)
    for edge in EDGES:
        axes.axvline(edge, color=PALE, linewidth=1.2, zorder=0)
    for line, found in enumerate(panels.values()):
        if found is None:
            axes.text(0.01, line, "not run", fontsize=SMALL, color=GREY, va="center")
            continue
        peaks, stride = found
        axes.plot(peaks, line + rng.uniform(-0.28, 0.28, len(peaks)), ".", color=BLUE, markersize=4, alpha=0.7)
        axes.plot([1 / (2 * stride)] * 2, [line - 0.4, line + 0.4], color=VERMILION, linewidth=1.6)
    axes.set(xlim=(-0.012, 0.72), ylim=(len(panels) - 0.5, -0.5))
    axes.set_yticks(range(len(panels)), panels, fontsize=SMALL)
    axes.set_xlabel("largest frequency of a filter, cycles a pixel", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    words = "thick line: half the frequency\nat which the stride samples"
    axes.text(0.72, len(panels) - 0.6, words, fontsize=SMALL, color=VERMILION, ha="right", va="bottom")
    for place, band in zip((0.0625, 0.1875, 0.485), ("low", "middle", "high"), strict=True):
        axes.text(place, -0.58, band, fontsize=SMALL, color=GREY, ha="center", va="bottom")
    figure.tight_layout()
    return figure


def spectra(panels: Mapping[str, tuple[np.ndarray, int] | None]) -> Figure:
    """Draw mean spectra of projections, with circles around the frequencies of layer 1's sampling grid.

    Args:
        panels: By name: energy [t, t], the frequency 0 in the middle, and the stride; None is drawn as not run.
    """
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = Figure(2.8 * lines)
    grid = figure.subplots(lines, columns, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for axes, (name, found) in zip(grid.flat, panels.items(), strict=False):
        axes.set_title(name, fontsize=NORMAL, loc="left", pad=9)  # clear of the circles
        ticks = [-0.5, -0.25, 0, 0.25, 0.5]
        axes.set(xlim=(-0.5, 0.5), ylim=(0.5, -0.5), xticks=ticks, yticks=ticks, aspect="equal")
        axes.tick_params(labelsize=SMALL)
        axes.set_xlabel("cycles a pixel", fontsize=SMALL)
        if found is None:
            axes.text(0, 0, "not run", fontsize=NORMAL, color=GREY, ha="center", va="center")
            continue
        energy, stride = found
        scale = LogNorm(energy.max() / 10**DECADES, energy.max(), clip=True)
        axes.imshow(energy, cmap=HEAT, norm=scale, extent=(-0.5, 0.5, 0.5, -0.5))
        for row, column in np.ndindex(3, 3):
            if (row, column) != (1, 1):
                place = (column - 1) / stride, (row - 1) / stride
                axes.plot(*place, "o", markersize=11, markerfacecolor="none", markeredgecolor=ORANGE, clip_on=False)
    figure.tight_layout()
    return figure


def _panels(panels: Mapping, title: str, columns: int, draw: Callable[[np.ndarray, int], np.ndarray]) -> Figure:
    """Draw panels in lines; `draw` turns what a panel shows into an array of a given width in pixels."""
    if not panels:
        raise FigureError("there is nothing to draw; give at least one panel")
    width = (WIDTH - 2 * MARGIN - (columns - 1) * SPACE) / columns
    arrays = {name: None if found is None else draw(found, int(width * DPI)) for name, found in panels.items()}
    heights = {name: 0.3 if array is None else array.shape[0] / DPI for name, array in arrays.items()}
    names = list(panels)
    lines = [names[start : start + columns] for start in range(0, len(names), columns)]
    steps = [LABEL + max(heights[name] for name in line) + SPACE / 2 for line in lines]
    sheet = Sheet(Sheet.HEAD + sum(steps), title)
    for place, line in enumerate(lines):
        y = Sheet.HEAD + sum(steps[:place])
        for column, name in enumerate(line):
            x, array = MARGIN + column * (width + SPACE), arrays[name]
            sheet.text(x, y + 0.12, name, NORMAL, across="left")
            if array is None:
                sheet.text(x, y + LABEL + 0.08, "not run", NORMAL, GREY, across="left")
            else:
                sheet.picture(array, x, y + LABEL, array.shape[1] / DPI, heights[name])
    return sheet.figure


def _mosaic(projections: Sequence[np.ndarray], width: int) -> np.ndarray:
    return in_square([projection_image(one) for one in projections], width)
