"""Section 4.2: does the network look at the object, and does a projection show what its unit hangs on?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..sanity import rank_correlation
from .finding import Finding, above, at_least, below, every, some, verdict
from .hiding import Covered, contributions, covered, energies, region
from .stored import Measured, Stored, measured
from .subject import Subject

MOST = 0.8
"""Share of a projection's energy that its region holds."""

EXPLAINED = 0.8
"""Share of the variance of the drops that maps have to explain."""


def object_covered(at: Subject) -> Iterator[Measured]:
    """Compare covering the object with covering the background, picture by picture."""
    from sklearn.metrics import roc_auc_score

    differences, areas = [], []
    for one in covered(at):
        inside, drops = _on(at.objects([one.row])[0], one), one.losses[1]
        if 0 < inside.sum() < inside.size:
            differences.append(drops[inside].mean() - drops[~inside].mean())
            areas.append(roc_auc_score(inside, drops))
    yield measured("drop of the log probability, object less background", differences, "nats")
    yield measured("pictures that lose more on the object", 100 * (np.array(differences) > 0), "%")
    yield measured("area under the ROC curve", areas)


def object_matters(stored: Stored) -> Finding:
    """Tell whether the class hangs on its object."""
    names = (
        "pictures that lose more on the object",
        "area under the ROC curve",
        "drop of the log probability, object less background",
    )
    numbers = {name: stored.numbers.one(name) for name in names}
    share, area, _ = numbers.values()
    holds = every([at_least(share, 75), above(area, 0.65)])
    note = "Boxes below half of the picture, one side of the square."
    return Finding(verdict(holds, below(area, 0.55) is True), numbers, note)


def object_alone(at: Subject) -> Iterator[Measured]:
    """Show the object alone and the background alone, on grey and on blur; count what single squares flip."""
    rows = [row for row in at.rows if 0.02 < float(at.objects([row]).float().mean()) < 0.5]
    labels = torch.as_tensor(at.dataset.labels)
    for fill in ("grey", "blur"):
        for shown in ("both", "object", "background"):
            right = []
            for part in torch.tensor(rows).split(64):
                x = _filled(at, part.tolist(), shown, fill)
                right += (_answers(at, x) == labels[part]).tolist()
            yield measured("accuracy", 100 * np.array(right), "%", shown=shown, fill=fill)
    flips = np.array([(one.hidden.label != one.hidden.target).float().mean().item() for one in covered(at)])
    yield measured("pictures flipped by some square", 100 * (flips > 0), "%")
    yield measured("places that flip, where any does", 100 * flips[flips > 0], "%")


def local_structure(stored: Stored) -> Finding:
    """Tell whether the object alone is recognised more often than its background alone."""
    found, numbers, twice, no_worse = stored.numbers, {}, [], []
    for fill in ("grey", "blur"):
        seen = found.by("shown", "accuracy", fill=fill)
        numbers |= {f"{shown}, {fill}: right": number for shown, number in seen.items()}
        twice.append(at_least(seen["object"], 2 * seen["background"].high))
        no_worse.append(below(seen["object"], seen["background"].value))
    flips = found.one("pictures flipped by some square")
    numbers |= {"pictures flipped": flips, "places that flip": found.one("places that flip, where any does")}
    note = "A sizeable share is read as a quarter of the pictures, few positions as less than half; boxes."
    holds = every([*twice, above(flips, 25), below(numbers["places that flip"], 50)])
    return Finding(verdict(holds, some(no_worse) is True), numbers, note)


def activity_where_shown(at: Subject) -> Iterator[Measured]:
    """Compare the activity of the strongest top map where its projection is covered, and elsewhere."""
    on, off, lowest = [], [], []
    for one in covered(at):
        inside, drops = _on(torch.from_numpy(region(one.energy, MOST)), one), one.losses[0]
        if 0 < inside.sum() < inside.size:
            on.append(drops[inside].mean())
            off.append(drops[~inside].mean())
            lowest.append(bool(inside[drops.argmax()]))
    on, off = 100 * np.array(on), 100 * np.array(off)
    yield measured("drop of the activity, on the region", on, "%", np.median)
    yield measured("drop of the activity, elsewhere", off, "%", np.median)
    yield measured("on the region less elsewhere", on - off, "points", np.median)
    yield measured("on the region less three times elsewhere", on - 3 * off, "points", np.median)
    yield measured("pictures whose lowest activity lies in the region", 100 * np.array(lowest), "%")


def activity_falls(stored: Stored) -> Finding:
    """Tell whether the activity falls most where the projection shows something."""
    names = (
        "drop of the activity, on the region",
        "on the region less three times elsewhere",
        "pictures whose lowest activity lies in the region",
        "on the region less elsewhere",
        "drop of the activity, elsewhere",
    )
    numbers = {name: stored.numbers.one(name) for name in names}
    drop, thrice, lowest, lead, _ = numbers.values()
    holds = every([at_least(drop, 30), at_least(thrice, 0), at_least(lowest, 80)])
    note = f"The region is the smallest that holds {MOST:.0%} of the smoothed energy; elsewhere is all of the rest."
    return Finding(verdict(holds, above(lead, 0) is False), numbers, note)


def corresponding(at: Subject) -> Iterator[Measured]:
    """Ask of units of layers 2 to 5 where they lose most, and what their projection's region alone keeps."""
    for layer in at.layers[1:]:
        found = list(contributions(at, layer, at.scale.few))
        yield measured("hits", 100 * np.array([one.hit for one in found]), "%", layer=layer)
        for name in ("projection", "exchanged"):
            values = [getattr(one, name) for one in found]
            yield measured("rank correlation", values, "rho", np.median, layer=layer, projection=name)
        own, random = _kept(at, layer)
        yield measured("kept by the region alone", 100 * own, "%", np.median, layer=layer)
        yield measured("region above random regions", 100 * (own - random), "points", np.median, layer=layer)


def corresponds(stored: Stored) -> Finding:
    """Tell whether projections of layers 3 to 5 show where their units look."""
    found, numbers, truths = stored.numbers, {}, []
    for layer in ("conv3", "conv4", "conv5"):
        names = ("hits", "kept by the region alone", "region above random regions")
        hits, kept, gain = (found.one(name, layer=layer) for name in names)
        numbers |= {f"{layer}: hits": hits, f"{layer}: kept by the region": kept, f"{layer}: above random": gain}
        truths += [above(hits, 70), above(kept, 50), above(gain, 0)]
    exchanged = found.by("layer", "rank correlation", projection="exchanged")
    numbers |= {f"{layer}: rho, exchanged": number for layer, number in exchanged.items() if layer != "conv2"}
    note = "Single units, each the strongest of its map in its picture; a hit is a square grown by half a side."
    return Finding(verdict(every(truths)), numbers, note)


def two_objects(at: Subject) -> Iterator[Measured]:
    """Set two pictures and two pieces of background side by side; cover one that the network names."""
    rng = np.random.default_rng(at.seed)
    pairs = rng.choice(at.right, (20 * at.scale.few, 2))
    labels = torch.as_tensor(at.dataset.labels)
    other, control = [], []
    for part in np.array_split(pairs, max(len(pairs) // 64, 1)):
        x, first, second = _composites(at, part), labels[part[:, 0]], labels[part[:, 1]]
        named = (_answers(at, x) == first) & (first != second)
        if named.any():
            x, second = x[named], second[named]
            half = x.shape[-1] // 2
            other += (_answers(at, _blanked(x, 0, 0, half)) == second).tolist()
            control += (_answers(at, _blanked(x, 0, half, half)) == second).tolist()
    yield measured("answers turned to the other object", 100 * np.array(other, float), "%", covered="object")
    yield measured("answers turned to the other object", 100 * np.array(control, float), "%", covered="background")


def flips_to_other(stored: Stored) -> Finding:
    """Tell whether covering the named object makes the other one the answer."""
    found = stored.numbers.by("covered", "answers turned to the other object")
    share, control = found["object"], found["background"]
    numbers = {f"{what} covered": number for what, number in found.items()}
    holds = every([above(share, 50), at_least(share, 3 * control.high)])
    note = "Composites: two pictures and two pieces of background, each a quarter; the first picture is named."
    return Finding(verdict(holds, below(share, 1.5 * control.value + 1) is True), numbers, note)


def evidence_apart(at: Subject) -> Iterator[Measured]:
    """Compare where the strongest top map and where the class lose most."""
    apart, correlations, maps = [], [], []
    for number, one in enumerate(covered(at)):
        activity, probability = one.losses
        rows, columns = one.centres
        a, b = int(activity.argmax()), int(probability.argmax())
        apart.append(max(abs(int(rows[a] - rows[b])), abs(int(columns[a] - columns[b]))) > one.hidden.size)
        correlations.append(rank_correlation(activity, probability))
        if number < at.scale.few // 4:
            maps.append(_maps_needed(at, one))
    yield measured("pictures whose lowest places lie apart", 100 * np.array(apart), "%")
    yield measured("correlation of the two losses", correlations, "rho", np.median)
    yield measured("maps that explain 80 % of the drops", maps, "maps", np.median)


def evidence_elsewhere(stored: Stored) -> Finding:
    """Tell whether the class often hangs on another place than the strongest map."""
    names = (
        "pictures whose lowest places lie apart",
        "maps that explain 80 % of the drops",
        "correlation of the two losses",
    )
    numbers = {name: stored.numbers.one(name) for name in names}
    share, maps, _ = numbers.values()
    return Finding(verdict(every([at_least(share, 25), above(maps, 1)]), below(share, 5) is True), numbers)


def _on(mask: Tensor, one: Covered) -> np.ndarray:
    """Tell which squares have their centre in a mask [H, W]: bool [places]."""
    rows, columns = one.centres
    return mask[rows, columns].numpy()


def _answers(at: Subject, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return at.net(x.contiguous(memory_format=torch.channels_last)).argmax(1)


def _filled(at: Subject, rows: Sequence[int], shown: str, fill: str) -> Tensor:
    """Return pictures of which only the object, only the background, or both are seen, on grey or on blur."""
    x = at.x(rows)
    if shown == "both":
        return x
    ground = _blurred(x) if fill == "blur" else torch.zeros_like(x)
    inside = at.objects(rows)[:, None]
    return torch.where(inside if shown == "object" else ~inside, x, ground)


def _blurred(x: Tensor, side: int = 33) -> Tensor:
    """Average over squares, rows first and then columns; beyond the edge nothing counts."""
    rows = F.avg_pool2d(x, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)


def _kept(at: Subject, layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Return what units keep where only their projection's region is seen, and only a random one as large."""
    units = at.units(layer)
    units = units[:: max(len(units) // (at.scale.few // 2), 1)][: at.scale.few // 2]
    placed = [unit._replace(image=i) for i, unit in enumerate(units)]
    x, rng = at.x([unit.image for unit in units]), np.random.default_rng(at.seed)
    masks = torch.from_numpy(np.stack([region(each, MOST) for each in energies(at, x, placed)]))
    moved = [mask.roll(tuple(rng.integers(1, x.shape[-1], 2).tolist()), (0, 1)) for mask in masks]
    views = (x, x * masks[:, None], x * torch.stack(moved)[:, None])
    full, own, random = (_values(at, seen, placed) for seen in views)
    return own / full, random / full


def _values(at: Subject, x: Tensor, units: Sequence) -> np.ndarray:
    """Return the activation of unit i in picture i."""
    found = []
    for part in torch.arange(len(x)).split(16):
        with torch.inference_mode():
            maps = at.net.features(units[0].layer).trace(x[part])[units[0].layer].maps
        found += [float(maps[i, units[n].map, units[n].row, units[n].column]) for i, n in enumerate(part.tolist())]
    return np.array(found)


def _composites(at: Subject, pairs: np.ndarray) -> Tensor:
    """Set first and second pictures, halved, into opposite corners, and pieces of background into the others."""
    half = at.net.preparation.crop // 2
    first, second = (F.interpolate(at.x(rows.tolist()), (half, half), mode="area") for rows in pairs.T)
    background = [_corner(at, int(row), half) for row in np.roll(pairs[:, 0], 1)]
    ground = torch.stack(background)
    top, bottom = torch.cat([first, ground], 3), torch.cat([ground.flip(3), second], 3)
    return torch.cat([top, bottom], 2)


def _corner(at: Subject, row: int, half: int) -> Tensor:
    """Return the corner of a picture that shows least of its object [3, half, half]."""
    x, inside = at.x([row])[0], at.objects([row])[0].float()
    side = x.shape[-1]
    halves = (slice(0, half), slice(side - half, side))
    rows, columns = min(product(halves, halves), key=lambda place: float(inside[place].sum()))
    return x[:, rows, columns]


def _blanked(x: Tensor, top: int, left: int, side: int) -> Tensor:
    """Return pictures with a grey square."""
    hidden = x.clone()
    hidden[..., top : top + side, left : left + side] = 0
    return hidden


def _maps_needed(at: Subject, one: Covered) -> int:
    """Return how many maps of the top layer explain the drops of the log probability."""
    x, size = at.x([one.row]), one.hidden.size
    rows, columns = (one.centres - size // 2).tolist()
    hidden = x.repeat(len(rows), 1, 1, 1).contiguous(memory_format=torch.channels_last)
    for each, row, column in zip(hidden, rows, columns, strict=True):
        each[:, row : row + size, column : column + size] = 0
    with torch.inference_mode():
        sums = [at.net.features().convolved(part).sum((2, 3)) for part in hidden.split(16)]
    return explaining(torch.cat(sums).double().numpy(), one.losses[1])


def explaining(features: np.ndarray, values: np.ndarray, most: int = 12) -> int:
    """Return how many features, each the best beside those before it, explain most of the variance of values.

    Args:
        features: [n, d].
        values: [n].
        most: Where the search ends.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(50, 9))
        >>> explaining(features, features[:, 3]), explaining(features, features[:, 3] + features[:, 5])
        (1, 2)
    """
    features, values = features - features.mean(0), values - values.mean()
    chosen, left = [], values
    while len(chosen) < most and (left**2).sum() > (1 - EXPLAINED) * (values**2).sum():
        fit = np.abs(left @ features) / np.maximum(np.linalg.norm(features, axis=0), 1e-9)
        fit[chosen] = -1
        chosen.append(int(fit.argmax()))
        weights, *_ = np.linalg.lstsq(features[:, chosen], values, rcond=None)
        left = values - features[:, chosen] @ weights
    return len(chosen)
