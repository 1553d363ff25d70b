"""Projections put to the test: other ways to the pixels, and random weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .colour import projection_image
from .grid import picture_grid
from .style import BLUE, GREEN, GREY, NORMAL, SMALL, VERMILION, Figure

ROWS = 5
"""Units drawn; the curves rest on all."""
MEASURES = ("Spearman, absolute values", "cosine", "SSIM")
STYLES = ((BLUE, "o", "-"), (VERMILION, "s", "--"), (GREEN, "D", ":"))


def ways(
    patches: Sequence[np.ndarray], shown: Mapping[str, Sequence[np.ndarray]], names: Sequence[str], title: str
) -> Figure:
    """Set the projections of some units by several ways beside what the units see.

    Args:
        patches: uint8 [h, w, 3], one a unit.
        shown: By way: float [3, h, w], one a unit, each drawn at its own contrast.
        names: Of the units.
        title: Of the figure.
    """
    return _beside(patches, shown, names, title)


def randomisation(
    patches: Sequence[np.ndarray],
    trained: Sequence[np.ndarray],
    steps: Sequence[Sequence[str]],
    projections: Sequence[Sequence[np.ndarray]],
    names: Sequence[str],
    title: str,
) -> Figure:
    """Set projections with random weights beside those of the trained network.

    Args:
        patches: uint8 [h, w, 3], one a unit.
        trained: float [3, h, w], one a unit.
        steps: Layers that are random at each step.
        projections: One list a step, like `trained`.
        names: Of the units.
        title: Of the figure.
    """
    columns = {"trained": trained} | dict(zip(map(_step, steps), projections, strict=True))
    return _beside(patches, columns, names, title)


def curves(sweeps: Mapping[str, tuple[Sequence[Sequence[str]], Mapping[str, np.ndarray]]]) -> Figure:
    """Draw how far projections stay what they were while weights are replaced: mean and deviation over the units.

    Args:
        sweeps: By title: the steps, and by way the similarities [steps, units, 3] to the trained projection.
    """
    figure = Figure(0.5 + 2.3 * len(sweeps))
    panels = figure.subplots(len(sweeps), len(MEASURES), sharey=True, squeeze=False)
    for line, (title, (steps, similarities)) in zip(panels, sweeps.items(), strict=True):
        for number, (axes, measure) in enumerate(zip(line, MEASURES, strict=True)):
            for (way, values), style in zip(similarities.items(), STYLES, strict=False):
                _curve(axes, np.asarray(values)[:, :, number], way, style)
            axes.set_title(measure, fontsize=NORMAL, loc="left")
            axes.set_xticks(range(len(steps) + 1), ["none", *(_step(step) for step in steps)], rotation=45)
            axes.axhline(0, color=GREY, linewidth=0.8)
            axes.tick_params(labelsize=SMALL)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        line[0].set_ylabel(f"{title}:\nsimilarity", fontsize=NORMAL)
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="lower center", ncols=3, fontsize=SMALL, frameon=False)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
    return figure


def _curve(axes, values: np.ndarray, way: str, style: tuple[str, str, str]) -> None:
    """Draw the mean over the units with its deviation; before the first step a projection is like itself."""
    mean, deviation = ((part(values, axis=1), start) for part, start in ((np.mean, 1), (np.std, 0)))
    mean, deviation = (np.concatenate([[start], values]) for values, start in (mean, deviation))
    colour, marker, line = style
    axes.errorbar(
        range(len(mean)), mean, deviation, color=colour, marker=marker, linestyle=line, markersize=4, linewidth=1.4,
        elinewidth=0.8, capsize=2, label=way,
    )  # fmt: skip


def _step(layers: Sequence[str]) -> str:
    """Name the layers of a step: the one that is new, with a sign where there were others before."""
    return ("+ " if len(layers) > 1 else "") + layers[-1]


def _beside(patches, columns: Mapping[str, Sequence[np.ndarray]], names: Sequence[str], title: str) -> Figure:
    rows = [
        [patch, *(projection_image(own[place]) for own in columns.values())]
        for place, patch in enumerate(patches[:ROWS])
    ]
    return picture_grid(rows, names[:ROWS], ["what it sees", *columns], title)
