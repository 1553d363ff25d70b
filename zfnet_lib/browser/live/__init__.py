"""The live browser of JupyterLab: panes that look at one picture, at data sets and at trainings."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from html import escape

import torch
from ipywidgets import HTML, BoundedIntText, Dropdown, Tab, VBox, Widget

from ...architecture import Unit
from ...datasets import Dataset
from ...files import ZfnetError
from ...images import PictureError
from ...machine import own_device
from ...network import Network
from ...paper.records import device_name
from ...strongest import Squares
from .occluder import OccluderPane
from .strongest import StrongestPane
from .training import TrainingPane
from .units import LARGER, UnitPane
from .widgets import KernelOnly, Message, Upload, in_a_row, labelled, read_upload


class LiveBrowser(VBox):
    """A picture from a data set or of one's own, and what a network makes of it."""

    def __init__(
        self, net: Network, dataset: Dataset, classes: Sequence[str] = (), layer: str = "", first: str = ""
    ):
        self.net, self.dataset, self.uploads = net.eval(), dataset, []
        self.notice, self.about = Message(), HTML()
        self.units = UnitPane(net, self.notice, layer)
        self.occluder = OccluderPane(net, classes, self.notice)
        self.nine = StrongestPane(lambda: self.units.net, dataset.name, self.visit, self.notice)
        self.training = TrainingPane(self.notice)
        if len(dataset) > 500:  # too many for a menu of their names
            self.picture = labelled(BoundedIntText, max=len(dataset) - 1, description="picture")
        else:
            names = [(f"{i}: {name}" if name else str(i), i) for i, name in enumerate(dataset.names)]
            self.picture = labelled(Dropdown, 320, options=names, description="picture")
        for number in sorted(range(len(dataset)), key=lambda i: not dataset.names[i].startswith(first)):
            with suppress(PictureError):
                sides = dataset[number].picture.shape[1:]
                break
        else:
            raise ZfnetError(f"none of the {len(dataset)} pictures of {dataset.name} can be read; choose others")
        self.picture.value = number
        self.picture.observe(self._chosen, "value")
        self.upload = Upload(self.take_upload)
        panes = {"Units": self.units, "Occluder": self.occluder, "Strongest": self.nine, "Training": self.training}
        self.tabs = Tab([pane.widget for pane in panes.values()], titles=list(panes))
        super().__init__([in_a_row(self.picture, self.upload), self.about, self.notice, self.tabs])
        if min(sides) >= LARGER:  # these have the pixels for it
            self.units.side.value = max(net.preparation.crop, LARGER)
        self.choose(self.picture.value)
        if layer:
            self.units.go(layer)

    def choose(self, number: int) -> None:
        """Show a picture of the data set, or one of the reader's after them."""
        with self.notice.errors():
            count = len(self.dataset)
            if not 0 <= number < count + len(self.uploads):
                raise ZfnetError(f"{self.dataset.name} has no picture {number}; it has {count}")
            if number >= count:
                self.show(*self.uploads[number - count])
            else:
                self.show(self.dataset[number].picture, self.dataset.names[number] or f"picture {number}")

    def take_upload(self, name: str, size: int, content: bytes) -> None:
        """Put a picture from the reader's machine at the end of the list, and show it."""
        with self.notice.errors():
            self.add(read_upload(name, size, content), name)

    def add(self, picture: torch.Tensor, name: str) -> None:
        """Put a picture that is not there yet at the end of the list, and show it."""
        same = (i for i, known in enumerate(self.uploads) if known[1] == name and known[0].equal(picture))
        if (at := next(same, None)) is None:
            at = len(self.uploads)
            self.uploads.append((picture, name))
            if isinstance(self.picture, Dropdown):  # new options choose the first, which nobody asked to see
                self.picture.unobserve(self._chosen, "value")
                self.picture.options = (*self.picture.options, (name, len(self.dataset) + at))
                self.picture.observe(self._chosen, "value")
            else:
                self.picture.max = len(self.dataset) + at
        self.picture.value = len(self.dataset) + at

    def _chosen(self, change) -> None:
        self.choose(change["new"])

    def visit(self, squares: Squares, unit: Unit) -> None:
        """Show one of a data set's strongest units in its picture."""
        data = squares.dataset
        if (data.name, data.split, data.names) == (self.dataset.name, self.dataset.split, self.dataset.names):
            self.picture.value = unit.image
        else:
            self.add(data[unit.image].picture, data.names[unit.image] or f"picture {unit.image}")
        self.units.side.value = squares.net.preparation.crop
        self.units.go(unit.layer, unit.map, (unit.row, unit.column))
        self.tabs.selected_index = 0

    def show(self, picture: torch.Tensor, name: str) -> None:
        """Show a picture, uint8 [3, h, w], in the panes that look at one; say what it is taken for, and where."""
        self.units.show(picture, name)
        self.occluder.show(picture, name)
        pane, answer = self.occluder, f"{self.net.name} has no classifier here. "
        if pane.target is not None:
            answer = f"{self.net.name} answers: {pane.classes[pane.target]} ({pane.clear.probability:.2f}). "
        here = f"It computes on {device_name(self.net.device)}"
        if self.net.device.type == "cpu":
            if own_device() == "cpu":
                here += "; this kernel has no GPU"
            else:
                here += f"; there is a GPU here, and `net.to({own_device()!r})` before `live_browser` takes it"
        self.about.value = f"<b>{escape(name)}</b>. {escape(answer)}{escape(here)}."


def live_browser(
    net: Network, dataset: Dataset, classes: Sequence[str] = (), layer: str = "", first: str = ""
) -> Widget:
    """Return the live browser, which waits for a kernel; `first` is how the name of its first picture begins."""
    return KernelOnly(lambda: LiveBrowser(net, dataset, classes, layer, first))
