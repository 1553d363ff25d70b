"""How trainings go on, epoch by epoch: with and without renormalisation, and in half the bits (section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from ..datasets import DATASETS
from .plots import BLUE, GREEN, GREY, NORMAL, ORANGE, PURPLE, SMALL, VERMILION, Figure, legend, plain
from .records import Table
from .setting import DATA, at_hand, training_of
from .trainings import Training, performed, read_epochs, trained

SHOWN = {
    "zfnet": ("zfnet", "all"),
    "krizhevsky": ("krizhevsky", "all"),
    "zfnet, not renormalised": ("zfnet", "none"),
}
"""The trainings whose curves are shown: network, and which filters are renormalised."""


class Curves(NamedTuple):
    """Trainings epoch by epoch."""

    epochs: dict[str, list[dict]]  # as `training.EpochResult`; none where it was not run
    filters: dict[str, np.ndarray]  # where the weights are at hand: the first layer's [maps, 3, k, k]
    classes: int
    plateaus: Table  # when each left ln(classes)


def training(profile: str) -> Curves:
    """Return the learning curves of Fig. 3's network, of Krizhevsky's, and without renormalisation (Fig. 5a)."""
    runs = {title: performed(training_of(profile, name, clip=clip)) for title, (name, clip) in SHOWN.items()}
    epochs, nets = ({title: what(run) for title, run in runs.items()} for what in (epochs_of, at_hand))
    filters = {title: net.conv1.weight.detach().cpu().numpy() for title, net in nets.items() if net}
    left = {title: lines[-1]["plateau_left"] if lines else "not run" for title, lines in epochs.items()}
    rows = [{"training": title, "left": update} for title, update in left.items()]
    plateaus = Table({"training": "Training", "left": "Left the plateau at update"}, rows)
    return Curves(epochs, filters, DATASETS[DATA[profile]].classes, plateaus)


def epochs_of(run: Training) -> list[dict]:
    """Return a training's epochs from its record; in `smoke` it is performed on the spot."""
    if run.recipe.name == "smoke":
        trained(run)
    return [line["epoch"] for line in read_epochs(run.epochs_file)]


def precisions(profile: str) -> Table:
    """Compare a training in bfloat16 with the same one in float32, epoch by epoch, as far as both went."""
    kinds, run = ("bfloat16", "float32"), training_of(profile, "zfnet")
    runs = [replace(run, recipe=replace(run.recipe, precision=kind)) for kind in kinds]
    titles = {"loss": "training loss", "top1": "top-1 error, %", "plateau_left": "left the plateau at"}
    rows = [
        {"epoch": pair[0]["epoch"]}
        | {f"{kind} {key}": epoch[key] for kind, epoch in zip(kinds, pair, strict=True) for key in titles}
        for pair in zip(*map(epochs_of, runs), strict=False)
    ]
    if not rows:
        return Table({"command": "Not run"}, [{"command": f"`{runs[1].command}`"}])
    columns = {f"{kind} {key}": f"{kind}, {title}" for key, title in titles.items() for kind in kinds}
    return Table({"epoch": "Epoch"} | columns, rows)


def curves(trainings: Mapping[str, Sequence[Mapping]], classes: int) -> Figure:
    """Draw the training loss, the validation error and the largest filter RMS of layer 1 over the epochs."""
    trainings = {name: epochs for name, epochs in trainings.items() if epochs}
    figure = Figure(3.1)
    panels = left, middle, right = figure.subplots(1, 3)
    looks = zip((BLUE, VERMILION, GREEN, PURPLE, ORANGE), "osD^v", strict=True)
    for (name, epochs), (colour, marker) in zip(trainings.items(), looks, strict=False):
        x = [epoch["epoch"] for epoch in epochs]
        style = {"color": colour, "marker": marker, "markersize": 3.5, "linewidth": 1.4, "label": name}
        left.plot(x, [epoch["loss"] for epoch in epochs], **style)
        middle.plot(x, [epoch["top1"] for epoch in epochs], **style)
        right.plot(x, [next(iter(epoch["rms"].values()))[1] for epoch in epochs], **style)
    at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "fontsize": SMALL, "color": GREY}
    # filters end at the radius, or above it; a network that has learnt nothing has the loss ln(classes)
    line = {"color": GREY, "linewidth": 1, "linestyle": "--"}
    right.annotate("radius 0.1", (0.98, 0.1), (0, -5), ha="right", va="top", **at)
    right.axhline(0.1, **line)
    if classes:  # 0 where a record does not say how many
        left.annotate(f"ln({classes})", (0.02, log(classes)), (0, 3), **at)
        left.axhline(log(classes), **line)
    titles = {"Training loss": "cross entropy, nats", "Validation error": "top-1 error, %"}
    titles["Largest filter of layer 1"] = "root mean square"
    for axes, (title, y) in zip(panels, titles.items(), strict=True):
        axes.margins(y=0.15)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain(axes, title, "epoch", y)
    if trainings:
        legend(figure, left, 3)
    else:
        left.text(0.5, 0.5, "not run", transform=left.transAxes, ha="center", fontsize=NORMAL, color=GREY)
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return figure
