"""What all panes are made of: a line for sentences, columns that wrap, work that runs beside the kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from threading import Thread

import ipywidgets as widgets
import numpy as np

from ...files import ZfnetError
from ..pages import picture_tag

SIDE = 240
"""Of a picture in a pane, in pixels of the page; three stand side by side in a notebook."""


class Notice(widgets.HTML):
    """A line that says what went wrong, or what is to be known; empty otherwise."""

    def say(self, sentence: str) -> None:
        """Show a sentence; it is read out."""
        self.value = (
            f'<p role="alert" style="margin: 0; line-height: 1.4">{escape(sentence)}</p>' if sentence else ""
        )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Show what a user can repair as a sentence instead of a traceback."""
        self.say("")
        try:
            yield
        except ZfnetError as error:
            self.say(str(error))


class Door(widgets.VBox):
    """Opens by itself where a page and a kernel are there together.

    A built page keeps it shut, so it carries none of the pictures and modules of what lies behind.

    Args:
        behind: Makes what lies behind.
    """

    def __init__(self, behind: Callable[[], widgets.Widget]):
        self.behind, self.notice = behind, Notice()
        self.button = widgets.Button(description="open the live browser", layout=widgets.Layout(width="auto"))
        self.button.on_click(lambda _: self.enter())
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


def beside(notice: Notice, work: Callable[[], None]) -> Thread:
    """Start work that takes long in a thread, so that the panes keep answering."""

    def run() -> None:
        with notice.errors():
            work()

    thread = Thread(target=run, daemon=True)
    thread.start()
    return thread


def in_a_row(*children: widgets.Widget) -> widgets.Widget:
    """Set controls side by side, as many as there is room for."""
    return widgets.Box(children, layout=widgets.Layout(flex_flow="row wrap"))


def labelled(kind: type[widgets.Widget], width: int = 190, **options) -> widgets.Widget:
    """Return a control that is no wider than its label and its values need."""
    style = {"description_width": "initial"}
    return kind(style=style, layout=widgets.Layout(width=f"{width}px"), **options)


def in_columns(*children: widgets.Widget) -> widgets.Widget:
    """Set widgets side by side, as many as there is room for."""
    return widgets.Box(
        children, layout=widgets.Layout(flex_flow="row wrap", grid_gap="14px", align_items="flex-start")
    )


def column(*children: widgets.Widget, title: str = "", side: int = SIDE) -> widgets.Widget:
    """Set widgets below one another, under a title."""
    head = [widgets.HTML(f"<b>{escape(title)}</b>")] if title else []
    return widgets.VBox([*head, *children], layout=widgets.Layout(width=f"{side}px"))


def shown(picture: np.ndarray, alt: str) -> str:
    """Return a small picture as wide as its column, its pixels visible where they are few."""
    return picture_tag(picture, alt, crisp=4 * len(picture) <= SIDE)
