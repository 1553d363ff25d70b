"""How consistently the features of different pictures change when a part is hidden."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .style import BLUE, NORMAL, ORANGE, SMALL, VERMILION, Figure

STYLES = ((VERMILION, "s"), (ORANGE, "^"))
"""Of the controls, which come last; the parts are blue dots."""


def deltas(layers: Sequence[str], parts: Sequence[str], delta: np.ndarray, relative: np.ndarray) -> Figure:
    """Draw Delta of every group, and its mean, for each part; beside it Delta divided by what chance gives.

    Args:
        layers: Their names.
        parts: Their names; the last two are the controls.
        delta: [layers, parts, groups].
        relative: The same as a share of what chance gives.
    """
    figure = Figure(0.3 + 2.5 * len(layers))
    panels = figure.subplots(len(layers), 2, squeeze=False)
    styles = [(BLUE, "o")] * (len(parts) - len(STYLES)) + list(STYLES)
    for level, (layer, line) in enumerate(zip(layers, panels, strict=True)):
        for axes, values, title in (
            (line[0], delta[level], f"{layer}: Δ"),
            (line[1], relative[level], f"{layer}: Δ / Δ by chance"),
        ):
            for place, (own, (colour, marker)) in enumerate(zip(values, styles, strict=True)):
                beside = place + np.linspace(-0.22, 0.22, len(own)) if len(own) > 1 else [place]
                axes.plot(beside, own, marker, color=colour, markersize=3.5, alpha=0.7, markeredgewidth=0)
                axes.hlines(own.mean(), place - 0.34, place + 0.34, color=colour, linewidth=2)
            axes.set_xticks(range(len(parts)), [_wrapped(part) for part in parts])
            axes.set_title(title, fontsize=NORMAL, loc="left")
            axes.tick_params(labelsize=SMALL)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", linewidth=0.4, alpha=0.5)
    figure.tight_layout()
    return figure


def _wrapped(words: str) -> str:
    """Set at most two words on a line."""
    parts = words.split()
    lines = [" ".join(parts[start : start + 2]) for start in range(0, len(parts), 2)]
    return "\n".join(lines if len(parts) > 2 else parts)
