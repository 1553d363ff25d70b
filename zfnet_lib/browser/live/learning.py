"""What the pane of trainings shows, without widgets: a training from what it leaves on disk, or one run here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ...architecture import MINI
from ...batches import training_preparation
from ...datasets import DATASETS, Dataset
from ...files import ZfnetError, data_root, is_busy, results_root
from ...network import ConvNet
from ...paper.trainings import Training, read_epochs, training_data
from ...training import RECIPES, SMOKE, TENSORS, VALUES, Progress, Recipe, saved_states, train
from ...weights import WEIGHTS, CheckpointError, read_meta, weights_folders
from .nine import StoppedError

FIRST = "conv1.weight"


class RecordedTraining:
    """A training that `zfnet train` runs or has run, seen through its record, checkpoints, snapshots and weights.

    Args:
        name: Of the training, such as `zfnet-tiny-imagenet-tiny-seed0`.
        record: Its record, one line an epoch; need not be there yet.
    """

    def __init__(self, name: str, record: Path):
        self.name, self.record = name, record
        self.folder = data_root() / "trainings" / name

    @property
    def epochs(self) -> list[dict[str, Any]]:
        """The finished epochs, as dicts of `EpochResult`'s fields."""
        return [line["epoch"] for line in self._lines]

    @property
    def classes(self) -> int:
        """Of its data; 0 where nothing says."""
        if self._lines and (data := self._lines[0].get("data", "").partition(" ")[0]) in DATASETS:
            return DATASETS[data].classes
        return self._state["training"]["network"]["classes"] if self._state else 0

    @property
    def says(self) -> str:
        """How far it has come, in one sentence."""
        epochs = self.epochs
        of = self._lines[-1]["recipe"]["epochs"] if epochs else "?"
        point = f", last checkpoint at update {self._state['state']['update']:,}" if self._state else ""
        done = f"{len(epochs)} of {of} epochs{point}"
        if is_busy(self.folder):
            return f"runs now: {done}"
        if len(epochs) == of:
            return f"finished: {done}"
        return f"stopped: {done}; the same `zfnet train` with --resume continues it"

    @property
    def moments(self) -> dict[str, Path]:
        """The moments at which the weights are at hand, in order, and the file of each."""
        snapshots = sorted((self.folder / "snapshots").glob(f"epoch-*/{WEIGHTS}"))
        found = {path.parent.name.replace("-", " "): path for path in snapshots}
        for state in saved_states(self.folder)[:1]:
            found[f"update {int(state.name.partition('-')[2]):,}"] = state / TENSORS
        for folder in self._weights[:1]:
            found["the end"] = folder / WEIGHTS
        return found

    def filters(self, moment: str) -> np.ndarray:
        """Return the filters of the first layer at a moment, [maps, 3, k, k].

        Raises:
            ZfnetError: They are gone, because a newer checkpoint took their place.
        """
        try:
            with safe_open(self.moments[moment], "pt") as file:
                return file.get_tensor(FIRST).float().numpy()
        except (KeyError, OSError, SafetensorError):
            raise ZfnetError(f"the weights of {moment} are gone; choose a newer moment") from None

    @property
    def _lines(self) -> list[dict[str, Any]]:
        return read_epochs(self.record)

    @property
    def _state(self) -> dict[str, Any]:
        """The values of the newest checkpoint; nothing without one."""
        for folder in saved_states(self.folder):
            try:
                return json.loads((folder / VALUES).read_text())
            except (OSError, ValueError):  # replaced at this moment, or damaged
                continue
        return {}

    @property
    def _weights(self) -> list[Path]:
        """The folders of the trained network, where it is finished or ships."""
        return [path for place in weights_folders() for path in place.glob("*") if _trained_by(path) == self.name]


def recorded_trainings() -> list[RecordedTraining]:
    """Return the trainings that left a record or a checkpoint on this machine, or that ship as records."""
    records = {
        path.stem: path for recipe in RECIPES for path in (results_root(recipe) / "trainings").glob("*.jsonl")
    }
    for folder in (data_root() / "trainings").glob("[!.]*"):
        recipe = next((recipe for recipe in RECIPES if f"-{recipe}-seed" in folder.name), "")
        records.setdefault(folder.name, results_root(recipe) / "trainings" / f"{folder.name}.jsonl")
    return [RecordedTraining(name, path) for name, path in sorted(records.items())]


class TrainingHere:
    """A training of `MINI` that runs in this process, epoch by epoch through the generator `train`.

    Args:
        data, validation: Pictures; those of `shapes` by default.
        recipe: How to train.
        seed: Of weights, order, views and dropout.

    Attributes:
        epochs: The finished ones, as dicts of `EpochResult`'s fields.
        progress: Where it stands; None before the first update.
        loss: Of every update.
    """

    name = "MINI on shapes, here and now"

    def __init__(
        self,
        data: Dataset | None = None,
        validation: Dataset | None = None,
        recipe: Recipe = SMOKE,
        seed: int = 0,
    ):
        training = Training(MINI.name, "shapes", recipe, seed)
        self.data = data or training_data(training.data, "train")
        self.validation = validation or training_data(training.data, "val")
        spec = training.spec(len(self.data.classes))
        self.net = ConvNet(spec, training_preparation(self.data, spec.image_size), seed=seed)
        self.recipe, self.seed, self.classes = recipe, seed, spec.classes
        self.epochs: list[dict[str, Any]] = []
        self.progress: Progress | None = None
        self.loss: list[float] = []
        self.state = "not begun"
        self._moments: dict[str, np.ndarray] = {"the beginning": self._filters()}

    def run(self) -> None:
        """Train to the end, or until `stop` is called."""
        self.state = "runs"
        try:
            for epoch in train(
                self.net, self.data, self.recipe, validation=self.validation, seed=self.seed, report=self._moved
            ):
                self.epochs.append(asdict(epoch))
                self._moments[f"epoch {epoch.epoch}"] = self._filters()
            self.state = "finished"
        except StoppedError:
            self.state = "stopped"

    def stop(self) -> None:
        """End the training at its next update."""
        self.state = "stops"

    @property
    def says(self) -> str:
        """How far it has come, in one sentence."""
        done, at = f"{self.state}: {len(self.epochs)} of {self.recipe.epochs} epochs", self.progress
        return f"{done}, update {at.update:,} of {at.updates:,}, loss {at.loss:.3f}" if at else done

    @property
    def moments(self) -> list[str]:
        """The moments at which the weights are at hand, in order."""
        return [*self._moments, "now"]

    def filters(self, moment: str) -> np.ndarray:
        """Return the filters of the first layer at a moment, [maps, 3, k, k]."""
        return self._filters() if moment == "now" else self._moments[moment]

    def _filters(self) -> np.ndarray:
        return self.net.get_parameter(FIRST).detach().cpu().numpy().copy()

    def _moved(self, progress: Progress) -> None:
        self.progress = progress
        self.loss.append(progress.loss)
        if self.state == "stops":
            raise StoppedError


def _trained_by(folder: Path) -> str:
    """Return the training that weights come from; nothing where they do not say."""
    try:
        return read_meta(folder)["record"].get("training", "")
    except CheckpointError:
        return ""
