"""What Fig. 4 shows, and its files: projections as 8-bit arrays, and every number as a record."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from safetensors.numpy import load_file, save_file

from ..architecture import MINI
from ..batches import training_preparation
from ..datasets import Dataset
from ..files import ZfnetError, check, results_root, sha256, storing
from ..images import FigureError, projection_image, require_picture, robust_maximum
from ..network import ConvNet
from ..training import FIGURE_4_OF, SMOKE, train
from . import records
from .evolution import LayerEvolution, Snapshots, Strand, answers, cka, crossing, evolve, probe, summaries
from .plots import DPI, GREY, HEAT, NORMAL, SMALL, VERMILION, WIDTH, Figure, Sheet, not_run, resized
from .records import Provenance, Record, Stopwatch, store
from .setting import DATA, Source, profile_of, training_of
from .tables import Note, Table
from .trainings import Training, excluded_rows, training_data

INDEX, PROJECTIONS, NUMBERS = "index.json", "projections.safetensors", "numbers.jsonl"

ALIGNMENT = "alignment of the answers with the last ones"
NEARNESS = "mean cosine of the last units' projections with the last ones"
PROBE = "accuracy of a linear probe"
KINDS = ("same unit", "same picture", "other picture")
"""What becomes of a map's strongest unit from one moment to the next, in the order of `evolution`'s numbers."""
LARGEST = "share of changes of picture among the tenth of the steps that change appearance most"

PAPER = {"conv1": "a few epochs", "conv2": "a few epochs", "conv4": "40-50 epochs", "conv5": "40-50 epochs"}
"""When lower and upper layers settle according to section 4, whose layers we take to be 1, 2 and 4, 5."""


@dataclass(frozen=True)
class Feature:
    """One map at all moments.

    Attributes:
        map: Its number.
        pictures: uint8 [moments, s, s, 3]: the projection of its strongest unit, 0 at grey, each at a contrast of
            its own; the receptive field, or the whole picture where that is smaller.
        contrasts: The value that reaches full contrast, one a moment.
        scores: The unit's activation.
        names: The training picture that it comes from.
        places: Its row and column.
    """

    map: int
    pictures: np.ndarray
    contrasts: list[float]
    scores: list[float]
    names: list[str]
    places: list[tuple[int, int]]

    @property
    def changes(self) -> list[bool]:
        """Whether the unit comes from another picture than at the moment before; never at the first one."""
        return [False, *(name != before for before, name in zip(self.names, self.names[1:], strict=False))]


@dataclass(frozen=True)
class Development:
    """Fig. 4: features at several moments of a training, and when they settle. Empty where it was not run.

    Attributes:
        epochs: The moments, in epochs of the paper's 70.
        features: By layer.
        numbers: Records of settling, probes and jumps.
        source: What it was computed from, or how to compute it.
    """

    epochs: Sequence[int]
    features: dict[str, list[Feature]]
    numbers: list[Record]
    source: Source | Note

    def block(self, layer: str) -> list[tuple[int, np.ndarray, list[bool]]]:
        """Return (map, pictures, changes) of a layer's maps, as `figures.fig4.block` takes them.

        Raises:
            ZfnetError: No such layer.
        """
        if self.features and layer not in self.features:
            raise ZfnetError(f"layer {layer!r} was not followed; here are {', '.join(self.features)}")
        return [(feature.map, feature.pictures, feature.changes) for feature in self.features.get(layer, [])]

    @property
    def alignment(self) -> dict[str, list[float]]:
        """By layer: how far its answers are what they are in the end, at each moment."""
        return self._curves(ALIGNMENT)

    @property
    def nearness(self) -> dict[str, list[float]]:
        """By layer: how far projections are what they are in the end, at each moment."""
        return self._curves(NEARNESS)

    @property
    def probes(self) -> dict[str, list[float]]:
        """By layer: accuracy of linear probes in percent, at each moment."""
        return self._curves(PROBE)

    @property
    def settled(self) -> Table:
        """From when on each layer stays at 0.9 of what it becomes."""
        nearness = self.nearness
        rows = [
            {
                "layer": layer,
                "answers": crossing(self.epochs, values),
                "projections": crossing(self.epochs, nearness[layer]),
                "share": f"{crossing(self.epochs, values) / FIGURE_4_OF:.0%}",
                "paper": PAPER.get(layer),
            }
            for layer, values in self.alignment.items()
        ]
        columns = {
            "layer": "Layer",
            "answers": f"Answers, from epoch (of {FIGURE_4_OF})",
            "share": "Share of training",
            "projections": "Projections, from epoch",
            "paper": "Paper",
        }
        return Table(columns, rows)

    @property
    def jumps(self) -> Table:
        """What becomes of strongest units from moment to moment, and how far the projection changes then."""
        rows: dict[str, dict[str, object]] = {}
        for record in self.numbers:
            kind = record.parameters.get("kind")
            if kind or record.quantity == LARGEST:
                row = rows.setdefault(record.parameters["layer"], {"layer": record.parameters["layer"]})
                row[f"{kind} {record.unit}" if kind else "largest"] = round(record.value, 2)
        columns = {"layer": "Layer"}
        for kind in KINDS:
            columns |= {f"{kind} %": f"{kind.capitalize()}, %", f"{kind} cosine": "cosine"}
        return Table(columns | {"largest": "Other picture among the largest changes, %"}, list(rows.values()))

    def save(self, folder: Path, parameters: dict[str, Any]) -> None:
        """Write the result to a folder as a whole; `parameters` are what it was asked for with."""
        arrays = {
            f"{layer}.{one.map}": np.ascontiguousarray(one.pictures)  # safetensors writes memory as it lies
            for layer, found in self.features.items()
            for one in found
        }
        features = {
            layer: [{key: value for key, value in vars(one).items() if key != "pictures"} for one in found]
            for layer, found in self.features.items()
        }
        with storing(folder) as temporary:
            temporary.mkdir()
            save_file(arrays, temporary / PROJECTIONS)
            records.store(temporary / NUMBERS, self.numbers)
            index = {
                "parameters": parameters,
                "epochs": list(self.epochs),
                "source": asdict(self.source),
                "features": features,
            }
            (temporary / INDEX).write_text(json.dumps(index, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, parameters: dict[str, Any]) -> Development | None:
        """Read what `save` wrote; None where there is nothing, or a result for other parameters.

        Raises:
            ZfnetError: It is damaged.
        """
        try:
            check(folder)
            if not (folder / INDEX).exists():
                return None
            index = json.loads((folder / INDEX).read_text())
            if index["parameters"] != parameters:
                return None
            if "sha256" in index and sha256(folder / PROJECTIONS) != index["sha256"]:
                raise ValueError(f"the SHA-256 of {PROJECTIONS} differs")
            arrays = load_file(folder / PROJECTIONS)
            features = {
                layer: [Feature(pictures=arrays[f"{layer}.{values['map']}"], **values) for values in found]
                for layer, found in index["features"].items()
            }
            source = index["source"] | {"provenance": Provenance(**index["source"]["provenance"])}
            return cls(index["epochs"], features, records.read(folder / NUMBERS), Source(**source))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ZfnetError(
                f"{folder} is damaged ({error}); restore it, or remove it and compute it again"
            ) from error

    def _curves(self, quantity: str) -> dict[str, list[float]]:
        curves: dict[str, list[float]] = {}
        for record in self.numbers:
            if record.quantity == quantity:
                curves.setdefault(record.parameters["layer"], []).append(record.value)
        return curves


# Figure 4: how features develop in training, from the snapshots that one training left.


@dataclass(frozen=True)
class Scale:
    """How many pictures Fig. 4 rests on, drawn with seed 0.

    Attributes:
        searched: Training pictures in which the strongest units are looked for.
        learnt: Training pictures from which the linear probes learn.
        judged: Validation pictures on which the probes are judged.
        answered: Validation pictures on whose answers settling is judged.
    """

    searched: int
    learnt: int
    judged: int
    answered: int = 512


SCALES = {
    "smoke": Scale(1024, 1024, 512),
    "tiny": Scale(5_000, 10_000, 5_000),
    "paper": Scale(50_000, 50_000, 10_000),
}


def measure(profile: str, maps: int = 6, seed: int = 0, live: bool = False) -> Development:
    """Follow the features of the network of Fig. 3 through its training (Fig. 4).

    `smoke` trains on the spot and stores the numbers. The other profiles return what is stored; with `live` they
    compute it from the snapshots that the training left on this machine, and store it.

    Args:
        profile: `smoke`, `tiny` or `paper`.
        maps: Maps shown of each layer, drawn with `seed` among those that are active in the end.
        seed: Of the draw.
        live: Compute even what is stored.

    Raises:
        ZfnetError: Unknown profile, a stored result that is damaged, or with `live` snapshots or data that are
            not here.
    """
    parameters = {"maps": maps, "seed": seed}
    folder = results_root(profile_of(profile).name) / "evolution"
    if profile == "smoke":
        found = _followed(profile, developing(), f"{MINI.name}, trained on the spot", None, **parameters)
        store(folder / NUMBERS, found.numbers)
        return found
    training = training_of(profile, "zfnet")
    if not live:
        return Development.load(folder, parameters) or _not_run(profile, parameters)
    searches = training.folder / "searches"
    found = _followed(profile, Snapshots(training.folder), training.name, searches, **parameters)
    found.save(folder, parameters)
    return found


def _not_run(profile: str, parameters: dict[str, int]) -> Development:
    settings = "".join(f" -p {name}={value}" for name, value in parameters.items())
    training = f"`{training_of(profile, 'zfnet').command}`"
    computing = f"`zfnet run fig4 --profile {profile} --live{settings}`"
    return Development((), {}, [], Note(f"Not run. {training} leaves the snapshots, {computing} looks at them."))


@cache
def developing() -> dict[int, ConvNet]:
    """Train `MINI` by the recipe `SMOKE` and return it at the epochs of Fig. 4."""
    data = training_data(DATA["smoke"], "train")
    spec = Training(MINI.name, data.name, SMOKE).spec(len(data.classes))
    net = ConvNet(spec, training_preparation(data, spec.image_size))
    with TemporaryDirectory() as folder:
        for _ in train(net, data, SMOKE, folder=Path(folder), snapshots=True):
            pass
        return dict(Snapshots(Path(folder)))


def _followed(
    profile: str, nets: Mapping[int, ConvNet], title: str, searches: Path | None, maps: int, seed: int
) -> Development:
    """Compute all of Fig. 4 from one network at several moments."""
    watch, scale = Stopwatch(), SCALES[profile]
    data, held_out = (training_data(DATA[profile], split) for split in ("train", "val"))
    kept, rest = np.setdiff1d(np.arange(len(data)), excluded_rows(data)), np.arange(len(held_out))
    searched, learnt, judged = _drawn(kept, scale.searched), _drawn(kept, scale.learnt), _drawn(rest, scale.judged)
    bare = {epoch: net.features() for epoch, net in nets.items()}
    layers = evolve(list(bare.values()), data, rows=searched, maps=maps, seed=seed, folder=searches)
    values = [
        *_settling(layers, bare, held_out, judged[: scale.answered]),
        *_probes(nets, (data, learnt), (held_out, judged)),
        *_jumps(layers),
    ]
    pictures = (
        f"{len(searched):,} of {data.name} {data.split} ({data.fingerprint}); probes learn from {len(learnt):,} of "
        f"the same and are judged on {len(judged):,} of {held_out.name} {held_out.split} ({held_out.fingerprint})"
    )
    source = Source(title, pictures, watch.provenance(seed))
    facts = {"provenance": source.provenance, "spec": title, "data": pictures}
    return Development(
        list(nets),
        {layer: [_feature(strand, data.names) for strand in found.strands] for layer, found in layers.items()},
        [Record("evolution", **value, **facts) for value in values],
        source,
    )


def _drawn(rows: np.ndarray, n: int) -> np.ndarray:
    return np.sort(np.random.default_rng(0).permutation(rows)[:n])


def _feature(strand: Strand, names: Sequence[str]) -> Feature:
    pixels = [projection.numpy() for projection in strand.projections]
    return Feature(
        strand.map,
        np.stack([projection_image(each) for each in pixels]),
        [robust_maximum(each) for each in pixels],
        strand.scores,
        [names[unit.image] for unit in strand.units],
        [(unit.row, unit.column) for unit in strand.units],
    )


def _settling(
    layers: dict[str, LayerEvolution], nets: Mapping[int, ConvNet], held_out: Dataset, rows: np.ndarray
) -> Iterator[dict[str, Any]]:
    given = {epoch: answers(net, held_out, rows) for epoch, net in nets.items()}
    last = given[max(given)]
    for layer, found in layers.items():
        maps = int(np.isfinite(found.nearness[-1]).sum())
        for (epoch, each), near in zip(given.items(), found.settled, strict=True):
            place = {"layer": layer, "epoch": epoch}
            yield _value(ALIGNMENT, cka(each[layer], last[layer]), "CKA", len(rows), place)
            yield _value(NEARNESS, float(near), "cosine", maps, place)


def _probes(
    nets: Mapping[int, ConvNet], learnt: tuple[Dataset, np.ndarray], judged: tuple[Dataset, np.ndarray]
) -> Iterator[dict[str, Any]]:
    labels, expected = (data.labels[rows] for data, rows in (learnt, judged))
    for epoch, net in nets.items():
        features, held_out = summaries(net, *learnt), summaries(net, *judged)
        for layer in features:
            accuracy = probe(features[layer].numpy(), labels, held_out[layer].numpy(), expected)
            yield _value(PROBE, accuracy, "%", len(expected), {"layer": layer, "epoch": epoch})


def _jumps(layers: dict[str, LayerEvolution]) -> Iterator[dict[str, Any]]:
    for layer, found in layers.items():
        steps = int(np.isfinite(found.likeness).sum())
        for number, kind in enumerate(KINDS):
            place = {"layer": layer, "kind": kind}
            yield _value("share of steps", found.share(number), "%", steps, place)
            if found.share(number):
                yield _value("median cosine", found.typical_likeness(number), "cosine", steps, place)
        yield _value(LARGEST, found.jumps_among_largest, "%", steps, {"layer": layer})


def _value(quantity: str, value: float, unit: str, n: int, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says beside where it comes from."""
    return {"quantity": quantity, "value": value, "unit": unit, "n": n, "parameters": parameters}


# Fig. 4: features at the moments of a training, and curves of when they settle.

OF = 70
"""The paper's epochs, whose shares of a training the moments are."""
MARGIN, SPACE, LABEL, EPOCHS = 0.05, 0.25, 0.55, 0.22
"""Inches: around the maps, between columns of them, for a map's number, and for the line of epochs."""
GAP = 0.04
"""Inches between moments; a bar in it marks a change of picture."""
LARGEST_OF_FIG4 = 0.84
"""Inches of a picture's side at most."""
MARKERS = "osD^vPX"


class Row(NamedTuple):
    """One map at all moments.

    Attributes:
        map: The map's number.
        pictures: uint8 [moments, s, s, 3]: its projections on grey.
        changes: Whether the strongest unit comes from another picture than at the moment before.
    """

    map: int
    pictures: np.ndarray
    changes: Sequence[bool]


def block(rows: Sequence[Row | tuple], epochs: Sequence[int], title: str, columns: int = 1) -> Figure:
    """Draw one block of Fig. 4: a row a map, from left to right the moments of the training.

    A bar in front of a projection says that the strongest unit comes from another picture than before.

    Args:
        rows: One a map; none where it was not run.
        epochs: The moments, in epochs of the paper's 70.
        title: The layer.
        columns: Maps side by side.

    Raises:
        FigureError: A row without a picture and a mark for every moment.
    """
    rows = [Row(*row) for row in rows]
    if not rows:
        return not_run(title)
    width = (WIDTH - 2 * MARGIN - (columns - 1) * SPACE) / columns
    side = min((width - LABEL) / len(epochs) - GAP, LARGEST_OF_FIG4)
    lines = -(-len(rows) // columns)
    top = Sheet.HEAD + EPOCHS
    sheet = Sheet(top + lines * (side + GAP) + 0.24, title)
    for place, row in enumerate(rows):
        line, column = place % lines, place // lines
        x, y = MARGIN + column * (width + SPACE), top + line * (side + GAP)
        if line == 0:
            _epochs(sheet, x + LABEL, side, epochs)
        _row(sheet, x, y, side, row, len(epochs))
    _key(sheet, top + lines * (side + GAP) + 0.1)
    return sheet.figure


def curves(
    epochs: Sequence[int],
    answers: Mapping[str, Sequence[float]],
    projections: Mapping[str, Sequence[float]],
    probes: Mapping[str, Sequence[float]],
) -> Figure:
    """Draw when layers settle, and what a linear classifier reads from them.

    Args:
        epochs: The moments, in epochs of the paper's 70; none where it was not run.
        answers: By layer, alignment of the answers with the last ones, 0 to 1.
        projections: By layer, mean cosine of projections with the last ones, -1 to 1.
        probes: By layer, percent of the pictures whose class a linear probe names.
    """
    if not epochs:
        return not_run("When layers settle")
    figure = Figure(3.3)
    panels = figure.subplots(1, 3)
    names = list(probes | answers)
    shades = matplotlib.colormaps[HEAT](np.linspace(0, 0.92, len(names)))
    style = {
        name: {"color": shade, "marker": marker, "markersize": 4, "linewidth": 1.4, "label": name}
        for name, shade, marker in zip(names, shades, MARKERS * 9, strict=False)
    }
    titles = (
        ("Answers settle", "alignment with the last (CKA)", answers),
        ("Projections settle", "cosine with the last", projections),
        ("Linear probes", "accuracy, %", probes),
    )
    for axes, (title, label, lines) in zip(panels, titles, strict=True):
        for name, values in lines.items():
            axes.plot(epochs, values, **style[name])
        _dress(axes, title, label, epochs)
    for axes in panels[:2]:
        axes.set_ylim(min(0, *axes.get_ylim()), 1.04)
        axes.axhline(0.9, color=GREY, linewidth=1, linestyle="--")
    figure.legend(
        *panels[2].get_legend_handles_labels(), loc="lower center", ncols=len(names), fontsize=SMALL, frameon=False
    )
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return figure


def _epochs(sheet: Sheet, x: float, side: float, epochs: Sequence[int]) -> None:
    """Write the moments above a column of maps."""
    sheet.text(x - 0.08, Sheet.HEAD + 0.08, "epoch", colour=GREY, across="right")
    for moment, epoch in enumerate(epochs):
        sheet.text(x + moment * (side + GAP) + side / 2, Sheet.HEAD + 0.08, str(epoch))


def _row(sheet: Sheet, x: float, y: float, side: float, row: Row, moments: int) -> None:
    if len(row.pictures) != moments or len(row.changes) != moments:
        raise FigureError(
            f"map {row.map} has {len(row.pictures)} pictures and {len(row.changes)} marks for {moments} moments"
        )
    sheet.text(x, y + side / 2, f"map {row.map}", across="left")
    for moment, (picture, changed) in enumerate(zip(row.pictures, row.changes, strict=True)):
        left = x + LABEL + moment * (side + GAP)
        sheet.picture(resized(require_picture(picture), round(side * DPI)), left, y, side, side)
        if changed:
            sheet.box(left - GAP + 0.005, y, GAP - 0.01, side, VERMILION, "none", level=3)


def _key(sheet: Sheet, y: float) -> None:
    sheet.box(MARGIN + 0.02, y - 0.07, GAP - 0.01, 0.14, VERMILION, "none")
    words = "the strongest unit comes from another picture than at the moment before"
    sheet.text(MARGIN + 0.12, y, words, colour=GREY, across="left")


def _dress(axes: Axes, title: str, label: str, epochs: Sequence[int]) -> None:
    axes.set_title(title, fontsize=NORMAL, loc="left")
    axes.set_xlabel(f"epoch (of {OF})", fontsize=NORMAL)
    axes.set_ylabel(label, fontsize=NORMAL)
    axes.set_xscale("log")
    axes.set_xticks(epochs, _apart(epochs))
    axes.minorticks_off()
    axes.tick_params(labelsize=SMALL)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.5)


def _apart(epochs: Sequence[int]) -> list[str]:
    """Return what is written at each moment; nothing where the next one is too near on the scale."""
    following = [*epochs[1:], epochs[-1] * 2]
    return [str(epoch) if after / epoch > 1.4 else "" for epoch, after in zip(epochs, following, strict=True)]
