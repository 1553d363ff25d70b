"""Fig. 4: features at the moments of a training, and curves of when they settle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from .colour import require_picture
from .fig2 import resized
from .sheet import Sheet, not_run
from .style import DPI, GREY, HEAT, NORMAL, SMALL, VERMILION, WIDTH, Figure, FigureError

OF = 70
"""The paper's epochs, whose shares of a training the moments are."""
MARGIN, SPACE, LABEL, EPOCHS = 0.05, 0.25, 0.55, 0.22
"""Inches: around the maps, between columns of them, for a map's number, and for the line of epochs."""
GAP = 0.04
"""Inches between moments; a bar in it marks a change of picture."""
LARGEST = 0.84
"""Inches of a picture's side at most."""
MARKERS = "osD^vPX"


class Row(NamedTuple):
    """One map at all moments.

    Attributes:
        map: The map's number.
        pictures: uint8 [moments, s, s, 3]: its projections on grey.
        changes: Whether the strongest unit comes from another picture than at the moment before.
    """

    map: int
    pictures: np.ndarray
    changes: Sequence[bool]


def block(rows: Sequence[Row | tuple], epochs: Sequence[int], title: str, columns: int = 1) -> Figure:
    """Draw one block of Fig. 4: a row a map, from left to right the moments of the training.

    A bar in front of a projection says that the strongest unit comes from another picture than before.

    Args:
        rows: One a map; none where it was not run.
        epochs: The moments, in epochs of the paper's 70.
        title: The layer.
        columns: Maps side by side.

    Raises:
        FigureError: A row without a picture and a mark for every moment.
    """
    rows = [Row(*row) for row in rows]
    if not rows:
        return not_run(title)
    width = (WIDTH - 2 * MARGIN - (columns - 1) * SPACE) / columns
    side = min((width - LABEL) / len(epochs) - GAP, LARGEST)
    lines = -(-len(rows) // columns)
    top = Sheet.HEAD + EPOCHS
    sheet = Sheet(top + lines * (side + GAP) + 0.24, title)
    for place, row in enumerate(rows):
        line, column = place % lines, place // lines
        x, y = MARGIN + column * (width + SPACE), top + line * (side + GAP)
        if line == 0:
            _epochs(sheet, x + LABEL, side, epochs)
        _row(sheet, x, y, side, row, len(epochs))
    _key(sheet, top + lines * (side + GAP) + 0.1)
    return sheet.figure


def curves(
    epochs: Sequence[int],
    answers: Mapping[str, Sequence[float]],
    projections: Mapping[str, Sequence[float]],
    probes: Mapping[str, Sequence[float]],
) -> Figure:
    """Draw when layers settle, and what a linear classifier reads from them.

    Args:
        epochs: The moments, in epochs of the paper's 70; none where it was not run.
        answers: By layer, alignment of the answers with the last ones, 0 to 1.
        projections: By layer, mean cosine of projections with the last ones, -1 to 1.
        probes: By layer, percent of the pictures whose class a linear probe names.
    """
    if not epochs:
        return not_run("When layers settle")
    figure = Figure(3.3)
    panels = figure.subplots(1, 3)
    names = list(probes | answers)
    shades = matplotlib.colormaps[HEAT](np.linspace(0, 0.92, len(names)))
    style = {
        name: {"color": shade, "marker": marker, "markersize": 4, "linewidth": 1.4, "label": name}
        for name, shade, marker in zip(names, shades, MARKERS * 9, strict=False)
    }
    titles = (
        ("Answers settle", "alignment with the last (CKA)", answers),
        ("Projections settle", "cosine with the last", projections),
        ("Linear probes", "accuracy, %", probes),
    )
    for axes, (title, label, lines) in zip(panels, titles, strict=True):
        for name, values in lines.items():
            axes.plot(epochs, values, **style[name])
        _dress(axes, title, label, epochs)
    for axes in panels[:2]:
        axes.set_ylim(min(0, *axes.get_ylim()), 1.04)
        axes.axhline(0.9, color=GREY, linewidth=1, linestyle="--")
    figure.legend(
        *panels[2].get_legend_handles_labels(), loc="lower center", ncols=len(names), fontsize=SMALL, frameon=False
    )
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return figure


def _epochs(sheet: Sheet, x: float, side: float, epochs: Sequence[int]) -> None:
    """Write the moments above a column of maps."""
    sheet.text(x - 0.08, Sheet.HEAD + 0.08, "epoch", colour=GREY, across="right")
    for moment, epoch in enumerate(epochs):
        sheet.text(x + moment * (side + GAP) + side / 2, Sheet.HEAD + 0.08, str(epoch))


def _row(sheet: Sheet, x: float, y: float, side: float, row: Row, moments: int) -> None:
    if len(row.pictures) != moments or len(row.changes) != moments:
        raise FigureError(
            f"map {row.map} has {len(row.pictures)} pictures and {len(row.changes)} marks for {moments} moments"
        )
    sheet.text(x, y + side / 2, f"map {row.map}", across="left")
    for moment, (picture, changed) in enumerate(zip(row.pictures, row.changes, strict=True)):
        left = x + LABEL + moment * (side + GAP)
        sheet.picture(resized(require_picture(picture), round(side * DPI)), left, y, side, side)
        if changed:
            sheet.box(left - GAP + 0.005, y, GAP - 0.01, side, VERMILION, "none", level=3)


def _key(sheet: Sheet, y: float) -> None:
    sheet.box(MARGIN + 0.02, y - 0.07, GAP - 0.01, 0.14, VERMILION, "none")
    words = "the strongest unit comes from another picture than at the moment before"
    sheet.text(MARGIN + 0.12, y, words, colour=GREY, across="left")


def _dress(axes: Axes, title: str, label: str, epochs: Sequence[int]) -> None:
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.set_xlabel(f"epoch (of {OF})", fontsize=NORMAL)
    axes.set_ylabel(label, fontsize=NORMAL)
    axes.set_xscale("log")
    axes.set_xticks(epochs, _apart(epochs))
    axes.minorticks_off()
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)


def _apart(epochs: Sequence[int]) -> list[str]:
    """Return what is written at each moment; nothing where the next one is too near on the scale."""
    following = [*epochs[1:], epochs[-1] * 2]
    return [str(epoch) if after / epoch > 1.4 else "" for epoch, after in zip(epochs, following, strict=True)]
