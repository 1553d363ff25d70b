"""Learning curves, the filters of layer 1, and errors against depth and width (Table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from .style import BLUE, GREEN, GREY, NORMAL, ORANGE, PURPLE, SMALL, TITLE, VERMILION, Figure, FigureError

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
MARKERS = "osD^v"


def curves(trainings: Mapping[str, Sequence[Mapping]]) -> Figure:
    """Draw the validation error and the largest filter RMS of layer 1 over the epochs.

    Args:
        trainings: By name: the epochs as dicts of `EpochResult`'s fields.

    Raises:
        FigureError: There is no epoch at all.
    """
    trainings = {name: epochs for name, epochs in trainings.items() if epochs}
    if not trainings:
        raise FigureError(
            "there is no training to draw; run one, for example: zfnet train zfnet --data … --recipe …"
        )
    figure = Figure(3.1)
    left, right = figure.subplots(1, 2)
    for (name, epochs), colour, marker in zip(trainings.items(), COLOURS, MARKERS, strict=False):
        x = [epoch["epoch"] for epoch in epochs]
        style = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.4, "label": name}
        left.plot(x, [epoch["top1"] for epoch in epochs], **style)
        right.plot(x, [next(iter(epoch["rms"].values()))[1] for epoch in epochs], **style)
    right.axhline(0.1, color=GREY, linewidth=1, linestyle="--")
    right.annotate("radius 0.1", (1, 0.1), (2, 3), textcoords="offset points", fontsize=SMALL, color=GREY)
    right.set_yscale("log")
    _label(left, "Validation error", "epoch", "top-1 error, %")
    _label(right, "Largest filter of layer 1", "epoch", "root mean square")
    left.legend(fontsize=SMALL, frameon=False)
    figure.tight_layout()
    return figure


def filters(weights: np.ndarray, title: str, columns: int = 16) -> Figure:
    """Draw first-layer filters on grey, all on one scale, so that a dominating one shows (Fig. 5a).

    Args:
        weights: [maps, 3, k, k].
        title: Above them.
        columns: Filters side by side.
    """
    count, _, side, _ = weights.shape
    rows, cell = -(-count // columns), side + 1
    sheet = np.ones((rows * cell + 1, columns * cell + 1, 3))
    scale = np.abs(weights).max() or 1
    for number, weight in enumerate(weights):
        top, left = (1 + n * cell for n in divmod(number, columns))
        sheet[top : top + side, left : left + side] = 0.5 + weight.transpose(1, 2, 0) / scale / 2
    figure = Figure(0.35 + 7.1 * sheet.shape[0] / sheet.shape[1])
    axes = figure.subplots()
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title, fontsize=TITLE, loc="left")
    figure.tight_layout(pad=0.3)
    return figure


def depth_and_width(points: Sequence[Mapping]) -> Figure:
    """Draw validation errors of Table 2's networks against their layers and their parameters.

    Args:
        points: Dicts of name, layers, parameters, paper and ours (percent, or None).
    """
    figure = Figure(3.4)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, key, label in zip(
        panels, ("layers", "parameters"), ("layers with weights", "parameters"), strict=True
    ):
        for who, colour, marker in (("paper", BLUE, "o"), ("ours", VERMILION, "D")):
            known = [point for point in points if point[who] is not None]
            places = [point[key] for point in known], [point[who] for point in known]
            axes.plot(*places, marker, color=colour, markersize=5, label=who, alpha=0.8)
        _label(axes, "", label, "validation top-1 error, %" if axes is panels[0] else "")
    panels[1].set_xscale("log")
    panels[0].legend(fontsize=SMALL, frameon=False)
    figure.tight_layout()
    return figure


def _label(axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.set_xlabel(x, fontsize=NORMAL)
    axes.set_ylabel(y, fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
