"""What networks lose when parts of pictures are covered: the machinery of the claims of sections 2.1 and 4.2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from skimage.filters import gaussian, sobel
from torch import Tensor
from torch.nn import functional as F

from ...architecture import Box, Unit, input_window
from ...deconv import cut, deconv_units
from ...occlusion import Occlusion, occlude
from ..sanity import rank_correlation
from .subject import Subject

SIDE, STEP = 1 / 5, 1 / 14
"""Of the square that covers parts, and its step, as shares of the picture."""

STRONG = 4
"""Maps of each picture whose projections are taken together."""

TOP = 0.2
"""Share of the picture that counts as what the class hangs on."""


@dataclass(frozen=True)
class Covered:
    """One picture, place by place covered, and the projection of the strongest unit of its strongest top map.

    Attributes:
        row: In the data set.
        hidden: What the network sees.
        activity: Of the map while nothing is covered.
        energy: [H, W], of the projection.
    """

    row: int
    hidden: Occlusion
    activity: float
    energy: Tensor

    @property
    def centres(self) -> Tensor:
        """Rows and columns of the squares' centres, int64 [places] each."""
        return centres(self.hidden.activity.shape, self.hidden.size, self.hidden.stride)

    @property
    def losses(self) -> tuple[np.ndarray, np.ndarray]:
        """How far activity falls at each place, as a share of it, and how far the log of the probability [places].

        The log falls from its largest value: only differences between places are asked for.
        """
        log = self.hidden.probability.flatten().clamp(min=1e-9).log()
        return (1 - self.hidden.activity.flatten() / self.activity).numpy(), (log.max() - log).numpy()


@dataclass(frozen=True)
class Contribution:
    """How the losses of one unit go with what lies under the square: rank correlations over its places.

    Attributes:
        projection: With the energy of the unit's projection.
        edges: With that of the picture's gradient.
        exchanged: With the energy of the projection of the next unit of the list.
        hit: Whether the square of the largest loss, grown by half a side, covers the place with most energy.
    """

    projection: float
    edges: float
    exchanged: float
    hit: bool


def sizes(side: int) -> tuple[int, int]:
    """Return side and step of the square in pixels."""
    return max(round(SIDE * side), 2), max(round(STEP * side), 1)


def centres(shape: Sequence[int], size: int, stride: int) -> Tensor:
    """Return rows and columns of the centres of squares in a grid of places, int64 [2, places]."""
    rows, columns = torch.meshgrid(*(torch.arange(n) * stride + size // 2 for n in shape), indexing="ij")
    return torch.stack([rows.flatten(), columns.flatten()])


def covered(at: Subject) -> list[Covered]:
    """Cover the pictures that the network classifies correctly, as many as the scale says."""
    if "covered" not in at.kept:
        layer = at.layers[-1]
        found = []
        for row in at.right[: at.scale.few]:
            x = at.x([row])
            size, stride = sizes(x.shape[-1])
            hidden = occlude(at.net, x[0], int(at.dataset.labels[row]), size, stride)
            units = strongest_units(at, x, layer, [hidden.map])
            with torch.inference_mode():
                activity = float(at.net.trace(x, upto=layer)[layer].maps[0, hidden.map].sum())
            found.append(Covered(row, hidden, activity, energies(at, x, units)[0]))
        at.kept["covered"] = found
    return at.kept["covered"]


def contributions(at: Subject, layer: str, count: int) -> Iterator[Contribution]:
    """Cover pictures place by place and follow the strongest units of a layer.

    Args:
        at: Network and pictures.
        layer: Of the units.
        count: Of units, each on its own picture.
    """
    key = f"{layer} {count}"
    if key not in at.kept:
        units = at.units(layer)
        at.kept[key] = list(_contributions(at, units[:: max(len(units) // count, 1)][:count]))
    yield from at.kept[key]


def evidence_ratios(at: Subject, layer: str) -> list[float]:
    """Return picture by picture how much more energy projections have on the class's evidence than elsewhere.

    Elsewhere the places are weighted so that they have as many edges as the evidence. The projections are those of
    the strongest units of the picture's strongest maps.
    """
    return [_evidence_ratio(at, one, layer) for one in covered(at)]


def smoothed(energy: Tensor) -> np.ndarray:
    """Return energy averaged over about a fortieth of the picture, so that pixels become regions."""
    return gaussian(energy.numpy().astype(float), sigma=energy.shape[-1] / 40)


def region(energy: Tensor, share: float) -> np.ndarray:
    """Return the smallest set of places that holds a share of the smoothed energy: bool [H, W]."""
    values = smoothed(energy)
    order = np.argsort(values, axis=None)[::-1]
    held = np.cumsum(values.ravel()[order])
    chosen = np.zeros(values.size, bool)
    chosen[order[: int(np.searchsorted(held, share * held[-1])) + 1]] = True
    return chosen.reshape(values.shape)


def energies(at: Subject, x: Tensor, units: Sequence[Unit]) -> Tensor:
    """Return the energy of each unit's projection over its whole picture [units, H, W]; `image` counts in x."""
    shown, side = deconv_units(at.net.features(), x, units), x.shape[-1]
    whole = [Box(-box.top, -box.left, side - box.top, side - box.left) for box in shown.boxes]
    return torch.stack([cut(*pair).square().sum(0) for pair in zip(shown.projections, whole, strict=True)])


def strongest_units(at: Subject, x: Tensor, layer: str, maps: Sequence[int] = ()) -> list[Unit]:
    """Return the strongest units of some maps, or of the strongest maps, in one picture [1, 3, H, W]."""
    with torch.inference_mode():
        found = at.net.features(layer).trace(x)[layer].maps[0]
    chosen = list(maps) or found.flatten(1).amax(1).argsort(descending=True)[:STRONG].tolist()
    return [Unit(0, layer, map_, *divmod(int(found[map_].argmax()), found.shape[2])) for map_ in chosen]


def _contributions(at: Subject, units: Sequence[Unit]) -> Iterator[Contribution]:
    x = at.x([unit.image for unit in units])
    shown = energies(at, x, [unit._replace(image=i) for i, unit in enumerate(units)])
    size, stride = sizes(x.shape[-1])
    for i, unit in enumerate(units):
        losses, places = _losses(at, x[i], unit, size, stride)
        edges = torch.from_numpy(sobel(x[i].mean(0).numpy()) ** 2)
        under = [_under(each, size, stride)[places] for each in (shown[i], edges, shown[i - 1])]
        alike = (rank_correlation(losses, each) for each in under)
        yield Contribution(*alike, _hit(losses, places, shown[i], size, stride))


def _losses(at: Subject, x: Tensor, unit: Unit, size: int, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how far one unit falls at each place of the square that its field overlaps, and which these are."""
    side = x.shape[-1]
    corners = torch.arange(0, side - size + 1, stride)
    window = input_window(at.net.spec, unit.layer, unit.row, unit.column, side, side)
    places = [
        (top, left)
        for top in corners.tolist()
        for left in corners.tolist()
        if top < window.bottom and top + size > window.top and left < window.right and left + size > window.left
    ]
    hidden = x.repeat(len(places) + 1, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    for each, (top, left) in zip(hidden[1:], places, strict=True):
        each[:, top : top + size, left : left + size] = 0
    with torch.inference_mode():
        trace = [at.net.features(unit.layer).trace(part)[unit.layer].maps for part in hidden.split(16)]
    values = torch.cat([maps[:, unit.map, unit.row, unit.column] for maps in trace])
    numbers = [top // stride * len(corners) + left // stride for top, left in places]
    return (values[0] - values[1:]).numpy(), np.array(numbers)


def _under(values: Tensor, size: int, stride: int) -> np.ndarray:
    """Return the sum of values [H, W] under the square at each of its places [places]."""
    return (F.avg_pool2d(values[None].double(), size, stride)[0] * size**2).flatten().numpy()


def _hit(losses: np.ndarray, places: np.ndarray, energy: Tensor, size: int, stride: int) -> bool:
    """Tell whether the square of the largest loss covers the most energetic place, or misses it by half a side."""
    across = (energy.shape[-1] - size) // stride + 1
    row, column = (int(n) * stride + size / 2 for n in divmod(int(places[losses.argmax()]), across))
    peak = np.unravel_index(smoothed(energy).argmax(), energy.shape)
    return bool(max(abs(row - peak[0]), abs(column - peak[1])) <= size)


def _evidence_ratio(at: Subject, one: Covered, layer: str) -> float:
    x = at.x([one.row])
    energy = smoothed(energies(at, x, strongest_units(at, x, layer)).mean(0))
    losses = torch.from_numpy(one.losses[1]).view(1, 1, *one.hidden.activity.shape).float()
    evidence = F.interpolate(losses, energy.shape, mode="bilinear")[0, 0].numpy()
    edges = gaussian(sobel(x[0].mean(0).numpy()).astype(float), sigma=2)
    return matched_ratio(energy, evidence > np.quantile(evidence, 1 - TOP), edges)


def matched_ratio(values: np.ndarray, inside: np.ndarray, edges: np.ndarray) -> float:
    """Return the mean of values inside a region over that outside, at places as rich in edges.

    Places are sorted into ten classes by their edges; outside each class weighs as much as it does inside.

    Args:
        values, inside, edges: [H, W].

    Returns:
        The ratio; NaN where there is nothing to compare.

    Example:
        >>> inside = np.arange(100).reshape(10, 10) % 2 == 0
        >>> round(matched_ratio(1.0 + inside, inside, np.arange(100.0).reshape(10, 10)), 6)
        2.0
    """
    classes = np.digitize(edges, np.quantile(edges, np.linspace(0.1, 0.9, 9)))
    pairs = [(inside & (classes == each), ~inside & (classes == each)) for each in range(10)]
    shared = [(here, there) for here, there in pairs if here.any() and there.any()]
    within = sum(here.sum() * values[here].mean() for here, _ in shared)
    beyond = sum(here.sum() * values[there].mean() for here, there in shared)
    return float(within / beyond) if beyond else float("nan")
