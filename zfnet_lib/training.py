"""Training as in section 3: a generator of epochs that stops and continues at any update, byte for byte."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import distributed

from .batches import Batch, Batches, labels_of
from .checkpoints import save_network
from .descent import Descent, TrainingError, fitting_parts
from .evaluation import summary, tallies
from .machine import threads
from .network import ConvNet
from .recipes import OnPlateau, Recipe
from .states import StateError, newest_state, save_state, saved_states

RECENT = 20
"""Updates over which the loss is averaged to tell whether it left the plateau."""

LEFT = 0.1
"""How far below ln(classes), in nats, it has left it."""

FIGURE_4_OF = 70
FIGURE_4_EPOCHS = (1, 2, 5, 10, 20, 30, 40, 64)
"""The epochs, of the paper's 70, whose features Fig. 4 shows."""


@dataclass(frozen=True)
class EpochResult:
    """One finished epoch.

    Attributes:
        epoch: The first is 1.
        updates: Made since the start of the training.
        rate: The learning rate.
        loss: Mean training loss of the epoch, with dropout and drawn views.
        top1, top5: Validation error in percent, centre view; None without validation pictures.
        images_per_second: Of training, validation not counted.
        seconds: Of the epoch, with validation and checkpoints.
        rms: For each convolutional layer the median and the largest root mean square of its filters.
        plateau_left: The update at which the loss had left ln(classes); None before.
        stalled: Whether the loss is still there after the recipe's `stall_after` updates.
    """

    epoch: int
    updates: int
    rate: float
    loss: float
    top1: float | None
    top5: float | None
    images_per_second: float
    seconds: float
    rms: dict[str, tuple[float, float]]
    plateau_left: int | None
    stalled: bool


@dataclass(frozen=True)
class Progress:
    """Where a training stands after an update: `update` of `updates`, the loss and the learning rate."""

    update: int
    updates: int
    loss: float
    rate: float


@dataclass
class _State:
    """What changes from update to update beside weights and momenta.

    Attributes:
        parts: Into how many parts batches are split; kept, since sums depend on it.
        update: Updates made.
        loss: Sum over the updates of the current epoch.
        training, other: Seconds of the current epoch.
        recent: The last losses.
        plateau_left: The update at which the loss had left ln(classes).
        epochs: The finished epochs.
    """

    parts: int
    update: int = 0
    loss: float = 0.0
    training: float = 0.0
    other: float = 0.0
    recent: list[float] = field(default_factory=list)
    plateau_left: int | None = None
    epochs: list[EpochResult] = field(default_factory=list)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> _State:
        """Rebuild a state from what JSON holds."""
        epochs = [
            EpochResult(**epoch | {"rms": {name: tuple(pair) for name, pair in epoch["rms"].items()}})
            for epoch in values["epochs"]
        ]
        return cls(**values | {"epochs": epochs})


def train(
    net: ConvNet,
    data,
    recipe: Recipe,
    *,
    validation=None,
    folder: Path | None = None,
    resume: bool = False,
    seed: int = 0,
    exclude: Iterable[int] = (),
    snapshots: bool = False,
    every: float = 300.0,
    workers: int = 0,
    compiled: bool = False,
    report: Callable[[Progress], None] | None = None,
    notice: Callable[[str], None] | None = None,
) -> Iterator[EpochResult]:
    """Train a network by a recipe (section 3); yield one result an epoch.

    The weights change in place. A resumed training first yields the epochs that were finished before, so that the
    caller always sees all of them. Under `torchrun` every process calls this with the same arguments, and the
    recipe's batch is shared among them.

    Args:
        net: The network, with its preparation (`training_preparation`) and initial weights.
        data: Training pictures: a pack, or any data set of pictures and labels.
        recipe: How to train.
        validation: Pictures whose errors each epoch reports.
        folder: For checkpoints and snapshots; nothing is written without one.
        resume: Continue from the newest whole checkpoint in `folder`, or start where there is none.
        seed: Of order, views and dropout (the initial weights have their own).
        exclude: Training pictures that are never drawn.
        snapshots: Save the network to `folder/snapshots` at the shares of training that Fig. 4 shows, counted from
            the end of the plateau.
        every: Seconds between checkpoints; each epoch ends with one.
        workers: Processes that decode pictures that are not packed.
        compiled: Run the convolutional layers through `torch.compile`: for GPUs; it takes a compiler and a minute
            to start, and rounds sums otherwise.
        report: Called after every update.
        notice: Called with a sentence when a damaged checkpoint was passed over.

    Returns:
        An iterator of `EpochResult`.

    Raises:
        TrainingError: The loss is not a number, or a plateau rule lacks validation pictures.
        BatchError: A batch or labels that are impossible.
        StateError: Checkpoints that are damaged, of another training, or there without `resume`.

    Example:
        >>> from zfnet_lib import MINI, open_dataset
        >>> from zfnet_lib.batches import training_preparation
        >>> from zfnet_lib.datasets import pack_in_memory
        >>> from zfnet_lib.recipes import Drops
        >>> shapes = pack_in_memory(open_dataset("shapes", "train", n=32), 64)
        >>> net = ConvNet(MINI, training_preparation(shapes, 64))
        >>> [epoch.updates for epoch in train(net, shapes, Recipe("brief", 2, Drops(()), batch=16))]
        [2, 4]
    """
    if validation is not None:
        labels_of(validation, net.spec.classes)
    elif isinstance(recipe.anneal, OnPlateau):
        raise TrainingError(
            f"recipe {recipe.name} lowers the learning rate when the validation error stops falling; "
            f"give validation pictures, or a recipe with a fixed schedule"
        )
    several = distributed.is_initialized()
    batches = Batches(
        data,
        net.preparation,
        size=recipe.batch,
        classes=net.spec.classes,
        views=recipe.views,
        seed=seed,
        exclude=exclude,
        rank=distributed.get_rank() if several else 0,
        world=distributed.get_world_size() if several else 1,
        workers=workers,
        device=net.device,
    )
    state = _State(fitting_parts(recipe.batch, net.device))
    run = _Run(net, batches, recipe, state, validation, folder, snapshots, every, compiled, report)
    run.find_state(resume, notice)
    return run.epochs()


@dataclass
class _Run:
    """One training: its arguments and its state."""

    net: ConvNet
    batches: Batches
    recipe: Recipe
    state: _State
    validation: Any
    folder: Path | None
    snapshots: bool
    every: float
    compiled: bool
    report: Callable[[Progress], None] | None
    restored: dict[str, torch.Tensor] = field(default_factory=dict)

    @property
    def updates(self) -> int:
        """Of the whole training."""
        return self.recipe.epochs * len(self.batches)

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints and snapshots: the first, where there is a folder."""
        return self.folder is not None and self.batches.rank == 0

    def find_state(self, resume: bool, notice: Callable[[str], None] | None) -> None:
        """Take up the newest checkpoint, if there is one and it is of this training."""
        if self.folder is None:
            return
        if saved_states(self.folder) and not resume:
            raise StateError(
                f"{self.folder} holds an unfinished or finished training; continue it with resume (--resume), "
                f"or choose another folder"
            )
        found = newest_state(self.folder)
        if found is None:
            return
        for sentence in found.damaged:
            if notice:
                notice(f"{sentence}; continuing from the one before it")
        self._require_same(found.values["training"])
        self.state, self.restored = _State.from_dict(found.values["state"]), found.tensors

    def epochs(self) -> Iterator[EpochResult]:
        """Yield the finished epochs, then train the others."""
        with threads(self.state.parts) as pool:
            self.descent = Descent(self.net, self.recipe, self.state.parts, pool, self.batches.seed, self.compiled)
            if self.restored:
                self.descent.restore(self.restored)
            yield from list(self.state.epochs)
            while len(self.state.epochs) < self.recipe.epochs:
                yield self._epoch()

    def _epoch(self) -> EpochResult:
        state, number = self.state, len(self.state.epochs) + 1
        learning = [e.top1 for e in state.epochs if e.plateau_left is not None]
        rate = self.recipe.rate_in(number, learning)
        self.clock = self.written = perf_counter()
        for batch in self.batches.epoch(number, state.update - (number - 1) * len(self.batches)):
            self._update(batch, rate)
        result = self._result(number, rate)
        state.epochs.append(result)
        state.loss = state.training = state.other = 0.0
        self._save()
        return result

    def _update(self, batch: Batch, rate: float) -> None:
        state = self.state
        try:
            loss = self.descent.update(batch, state.update + 1, rate)
        except TrainingError as error:
            raise self._stopped(str(error)) from None
        state.update += 1
        state.loss += loss
        state.recent = [*state.recent, loss][-RECENT:]
        if state.plateau_left is None and self._has_left():
            state.plateau_left = state.update
        state.training += self._lap()
        if self.report:
            self.report(Progress(state.update, self.updates, loss, rate))
        self._snapshot()
        if perf_counter() - self.written >= self.every:
            self._save()
        state.other += self._lap()

    def _has_left(self) -> bool:
        recent = self.state.recent
        return len(recent) == RECENT and sum(recent) / RECENT < math.log(self.net.spec.classes) - LEFT

    def _lap(self) -> float:
        before, self.clock = self.clock, perf_counter()
        return self.clock - before

    def _result(self, number: int, rate: float) -> EpochResult:
        state, batches = self.state, self.batches
        top1, top5 = self._validate()
        state.other += self._lap()
        return EpochResult(
            number,
            state.update,
            rate,
            state.loss / len(batches),
            top1,
            top5,
            len(batches) * batches.size / state.training,
            state.training + state.other,
            filter_rms(self.net),
            state.plateau_left,
            state.plateau_left is None and state.update >= self.recipe.stall_after,
        )

    def _validate(self) -> tuple[float | None, float | None]:
        """Return the validation errors; every process evaluates its own part of the pictures."""
        if self.validation is None:
            return None, None
        rows = range(self.batches.rank, len(self.validation), self.batches.world)
        tally = torch.from_numpy(tallies(self.descent.low, self.validation, rows=rows))
        if self.batches.world > 1:
            tally = tally.to(self.net.device)
            distributed.all_reduce(tally)
        errors = summary(tally.cpu().numpy())
        return errors.top1, errors.top5

    def _snapshot(self) -> None:
        """Save the network at the epochs of Fig. 4, as shares of what followed the plateau."""
        left, update = self.state.plateau_left, self.state.update
        if not (self.snapshots and self.writes) or left is None:
            return
        for epoch in FIGURE_4_EPOCHS:
            if update == math.ceil(left + (self.updates - left) * epoch / FIGURE_4_OF):
                record = {"recipe": self.recipe.to_dict(), "update": update, "updates": self.updates}
                save_network(self.net, self.folder / "snapshots" / f"epoch-{epoch:02d}-of-70", record)

    def _save(self) -> None:
        """Write a checkpoint, unless the weights are no numbers any more."""
        self.written = perf_counter()
        if not self.writes:
            return
        tensors = self.descent.tensors()
        if not all(value.isfinite().all() for value in tensors.values()):
            raise self._stopped(f"the weights became infinite at update {self.state.update}")
        save_state(
            self.folder, self.state.update, tensors, {"training": self._identity(), "state": asdict(self.state)}
        )
        self.written = perf_counter()

    def _stopped(self, reason: str) -> TrainingError:
        kept = saved_states(self.folder) if self.folder else []
        where = f"the last good checkpoint is {kept[0]}" if kept else "there is no checkpoint yet"
        return TrainingError(f"{reason}; {where}; lower the learning rate, or check the pictures and labels")

    def _identity(self) -> dict[str, Any]:
        """Return what a checkpoint must share with the training that continues it."""
        recipe = self.recipe.to_dict()
        recipe.pop("expected")
        return {
            "network": self.net.spec.to_dict(),
            "recipe": recipe,
            "seed": self.batches.seed,
            "data": getattr(self.batches.data, "fingerprint", ""),
            "pictures": _digest(self.batches.rows),
        }

    def _require_same(self, saved: dict[str, Any]) -> None:
        ours = json.loads(json.dumps(self._identity()))
        different = [key for key in ours if ours[key] != saved.get(key)]
        if different:
            raise StateError(
                f"{self.folder} holds a training with another {' and another '.join(different)}; "
                f"choose another folder, or resume it with what it began with"
            )


def filter_rms(net: ConvNet) -> dict[str, tuple[float, float]]:
    """Return the median and the largest root mean square of each convolutional layer's filters (section 3)."""
    result = {}
    for conv in net.spec.convs:
        rms = net.get_submodule(conv.name).weight.detach().square().mean((1, 2, 3)).sqrt()
        result[conv.name] = (rms.median().item(), rms.max().item())
    return result


def _digest(values: torch.Tensor) -> str:
    return hashlib.sha256(values.cpu().contiguous().numpy().tobytes()).hexdigest()[:12]
