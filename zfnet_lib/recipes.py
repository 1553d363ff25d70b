"""How networks are trained, as values: the paper's recipe (section 3) at three scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .files import ZfnetError
from .specs import ArchSpec

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
        for field, allowed in (("views", VIEWS), ("clip", CLIPS), ("precision", PRECISIONS)):
            if getattr(self, field) not in allowed:
                raise RecipeError(
                    f"recipe {self.name}: {field} is {getattr(self, field)!r}; choose one of {', '.join(allowed)}"
                )
        for field, least in (("epochs", 1), ("batch", 1), ("rate", 0), ("decay", 0), ("momentum", 0)):
            if not getattr(self, field) >= least:
                raise RecipeError(f"recipe {self.name}: {field} is {getattr(self, field)}; it is at least {least}")

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
