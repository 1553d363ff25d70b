"""Section 4.1: what the first layers of 7x7 filters with stride 2 keep that those of 11x11 with stride 4 lose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import combinations, product
from math import pi
from typing import Any

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
from ..sanity import rank_correlation
from ..setting import at_hand, describe_pictures, training_of
from ..trainings import NATIVE, Training, cost, recorded_errors, training_data, weights_of
from .evidence import (
    SEEDS,
    UNTESTABLE,
    Finding,
    NotRun,
    Number,
    Stored,
    Subject,
    above,
    at_least,
    below,
    counted,
    difference,
    every,
    on_processor,
    over_seeds,
    some,
    verdict,
)
from .features import MADE, answers, grating

OURS, THEIRS = STEMS = ("zfnet", "krizhevsky")
CROSSED = ("krizhevsky-7x7", "zfnet-11x11")  # small filters with stride 4, large ones with stride 2
ALEXNET = "alexnet-imagenet"
LARGER = "caltech-101"  # what `tiny` asks about frequencies: enlarged pictures of Tiny-ImageNet hold no high ones

RANGE = (1 / 32, 1 / 2)  # cycles a pixel, whose logarithms are cut into thirds
ALIAS = 0.5  # share of the answer to a slow grating from which on that to the fast one is an answer to its alias
CELL = {"conv1": 4, "conv2": 8}  # pixels of a cell that is decoded: the step between positions of the coarser stem
HIGH = 1 / 8  # cycles a pixel from which on frequencies are high: half of what a stride of 4 samples at
COMMON, SHIFT = 11, 2  # pixels to which filters are resampled to be compared, and by which they are shifted to fit

ERROR = "test top-1 error", "val1"  # on held-out pictures: of data without splits, and with
KINDS = ("silent", "faint", "noisy")
EQUAL, RAW = "equal dimension", "as it is"
MIDDLE, DIP = "filters in the middle third", "dip of the preferred frequencies"
EXCESS, ALIASES = "excess at the grid", "maps that answer to aliases"
R2, ACCURACY = "R2 of the decoder", "accuracy of a linear probe"
COSINE, RANK = "largest cosine with another filter", "effective rank of the answers"


def run_of(profile: str, name: str, seed: int = 0, native: bool = False) -> Training:
    """Return the training of a stem; of a `native` one on pictures that are not enlarged."""
    own = training_of(profile, name, seed)
    return Training(name, LARGER, NATIVE, seed) if native and profile == "tiny" else own


def missing(profile: str, native: bool) -> list[str]:
    """Return the commands that train those of the two stems that were not trained yet; `smoke` trains its own."""
    runs = ([run_of(profile, name, seed, native) for seed in range(SEEDS)] for name in STEMS)
    return [f"`{each[0].command}`" for each in runs if profile != "smoke" and not any(map(weights_of, each))]


def lower_layers(profile: str, native: bool = False) -> Iterator[tuple[dict[str, Any], ConvNet]]:
    """Yield layers 1 and 2 of trained stems, each with its name and seed.

    Native ones come with the crossed stems and ImageNet's AlexNet, except in `smoke`.
    """
    if commands := missing(profile, native):
        raise NotRun(", ".join(commands))
    smoke = profile == "smoke"  # which trains one seed of each of the two
    names, seeds = STEMS + CROSSED if native and not smoke else STEMS, range(1 if smoke else SEEDS)
    nets = {key: on_processor(at_hand(run_of(profile, *key, native))) for key in product(names, seeds)}
    if native and not smoke:
        with suppress(CheckpointError):
            nets[ALEXNET, 0] = load_network(ALEXNET)
    for (name, seed), net in nets.items():
        if net:
            yield {"network": name, "seed": seed}, net.features(net.spec.convs[1].name)


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


def lacking(stored: Stored, n: int, names: Sequence[str] = STEMS, native: bool = False) -> str:
    """Say on how many seeds a verdict rests, and what trains those that it lacks, where they are too few."""
    if n >= SEEDS or stored.profile == "smoke":
        return ""
    runs = [run_of(stored.profile, name, seed, native) for name in names for seed in range(SEEDS)]
    lacks = training_commands([run for run in runs if not weights_of(run)])
    return f"{n} of {SEEDS} seeds. Missing: {lacks}"


def training_commands(runs: Sequence[Training]) -> str:
    """Name the commands of trainings, and how long they take together."""
    seeds: dict[str, list[str]] = {}
    for run in runs:
        seeds.setdefault(replace(run, seed=0).command, []).append(str(run.seed))
    said = ", ".join(f"`{command}` with --seed {', '.join(each)}" for command, each in seeds.items())
    return f"{said}; {cost(runs)}"


class Found:
    """What is stored of the stems: quantities by architecture, one value a seed."""

    def __init__(self, stored: Stored, native: bool = False):
        if not stored.file.exists() and (commands := missing(stored.profile, native)):
            raise NotRun(", ".join([*commands, f"then {stored.again}"]))
        self.stored = stored

    def of(self, name: str, quantity: str, **place: str) -> list[float]:
        """Return a quantity of one architecture; nothing of one that was not at hand."""
        where, found = {"network": name} | place, (one for one in self.stored.contents if one.quantity == quantity)
        return [one.value for one in found if where.items() <= one.parameters.items()]

    def lead(self, quantity: str, unit: str = "", **place: str) -> Number:
        """Return how far a quantity of the smaller stem exceeds that of the larger one."""
        return difference(*(self.of(name, quantity, **place) for name in STEMS), unit)

    def shown(self, *quantities: str) -> dict[str, Number]:
        """Return quantities of every architecture that has them, by what they are called in print."""
        return {
            f"{name}: {quantity}": over_seeds(self.of(name, quantity), number.unit)
            for quantity in quantities
            for name, number in self.stored.by("network", quantity).items()
        }


def preferred(at: Subject) -> Iterator[Number]:
    """Find the frequency that each live filter of layer 1 prefers."""
    pictures, (low, high) = native_pictures(at), np.log(RANGE)
    rows = np.unique(np.linspace(0, len(pictures) - 1, min(fig5.MOST, len(pictures))).round().astype(int)).tolist()
    for place, net in lower_layers(at.profile, native=True):
        filters, faults = first_layer(net, pictures, rows)
        peaks = fig5.peak_frequencies(filters[~faults.any(0)])
        if not peaks.size:
            continue  # where nothing is live, nothing is preferred
        third = (high - low) / 3
        middle = (np.exp(low + third) <= peaks) & (peaks < np.exp(high - third))
        for quantity, value, unit in (
            (MIDDLE, 100 * middle.mean(), "%"),
            (DIP, fig5.dip(np.log(np.clip(peaks, *RANGE))), ""),
            ("median preferred frequency", np.median(peaks), "cycles a pixel"),
            ("in half of the sampling frequency", np.median(peaks) * 2 * net.spec.convs[0].stride, ""),
        ):
            found = counted(quantity, value, len(peaks), unit, **place)
            yield found._replace(data=describe_pictures(pictures))


def few_mid_frequencies(stored: Stored) -> Finding:
    found = Found(stored, native=True)
    ours, theirs = (found.of(name, MIDDLE) for name in STEMS)
    less = difference(theirs, ours, "points")
    fewer = all(a < b for a, b in zip(theirs, ours, strict=False)) if less.n >= SEEDS else None
    numbers = {"middle third, 11x11 less 7x7": less} | found.shown(MIDDLE, DIP)
    found_so = verdict(every([below(less, 0), fewer]), at_least(less, 0))
    return Finding(found_so, numbers, lacking(stored, less.n, native=True))


def sampled(at: Subject) -> Iterator[Number]:
    """Look for the sampling grids in projections of layer 2, and for aliases among what its maps answer to."""
    pictures = native_pictures(at)
    for place, net in lower_layers(at.profile, native=True):
        first, begun = net.spec.convs[0], ConvNet(net.spec, net.preparation, place["seed"]).eval()
        for weights, each in (("trained", net), ("untrained", begun)):
            _, shown = fig5.largest_and_shown(each, pictures)
            for grid, period in (("layer 1", first.stride), ("pool 1", first.stride * first.pool.stride)):
                with suppress(fig5.SpectrumError):  # the windows of layer 2 may be too small for a grid
                    excess = fig5.grid(shown, period).excess
                    found = counted(EXCESS, excess, len(shown), "times", grid=grid, weights=weights, **place)
                    yield found._replace(data=describe_pictures(pictures))
        aliased = answers_to_aliases(net)
        yield counted(ALIASES, 100 * aliased.mean(), len(aliased), "%", **place)._replace(data=MADE)


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
    found, place = Found(stored, native=True), {"quantity": EXCESS, "grid": "layer 1"}
    stored.each(EXCESS, network=THEIRS, grid="layer 1")  # a record without it says what measures it
    theirs, ours, *crossed = (found.of(name, weights="trained", **place) for name in (THEIRS, OURS, *CROSSED))
    begun = found.of(THEIRS, weights="untrained", **place)
    numbers = {
        "excess, stride 4": over_seeds(theirs, "times"),
        "excess less that of random weights": difference(theirs, begun, "times"),
        "excess less that at stride 2": difference(theirs, ours, "times"),
    }
    strong, learnt, more = map(above, numbers.values(), (peak, 0, 0))
    note, follows = lacking(stored, numbers["excess less that at stride 2"].n, STEMS + CROSSED, native=True), None
    if all(crossed):
        control = numbers["7x7 with stride 4 over 11x11 with stride 2"] = difference(*crossed, "times")
        follows = above(control, 0)
    else:
        note = f"The crossed stems, {', '.join(CROSSED)}, were not trained. {note}".strip()
    found_so = verdict(every([strong, learnt, more, follows]), False in (learnt, more, follows))
    return Finding(found_so, numbers | found.shown(ALIASES), note)


def information(at: Subject) -> Iterator[Number]:
    """Decode pictures from layers 1 and 2 of both stems, and read classes out of them."""
    rows = np.array(at.rows)
    parts = np.delete(rows, np.s_[::4]), rows[::4]  # to learn from, and held out
    few = [part[:: max(len(part) // at.scale.few, 1)].tolist() for part in parts]
    labels = [at.dataset.labels[part] for part in parts]
    for place, net in lower_layers(at.profile):
        x, others = (net.prepare(at.squares(part)) for part in few)
        for layer, compared in product(CELL, (EQUAL, RAW)):
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
        """Yield what is read around each inner cell and the pixels beneath it: [n, values, rows, columns]."""
        for part in x.split(16):
            maps = net.trace(part, upto=layer)[layer].maps
            rows, columns = (size // each for size in maps.shape[2:])
            maps = maps[..., : rows * each, : columns * each]
            cells = F.avg_pool2d(maps, each) if pooled else F.pixel_unshuffle(maps, each)
            rows, columns = rows - 2, columns - 2
            covered = part[..., begin : begin + rows * side, begin : begin + columns * side]
            yield F.unfold(cells, 3).unflatten(2, (rows, columns)), F.pixel_unshuffle(covered, side)

    generator, n, squares, products, sums = torch.Generator().manual_seed(seed), 0, 0.0, 0.0, 0.0
    for part in parts(x):
        drawn = torch.randperm(part[0][:, 0].numel(), generator=generator)[: 200 * len(part[0])]
        features, pixels = (values.permute(0, 2, 3, 1).flatten(0, 2)[drawn] for values in part)
        squares, products = squares + features.T @ features, products + features.T @ pixels
        sums, n = sums + torch.cat([features.sum(0), pixels.sum(0)]), n + len(drawn)
    d, means = len(squares), (sums / n).double()
    covariance = squares.double() / n - means[:d, None] * means[:d]
    across = products.double() / n - means[:d, None] * means[d:]
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    scale = torch.where(deviation > 1e-6 * deviation.max(), 1 / deviation, 0.0)[:, None]  # to deviation 1
    matrix = covariance * scale * scale.T + 1e-2 * torch.eye(d, dtype=torch.float64)
    weights = torch.linalg.solve(matrix, across * scale) * scale
    bias = (means[d:] - means[:d] @ weights).float()

    lost, energy = np.zeros(2), np.zeros(2)
    inner = slice(x.shape[-1] * 5 // 16 - begin, x.shape[-1] * 11 // 16 - begin)  # where all networks have cells
    for features, pixels in parts(held_out):
        blocks = torch.einsum("nfhw,fp->nphw", features, weights.float()) + bias[:, None, None]
        shown, wanted = (F.pixel_shuffle(each, side)[..., inner, inner] for each in (blocks, pixels))
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
    found, numbers, leads, less = Found(stored), {}, [], "7x7 less 11x11"
    for layer, compared, band in product(CELL, (EQUAL, RAW), ("all", "high")):
        lead = found.lead(R2, layer=layer, band=band, compared=compared)
        numbers[f"{layer}, {compared}, {band} frequencies: R2, {less}"] = lead
        leads += [lead] if (compared, band) == (EQUAL, "all") else []
    probes = [found.lead(ACCURACY, "points", layer=layer) for layer in CELL]
    numbers |= {f"{layer}: accuracy of a probe, {less}": lead for layer, lead in zip(CELL, probes, strict=True)}
    more = [above(number, 0) for number in leads]
    enough = [number.value >= much or None for number in leads]
    kept = [number.low is not None and below(number, 0) is not True for number in probes]
    holds = every([*more, *enough, *kept])
    return Finding(verdict(holds, False in more), numbers, lacking(stored, leads[0].n))


def faulty(at: Subject) -> Iterator[Number]:
    """Count the filters of layer 1 that are silent, faint, or resemble noise."""
    nets = list(lower_layers(at.profile))
    if at.profile != "smoke" and (net := on_processor(at_hand(training_of(at.profile, THEIRS, clip="none")))):
        nets.append(({"network": f"{THEIRS}, not renormalised", "seed": 0}, net))
    for place, net in nets:
        filters, faults = first_layer(net, at.dataset, at.rows)
        for kind, which in zip(KINDS, faults, strict=True):
            yield counted(f"{kind} filters", which.sum(), len(filters), **place)


def fewer_dead(stored: Stored, **_: float) -> Finding:
    found, quantities = Found(stored), [f"{kind} filters" for kind in KINDS]
    numbers = found.shown(*quantities)
    # Silent and faint filters of each seed; those like noise are shown only.
    ours, theirs = (list(zip(*(found.of(name, each) for each in quantities[:2]), strict=True)) for name in STEMS)
    if not any(map(any, ours + theirs)):
        return Finding(UNTESTABLE, numbers, "Neither stem has a silent or a faint filter.")
    pairs = list(zip(ours, theirs, strict=False))
    fewer = [one != other and all(a <= b for a, b in zip(one, other, strict=True)) for one, other in pairs]
    answer = verdict(all(fewer), not any(fewer)) if len(fewer) >= SEEDS else verdict(None)
    return Finding(answer, numbers, lacking(stored, len(fewer)))


def distinctive(at: Subject) -> Iterator[Number]:
    """Compare the live filters of layer 1 with one another, and count the directions that their answers span."""
    for place, net in lower_layers(at.profile):
        filters, faults = first_layer(net, at.dataset, at.rows)
        kept = filters[~faults.any(0)]
        if len(kept) > 1:
            yield counted(COSINE, largest_cosines(kept).mean(), len(kept), "cosine", **place)
        first = net.spec.convs[0].name
        answered = fig4.answers(net.features(first), at.dataset, at.few, at.seed)[first]
        covariance = torch.cov(answered.double().T)
        rank = float(covariance.trace() ** 2 / covariance.square().sum())  # of as many equal eigenvalues
        yield counted(RANK, 100 * rank / len(filters), len(at.few), "% of the filters", **place)


def largest_cosines(filters: np.ndarray) -> np.ndarray:
    """Return each filter's largest absolute cosine with another one, at one size and over small shifts [maps]."""
    values = torch.from_numpy(np.asarray(filters, np.float64))
    resampled = F.interpolate(values, (COMMON, COMMON), mode="bilinear", antialias=True)
    units = F.normalize(resampled.flatten(1)).view_as(resampled)
    cosines = F.conv2d(units, units, padding=SHIFT).abs().amax((2, 3))
    return torch.maximum(cosines, cosines.T).fill_diagonal_(0).amax(1).numpy()


def more_distinctive(stored: Stored) -> Finding:
    found = Found(stored)
    alike, rank = found.lead(COSINE, "cosine"), found.lead(RANK, "points")
    numbers = {"largest cosine, 7x7 less 11x11": alike, "effective rank, 7x7 less 11x11": rank}
    holds = every([below(alike, 0), above(rank, 0)])
    return Finding(verdict(holds), numbers | found.shown(COSINE, RANK), lacking(stored, alike.n))


DIAGNOSTICS = {  # by quantity the claim that measures it, and the sign that the paper gives it
    MIDDLE: ("krizhevsky-layer-1-few-mid-frequencies", -1),
    ALIASES: ("stride-4-causes-layer-2-aliasing", 1),
}


def diagnosis(stored: Stored, correlation: float, partial: float) -> Finding:
    """Rank four stems by what is seen in layers 1 and 2, by their error, and by what they compute."""
    stems = STEMS + CROSSED
    runs = {name: [run_of(stored.profile, name, seed, native=True) for seed in range(SEEDS)] for name in stems}
    errors = {name: [recorded_errors(run.errors_file) for run in each] for name, each in runs.items()}
    if unknown := [runs[name][seed] for name in stems for seed in range(SEEDS) if not errors[name][seed]]:
        again = " ".join(claim for claim, _ in DIAGNOSTICS.values())
        then = f"`zfnet claims --profile {stored.profile} --live {again}`; minutes"
        raise NotRun(f"{training_commands(unknown)}; then {then}")
    costs = [sum(runs[name][0].spec(200).macs().values()) for name in stems]
    numbers, related = {}, []
    for quantity, (claim, sign) in DIAGNOSTICS.items():
        again = f"`zfnet claims --profile {stored.profile} --live {claim}`; minutes"
        measured = Stored(stored.profile, f"claims/{claim}.jsonl", again)
        ranks, given = [], []
        for seed in range(SEEDS):
            seen = [sign * measured.one(quantity, network=name, seed=seed).value for name in stems]
            error = [next(errors[name][seed][key] for key in ERROR if key in errors[name][seed]) for name in stems]
            own, by_cost, alike = (rank_correlation(*pair) for pair in combinations((error, seen, costs), 2))
            ranks.append(own)
            rest = (1 - by_cost**2) * (1 - alike**2)
            given.append((own - by_cost * alike) / rest**0.5 if rest > 1e-9 else 0.0)
        numbers |= {f"{quantity}: correlation with the error": over_seeds(ranks)}
        numbers |= {f"{quantity}: given the multiply-adds": over_seeds(given)}
        related.append(every([above(over_seeds(ranks), correlation), above(over_seeds(given), partial)]))
    return Finding(verdict(some(related)), numbers)
