"""Contrast normalisation, and the search for the strongest units, against torch's own modules in NCHW."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ..architecture import ZFNET
from ..datasets import open_dataset, pack_in_memory
from ..network import ConvNet, contrast_normalise
from ..paper.records import Record, Stopwatch
from ..strongest import strongest
from .peers import compare, plain_layers, recorded, require_close, seconds

NORM_SHAPES = {"layer 1 at 224 pixels": (32, 96, 55, 55), "layer 2 at 224 pixels": (32, 256, 13, 13)}
NORM_ROUNDS = 7
SIDE, PICTURES, BATCH, K, ROUNDS = 112, 224, 16, 9, 5


def bench_norm() -> Iterator[Record]:
    """Time our contrast normalisation against torch's, forward, and forward with backward, once both agree."""
    watch, name = Stopwatch(), "torch.nn.functional.local_response_norm"
    torchs = partial(F.local_response_norm, size=5, alpha=1e-4, beta=0.75, k=2.0)
    for place, shape in NORM_SHAPES.items():
        generator = torch.Generator().manual_seed(0)
        maps, grad = (torch.randn(shape, generator=generator) for _ in range(2))
        maps = F.relu(maps * 30).requires_grad_()
        require_close(torchs(maps), contrast_normalise(maps), 1e-5, place)

        def both(norm, maps=maps, grad=grad) -> None:
            torch.autograd.grad(norm(maps), maps, grad)

        forward = torch.no_grad()(lambda norm, maps=maps: norm(maps))
        for direction, run in {"forward": forward, "forward and backward": both}.items():
            facts = {"shape": list(shape), "rounds": NORM_ROUNDS, "dtype": "float32"}
            record = recorded(watch, "bench-norm", f"{place}, {direction}", parameters=facts)
            yield compare(record, name, partial(run, torchs), partial(run, contrast_normalise), NORM_ROUNDS)


def bench_mining() -> list[Record]:
    """Time the search for the nine strongest units of all maps of Fig. 3's network, at 112 pixels, in float32."""
    watch, net = Stopwatch(), ConvNet(replace(ZFNET, image_size=SIDE).features()).eval()
    pack = pack_in_memory(open_dataset("photos"), net.preparation.short_side)
    ours = partial(strongest, net, pack, K, rows=range(PICTURES), batch=BATCH)
    plain, found = partial(_plain_search, net, pack.pictures[:PICTURES]), ours()
    for layer, scores in plain().items():
        require_close(scores, found[layer].score, 1e-4, layer)
    facts = {"pictures": PICTURES, "batch": BATCH, "k": K, "dtype": "float32", "rounds": ROUNDS}
    what = f"strongest units of all layers, {SIDE} pixels"
    record = recorded(watch, "bench-mining", what, spec="zfnet", parameters=facts)
    ratio = compare(record, "a plain pass that keeps whole maps", plain, ours, ROUNDS)
    return [ratio, record(PICTURES / seconds(ours), "images/s, ours")]


@torch.inference_mode()
def _plain_search(net: ConvNet, pictures: Tensor) -> dict[str, Tensor]:
    """Return the largest activations of every map, one a picture: [maps, k] by layer; by torch's own modules."""
    *layers, _ = plain_layers(net, SIDE).items()
    kept = {name: [] for name, _ in layers}
    for part in pictures.split(BATCH):
        maps = net.prepare(part)
        for name, layer in layers:
            maps = layer(maps)
            kept[name].append(maps)
    return {name: torch.cat(maps).flatten(2).amax(2).topk(K, dim=0).values.T for name, maps in kept.items()}
