"""Projections of many units against captum's Deconvolution and against our literal method on whole pictures."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor, nn

from ..architecture import ZFNET, Unit, receptive_field
from ..datasets import open_dataset
from ..deconv import cut, deconv_units, project, strongest_unit
from ..files import ZfnetError
from ..network import ConvNet
from ..paper.records import Record, Stopwatch
from .peers import as_ratio, captum_method, plain_layers, seconds, with_random_weights

SPEC = ZFNET.features()

SHARE = 48  # of nine units of every map one in so many is projected, each of a picture of its own
BATCHES, TRIED, ROUNDS = (2, 4, 8), 8, 3
"""The peers' batches, the units of a layer on which each is tried, and rounds."""

CLOSE, EXACT = 1e-5, 1e-10
"""How far results may differ in float32 and in float64, as a share of a projection's largest value."""

TIED = 5  # percentage of units that may differ more in float32, where values that tie to rounding swap switches
EXAMINED = 16  # one unit in so many is compared in float64, and all that differ in float32


def bench_deconv() -> list[Record]:
    """Time the projections of units of all layers of Fig. 3's network, at 224 pixels, in float32.

    The peers project whole pictures, in the best of several batch sizes for each layer. The network that is
    compared with captum has no normalisation.
    """
    watch = Stopwatch()
    bare_spec = replace(SPEC, convs=tuple(replace(conv, norm=None) for conv in SPEC.convs))
    net, bare = (with_random_weights(ConvNet(spec)) for spec in (SPEC, bare_spec))
    counts, photographs = {conv.name: 9 * conv.maps // SHARE for conv in SPEC.convs}, open_dataset("photos")
    x = net.prepare([photographs[i % len(photographs)].picture for i in range(sum(counts.values()))])
    rng, units = np.random.default_rng(0), []
    for layer, count in counts.items():  # for each picture a map, at its strongest place
        for pictures in torch.arange(len(units), len(units) + count).split(BATCHES[0]):
            maps = bare.trace(x[pictures], layer)[layer].maps
            for image, strong in zip(pictures.tolist(), maps, strict=True):
                units.append(Unit(image, layer, *strongest_unit(strong, int(rng.integers(len(strong))))))
    layers = {layer: list(same) for layer, same in groupby(units, key=lambda unit: unit.layer)}
    swapped, active = _require_equal(bare, x, units)

    captum, literal = _tuned(_by_captum, bare, x, layers), _tuned(_literally, net, x, layers)
    runs = {("ours", "all layers"): partial(deconv_units, bare, x, units)}
    for layer, chosen in layers.items():
        runs["captum", layer] = partial(captum, {layer: chosen})
        runs["ours", layer] = partial(deconv_units, bare, x, chosen)
    runs["literal", "all layers, normalised"] = partial(literal, layers)
    runs["ours", "all layers, normalised"] = partial(deconv_units, net, x, units)
    rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(ROUNDS + 1)][1:]
    for times in rounds:
        times["captum", "all layers"] = sum(times["captum", layer] for layer in layers)

    parameters = {"units": len(units), "threads": torch.get_num_threads(), "dtype": "float32", "rounds": ROUNDS}
    record = partial(Record, "bench-deconv", provenance=watch.provenance(), spec=SPEC.name, data="photos")
    record = partial(record, parameters=parameters)
    loads = [("captum", load, "captum's Deconvolution") for load in ("all layers", *layers)]
    records = []
    for who, load, peer in (*loads, ("literal", "all layers, normalised", "our literal method in batches")):
        ratio = partial(record, load, unit=f"times as fast as {peer}")
        records.append(as_ratio(ratio, [times[who, load] / times["ours", load] for times in rounds]))
    for load in ("all layers", "all layers, normalised"):
        taken = sorted(times["ours", load] for times in rounds)[len(rounds) // 2]
        records.append(record(load, len(units) / taken, "projections/s, ours"))
    return [*records, record("switches swapped by rounding", 100 * swapped / active, "% of active units", n=active)]


def _by_captum(net: ConvNet, x: Tensor, units: list[Unit], batch: int) -> list[Tensor]:
    """Project units of one layer as captum does: it starts from 1 instead of the unit's activation."""
    layers = plain_layers(net, x.shape[-1])
    upto = list(layers).index(units[0].layer) + 1
    method, found = captum_method("Deconvolution")(nn.Sequential(*list(layers.values())[:upto])), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it sets hooks
        for start in range(0, len(units), batch):
            part = units[start : start + batch]
            pictures = x[[unit.image for unit in part]].requires_grad_()
            found.extend(method.attribute(pictures, target=[unit[2:] for unit in part]))
    return found


def _literally(net: ConvNet, x: Tensor, units: list[Unit], batch: int) -> list[Tensor]:
    """Project units of one layer as section 2.1 says, on whole pictures."""
    layer, found = units[0].layer, []
    for start in range(0, len(units), batch):
        part = units[start : start + batch]
        trace = net.trace(x[[unit.image for unit in part]], layer)
        maps = trace[layer].maps
        own = (range(len(part)), *zip(*(unit[2:] for unit in part), strict=True))
        signal = torch.zeros_like(maps)
        signal[own] = maps[own]
        found.extend(project(trace, layer, signal))
    return found


def _tuned(way, net: ConvNet, x: Tensor, layers: dict[str, list[Unit]]):
    """Return a peer that projects units layer by layer, each layer in its fastest batch."""
    best = {}
    for layer, units in layers.items():
        times = {batch: seconds(partial(way, net, x, units[:TRIED], batch)) for batch in BATCHES}
        best[layer] = min(times, key=times.get)
    return lambda layers: [way(net, x, units, best[layer]) for layer, units in layers.items()]


def _require_equal(net: ConvNet, x: Tensor, units: list[Unit]) -> tuple[int, int]:
    """Return how many units' projections differ in float32, and how many are active; all agree in float64."""

    def agree(unit: Unit, whole: Tensor, found: Tensor, tolerance: float) -> bool:
        expected = cut(whole, receptive_field(net.spec, unit.layer).box(unit.row, unit.column))
        return bool((found - expected).abs().max() <= tolerance * expected.abs().max())

    literal = [_literally(net, x, [unit], 1)[0] for unit in units]
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
        literal, captum = (way(net, x, [unit], 1)[0] for way in (_literally, _by_captum))
        for whole, name in ((literal, "the literal one"), (activation * captum, "captum's")):
            if not agree(unit, whole, found, EXACT):
                raise ZfnetError(f"the projection of {tuple(unit)} is not {name}; nothing was timed")
    return len(differ), active
