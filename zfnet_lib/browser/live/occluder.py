"""The pane of the occluder: drag a grey square over the picture, and see what the network makes of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from ...network import ConvNet
from ...occlusion import SIZE, Occlusion, OcclusionError, occlude
from ...paper.plots import heat
from ...strongest import rows_first
from .widgets import SIDE, Message, PointedPicture, beside, column, in_a_row, in_columns, labelled

ANSWERS = 5


@dataclass(frozen=True)
class Occluded:
    """What the network sees while a square covers a part of the picture (section 4.2)."""

    activity: float
    probability: float | None
    answers: tuple[tuple[int, float], ...]


class Occluder:
    """One picture at a time, and a square that covers it where one likes."""

    def __init__(self, net: ConvNet, classes: Sequence[str] = ()):
        self.net = net
        self.last = net.spec.convs[-1].name
        self.classes = tuple(classes) or tuple(f"class {n}" for n in range(net.spec.classes))

    @torch.no_grad()
    def show(self, picture: Tensor) -> None:
        """Take another picture, uint8 [3, h, w], and watch what is strongest in it."""
        self.x = self.net.prepare([picture])
        self.seen = rows_first(self.net.preparation.visible(self.x)[0])
        trace = self.net.trace(self.x)
        self.map = int(trace[self.last].maps[0].amax((1, 2)).argmax())
        self.target = int(trace.logits.argmax()) if self.net.spec.classes else None
        self.clear = self._look(self.x)

    @property
    def usual_size(self) -> int:
        """The paper's square, 50 of 224 pixels, on this picture."""
        return round(SIZE * self.x.shape[-1])

    def cover(self, top: int, left: int, size: int) -> Occluded:
        """Cover a square with the mean, a grey, and look."""
        side = self.x.shape[-1]
        if not 1 <= size <= side:
            raise OcclusionError(
                f"a square of {size} pixels does not fit a picture of {side}x{side}; choose a size from 1 to {side}"
            )
        x = self.x.clone()
        x[..., max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
        return self._look(x)

    def everywhere(self, size: int) -> Occlusion:
        """Cover every place in turn, as Fig. 6 does, and watch the same map and class."""
        return occlude(self.net, self.x, self.target, size, map_=self.map)

    @torch.no_grad()
    def _look(self, x: Tensor) -> Occluded:
        trace = self.net.trace(x)
        activity = float(trace[self.last].maps[0, self.map].sum())
        if self.target is None:
            return Occluded(activity, None, ())
        probabilities = trace.logits[0].softmax(0).cpu().numpy()
        order = np.argsort(-probabilities, kind="stable")[:ANSWERS]
        answers = tuple((int(n), float(probabilities[n])) for n in order)
        return Occluded(activity, float(probabilities[self.target]), answers)


STEP = 4
"""Pixels that an arrow key moves the square by."""


class OccluderPane:
    """A square on one picture, and what it hides (section 4.2)."""

    def __init__(self, net: ConvNet, classes: tuple[str, ...], notice: Message):
        self.notice, self.occluder = notice, Occluder(net, classes)
        crop = net.preparation.crop
        self.size = labelled(widgets.IntSlider, 260, min=1, max=crop, description="square")
        self.lift = widgets.Button(description="take it away")
        self.everywhere = widgets.Button(description="every place (Fig. 6)")
        self.picture = PointedPicture(covers=True, step=STEP, hint="drag the square, or move it by the arrow keys")
        self.results = widgets.HTML()
        hint = "each place of the square, bright where the value stays high; point at one to put the square there"
        self.activity, self.probability = (
            PointedPicture(crisp=True, hint=hint),
            PointedPicture(crisp=True, hint=hint),
        )
        self.fig6 = in_columns()
        self._listen()
        controls = in_a_row(self.size, self.lift, self.everywhere)
        pictures = in_columns(
            column(self.picture, title="The picture and the square", side=SIDE * 4 // 3),
            column(self.results, title="What the network sees", side=SIDE * 4 // 3),
        )
        self.widget = widgets.VBox([controls, pictures, self.fig6])

    def show(self, picture: Tensor, name: str) -> None:
        """Take another picture, uint8 [3, h, w], with the square beside it."""
        self.occluder.show(picture)
        side = len(self.occluder.seen)
        self.picture.show(self.occluder.seen, f"{name}, as the network sees it", (side, side))
        self.fig6.children = ()
        self.size.value = self.occluder.usual_size
        self.uncover()

    def uncover(self) -> None:
        """Take the square away."""
        self.picture.mark = [0, 0, 0, 0]
        self.picture.says = "Point at the picture to put the square there, and drag it."
        self._write(self.occluder.clear)

    def cover(self, y: int, x: int) -> None:
        """Put the square around a pixel."""
        size = self.size.value
        with self.notice.errors():
            hidden = self.occluder.cover(y - size // 2, x - size // 2, size)
            self.picture.mark = [-(size // 2), -(size // 2), size, size]
            self.picture.mark_at(y, x)
            self.picture.says = f"A square of {size} pixels around row {y}, column {x}."
            self._write(hidden)
            self._mark_place(y - size // 2, x - size // 2)

    def _listen(self) -> None:
        self.picture.on_point(self.cover)
        self.size.observe(lambda _: self._resized(), "value")
        self.lift.on_click(lambda _: self.uncover())
        self.everywhere.on_click(lambda _: beside(self.notice, self._cover_everywhere))
        for pad in (self.activity, self.probability):
            pad.on_point(self._cover_place)

    def _resized(self) -> None:
        """Keep the square where it is; one that was taken away stays away."""
        if self.picture.mark[2]:
            self.cover(*map(round, self.picture.place[:2]))

    def _cover_everywhere(self) -> None:
        """Try all places of a square of this size, and show what each leaves."""
        self.everywhere.disabled, self.everywhere.description = True, "looking …"
        try:
            self.found: Occlusion = self.occluder.everywhere(self.size.value)
        finally:
            self.everywhere.disabled, self.everywhere.description = False, "every place (Fig. 6)"
        grid = tuple(self.found.activity.shape)
        name = f"activity of map {self.occluder.map}"
        self.activity.show(heat(self.found.activity.numpy()), f"{name} for each place of the square", grid)
        columns = [column(self.activity, title=name.capitalize())]
        if self.found.probability is not None:
            name = f"probability of {self.occluder.classes[self.occluder.target]}"
            self.probability.show(heat(self.found.probability.numpy(), 1.0), f"{name} for each place", grid)
            columns.append(column(self.probability, title=name.capitalize()))
        self.fig6.children = columns
        self._resized()

    def _mark_place(self, top: int, left: int) -> None:
        """Mark the cell that stands for a place of the square."""
        if self.fig6.children:
            rows, columns = self.activity.grid
            row, column = (round(corner / self.found.stride) for corner in (top, left))
            for pad in (self.activity, self.probability):
                pad.mark_at(min(max(row, 0), rows - 1), min(max(column, 0), columns - 1))

    def _cover_place(self, row: int, column: int) -> None:
        """Put the square where a cell of the maps stands for it."""
        self.size.value = self.found.size
        middle = self.found.size // 2
        self.cover(row * self.found.stride + middle, column * self.found.stride + middle)

    def _write(self, hidden: Occluded) -> None:
        """Say what the network sees, beside what it saw with nothing covered."""
        occluder, clear = self.occluder, self.occluder.clear
        activity = f"activity of map {occluder.map} of {occluder.last}: <b>{hidden.activity:.4g}</b>"
        share = hidden.activity / clear.activity if clear.activity else 0.0
        lines = [_bar(f"{activity} ({clear.activity:.4g} uncovered)", share)]
        if hidden.probability is None:
            lines.append("<p>This network has no classifier here: no class, no probability.</p>")
        else:
            name, best = (escape(occluder.classes[n]) for n in (occluder.target, hidden.answers[0][0]))
            probability = f"probability of {name}: <b>{hidden.probability:.3f}</b>"
            lines.append(_bar(f"{probability} ({clear.probability:.3f} uncovered)", hidden.probability))
            lines.append(f"<p>Most probable {'still' if best == name else 'now'}: <b>{best}</b></p>")
            lines += [_bar(f"{escape(occluder.classes[n])} {each:.3f}", each) for n, each in hidden.answers]
        self.results.value = "".join(lines)


def _bar(words: str, share: float) -> str:
    """Return words above a bar, which fills the column where the share is 1."""
    bar = f'<div style="background: #0072B2; height: 8px; width: {100 * min(share, 1):.1f}%"></div>'
    return f'<div style="margin: 2px 0 6px; line-height: 1.35">{words}{bar}</div>'
