"""What every experiment starts from: a profile, its network and its pictures; and what it says of them."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..architecture import MINI
from ..datasets import DENSE, Dataset, open_dataset, open_to_look
from ..files import ZfnetError, data_root, is_there, library_hash, results_root
from ..network import ConvNet
from ..training import recipe_named
from ..weights import known_classes, load_network
from .records import Provenance, Record, Stopwatch
from .trainings import SHIPPED, Training, performed, trained


@dataclass(frozen=True)
class Profile:
    """One of the three scales at which the same notebooks run.

    Attributes:
        name: `smoke`, `tiny` or `paper`.
        network: The weights that the figures take apart.
        pictures: The data set that they look at by default.
        side: Of the crops on which the convolutions alone look at pictures that are larger than those that they
            were trained on; 0 is the side that the whole network takes.
    """

    name: str
    network: str
    pictures: str
    side: int = 0


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", "mini", "shapes"),
        Profile("tiny", "zfnet-tiny", "photos", side=224),
        Profile("paper", "zfnet-imagenet-paper-seed0", "imagenet"),
    )
}


DATA = {"smoke": "shapes", "tiny": "tiny-imagenet", "paper": "imagenet"}
"""What each profile trains on."""


@dataclass(frozen=True)
class Source:
    """What a figure shows: which network on which pictures, computed where.

    Attributes:
        network: Its name and what it was trained on.
        pictures: The data set, its size and its fingerprint.
        provenance: Commit, machine, seed and seconds.
    """

    network: str
    pictures: str
    provenance: Provenance

    def _repr_markdown_(self) -> str:
        return f"*{self}*"

    def __str__(self) -> str:
        made = self.provenance
        commit = (made.commit[:10] or "no commit") + (" and changes" if made.dirty else "")
        return (
            f"Network: {self.network}. Pictures: {self.pictures}. Computed in {made.seconds:.1f} s on "
            f"{made.device}, torch {made.versions['torch']}, seed {made.seed}, {commit}."
        )


def source_of(records: Sequence[Record]) -> Source:
    """Say what stored records rest on, and how long all of them took.

    The seconds of each count from the beginning of a part of the work; a part ends where they fall back.
    """
    clock = [record.provenance.seconds for record in records]
    seconds = sum(now for now, then in pairwise([*clock, 0.0]) if then < now)
    pictures = "; ".join(dict.fromkeys(record.data for record in records))
    return Source(records[-1].spec, pictures, replace(records[-1].provenance, seconds=seconds))


def describe_pictures(dataset) -> str:
    """Return a data set's name, split, size and fingerprint in one phrase."""
    return f"{dataset.name} {dataset.split} ({len(dataset)} pictures, fingerprint {dataset.fingerprint})"


def network_of(profile: str, network: str = "") -> ConvNet:
    """Return the network that a profile's figures take apart, or another one.

    `smoke` trains `MINI` on the spot, in seconds.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        network: Weights by name or folder; the profile's by default.

    Raises:
        ZfnetError: Unknown profile, or weights that are not here; the message says what brings them.
    """
    chosen = profile_of(profile)
    name = network or chosen.network
    if name == MINI.name:
        return trained(MINI.name).net
    own = training_of(profile, "zfnet")
    if name == own.name and not own.weights.is_dir():
        raise ZfnetError(f"{own.name} is not trained here; run: {own.command}; or choose another network")
    return load_network(name)


def class_names(profile: str, network: str = "") -> tuple[str, ...]:
    """Return what a network calls its classes; nothing where it has none, or has no names for them.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        network: Weights by name or folder; the profile's by default.
    """
    name = network or profile_of(profile).network
    return open_dataset(DATA["smoke"], "val").classes if name == MINI.name else known_classes(name)


def trained_at_hand(profile: str, name: str, clip: str = "all") -> ConvNet | None:
    """Return a network as its profile trains it: on the spot in `smoke`, else from here or as it ships.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        name: Of an architecture.
        clip: Which filters the training renormalises.

    Returns:
        The network, or None where its training has not run and its weights do not ship.
    """
    return at_hand(training_of(profile, name, clip=clip))


def at_hand(run: Training) -> ConvNet | None:
    """Return the network of a training: on the spot in `smoke`, else from here or as it ships; None without."""
    if run.recipe.name == "smoke":
        return trained(run.network, run.seed, run.recipe.clip).net
    folder = weights_of(run)
    return load_network(folder) if folder else None


def weights_of(run: Training) -> Path | None:
    """Return where the weights of a training lie: where it left them, or as they ship; None where they do not."""
    shipped = [
        results_root(run.recipe.name) / "weights" / name for name, each in SHIPPED.items() if each.training == run
    ]
    return next((folder for folder in (performed(run, "weights").weights, *shipped) if is_there(folder)), None)


def training_of(profile: str, name: str, seed: int = 0, clip: str = "all", views: str = "random") -> Training:
    """Return a training by its profile: `zfnet train` performs it."""
    recipe = replace(recipe_named(profile), clip=clip, views=views)
    return Training(name, DATA[profile_of(profile).name], recipe, seed)


def pictures_of(profile: str, pictures: str = "", dense: bool = False) -> Dataset:
    """Return the data set that a profile's figures look at, or another one by its name.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        dense: Of the photographs, take many crops that overlap.
    """
    name = pictures or profile_of(profile).pictures
    return open_to_look(name, **({"density": DENSE} if dense and name == "photos" else {}))


def check_parameters(notebook: Mapping[str, Any]) -> None:
    """Refuse a parameter that papermill injected and the notebook does not declare, or of another type.

    Papermill alone warns of it and computes the default.

    Args:
        notebook: The names of a running notebook; of anything else nothing is refused.
    """
    cell = next((cell for cell in notebook.get("In", ()) if cell.startswith("# Parameters\n")), "")
    injected = [target.id for node in ast.parse(cell).body for target in node.targets]
    declared = notebook.get("__annotations__", {})
    for name in injected:
        if name not in declared:
            known = ", ".join(declared)
            raise ZfnetError(f"there is no parameter {name!r}; the parameters of this notebook are {known}")
        value, kind = notebook[name], declared[name]
        if type(value) is not kind and (type(value), kind) != (int, float):
            raise ZfnetError(f"the parameter {name} takes {kind.__name__}, not {value!r}")


def profile_of(name: str) -> Profile:
    """Return a profile by its name."""
    if name not in PROFILES:
        raise ZfnetError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


@dataclass(frozen=True)
class Setting:
    """A network and pictures to look at, since when.

    Attributes:
        name: Of the weights.
        net: The network.
        dataset: The pictures.
        watch: Started when the experiment began.
    """

    name: str
    net: ConvNet
    dataset: Dataset
    watch: Stopwatch

    def source(self, seed: int = 0) -> Source:
        """Say what was computed from what, in the time until now."""
        kind = "mini, trained on the spot on shapes" if self.name == MINI.name else self.name
        whole = "" if self.net.spec.classes else ", convolutions only"
        size = f", at {self.net.preparation.crop} pixels"
        made = self.watch.provenance(seed, self.net.device)
        return Source(kind + whole + size, describe_pictures(self.dataset), made)


def opened(
    profile: str, pictures: str = "", network: str = "", whole: bool = False, dense: bool = False
) -> Setting:
    """Return a profile's network and pictures, or others.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        network: Weights by name or folder; the profile's by default.
        whole: With the classifier, at the size that it takes; else the convolutions alone, on larger crops where
            the pictures are larger than those of the training.
        dense: Of the photographs, take many crops that overlap.
    """
    watch, chosen = Stopwatch(), profile_of(profile)
    net, dataset = network_of(profile, network), pictures_of(profile, pictures, dense)
    if not whole:
        net = net.features(side=dense_side(profile, net, dataset))
    return Setting(network or chosen.network, net, dataset, watch)


def searches() -> Path:
    """Return the folder in which pages and atlases share searches for strongest units, of this very library."""
    return data_root() / ".searches" / library_hash()


def dense_side(profile: str, net: ConvNet, dataset: Dataset) -> int:
    """Return the side of the input at which a network's convolutions alone look at pictures."""
    larger = profile_of(profile).side if dataset.name != DATA[profile] else 0
    return max(larger, net.preparation.crop)
