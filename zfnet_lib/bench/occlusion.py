"""Incremental occlusion against captum's, against a plain batched pass, and against our own best whole pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from statistics import median

import torch
from torch import Tensor, nn

from ..architecture import ZFNET
from ..datasets import open_dataset
from ..files import ZfnetError
from ..network import ConvNet
from ..occlusion import Occlusion, occlude
from ..paper.records import Record, Stopwatch
from .plain import plain_layers, with_random_weights
from .timing import ratios, seconds

SPEC, SIZE, STRIDE = ZFNET, 50, 6
"""What is timed: the square and its step in pixels."""

COARSE = 29
"""The step at which peers are timed, for every place costs them the same; 224 - 50 is a multiple of it, and so
captum adds no places where the square is cut off."""

BATCHES, ROUNDS = (8, 16, 32), 5


@dataclass(frozen=True)
class Watched:
    """A network, a picture, and what is watched under the square.

    Attributes:
        net: The network.
        x: The picture [1, 3, H, W].
        seen: What we see.
        plain: The same network as a careful reader of the paper writes it: pictures [n, 3, H, W] to the activity,
            the probability and the most probable class, [n, 3].
    """

    net: ConvNet
    x: Tensor
    seen: Occlusion
    plain: Callable[[Tensor], Tensor]

    def ours(self, stride: int = STRIDE, incremental: bool = True) -> Occlusion:
        """Occlude as the library does."""
        seen = self.seen
        return occlude(self.net, self.x, seen.target, SIZE, stride, map_=seen.map, incremental=incremental)


def bench_occlusion() -> list[Record]:
    """Time activity, probability and label under a square of 50 pixels, every 6 pixels, of Fig. 3's network.

    In float32 on a photograph of 224 pixels, with random weights. The peers see the same network, made of torch's
    own modules in NCHW, with the best of several batch sizes, on a coarser grid of places: captum's `Occlusion`,
    run once for the activity and once for the probability; the same, run once for a function that returns both;
    and a loop over batches of covered pictures. The last peer is our own fastest forward pass, channels last. A
    ratio is the median over alternating rounds of the peer's time a place over ours; ours is the whole grid and
    all that is done once.

    Returns:
        The ratio to each peer, and our places/s.

    Raises:
        ZfnetError: Ours and the plain pass do not agree at every place; or captum is not installed.
    """
    watch, watched = Stopwatch(), _watched()
    _require_equal(watched)
    compared = [(name, batch, ratios(run, watched.ours, ROUNDS)) for name, run, batch in _peers(watched)]
    places, coarse = (len(range(0, SPEC.image_size - SIZE + 1, step)) ** 2 for step in (STRIDE, COARSE))
    speed, more = places / seconds(watched.ours), places / coarse
    settings = {"size": SIZE, "stride": STRIDE, "places": places, "peers' places": coarse}
    settings |= {"threads": torch.get_num_threads(), "dtype": "float32", "rounds": ROUNDS}
    record = partial(Record, "bench-occlusion", "activity, probability and label", spec=SPEC.name, data="photos")
    record = partial(record, provenance=watch.provenance())
    return [
        record(
            more * median(found),
            f"times as fast as {name}",
            n=len(found),
            spread=more * (max(found) - min(found)),
            parameters=settings | {"peer's batch": batch},
        )
        for name, batch, found in compared
    ] + [record(speed, "places/s, ours", parameters=settings)]


def _watched() -> Watched:
    net = with_random_weights(ConvNet(SPEC))
    x = net.prepare([open_dataset("photos")[0].picture])
    seen = occlude(net, x, size=SIZE, stride=STRIDE)
    return Watched(net, x, seen, _plain(net, seen))


def _plain(net: ConvNet, seen: Occlusion) -> Callable[[Tensor], Tensor]:
    """Write the network with torch's own modules."""
    *below, pool = plain_layers(net, SPEC.image_size).values()
    maps, head = nn.Sequential(*below), nn.Sequential(pool, nn.Flatten())
    for dense in SPEC.dense:
        head.extend([net.get_submodule(dense.name), nn.ReLU()])
    head.append(net.fc8)

    @torch.no_grad()
    def watch(x: Tensor) -> Tensor:
        last = maps(x)
        probabilities = head(last).softmax(1)
        answer = probabilities.argmax(1).float()
        return torch.stack([last[:, seen.map].sum((1, 2)), probabilities[:, seen.target], answer], 1)

    return watch


def _batched(watched: Watched, batch: int, stride: int = COARSE) -> Tensor:
    """Pass covered pictures in batches: [places, 3]."""
    corners = [range(0, side - SIZE + 1, stride) for side in watched.x.shape[-2:]]
    found = []
    for part in torch.tensor(list(product(*corners))).split(batch):
        x = watched.x.repeat(len(part), 1, 1, 1)
        for picture, (row, column) in zip(x, part.tolist(), strict=True):
            picture[:, row : row + SIZE, column : column + SIZE] = 0
        found.append(watched.plain(x))
    return torch.cat(found)


def _by_captum(watched: Watched, batch: int, outputs: tuple[slice | int, ...]) -> None:
    """Run captum's method for each of the outputs."""
    try:
        from captum.attr import Occlusion as Captum
    except ImportError:
        raise ZfnetError("captum is not installed; bring it with: pip install captum") from None
    for output in outputs:
        Captum(lambda x, output=output: watched.plain(x)[:, output]).attribute(
            watched.x, (3, SIZE, SIZE), (3, COARSE, COARSE), perturbations_per_eval=batch
        )


def _peers(watched: Watched) -> Iterator[tuple[str, Callable[[], None], int]]:
    """Yield each peer's name, what it runs with its best batch, and this batch."""
    for name, run in (
        ("captum's Occlusion, a run for each output", partial(_by_captum, outputs=(0, 1))),
        ("captum's Occlusion, one run for both outputs", partial(_by_captum, outputs=(slice(None),))),
        ("a plain pass in batches", _batched),
    ):
        best = min(BATCHES, key=lambda batch, run=run: seconds(partial(run, watched, batch)))
        yield name, partial(run, watched, best), best
    yield "our own whole pass", partial(watched.ours, COARSE, incremental=False), 0


def _require_equal(watched: Watched) -> None:
    """Make sure that every place agrees: activity to 1e-6, probability to 1e-5, all labels."""
    plain, seen = _batched(watched, BATCHES[0], STRIDE), watched.seen
    activity = ((plain[:, 0] - seen.activity.flatten()).abs() / plain[:, 0]).max().item()
    probability = (plain[:, 1] - seen.probability.flatten()).abs().max().item()
    labels = int((plain[:, 2] != seen.label.flatten()).sum())
    if activity > 1e-6 or probability > 1e-5 or labels:
        raise ZfnetError(
            f"the activity differs by {activity:.1e}, the probability by {probability:.1e}, {labels} labels are "
            f"others; nothing was timed"
        )
