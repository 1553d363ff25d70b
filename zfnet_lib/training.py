"""Training as in section 3, from top to bottom: recipe, update, loop, checkpoint."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim.sgd import sgd as sgd_step

from .architecture import ArchSpec
from .batches import Batch, Batches, labels_of
from .evaluation import summary, tallies
from .files import ZfnetError, check, storing, sweep
from .machine import threads
from .network import ConvNet
from .weights import save_network

RECENT, PLATEAU_DROP = 20, 0.1  # a loss whose mean over 20 updates is 0.1 nats below ln(classes) left the plateau
IN_CACHE = 2**17  # weights of which values, gradients and momenta fit in a core's cache
FIGURE_4_OF, FIGURE_4_EPOCHS = 70, (1, 2, 5, 10, 20, 30, 40, 64)  # whose features Fig. 4 shows


@dataclass(frozen=True)
class Drops:
    """Divide the learning rate by ten at shares of the training that are fixed beforehand, in whole epochs."""

    shares: tuple[float, ...]

    def count(self, epoch: int, epochs: int, errors: Sequence[float]) -> int:
        """Return how often the rate has been divided before this epoch (the first is 1)."""
        return sum(epoch > round(share * epochs) for share in self.shares)


@dataclass(frozen=True)
class OnPlateau:
    """Divide the learning rate by ten when the validation error stops falling (section 3), by a fixed rule."""

    patience: int = 4  # epochs without a fall
    least: float = 0.2  # points of error that count as a fall
    most: int = 3  # divisions

    def count(self, epoch: int, epochs: int, errors: Sequence[float]) -> int:
        """Return how often the rate has been divided, after the errors of epochs in which the network learnt."""
        count, epochs_without_fall, best = 0, 0, math.inf
        for error in errors:
            epochs_without_fall = 0 if error <= best - self.least else epochs_without_fall + 1
            best = error if epochs_without_fall == 0 else best
            if epochs_without_fall == self.patience:
                count, epochs_without_fall = count + 1, 0
        return min(count, self.most)


@dataclass(frozen=True)
class Recipe:
    """A training as a value (section 3); the paper is silent about decay, which is Krizhevsky's."""

    name: str
    epochs: int
    anneal: Drops | OnPlateau
    rate: float = 1e-2
    momentum: float = 0.9
    batch: int = 128  # pictures an update, over all processes together
    decay: float = 5e-4  # of the weights; biases do not decay
    views: str = "random"  # of each picture: random crops and flips, one of the ten of section 3, or the centre
    clip: str = "all"  # layers whose filters are scaled back after each update; none: Fig. 5a
    precision: str = "float32"  # of maps and gradients; weights and momenta are float32 always
    stall_after: int = 2000  # updates after which a network still at ln(classes) has stalled
    expected: str = ""  # time, error and hardware, in words

    def __post_init__(self) -> None:
        views, clip = ("random", "ten", "centre"), ("all", "none", "first", "but-first")
        for key, allowed in {"views": views, "clip": clip, "precision": ("float32", "bfloat16")}.items():
            if (value := getattr(self, key)) not in allowed:
                raise ZfnetError(f"recipe {self.name}: {key} is {value!r}; choose one of {', '.join(allowed)}")
        for key, least in {"epochs": 1, "batch": 1, "rate": 0, "decay": 0, "momentum": 0}.items():
            if not (value := getattr(self, key)) >= least:  # refuses NaN, too
                raise ZfnetError(f"recipe {self.name}: {key} is {value}; it is at least {least}")

    def rate_in(self, epoch: int, errors: Sequence[float]) -> float:
        """Return the learning rate of an epoch (the first is 1), given the validation errors before it."""
        return self.rate / 10 ** self.anneal.count(epoch, self.epochs, errors)

    def clipped(self, spec: ArchSpec) -> tuple[str, ...]:
        """Return the layers whose filters are scaled back."""
        names = tuple(conv.name for conv in spec.convs)
        return {"all": names, "none": (), "first": names[:1], "but-first": names[1:]}[self.clip]

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values for records, without what is expected of it."""
        values = asdict(self) | {"anneal": repr(self.anneal)}
        return {key: value for key, value in values.items() if key != "expected"}


PAPER = Recipe(  # section 3
    "paper",
    epochs=70,
    anneal=OnPlateau(),
    precision="bfloat16",
    stall_after=5000,
    expected="ImageNet 2012 at 224 pixels; the paper: 12 days on one GTX 580, 38.4 % top-1 and 16.5 % top-5 error "
    "(one network)",
)
TINY = Recipe(  # the rate falls before epochs 8 and 11, the same for every network that is compared
    "tiny",
    epochs=12,
    anneal=Drops((7 / 12, 10 / 12)),
    precision="bfloat16",
    expected="Tiny-ImageNet at 112 pixels: 1 to 2 hours on two idle processor cores with bf16 instructions; "
    "a top-1 error under 70 % (one network, one view)",
)
SMOKE = Recipe(  # enough to leave the plateau; it tests the machinery and is no evidence; networks are narrow here
    "smoke",
    epochs=5,
    anneal=Drops((4 / 5,)),
    batch=64,
    stall_after=200,
    expected="`shapes` at 64 pixels: 320 updates, seconds on two cores; where chance is 93.75 % error, `MINI` ends "
    "below 35 % and every row of Table 2 below 70 %",
)
RECIPES = {recipe.name: recipe for recipe in (PAPER, TINY, SMOKE)}


def recipe_named(name: str) -> Recipe:
    """Return a named recipe."""
    if name not in RECIPES:
        raise ZfnetError(f"there is no recipe {name!r}; known are {', '.join(RECIPES)}")
    return RECIPES[name]


class SGD:
    """Stochastic gradient descent of section 3: momentum, decay, dropout, filters scaled back to their radius.

    Weights are float32; a copy of the network, made anew after every update, computes in the recipe's precision.
    Threads work through parts of a batch. Their gradients are added in order, whichever thread was faster.
    """

    def __init__(
        self, net: ConvNet, recipe: Recipe, parts: int, pool: Executor, seed: int = 0, compiled: bool = False
    ):
        self.net, self.recipe, self.pool, self.seed = net, recipe, pool, seed
        net.to(memory_format=torch.channels_last)
        world = distributed.get_world_size() if distributed.is_initialized() else 1
        self.pictures, self.dtype = recipe.batch // world, getattr(torch, recipe.precision)
        self.computing = net if self.dtype == torch.float32 else copy.deepcopy(net).to(self.dtype)
        self.replicas: list[ConvNet] = []  # one for each part of a batch
        for _ in range(parts):
            # `deepcopy` takes from the memo instead of copying: so every replica has Parameters, and gradients, of
            # its own over the same storage.
            memo = {id(weight): nn.Parameter(weight.data) for weight in self.computing.parameters()}
            self.replicas.append(copy.deepcopy(self.computing, memo).train())
        for replica in self.replicas if compiled else ():
            replica.convolved = torch.compile(replica.convolved, dynamic=False)  # type: ignore[method-assign]
        self.called = [DistributedDataParallel(each) for each in self.replicas] if world > 1 else self.replicas
        # each thread updates about as many weights
        self.shares: list[dict[str, nn.Parameter]] = [{} for _ in range(parts)]
        for name, weight in sorted(net.named_parameters(), key=lambda item: -item[1].numel()):
            min(self.shares, key=lambda share: sum(map(Tensor.numel, share.values())))[name] = weight
        self.momenta = {name: torch.zeros_like(weight) for name, weight in net.named_parameters()}

    def gradients(self, k: int, part: Batch, number: int) -> float:
        """Leave the gradients of part k of an update's batch in its copy; return its share of the mean loss."""
        model, device = self.called[k], self.net.device
        x = part.prepared(self.net.preparation, device, self.dtype)
        drawn = np.random.SeedSequence([self.seed, number, part.first]).generate_state(1, np.uint64)
        generator = torch.Generator(device).manual_seed(int(drawn[0] >> 1))  # what dropout drops
        logits = model(x, generator).float()
        loss = F.cross_entropy(logits, part.labels.to(device), reduction="sum") / self.pictures
        model.zero_grad(set_to_none=True)
        loss.backward()
        return loss.item()

    def step(self, rate: float) -> None:
        """Update the weights by the gradients of all parts, and scale the filters back."""
        list(self.pool.map(self._step, self.shares, repeat(rate)))

    @torch.no_grad()
    def _step(self, share: dict[str, nn.Parameter], rate: float) -> None:
        """Update a thread's weights, of dense layers by rows that stay in the cache from gradients to copy."""
        how: dict[str, Any] = {"momentum": self.recipe.momentum, "lr": rate, "dampening": 0}
        how |= {"nesterov": False, "maximize": False}
        how["fused"] = self.net.device.type != "mps"  # which older versions of torch lack there
        for name, weight in share.items():
            left = (replica.get_parameter(name).grad for replica in self.replicas)
            grads = [grad for grad in left if grad is not None]
            decay = self.recipe.decay if name.endswith("weight") else 0.0
            by_rows = weight.ndim == 2 and weight.device.type == "cpu"
            rows = max(1, IN_CACHE // weight.shape[1]) if by_rows else len(weight)
            copied = self.computing.get_parameter(name)
            pieces = (each.split(rows) for each in (weight, self.momenta[name], copied, *grads))
            for values, momentum, copy_, first, *others in zip(*pieces, strict=True):
                grad = first.float()  # in float32 this is part 0's own gradient, which the next update drops
                for other in others:
                    grad += other
                sgd_step([values], [grad], [momentum], weight_decay=decay, **how)
                copy_.copy_(values)
        clipped = [layer for layer in self.recipe.clipped(self.net.spec) if f"{layer}.weight" in share]
        self.net.renormalise(tuple(clipped))
        for layer in clipped:
            self.computing.get_parameter(f"{layer}.weight").copy_(share[f"{layer}.weight"])

    def tensors(self) -> dict[str, Tensor]:
        """Return weights and momenta as a checkpoint keeps them."""
        weights = {name: weight.detach() for name, weight in self.net.named_parameters()}
        return weights | {f"{name}.momentum": momentum for name, momentum in self.momenta.items()}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to what `tensors` returned."""
        for name, weight in self.net.named_parameters():
            weight.copy_(tensors[name])
            self.computing.get_parameter(name).copy_(weight)
            self.momenta[name].copy_(tensors[f"{name}.momentum"])


def fitting_parts(batch: int, device: torch.device) -> int:
    """Return the number of parts of a batch here: one for each core, and one on a GPU or in each process."""
    if device.type != "cpu" or distributed.is_initialized():
        return 1
    return max(1, min(torch.get_num_threads(), batch // 32))  # smaller ones cost more in weight gradients


@dataclass(frozen=True)
class EpochResult:
    """One finished epoch."""

    epoch: int  # the first is 1
    updates: int  # since the start of the training
    rate: float
    loss: float  # mean over the epoch, with dropout and drawn views
    top1: float | None  # validation errors in percent, centre view
    top5: float | None
    images_per_second: float  # of training alone
    seconds: float  # with validation and checkpoints
    rms: dict[str, tuple[float, float]]  # of each convolutional layer's filters: the median and the largest
    plateau_left: int | None  # the update at which the loss had left ln(classes)
    stalled: bool  # still there after the recipe's `stall_after` updates


class Progress(NamedTuple):
    """Where a training stands after an update."""

    update: int
    updates: int
    loss: float
    rate: float


@dataclass
class _State:
    """What a checkpoint keeps beside weights and momenta; whatever is drawn follows from seed and update."""

    parts: int  # into which batches are split: sums depend on it
    update: int = 0
    loss: float = 0.0  # summed over the updates of the current epoch
    seconds_training: float = 0.0  # of the current epoch
    seconds_beside: float = 0.0
    recent: list[float] = field(default_factory=list)  # losses
    plateau_left: int | None = None
    epochs: list[EpochResult] = field(default_factory=list)  # finished ones

    def count(self, loss: float, seconds: float, classes: int) -> None:
        """Take in one update; at a loss of ln(classes) a network knows nothing yet."""
        self.update += 1
        self.loss += loss
        self.seconds_training += seconds
        self.recent = [*self.recent, loss][-RECENT:]
        below = len(self.recent) == RECENT and sum(self.recent) / RECENT < math.log(classes) - PLATEAU_DROP
        if self.plateau_left is None and below:
            self.plateau_left = self.update


def snapshot_updates(left: int, updates: int) -> dict[int, int]:
    """Return, by epoch of Fig. 4, the update that is the same share of those that follow the plateau."""
    return {epoch: math.ceil(left + (updates - left) * epoch / FIGURE_4_OF) for epoch in FIGURE_4_EPOCHS}


TENSORS, VALUES = "state.safetensors", "state.json"  # the files of a checkpoint


def saved_states(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, newest first."""
    return sorted(folder.glob("update-*"), reverse=True)


def require_new(folder: Path) -> None:
    """Refuse a folder in which a training was begun."""
    if saved_states(folder):
        go_on = "continue it with resume (--resume), or choose another folder or --seed"
        raise ZfnetError(f"{folder} holds a training; {go_on}")


class _Checkpoints:
    """The checkpoints of one training, which its `identity` tells from others; without a folder there are none."""

    def __init__(self, folder: Path | None, identity: dict[str, Any], writes: bool):
        self.folder, self.identity, self.writes = folder, identity, writes

    def resumed(self, resume: bool, notice: Callable | None) -> tuple[_State, dict[str, Tensor]] | None:
        """Return the newest whole checkpoint, if there is one; it must be of this training, and be asked for."""
        if (folder := self.folder) is None:
            return None
        sweep(folder)
        if not resume:
            require_new(folder)
        damaged: dict[Path, str] = {}
        for path in (found := saved_states(folder)):
            try:
                check(path)
                values, tensors = json.loads((path / VALUES).read_text()), load_file(path / TENSORS)
                saved, state = values["training"], _State(**values["state"])
                break
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                damaged[path] = f"the checkpoint {path} is damaged ({error})"
        else:
            if damaged:
                none = "and there is no earlier one"
                raise ZfnetError(f"{damaged[found[0]]}, {none}; remove {folder} and train anew")
            return None
        ours = json.loads(json.dumps(self.identity))
        if different := [key for key in saved | ours if ours.get(key) != saved.get(key)]:
            other = f"holds a training with another {' and another '.join(different)}"
            raise ZfnetError(f"{folder} {other}; choose another folder, or resume it with what it began with")
        for path, sentence in damaged.items():
            if notice:
                notice(f"{sentence}; continuing from the one before it")
            if self.writes:  # or it would be taken for the newest, and those that are whole removed
                with suppress(OSError):
                    path.rename(path.with_name(f"damaged-{path.name}"))
        stored: list[Any] = state.epochs  # as JSON holds them
        for epoch in stored:
            epoch["rms"] = {name: tuple(pair) for name, pair in epoch["rms"].items()}
        state.epochs = [EpochResult(**epoch) for epoch in stored]
        return state, tensors

    def save(self, state: _State, sgd: SGD) -> None:
        """Write a checkpoint and keep the one before it; weights that are not finite are an error."""
        if self.folder is None or not self.writes:
            return
        kept = {name: value.cpu().contiguous() for name, value in sgd.tensors().items()}
        if not all(value.isfinite().all() for value in kept.values()):
            raise self.stopped(f"the weights became infinite at update {state.update}")
        with storing(self.folder / f"update-{state.update:09d}") as temporary:
            temporary.mkdir()
            save_file(kept, temporary / TENSORS)
            (temporary / VALUES).write_text(json.dumps({"training": self.identity, "state": asdict(state)}) + "\n")
        for old in saved_states(self.folder)[2:]:
            shutil.rmtree(old)

    def stopped(self, reason: str) -> ZfnetError:
        """Return the error of a training that cannot go on."""
        kept = saved_states(self.folder) if self.folder else []
        where = f"the last good checkpoint is {kept[0]}" if kept else "there is no checkpoint yet"
        return ZfnetError(f"{reason}; {where}; lower the learning rate, or check the pictures and labels")


def train(
    net: ConvNet,
    data,
    recipe: Recipe,
    *,
    validation=None,
    folder: str | Path | None = None,
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

    The weights change in place. A resumed training first yields the epochs that were finished before, and ends with
    the very bytes of one that was never stopped. Under `torchrun` every process calls this with the same arguments,
    and they share each batch.

    Args:
        net: The network, with its preparation (`batches.training_preparation`) and initial weights.
        data: A pack, or a data set with `len`, `[i] -> (uint8 picture, label)`, `labels` and `name`.
        recipe: How to train.
        validation: Pictures whose errors each epoch reports, in percent.
        folder: For checkpoints and snapshots; nothing is written without one.
        resume: Continue from the newest whole checkpoint in `folder`, or start where there is none.
        seed: Of order, views and dropout (the initial weights have their own).
        exclude: Training pictures that are never drawn.
        snapshots: Save the network to `folder/snapshots` at Fig. 4's shares of what follows the plateau.
        every: Seconds between checkpoints; each epoch ends with one.
        workers: Processes that decode pictures that are not packed.
        compiled: Run the convolutions through `torch.compile`: for GPUs; a minute to start, and other roundings.
        report: Called after every update.
        notice: Called with a sentence where a damaged checkpoint was passed over.

    Returns:
        A generator of `EpochResult`.

    Raises:
        ZfnetError: The network is no `ConvNet`; the loss is not finite; validation pictures are missing; a batch or
            labels are impossible; checkpoints are damaged, of another training, or there without `resume`.
    """
    if not isinstance(net, ConvNet):
        name = getattr(net, "name", type(net).__name__)
        raise ZfnetError(f"{name} is no `ConvNet`, and only these are trained here; train it by its own code")
    folder = None if folder is None else Path(folder)
    if validation is not None:
        labels_of(validation, net.spec.classes)  # refused now rather than after an epoch
    elif isinstance(recipe.anneal, OnPlateau):
        give = "give validation pictures, or a recipe with a fixed schedule"
        raise ZfnetError(f"recipe {recipe.name} lowers the rate when the validation error stops falling; {give}")
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    drawn: dict[str, Any] = {"views": recipe.views, "seed": seed, "exclude": exclude, "workers": workers}
    drawn |= {"size": recipe.batch, "classes": net.spec.classes, "rank": rank, "world": world, "device": net.device}
    batches = Batches(data, net.preparation, **drawn)
    updates, steps = recipe.epochs * len(batches), len(batches)
    drawn_from = hashlib.sha256(batches.rows.numpy().tobytes()).hexdigest()[:12]
    preparation = net.preparation
    subtracted = torch.cat([preparation.mean.flatten(), preparation.scale.flatten()]).cpu().numpy().tobytes()
    prepared = [preparation.short_side, preparation.crop, hashlib.sha256(subtracted).hexdigest()[:12]]
    identity = {"network": net.spec.to_dict(), "recipe": recipe.to_dict(), "seed": seed}
    identity |= {"data": getattr(data, "fingerprint", ""), "pictures": drawn_from, "preparation": prepared}
    identity |= {"number of processes": world} if world > 1 else {}  # sums depend on it
    checkpoints = _Checkpoints(folder, identity, writes=rank == 0)  # one process writes for all
    state, tensors = checkpoints.resumed(resume, notice) or (_State(fitting_parts(recipe.batch, net.device)), {})
    snapshots_in = folder / "snapshots" if snapshots and folder is not None and rank == 0 else None

    with threads(state.parts) as pool:
        sgd = SGD(net, recipe, state.parts, pool, seed, compiled)
        if tensors:
            sgd.restore(tensors)
        yield from list(state.epochs)
        for epoch in range(len(state.epochs) + 1, recipe.epochs + 1):
            seen = [each.top1 for each in state.epochs if each.plateau_left is not None]
            rate = recipe.rate_in(epoch, [error for error in seen if error is not None])
            clock = written = perf_counter()
            for batch in batches.epoch(epoch, state.update - (epoch - 1) * steps):
                number, parts = state.update + 1, batch.split(state.parts)
                losses = pool.map(sgd.gradients, range(state.parts), parts, repeat(number))
                loss = _summed(torch.tensor(sum(losses), dtype=torch.float64), net.device).item() / world
                if not math.isfinite(loss):
                    at = f"at update {number} with learning rate {rate:g}"
                    raise checkpoints.stopped(f"the loss became {loss} {at}")
                sgd.step(rate)

                trained = perf_counter()
                state.count(loss, trained - clock, net.spec.classes)
                if report:
                    report(Progress(number, updates, loss, rate))
                if snapshots_in and state.plateau_left is not None:
                    for shown, due in snapshot_updates(state.plateau_left, updates).items():
                        if due == number:
                            record = {"recipe": recipe.to_dict(), "update": number, "updates": updates}
                            save_network(net, snapshots_in / f"epoch-{shown:02d}-of-{FIGURE_4_OF}", record)
                if perf_counter() - written >= every:
                    checkpoints.save(state, sgd)
                    written = perf_counter()
                clock = perf_counter()
                state.seconds_beside += clock - trained

            top1 = top5 = None
            if validation is not None:  # every process evaluates its own part of the pictures
                tally = tallies(sgd.computing, validation, rows=range(rank, len(validation), world))
                errors = summary(_summed(torch.from_numpy(tally), net.device).numpy())
                top1, top5 = errors.top1, errors.top5
            state.seconds_beside += perf_counter() - clock
            result = EpochResult(
                epoch=epoch,
                updates=state.update,
                rate=rate,
                loss=state.loss / steps,
                top1=top1,
                top5=top5,
                images_per_second=steps * recipe.batch / state.seconds_training,
                seconds=state.seconds_training + state.seconds_beside,
                rms=filter_rms(net),
                plateau_left=state.plateau_left,
                stalled=state.plateau_left is None and state.update >= recipe.stall_after,
            )
            state.epochs.append(result)
            state.loss = state.seconds_training = state.seconds_beside = 0.0
            checkpoints.save(state, sgd)
            yield result


def filter_rms(net: ConvNet) -> dict[str, tuple[float, float]]:
    """Return the median and the largest root mean square of each convolutional layer's filters (section 3)."""
    found = {}
    for conv in net.spec.convs:
        rms = net.get_parameter(f"{conv.name}.weight").detach().square().mean((1, 2, 3)).sqrt()
        found[conv.name] = rms.median().item(), rms.max().item()
    return found


def _summed(value: Tensor, device: torch.device) -> Tensor:
    """Return the sum over all processes."""
    if distributed.is_initialized():
        value = value.to(device)
        distributed.all_reduce(value)
    return value.cpu()
