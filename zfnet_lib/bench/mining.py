"""The search for the strongest units against a plain forward pass that keeps whole maps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..architecture import ZFNET
from ..datasets import open_dataset, pack_in_memory
from ..network import ConvNet
from ..paper.records import Record, Stopwatch
from ..strongest import strongest
from .peers import compare, plain_layers, require_close, seconds

SIDE, PICTURES, BATCH, K, ROUNDS = 112, 224, 16, 9, 5


def bench_mining() -> list[Record]:
    """Time the search for the nine strongest units of all maps of Fig. 3's network, at 112 pixels, in float32."""
    watch, net = Stopwatch(), ConvNet(replace(ZFNET, image_size=SIDE).features()).eval()
    pack = pack_in_memory(open_dataset("photos"), net.preparation.short_side)
    ours = partial(strongest, net, pack, K, rows=range(PICTURES), batch=BATCH)
    plain, found = partial(_plain_search, net, pack.pictures[:PICTURES]), ours()
    for layer, scores in plain().items():
        require_close(scores, found[layer].score, 1e-4, layer)
    record = partial(
        Record,
        "bench-mining",
        f"strongest units of all layers, {SIDE} pixels",
        parameters={"pictures": PICTURES, "batch": BATCH, "k": K, "dtype": "float32", "rounds": ROUNDS},
        provenance=watch.provenance(),
        spec="zfnet",
    )
    ratio = partial(record, unit="times as fast as a plain pass that keeps whole maps")
    return [compare(ratio, plain, ours, ROUNDS), record(PICTURES / seconds(ours), "images/s, ours")]


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
