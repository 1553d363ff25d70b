"""Incremental occlusion against captum's, against a plain batched pass, and against our own best whole pass."""

from __future__ import annotations

from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from ..architecture import ZFNET
from ..datasets import open_dataset
from ..network import ConvNet
from ..occlusion import occlude
from ..paper.records import Record, Stopwatch
from . import peers

SPEC, SIZE, STRIDE, BATCHES, ROUNDS = ZFNET, 50, 6, (8, 16, 32), 5  # sides and steps in pixels
COARSE = 29
"""The step at which peers are timed, for every place costs them the same; 224 - 50 is a multiple of it, and so
captum adds no places where the square is cut off."""


def bench_occlusion() -> list[Record]:
    """Time activity, probability and label under a square; ours is the whole grid and all that is done once."""
    watch, net = Stopwatch(), peers.with_random_weights(ConvNet(SPEC))
    x = net.prepare([open_dataset("photos")[0].picture])
    seen = occlude(net, x, size=SIZE, stride=STRIDE)
    ours = partial(occlude, net, x, seen.target, SIZE, map_=seen.map)
    *below, pool = peers.plain_layers(net, SPEC.image_size).values()
    maps, head = nn.Sequential(*below), nn.Sequential(pool, *peers.plain_head(net))

    @torch.no_grad()
    def whole(x: Tensor) -> Tensor:
        """Return activity, probability and class of pictures, [n, 3], by torch's own modules."""
        last = maps(x)
        probabilities = head(last).softmax(1)
        answer = probabilities.argmax(1).float()
        return torch.stack([last[:, seen.map].sum((1, 2)), probabilities[:, seen.target], answer], 1)

    def in_batches(batch: int, stride: int) -> Tensor:
        """Pass covered pictures in batches: [places, 3]."""
        found, corners = [], [range(0, side - SIZE + 1, stride) for side in x.shape[-2:]]
        for part in torch.tensor(list(product(*corners))).split(batch):
            covered = x.repeat(len(part), 1, 1, 1)
            for picture, (row, column) in zip(covered, part.tolist(), strict=True):
                picture[:, row : row + SIZE, column : column + SIZE] = 0
            found.append(whole(covered))
        return torch.cat(found)

    def by_captum(outputs: tuple[slice | int, ...], batch: int) -> None:
        for output in outputs:
            method = peers.captum_method("Occlusion")(lambda x: whole(x)[:, output])  # noqa: B023 (called at once)
            method.attribute(x, (3, SIZE, SIZE), (3, COARSE, COARSE), perturbations_per_eval=batch)

    found = {"activity": (seen.activity, 1e-6), "probability": (seen.probability, 1e-4), "label": (seen.label, 0)}
    for (name, (values, tolerance)), expected in zip(found.items(), in_batches(BATCHES[0], STRIDE).T, strict=True):
        peers.require_close(expected, values.flatten(), tolerance, name)

    places, coarse = (len(range(0, SPEC.image_size - SIZE + 1, step)) ** 2 for step in (STRIDE, COARSE))
    settings = {"size": SIZE, "stride": STRIDE, "places": places, "peers' places": coarse}
    settings |= {"threads": torch.get_num_threads(), "dtype": "float32", "rounds": ROUNDS}
    what = "activity, probability and label"
    record = peers.recorded(watch, "bench-occlusion", what, spec=SPEC.name, data="photos")
    ways = {
        "captum's Occlusion, a run for each output": partial(by_captum, (0, 1)),
        "captum's Occlusion, one run for both outputs": partial(by_captum, (slice(None),)),
        "a plain pass in batches": partial(in_batches, stride=COARSE),
        "our own whole pass": lambda batch: ours(stride=COARSE, incremental=False),
    }
    records, fine = [], partial(ours, stride=STRIDE)
    for name, run in ways.items():
        batch = 0 if name.startswith("our own") else peers.fastest(run, BATCHES)
        one = partial(record, parameters=settings | {"peer's batch": batch})
        records.append(peers.compare(one, name, partial(run, batch), fine, ROUNDS, more=places / coarse))
    return [*records, record(places / peers.seconds(fine), "places/s, ours", parameters=settings)]
