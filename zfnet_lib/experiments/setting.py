"""What every experiment starts from: a profile, its network and its pictures; and what it says of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..checkpoints import load_network
from ..datasets import Dataset, open_dataset
from ..network import ConvNet
from ..paths import ZfnetError, results_root
from ..recipes import recipe_named
from ..records import Provenance, Stopwatch
from ..shipping import SHIPPED
from ..specs import MINI
from ..trainings import Training
from .spot import trained


@dataclass(frozen=True)
class Profile:
    """One of the three scales at which the same notebooks run.

    Attributes:
        name: `smoke`, `tiny` or `paper`.
        network: The network that the figures take apart.
        pictures: The data set that they look at by default.
    """

    name: str
    network: str
    pictures: str


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("smoke", "mini", "shapes"),
        Profile("tiny", "alexnet-imagenet", "photos"),
        Profile("paper", "alexnet-imagenet", "imagenet"),
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


def describe_pictures(dataset) -> str:
    """Return a data set's name, split, size and fingerprint in one phrase."""
    return f"{dataset.name} {dataset.split} ({len(dataset)} pictures, fingerprint {dataset.fingerprint})"


def network_of(profile: str) -> ConvNet:
    """Return the network that a profile's figures take apart.

    `smoke` trains `MINI` on the spot, in seconds.

    Raises:
        ZfnetError: Unknown profile, or weights that are not here; the message says what brings them.
    """
    chosen = profile_of(profile)
    return trained(MINI.name).net if chosen.network == MINI.name else load_network(chosen.network)


def trained_at_hand(profile: str, name: str, clip: str = "all") -> ConvNet | None:
    """Return a network as its profile trains it: on the spot in `smoke`, else from here or as it ships.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        name: Of an architecture.
        clip: Which filters the training renormalises.

    Returns:
        The network, or None where its training has not run and its weights do not ship.
    """
    if profile_of(profile).name == "smoke":
        return trained(name, 0, clip, followed=True).net
    run = training_of(profile, name, clip=clip)
    shipped = [
        results_root(run.recipe.name) / "weights" / other for other in SHIPPED if SHIPPED[other].training == run
    ]
    return next((load_network(folder) for folder in (run.weights, *shipped) if folder.is_dir()), None)


def training_of(profile: str, name: str, seed: int = 0, clip: str = "all") -> Training:
    """Return a training by its profile: `zfnet train` performs it."""
    return Training(name, DATA[profile_of(profile).name], replace(recipe_named(profile), clip=clip), seed)


DENSITY = 3.0
"""Of the crops of photographs in which the strongest units are looked for: some 1,500."""


def pictures_of(profile: str, pictures: str = "", dense: bool = False) -> Dataset:
    """Return the data set that a profile's figures look at, or another one by its name.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        pictures: A data set; the profile's by default.
        dense: Of the photographs, take many crops that overlap.
    """
    name = pictures or profile_of(profile).pictures
    return open_dataset(name, "val", **({"density": DENSITY} if dense and name == "photos" else {}))


def profile_of(name: str) -> Profile:
    """Return a profile by its name."""
    if name not in PROFILES:
        raise ZfnetError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def setting(profile: str, pictures: str, dense: bool = False) -> tuple[Stopwatch, ConvNet, Dataset]:
    """Start a stopwatch and return it with a profile's network and pictures."""
    watch = Stopwatch()
    return watch, network_of(profile), pictures_of(profile, pictures, dense)


def source_of(net: ConvNet, dataset, watch: Stopwatch, seed: int = 0) -> Source:
    """Say what was computed from what, in the time since the stopwatch was started."""
    kind = "mini, trained on the spot on shapes" if net.spec.name == MINI.name else net.spec.name
    whole = "" if net.spec.classes else ", convolutions only"
    return Source(kind + whole, describe_pictures(dataset), watch.provenance(seed, net.device))
