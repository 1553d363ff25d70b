"""The trainings that Tables 1 and 2 and Fig. 5 rest on, in the order in which they are worth having."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from . import records
from .checkpoints import load_network
from .evaluation import errors
from .files import is_busy, is_there, results_root
from .recipes import Recipe
from .specs import STEMS, TABLE_2
from .states import saved_states
from .trainings import Training, error_records, training_data

Member = tuple[str, int]
"""A network of an ensemble: architecture and seed."""

WIDE = "zfnet-maps-512-1024-512"
FIVE: tuple[Member, ...] = tuple(("zfnet", seed) for seed in range(5))

TABLE_1: tuple[tuple[Member, ...], ...] = (
    (("krizhevsky", 0),),
    (("zfnet", 0),),
    FIVE,
    ((WIDE, 0),),
    (*FIVE, (WIDE, 0)),
)
"""The networks whose probabilities each row of Table 1 averages: one, one, (a), (b), and (a) with (b)."""

State = Literal["ran", "runs", "begun", "stored", "to come"]


def queue(data: str, recipe: Recipe) -> list[Training]:
    """Return all trainings of one data set, those that more rests on first.

    The three base runs; the other rows of Table 2, cheapest first, and the crossed stems; Table 1's further seeds
    of Fig. 3's network and of Krizhevsky's; then second seeds of the rest.

    Example:
        >>> from zfnet_lib.recipes import TINY
        >>> [training.name for training in queue("tiny-imagenet", TINY)][2:4]
        ['zfnet-clip-none-tiny-imagenet-tiny-seed0', 'krizhevsky-without-3-4-6-7-tiny-imagenet-tiny-seed0']
    """

    def seeds(name: str, *numbers: int) -> list[Training]:
        return [Training(name, data, recipe, seed) for seed in numbers]

    base = seeds("zfnet", 0) + seeds("krizhevsky", 0)
    base.append(Training("zfnet", data, replace(recipe, clip="none"), 0))
    others = [*sorted(TABLE_2.keys() - {"zfnet", "krizhevsky"}, key=_cost), *STEMS]
    first = [training for name in others for training in seeds(name, 0)]
    second = [training for name in others for training in seeds(name, 1)]
    return base + first + seeds("zfnet", 1, 2, 3, 4) + seeds("krizhevsky", 1, 2) + second


def state(training: Training) -> State:
    """Return how far a training has come on this machine; where only its record is here, it is `stored`."""
    recorded = training.errors_file.exists()
    if recorded and is_there(training.weights):
        return "ran"
    if is_busy(training.folder):
        return "runs"
    if saved_states(training.folder):
        return "begun"
    return "stored" if recorded else "to come"


def lacks(training: Training, data: str, recipe: Recipe) -> bool:
    """Tell whether Tables 1 and 2 lack what a training leaves: errors, or weights for an ensemble of Table 1."""
    if state(training) == "stored":
        return any(training in members for members in _unmeasured(data, recipe))
    return state(training) in ("begun", "to come")


def measure_ensembles(data: str, recipe: Recipe) -> Iterator[str]:
    """Measure the ensembles of Table 1 whose networks are all at hand and that have no record yet.

    Yields:
        A sentence about each.
    """
    for trainings in _unmeasured(data, recipe):
        if not all(is_there(training.weights) for training in trainings):
            continue
        names = sorted(training.name for training in trainings)
        watch, pictures = records.Stopwatch(), training_data(data, "val")
        found = errors([load_network(training.weights) for training in trainings], pictures)
        made = watch.provenance(0)
        records.append(
            _ensembles(recipe), error_records(found, pictures, made, {"networks": names, "recipe": recipe.name})
        )
        yield f"ensemble of {len(names)}: top-1 error {found.top1:.2f} %, top-5 error {found.top5:.2f} %"


def _ensembles(recipe: Recipe) -> Path:
    return results_root(recipe.name) / "errors" / "ensembles.jsonl"


def _unmeasured(data: str, recipe: Recipe) -> Iterator[list[Training]]:
    """Yield the ensembles of Table 1 that have no record."""
    known = [record.parameters["networks"] for record in records.read(_ensembles(recipe))]
    for members in TABLE_1:
        trainings = [Training(name, data, recipe, seed) for name, seed in members]
        if len(trainings) > 1 and sorted(training.name for training in trainings) not in known:
            yield trainings


def report(trainings: Sequence[Training]) -> Iterator[str]:
    """Yield a line for each training: its state, its error where it ran, and its name."""
    for training in trainings:
        found = [r for r in records.read(training.errors_file) if r.quantity == "val top-1 error"]
        error = f"{found[0].value:6.1f} %" if found else " " * 8
        yield f"{state(training):8}{error}  {training.name}"


def _cost(name: str) -> tuple[int, str]:
    return sum(TABLE_2[name].macs().values()), name
