"""Section 4.2: does the network look at the object, and does a projection show what its unit depends on?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from skimage.filters import gaussian, sobel
from torch import Tensor
from torch.nn import functional as F

from ...architecture import Box, Unit, input_window, receptive_field
from ...deconv import cut, deconv_units, strongest_unit
from ...occlusion import Occlusion, occlude
from ..grouping import drawn_maps
from ..sanity import rank_correlation
from .evidence import Number, Subject, measured

BATCH = 16


class Covered(NamedTuple):
    """One picture covered place by place."""

    row: int  # in the data set
    seen: Occlusion
    centres: Tensor  # of the squares: rows and columns, int64 [2, places]
    activity: np.ndarray  # [places], how far it falls, as a share of that of the whole picture
    probability: np.ndarray  # [places], how far its log falls from the largest: only differences count
    energy: Tensor  # [H, W], of the projection of the strongest unit of the strongest top map


@lru_cache(2)
def covered(at: Subject, every: bool = False) -> list[Covered]:
    """Cover pictures that the network classifies correctly: all of them, or as many as the scale says."""
    layer, found = at.layers[-1], []
    for row in at.right if every else at.right[: at.scale.few]:
        x = at.x([row])
        seen = occlude(at.net, x[0], int(at.dataset.labels[row]), *square_of(x))
        maps = at.net.trace(x, upto=layer)[layer].maps[0]
        activity = 1 - seen.activity.flatten() / float(maps[seen.map].sum())
        log = seen.probability.flatten().clamp(min=1e-9).log()
        energy = energies(at, x, [Unit(0, layer, *strongest_unit(maps, seen.map))])[0]
        corners = torch.meshgrid(*(torch.arange(n) * seen.stride for n in seen.activity.shape), indexing="ij")
        middles = torch.stack([each.flatten() for each in corners]) + seen.size // 2
        found.append(Covered(row, seen, middles, activity.numpy(), (log.max() - log).numpy(), energy))
    return found


@lru_cache(4)
def contributions(at: Subject, layer: str) -> dict[str, np.ndarray]:
    """Cover pictures place by place and follow strong units of a layer, each in its own picture.

    By unit: the rank correlations, over places, of its losses with the energy under the square of its `projection`,
    of the picture's `edges` and of another map's projection, moved into this unit's window (`moved`); and whether
    the square of the largest loss, grown by half a side, is a `hit`: covers the place with most energy, of the
    unit's own projection or of the one that was moved (`moved hit`); the share of its activity that is `kept` where
    only the region of its projection is seen, or as large a one of the other (`moved kept`); and the units' `maps`.
    """
    # Units of one map are alike, so that many maps tell more than many units: all that nine pictures excite.
    hits = at.hits[layer]
    maps = drawn_maps(hits, len(hits.score), at.seed)
    units, x = at.pictures_of([unit for map_ in maps for unit in hits.units(map_)[:3]])
    size, stride = square_of(x)
    corners = np.array([*product(range(0, x.shape[-1] - size + 1, stride), repeat=2)])
    shown, names = (
        energies(at, x, units),
        ("projection", "edges", "moved", "hit", "moved hit", "kept", "moved kept"),
    )
    found, moved = {name: [] for name in names}, another_maps(at, shown, units)
    for i, unit in enumerate(units):
        field = input_window(at.net.spec, layer, unit.row, unit.column, *x.shape[2:])
        reached = (corners > (field.top - size, field.left - size)) & (corners < (field.bottom, field.right))
        places = reached.all(1)
        own = region(shown[i])
        regions = torch.from_numpy(np.stack([own, region(moved[i], int(own.sum()))]))
        views = torch.cat([x[i : i + 1], x[i] * regions[:, None], covered_at(x[i], corners[places], size)])
        whole, kept, moved_kept, *values = activations(at, views, [unit] * len(views)).tolist()
        losses = whole - np.array(values)
        edges = torch.from_numpy(sobel(x[i].mean(0).numpy()) ** 2)
        compared = {"projection": shown[i], "edges": edges, "moved": moved[i]}
        for name, energy in compared.items():
            under = F.avg_pool2d(energy[None].double(), size, stride).flatten().numpy()[places]
            found[name].append(rank_correlation(losses, under * size**2))
        for name, energy in (("hit", shown[i]), ("moved hit", moved[i])):
            peak = np.unravel_index(smoothed(energy).argmax(), energy.shape)
            found[name].append(np.abs(corners[places][losses.argmax()] + size / 2 - peak).max() <= size)
        found["kept"].append(kept / whole)
        found["moved kept"].append(moved_kept / whole)
    return {name: np.array(values) for name, values in found.items()} | {"maps": np.array([u.map for u in units])}


def another_maps(at: Subject, shown: Tensor, units: Sequence[Unit]) -> Tensor:
    """Return for each unit the energy of another map's [units, H, W], moved into its window."""
    # Units stand map by map, so that half of them away stands another map's.
    far, side, moved = len(units) // 2, shown.shape[-1], []
    others = [*units[len(units) - far :], *units[: len(units) - far]]
    stride = receptive_field(at.net.spec, units[0].layer).stride
    for energy, one, other in zip(shown.roll(far, 0), units, others, strict=True):
        down, across = stride * (one.row - other.row), stride * (one.column - other.column)
        moved.append(cut(energy, Box(-down, -across, side - down, side - across)))
    return torch.stack(moved)


def evidence_ratios(at: Subject, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return how much more energy projections have on the class's evidence than elsewhere, picture by picture.

    Evidence is the fifth of a picture where its class loses most: first that of the picture itself, then that of
    the next one, which lies in the middle as often.
    """
    ratios, regions, pictures = [], [], covered(at)
    for one in pictures:
        rows, columns = one.seen.activity.shape
        losses = torch.from_numpy(one.probability).view(1, 1, rows, columns).float()
        # Straight between the middles of the squares, and as at the nearest one beyond the outermost.
        inner, first = [(n - 1) * one.seen.stride + 1 for n in (rows, columns)], one.seen.size // 2
        between = F.interpolate(losses, inner, mode="bilinear", align_corners=True)
        bottom, right = (n - first - m for n, m in zip(one.energy.shape, inner, strict=True))
        lost = F.pad(between, (first, right, first, bottom), mode="replicate")[0, 0].numpy()
        regions.append(lost > np.quantile(lost, 0.8))
    for one, own, another in zip(pictures, regions, regions[1:] + regions[:1], strict=True):
        x = at.x([one.row])
        maps = at.net.trace(x, upto=layer)[layer].maps[0]
        chosen = maps.flatten(1).amax(1).argsort(descending=True)[:4].tolist()
        energy = smoothed(energies(at, x, [Unit(0, layer, *strongest_unit(maps, map_)) for map_ in chosen]).mean(0))
        edges = gaussian(sobel(x[0].mean(0).numpy()).astype(float), sigma=2)
        ratios.append([matched_ratio(energy, evidence, edges) for evidence in (own, another)])
    own, another = np.array(ratios).T
    return own, another


def activations(at: Subject, x: Tensor, units: Sequence[Unit]) -> Tensor:
    """Return the activation of unit i, all of one layer, in picture i."""
    layer, places = units[0].layer, torch.tensor([unit.place for unit in units]).split(BATCH)
    parts = zip((at.net.trace(part, upto=layer)[layer].maps for part in x.split(BATCH)), places, strict=True)
    return torch.cat([maps[torch.arange(len(maps)), *place.T] for maps, place in parts])


def square_of(x: Tensor) -> tuple[int, int]:
    """Return the side of the square that covers parts of pictures, a fifth of theirs, and its step, in pixels."""
    return max(round(1 / 5 * x.shape[-1]), 2), max(round(1 / 14 * x.shape[-1]), 1)


def covered_at(x: Tensor, corners: Sequence[Sequence[int]], size: int) -> Tensor:
    """Return a picture [3, H, W] once for every corner, with a grey square there."""
    views = x.repeat(len(corners), 1, 1, 1).contiguous(memory_format=torch.channels_last)
    for view, (top, left) in zip(views, corners, strict=True):
        view[:, top : top + size, left : left + size] = 0
    return views


def energies(at: Subject, x: Tensor, units: Sequence[Unit]) -> Tensor:
    """Return the energy of each unit's projection over its whole picture [units, H, W]."""
    shown, side = deconv_units(at.net.features(), x, units), x.shape[-1]
    whole = [Box(-box.top, -box.left, side - box.top, side - box.left) for box in shown.boxes]
    return torch.stack([cut(*pair).square().sum(0) for pair in zip(shown.projections, whole, strict=True)])


def smoothed(energy: Tensor) -> np.ndarray:
    """Return energy averaged over about a fortieth of the picture, so that pixels become regions."""
    return gaussian(energy.numpy().astype(float), sigma=energy.shape[-1] / 40)


def region(energy: Tensor, area: int = 0) -> np.ndarray:
    """Return the fewest places with 80 % of the smoothed energy, or an `area` with most of it: bool [H, W]."""
    values = smoothed(energy)
    order = np.argsort(values, axis=None)[::-1]
    held = np.cumsum(values.ravel()[order])
    chosen = np.zeros(values.size, bool)
    chosen[order[: area or int(np.searchsorted(held, 0.8 * held[-1])) + 1]] = True
    return chosen.reshape(values.shape)


def matched_ratio(values: np.ndarray, inside: np.ndarray, edges: np.ndarray) -> float:
    """Return the mean of values inside a region over that outside, at places as rich in edges; all are [H, W]."""
    # Places are sorted into ten classes by their edges; outside each class weighs as much as inside.
    classes = np.digitize(edges, np.quantile(edges, np.linspace(0.1, 0.9, 9)))
    pairs = [(inside & (classes == each), ~inside & (classes == each)) for each in range(10)]
    shared = [(here, there) for here, there in pairs if here.any() and there.any()]
    within = sum(here.sum() * values[here].mean() for here, _ in shared)
    beyond = sum(here.sum() * values[there].mean() for here, there in shared)
    return float(within / beyond) if beyond else float("nan")


def object_covered(at: Subject) -> Iterator[Number]:
    from sklearn.metrics import roc_auc_score

    found = covered(at, every=True)
    inside = [at.objects([one.row])[0][tuple(one.centres)].numpy() for one in found]

    def against(inside: np.ndarray, drops: np.ndarray) -> tuple[float, float]:
        if not 0 < inside.sum() < inside.size:
            return np.nan, np.nan
        return drops[inside].mean() - drops[~inside].mean(), roc_auc_score(inside, drops)

    drops = [one.probability for one in found]
    differences, areas = np.array([*map(against, inside, drops)]).T
    # The control: where the next picture has its object, which is in the middle as often.
    elsewhere, by_chance = np.array([*map(against, inside[1:] + inside[:1], drops)]).T
    known = differences[np.isfinite(differences)]
    yield measured("drop of the log probability, object less background", differences, "nats")
    yield measured("pictures that lose more on the object", 100 * (known > 0), "%")
    yield measured("area under the ROC curve", areas)
    yield measured("the same with another picture's object", elsewhere, "nats")
    yield measured("drop, own object less another picture's", differences - elsewhere, "nats")
    yield measured("area, own object less another picture's", areas - by_chance)


def object_alone(at: Subject) -> Iterator[Number]:
    labels, rows = torch.as_tensor(at.dataset.labels), at.with_object
    other = dict(zip(rows, rows[1:] + rows[:1], strict=True))  # whose object's place is the control
    for fill in ("grey", "blur"):
        right = {shown: [] for shown in ("both", "object", "background", "other place hidden")}
        for part in torch.tensor(rows).split(64):
            x, inside = at.x(part.tolist()), at.objects(part.tolist())[:, None]
            elsewhere = at.objects([other[row] for row in part.tolist()])[:, None]
            ground = blurred(x) if fill == "blur" else torch.zeros_like(x)
            kept = {"object": inside, "background": ~inside, "other place hidden": ~elsewhere}
            views = {"both": x} | {shown: torch.where(seen, x, ground) for shown, seen in kept.items()}
            for shown, view in views.items():
                right[shown] += (_answers(at, view) == labels[part]).tolist()
        for shown, answers in right.items():
            yield measured("accuracy", 100 * np.array(answers), "%", shown=shown, fill=fill)
        control, background = (np.array(right[shown], float) for shown in ("other place hidden", "background"))
        lost = "accuracy lost to hiding the object rather than another place"
        yield measured(lost, 100 * (control - background), "points", fill=fill)
    flips = [(one.seen.label != one.seen.target).flatten().numpy() for one in covered(at)]
    shares = np.array([each.mean() for each in flips])
    yield measured("pictures flipped by some square", 100 * (shares > 0), "%")
    yield measured("places that flip, where any does", 100 * shares[shares > 0], "%")
    on = [at.objects([one.row])[0][tuple(one.centres)].numpy() for one in covered(at)]
    pairs = [(each, inside) for each, inside in zip(flips, on, strict=True) if 0 < inside.sum() < inside.size]
    more = [100 * (each[inside].mean() - each[~inside].mean()) for each, inside in pairs]
    yield measured("places that flip, on the object less elsewhere", more, "points")


def blurred(x: Tensor, side: int = 33) -> Tensor:
    """Average over squares, rows first and then columns; beyond the edge nothing counts."""
    rows = F.avg_pool2d(x, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)


@torch.inference_mode()
def _answers(at: Subject, x: Tensor) -> Tensor:
    return at.net(x.contiguous(memory_format=torch.channels_last)).argmax(1)


def two_objects(at: Subject) -> Iterator[Number]:
    # Known are objects that are named where they stand alone, halved, among three pieces of background.
    labels, rows = torch.as_tensor(at.dataset.labels), np.array(at.right)
    known = []
    for place in (0, 1):
        named = []
        for part in np.array_split(rows, max(len(rows) // 64, 1)):
            alone = composites(at, np.stack([part, part], 1), shown=[place])
            named += (_answers(at, alone) == labels[part]).tolist()
        known.append(rows[np.array(named, bool)])
    drawn = np.random.default_rng(at.seed)
    pairs = np.stack([drawn.choice(each, 20 * at.scale.few if all(map(len, known)) else 0) for each in known], -1)
    turned = {"object": [], "background": []}
    for part in np.array_split(pairs, max(len(pairs) // 64, 1)) if len(pairs) else ():
        x, first, second = composites(at, part), labels[part[:, 0]], labels[part[:, 1]]
        named = (_answers(at, x) == first) & (first != second)
        half = x.shape[-1] // 2
        for what, left in (("object", 0), ("background", half)) if named.any() else ():
            covering = x[named]
            covering[..., :half, left : left + half] = 0
            turned[what] += (_answers(at, covering) == second[named]).tolist()
    for what, found in turned.items():
        yield measured("answers turned to the other object", 100 * np.array(found, float), "%", covered=what)
    more = np.array(turned["object"], float) - np.array(turned["background"], float)
    yield measured("answers turned, object less background", 100 * more, "points")


def composites(at: Subject, pairs: np.ndarray, shown: Sequence[int] = (0, 1)) -> Tensor:
    """Set first and second pictures, halved, into opposite corners, and pieces of background into the others.

    Of the two only those `shown` are there; background stands in the place of the other.
    """
    half, ground = at.net.preparation.crop // 2, []
    for row in np.roll(pairs[:, 0], 1).tolist():
        x, inside = at.x([row])[0], at.objects([row])[0].float()
        # The corner of a picture that shows least of its object.
        halves = (slice(0, half), slice(x.shape[-1] - half, x.shape[-1]))
        rows, columns = min(product(halves, halves), key=lambda corner: float(inside[corner].sum()))
        ground.append(x[:, rows, columns])
    ground = torch.stack(ground)
    first, second = (
        F.interpolate(at.x(rows.tolist()), (half, half), mode="area") if place in shown else ground.flip(2)
        for place, rows in enumerate(pairs.T)
    )
    return torch.cat([torch.cat([first, ground], 3), torch.cat([ground.flip(3), second], 3)], 2)


def activity_where_shown(at: Subject) -> Iterator[Number]:
    found, pictures = [], covered(at)
    regions = [region(one.energy) for one in pictures]
    for number, one in enumerate(pictures):
        # The control: where the next picture's strongest map has its region, at the same area.
        other = region(pictures[(number + 1) % len(pictures)].energy, int(regions[number].sum()))
        inside, elsewhere = (each[tuple(one.centres.numpy())] for each in (regions[number], other))
        drops = 100 * one.activity
        if 0 < inside.sum() < inside.size and elsewhere.any():
            lowest = float(inside[drops.argmax()])
            places = (inside, ~inside, elsewhere)
            found.append([*(drops[where].mean() for where in places), 100 * lowest, 100 * inside.mean()])
    on, off, control, lowest, area = np.array(found, np.float32).reshape(-1, 5).T
    yield measured("drop of the activity, on the region", on, "%", np.median)
    yield measured("drop of the activity, elsewhere", off, "%", np.median)
    yield measured("drop of the activity, on another picture's region", control, "%", np.median)
    yield measured("on the region less elsewhere", on - off, "points", np.median)
    yield measured("on the region less another picture's", on - control, "points", np.median)
    yield measured("pictures whose lowest activity lies in the region", lowest, "%")
    yield measured("lowest in the region, less the region's share of the places", lowest - area, "points")


def corresponding(at: Subject) -> Iterator[Number]:
    for layer in at.layers[2:]:
        found = contributions(at, layer)
        measuring, middle = partial(measured, groups=found["maps"], layer=layer), np.median
        hits, kept = (100.0 * np.stack([found[name], found[f"moved {name}"]]) for name in ("hit", "kept"))
        yield measuring("hits", hits[0], "%")
        yield measuring("hits above the control", hits[0] - hits[1], "points")
        for name in ("projection", "moved", "edges"):
            yield measuring("rank correlation", found[name], "rho", middle, projection=name)
        for name in ("moved", "edges"):
            more = found["projection"] - found[name]
            yield measuring("rank correlation above the control", more, "rho", middle, control=name)
        yield measuring("kept by the region alone", kept[0], "%", middle)
        yield measuring("region above the control", kept[0] - kept[1], "points", middle)


def evidence_apart(at: Subject) -> Iterator[Number]:
    correlations, maps, places = [], [], []
    for number, one in enumerate(covered(at)):
        size, middles = one.seen.size, one.centres.T
        # Where both are lowest, and again under a square a fifth larger: how far does either move by itself?
        larger = round(1.2 * size)
        again = occlude(at.net, at.x([one.row])[0], one.seen.target, larger, one.seen.stride, map_=one.seen.map)
        columns = again.activity.shape[1]
        lowest = [middles[values.argmax()] for values in (one.activity, one.probability)]
        for values in (again.activity, again.probability):
            place = divmod(int(values.argmin()), columns)
            lowest.append(torch.tensor(place) * again.stride + larger // 2)
        places.append(torch.stack(lowest))
        correlations.append(rank_correlation(one.activity, one.probability))
        if number < at.scale.few // 4:
            views = covered_at(at.x([one.row])[0], (middles - size // 2).tolist(), size)
            with torch.inference_mode():
                sums = [at.net.features().convolved(part).sum((2, 3)) for part in views.split(BATCH)]
            maps.append(explaining(torch.cat(sums).double().numpy(), one.probability))
    activity, probability, activity_again, probability_again = torch.stack(places, 1)

    def apart(some: Tensor, others: Tensor) -> np.ndarray:
        return ((some - others).abs().amax(1) > size).numpy()

    observed = apart(activity, probability)
    moved = apart(activity, activity_again) | apart(probability, probability_again)
    other = apart(activity, probability.roll(1, 0))
    yield measured("pictures whose lowest places lie apart", 100 * observed, "%")
    yield measured("either moves so far under a larger square", 100 * moved, "%")
    yield measured("apart, of two pictures", 100 * other, "%")
    yield measured("apart more than either moves", 100.0 * observed - 100.0 * moved, "points")
    yield measured("apart less than of two pictures", 100.0 * other - 100.0 * observed, "points")
    yield measured("correlation of the two losses", correlations, "rho", np.median)
    yield measured("maps that explain 80 % of the drops", maps, "maps", np.median)


def explaining(features: np.ndarray, values: np.ndarray, most: int = 12) -> int:
    """Return how many features [n, d], each the best beside those before it, explain 80 % of the variance."""
    features, values = features - features.mean(0), values - values.mean()
    chosen, left = [], values
    while len(chosen) < most and (left**2).sum() > (1 - 0.8) * (values**2).sum():
        fit = np.abs(left @ features) / np.maximum(np.linalg.norm(features, axis=0), 1e-9)
        fit[chosen] = -1
        chosen.append(int(fit.argmax()))
        weights, *_ = np.linalg.lstsq(features[:, chosen], values, rcond=None)
        left = values - features[:, chosen] @ weights
    return len(chosen)
