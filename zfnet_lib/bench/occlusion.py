"""Incremental occlusion against captum's, against a plain batched pass, and against our own best whole pass."""

from __future__ import annotations

from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from ..architecture import ZFNET
from ..datasets import open_dataset
from ..files import ZfnetError
from ..network import ConvNet
from ..occlusion import occlude
from ..paper.records import Record, Stopwatch
from .peers import captum_method, compare, plain_head, plain_layers, seconds, with_random_weights

SPEC, SIZE, STRIDE = ZFNET, 50, 6  # what is timed: the square and its step in pixels
COARSE = 29
"""The step at which peers are timed, for every place costs them the same; 224 - 50 is a multiple of it, and so
captum adds no places where the square is cut off."""

BATCHES, ROUNDS = (8, 16, 32), 5


def bench_occlusion() -> list[Record]:
    """Time activity, probability and label under a square, in float32 on a photograph, with random weights.

    A ratio is the peer's time a place over ours; ours is the whole grid and all that is done once.
    """
    watch, net = Stopwatch(), with_random_weights(ConvNet(SPEC))
    x = net.prepare([open_dataset("photos")[0].picture])
    seen = occlude(net, x, size=SIZE, stride=STRIDE)
    ours = partial(occlude, net, x, seen.target, SIZE, map_=seen.map)
    whole = _plain(net, seen.map, seen.target)

    def by_captum(batch: int, outputs: tuple[slice | int, ...]) -> None:
        for output in outputs:
            method = captum_method("Occlusion")(lambda x: whole(x)[:, output])  # noqa: B023 (called at once)
            method.attribute(x, (3, SIZE, SIZE), (3, COARSE, COARSE), perturbations_per_eval=batch)

    # Nothing is timed unless ours and the plain pass agree at every place.
    plain = _in_batches(whole, x, BATCHES[0], STRIDE)
    activity = ((plain[:, 0] - seen.activity.flatten()).abs() / plain[:, 0]).max().item()
    probability = (plain[:, 1] - seen.probability.flatten()).abs().max().item()
    labels = int((plain[:, 2] != seen.label.flatten()).sum())
    if activity > 1e-6 or probability > 1e-5 or labels:
        raise ZfnetError(
            f"the activity differs by {activity:.1e}, the probability by {probability:.1e}, {labels} labels are "
            f"others; nothing was timed"
        )

    peers = {  # each with the best of several batch sizes
        "captum's Occlusion, a run for each output": partial(by_captum, outputs=(0, 1)),
        "captum's Occlusion, one run for both outputs": partial(by_captum, outputs=(slice(None),)),
        "a plain pass in batches": partial(_in_batches, whole, x),
    }
    places, coarse = (len(range(0, SPEC.image_size - SIZE + 1, step)) ** 2 for step in (STRIDE, COARSE))
    settings = {"size": SIZE, "stride": STRIDE, "places": places, "peers' places": coarse}
    settings |= {"threads": torch.get_num_threads(), "dtype": "float32", "rounds": ROUNDS}
    record = partial(Record, "bench-occlusion", "activity, probability and label", spec=SPEC.name, data="photos")
    record = partial(record, provenance=watch.provenance())
    timed = []
    for name, run in peers.items():
        best = min(BATCHES, key=lambda batch, run=run: seconds(partial(run, batch)))
        timed.append((name, best, partial(run, best)))
    timed.append(("our own whole pass", 0, partial(ours, stride=COARSE, incremental=False)))
    records, fine = [], partial(ours, stride=STRIDE)
    for name, batch, run in timed:
        ratio = partial(record, unit=f"times as fast as {name}", parameters=settings | {"peer's batch": batch})
        records.append(compare(ratio, run, fine, ROUNDS, more=places / coarse))
    return [*records, record(places / seconds(fine), "places/s, ours", parameters=settings)]


def _plain(net: ConvNet, map_: int, target: int):
    """Return pictures [n, 3, H, W] to activity, probability and class [n, 3], by torch's own modules."""
    *below, pool = plain_layers(net, SPEC.image_size).values()
    maps, head = nn.Sequential(*below), nn.Sequential(pool, *plain_head(net))

    @torch.no_grad()
    def watch(x: Tensor) -> Tensor:
        last = maps(x)
        probabilities = head(last).softmax(1)
        answer = probabilities.argmax(1).float()
        return torch.stack([last[:, map_].sum((1, 2)), probabilities[:, target], answer], 1)

    return watch


def _in_batches(whole, x: Tensor, batch: int, stride: int = 0) -> Tensor:
    """Pass covered pictures in batches: [places, 3]."""
    corners = [range(0, side - SIZE + 1, stride or COARSE) for side in x.shape[-2:]]
    found = []
    for part in torch.tensor(list(product(*corners))).split(batch):
        covered = x.repeat(len(part), 1, 1, 1)
        for picture, (row, column) in zip(covered, part.tolist(), strict=True):
            picture[:, row : row + SIZE, column : column + SIZE] = 0
        found.append(whole(covered))
    return torch.cat(found)
