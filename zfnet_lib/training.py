"""How networks are trained, as values: the paper's recipe (section 3) at three scales."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from .architecture import ArchSpec
from .batches import Batch, Batches, labels_of
from .evaluation import summary, tallies
from .files import ZfnetError, check, sha256, storing, sweep
from .machine import threads
from .network import ConvNet
from .weights import save_network

VIEWS = ("random", "ten", "centre")
CLIPS = ("all", "none", "first", "but-first")
PRECISIONS = ("float32", "bfloat16")


class RecipeError(ZfnetError, ValueError):
    """A recipe that cannot be followed."""


@dataclass(frozen=True)
class Drops:
    """Divide the learning rate by ten at shares of the training that are fixed beforehand.

    Attributes:
        shares: In (0, 1), rounded to whole epochs: 7/12 of 12 epochs is "from epoch 8 on".
    """

    shares: tuple[float, ...]

    def count(self, epoch: int, epochs: int, errors: Sequence[float]) -> int:
        """Return how often the rate has been divided before this epoch (the first is 1).

        Example:
            >>> [Drops((7 / 12, 10 / 12)).count(epoch, 12, []) for epoch in (7, 8, 10, 11)]
            [0, 1, 1, 2]
        """
        return sum(epoch > round(share * epochs) for share in self.shares)


@dataclass(frozen=True)
class OnPlateau:
    """Divide the learning rate by ten when the validation error stops falling (section 3), by a fixed rule.

    Attributes:
        patience: Epochs without a fall.
        least: A fall counts from this many points of error on.
        most: Divisions in all.
    """

    patience: int = 4
    least: float = 0.2
    most: int = 3

    def count(self, epoch: int, epochs: int, errors: Sequence[float]) -> int:
        """Return how often the rate has been divided before this epoch.

        Args:
            epoch, epochs: Not needed here; the errors say it all.
            errors: Validation errors in percent of the finished epochs in which the network was learning.

        Example:
            >>> OnPlateau(patience=2).count(5, 70, [90.0, 80.0, 80.0, 80.1])
            1
        """
        count, waited, best = 0, 0, float("inf")
        for error in errors:
            waited = 0 if error <= best - self.least else waited + 1
            best = min(best, error) if waited == 0 else best
            if waited == self.patience:
                count, waited = count + 1, 0
        return min(count, self.most)


@dataclass(frozen=True)
class Recipe:
    """A training as a value (section 3).

    Attributes:
        name: Used in messages and records.
        epochs: Passes over the training pictures.
        anneal: When the rate is divided by ten.
        rate: The learning rate at first.
        momentum: Of the stochastic gradient descent.
        batch: Pictures an update, over all processes together.
        decay: Of the weights; biases do not decay. The paper is silent: Krizhevsky's value.
        views: Of each picture in each epoch: a random crop and flip, one of the ten of section 3, or the centre.
        clip: Which convolutional layers have their filters scaled back after each update: all, none (Fig. 5a),
            the first, or all but the first.
        precision: Of maps and gradients; weights and momenta are float32 always.
        stall_after: A network still at ln(classes) after this many updates counts as stalled.
        expected: What to expect: time, error and hardware, in words.
    """

    name: str
    epochs: int
    anneal: Drops | OnPlateau
    rate: float = 1e-2
    momentum: float = 0.9
    batch: int = 128
    decay: float = 5e-4
    views: str = "random"
    clip: str = "all"
    precision: str = "float32"
    stall_after: int = 2000
    expected: str = ""

    def __post_init__(self) -> None:
        for name, allowed in (("views", VIEWS), ("clip", CLIPS), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise RecipeError(
                    f"recipe {self.name}: {name} is {getattr(self, name)!r}; choose one of {', '.join(allowed)}"
                )
        for name, least in (("epochs", 1), ("batch", 1), ("rate", 0), ("decay", 0), ("momentum", 0)):
            if not getattr(self, name) >= least:
                raise RecipeError(f"recipe {self.name}: {name} is {getattr(self, name)}; it is at least {least}")

    def rate_in(self, epoch: int, errors: Sequence[float]) -> float:
        """Return the learning rate of an epoch (the first is 1), given the validation errors before it."""
        return self.rate / 10 ** self.anneal.count(epoch, self.epochs, errors)

    def clipped(self, spec: ArchSpec) -> tuple[str, ...]:
        """Return the layers whose filters are scaled back."""
        names = tuple(conv.name for conv in spec.convs)
        return {"all": names, "none": (), "first": names[:1], "but-first": names[1:]}[self.clip]

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values for records."""
        return asdict(self) | {"anneal": repr(self.anneal)}


PAPER = Recipe(
    "paper",
    epochs=70,
    anneal=OnPlateau(),
    precision="bfloat16",
    stall_after=5000,
    expected="ImageNet 2012 at 224 pixels; the paper: 12 days on one GTX 580, 38.4 % top-1 and 16.5 % top-5 error "
    "(one network, ten views)",
)
"""Section 3: 70 epochs, the rate divided by ten when the validation error stops falling."""

TINY = Recipe(
    "tiny",
    epochs=12,
    anneal=Drops((7 / 12, 10 / 12)),
    precision="bfloat16",
    expected="Tiny-ImageNet at 112 pixels: 1 to 1.6 hours on two processor cores with bf16 instructions; "
    "a top-1 error under 70 % (one network, one view)",
)
"""Twelve epochs, the rate divided by ten from epoch 8 and again from epoch 11, the same for every network."""

SMOKE = Recipe(
    "smoke",
    epochs=5,
    anneal=Drops((4 / 5,)),
    batch=64,
    stall_after=200,
    expected="`shapes` at 64 pixels: 320 updates, seconds on two cores; where chance is 93.75 % error, `MINI` ends "
    "below 35 % and every row of Table 2 below 70 %",
)
"""Enough to leave the plateau; no evidence about anything but the machinery. Networks are narrow here, and
`ArchSpec.scaled` says what that changes in them: their first weights, and how many units dropout drops."""

RECIPES = {recipe.name: recipe for recipe in (PAPER, TINY, SMOKE)}
"""All named recipes."""


def recipe_named(name: str) -> Recipe:
    """Return a named recipe.

    Raises:
        RecipeError: Unknown name.
    """
    if name not in RECIPES:
        raise RecipeError(f"there is no recipe {name!r}; known are {', '.join(RECIPES)}")
    return RECIPES[name]


# The state of a training on disk: written whole, checked by hash, the one before kept.

TENSORS, VALUES = "state.safetensors", "state.json"
KEPT = 2


class StateError(ZfnetError, ValueError):
    """A training state that is missing, damaged, or of another training."""


@dataclass(frozen=True)
class Restored:
    """A state read back.

    Attributes:
        tensors: By name.
        values: What JSON holds.
        damaged: Newer states that could not be read, one sentence each.
    """

    tensors: dict[str, Tensor]
    values: dict[str, Any]
    damaged: tuple[str, ...] = ()


def save_state(folder: Path, update: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> Path:
    """Write the state after an update to `folder/update-…`, and remove all but the last two states.

    The folder of a state appears under its name when it is complete, so a stop at any moment leaves whole ones.

    Raises:
        ZfnetError: The folder cannot be written or the disk is full.
    """
    target = folder / f"update-{update:09d}"
    with storing(target) as temporary:
        temporary.mkdir()
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary / TENSORS)
        (temporary / VALUES).write_text(json.dumps(values) + "\n")
    for old in saved_states(folder)[KEPT:]:
        shutil.rmtree(old)
    return target


def saved_states(folder: Path) -> list[Path]:
    """Return the states in a folder, newest first."""
    return sorted(folder.glob("update-*"), reverse=True)


def newest_state(folder: Path) -> Restored | None:
    """Read the newest state that is whole; None where there is none at all.

    Raises:
        StateError: There are states, and all are damaged.
    """
    sweep(folder)
    damaged: list[str] = []
    for path in saved_states(folder):
        try:
            return Restored(*_read(path), tuple(damaged))
        except StateError as error:
            damaged.append(str(error))
    if damaged:
        raise StateError(f"{damaged[0]}, and there is no earlier one; remove {folder} and train anew")
    return None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        check(path)
        values = json.loads((path / VALUES).read_text())
        before = values.pop("sha256", None)  # earlier versions kept the hash of the tensors here
        if before and sha256(path / TENSORS) != before:
            raise ValueError("its SHA-256 differs")
        return load_file(path / TENSORS), values
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise StateError(f"the checkpoint {path} is damaged ({error})") from error


# Stochastic gradient descent as in section 3: one update at a time, its batch worked through in parts.

LEAST_PART = 32
"""Pictures below which a part of a batch costs more in weight gradients than it saves."""


class TrainingError(ZfnetError):
    """A training that cannot go on."""


def fitting_parts(batch: int, device: torch.device) -> int:
    """Return into how many parts a batch is split here: one for each core, and one on a GPU or per process."""
    if device.type != "cpu" or distributed.is_initialized():
        return 1
    return max(1, min(torch.get_num_threads(), batch // LEAST_PART))


@dataclass(frozen=True)
class _Share:
    """The parameters that one thread updates, by name, with their optimiser."""

    parameters: dict[str, nn.Parameter]
    optimiser: torch.optim.SGD


class Descent:
    """Momentum, weight decay, dropout and filter renormalisation around the float32 weights of a network.

    Maps and gradients have the recipe's precision: a copy of the network computes in it, and gets the weights anew
    after every update. Every part of a batch has its own gradients, which are added in the order of the parts, so
    that the result does not depend on which thread was faster.

    Args:
        net: The network; its weights change in place.
        recipe: Rate, momentum, decay, clipping, precision.
        parts: Into how many parts a batch is split.
        pool: Threads that work on them.
        seed: Of dropout.
        compiled: Run the convolutional layers through `torch.compile`; sums are rounded otherwise then.
    """

    def __init__(
        self, net: ConvNet, recipe: Recipe, parts: int, pool: Executor, seed: int = 0, compiled: bool = False
    ):
        self.net, self.recipe, self.pool, self.seed = net, recipe, pool, seed
        net.to(memory_format=torch.channels_last)
        self.dtype = getattr(torch, recipe.precision)
        self.low = net if self.dtype == torch.float32 else copy.deepcopy(net).to(self.dtype)
        self.world = distributed.get_world_size() if distributed.is_initialized() else 1
        self.twins = [_twin(self.low).train() for _ in range(parts)]
        for twin in self.twins if compiled else ():
            twin.convolved = torch.compile(twin.convolved, dynamic=False)
        self.models = [DistributedDataParallel(t) for t in self.twins] if self.world > 1 else self.twins
        self.shares = [self._share(names) for names in _shared_out(dict(net.named_parameters()), parts)]

    def update(self, batch: Batch, number: int, rate: float) -> float:
        """Make one update from this process's part of a batch, and return the loss over the whole batch.

        Args:
            batch: Pictures and labels.
            number: Of the update, the first is 1; what dropout drops depends on it.
            rate: The learning rate.

        Raises:
            TrainingError: The loss is not a number; the weights are as before.
        """
        parts = zip(self.models, batch.split(len(self.models)), strict=True)
        losses = self.pool.map(lambda part: self._differentiate(*part, len(batch), number), parts)
        loss = self._mean(sum(losses))
        if not np.isfinite(loss):
            raise TrainingError(f"the loss became {loss} at update {number} with learning rate {rate:g}")
        list(self.pool.map(lambda share: self._descend(share, rate), self.shares))
        return loss

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and momenta as a checkpoint keeps them."""
        tensors = {name: p.detach() for name, p in self.net.named_parameters()}
        for share in self.shares:
            for name, parameter in share.parameters.items():
                state = share.optimiser.state[parameter]
                if state:
                    tensors[f"{name}.momentum"] = state["momentum_buffer"]
        return tensors

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what `tensors` returned."""
        for share in self.shares:
            for name, parameter in share.parameters.items():
                parameter.copy_(tensors[name])
                if f"{name}.momentum" in tensors:
                    buffer = torch.empty_like(parameter).copy_(tensors[f"{name}.momentum"])
                    share.optimiser.state[parameter]["momentum_buffer"] = buffer
            self._refresh(share.parameters)

    def _share(self, parameters: dict[str, nn.Parameter]) -> _Share:
        recipe = self.recipe
        groups = [
            {"params": [p for name, p in parameters.items() if name.endswith(kind)], "weight_decay": decay}
            for kind, decay in (("weight", recipe.decay), ("bias", 0.0))
        ]
        groups = [group for group in groups if group["params"]]
        fused = self.net.device.type != "mps"  # which older versions of torch lack there
        return _Share(parameters, torch.optim.SGD(groups, recipe.rate, recipe.momentum, fused=fused))

    def _differentiate(self, model: nn.Module, part: Batch, pictures: int, number: int) -> float:
        """Leave the gradients of one part's share of the mean loss in its model; return that share."""
        device = self.net.device
        x = part.prepared(self.net.preparation, device, self.dtype)
        seed = np.random.SeedSequence([self.seed, number, part.first]).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(seed[0] >> 1))
        logits = model(x, generator).float()
        loss = F.cross_entropy(logits, part.labels.to(device), reduction="sum") / pictures
        model.zero_grad(set_to_none=True)
        loss.backward()
        return loss.item()

    def _mean(self, loss: float) -> float:
        """Return the mean over all processes; their gradients were averaged already."""
        if self.world == 1:
            return loss
        total = torch.tensor(loss, device=self.net.device)
        distributed.all_reduce(total)
        return total.item() / self.world

    @torch.no_grad()
    def _descend(self, share: _Share, rate: float) -> None:
        """Update one share of the parameters, renormalise its filters, and refresh the computing copy."""
        for name, parameter in share.parameters.items():
            first, *others = (twin.get_parameter(name).grad for twin in self.twins)
            total = first.float()
            for other in others:
                total += other
            parameter.grad = total
        for group in share.optimiser.param_groups:
            group["lr"] = rate
        share.optimiser.step()
        clipped = self.recipe.clipped(self.net.spec)
        self.net.renormalise(tuple(name for name in clipped if f"{name}.weight" in share.parameters))
        self._refresh(share.parameters)

    def _refresh(self, parameters: dict[str, nn.Parameter]) -> None:
        for name, parameter in parameters.items():
            self.low.get_parameter(name).copy_(parameter)


def _twin(net: ConvNet) -> ConvNet:
    """Return a network with the same weights in the same memory, and gradients of its own."""
    twin = copy.deepcopy(net)
    for own, shared in zip(twin.parameters(), net.parameters(), strict=True):
        own.data = shared.data
    return twin


def _shared_out(parameters: dict[str, nn.Parameter], n: int) -> list[dict[str, nn.Parameter]]:
    """Divide the parameters into at most n groups of about equal size."""
    groups: list[dict[str, nn.Parameter]] = [{} for _ in range(n)]
    for name, parameter in sorted(parameters.items(), key=lambda item: -item[1].numel()):
        min(groups, key=lambda g: sum(p.numel() for p in g.values()))[name] = parameter
    return [group for group in groups if group]


# Training as in section 3: a generator of epochs that stops and continues at any update, byte for byte.

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
