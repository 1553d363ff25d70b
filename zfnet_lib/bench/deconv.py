"""Projections of many units against captum's Deconvolution and against our literal method on whole pictures."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from ..architecture import ZFNET, ArchSpec, Unit, receptive_field
from ..datasets import open_dataset
from ..deconv import cut, deconv_units, project
from ..files import ZfnetError
from ..network import ConvNet
from ..paper.records import Record, Stopwatch
from .plain import plain_layers, with_random_weights
from .timing import seconds

SPEC = ZFNET.features()

SHARE = 48
"""Of nine units of every map one in so many is projected, each of a picture of its own."""

ALL, NORMALISED = "all layers", "all layers, normalised"

BATCHES, TRIED, ROUNDS = (2, 4, 8), 8, 3
"""The peers' batches, the units of a layer on which each is tried, and rounds."""

CLOSE, EXACT = 1e-5, 1e-10
"""How far results may differ in float32 and in float64, as a share of a projection's largest value."""

TIED = 5
"""Percentage of units that may differ more in float32, where values that tie to rounding swap switches."""

EXAMINED = 16
"""One unit in so many is compared in float64, and all that differ in float32."""

Way = Callable[[ConvNet, Tensor, Sequence[Unit], int], list[Tensor]]
"""Network, pictures, units of one layer and batch to projections [3, H, W] on whole pictures."""


def bench_deconv() -> list[Record]:
    """Time the projections of units of all layers of Fig. 3's network, at 224 pixels, in float32.

    The load is a seeded sample of nine units of every map, each at its map's strongest place
    in a photograph of its own, with random weights. The
    peers project whole pictures, in the best of several batch sizes for each layer: captum's `Deconvolution` on a
    network of torch's own modules in NCHW, and our literal method. The network that is compared with captum has
    no normalisation. A ratio is the median over alternating rounds of the peer's time over ours.

    Returns:
        The ratio to captum for all layers together and for each, and to the literal method; our projections/s;
        and how often rounding swapped a switch.

    Raises:
        ZfnetError: The results do not agree; or captum is not installed.
    """
    watch = Stopwatch()
    net, bare = (with_random_weights(ConvNet(spec)) for spec in (SPEC, _without_normalisation()))
    x = _pictures(net)
    units = sampled_units(bare, x)
    swapped, active = _require_equal(bare, x, units)
    rounds = _rounds(net, bare, x, units)
    parameters = {"units": len(units), "threads": torch.get_num_threads(), "dtype": "float32", "rounds": ROUNDS}
    record = partial(Record, "bench-deconv", provenance=watch.provenance(), spec=SPEC.name, data="photos")
    record = partial(record, parameters=parameters)

    def ratio(load: str, who: str, peer: str) -> Record:
        found = [times[who, load] / times["ours", load] for times in rounds]
        return record(load, median(found), f"times as fast as {peer}", n=len(found), spread=max(found) - min(found))

    return [
        *(ratio(load, "captum", "captum's Deconvolution") for load in (ALL, *_counts())),
        ratio(NORMALISED, "literal", "our literal method in batches"),
        *(
            record(load, len(units) / median(times["ours", load] for times in rounds), "projections/s, ours")
            for load in (ALL, NORMALISED)
        ),
        record("switches swapped by rounding", 100 * swapped / active, "% of active units", n=active),
    ]


def _rounds(net: ConvNet, bare: ConvNet, x: Tensor, units: list[Unit]) -> list[dict[tuple[str, str], float]]:
    """Let all take turns; return the seconds of each round, by who projects and what, without a first round."""
    layers = {layer: [unit for unit in units if unit.layer == layer] for layer in _counts()}
    captum, literal = (_tuned(way, owner, x, layers) for way, owner in ((_by_captum, bare), (_literally, net)))
    runs = {}
    for layer, chosen in layers.items():
        runs["captum", layer] = partial(captum, chosen)
        runs["ours", layer] = partial(deconv_units, bare, x, chosen)
    runs["ours", ALL] = partial(deconv_units, bare, x, units)
    runs["literal", NORMALISED] = partial(literal, units)
    runs["ours", NORMALISED] = partial(deconv_units, net, x, units)
    rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(ROUNDS + 1)][1:]
    return [times | {("captum", ALL): sum(times["captum", layer] for layer in layers)} for times in rounds]


@torch.no_grad()
def sampled_units(net: ConvNet, x: Tensor) -> list[Unit]:
    """Draw a map for each picture, for each layer as many as `_counts` says, and take its strongest place."""
    rng, units = np.random.default_rng(0), []
    for layer, count in _counts().items():
        for pictures in torch.arange(len(units), len(units) + count).split(BATCHES[0]):
            maps = net.trace(x[pictures], layer)[layer].maps
            for image, strong in zip(pictures.tolist(), maps, strict=True):
                map_ = int(rng.integers(len(strong)))
                units.append(Unit(image, layer, map_, *divmod(int(strong[map_].argmax()), strong.shape[-1])))
    return units


def _counts() -> dict[str, int]:
    """Return how many units of each layer are projected."""
    return {conv.name: 9 * conv.maps // SHARE for conv in SPEC.convs}


def _without_normalisation() -> ArchSpec:
    return replace(SPEC, convs=tuple(replace(conv, norm=None) for conv in SPEC.convs))


def _pictures(net: ConvNet) -> Tensor:
    photographs = open_dataset("photos")
    return net.prepare([photographs[i % len(photographs)].picture for i in range(sum(_counts().values()))])


def _by_captum(net: ConvNet, x: Tensor, units: Sequence[Unit], batch: int) -> list[Tensor]:
    """Project as captum does: it starts from 1 instead of the unit's activation."""
    try:
        from captum.attr import Deconvolution
    except ImportError:
        raise ZfnetError("captum is not installed; bring it with: pip install captum") from None
    layers = plain_layers(net, x.shape[-1])
    upto = list(layers).index(units[0].layer) + 1
    method = Deconvolution(nn.Sequential(*list(layers.values())[:upto]))
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it sets hooks
        for start in range(0, len(units), batch):
            part = units[start : start + batch]
            pictures = x[[unit.image for unit in part]].requires_grad_()
            found.extend(method.attribute(pictures, target=[unit[2:] for unit in part]))
    return found


def _literally(net: ConvNet, x: Tensor, units: Sequence[Unit], batch: int) -> list[Tensor]:
    """Project as section 2.1 says."""
    found = []
    for start in range(0, len(units), batch):
        part = units[start : start + batch]
        with torch.no_grad():
            trace = net.trace(x[[unit.image for unit in part]], part[0].layer)
        maps = trace[part[0].layer].maps
        own = (range(len(part)), *zip(*(unit[2:] for unit in part), strict=True))
        alone = torch.zeros_like(maps)
        alone[own] = maps[own]
        found.extend(project(trace, part[0].layer, alone))
    return found


def _tuned(way: Way, net: ConvNet, x: Tensor, layers: dict[str, list[Unit]]) -> Callable[[Sequence[Unit]], None]:
    """Return a peer that projects units layer by layer, each layer in its fastest batch."""
    batches = {}
    for layer, units in layers.items():
        times = {batch: seconds(partial(way, net, x, units[:TRIED], batch)) for batch in BATCHES}
        batches[layer] = min(times, key=times.get)

    def run(units: Sequence[Unit]) -> None:
        for layer, same in groupby(units, key=lambda unit: unit.layer):
            way(net, x, list(same), batches[layer])

    return run


def _require_equal(net: ConvNet, x: Tensor, units: list[Unit]) -> tuple[int, int]:
    """Make sure that all agree in float64, and in float32 but for swapped switches.

    Returns:
        For how many units ours and the literal projection differ in float32, and how many are active.
    """
    ours = deconv_units(net, x, units).projections
    literal = [_cut_out(net, unit, _literally(net, x, [unit], 1)[0]) for unit in units]
    active = sum(bool(each.any()) for each in literal)
    differ = [i for i in range(len(units)) if not _agree(literal[i], ours[i], CLOSE)]
    if len(differ) > TIED / 100 * active:
        raise ZfnetError(f"{len(differ)} of {active} projections differ; nothing was timed")
    some = sorted({*differ, *range(0, len(units), EXAMINED)})
    examined = [units[i]._replace(image=n) for n, i in enumerate(some)]
    _require_equal_exactly(copy.deepcopy(net).double(), x[some].double(), examined)
    return len(differ), active


def _require_equal_exactly(net: ConvNet, x: Tensor, units: list[Unit]) -> None:
    """Compare three ways in float64."""
    for unit, found in zip(units, deconv_units(net, x, units).projections, strict=True):
        with torch.no_grad():
            activation = net.trace(x[[unit.image]], unit.layer)[unit.layer].maps[0][unit[2:]]
        literal, captum = (way(net, x, [unit], 1)[0] for way in (_literally, _by_captum))
        for whole, name in ((literal, "the literal one"), (activation * captum, "captum's")):
            if not _agree(_cut_out(net, unit, whole), found, EXACT):
                raise ZfnetError(f"the projection of {tuple(unit)} is not {name}; nothing was timed")


def _cut_out(net: ConvNet, unit: Unit, whole: Tensor) -> Tensor:
    """Cut a unit's receptive field out of a whole picture."""
    return cut(whole, receptive_field(net.spec, unit.layer).box(unit.row, unit.column))


def _agree(expected: Tensor, found: Tensor, tolerance: float) -> bool:
    return bool((found - expected).abs().max() <= tolerance * expected.abs().max())
