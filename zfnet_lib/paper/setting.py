"""What every experiment starts from: a profile, its network and its pictures; and what is said of them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from ..architecture import MINI
from ..datasets import DENSE, Dataset, open_dataset, open_to_look
from ..datasets.overlap import known_overlaps
from ..files import ZfnetError, data_root, library_hash, results_root, stored_weights
from ..network import ConvNet
from ..training import recipe_named
from ..weights import WEIGHTS, CheckpointError, known_classes, open_network, read_meta
from .records import Provenance, Record, Stopwatch, Table, read
from .trainings import RETRAINED, SHIPPED, Training, has_splits, performed, read_epochs, trained, weights_of


class Profile(NamedTuple):
    """One of the three scales at which the same notebooks run: the network they take apart, on which pictures."""

    name: str
    network: str
    pictures: str
    side: int = 0  # of the crops of larger pictures at which the convolutions alone look; 0: the network's own


PROFILES = {
    "smoke": Profile("smoke", "mini", "shapes"),
    "tiny": Profile("tiny", "zfnet-tiny", "photos", side=224),
    "paper": Profile("paper", "zfnet-imagenet-paper-seed0", "imagenet"),
}
DATA = {"smoke": "shapes", "tiny": "tiny-imagenet", "paper": "imagenet"}
"""What each profile trains on."""


def profile_of(name: str) -> Profile:
    """Return a profile by its name."""
    if name not in PROFILES:
        raise ZfnetError(f"there is no profile {name!r}; choose one of {', '.join(PROFILES)}")
    return PROFILES[name]


def network_of(profile: str, network: str = "") -> ConvNet:
    """Return the network that a profile's figures take apart, or another by name or folder."""
    name = network or profile_of(profile).network
    if name == MINI.name:
        return trained(training_of("smoke", MINI.name))
    own = training_of(profile, "zfnet")
    if name == own.name and not own.weights.is_dir():
        raise ZfnetError(f"{own.name} is not trained here; run: {own.command}; or choose another network")
    net = open_network(name)
    if not isinstance(net, ConvNet):
        other = "`zfnet show`, `zfnet occlude` and `zfnet atlas` take it"
        raise ZfnetError(f"{name} is no plain sequence of layers, which this page needs; {other}")
    return net


def class_names(profile: str, network: str = "") -> tuple[str, ...]:
    """Return what a network calls its classes; nothing where it has none, or has no names for them."""
    name = network or profile_of(profile).network
    return open_dataset(DATA["smoke"], "val").classes if name == MINI.name else known_classes(name)


def training_of(profile: str, name: str, seed: int = 0, clip: str = "all", views: str = "random") -> Training:
    """Return a profile's training of a named architecture: `zfnet train` performs it."""
    data, recipe = DATA[profile_of(profile).name], replace(recipe_named(profile), clip=clip, views=views)
    return Training(name, data, recipe, seed)


def at_hand(run: Training) -> ConvNet | None:
    """Return the network of a training: on the spot in `smoke`, else from here or as it ships; None without."""
    if run.recipe.name == "smoke":
        return trained(run)
    folder = weights_of(run)
    return open_network(str(folder)) if folder else None


def pictures_of(profile: str, pictures: str = "", dense: bool = False) -> Dataset:
    """Return a profile's pictures, or another data set; `dense`: of the photographs many crops that overlap."""
    name = pictures or profile_of(profile).pictures
    return open_to_look(name, **({"density": DENSE} if dense and name == "photos" else {}))


def dense_side(profile: str, net: ConvNet, dataset: Dataset) -> int:
    """Return the side of the input at which a network's convolutions alone look at pictures."""
    larger = profile_of(profile).side if dataset.name != DATA[profile] else 0
    return max(larger, net.preparation.crop)


def searches() -> Path:
    """Return the folder in which pages and atlases share searches for strongest units, of this very library."""
    return data_root() / ".searches" / library_hash()


@dataclass(frozen=True)
class Source:
    """What a figure shows: which network on which pictures, computed where."""

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
    """Say what stored records rest on, and how long all of them took."""
    # seconds count from the beginning of a part of the work, which ends where they fall back
    clock = [record.provenance.seconds for record in records]
    seconds = sum(now for now, then in pairwise([*clock, 0.0]) if then < now)
    pictures = "; ".join(dict.fromkeys(record.data for record in records))
    return Source(records[-1].spec, pictures, replace(records[-1].provenance, seconds=seconds))


def describe_pictures(dataset) -> str:
    """Return a data set's name, split, size and fingerprint in one phrase."""
    return f"{dataset.name} {dataset.split} ({len(dataset)} pictures, fingerprint {dataset.fingerprint})"


@dataclass(frozen=True)
class Setting:
    """A network by its name, pictures to look at, and a watch that started with the experiment."""

    name: str
    net: ConvNet
    dataset: Dataset
    watch: Stopwatch

    def source(self, seed: int = 0) -> Source:
        """Say what was computed from what, in the time until now."""
        kind = "mini, trained on the spot on shapes" if self.name == MINI.name else self.name
        whole = "" if self.net.spec.classes else ", convolutions only"
        network = f"{kind}{whole}, at {self.net.preparation.crop} pixels"
        return Source(network, describe_pictures(self.dataset), self.watch.provenance(seed, self.net.device))


def opened(
    profile: str, pictures: str = "", network: str = "", whole: bool = False, dense: bool = False
) -> Setting:
    """Return a profile's network and pictures, or others; a `whole` network looks at the size of its classifier."""
    watch, chosen = Stopwatch(), profile_of(profile)
    net, dataset = network_of(profile, network), pictures_of(profile, pictures, dense)
    if not whole:  # convolutions alone look at larger crops where pictures are larger than those of the training
        net = net.features(side=dense_side(profile, net, dataset))
    return Setting(network or chosen.network, net, dataset, watch)


KNOWING, KNOWN = "alexnet-caltech-101", "motorcycle"
"""A whole network with ImageNet's features, for photographs of objects that it knows, and one that it names."""


def knowing(profile: str, pictures: str = "") -> str:
    """Return `KNOWING` for the photographs of `tiny`, where its convolutions were fetched; else nothing."""
    asked = profile == "tiny" and pictures in ("", "photos")
    return KNOWING if asked and RETRAINED[KNOWING].base in stored_weights() else ""


def progress(steps: Iterable, what: str) -> Iterable:
    """Show a bar over steps that together take over five seconds."""
    return tqdm(steps, what, delay=5, mininterval=1)


def check_parameters(notebook: Mapping[str, Any]) -> None:
    """Refuse a parameter that papermill injected and a notebook does not declare, or declares of another type."""
    cell = next((cell for cell in notebook.get("In", ()) if cell.startswith("# Parameters\n")), "")
    declared = notebook.get("__annotations__", {})
    for name in (target.id for node in ast.parse(cell).body for target in node.targets):
        if name not in declared:
            known = ", ".join(declared)
            raise ZfnetError(f"there is no parameter {name!r}; the parameters of this notebook are {known}")
        value, kind = notebook[name], declared[name]
        if type(value) is not kind and (type(value), kind) != (int, float):
            raise ZfnetError(f"the parameter {name} takes {kind.__name__}, not {value!r}")


def weight_card(name: str) -> Table:
    """Return what shipped weights were trained on, for how long, their errors, and what they are good for."""
    shipped, entry = SHIPPED.get(name), (SHIPPED | RETRAINED)[name]
    root = results_root(shipped.training.recipe.name if shipped else "tiny")
    folder, columns = root / "weights" / name, {"fact": f"`{name}`", "value": ""}
    try:
        meta = read_meta(folder)
    except CheckpointError:
        first = f"`{shipped.training.command}`, then " if shipped else ""
        return Table(columns, [{"fact": "Not run", "value": f"{first}`zfnet ship {name}`"}])
    record, made = meta["record"], meta["record"]["provenance"]
    if shipped:
        training, stored = performed(shipped.training), shipped.stored
        recipe, epochs = training.recipe, [line["epoch"] for line in read_epochs(training.epochs_file)]
        seconds = sum(epoch["seconds"] for epoch in epochs)
        size, upto = meta["spec"]["image_size"], shipped.upto or "fc8"
        why = "left out (section 5.2)" if has_splits(training.data) else "kept for testing"
        said = f"`{recipe.name}`, {len(epochs)} epochs, {recipe.precision}, seed {training.seed}"
        facts = {
            "Network": f"`{training.network}` at {size} pixels, layers up to {upto}",
            "Trained on": f"{record['data']}, {record['excluded']} pictures {why}",
            "Recipe": f"{said}; filters renormalised: {recipe.clip}",
        }
    else:
        seconds, stored = made["seconds"], "float16"
        network = f"the convolutions of `{entry.base}`, which are fetched, and a new softmax"
        facts = {"Network": network, "Trained on": record["data"]}
    time = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    facts["Time"] = f"{time} on {made['device']}; commit {made['commit'][:10]}"
    facts["Good for"] = entry.good_for
    facts["Stored"] = f"{stored}, {(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB"
    for error in read(root / "errors" / f"{name}.jsonl"):
        views = error.parameters.get("views")
        title = error.quantity[0].upper() + error.quantity[1:] + (f", views: {views}" if views else "")
        facts[title] = f"{error.value:.2f} {error.unit}"
    return Table(columns, [{"fact": fact, "value": value} for fact, value in facts.items()])


def overlaps(profile: str) -> Table:
    """Return how many training pictures are left out for each transfer data set, beside the paper's counts."""
    # Its footnote on the overlap with ImageNet, which the text at hand lacks, as the published one had it.
    theirs = {"caltech-101": "44 (recalled)", "caltech-256": "243 (recalled)"}
    rows = [
        {
            "second": overlap.second,
            "pairs": len({pair.first for pair in overlap.pairs}),
            "compared": f"{overlap.compared[0]:,} with {overlap.compared[1]:,}",
            "paper": theirs.get(overlap.second.split()[0], ""),
        }
        for overlap in known_overlaps(DATA[profile_of(profile).name], "train")
    ]
    columns = {"second": "Transfer data set", "pairs": "Pictures left out", "compared": "Compared"}
    return Table(columns | {"paper": "Paper"}, rows)
