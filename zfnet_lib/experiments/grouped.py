"""Fig. 2 in numbers: what the strongest units of a map have in common, over a whole data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import grouping
from ..activations import strongest
from ..datasets import Dataset
from ..deconv import cut
from ..figures import projection_image
from ..files import results_root
from ..grouping import Likeness, likeness
from ..images import GREY
from ..mosaics import Block, Squares, blocks
from ..network import ConvNet
from ..ranking import Hits
from ..receptive import Box
from ..records import Record, Stopwatch, read, store
from ..tables import Table
from .deconvnet import drawn_maps, whole_data
from .setting import DATA, describe_pictures, network_of, profile_of, source_of
from .transferring import is_fresh

OTHERS = 100
"""Pictures among whose patches a projection's own one is looked for."""

MAPS = {"smoke": 8, "tiny": 64, "paper": 64}
"""Maps of each layer that are compared."""

DESCRIPTORS = {"shape": grouping.shape, "colour": grouping.colour}

LIKE, MORE_THAN_RANDOM = "patches of a map, {}: mean cosine", "maps whose patches are more alike than random, {}"
RANDOM, VARY = "random patches, {}: mean cosine", "maps whose patches vary more than their projections, {}"
ENTROPY, CHANCE = "entropy of the labels of the nine", "entropy of nine labels by chance"
FOUND, EXTENT = "projections that find their own patch", "side of the square that holds 90 % of a projection"

TITLES = {
    LIKE.format("shape"): "Alike in shape",
    RANDOM.format("shape"): "random nine",
    LIKE.format("colour"): "Alike in colour",
    RANDOM.format("colour"): "random nine ",
    VARY.format("shape"): "Patches vary more (shape), % of maps",
    ENTROPY: "Label entropy, bits",
    CHANCE: "by chance",
    FOUND: "Own patch found, %",
    EXTENT: "90 % of energy within, pixels",
}
"""The columns of the table."""


def groups(profile: str, live: bool = False) -> Table:
    """Return what the nine strongest units of each map have in common, trained and untrained (section 4).

    Args:
        profile: `smoke`, `tiny` or `paper`.
        live: Compute and store it, as `smoke` always does; else what is stored, or the command that computes it.
    """
    network = profile_of(profile).network
    path = results_root(profile) / "groups" / f"{network}--{DATA[profile]}.jsonl"
    if live or (profile == "smoke" and not is_fresh(path)):
        store(path, group_records(network_of(profile), network, DATA[profile], MAPS[profile]))
    if not path.exists():
        command = f"`zfnet run fig2 --profile {profile} --live`, with {network} and {DATA[profile]} at hand"
        return Table({"command": "Not run"}, [{"command": command}])
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    found = read(path)
    for record in found:
        place = record.parameters["layer"], record.parameters["weights"]
        row = rows.setdefault(place, {"layer": place[0], "weights": place[1]})
        row[record.quantity] = round(record.value, 2)
    columns = {"layer": "Layer", "weights": "Weights"} | TITLES
    return Table(columns, list(rows.values()), str(source_of(found)))


def group_records(net: ConvNet, network: str, pictures: str, maps: int, seed: int = 0) -> Iterator[Record]:
    """Measure the nine strongest units of maps of every layer, with trained weights and with random ones.

    Args:
        net: A trained network.
        network: Its name.
        pictures: A data set with one label a picture.
        maps: How many of each layer, drawn with `seed`; labels are counted for all.
        seed: Of the draws, and of the random weights.
    """
    trained, dataset = net.features(), whole_data(pictures)
    untrained = ConvNet(trained.spec, trained.preparation, seed).eval()
    for weights, net in (("trained", trained), ("untrained", untrained)):
        watch, squares = Stopwatch(), Squares(net, dataset)
        others = squares[np.linspace(0, len(dataset) - 1, OTHERS).round().astype(int).tolist()]
        for hits in strongest(net, dataset).values():
            for quantity, values, unit in _measured(net, dataset, squares, others, hits, maps, seed):
                values = np.asarray(values, float)
                yield Record(
                    "groups",
                    quantity,
                    float(values.mean()),
                    unit,
                    watch.provenance(seed),
                    n=values.size,
                    spread=float(values.std(ddof=1)) if values.size > 1 else None,
                    parameters={"layer": hits.layer, "weights": weights},
                    spec=network,
                    data=describe_pictures(dataset),
                )


Measured = Iterator[tuple[str, Any, str]]


def _measured(
    net: ConvNet, dataset: Dataset, squares: Squares, others: torch.Tensor, hits: Hits, maps: int, seed: int
) -> Measured:
    """Yield quantity, values and unit of one layer."""
    chosen = list(blocks(net, squares, hits, drawn_maps(hits, maps, seed)))
    for name, describe in DESCRIPTORS.items():
        patches = _compared([block.patches for block in chosen], describe, seed)
        shown = [[projection_image(one) for one in block.projections] for block in chosen]
        projections = _compared(shown, describe, seed)
        yield LIKE.format(name), patches.within, "cosine"
        yield RANDOM.format(name), patches.random, "cosine"
        yield MORE_THAN_RANDOM.format(name), 100 * (patches.within > patches.level), "% of maps"
        yield VARY.format(name), 100 * (patches.within < projections.within), "% of maps"
    full = hits.image[(hits.image >= 0).all(1) & (hits.score > 0).all(1)].numpy()
    yield ENTROPY, grouping.entropy(dataset.labels[full]), "bits"
    yield CHANCE, grouping.entropy_by_chance(len(dataset.classes), hits.image.shape[1]), "bits"
    seen = net.preparation.visible(others)
    yield FOUND, [100 * found for block in chosen for found in _finds(block, seen)], "%"
    yield EXTENT, [grouping.extent(one) for block in chosen for one in block.projections], "pixels"


def _compared(groups: Sequence[Sequence[NDArray]], describe, seed: int) -> Likeness:
    """Compare the pictures of each group, uint8 [s, s, 3]."""
    return likeness(np.array([[describe(one / 255) for one in group] for group in groups]), seed)


def _finds(block: Block, others: torch.Tensor) -> Iterator[bool]:
    """Tell of each projection whether its edges follow its own patch more than the same place of any other."""
    for projection, patch, box in zip(block.projections, block.patches, block.boxes, strict=True):
        own = torch.from_numpy(patch).permute(2, 0, 1)[None].float() - GREY
        candidates = grouping.edges(torch.cat([own, cut(others.float() - GREY, Box(*box))]))
        scores = candidates @ grouping.edges(torch.from_numpy(projection)[None])[0]
        yield bool(scores[1:].max() <= scores[0] + 1e-6)  # its own picture may be among the others
