"""Fig. 7: accuracy against the number of training pictures a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import mean, stdev
from textwrap import fill
from typing import NamedTuple

from ..datasets import DATASETS
from ..images import FigureError
from .plots import BLUE, GREEN, GREY, INK, ORANGE, PURPLE, SMALL, VERMILION, Figure, plain
from .records import Sentence, contents
from .setting import profile_of
from .table3_4_6 import CURVE, PLACE, SOURCES, accuracy, best_trial, notes, scratch, transferred


class FewShot(NamedTuple):
    """Our curves by name, the paper's points by method, our data set, what came out, and what it rests on."""

    curves: dict[str, list[tuple[int, float, float | None]]]  # pictures a class, accuracy in percent, its spread
    printed: dict[str, dict[int, float]]
    data: str
    verdict: Sentence
    notes: Sentence


def fig7(profile: str, live: bool = False) -> FewShot:
    """Return the accuracy against the number of training pictures a class."""
    data, curves = PLACE[profile_of(profile).name][1], {}
    found = {source: transferred(profile, source, live) for source in SOURCES[profile] if source.data == data}
    for source, records in found.items():
        # Of the pre-trained network the softmax on layer 7; of a control the best with as many pictures.
        own = partial(accuracy, records, "fc7", "softmax") if source.pretrained else partial(best_trial, records)
        points = [(each, own(each)) for each in CURVE]
        curves[source.title] = [(each, one.value, one.spread) for each, one in points if one]
    counts = (15, 30) if profile == "smoke" else (15, 30, 45, 60)  # as Table 4, and no longer than the curves
    alone = {each: scratch(profile, data, each) for each in counts}
    curves["from scratch"] = [
        (each, mean(values), stdev(values) if len(values) > 1 else None) for each, values in alone.items() if values
    ]
    curves = {name: points for name, points in curves.items() if points}
    printed = {
        row["label"]: {int(key.removeprefix("train_")): value for key, value in row["values"].items()}
        for row in contents()["tables"]["table_4"]["rows"]
    }
    verdict = "Not run."
    if len(curves) > 1:  # how many pictures a class the pre-trained network needs to beat all others at their most
        (name, ours), *others = curves.items()
        best = max(value for _, points in others for _, value, _ in points)
        most = max(each for _, points in others for each, _, _ in points)
        rest = f"the best of the others, {best:.1f} % with up to {most} a class."
        enough = next((each for each, value, _ in ours if value > best), None)
        verdict = f"With {enough} a class, {name} beats {rest}" if enough else f"{name} does not beat {rest}"
    return FewShot(curves, printed, DATASETS[data].title, Sentence(verdict), notes(found))


def few_shot(curves: Mapping[str, Sequence], printed: Mapping[str, Mapping], data: str) -> Figure:
    """Draw ours, the pre-trained network first, beside what the paper prints for Caltech-256."""
    if not curves:
        raise FigureError("Fig. 7 needs at least one curve")
    figure = Figure(3.9)
    ours, theirs = figure.subplots(1, 2, sharey=True)
    colours = (VERMILION, BLUE, GREEN, PURPLE, ORANGE)
    for (name, points), colour, marker in zip(curves.items(), colours, "osD^v", strict=False):
        each, values, spreads = zip(*points, strict=True)
        style = {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.4, "capsize": 2}
        ours.errorbar(each, values, [spread or 0 for spread in spreads], label=name.replace("`", ""), **style)
    for (name, points), marker in zip(printed.items(), "sDvo", strict=False):
        known = {each: value for each, value in points.items() if value is not None}
        theirs.plot(*zip(*known.items(), strict=True), color=GREY, marker=marker, markersize=4, label=name)
    plain(ours, fill(f"Ours: {data}", 40), "training pictures a class", "accuracy, mean over classes, %")
    plain(theirs, fill("The paper, Caltech-256 (Table 4)", 40), "training pictures a class", "")
    bars = [value for points in list(curves.values())[1:] for _, value, *_ in points]
    methods = [value for name, row in printed.items() if "ImageNet" not in name for value in row.values() if value]
    for axes, rivals in ((ours, bars), (theirs, methods)):
        if rivals:  # the level that is to be passed with few pictures
            axes.axhline(max(rivals), color=INK, linewidth=0.8, linestyle=":", label="best of the others")
        axes.set_xlim(0, 63)
        axes.legend(fontsize=SMALL, framealpha=1, edgecolor="none")
    ours.set_ylim(0)
    figure.tight_layout()
    return figure
