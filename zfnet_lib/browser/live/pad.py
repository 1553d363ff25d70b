"""The two widgets that ipywidgets lack: a picture that is pointed at, and a file chooser that looks at sizes first.

Both are plain ES modules of a few lines (`pad.js`, `upload.js`), which anywidget brings to the page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
from traitlets import Bool, Float, Int, List, Unicode

from ..pages import picture_url
from .uploads import LARGEST

HERE = Path(__file__).parent


class Pad(anywidget.AnyWidget):
    """A picture with a grid laid over it, on which one cell is marked.

    Pointing, dragging and the arrow keys set `pointed`; whoever listens answers by `mark_at`.

    Attributes:
        picture, alt: Its URL, and what it shows in words.
        hint: What pointing does, in words.
        says: The line below; it is read out when it changes.
        crisp: Enlarge without smoothing.
        grid: Rows and columns.
        step: Cells that an arrow key moves by.
        mark: Top and left of the mark, from the cell it belongs to, and its height and width, in cells.
        covers: Fill the mark with grey instead of drawing its outline.
        pointed: Row, column, and how often anything has been pointed at.
        place: Row and column of the mark, and which `pointed` they answer to.
    """

    _esm = HERE / "pad.js"
    _css = HERE / "pad.css"

    picture = Unicode().tag(sync=True)
    alt = Unicode().tag(sync=True)
    hint = Unicode("point at it, or move by the arrow keys").tag(sync=True)
    says = Unicode().tag(sync=True)
    crisp = Bool(False).tag(sync=True)
    grid = List(Int(), [1, 1]).tag(sync=True)
    step = Int(1).tag(sync=True)
    mark = List(Float(), [0.0, 0.0, 1.0, 1.0]).tag(sync=True)
    covers = Bool(False).tag(sync=True)
    pointed = List(Int(), [0, 0, 0]).tag(sync=True)
    place = List(Float(), [0.0, 0.0, 0.0]).tag(sync=True)

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
    """A button that brings a file from the reader's machine.

    Args:
        act: Called with name, size in bytes, and content; the content of a file larger than `LARGEST` is empty.
    """

    _esm = HERE / "upload.js"
    _css = HERE / "pad.css"

    largest = Int(LARGEST).tag(sync=True)

    def __init__(self, act: Callable[[str, int, bytes], None]):
        super().__init__()
        self.act = act
        self.on_msg(self._arrived)

    def _arrived(self, _: Any, about: dict[str, Any], content: list[memoryview]) -> None:
        self.act(about["name"], about["size"], b"".join(map(bytes, content)))
