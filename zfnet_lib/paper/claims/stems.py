"""Section 4.1: what the first layers of 7x7 filters with stride 2 keep that those of 11x11 with stride 4 lose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import pi

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...architecture import receptive_field
from ...datasets import Dataset, MissingDataError
from ...network import ConvNet
from ...strongest import strongest
from ...weights import CheckpointError, load_network
from .. import fig4, fig5
from ..setting import at_hand, describe_pictures, training_of, weights_of
from ..trainings import NATIVE, Training, training_data
from .evidence import (
    SEEDS,
    UNTESTABLE,
    Finding,
    NotRun,
    Number,
    Numbers,
    Stored,
    Subject,
    above,
    at_least,
    below,
    counted,
    difference,
    every,
    over_seeds,
    verdict,
)
from .features import MADE, answers, grating

OURS, THEIRS = "zfnet", "krizhevsky"
CROSSED = ("krizhevsky-7x7", "zfnet-11x11")  # small filters with stride 4, large ones with stride 2
ALEXNET = "alexnet-imagenet"
LARGER = "caltech-101"  # what `tiny` asks about frequencies: enlarged pictures of Tiny-ImageNet hold no high ones

RANGE = (1 / 32, 1 / 2)  # cycles a pixel, whose logarithms are cut into thirds
ALIAS = 0.5  # share of the answer to a slow grating from which on that to the fast one is an answer to its alias
CELL = {"conv1": 4, "conv2": 8}  # pixels of a cell that is decoded: the step between positions of the coarser stem
HIGH = 1 / 8  # cycles a pixel from which on frequencies are high: half of what a stride of 4 samples at
COMMON, SHIFT = 11, 2  # pixels to which filters are resampled to be compared, and by which they are shifted to fit

KINDS = ("silent", "faint", "noisy")
EQUAL, RAW = "equal dimension", "as it is"
MIDDLE, DIP = "filters in the middle third", "dip of the preferred frequencies"
EXCESS, ALIASES = "excess at the grid", "maps that answer to aliases"
R2, ACCURACY = "R2 of the decoder", "accuracy of a linear probe"
COSINE, RANK = "largest cosine with another filter", "effective rank of the answers"

Networks = dict[tuple[str, int], ConvNet]  # the lower two layers of trained networks, by architecture and seed


def run_of(profile: str, name: str, seed: int = 0, native: bool = False) -> Training:
    """Return the training of a stem; of a `native` one on pictures that are not enlarged."""
    own = training_of(profile, name, seed)
    return Training(name, LARGER, NATIVE, seed) if native and profile == "tiny" else own


def missing(profile: str, native: bool) -> list[str]:
    """Return the commands that train those of the two stems that were not trained yet; `smoke` trains its own."""
    if profile == "smoke":
        return []
    runs = ([run_of(profile, name, seed, native) for seed in range(SEEDS)] for name in (OURS, THEIRS))
    return [f"`{each[0].command}`" for each in runs if not any(map(weights_of, each))]


def lower_layers(profile: str, names: Iterable[str] = (OURS, THEIRS), native: bool = False) -> Networks:
    """Return layers 1 and 2 of trained stems, of all seeds at hand; `smoke` trains one seed of each."""
    if commands := missing(profile, native):
        raise NotRun(", ".join(commands))
    trained = range(1 if profile == "smoke" else SEEDS)
    nets = {(name, seed): at_hand(run_of(profile, name, seed, native)) for name in names for seed in trained}
    return {key: net.features(net.spec.convs[1].name) for key, net in nets.items() if net}


def alexnet(profile: str) -> Networks:
    """Return ImageNet's AlexNet, a column beside native stems; nothing in `smoke`, or where it is not here."""
    if profile != "smoke":
        with suppress(CheckpointError):
            net = load_network(ALEXNET)
            return {(ALEXNET, 0): net.features(net.spec.convs[1].name)}
    return {}


def native_pictures(at: Subject) -> Dataset:
    """Return pictures that are not enlarged."""
    try:
        return training_data(LARGER, "all") if at.profile == "tiny" else at.dataset
    except MissingDataError as error:
        raise NotRun(str(error)) from error


def first_layer(net: ConvNet, pictures: Dataset, rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the filters of layer 1 [maps, 3, k, k], and which are silent, faint or like noise, bool [3, maps]."""
    first = net.spec.convs[0].name
    largest = strongest(net.features(first), pictures, 1, [first], rows=rows)[first].score[:, 0].numpy()
    filters = net.get_submodule(first).weight.detach().numpy()
    return filters, np.stack(fig5.faults(filters, largest))


def numbers_of(stored: Stored, native: bool = False) -> Numbers:
    """Return what is stored of both stems; where nothing is, name the trainings that are missing too."""
    if not stored.file.exists() and (commands := missing(stored.profile, native)):
        raise NotRun(", ".join([*commands, f"then {stored.again}"]))
    return stored.numbers


def by_seed(found: Numbers, quantity: str, name: str, **place) -> list[float]:
    """Return a quantity of one architecture, a value a training; nothing of one that was not at hand."""
    try:
        return [number.value for number in found.by("seed", quantity, network=name, **place).values()]
    except NotRun:
        return []


def lead(found: Numbers, quantity: str, unit: str = "", **place) -> Number:
    """Return how far a quantity of the smaller stem exceeds that of the larger one."""
    return difference(*(by_seed(found, quantity, name, **place) for name in (OURS, THEIRS)), unit)


def shown(found: Numbers, *quantities: str) -> dict[str, Number]:
    """Return quantities of every architecture that has them, by what they are called in print."""
    return {
        f"{name}: {quantity}": over_seeds(by_seed(found, quantity, name), number.unit)
        for quantity in quantities
        for name, number in found.by("network", quantity).items()
    }


def seeds(n: int) -> str:
    """Say on how many trainings a verdict rests, where they are too few."""
    return f"{n} of {SEEDS} seeds." if n < SEEDS else ""


def preferred(at: Subject) -> Iterator[Number]:
    """Find the frequency that each live filter of layer 1 prefers."""
    pictures = native_pictures(at)
    rows = np.unique(np.linspace(0, len(pictures) - 1, min(fig5.MOST, len(pictures))).round().astype(int)).tolist()
    for (name, seed), net in (lower_layers(at.profile, native=True) | alexnet(at.profile)).items():
        filters, faults = first_layer(net, pictures, rows)
        peaks = fig5.peak_frequencies(filters[~faults.any(0)])
        if not peaks.size:
            continue  # where nothing is live, nothing is preferred
        low, high = np.log(RANGE)
        third = (high - low) / 3
        middle = (np.exp(low + third) <= peaks) & (peaks < np.exp(high - third))
        for quantity, value, unit in (
            (MIDDLE, 100 * middle.mean(), "%"),
            (DIP, fig5.dip(np.log(np.clip(peaks, *RANGE))), ""),
            ("median preferred frequency", np.median(peaks), "cycles a pixel"),
            ("in half of the sampling frequency", np.median(peaks) * 2 * net.spec.convs[0].stride, ""),
        ):
            found = counted(quantity, value, len(peaks), unit, network=name, seed=seed)
            yield found._replace(data=describe_pictures(pictures))


def few_mid_frequencies(stored: Stored) -> Finding:
    found = numbers_of(stored, native=True)
    ours, theirs = (by_seed(found, MIDDLE, name) for name in (OURS, THEIRS))
    less = difference(theirs, ours, "points")
    fewer = all(a < b for a, b in zip(theirs, ours, strict=False)) if less.n >= SEEDS else None
    numbers = {"middle third, 11x11 less 7x7": less} | shown(found, MIDDLE, DIP)
    return Finding(verdict(every([below(less, 0), fewer]), at_least(less, 0)), numbers, seeds(less.n))


def sampled(at: Subject) -> Iterator[Number]:
    """Look for the sampling grids in projections of layer 2, and for aliases among what its maps answer to."""
    pictures = native_pictures(at)
    names = (OURS, THEIRS) if at.profile == "smoke" else (OURS, THEIRS, *CROSSED)
    for (name, seed), net in (lower_layers(at.profile, names, native=True) | alexnet(at.profile)).items():
        first, begun = net.spec.convs[0], ConvNet(net.spec, net.preparation, seed).eval()
        for weights, each in (("trained", net), ("untrained", begun)):
            _, shown = fig5.largest_and_shown(each, pictures)
            for where, period in {"layer 1": first.stride, "pool 1": first.stride * first.pool.stride}.items():
                place = {"grid": where, "network": name, "seed": seed, "weights": weights}
                try:
                    found = counted(EXCESS, fig5.grid(shown, period).excess, len(shown), "times", **place)
                except fig5.SpectrumError:
                    continue  # the windows of layer 2 are too small for this grid
                yield found._replace(data=describe_pictures(pictures))
        aliased = answers_to_aliases(net)
        share = counted(ALIASES, 100 * aliased.mean(), len(aliased), "%", network=name, seed=seed)
        yield share._replace(data=MADE)


def answers_to_aliases(net: ConvNet) -> np.ndarray:
    """Tell which maps of layer 2 answer to a grating faster than layer 1 can sample as they do to its alias."""
    # Sampled at a rate r, a grating of frequency r - f has the same values as one of f. Of three slow ones, each
    # map's preferred one is compared with the fast one that it stands for. Maps that answer to none are left out.
    first, second = net.spec.convs[:2]
    rate, side = 1 / first.stride, net.preparation.crop

    def answer(frequency: float) -> Tensor:
        waves = [grating(side, frequency, angle, pi * n / 4) for angle in (0, pi / 2) for n in range(8)]
        return answers(net, second.name, torch.stack(waves)).amax(0)

    slow = [rate * n / 8 for n in (1, 2, 3)]
    to_slow, to_fast = (torch.stack([answer(f) for f in chosen]) for chosen in (slow, [rate - f for f in slow]))
    most, best = to_slow.max(0)
    return (to_fast.gather(0, best[None])[0] >= ALIAS * most)[most > 0].numpy()


def stride_aliases(stored: Stored, peak: float) -> Finding:
    found = numbers_of(stored, native=True)

    def excess(name: str, weights: str = "trained") -> list[float]:
        return by_seed(found, EXCESS, name, weights=weights, grid="layer 1")

    numbers = {
        "excess, stride 4": over_seeds(excess(THEIRS), "times"),
        "over random weights": difference(excess(THEIRS), excess(THEIRS, "untrained"), "times"),
        "over stride 2": difference(excess(THEIRS), excess(OURS), "times"),
    }
    strong, learnt, more = (above(*each) for each in zip(numbers.values(), (peak, 0, 0), strict=True))
    note, follows = seeds(numbers["over stride 2"].n), None
    crossed = [excess(name) for name in CROSSED]
    if all(crossed):
        control = numbers["7x7 with stride 4 over 11x11 with stride 2"] = difference(*crossed, "times")
        follows = above(control, 0)
    else:
        commands = (f"`{run_of(stored.profile, name, 0, True).command}`" for name in CROSSED)
        note = f"The crossed stems were not trained: {', '.join(commands)}. {note}".strip()
    holds, fails = every([strong, learnt, more, follows]), False in (learnt, follows)
    return Finding(verdict(holds, fails), numbers | shown(found, ALIASES), note)


def information(at: Subject) -> Iterator[Number]:
    """Decode pictures from layers 1 and 2 of both stems, and read classes out of them."""
    rows = np.array(at.rows)
    parts = np.delete(rows, np.s_[::4]), rows[::4]  # to learn from, and held out
    few = [part[:: max(len(part) // at.scale.few, 1)].tolist() for part in parts]
    labels = [at.dataset.labels[part] for part in parts]
    for (name, seed), net in lower_layers(at.profile).items():
        place = {"network": name, "seed": seed}
        x, others = (net.prepare(at.squares(part)) for part in few)
        for layer in CELL:
            for compared in (EQUAL, RAW):
                fidelity = decoded(net, layer, compared == EQUAL, x, others, at.seed)
                for band, value in zip(("all", "high"), fidelity, strict=True):
                    yield counted(R2, value, len(others), layer=layer, compared=compared, band=band, **place)
        learnt, held_out = (fig4.summaries(net, at.dataset, part.tolist()) for part in parts)
        for layer in CELL:
            read = fig4.probe(learnt[layer].numpy(), labels[0], held_out[layer].numpy(), labels[1])
            yield counted(ACCURACY, read, len(labels[1]), "%", layer=layer, **place)


def decoded(
    net: ConvNet, layer: str, pooled: bool, x: Tensor, held_out: Tensor, seed: int = 0
) -> tuple[float, float]:
    """Return the share of held-out pictures' variance that is decoded: of all frequencies, and of the high ones."""
    # The pixels of a cell are read from the 3x3 cells around it by ridge regression, from 200 places a picture.
    # Where `pooled`, the maps are averaged over each cell, so that all networks give one number a map.
    field, side = receptive_field(net.spec, layer), CELL[layer]
    each = side // field.stride  # positions across a cell
    middle = field.offset + (field.size - 1) / 2 + field.stride * (each - 1) / 2
    begin = round(middle - (side - 1) / 2) + side  # of the first cell that has others all around it

    def parts(x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what is read around the inner cells [n, features, rows, columns], and the pixels beneath them."""
        for part in x.split(16):
            with torch.inference_mode():
                maps = net.features(layer).trace(part)[layer].maps
            rows, columns = (size // each for size in maps.shape[2:])
            maps = maps[..., : rows * each, : columns * each]
            cells = F.avg_pool2d(maps, each) if pooled else F.pixel_unshuffle(maps, each)
            rows, columns = rows - 2, columns - 2
            covered = part[..., begin : begin + rows * side, begin : begin + columns * side]
            yield F.unfold(cells, 3).unflatten(2, (rows, columns)), covered

    generator, n, squares, products, sums = torch.Generator().manual_seed(seed), 0, 0.0, 0.0, 0.0
    for features, pixels in parts(x):
        drawn = torch.randperm(features[:, 0].numel(), generator=generator)[: 200 * len(features)]
        pixels = F.pixel_unshuffle(pixels, side)
        features, pixels = (part.permute(0, 2, 3, 1).flatten(0, 2)[drawn] for part in (features, pixels))
        squares, products = squares + features.T @ features, products + features.T @ pixels
        sums, n = sums + torch.cat([features.sum(0), pixels.sum(0)]), n + len(drawn)
    d, means = len(squares), (sums / n).double()
    covariance = squares.double() / n - means[:d, None] * means[:d]
    across = products.double() / n - means[:d, None] * means[d:]
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    scale = torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, 0.0)  # features of deviation 1
    matrix = covariance * scale[:, None] * scale + 1e-2 * torch.eye(d, dtype=torch.float64)
    weights = torch.linalg.solve(matrix, across * scale[:, None]) * scale[:, None]
    bias = (means[d:] - means[:d] @ weights).float()

    lost, energy = np.zeros(2), np.zeros(2)
    inner = slice(x.shape[-1] * 5 // 16 - begin, x.shape[-1] * 11 // 16 - begin)  # where all networks have cells
    for features, pixels in parts(held_out):
        blocks = torch.einsum("nfhw,fp->nphw", features, weights.float()) + bias[:, None, None]
        shown, wanted = (whole[..., inner, inner] for whole in (F.pixel_shuffle(blocks, side), pixels))
        error, spread = shown - wanted, wanted - wanted.mean((0, 2, 3), keepdim=True)
        lost += float(error.square().sum()), high_energy(error.numpy())
        energy += float(spread.square().sum()), high_energy(wanted.numpy())
    return tuple((1 - lost / energy).tolist())


def high_energy(pictures: np.ndarray) -> float:
    """Return the energy of pictures [n, 3, s, s] at high frequencies, edges faded out."""
    side = pictures.shape[-1]
    fade = np.hanning(side + 2)[1:-1]
    return float(fig5.energies(pictures * fade[:, None] * fade, side)[:, fig5.radii(side) >= HIGH].sum())


def retains_information(stored: Stored, much: float) -> Finding:
    found = numbers_of(stored)
    numbers = {
        f"{layer}, {compared}, {band} frequencies: R2": lead(found, R2, layer=layer, band=band, compared=compared)
        for layer in CELL
        for compared in (EQUAL, RAW)
        for band in ("all", "high")
    }
    probes = {f"{layer}: accuracy of a probe": lead(found, ACCURACY, "points", layer=layer) for layer in CELL}
    leads = [numbers[f"{layer}, {EQUAL}, all frequencies: R2"] for layer in CELL]
    more = [above(number, 0) for number in leads]
    enough = [number.value >= much or None for number in leads]
    kept = [number.low is not None and below(number, 0) is not True for number in probes.values()]
    return Finding(verdict(every([*more, *enough, *kept]), False in more), numbers | probes, seeds(leads[0].n))


def faulty(at: Subject) -> Iterator[Number]:
    """Count the filters of layer 1 that are silent, faint, or resemble noise."""
    nets = lower_layers(at.profile)
    if at.profile != "smoke" and (net := at_hand(training_of(at.profile, THEIRS, clip="none"))):
        nets[f"{THEIRS}, not renormalised", 0] = net
    for (name, seed), net in nets.items():
        filters, faults = first_layer(net, at.dataset, at.rows)
        for kind, which in zip(KINDS, faults, strict=True):
            yield counted(f"{kind} filters", which.sum(), len(filters), network=name, seed=seed)


def fewer_dead(stored: Stored) -> Finding:
    found, quantities = numbers_of(stored), [f"{kind} filters" for kind in KINDS]
    numbers = shown(found, *quantities)
    ours, theirs = (
        list(zip(*(by_seed(found, each, name) for each in quantities[:2]), strict=True)) for name in (OURS, THEIRS)
    )
    if not any(map(any, ours + theirs)):
        return Finding(UNTESTABLE, numbers, "Neither stem has a silent or a faint filter.")
    pairs = list(zip(ours, theirs, strict=False))
    fewer = [all(a <= b for a, b in zip(*pair, strict=True)) and pair[0] != pair[1] for pair in pairs]
    decided = len(fewer) >= SEEDS
    answer = verdict(all(fewer) if decided else None, decided and not any(fewer))
    return Finding(answer, numbers, seeds(len(fewer)))


def distinctive(at: Subject) -> Iterator[Number]:
    """Compare the live filters of layer 1 with one another, and count the directions that their answers span."""
    for (name, seed), net in lower_layers(at.profile).items():
        filters, faults = first_layer(net, at.dataset, at.rows)
        kept = filters[~faults.any(0)]
        if len(kept) > 1:
            yield counted(COSINE, largest_cosines(kept).mean(), len(kept), "cosine", network=name, seed=seed)
        first = net.spec.convs[0].name
        answered = fig4.answers(net.features(first), at.dataset, at.few, at.seed)[first]
        covariance = torch.cov(answered.double().T)
        rank = float(covariance.trace() ** 2 / covariance.square().sum())  # of as many equal eigenvalues
        yield counted(RANK, 100 * rank / len(filters), len(at.few), "% of the filters", network=name, seed=seed)


def largest_cosines(filters: np.ndarray) -> np.ndarray:
    """Return each filter's largest absolute cosine with another one, at one size and over small shifts [maps]."""
    values = torch.from_numpy(np.asarray(filters, np.float64))
    resampled = F.interpolate(values, (COMMON, COMMON), mode="bilinear", antialias=True)
    vectors = F.normalize(resampled.flatten(1))
    padded, best = F.pad(vectors.view_as(resampled), [SHIFT] * 4), torch.zeros(len(vectors), 1)
    for down in range(2 * SHIFT + 1):
        for across in range(2 * SHIFT + 1):
            moved = padded[..., down : down + COMMON, across : across + COMMON].flatten(1)
            best = torch.maximum(best, (vectors @ moved.T).abs())
    return torch.maximum(best, best.T).fill_diagonal_(0).amax(1).numpy()


def more_distinctive(stored: Stored) -> Finding:
    found = numbers_of(stored)
    alike, rank = lead(found, COSINE, "cosine"), lead(found, RANK, "points")
    numbers = {"largest cosine, 7x7 less 11x11": alike, "effective rank, 7x7 less 11x11": rank}
    holds = every([below(alike, 0), above(rank, 0)])
    return Finding(verdict(holds), numbers | shown(found, COSINE, RANK), seeds(alike.n))
