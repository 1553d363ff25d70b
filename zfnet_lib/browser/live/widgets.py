"""What all panes are made of: pictures to point at, a file chooser, a line for messages, rows and columns.

`PointedPicture` and `Upload` are plain ES modules of a few lines (`pad.js`, `upload.js`), brought by anywidget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from threading import Thread

import anywidget
import ipywidgets as widgets
import numpy as np
from torch import Tensor
from traitlets import Bool, Float, Int, List, Unicode

from ...files import ZfnetError
from ...images import PictureError, read_picture
from ..pages import picture_tag, picture_url

HERE = Path(__file__).parent

MB = 2**20
LARGEST = 8 * MB  # bytes of an upload; Jupyter's server cuts the connection at messages of 10 MB
SIDE = 240  # of a picture in a pane, in pixels of the page; three stand side by side in a notebook


def read_upload(name: str, size: int, content: bytes) -> Tensor:
    """Return an uploaded file as a picture, uint8 [3, h, w]."""
    if size > LARGEST:
        raise PictureError(f"{name} has {size / MB:.0f} MB and {LARGEST // MB} are the most; save it smaller")
    return read_picture(content, name)


class PointedPicture(anywidget.AnyWidget):
    """A picture with a grid laid over it, on which one cell is marked."""

    _esm = HERE / "pad.js"
    _css = HERE / "pad.css"

    picture = Unicode().tag(sync=True)
    alt = Unicode().tag(sync=True)
    hint = Unicode("point at it, or move by the arrow keys").tag(sync=True)
    says = Unicode().tag(sync=True)
    crisp = Bool(False).tag(sync=True)
    grid = List(Int(), [1, 1]).tag(sync=True)
    step = Int(1).tag(sync=True)
    mark = List(Float(), [0.0, 0.0, 1.0, 1.0]).tag(sync=True)  # top, left from its cell, height, width, in cells
    covers = Bool(False).tag(sync=True)
    pointed = List(Int(), [0, 0, 0]).tag(sync=True)  # by mouse or arrow keys: row, column, and how often
    place = List(Float(), [0.0, 0.0, 0.0]).tag(sync=True)  # of the mark, in answer to it

    def show(self, picture: np.ndarray, alt: str, grid: tuple[int, int]) -> None:
        """Show another picture, uint8 [h, w, 3], under a grid of rows and columns."""
        self.picture, self.alt, self.grid = picture_url(picture, self.crisp), alt, list(grid)

    def mark_at(self, row: float, column: float) -> None:
        """Move the mark."""
        self.place = [row, column, self.pointed[2]]

    def on_point(self, act: Callable[[int, int], None]) -> None:
        """Call `act` with row and column of each cell that is pointed at."""
        self.observe(lambda change: act(*change["new"][:2]), "pointed")


class Upload(anywidget.AnyWidget):
    """A button that brings a file from the reader's machine: its name, size and content."""

    _esm = HERE / "upload.js"
    _css = HERE / "pad.css"

    largest = Int(LARGEST).tag(sync=True)

    def __init__(self, act: Callable[[str, int, bytes], None]):
        super().__init__()
        self.on_msg(lambda _, about, content: act(about["name"], about["size"], b"".join(map(bytes, content))))


class Message(widgets.HTML):
    """A line that says what went wrong, or what is to be known; empty otherwise."""

    def say(self, sentence: str) -> None:
        """Show a sentence; it is read out."""
        self.value = f'<p role="alert" style="margin: 0; line-height: 1.4">{escape(sentence)}</p>'

    @contextmanager
    def errors(self, clear: bool = True) -> Iterator[None]:
        """Show what a user can repair as a sentence instead of a traceback, in place of the one before.

        What looks by itself, again and again, leaves the one before (`clear=False`): nobody may have read it yet.
        """
        if clear:
            self.value = ""
        try:
            yield
        except ZfnetError as error:
            self.say(str(error))

    def beside(self, work: Callable[[], None]) -> None:
        """Start work that takes long in a thread, so that the panes keep answering."""

        def run() -> None:
            with self.errors():
                work()

        Thread(target=run, daemon=True).start()


class KernelOnly(widgets.VBox):
    """Opens by itself where a page and a kernel are there together."""

    def __init__(self, behind: Callable[[], widgets.Widget]):
        self.behind, self.notice = behind, Message()
        self.button = button("open the live browser", lambda _: self.enter(), width="auto")
        # Every page copies `ring` into `heard`; only where a kernel listens does anybody hear it.
        ring, self.heard = widgets.IntText(1), widgets.IntText(0)
        self.bell = widgets.jsdlink((ring, "value"), (self.heard, "value"))
        self.heard.observe(lambda _: self.enter(), "value")
        super().__init__([self.button, self.notice])

    def enter(self) -> None:
        """Show what lies behind, once."""
        if self.button in self.children:
            with self.notice.errors():
                self.children = (self.behind(),)


def button(words: str, act: Callable[[widgets.Button], object], **layout: str) -> widgets.Button:
    """Return a button."""
    made = widgets.Button(description=words, layout=widgets.Layout(**layout))
    made.on_click(act)
    return made


def labelled(kind: type[widgets.Widget], width: int = 190, **options) -> widgets.Widget:
    """Return a control that is no wider than its label and its values need."""
    return kind(style={"description_width": "initial"}, layout=widgets.Layout(width=f"{width}px"), **options)


def in_a_row(*children: widgets.Widget, **layout: str) -> widgets.Widget:
    """Set widgets side by side, as many as there is room for."""
    return widgets.Box(children, layout=widgets.Layout(flex_flow="row wrap", **layout))


def in_columns(titled: dict[str, widgets.Widget], side: int = SIDE) -> widgets.Widget:
    """Set widgets side by side, each under its title, as many as there is room for."""
    layout = widgets.Layout(width=f"{side}px")
    columns = [
        widgets.VBox([widgets.HTML(f"<b>{escape(title)}</b>"), child], layout=layout)
        for title, child in titled.items()
    ]
    return in_a_row(*columns, grid_gap="14px", align_items="flex-start")


def small(picture: np.ndarray, alt: str) -> str:
    """Return a small picture as wide as its column, its pixels visible where they are few."""
    return picture_tag(picture, alt, crisp=4 * len(picture) <= SIDE)
