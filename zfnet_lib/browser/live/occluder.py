"""The pane of the occluder: drag a grey square over the picture, and see what the network makes of the rest."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from math import sqrt
from time import perf_counter
from typing import NamedTuple

import ipywidgets as widgets
import torch
from torch import Tensor

from ...network import Network
from ...occlusion import SIZE, STRIDE, occlude
from ...paper.plots import heat
from ...probe import ProbedNet
from ...strongest import rows_first
from .widgets import SIDE, Message, PointedPicture, button, in_a_row, in_columns, labelled

ANSWERS = 5
SECONDS = 8  # that all places may take, about, where each is a whole forward pass


class Occluded(NamedTuple):
    """What the network sees while a square covers a part of the picture (section 4.2)."""

    activity: float
    probability: float | None = None
    answers: tuple[tuple[int, float], ...] = ()


class OccluderPane:
    """A square on one picture, and what the network sees of the rest (section 4.2)."""

    def __init__(self, net: Network, classes: Sequence[str], notice: Message):
        self.net, self.notice, self.last = net, notice, net.outline[-1]
        self.classes = tuple(classes) or tuple(f"class {n}" for n in range(net.classes))
        self.size = labelled(widgets.IntSlider, 260, min=1, max=net.preparation.crop, description="square")
        self.lift = button("take it away", lambda _: self.uncover())
        self.everywhere = button("every place (Fig. 6)", lambda _: notice.beside(self.cover_everywhere))
        self.picture = PointedPicture(covers=True, step=4, hint="drag the square, or move it by the arrow keys")
        self.results = widgets.HTML()
        hint = "each place of the square, bright where the value stays high; point at one to put the square there"
        self.activity, self.probability = (PointedPicture(crisp=True, hint=hint) for _ in range(2))
        self.fig6 = widgets.VBox()

        def cover_cell(row: int, column: int) -> None:
            self.size.value, stride, middle = self.found.size, self.found.stride, self.found.size // 2
            self.cover(row * stride + middle, column * stride + middle)

        self.picture.on_point(self.cover)
        self.size.observe(lambda _: self._cover_again(), "value")
        self.activity.on_point(cover_cell)
        self.probability.on_point(cover_cell)
        pictures = {"The picture and the square": self.picture, "What the network sees": self.results}
        controls = in_a_row(self.size, self.lift, self.everywhere)
        self.widget = widgets.VBox([controls, in_columns(pictures, SIDE * 4 // 3), self.fig6])

    @torch.no_grad()
    def show(self, picture: Tensor, name: str) -> None:
        """Take another picture, uint8 [3, h, w], and watch what is strongest in it, with the square beside it."""
        self.x = self.net.prepare([picture])
        trace = self.net.trace(self.x, keep=(self.last,))
        self.map = int(trace[self.last].maps[0].amax((1, 2)).argmax())
        self.target = int(trace.logits.argmax()) if self.net.classes else None
        self.clear = self.look(0, 0, 0)
        seen = rows_first(self.net.preparation.visible(self.x)[0])
        self.picture.show(seen, f"{name}, as the network sees it", seen.shape[:2])
        self.fig6.children = ()
        self.size.value = round(SIZE * len(seen))
        self.uncover()

    @torch.no_grad()
    def look(self, top: int, left: int, size: int) -> Occluded:
        """Cover a square, or what of it lies in the picture, with the mean, a grey, and look."""
        x = self.x.clone()
        x[..., max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
        trace = self.net.trace(x, keep=(self.last,))
        activity = float(trace[self.last].maps[0, self.map].sum())
        if self.target is None:
            return Occluded(activity)
        probabilities = trace.logits[0].softmax(0)
        values, classes = (each[:ANSWERS].tolist() for each in probabilities.sort(descending=True, stable=True))
        return Occluded(activity, float(probabilities[self.target]), tuple(zip(classes, values, strict=True)))

    def uncover(self) -> None:
        """Take the square away."""
        self.picture.mark = [0, 0, 0, 0]
        self.picture.says = "Point at the picture to put the square there, and drag it."
        self._write(self.clear)

    def cover(self, y: int, x: int) -> None:
        """Put the square around a pixel."""
        size = self.size.value
        half = size // 2
        with self.notice.errors():
            occluded = self.look(y - half, x - half, size)
            self.picture.mark = [-half, -half, size, size]
            self.picture.mark_at(y, x)
            self.picture.says = f"A square of {size} pixels around row {y}, column {x}."
            self._write(occluded)
            if self.fig6.children:  # mark the cell that stands for this place of the square
                middle = self.found.size // 2  # the square of the maps, of which the slider may have left the size
                steps = (round((at - middle) / self.found.stride) for at in (y, x))
                cell = [min(max(n, 0), last - 1) for n, last in zip(steps, self.activity.grid, strict=True)]
                self.activity.mark_at(*cell)
                self.probability.mark_at(*cell)

    def _cover_again(self) -> None:
        """Keep a square of another size where it is; one that was taken away stays away."""
        if self.picture.mark[2]:
            self.cover(*map(round, self.picture.place[:2]))

    def cover_everywhere(self) -> None:
        """Cover every place in turn, as Fig. 6 does, and show what each leaves of the same map and class."""
        before = self.everywhere.description
        self.everywhere.disabled, self.everywhere.description = True, "looking …"
        try:
            x, size, stride = self.x, self.size.value, None
            side = x.shape[-1]
            if isinstance(self.net, ProbedNet):
                start = perf_counter()
                self.look(0, 0, size)
                most = max(int(sqrt(SECONDS / (perf_counter() - start))), 1)  # places along a side
                stride = max(round(STRIDE * side), (side - size) // most + 1)
            found = occlude(self.net, x, self.target, size, stride, layer=self.last, map_=self.map)
        finally:
            self.everywhere.disabled, self.everywhere.description = False, before
        if self.x is not x:  # another picture was chosen meanwhile
            return
        self.found = found
        grid, name = tuple(found.activity.shape), f"activity of map {self.map}"
        self.activity.says = f"{grid[0]} × {grid[1]} places at a stride of {found.stride}."
        self.activity.show(heat(found.activity.numpy()), f"{name} for each place of the square", grid)
        pictures = {name.capitalize(): self.activity}
        if found.probability is not None:
            name = f"probability of {self.classes[self.target]}"
            self.probability.show(heat(found.probability.numpy(), 1.0), f"{name} for each place", grid)
            pictures[name.capitalize()] = self.probability
        self.fig6.children = [in_columns(pictures)]
        self._cover_again()

    def _write(self, occluded: Occluded) -> None:
        """Say what the network sees, beside what it saw with nothing covered."""

        def bar(words: str, share: float) -> str:  # words above a bar, which fills the column where the share is 1
            width = 100 * min(max(share, 0), 1)
            filled = f'<div style="background: #0072B2; height: 8px; width: {width:.1f}%"></div>'
            return f'<div style="margin: 2px 0 6px; line-height: 1.35">{words}{filled}</div>'

        clear = self.clear
        activity = f"activity of map {self.map} of {self.last}: <b>{occluded.activity:.4g}</b>"
        share = occluded.activity / clear.activity if clear.activity else 0.0
        lines = [bar(f"{activity} ({clear.activity:.4g} uncovered)", share)]
        if occluded.probability is None:
            lines.append("<p>This network has no classifier here: no class, no probability.</p>")
        else:
            answers = [(escape(self.classes[n]), each) for n, each in occluded.answers]
            name, best = escape(self.classes[self.target]), answers[0][0]
            probability = f"probability of {name}: <b>{occluded.probability:.3f}</b>"
            lines.append(bar(f"{probability} ({clear.probability:.3f} uncovered)", occluded.probability))
            lines.append(f"<p>Most probable {'still' if best == name else 'now'}: <b>{best}</b></p>")
            lines += [bar(f"{answer} {each:.3f}", each) for answer, each in answers]
        self.results.value = "".join(lines)
