"""Sections 4 and 6: what maps respond to, how invariant that is, what projections show, and how maps develop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise, product
from math import pi, sqrt

import numpy as np
import torch
from skimage.filters import gaussian
from skimage.measure import label
from torch import Tensor
from torch.nn import functional as F

from ...architecture import TABLE_2, Box, Conv, Unit, receptive_field
from ...deconv import cut, descend
from ...files import ZfnetError
from ...images import GREY
from ...network import ConvNet
from ...strongest import patch, strongest
from ...training import FIGURE_4_OF, Drops, snapshot_updates
from .. import fig4, grouping
from ..grouping import drawn_maps
from ..invariance import EXACT, TRANSFORMATIONS, Transformation, invariance, transformed
from ..sanity import rank_correlation
from ..setting import at_hand, training_of
from ..trainings import Training, cost, read_epochs
from .deconvnet import traces
from .evidence import (
    CLEAR,
    SEEDS,
    UNTESTABLE,
    Finding,
    NotRun,
    Number,
    Stored,
    Subject,
    Truth,
    above,
    apart,
    beyond,
    counted,
    every,
    exact,
    measured,
    no,
    on_processor,
    over_seeds,
    rising,
    some,
    verdict,
)
from .occlusion import energies

# How features develop: the records of Fig. 4.


EVOLUTION = "evolution/numbers.jsonl"
LOWER, UPPER = ("conv1", "conv2"), ("conv4", "conv5")


def _crossings(found: Stored, lines: Sequence[Mapping], level: float, unit: str, of: float) -> dict[str, Number]:
    """Return by layer and what is compared when it passes a level for good, in a training with these epochs.

    The interval is from the last moment below to the first above, the value straight between.
    """
    last = lines[-1]["epoch"] if lines else {"plateau_left": 0, "updates": FIGURE_4_OF}
    updates, crossings = snapshot_updates(last["plateau_left"] or 0, last["updates"]), {}
    for layer in (*LOWER, "conv3", *UPPER):
        for what, quantity in {"answers": fig4.ALIGNMENT, "projections": fig4.NEARNESS}.items():
            curve = found.by("epoch", quantity, layer=layer)
            moments = [of * updates[epoch] / last["updates"] for epoch in curve]
            values = [number.value for number in curve.values()]
            below = max((at for at, value in enumerate(values) if not value >= level), default=-1)
            between = slice(max(below, 0), below + 2)
            value = float(np.interp(level, values[between], moments[between]))
            low = moments[below] if below >= 0 else 0.0
            high = moments[min(below + 1, len(moments) - 1)]
            crossings[f"{layer}, {what}"] = Number(value, low, high, unit=unit)
    return crossings


def _lower_first(found: Mapping[str, Number]) -> tuple[list[Number], list[Number], Truth]:
    """Return when layers 1 and 2, and layers 4 and 5, settle, and whether all of those precede all of these."""
    lower, upper = ([number for name, number in found.items() if name.startswith(each)] for each in (LOWER, UPPER))
    pairs = (pair for what in range(2) for pair in product(lower[what::2], upper[what::2]))  # answers, projections

    def before(one: Number, other: Number) -> Truth:  # each settles after `low`, at `high` at the latest
        return True if one.high <= other.low else False if one.low >= other.high else None

    return lower, upper, every(before(*pair) for pair in pairs)


def _followed(stored: Stored) -> list[dict]:
    """Return the epochs of the training that Fig. 4 follows; of that of `smoke` they are not kept."""
    return [] if stored.profile == "smoke" else stored.epochs("zfnet", needed=False)


def converge_early(stored: Stored, level: float, few: float, many: float) -> Finding:
    epochs = training_of(stored.profile, "zfnet").recipe.epochs
    numbers = _crossings(stored, _followed(stored), level, f"of {epochs} epochs", epochs)
    lower, _, first = _lower_first(numbers)
    shares = [FIGURE_4_OF * number.value / epochs for number in lower]
    note = f"Of {FIGURE_4_OF} epochs: epochs {min(shares):.0f} to {max(shares):.0f} for layers 1 and 2."
    early = every(no(above(number, few)) for number in lower)
    late = some(above(number, many) for number in lower)
    name = max((name for name in numbers if name.startswith(LOWER)), key=lambda name: numbers[name].high)
    decided = f"{name} {numbers[name]}; bar ≤ {few:g}" if first else ""
    return Finding(verdict(every([first, early]), some([no(first), late])), numbers, note, decided)


def constant_rate(profile: str) -> Training:
    """Return the training of Fig. 3's network whose learning rate never falls."""
    own = training_of(profile, "zfnet")
    return replace(own, recipe=replace(own.recipe, anneal=Drops(())))


def evolving_at_constant_rate(at: Subject) -> Iterator[Number]:
    """Follow that training as Fig. 4 follows the one whose rate falls."""
    run = constant_rate(at.profile)
    try:
        nets = fig4.snapshots(run.folder)
    except ZfnetError as error:
        raise NotRun(f"`{run.command}`") from error
    for each in fig4.follow(at.profile, nets, run.name, maps=6, seed=at.seed).numbers:
        yield counted(each.quantity, each.value, each.n, each.unit, **each.parameters)


def develop_late(stored: Stored, level: float, late: float) -> Finding:
    again = f"`zfnet run fig4 --profile {stored.profile} --live`; some two hours"
    holds, fails, note = [], [], f"From {EVOLUTION}."
    numbers = _crossings(Stored(stored.profile, EVOLUTION, again), _followed(stored), level, "%", 100)

    def weigh(found: Mapping[str, Number]) -> None:
        _, upper, first = _lower_first(found)
        after = [above(number, late) for number in upper]
        holds.extend([first, *after])
        fails.extend([no(first), no(some(after))])

    weigh(numbers)
    run = constant_rate(stored.profile)
    try:
        control = _crossings(stored, read_epochs(run.epochs_file), level, "%", 100)
        weigh(control)
        numbers |= {f"{name}, constant rate": number for name, number in control.items()}
    except NotRun:
        note += f" The control was not run: `{run.command}`, {cost([run])}; then {stored.again}."
        holds.append(None)
    return Finding(verdict(every(holds), some(fails)), numbers, note)


def lead_of_share(share: Number, other: Number) -> Number:
    """Return how many points one percentage, counted over n, exceeds another, with the error of counting both."""
    # One more that counts and one that does not, so that 100 % of few are no certainty.
    shares = [(each.value / 100 * each.n + 1) / (each.n + 2) for each in (share, other)]
    variances = (p * (1 - p) / each.n for p, each in zip(shares, (share, other), strict=True))
    lead, margin = share.value - other.value, CLEAR * 100 * sqrt(sum(variances))
    return Number(lead, lead - margin, lead + margin, share.n, "points")


def jumps(stored: Stored) -> Finding:
    largest = stored.by("layer", fig4.LARGEST)
    base = stored.by("layer", "share of steps", kind="other picture")
    kinds = ("same unit", "other picture")
    same, other = (stored.by("layer", "median cosine", kind=kind) for kind in kinds)
    numbers, truths = {}, []
    for layer, share in largest.items():
        tenth = share._replace(n=max(1, share.n // 10))
        lead = numbers[f"{layer}, above all steps"] = lead_of_share(tenth, base[layer])
        numbers |= {f"{layer}, largest": tenth, f"{layer}, all": base[layer]}
        both = layer in same and layer in other  # where no picture changed, or every one did, nothing is compared
        truths += [above(lead, 0), same[layer].value > other[layer].value if both else None]
    shown = fig4.Development.load(stored.file.parent, {"maps": 6, "seed": 0})
    if shown is None:
        note = f"The maps of Fig. 4 are not at hand: {stored.again}."
        return Finding(verdict(every([*truths, None])), numbers, note)
    # Do projections stay more alike where the picture stays, too? Maps of one layer are compared between the same
    # two moments, since early on both change more; by chance is with these maps permuted.
    cells = []
    for maps in shown.features.values():
        pictures = torch.from_numpy(np.stack([one.pictures for one in maps])).double().flatten(2)
        pixels = F.normalize(pictures - GREY, dim=2)
        alike = (pixels[:, 1:] * pixels[:, :-1]).sum(2).numpy()
        changed = np.array([[one != other for one, other in pairwise(each.names)] for each in maps])
        cells += [each for each in zip(alike.T, changed.T, strict=True) if 0 < each[1].sum() < len(maps)]

    def more_alike(cells: Sequence) -> float:
        return float(np.mean([alike[~changed].mean() - alike[changed].mean() for alike, changed in cells]))

    random = np.random.default_rng(0)
    drawn = [more_alike([(alike, random.permutation(changed)) for alike, changed in cells]) for _ in range(2000)]
    more, chance = more_alike(cells), float(np.quantile(drawn, 0.975))
    numbers["cosine with the same picture less that with another, within a moment"] = exact(more)
    numbers["the same with maps permuted, 97.5th percentile"] = exact(chance)
    return Finding(verdict(every([*truths, more > chance or None])), numbers)


def until_converged(stored: Stored, middle: int, begin: int) -> Finding:
    numbers, gained, none, larger = {}, [], [], []
    curves = {layer: stored.by("epoch", fig4.PROBE, layer=layer) for layer in ("conv5", "fc6", "fc7", *LOWER)}
    for words, first, last in (("rate unchanged", middle, begin), ("to the end", begin, max(curves["conv5"]))):
        gains = {layer: lead_of_share(curve[last], curve[first]) for layer, curve in curves.items()}
        numbers |= {f"{layer}, {words}": gain for layer, gain in gains.items()}
        lower, upper = ([gain for layer, gain in gains.items() if (layer in LOWER) == low] for low in (True, False))
        clear = [above(gain, 0) for gain in upper]
        gained += clear
        none.append(all(truth is False for truth in clear))
        larger += [above(beyond(*pair), 0) for pair in product(upper, lower)]
    falls, epochs = [], training_of(stored.profile, "zfnet").recipe.epochs
    for name in TABLE_2:
        lines = [line["epoch"] for line in stored.epochs(name, needed=False)]
        if len(lines) == epochs:  # what was trained to the end
            before, after = (lines[round(epochs * moment / FIGURE_4_OF) - 1]["top1"] for moment in (middle, begin))
            falls.append(before - after)
    error = over_seeds(falls, "points") if falls else Number(float("nan"))
    numbers["fall of the top-1 error, rate unchanged"] = error
    note = f"Errors of {len(falls)} networks of Table 2, one training each."
    return Finding(verdict(every([*gained, *larger, above(error, 0)]), True in none), numbers, note)


# What lies in the background.

EXCESS = 0.2  # of the energy outside the object over the area there, as shares, to look at the background
BACKGROUND, BEYOND = "maps on the background", "energy outside less area"


def background(at: Subject) -> Iterator[Number]:
    subjects = {0: at}  # and further trainings where they are at hand; `smoke` trains none for this
    for seed in range(1, SEEDS if at.profile != "smoke" else 1):
        if net := on_processor(at_hand(training_of(at.profile, "zfnet", seed))):
            subjects[seed] = at.seen_by(net)
    for seed, subject in subjects.items():
        active = (subject.hits[subject.layers[-1]].score > 0).all(1).nonzero().flatten().tolist()
        shares = outside_shares(subject, active)
        yield counted(BACKGROUND, sum(share > EXCESS for share in shares.values()), len(shares), "maps", seed=seed)
        for map_ in sorted(shares, key=shares.get, reverse=True)[:3]:
            yield counted(BEYOND, 100 * shares[map_], 9, "points", map=map_, seed=seed)
    drawn = drawn_maps(at.untrained.hits[at.layers[-1]], at.scale.maps, at.seed)
    control = np.array(list(outside_shares(at.untrained, drawn).values()))
    yield measured(f"{BACKGROUND}, random weights", 100.0 * (control > EXCESS), "%")


def outside_shares(at: Subject, maps: Sequence[int]) -> dict[int, float]:
    """Return by map of the top layer the median share of energy outside the object, less that of the area."""
    shares = {}
    for map_ in maps:
        units = at.hits[at.layers[-1]].units(map_)
        placed, x = at.pictures_of(units)
        energy, outside = energies(at, x, placed), ~at.objects([unit.image for unit in units])
        share = (energy * outside).sum((1, 2)) / energy.sum((1, 2))
        shares[map_] = float(np.median((share - outside.float().mean((1, 2))).numpy()))
    return shares


def background_feature(stored: Stored, maps: int) -> Finding:
    counts = stored.by("seed", BACKGROUND)
    numbers = {f"seed {seed}": number._replace(unit=BACKGROUND) for seed, number in counts.items()}
    control = numbers["with random weights"] = stored.one(f"{BACKGROUND}, random weights")
    numbers |= {f"map {map_}: {BEYOND}": number for map_, number in stored.by("map", BEYOND, seed=0).items()}
    enough = [number.value >= maps for number in counts.values()]
    note = "One training: whether another has such maps was not asked." if len(counts) == 1 else ""
    shares = (exact(100 * number.value / number.n, n=number.n) for number in counts.values())
    more = every(above(lead_of_share(share, control), 0) or None for share in shares)
    return Finding(verdict(every([*enough, more, len(counts) > 1 or None]), not any(enough)), numbers, note)


# The hierarchy of features.


def growing(at: Subject) -> Iterator[Number]:
    for weights, subject in (("trained", at), ("untrained", at.untrained)):
        for layer in at.layers:
            place = {"layer": layer, "weights": weights}
            units = subject.units(layer)
            shown = fig4.projected(subject.net, at.dataset, units).numpy()
            extents = np.array([grouping.extent(each) for each in shown])
            field = min(receptive_field(at.net.spec, layer).size, at.net.preparation.crop)
            measuring = partial(measured, groups=[unit.map for unit in units], **place)
            yield measuring("side of the square that holds 90 %", extents, "pixels")
            yield measuring("of the receptive field", 100 * extents / field, "%")
            yield measuring("pieces of edges", [edge_pieces(each) for each in shown], "pieces")
        for beneath, layer in pairwise(at.layers):
            found = []
            for _, trace, signal in traces(subject, subject.units(layer, 1)):
                energy = descend(trace, layer, signal)[beneath].square().sum((2, 3))  # by map
                found += (energy.sum(1).square() / energy.square().sum(1)).tolist()
            yield measured("maps beneath that take part", found, "maps", layer=layer, weights=weights)


def edge_pieces(projection: np.ndarray) -> int:
    """Count the pieces of edges in a projection [3, s, s]: strong gradients of one direction that hang together."""
    # Strong is above a quarter of the largest; there are four directions, and a piece has four pixels at least.
    smooth = gaussian(np.asarray(projection, float), 0.7, channel_axis=0)
    down, across = np.gradient(smooth, axis=(1, 2))
    strength = np.sqrt((down**2 + across**2).sum(0))
    angle = 0.5 * np.arctan2(2 * (down * across).sum(0), (across**2 - down**2).sum(0))
    direction = np.round(angle / (np.pi / 4)).astype(int) % 4
    pieces = np.where(strength > 0.25 * strength.max(), direction + 1, 0)
    sizes = np.bincount(label(pieces, background=0, connectivity=2).ravel())[1:]
    return int((sizes >= 4).sum())


# Objects and their poses.

WINDOW, COVERED = "window of layer 5", "object within the square that holds 90 %"
VARIATION = "variation in pixels over that in layer 5"


def objects(at: Subject) -> Iterator[Number]:
    top, side = at.layers[-1], at.net.preparation.crop
    yield counted(WINDOW, receptive_field(at.net.spec, top).size / side, 1, "of the picture")
    yield measured(COVERED, coverage(at, top), "%", np.median, [unit.map for unit in at.units(top)])
    for layer in at.layers:
        yield measured(VARIATION, pose_variation(at, layer), "times", layer=layer)


def coverage(at: Subject, layer: str) -> np.ndarray:
    """Return unit by unit the percentage of the object in the smallest square with 90 % of its projection."""
    shares = []
    for unit in at.units(layer):
        placed, x = at.pictures_of([unit])
        side, top, left = grouping.smallest_square(energies(at, x, placed)[0].double().numpy())
        inside = at.objects([unit.image])[0]
        shares.append(float(inside[top : top + side, left : left + side].sum() / inside.sum()))
    return 100 * np.array(shares)  # NaN where no object is marked


def pose_variation(at: Subject, layer: str) -> np.ndarray:
    """Return for half of the maps how their patches vary in pixels, over how what layer 5 answers there varies."""
    pixels, features, top = [], [], at.layers[-1]
    units = at.units(layer)[: max(at.scale.maps // 2, 2) * at.scale.units]
    own, field = receptive_field(at.net.spec, layer), receptive_field(at.net.spec, top)
    for part, trace, _ in traces(at, units, top):
        for x, maps, unit in zip(trace.x, trace[top].maps, part, strict=True):
            box = own.box(unit.row, unit.column)
            seen = F.interpolate(cut(x, box)[None], (24, 24), mode="bilinear", antialias=True)
            pixels.append(seen.flatten().numpy())
            # The field of layer 5 that is nearest to the middle of the patch.
            middles = ((box.top + box.bottom) / 2, (box.left + box.right) / 2)
            places = (round((middle - field.offset - field.size / 2) / field.stride) for middle in middles)
            row, column = (min(max(place, 0), side - 1) for place, side in zip(places, maps.shape[1:], strict=True))
            features.append(maps[:, row, column].numpy())
    maps = np.array([unit.map for unit in units])
    with np.errstate(divide="ignore"):  # patches that are one to layer 5 have no ratio
        return variation(np.stack(pixels), maps) / variation(np.stack(features), maps)


def variation(values: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Return the mean distance of each map's vectors [n, d], in the mean distance of vectors of different maps."""
    vectors = torch.from_numpy(values).double()
    distances = torch.cdist(vectors, vectors, compute_mode=EXACT).numpy()
    own = [distances[np.ix_(maps == map_, maps == map_)] for map_ in np.unique(maps)]
    within = [each.sum() / max(each.size - len(each), 1) for each in own]
    return np.array(within) / distances[maps[:, None] != maps[None]].mean()


def objects_with_pose(stored: Stored, covered: float) -> Finding:
    coverage, by_layer = stored.one(COVERED), stored.by("layer", VARIATION)
    numbers = {COVERED: coverage} | {f"{layer}: {VARIATION}": number for layer, number in by_layer.items()}
    if stored.one(WINDOW).value >= 1:
        return Finding(UNTESTABLE, numbers, "Layer 5's window covers the picture.")
    return Finding(verdict(every([above(coverage, covered), rising(by_layer.values())])), numbers)


# What layers answer to stimuli and scrambled textures: prepared pictures, in which 0 is grey.

MADE = "stimuli made in code"  # what records say of the pictures
CONTRAST = 60.0  # their root mean square, in grey levels: about that of photographs less their mean
FREQUENCIES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)  # of the gratings, in cycles a pixel
COLOURS = ((1, -1, 0), (-1, -1, 2), (2, -1, -1), (-1, 2, -1))  # differences of colour without one of brightness
OCTAVES, ORIENTATIONS = 3, 4  # whose statistics a scrambled texture keeps: octaves from 1/4 cycle a pixel downwards


def probed(at: Subject) -> Iterator[Number]:
    side = at.net.preparation.crop
    for weights, net in (("trained", at.net), ("untrained", at.untrained.net)):
        shown = (answers(net, at.layers[1], made(side)).amax(0) for made in (gratings, corners, colour_edges))
        plain, best = next(shown), torch.maximum(*shown)
        selective = (best > plain)[torch.maximum(best, plain) > 0].numpy()  # silent maps are left out
        found = measured("maps that prefer corners or coloured edges", 100.0 * selective, "%", weights=weights)
        yield found._replace(data=MADE)
    size = min(receptive_field(at.net.spec, at.layers[2]).size, side)
    for layer in at.layers[1:4]:
        kept, field = {}, receptive_field(at.net.spec, layer)
        for place, unit in enumerate(at.units(layer, 2)):
            box = field.box(unit.row, unit.column)
            middles = (box.top + box.bottom) // 2, (box.left + box.right) // 2
            top, left = (min(max(middle - size // 2, 0), side - size) for middle in middles)
            x, square = at.x([unit.image]), (..., slice(top, top + size), slice(left, left + size))
            views = torch.zeros(2, *x.shape[1:])
            views[0][square] = x[0][square]
            views[1][square] = scrambled(x, (top, left), size, seed=at.seed + place)[0]
            before, after = answers(at.net, layer, views)[:, unit.map].tolist()
            kept.setdefault(unit.map, []).append(after / before if before else np.nan)
        shares = [100 * np.mean(each) for each in kept.values()]
        yield measured("kept under scrambling", shares, "%", layer=layer)


def answers(net: ConvNet, layer: str, x: Tensor) -> Tensor:
    """Return the largest activation of each map of a layer in each prepared picture [n, maps]."""
    return torch.cat([net.trace(part, upto=layer)[layer].maps.amax((2, 3)) for part in x.split(32)])


def grating(side: int, frequency: float, angle: float, phase: float) -> Tensor:
    """Return a grey grating [3, side, side]: cycles a pixel, direction as of `_along`, phase at the centre."""
    wave = torch.cos(2 * pi * frequency * _along(side, angle) + phase)
    return (sqrt(2) * CONTRAST * wave).float().expand(3, side, side)


def gratings(side: int) -> Tensor:
    """Return 256 gratings: 16 directions, four frequencies, four phases [256, 3, side, side]."""
    every = product(range(16), FREQUENCIES, range(4))
    return torch.stack([grating(side, each, pi * turn / 16, pi * phase / 2) for turn, each, phase in every])


def corners(side: int) -> Tensor:
    """Return 128 right angles, bright on dark and dark on bright: 16 directions, four places."""
    found = []
    for turn, shift in product(range(16), range(4)):
        one, other = (_step(side, pi * turn / 8 + more, 2 * shift) for more in (0, pi / 2))
        inside = (one + 1) * (other + 1) / 2 - 1
        found += [inside, -inside]
    return _of_one_contrast(torch.stack(found)[:, None].expand(-1, 3, -1, -1))


def colour_edges(side: int) -> Tensor:
    """Return 128 straight edges between two colours of one brightness: 16 directions, two places."""
    edges = [_step(side, pi * turn / 8, 4 * shift) for turn, shift in product(range(16), range(2))]
    colours = torch.tensor(COLOURS, dtype=torch.float64)[:, :, None, None]
    return _of_one_contrast(torch.cat([edge * colours for edge in edges]))


def _along(side: int, angle: float) -> Tensor:
    """Return how far each pixel lies from the centre in a direction: 0 is to the right, pi/2 down [side, side]."""
    steps = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    return np.cos(angle) * steps[None, :] + np.sin(angle) * steps[:, None]


def _step(side: int, angle: float, shift: float) -> Tensor:
    """Return -1 on one side of a line and 1 on the other, a pixel wide between [side, side]."""
    return (2 * (_along(side, angle) - shift)).clamp(-1, 1)


def _of_one_contrast(stimuli: Tensor) -> Tensor:
    return (CONTRAST * stimuli / stimuli.square().mean((1, 2, 3), keepdim=True).sqrt()).float()


def scrambled(pictures: Tensor, corner: tuple[int, int], side: int, seed: int = 0) -> Tensor:
    """Return textures like a square of each picture, in another layout (Heeger & Bergen, 1995)."""
    # From noise on, the values of the pixels, and the answers of oriented filters of several octaves, are given the
    # histograms that they have in the square, six times over. Colours are told apart along the square's own axes.
    top, left = corner
    square = (..., slice(top, top + side), slice(left, left + side))
    middle = pictures[square].mean((2, 3), keepdim=True)
    colours = (pictures[square] - middle).flatten(2)
    axes = torch.linalg.eigh(colours @ colours.transpose(1, 2)).eigenvectors.transpose(1, 2)
    whole = torch.einsum("nac,nchw->nahw", axes, pictures - middle)
    pixels, *wanted = (each[square].flatten(2).sort(-1).values for each in (whole, *bands(whole)))
    noise = torch.randn(whole[square].shape, generator=torch.Generator().manual_seed(seed))

    def matched(values: Tensor, histogram: Tensor) -> Tensor:
        """Give values [n, 3, h, w] a histogram [n, 3, h * w], keeping their order."""
        order = values.flatten(2).argsort(-1)
        return torch.empty_like(histogram).scatter_(2, order, histogram).view_as(values)

    texture = matched(noise, pixels)
    for _ in range(6):
        texture = matched(together([*map(matched, bands(texture), wanted)]), pixels)
    return torch.einsum("nac,nahw->nchw", axes, texture) + middle


def bands(pictures: Tensor) -> list[Tensor]:
    """Filter pictures [n, 3, h, w] by all filters of the bank."""
    spectrum = torch.fft.fft2(pictures)
    return [torch.fft.ifft2(spectrum * transfer).real for transfer in bank(*pictures.shape[-2:])]


def together(parts: list[Tensor]) -> Tensor:
    """Undo `bands`: filter every band once more, turned around, and add them up."""
    transfers = bank(*parts[0].shape[-2:])
    spectra = (torch.fft.fft2(part) * each.conj() for part, each in zip(parts, transfers, strict=True))
    return torch.fft.ifft2(sum(spectra)).real


@cache
def bank(height: int, width: int) -> Tensor:
    """Return transfer functions whose squares add up to 1: above, octaves by directions, below [14, h, w]."""
    down, across = np.meshgrid(np.fft.fftfreq(height), np.fft.fftfreq(width), indexing="ij")
    radius, angle = np.hypot(down, across), np.arctan2(down, across)
    # Each lets everything below an edge pass, nothing from twice that on, and falls like a cosine in between.
    octaves = [np.log2(np.maximum(radius, 1e-9) * 2 ** (octave + 2)) for octave in range(OCTAVES + 1)]
    low = [np.cos(pi / 2 * np.clip(octave, 0, 1)) for octave in octaves]
    found = [np.sqrt(1 - low[0] ** 2)]
    for (wide, narrow), turn in product(pairwise(low), range(ORIENTATIONS)):
        ring = np.sqrt(np.maximum(wide**2 - narrow**2, 0))
        across_edges = np.cos(angle - pi * turn / ORIENTATIONS) ** 3
        found.append(1j * ring * across_edges / sqrt(1.25))  # cos^6 over four directions adds up to 1.25
    return torch.from_numpy(np.stack([*found, low[-1]])).to(torch.complex64)


# What stays when pictures are moved: 1 to 16 of 112 pixels, 0.8 to 1.25 times, to 30 degrees; and how far they are
# moved to look for the strongest units again.

STEPS = {
    "shift": tuple(sign * pixels / 112 for pixels in (1, 2, 4, 8, 16) for sign in (-1, 1)),
    "scale": (0.8, 0.9, 1.1, 1.25),
    "turn": (-30.0, -20.0, -10.0, 10.0, 20.0, 30.0),
}
MOVES = {"shift": 8 / 112, "scale": 1.25, "turn": 20.0}
INDEX, RANKS = "index of invariance", "rank correlation of the index with the layer"
MORE = "rises more than with random weights"


def moved(at: Subject) -> Iterator[Number]:
    pictures = list(at.squares(at.few[: max(at.scale.few // 4, 2)]))
    ways = [each._replace(steps=STEPS[each.way]) for each in TRANSFORMATIONS]
    ours, control = (indices(net, pictures, ways) for net in (at.net, at.untrained.net))
    for way, index in ours.items():
        first, *_, top = index
        for layer, values in index.items():
            yield measured(INDEX, values, layer=layer, way=way)
            yield measured("with random weights", control[way][layer], layer=layer, way=way)
        yield correlation(np.stack([*index.values()], 1), at.seed, way)
        rises = [each[top] - each[first] for each in (index, control[way])]
        yield measured(MORE, rises[0] - rises[1], way=way)
    for layer in at.layers:
        units = at.units(layer, 1)
        squares, maps = at.squares([unit.image for unit in units]), [unit.map for unit in units]
        views = {"": squares}
        for way, step in MOVES.items():
            views[way] = torch.stack([transformed(each, at.net.preparation, **{way: step}) for each in squares])
        found = (answers(at.net, layer, at.net.prepare(each)) for each in views.values())
        before, *after = (maxima[range(len(maps)), maps] for maxima in found)
        for way, maxima in zip(MOVES, after, strict=True):
            yield measured("maximum kept", 100 * (maxima / before).numpy(), "%", np.median, layer=layer, way=way)


def indices(net: ConvNet, pictures: Sequence[Tensor], ways: Sequence[Transformation]) -> dict[str, dict]:
    """Return by way and layer how invariant each picture's features are: 1 is no change, 0 another picture."""
    return {
        sweep.transformation.way: {layer: 1 - distance.mean(1) for layer, distance in sweep.distances.items()}
        for sweep in invariance(net, pictures, None, ways).sweeps
    }


def correlation(index: np.ndarray, seed: int, way: str) -> Number:
    """Return the rank correlation of the mean index [pictures, layers] with the layer, bootstrapped."""
    n, layers = index.shape
    draws = np.random.default_rng(seed).integers(0, n, (1000, n))
    value, *others = (rank_correlation(np.arange(layers), each.mean(0)) for each in (index, *index[draws]))
    low, high = np.quantile(others, (0.025, 0.975)).tolist()
    return Number(value, low, high, n, "rho", float(np.std(others)), RANKS, {"way": way})


def invariance_grows(stored: Stored, level: float, least: int) -> Finding:
    ranks, more = (stored.by("way", quantity) for quantity in (RANKS, MORE))
    numbers = {f"{way}: rank correlation with the layer": number for way, number in ranks.items()}
    numbers |= {f"{way}: {MORE}": number for way, number in more.items()}
    for way in ranks:
        control = [number.value for number in stored.by("layer", "with random weights", way=way).values()]
        numbers[f"{way}, random weights: rank correlation"] = exact(
            rank_correlation(np.arange(len(control)), control)
        )
        first, *_, last = stored.by("layer", INDEX, way=way).items()
        numbers |= {f"{way}: {layer}": number for layer, number in (first, last)}
    for way in ranks:
        kept = stored.by("layer", "maximum kept", way=way)
        numbers |= {f"{way}, {layer}: maximum kept": number for layer, number in kept.items()}
    grows = [every([above(ranks[way], level), above(more[way], 0)]) for way in ranks]
    holds = True if grows.count(True) >= least else None if len(grows) - grows.count(False) >= least else False
    fails = sum(above(number, 0) is False for number in ranks.values()) >= least
    return Finding(verdict(holds, fails), numbers)


# Section 6: maps beside random directions.

COMBINED = "combined"


def coherent(at: Subject) -> Iterator[Number]:
    count, whole = 5 * at.scale.maps, at.seen_by(at.net)
    whole.rows = list(range(len(at.dataset)))  # of 4,000 pictures a class has 20, and nine of one are half of all
    for layer in at.layers[2:]:
        mixed = combined(at.net, layer, count, at.seed)
        ranked = {
            "trained": whole.hits[layer],
            "untrained": whole.untrained.hits[layer],
            COMBINED: strongest(mixed, at.dataset, 9, [COMBINED])[COMBINED],
        }
        for kind, hits in ranked.items():
            units = [hits.units(map_) for map_ in drawn_maps(hits, count, at.seed)]
            patches = [what_they_see(at, layer, group) for group in units]
            for name, describe in grouping.DESCRIPTORS.items():
                described = np.array([[describe(one / 255) for one in group] for group in patches])
                alike = grouping.likeness(described, at.seed).within
                yield measured(grouping.LIKE.format(name), alike, "cosine", layer=layer, of=kind)
            labels = at.dataset.labels[[[unit.image for unit in group] for group in units]]
            yield measured(grouping.ENTROPY, grouping.entropy(labels), "bits", layer=layer, of=kind)


def what_they_see(at: Subject, layer: str, units: Sequence[Unit]) -> list[np.ndarray]:
    """Return what units see, uint8 [s, s, 3]; the whole picture where their field is larger."""
    side, field = at.net.preparation.crop, receptive_field(at.net.spec, layer)
    seen, whole = at.net.preparation.visible(at.x([unit.image for unit in units])), Box(0, 0, side, side)
    boxes = [whole if field.size >= side else field.box(unit.row, unit.column) for unit in units]
    return [patch(*pair) for pair in zip(seen, boxes, strict=True)]


def combined(net: ConvNet, layer: str, count: int, seed: int = 0) -> ConvNet:
    """Return a network whose last layer, 1x1 filters, holds random directions among a layer's rectified maps."""
    below = net.spec.features(layer)
    bare = replace(below.convs[-1], pool=None, norm=None)
    spec = replace(below, convs=(*below.convs[:-1], bare, Conv(COMBINED, count, 1)))
    mixed = ConvNet(spec, net.preparation, seed).eval()
    with torch.no_grad():
        for conv in below.convs:
            mixed.get_submodule(conv.name).load_state_dict(net.get_submodule(conv.name).state_dict())
        weight = mixed.get_submodule(COMBINED).weight
        weight.copy_(F.normalize(weight, dim=1))
    return mixed


def far_from_random(stored: Stored) -> Finding:
    maps = {"trained": "maps", "untrained": "maps with random weights", COMBINED: "random combinations of maps"}
    numbers, leads = {}, {"untrained": [], COMBINED: []}
    for layer in ("conv3", "conv4", "conv5"):
        alike = stored.by("of", grouping.LIKE.format("shape"), layer=layer)
        labels = stored.by("of", grouping.ENTROPY, layer=layer)
        for of, truths in leads.items():
            truths += [apart(alike["trained"], alike[of]), apart(labels[of], labels["trained"])]
        numbers |= {f"{layer}, {maps[of]}: alike in shape": number for of, number in alike.items()}
        numbers |= {f"{layer}, {maps[of]}: entropy of labels": number for of, number in labels.items()}
        colour = stored.by("of", grouping.LIKE.format("colour"), layer=layer)  # decides nothing
        numbers |= {f"{layer}, {maps[of]}: alike in colour": number for of, number in colour.items()}
    special = every(leads[COMBINED])
    note = "Somewhere random combinations are not clearly less coherent: maps may be no special axes there."
    answer = verdict(every([*leads["untrained"], special]), False in leads["untrained"])
    return Finding(answer, numbers, "" if special else note)
