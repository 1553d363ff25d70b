"""The pane of trainings: curves and first-layer filters of one that runs here, or that `zfnet train` runs."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from time import sleep

import ipywidgets as widgets

from ...paper import curves as drawings
from ...paper.plots import grid_of_filters
from ..pages import figure_tag, picture_tag
from .learning import RecordedTraining, TrainingHere, recorded_trainings
from .parts import SIDE, Notice, beside, in_a_row, labelled

OFTEN, SELDOM = 0.5, 3.0
"""Seconds between two looks at a training that runs here, and at one that another process runs."""


class TrainingPane:
    """One training, as it happens.

    Args:
        notice: For what goes wrong.

    Attributes:
        training: The one that is shown; None before one was begun here.
    """

    def __init__(self, notice: Notice):
        self.notice = notice
        self.training: TrainingHere | RecordedTraining | None = None
        recorded = [(each.name, each) for each in recorded_trainings()]
        options = [(TrainingHere.name, None), *recorded]
        self.choice = labelled(widgets.Dropdown, 440, options=options, description="training")
        self.start = widgets.Button(description="train")
        self.follow = widgets.ToggleButton(
            description="follow", tooltip=f"look again every {SELDOM:.0f} seconds", disabled=True
        )
        self.says, self.curves, self.filters = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.moment = labelled(widgets.Dropdown, 260, description="first-layer filters at")
        self.start.on_click(lambda _: self._pressed())
        self.choice.observe(lambda change: self._choose(change["new"]), "value")
        self.follow.observe(lambda change: change["new"] and beside(notice, self._keep_looking), "value")
        self.moment.observe(lambda _: self._draw_filters(), "value")
        head = in_a_row(self.choice, self.start, self.follow)
        self.widget = widgets.VBox([head, self.says, self.curves, self.moment, self.filters])
        self._choose(None)

    def look(self) -> None:
        """Look at the training again, and draw what is new."""
        training = self.training
        with self.notice.errors():
            says, epochs = training.says, list(training.epochs)
            if len(epochs) != self.drawn:
                self.drawn = len(epochs)
                alt = f"training loss, validation error and largest filter of layer 1 over {len(epochs)} epochs"
                figure = drawings.curves({training.name: epochs}, training.classes)
                self.curves.value = figure_tag(figure, alt)
            self._offer(list(training.moments))
            self.says.value = f'<p role="status">{escape(says)}</p>'

    def train(self) -> None:
        """Train `MINI` here, to the end or until one stops it; `look` follows in another thread."""
        self.training, self.drawn, self.start.description = TrainingHere(), 0, "stop"
        beside(self.notice, lambda: self._look_while(self._runs_here, OFTEN))
        try:
            self.training.run()
        finally:
            self.start.description = "train"

    def _choose(self, training: RecordedTraining | None) -> None:
        self.follow.value = False
        self.training, self.drawn = training, 0
        self.follow.disabled, self.start.disabled = training is None, training is not None
        self.curves.value = self.filters.value = ""
        self.moment.options = ()
        if training:
            self.look()
        else:
            self.says.value = "<p>Press <b>train</b>: a narrow network learns drawn shapes, in some seconds.</p>"

    def _pressed(self) -> None:
        if self._runs_here():
            self.training.stop()
        else:
            beside(self.notice, self.train)

    def _runs_here(self) -> bool:
        return self.start.description == "stop"

    def _keep_looking(self) -> None:
        self._look_while(lambda: self.follow.value, SELDOM)

    def _look_while(self, going: Callable[[], bool], seconds: float) -> None:
        while going():
            self.look()
            sleep(seconds)
        self.look()

    def _offer(self, moments: list[str]) -> None:
        """Offer the moments that there are, and stay with the newest one unless another was chosen."""
        before, value = self.moment.options, self.moment.value
        newest = not before or value == before[-1]
        if list(before) != moments:
            self.moment.options = moments
            self.moment.value = moments[-1] if newest and moments else value if value in moments else None
        if newest:
            self._draw_filters()

    def _draw_filters(self) -> None:
        moment = self.moment.value
        with self.notice.errors():
            if moment:
                alt = f"the filters of layer 1 at {moment}, at one contrast"
                picture = grid_of_filters(self.training.filters(moment), 2 * SIDE)
                self.filters.value = picture_tag(picture, alt, f"{SIDE * 4 // 3}px")
