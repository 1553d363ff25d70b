"""The claims ledger in one picture: how many claims of each section have which verdict."""

from __future__ import annotations

from collections.abc import Mapping

from ...images import FigureError
from ..plots import BLUE, GREY, INK, NORMAL, ORANGE, PALE, SMALL, VERMILION, Figure

COLOURS = {
    "holds": BLUE,
    "does not hold": VERMILION,
    "undecided": ORANGE,
    "not testable here": GREY,
    "not run": PALE,
}
"""By verdict; the counts stand in the bars, so that no verdict is told by its colour alone."""

DARK = {BLUE, GREY}


def by_section(counts: Mapping[str, Mapping[str, int]]) -> Figure:
    """Draw a bar a section, its length the number of claims, its parts their verdicts.

    Args:
        counts: By section of the paper, how many claims have each verdict.

    Raises:
        FigureError: No section, or a verdict that is none.
    """
    unknown = {verdict for by_verdict in counts.values() for verdict in by_verdict} - COLOURS.keys()
    if not counts or unknown:
        said = f"unknown are {', '.join(sorted(unknown))}" if unknown else "given none"
        raise FigureError(f"the ledger's figure takes sections with counts of {', '.join(COLOURS)}; {said}")
    figure = Figure(0.8 + 0.28 * len(counts))
    axes = figure.subplots()
    for row, by_verdict in enumerate(counts.values()):
        start = 0
        for verdict, count in by_verdict.items():
            axes.barh(row, count, left=start, color=COLOURS[verdict], edgecolor="white", height=0.75)
            if count:
                colour = "white" if COLOURS[verdict] in DARK else INK
                axes.text(start + count / 2, row, count, color=colour, ha="center", va="center", fontsize=SMALL)
            start += count
    for verdict, colour in COLOURS.items():
        axes.barh(0, 0, color=colour, label=verdict)
    axes.set_yticks(range(len(counts)), [f"section {section}" for section in counts], fontsize=NORMAL)
    axes.invert_yaxis()
    axes.set_xlabel("claims", fontsize=NORMAL)
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=SMALL, frameon=False, ncols=len(COLOURS), loc="lower left", bbox_to_anchor=(0, 1))
    figure.tight_layout()
    return figure
