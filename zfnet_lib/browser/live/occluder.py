"""What the pane of the occluder shows, without widgets: a picture, a grey square on it, and what it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...network import ConvNet
from ...occlusion import SIZE, Occlusion, OcclusionError, occlude
from ...strongest import rows_first

ANSWERS = 5


@dataclass(frozen=True)
class Hidden:
    """What the network sees while a square covers a part of the picture (section 4.2).

    Attributes:
        activity: Sum over the watched map of the last convolution, rectified, before the pool.
        probability: Of the watched class; None without a classifier.
        answers: The most probable classes and their probabilities, most probable first; none without a classifier.
    """

    activity: float
    probability: float | None
    answers: tuple[tuple[int, float], ...]


class Occluder:
    """One picture at a time, and a square that covers it where one likes.

    Args:
        net: The network; without a classifier it gives the activity alone.
        classes: What it calls its classes; numbers by default.

    Attributes:
        map: The watched map of the last convolution: the one with the largest value on the picture.
        target: The watched class: the network's first answer; None without a classifier.
        clear: What the network sees with nothing covered.
        seen: uint8 [side, side, 3], the picture as the network sees it.
    """

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
        self.clear = self._hidden(self.x)

    @property
    def usual_size(self) -> int:
        """The paper's square, 50 of 224 pixels, on this picture."""
        return round(SIZE * self.x.shape[-1])

    def cover(self, top: int, left: int, size: int) -> Hidden:
        """Cover a square with the mean, a grey, and look.

        Args:
            top, left: Its first row and column; it may reach over the edge.
            size: Its side in pixels.

        Raises:
            OcclusionError: No such square.
        """
        side = self.x.shape[-1]
        if not 1 <= size <= side:
            raise OcclusionError(
                f"a square of {size} pixels does not fit a picture of {side}x{side}; choose a size from 1 to {side}"
            )
        x = self.x.clone()
        x[..., max(top, 0) : max(top + size, 0), max(left, 0) : max(left + size, 0)] = 0
        return self._hidden(x)

    def everywhere(self, size: int) -> Occlusion:
        """Cover every place in turn, as Fig. 6 does, and watch the same map and class."""
        return occlude(self.net, self.x, self.target, size, map_=self.map)

    @torch.no_grad()
    def _hidden(self, x: Tensor) -> Hidden:
        trace = self.net.trace(x)
        activity = float(trace[self.last].maps[0, self.map].sum())
        if self.target is None:
            return Hidden(activity, None, ())
        probabilities = trace.logits[0].softmax(0).cpu().numpy()
        order = np.argsort(-probabilities, kind="stable")[:ANSWERS]
        answers = tuple((int(n), float(probabilities[n])) for n in order)
        return Hidden(activity, float(probabilities[self.target]), answers)
