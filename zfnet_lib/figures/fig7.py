"""Fig. 7: accuracy against the number of training pictures a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import fill

from .style import BLUE, GREEN, GREY, NORMAL, ORANGE, PURPLE, SMALL, VERMILION, Figure, FigureError

COLOURS, MARKERS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE), "osD^v"


@dataclass(frozen=True)
class Curve:
    """One way to classify.

    Attributes:
        name: Of it.
        points: Training pictures a class, accuracy in percent, and its spread or None.
    """

    name: str
    points: Sequence[tuple[int, float, float | None]]


def few_shot(curves: Sequence[Curve], printed: Mapping[str, Mapping[int, float | None]], data: str) -> Figure:
    """Draw ours beside what the paper prints for Caltech-256 (Fig. 7).

    Args:
        curves: Ours, the pre-trained network first.
        printed: The paper's accuracies by number of training pictures, by method.
        data: What ours were measured on.

    Raises:
        FigureError: There is nothing to draw.
    """
    if not curves:
        raise FigureError("Fig. 7 needs at least one curve")
    figure = Figure(3.9)
    ours, theirs = figure.subplots(1, 2, sharey=True)
    for curve, colour, marker in zip(curves, COLOURS, MARKERS, strict=False):
        each, values, spreads = zip(*curve.points, strict=True)
        bars = [spread or 0 for spread in spreads]
        style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4, "capsize": 2}
        ours.errorbar(each, values, bars, label=curve.name.replace("`", ""), **style)
    for (name, points), marker in zip(printed.items(), "sDvo", strict=False):
        known = {each: value for each, value in points.items() if value is not None}
        theirs.plot(*zip(*known.items(), strict=True), color=GREY, marker=marker, markersize=4, label=name)
    for axes, title in ((ours, f"Ours: {data}"), (theirs, "The paper, Caltech-256 (Table 4)")):
        axes.set_title(fill(title, 40), fontsize=NORMAL, loc="left")
        axes.set_xlabel("training pictures a class", fontsize=NORMAL)
        axes.tick_params(labelsize=SMALL)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.4, alpha=0.5)
        axes.set_xlim(0, 63)
        axes.legend(fontsize=SMALL, framealpha=1, edgecolor="none")
    ours.set_ylabel("accuracy, mean over classes, %", fontsize=NORMAL)
    ours.set_ylim(0)
    figure.tight_layout()
    return figure
