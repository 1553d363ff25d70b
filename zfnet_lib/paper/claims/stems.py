"""The stems of section 4.1 as they are at hand, by training seed, and what is stored of them."""

from __future__ import annotations

from collections.abc import Iterable

from ...datasets import Dataset, MissingDataError
from ...network import ConvNet
from ...weights import CheckpointError, load_network
from ..setting import at_hand, training_of, weights_of
from ..trainings import NATIVE, Training, training_data
from .finding import SEEDS, Number
from .stored import NotRun, Numbers, Stored, difference, over_seeds
from .subject import Subject

OURS, THEIRS = "zfnet", "krizhevsky"
SMALL_FILTERS, LARGE_FILTERS = "krizhevsky-7x7", "zfnet-11x11"
"""The crossed stems: small filters with stride 4, large ones with stride 2."""

ALEXNET = "alexnet-imagenet"

LARGER = "caltech-101"
"""What `tiny` asks about frequencies: Tiny-ImageNet's pictures are enlarged and hold no high ones."""

Networks = dict[tuple[str, int], ConvNet]
"""The lower two layers of trained networks, by architecture and seed."""


def run_of(profile: str, name: str, seed: int = 0, native: bool = False) -> Training:
    """Return the training of a stem; of a `native` one on pictures that are not enlarged."""
    own = training_of(profile, name, seed)
    return Training(name, LARGER, NATIVE, seed) if native and profile == "tiny" else own


def lower_layers(profile: str, names: Iterable[str] = (OURS, THEIRS), native: bool = False) -> Networks:
    """Return layers 1 and 2 of trained stems, of all seeds that are at hand; `smoke` trains one seed of each.

    Raises:
        NotRun: One of `OURS` and `THEIRS` is not at hand.
    """
    found: Networks = {}
    for name in names:
        for seed in range(1 if profile == "smoke" else SEEDS):
            net = at_hand(run_of(profile, name, seed, native))
            if net:
                found[name, seed] = net.features(net.spec.convs[1].name)
    _require(profile, native, {name for name, _ in found})
    return found


def alexnet(profile: str) -> Networks:
    """Return ImageNet's AlexNet, a column beside native stems; nothing in `smoke`, or where it is not here."""
    try:
        net = load_network(ALEXNET) if profile != "smoke" else None
    except CheckpointError:
        net = None
    return {(ALEXNET, 0): net.features(net.spec.convs[1].name)} if net else {}


def native_pictures(at: Subject) -> Dataset:
    """Return pictures that are not enlarged.

    Raises:
        NotRun: They are not here.
    """
    try:
        return training_data(LARGER, "all") if at.profile == "tiny" else at.dataset
    except MissingDataError as error:
        raise NotRun(str(error)) from error


def numbers_of(stored: Stored, native: bool = False) -> Numbers:
    """Return what is stored of both stems.

    Raises:
        NotRun: Nothing; the message names the trainings that are missing too.
    """
    if not stored.file.exists() and stored.profile != "smoke":
        names = {name for name in (OURS, THEIRS) if weights_of(run_of(stored.profile, name, 0, native))}
        _require(stored.profile, native, names, f"then {stored.again}")
    return stored.numbers


def by_seed(found: Numbers, quantity: str, name: str, **place) -> list[float]:
    """Return a quantity of one architecture, a value a training; nothing of one that was not at hand."""
    try:
        return [number.value for number in found.by("seed", quantity, network=name, **place).values()]
    except NotRun:
        return []


def lead(found: Numbers, quantity: str, unit: str = "", **place) -> Number:
    """Return how far a quantity of the smaller stem exceeds that of the larger one."""
    ours, theirs = (by_seed(found, quantity, name, **place) for name in (OURS, THEIRS))
    return difference(ours, theirs, unit)


def shown(found: Numbers, quantity: str, **place) -> dict[str, Number]:
    """Return a quantity of every architecture that has it, by what it is called in print."""
    units = found.by("network", quantity, **place)
    return {
        f"{name}: {quantity}": over_seeds(by_seed(found, quantity, name, **place), number.unit)
        for name, number in units.items()
    }


def with_seeds(note: str, number: Number) -> str:
    """Add how many trainings a number rests on, where they are too few."""
    return f"{note} {number.n} of {SEEDS} seeds." if number.n < SEEDS else note


def _require(profile: str, native: bool, names: set[str], then: str = "") -> None:
    missing = [run_of(profile, name, 0, native).command for name in (OURS, THEIRS) if name not in names]
    if missing:
        raise NotRun(", ".join([*(f"`{command}`" for command in missing), *([then] if then else [])]))
