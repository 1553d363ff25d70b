"""The pane of trainings: curves and first-layer filters of one that runs here, or that `zfnet train` runs."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from html import escape
from pathlib import Path
from time import sleep
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
from safetensors import SafetensorError, safe_open

from ...architecture import MINI
from ...batches import training_preparation
from ...datasets import DATASETS
from ...files import ZfnetError, data_root, is_busy, results_root
from ...network import ConvNet
from ...paper import curves as drawings
from ...paper.plots import grid_of_filters
from ...paper.trainings import Training, read_epochs, training_data
from ...training import RECIPES, SMOKE, TENSORS, VALUES, Progress, Recipe, saved_states, train
from ...weights import WEIGHTS, CheckpointError, read_meta, weights_folders
from ..pages import figure_tag, picture_tag
from .strongest import StoppedError
from .widgets import SIDE, Message, button, in_a_row, labelled

FIRST = "conv1.weight"
OFTEN, SELDOM = 0.5, 3.0  # seconds between two looks at a training here, and at one of another process


class Seen(NamedTuple):
    """How far a training has come, its finished epochs, and the moments at which its weights are at hand."""

    says: str
    epochs: list[dict[str, Any]]
    classes: int
    moments: list[str]


class RecordedTraining:
    """A training that `zfnet train` runs or has run, seen through what it leaves on disk."""

    def __init__(self, name: str, record: Path):
        self.name, self.record, self.folder = name, record, data_root() / "trainings" / name

    def look(self) -> Seen:
        """Look at what there is; the number of classes is 0 where nothing says."""
        lines, state = read_epochs(self.record), {}
        for folder in saved_states(self.folder)[::-1]:  # the newest that is not replaced at this moment, or damaged
            with suppress(OSError, ValueError):
                state = json.loads((folder / VALUES).read_text())
        classes = state["training"]["network"]["classes"] if state else 0
        if lines and (data := lines[0].get("data", "").partition(" ")[0]) in DATASETS:
            classes = DATASETS[data].classes
        of = lines[-1]["recipe"]["epochs"] if lines else "?"
        says = f"{len(lines)} of {of} epochs"
        if state:
            says += f", last checkpoint at update {state['state']['update']:,}"
        if is_busy(self.folder):
            says = f"runs now: {says}"
        elif len(lines) == of:
            says = f"finished: {says}"
        else:
            says = f"stopped: {says}; the same `zfnet train` with --resume continues it"
        return Seen(says, [line["epoch"] for line in lines], classes, list(self._files()))

    def filters(self, moment: str) -> np.ndarray:
        """Return the filters of the first layer at a moment, [maps, 3, k, k]."""
        try:
            with safe_open(self._files()[moment], "pt") as file:
                return file.get_tensor(FIRST).float().numpy()
        except (KeyError, OSError, SafetensorError):
            raise ZfnetError(f"the weights of {moment} are gone; choose a newer moment") from None

    def _files(self) -> dict[str, Path]:
        """Return the file of the weights at each moment, in order."""
        snapshots = sorted((self.folder / "snapshots").glob(f"epoch-*/{WEIGHTS}"))
        found = {path.parent.name.replace("-", " "): path for path in snapshots}
        for state in saved_states(self.folder)[:1]:
            found[f"update {int(state.name.partition('-')[2]):,}"] = state / TENSORS
        for folder in (path for place in weights_folders() for path in place.glob("*")):
            with suppress(CheckpointError):
                if read_meta(folder)["record"].get("training", "") == self.name:
                    found.setdefault("the end", folder / WEIGHTS)
        return found


def recorded_trainings() -> list[RecordedTraining]:
    """Return the trainings that left a record or a checkpoint on this machine, or that ship as records."""
    places = {recipe: results_root(recipe) / "trainings" for recipe in ("", *RECIPES)}
    records = {path.stem: path for recipe in RECIPES for path in places[recipe].glob("*.jsonl")}
    for folder in (data_root() / "trainings").glob("[!.]*"):
        recipe = next((recipe for recipe in RECIPES if f"-{recipe}-seed" in folder.name), "")
        records.setdefault(folder.name, places[recipe] / f"{folder.name}.jsonl")
    return [RecordedTraining(name, path) for name, path in sorted(records.items())]


class TrainingHere:
    """A training of `MINI` on shapes in this process, epoch by epoch through the generator `train`."""

    name = "MINI on shapes, here and now"

    def __init__(self, recipe: Recipe = SMOKE, data=None, validation=None):
        self.data, self.validation = data or training_data("shapes", "train"), validation
        spec = Training(MINI.name, "shapes", recipe).spec(len(self.data.classes))
        self.net = ConvNet(spec, training_preparation(self.data, spec.image_size), seed=0)
        self.recipe, self.state = recipe, "not begun"
        self.epochs: list[dict[str, Any]] = []
        self.progress: Progress | None = None
        self.kept = {"the beginning": self.filters("now")}

    def run(self) -> None:
        """Train to the end, or until `stop` is called."""
        self.state = "runs"
        validation = self.validation or training_data("shapes", "val")
        try:
            for epoch in train(self.net, self.data, self.recipe, validation=validation, report=self._moved):
                self.epochs.append(asdict(epoch))
                self.kept[f"epoch {epoch.epoch}"] = self.filters("now")
            self.state = "finished"
        except StoppedError:
            self.state = "stopped"

    def stop(self) -> None:
        """End the training at its next update."""
        self.state = "stops"

    def look(self) -> Seen:
        """Look at what there is."""
        says, at = f"{self.state}: {len(self.epochs)} of {self.recipe.epochs} epochs", self.progress
        if at:
            says += f", update {at.update:,} of {at.updates:,}, loss {at.loss:.3f}"
        return Seen(says, list(self.epochs), self.net.spec.classes, [*self.kept, "now"])

    def filters(self, moment: str) -> np.ndarray:
        """Return the filters of the first layer at a moment, [maps, 3, k, k]."""
        if moment != "now":
            return self.kept[moment]
        return self.net.get_parameter(FIRST).detach().cpu().numpy().copy()

    def _moved(self, progress: Progress) -> None:
        self.progress = progress
        if self.state == "stops":
            raise StoppedError


class TrainingPane:
    """One training, as it happens."""

    def __init__(self, notice: Message):
        self.notice = notice
        self.here: TrainingHere | None = None
        self.begun = False  # pressed, and not there yet
        self.lacked: str | None = None  # what was said of a moment whose filters are gone
        self.training: TrainingHere | RecordedTraining | None = None
        options = [(TrainingHere.name, ""), *((each.name, each) for each in recorded_trainings())]
        self.choice = labelled(widgets.Dropdown, 440, options=options, description="training")
        self.start = button("train", lambda _: self._pressed())
        again = f"look again every {SELDOM:.0f} seconds"
        self.follow = widgets.ToggleButton(description="follow", tooltip=again, disabled=True)
        self.says, self.curves, self.filters = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.moment = labelled(widgets.Dropdown, 260, description="first-layer filters at")
        self.choice.observe(lambda change: self._choose(change["new"] or None), "value")
        self.follow.observe(lambda change: change["new"] and self._keep_looking(SELDOM), "value")
        self.moment.observe(lambda _: self._draw_filters(), "value")
        head = in_a_row(self.choice, self.start, self.follow)
        self.widget = widgets.VBox([head, self.says, self.curves, self.moment, self.filters])
        self._choose(None)

    def look(self) -> None:
        """Look at the training again, and draw what is new."""
        if self.training is None:
            return
        with self.notice.errors(clear=False):
            says, epochs, classes, moments = self.training.look()
            if len(epochs) != self.drawn:
                self.drawn = len(epochs)
                alt = f"training loss, validation error and largest filter of layer 1 over {len(epochs)} epochs"
                self.curves.value = figure_tag(drawings.curves({self.training.name: epochs}, classes), alt)
            before, value = self.moment.options, self.moment.value
            # Stay with the newest moment unless another was chosen.
            newest = not before or value == before[-1]
            if list(before) != moments:
                self.moment.options = moments
                self.moment.value = moments[-1] if newest and moments else value if value in moments else None
            if newest:
                self._draw_filters()
            self.says.value = f'<p role="status">{escape(says)}</p>'

    def train(self) -> None:
        """Train `MINI` here, to the end or until one stops it; `look` follows in another thread."""
        try:
            self.here = TrainingHere()
            if not self.choice.value:  # else another training has been chosen meanwhile
                self.training, self.drawn = self.here, 0
            self.start.description, self.start.disabled, self.begun = "stop", False, False
            self._keep_looking(OFTEN)
            self.here.run()
        finally:
            self.begun = False
            self.start.description, self.start.disabled = "train", bool(self.choice.value)

    def _choose(self, training: RecordedTraining | None) -> None:
        self.follow.value, self.notice.value = False, ""
        self.training, self.drawn = training or self.here, 0
        self.follow.disabled = training is None
        self.start.disabled = self.begun or (training is not None and not self._runs_here())
        self.curves.value = self.filters.value = ""
        self.moment.options = ()
        self.says.value = "<p>Press <b>train</b>: a narrow network learns drawn shapes, in some seconds.</p>"
        self.look()

    def _pressed(self) -> None:
        if self._runs_here():
            self.here.stop()
        else:
            self.start.disabled = self.begun = True  # until there is something to stop
            self.notice.beside(self.train)

    def _runs_here(self) -> bool:
        return self.start.description == "stop"

    def _keep_looking(self, seconds: float) -> None:
        def look() -> None:
            while self._runs_here() or self.follow.value:
                self.look()
                sleep(seconds)
            self.look()

        self.notice.beside(look)

    def _draw_filters(self) -> None:
        moment = self.moment.value
        if self.notice.value == self.lacked:
            self.notice.value = ""
        before = self.notice.value
        with self.notice.errors(clear=False):
            if moment:
                alt = f"the filters of layer 1 at {moment}, at one contrast"
                picture = grid_of_filters(self.training.filters(moment), 2 * SIDE)
                self.filters.value = picture_tag(picture, alt, f"{SIDE * 4 // 3}px")
        self.lacked = self.notice.value if self.notice.value != before else None
