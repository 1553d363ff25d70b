"""Fig. 4: how features develop in training: strongest units at its moments, when layers settle, what jumps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from zlib import crc32

import matplotlib
import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from ..architecture import MINI, Unit
from ..batches import squares_of, training_preparation
from ..deconv import deconv_units
from ..files import ZfnetError, check, is_there, results_root, storing
from ..images import projection_image
from ..machine import own_device, threads
from ..network import ConvNet
from ..strongest import fitted, strongest
from ..training import FIGURE_4_EPOCHS, FIGURE_4_OF, SMOKE, snapshot_updates, train
from ..weights import open_network
from . import plots, records
from .grouping import drawn_maps
from .plots import GREY, MARGIN, VERMILION, WIDTH, Figure, Sheet
from .records import Provenance, Record, Sentence, Table
from .setting import DATA, Source, profile_of, training_of
from .trainings import Training, excluded_rows, performed, read_epochs, training_data

INDEX, PROJECTIONS, NUMBERS = "index.json", "projections.safetensors", "numbers.jsonl"
ALIGNMENT = "alignment of the answers with the last ones"
NEARNESS = "mean cosine of the last units' projections with the last ones"
PROBE = "accuracy of a linear probe"
LARGEST = "share of changes of picture among the tenth of the steps that change appearance most"

KINDS = ("same unit", "same picture", "other picture")
KEPT, MOVED, JUMPED = range(len(KINDS))  # what became of a map's strongest unit from one moment to the next
# Training pictures that are searched, training pictures that probes learn from, validation pictures that judge.
SCALES = {"smoke": (1024, 1024, 512), "tiny": (5_000, 10_000, 5_000), "paper": (50_000, 50_000, 10_000)}
ANSWERED, POSITIONS = 512, 8  # validation pictures whose answers are compared, and positions in each map


class Feature(NamedTuple):
    """One map at all moments."""

    map: int
    pictures: np.ndarray  # uint8 [moments, s, s, 3]: its strongest unit's projection, each at its own contrast
    scores: list[float]  # the unit's activation
    names: list[str]  # the training picture that it comes from
    places: list[tuple[int, int]]  # its row and column


class LayerEvolution(NamedTuple):
    """One layer at all moments."""

    features: list[Feature]  # of the maps that are shown
    steps: np.ndarray  # int8 [moments - 1, maps]: KEPT, MOVED or JUMPED
    likeness: np.ndarray  # [moments - 1, maps]: cosine of the projections before and after; NaN where one is 0
    nearness: np.ndarray  # [moments, maps]: cosine of the last unit's projection then and in the end; 0 where it
    # was not active yet, NaN where it never is


@dataclass(frozen=True)
class Development:
    """Fig. 4: features at several moments of a training, and when they settle; empty where it was not run."""

    epochs: Sequence[int]  # of the paper's 70
    features: dict[str, list[Feature]]
    numbers: list[Record]
    source: Source | Sentence  # what it was computed from, or how to compute it
    own: Sequence[float] = ()  # the moments in epochs of this training
    length: int = 0  # how many it has

    @property
    def moments(self) -> Sentence:
        """How the moments of the paper are found in this training."""
        if not self.own:
            return Sentence("Not run.")
        own, theirs = (", ".join(f"{each:.2g}" for each in these) for these in (self.own, self.epochs))
        said = f"Epochs are those of our training, which has {self.length}: {own} stand for the paper's {theirs}"
        return Sentence(f"{said} of {FIGURE_4_OF}, as the same shares of the updates that follow the plateau.")

    def dated(self, last: Mapping[str, int]) -> Development:
        """Return the same with the moments in epochs of its own training, whose last epoch's record is given."""
        each, at = last["updates"] / last["epoch"], snapshot_updates(last["plateau_left"] or 0, last["updates"])
        return replace(self, own=[at[epoch] / each for epoch in self.epochs], length=last["epoch"])

    def curves(self, quantity: str) -> dict[str, list[float]]:
        """Return by layer the value of `ALIGNMENT`, `NEARNESS` or `PROBE` at each moment."""
        curves: dict[str, list[float]] = {}
        for record in self.numbers:
            if record.quantity == quantity:
                curves.setdefault(record.parameters["layer"], []).append(record.value)
        return curves

    @property
    def settled(self) -> Table:
        """From when on each layer stays at 0.9 of what it becomes."""
        early, late = "a few of 70", "40-50 of 70"  # section 4 of lower and upper layers, to us 1, 2 and 4, 5
        paper = {"conv1": early, "conv2": early, "conv4": late, "conv5": late}
        rows, nearness = [], self.curves(NEARNESS)
        for layer, values in self.curves(ALIGNMENT).items():
            row = {"layer": layer, "paper": paper.get(layer)}
            for what, curve in {"answers": values, "projections": nearness[layer]}.items():
                row[what] = f"{crossing(self.own, curve):.2g}"
            rows.append(row | {"share": f"{crossing(self.epochs, values) / FIGURE_4_OF:.0%}"})
        columns = {"layer": "Layer", "answers": f"Answers, from epoch (of {self.length})"}
        columns |= {"share": "Share of what follows the plateau", "projections": "Projections, from epoch"}
        columns["paper"] = "Paper, epochs"
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

    def save(self, folder: Path, parameters: dict) -> None:
        """Write the result to a folder as a whole; `parameters` are what it was asked for with."""
        arrays, features = {}, {layer: [one._asdict() for one in found] for layer, found in self.features.items()}
        for layer, found in features.items():
            for values in found:  # safetensors writes memory as it lies
                arrays[f"{layer}.{values['map']}"] = np.ascontiguousarray(values.pop("pictures"))
        index = {"parameters": parameters, "epochs": list(self.epochs), "source": asdict(self.source)}
        with storing(folder) as temporary:
            temporary.mkdir()
            save_file(arrays, temporary / PROJECTIONS)
            records.store(temporary / NUMBERS, self.numbers)
            (temporary / INDEX).write_text(json.dumps(index | {"features": features}, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path, parameters: dict) -> Development | None:
        """Read what `save` wrote; None where there is nothing, or a result for other parameters."""
        try:
            check(folder)
            index = json.loads((folder / INDEX).read_text()) if (folder / INDEX).exists() else {}
            if index.get("parameters") != parameters:
                return None
            arrays, features = load_file(folder / PROJECTIONS), {}
            for layer, found in index["features"].items():
                features[layer] = [Feature(pictures=arrays[f"{layer}.{one['map']}"], **one) for one in found]
            source = Source(**index["source"] | {"provenance": Provenance(**index["source"]["provenance"])})
            return cls(index["epochs"], features, records.read(folder / NUMBERS), source)
        except (OSError, KeyError, TypeError, ValueError) as error:
            repair = "restore it, or remove it and compute it again"
            raise ZfnetError(f"{folder} is damaged ({error}); {repair}") from error


def measure(profile: str, maps: int = 6, seed: int = 0, live: bool = False) -> Development:
    """Follow the network of Fig. 3 through its training; `maps` of each layer are drawn by seed to be shown."""
    folder, parameters = results_root(profile_of(profile).name) / "evolution", {"maps": maps, "seed": seed}
    if profile == "smoke":
        data = training_data(DATA["smoke"], "train")
        spec = Training(MINI.name, data.name, SMOKE).spec(len(data.classes))
        net = ConvNet(spec, training_preparation(data, spec.image_size)).to(own_device())
        with TemporaryDirectory() as place:
            *_, last = train(net, data, SMOKE, folder=Path(place), snapshots=True)
            nets = snapshots(Path(place))
        found = follow(profile, nets, f"{MINI.name}, trained on the spot", **parameters)
        records.store(folder / NUMBERS, found.numbers)
        return found.dated(asdict(last))
    training = performed(training_of(profile, "zfnet"))
    lines = read_epochs(training.epochs_file)
    if live:
        nets, searches = snapshots(training.folder), training.folder / "searches"
        follow(profile, nets, training.name, **parameters, searches=searches).save(folder, parameters)
    if lines and (found := Development.load(folder, parameters)):
        return found.dated(lines[-1]["epoch"])
    computing = f"`zfnet run fig4 --profile {profile} --live -p maps={maps} -p seed={seed}`"
    missing = f"Not run. `{training.command}` leaves the snapshots, {computing} looks at them."
    return Development((), {}, [], Sentence(missing))


def snapshots(folder: Path) -> dict[int, ConvNet]:
    """Return the networks that a training saved at the epochs of Fig. 4."""
    saved = {epoch: folder / "snapshots" / f"epoch-{epoch:02d}-of-{FIGURE_4_OF}" for epoch in FIGURE_4_EPOCHS}
    if missing := [str(epoch) for epoch, one in saved.items() if not is_there(one)]:
        lacking = f"{folder} lacks the snapshots of epochs {', '.join(missing)} of {FIGURE_4_OF}"
        command = "zfnet train NETWORK --data DATA --recipe RECIPE --resume"
        raise ZfnetError(f"{lacking}; train to the end: {command}")
    return {epoch: open_network(str(one)) for epoch, one in saved.items()}


def follow(profile, nets: Mapping[int, ConvNet], title, maps: int, seed: int, searches=None) -> Development:
    """Compute all of Fig. 4 from one network at several moments, by epoch; `searches` keeps those of the units."""
    watch = records.Stopwatch()
    data, held_out = (training_data(DATA[profile], split) for split in ("train", "val"))
    kept, rest = np.setdiff1d(np.arange(len(data)), excluded_rows(data)), np.arange(len(held_out))
    searched, learnt, judged = (
        np.sort(np.random.default_rng(0).permutation(rows)[:n])
        for rows, n in zip((kept, kept, rest), SCALES[profile], strict=True)
    )
    bare = {epoch: net.features() for epoch, net in nets.items()}
    layers = evolve(list(bare.values()), data, rows=searched, maps=maps, seed=seed, folder=searches)
    given = {epoch: answers(net, held_out, judged[:ANSWERED]) for epoch, net in bare.items()}
    values = [*settling(layers, given)]
    for epoch, net in nets.items():
        learning, judging = summaries(net, data, learnt), summaries(net, held_out, judged)
        for layer, features in learning.items():
            both = features.numpy(), data.labels[learnt], judging[layer].numpy(), held_out.labels[judged]
            values.append((PROBE, probe(*both), "%", len(judged), {"layer": layer, "epoch": epoch}))
    pictures = (
        f"{len(searched):,} of {data.name} {data.split} ({data.fingerprint}); probes learn from {len(learnt):,} of "
        f"the same and are judged on {len(judged):,} of {held_out.name} {held_out.split} ({held_out.fingerprint})"
    )
    made = watch.provenance(seed)
    numbers = [
        Record("evolution", quantity, value, unit, made, n, None, None, parameters, title, pictures)
        for quantity, value, unit, n, parameters in [*values, *stepping(layers)]
    ]
    features = {layer: found.features for layer, found in layers.items()}
    return Development(list(nets), features, numbers, Source(title, pictures, made))


def evolve(
    nets: Sequence[ConvNet], dataset, *, rows=None, maps: int = 6, seed: int = 0, folder: Path | None = None
) -> dict[str, LayerEvolution]:
    """Follow the strongest unit of every map through one network at several moments, by layer (Fig. 4)."""

    def cosine(a: Tensor, b: Tensor) -> np.ndarray:  # of each pair of projections; NaN where one is 0
        a, b = (values.flatten(1).double() for values in (a, b))
        return ((a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))).numpy()

    found, layers = [strongest(net, dataset, 1, rows=rows, folder=folder) for net in nets], {}
    for layer, last in found[-1].items():
        units = [[top[layer].units(map_)[0] for map_ in range(len(last.score))] for top in found]
        # The last units are projected at every moment as well: from when on do they look as in the end?
        both = [projected(net, dataset, own + units[-1]) for net, own in zip(nets, units, strict=True)]
        shown, lasting = zip(*(pixels.chunk(2) for pixels in both), strict=True)
        nearness = np.stack([cosine(pixels, lasting[-1]) for pixels in lasting])
        nearness = np.where(np.isnan(nearness) & np.isfinite(nearness[-1]), 0, nearness)
        likeness = np.stack([cosine(before, after) for before, after in pairwise(shown)])
        places = np.array([[(unit.image, unit.row, unit.column) for unit in own] for own in units])
        same = places[1:] == places[:-1]
        steps = np.where(same.all(2), KEPT, np.where(same[..., 0], MOVED, JUMPED)).astype(np.int8)
        features = []
        for map_ in drawn_maps(last, maps, seed):
            pixels = [one[map_].numpy() for one in shown]
            pictures = np.stack(list(map(projection_image, pixels)))
            scores = [float(top[layer].score[map_, 0]) for top in found]
            names = [dataset.names[image] for image in places[:, map_, 0]]
            at = [tuple(place) for place in places[:, map_, 1:].tolist()]
            features.append(Feature(map_, pictures, scores, names, at))
        layers[layer] = LayerEvolution(features, steps, likeness, nearness)
    return layers


def projected(net: ConvNet, dataset, units: Sequence[Unit]) -> Tensor:
    """Project units of one layer over a data set: [n, 3, s, s], receptive fields or, if smaller, whole pictures."""
    images = sorted({unit.image for unit in units})
    x = net.prepare(squares_of(dataset, images, net.preparation))
    shown = deconv_units(net, x, [unit._replace(image=images.index(unit.image)) for unit in units])
    pairs = zip(shown.projections, shown.boxes, strict=True)
    return torch.stack([fitted(projection.cpu(), box, x.shape[-1])[0] for projection, box in pairs])


def settling(layers: Mapping[str, LayerEvolution], given: Mapping[int, Mapping[str, Tensor]]) -> Iterator[tuple]:
    """Yield how far answers (by epoch and layer) and projections are what they are in the end."""
    last = given[max(given)]
    for layer, found in layers.items():
        maps = int(np.isfinite(found.nearness[-1]).sum())
        for (epoch, each), nearness in zip(given.items(), found.nearness, strict=True):
            n, moment = len(each[layer]) // POSITIONS, {"layer": layer, "epoch": epoch}
            yield ALIGNMENT, cka(each[layer], last[layer]), "CKA", n, moment
            yield NEARNESS, float(np.nanmean(nearness)), "cosine", maps, moment


def stepping(layers: Mapping[str, LayerEvolution]) -> Iterator[tuple]:
    """Yield how often strongest units stay, move and jump, how alike the projections are, and which differ most."""
    for layer, found in layers.items():
        finite = np.isfinite(found.likeness)
        likeness, steps = found.likeness[finite], found.steps[finite]
        for number, kind in enumerate(KINDS):
            own, change = steps == number, {"layer": layer, "kind": kind}
            yield "share of steps", 100 * float(own.mean()), "%", len(steps), change
            if own.any():
                yield "median cosine", float(np.median(likeness[own])), "cosine", int(own.sum()), change
        largest = steps[likeness <= np.quantile(likeness, 0.1)]
        yield LARGEST, 100 * float((largest == JUMPED).mean()), "%", len(steps), {"layer": layer}


def answers(net: ConvNet, dataset, rows: Sequence[int], seed: int = 0) -> dict[str, Tensor]:
    """Return by layer what it answers at some positions, drawn by seed: [pictures * positions, maps]."""

    def at_positions(layer: str, maps: Tensor) -> Tensor:  # the same for every network of one architecture
        generator = torch.Generator().manual_seed(crc32(f"{seed} {layer}".encode()))
        places = torch.randint(maps[0, 0].numel(), (POSITIONS,), generator=generator)
        return maps.flatten(2)[:, :, places].transpose(1, 2).flatten(0, 1)

    return _reduced(net.features(), dataset, rows, at_positions)


def summaries(net: ConvNet, dataset, rows: Sequence[int]) -> dict[str, Tensor]:
    """Return by layer features for a probe: means over a picture's quarters [pictures, 4 * maps], or the units."""

    def by_quarters(layer: str, maps: Tensor) -> Tensor:
        return (F.adaptive_avg_pool2d(maps, 2) if maps.ndim == 4 else maps).flatten(1)

    return _reduced(net, dataset, rows, by_quarters)


def _reduced(net: ConvNet, dataset, rows: Sequence[int], reduce: Callable) -> dict[str, Tensor]:
    """Pass pictures through a network, several batches at a time, and keep `reduce(layer, maps)` of every layer."""
    layers = [layer.name for layer in net.layers_upto()]

    @torch.inference_mode()
    def run(part: Tensor) -> list[Tensor]:
        x = net.prepare(squares_of(dataset, part, net.preparation))
        trace = net.trace(x.contiguous(memory_format=torch.channels_last))
        return [reduce(layer, trace[layer].maps).cpu() for layer in layers]

    with threads(torch.get_num_threads(), each=1) as pool:
        parts = list(pool.map(run, torch.as_tensor(rows).split(16)))
    return {layer: torch.cat(kept) for layer, kept in zip(layers, zip(*parts, strict=True), strict=True)}


def cka(x: Tensor, y: Tensor) -> float:
    """Return the linear centred kernel alignment |yᵀx|² / (|xᵀx| |yᵀy|) of two layers' answers [examples, maps]."""
    x, y = (values.double() - values.double().mean(0) for values in (x, y))
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def probe(features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, expected: np.ndarray) -> float:
    """Train a linear classifier on features [n, d] and labels [n]; return its accuracy on others in percent."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    # Ridge regression: quick, with one solution, and the same for all layers. The penalty is 0.3 times the number
    # of pictures: a standardised feature alone would keep 1 / 1.3 of its weight.
    classifier = make_pipeline(StandardScaler(), RidgeClassifier(alpha=0.3 * len(labels)))
    return 100 * float(classifier.fit(features, labels).score(held_out, expected))


def crossing(shares: Sequence[float], values: Sequence[float], level: float = 0.9) -> float:
    """Return the first of the shares of training from which on a curve stays at a level or above; else the last."""
    below = np.flatnonzero(~(np.asarray(values) >= level))
    return shares[min(below.max(initial=-1) + 1, len(shares) - 1)]


def draw(result: Development, layer: str, columns: int = 1) -> Figure:
    """Draw one block of Fig. 4: a row a map, from left to right the moments; `columns` maps stand side by side."""
    title = f"Layer {layer.removeprefix('conv')}"
    if not result.features:
        return plots.not_run(title)
    if layer not in result.features:
        raise ZfnetError(f"layer {layer!r} was not followed; here are {', '.join(result.features)}")
    features, epochs = result.features[layer], result.own
    space, label, gap = 0.25, 0.55, 0.04  # inches: between columns of maps, for a map's number, between moments
    width = (WIDTH - 2 * MARGIN - (columns - 1) * space) / columns
    side = min((width - label) / len(epochs) - gap, 0.84)
    lines, top = -(-len(features) // columns), Sheet.HEAD + 0.22
    below = top + lines * (side + gap)
    sheet = Sheet(below + 0.24, title)
    for number, feature in enumerate(features):
        column, line = divmod(number, lines)
        x, y = MARGIN + column * (width + space), top + line * (side + gap)
        sheet.text(x, y + side / 2, f"map {feature.map}", across="left")
        if line == 0:
            sheet.text(x + label - 0.08, Sheet.HEAD + 0.08, "epoch", colour=GREY, across="right")
        for moment, (epoch, picture) in enumerate(zip(epochs, feature.pictures, strict=True)):
            left = x + label + moment * (side + gap)
            if line == 0:
                sheet.text(left + side / 2, Sheet.HEAD + 0.08, f"{epoch:.2g}")
            sheet.picture(plots.resized(picture, round(side * plots.DPI)), left, y, side, side)
            if moment and feature.names[moment] != feature.names[moment - 1]:
                sheet.box(left - gap + 0.005, y, gap - 0.01, side, VERMILION, "none", level=3)
    sheet.box(MARGIN + 0.02, below + 0.03, gap - 0.01, 0.14, VERMILION, "none")
    words = "the strongest unit comes from another picture than at the moment before"
    sheet.text(MARGIN + 0.12, below + 0.1, words, colour=GREY, across="left")
    return sheet.figure


def draw_settling(result: Development) -> Figure:
    """Draw when layers settle, and what a linear classifier reads from them."""
    if not result.epochs:
        return plots.not_run("When layers settle")
    curves = {
        "Answers settle": ("alignment with the last (CKA)", result.curves(ALIGNMENT)),
        "Projections settle": ("cosine with the last", result.curves(NEARNESS)),
        "Linear probes": ("accuracy, %", result.curves(PROBE)),
    }
    epochs, names = result.own, list(result.curves(PROBE))
    shades = matplotlib.colormaps[plots.HEAT](np.linspace(0, 0.92, len(names)))
    figure = Figure(3.3)
    panels = figure.subplots(1, 3)
    # Where the next epoch is too near on the logarithmic axis, none is written.
    ticks = [f"{epoch:.2g}" if after / epoch > 1.4 else "" for epoch, after in pairwise([*epochs, epochs[-1] * 2])]
    for axes, (title, (label, lines)) in zip(panels, curves.items(), strict=True):
        plots.plain(axes, title, f"epoch (of {result.length})", label)
        for number, (name, values) in enumerate(lines.items()):
            style = {"color": shades[number], "marker": "osD^vPX"[number % 7], "markersize": 4, "linewidth": 1.4}
            axes.plot(epochs, values, label=name, **style)
        axes.set_xscale("log")
        axes.set_xticks(epochs, ticks)
        axes.minorticks_off()
    for axes in panels[:2]:
        axes.set_ylim(min(0, *axes.get_ylim()), 1.04)
        axes.axhline(0.9, color=GREY, linewidth=1, linestyle="--")
    plots.legend(figure, panels[2], len(names))
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    return figure
