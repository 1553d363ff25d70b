"""Learning curves, and errors against depth and width (Table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from matplotlib.ticker import MaxNLocator

from .style import BLUE, GREEN, GREY, NORMAL, ORANGE, PURPLE, SMALL, VERMILION, Figure

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE)
MARKERS = "osD^v"


def curves(trainings: Mapping[str, Sequence[Mapping]], classes: int) -> Figure:
    """Draw the training loss, the validation error and the largest filter RMS of layer 1 over the epochs.

    Args:
        classes: A network that has learnt nothing has the loss ln(classes).
        trainings: By name: the epochs as dicts of `EpochResult`'s fields. One without epochs is left out.
    """
    trainings = {name: epochs for name, epochs in trainings.items() if epochs}
    figure = Figure(3.1)
    panels = left, middle, right = figure.subplots(1, 3)
    for (name, epochs), colour, marker in zip(trainings.items(), COLOURS, MARKERS, strict=False):
        x = [epoch["epoch"] for epoch in epochs]
        style = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.4, "label": name}
        left.plot(x, [epoch["loss"] for epoch in epochs], **style)
        middle.plot(x, [epoch["top1"] for epoch in epochs], **style)
        right.plot(x, [next(iter(epoch["rms"].values()))[1] for epoch in epochs], **style)
    _mark(left, log(classes), f"ln({classes})")
    _mark(right, 0.1, "radius 0.1")
    for axes in panels:
        axes.margins(y=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _label(left, "Training loss", "epoch", "cross entropy, nats")
    _label(middle, "Validation error", "epoch", "top-1 error, %")
    _label(right, "Largest filter of layer 1", "epoch", "root mean square")
    if trainings:
        names = left.get_legend_handles_labels()
        legend = figure.legend(*names, loc="lower center", ncols=3, fontsize=SMALL, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)  # names may hold dollars
    else:
        left.text(0.5, 0.5, "not run", transform=left.transAxes, ha="center", fontsize=NORMAL, color=GREY)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
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
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[1].set_xscale("log")
    panels[0].legend(fontsize=SMALL, frameon=False)
    figure.tight_layout()
    return figure


def _mark(axes, level: float, name: str) -> None:
    """Draw a dashed line across and name it."""
    axes.axhline(level, color=GREY, linewidth=1, linestyle="--")
    place = (0.02, level), (0, 3)
    axes.annotate(name, *place, ("axes fraction", "data"), textcoords="offset points", fontsize=SMALL, color=GREY)


def _label(axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.set_xlabel(x, fontsize=NORMAL)
    axes.set_ylabel(y, fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)
