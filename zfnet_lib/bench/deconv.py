"""Projections of many units against captum's Deconvolution and against our literal method on whole pictures."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import groupby, product

import numpy as np
import torch
from torch import Tensor, nn

from ..architecture import ZFNET, Unit, receptive_field
from ..datasets import open_dataset
from ..deconv import alone, cut, deconv_units, project, strongest_unit
from ..files import ZfnetError
from ..network import ConvNet
from ..paper.records import Record, Stopwatch
from ..weights import load_network
from . import peers

SPEC = ZFNET.features()
SHARE = 48  # of nine units of every map one in so many is projected, each of a picture of its own
BATCHES, TRIED, ROUNDS = (2, 4, 8), 8, 3
"""The peers' batches, the units of a layer on which each is tried, and rounds."""

CLOSE, EXACT = 1e-5, 1e-10
"""How far results may differ in float32 and in float64, as a share of a projection's largest value."""

TIED = 5  # percentage of units that may differ more in float32, where values that tie to rounding swap switches
MODULE = {"units": 64, "side": 224, "batches": (1, 4, 16)}  # of one picture in a network of torchvision
EXAMINED = 16  # one unit in so many is compared in float64, and all that differ in float32


def bench_deconv() -> list[Record]:
    """Time projections of units of all layers at 224 pixels; peers project whole pictures, in their best batch."""
    watch = Stopwatch()
    # captum knows no normalisation
    bare_spec = replace(SPEC, convs=tuple(replace(conv, norm=None) for conv in SPEC.convs))
    net, bare = (peers.with_random_weights(ConvNet(spec)) for spec in (SPEC, bare_spec))
    counts, photographs = {conv.name: 9 * conv.maps // SHARE for conv in SPEC.convs}, open_dataset("photos")
    x = net.prepare([photographs[i % len(photographs)].picture for i in range(sum(counts.values()))])
    rng, units = np.random.default_rng(0), []
    for layer, count in counts.items():  # for each picture a map, at its strongest place
        for pictures in torch.arange(len(units), len(units) + count).split(BATCHES[0]):
            maps = bare.trace(x[pictures], layer)[layer].maps
            for image, strong in zip(pictures.tolist(), maps, strict=True):
                units.append(Unit(image, layer, *strongest_unit(strong, int(rng.integers(len(strong))))))
    swapped, active = _require_equal(bare, x, units)

    layers = {layer: list(same) for layer, same in groupby(units, key=lambda unit: unit.layer)}
    loads = [("all layers", _by_captum, bare, units)]
    loads += [(layer, _by_captum, bare, same) for layer, same in layers.items()]
    loads += [("all layers, normalised", _literally, net, units)]
    settings = {"units": len(units), "threads": torch.get_num_threads(), "dtype": "float32", "rounds": ROUNDS}
    names = {_by_captum: "captum's Deconvolution", _literally: "our literal method in batches"}
    record = partial(peers.recorded, watch, "bench-deconv", parameters=settings, spec=SPEC.name, data="photos")
    best = {}
    for (layer, same), (way, network) in product(layers.items(), ((_by_captum, bare), (_literally, net))):
        choices = [{layer: batch} for batch in BATCHES]
        best[way] = best.get(way, {}) | peers.fastest(partial(way, network, x, same[:TRIED]), choices)
    records, speeds = [], []
    for load, way, network, chosen in loads:
        theirs, ours = partial(way, network, x, chosen, best[way]), partial(deconv_units, network, x, chosen)
        records.append(peers.compare(record(load), names[way], theirs, ours, ROUNDS))
        if chosen is units:
            speeds.append(record(load)(len(units) / peers.seconds(ours), "projections/s, ours"))
    swaps = record("switches swapped by rounding")(100 * swapped / active, "% of active units", n=active)
    probed = _any_module(record("any module", spec="resnet18", parameters=settings | MODULE))
    return [*records, *speeds, swaps, probed]


def _any_module(record: Callable[..., Record]) -> Record:
    """Time units of one picture in a residual network, whose forward pass they share."""
    from torchvision.models import resnet18  # takes a second to load

    torch.manual_seed(0)
    module = resnet18().eval()
    for part in module.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # captum cannot work in place
    blocks = dict(module.named_children())
    names = list(blocks)[: list(blocks).index("layer4") + 1]
    net = load_network(module, MODULE["side"], layers=names[-4:])
    x = net.prepare([open_dataset("photos")[0].picture])
    trace, units = net.trace(x), []
    for layer in net.layers:
        maps = trace[layer].maps[0]
        strongest = maps.amax((1, 2)).argsort(descending=True)[: MODULE["units"] // len(net.layers)]
        units += [Unit(0, layer, *strongest_unit(maps, int(map_))) for map_ in strongest]

    def captum(batch: int) -> list[Tensor]:
        return _through_captum(blocks, x, units, dict.fromkeys(net.layers, batch))

    shown = deconv_units(net, x, units)
    for unit, theirs, ours, box in zip(units, captum(1), *shown, strict=True):
        activation = trace[unit.layer].maps[0][unit[2:]]
        peers.require_close(cut(activation * theirs, box), ours, 1e-4, f"the projection of {tuple(unit)}")
    theirs = partial(captum, peers.fastest(captum, MODULE["batches"]))
    return peers.compare(record, "captum's Deconvolution", theirs, partial(deconv_units, net, x, units), ROUNDS)


def _parts(units: list[Unit], batches: dict[str, int]) -> Iterator[tuple[str, list[Unit]]]:
    """Yield units of one layer at a time, so many of each layer together, or one."""
    for layer, grouped in groupby(units, key=lambda unit: unit.layer):
        same, batch = list(grouped), batches.get(layer, 1)
        for start in range(0, len(same), batch):
            yield layer, same[start : start + batch]


def _by_captum(net: ConvNet, x: Tensor, units: list[Unit], batches: dict[str, int]) -> list[Tensor]:
    """Project units as captum does, in torch's own modules."""
    return _through_captum(peers.plain_layers(net, x.shape[-1]), x, units, batches)


def _through_captum(
    layers: dict[str, nn.Module], x: Tensor, units: list[Unit], batches: dict[str, int]
) -> list[Tensor]:
    """Project units of modules that follow one another; captum starts from 1 instead of the unit's activation."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it sets hooks
        for layer, part in _parts(units, batches):
            upto = list(layers.values())[: list(layers).index(layer) + 1]
            pictures = x[[unit.image for unit in part]].requires_grad_()
            method = peers.captum_method("Deconvolution")(nn.Sequential(*upto))
            found.extend(method.attribute(pictures, target=[unit[2:] for unit in part]))
    return found


def _literally(net: ConvNet, x: Tensor, units: list[Unit], batches: dict[str, int]) -> list[Tensor]:
    """Project units as section 2.1 says, on whole pictures."""
    found = []
    for layer, part in _parts(units, batches):
        trace = net.trace(x[[unit.image for unit in part]], layer)
        signals = [alone(one[None], unit[2:]) for one, unit in zip(trace[layer].maps, part, strict=True)]
        found.extend(project(trace, layer, torch.cat(signals)))
    return found


def _require_equal(net: ConvNet, x: Tensor, units: list[Unit]) -> tuple[int, int]:
    """Return how many units' projections differ in float32, and how many are active; all agree in float64."""

    def agree(unit: Unit, whole: Tensor, found: Tensor, tolerance: float) -> bool:
        expected = cut(whole, receptive_field(net.spec, unit.layer).box(unit.row, unit.column))
        return bool((found - expected).abs().max() <= tolerance * expected.abs().max())

    literal = [_literally(net, x, [unit], {})[0] for unit in units]
    active = sum(bool(whole.any()) for whole in literal)
    triples = zip(units, literal, deconv_units(net, x, units).projections, strict=True)
    differ = [i for i, triple in enumerate(triples) if not agree(*triple, CLOSE)]
    if len(differ) > TIED / 100 * active:
        raise ZfnetError(f"{len(differ)} of {active} projections differ; nothing was timed")

    some = sorted({*differ, *range(0, len(units), EXAMINED)})
    net, x = copy.deepcopy(net).double(), x[some].double()
    units = [units[i]._replace(image=n) for n, i in enumerate(some)]
    for unit, found in zip(units, deconv_units(net, x, units).projections, strict=True):
        activation = net.trace(x[[unit.image]], unit.layer)[unit.layer].maps[0][unit[2:]]
        literal, captum = (way(net, x, [unit], {})[0] for way in (_literally, _by_captum))
        for whole, name in ((literal, "the literal one"), (activation * captum, "captum's")):
            if not agree(unit, whole, found, EXACT):
                raise ZfnetError(f"the projection of {tuple(unit)} is not {name}; nothing was timed")
    return len(differ), active
