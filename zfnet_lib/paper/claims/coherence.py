"""Section 6: whether maps are more than random directions: what excites them, beside what excites such."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F

from ...architecture import Box, Conv, Unit, receptive_field
from ...network import ConvNet
from ...strongest import patch, strongest
from .. import grouping
from ..fig2 import drawn_maps
from ..grouping import DESCRIPTORS
from .finding import Finding, apart, every, verdict
from .stored import Measured, Stored, measured
from .subject import Subject

ALIKE, LABELS = "patches of a map, {}: mean cosine", "entropy of the labels of the nine"
COMBINED = "combined"
MAPS = {"trained": "maps", "untrained": "maps with random weights", COMBINED: "random combinations of maps"}


def coherent(at: Subject) -> Iterator[Measured]:
    """Compare what excites maps with what excites maps of random weights and random combinations of maps."""
    for layer in at.layers[2:]:
        mixed = combined(at.net, layer, at.scale.maps, at.seed)
        kinds = {
            "trained": (at, at.hits[layer]),
            "untrained": (at.untrained, at.untrained.hits[layer]),
            COMBINED: (at, strongest(mixed, at.dataset, 9, [COMBINED], rows=at.rows)[COMBINED]),
        }
        for kind, (subject, hits) in kinds.items():
            units = [hits.units(map_) for map_ in drawn_maps(hits, at.scale.maps, at.seed)]
            patches = _patches(subject, layer, units)
            for name, describe in DESCRIPTORS.items():
                features = np.array([[describe(one / 255) for one in group] for group in patches])
                alike = grouping.likeness(features, at.seed).within
                yield measured(ALIKE.format(name), alike, "cosine", layer=layer, of=kind)
            labels = at.dataset.labels[[[unit.image for unit in group] for group in units]]
            yield measured(LABELS, grouping.entropy(labels), "bits", layer=layer, of=kind)


def far_from_random(stored: Stored) -> Finding:
    """Tell whether maps are more coherent than maps of random weights and than random combinations."""
    numbers, leads = {}, {"untrained": [], COMBINED: []}
    for layer in ("conv3", "conv4", "conv5"):
        alike, labels = (stored.numbers.by("of", what, layer=layer) for what in (ALIKE.format("shape"), LABELS))
        for of, truths in leads.items():
            truths += [apart(alike["trained"], alike[of]), apart(labels[of], labels["trained"])]
        numbers |= {f"{layer}, {MAPS[of]}: alike in shape": number for of, number in alike.items()}
        numbers |= {f"{layer}, {MAPS[of]}: entropy of labels": number for of, number in labels.items()}
    special = every(leads[COMBINED])
    note = "Likeness by HOG of the patches; nobody was at hand to name shuffled groups."
    if special is not True:
        note += " Somewhere random combinations are not clearly less coherent: maps are no special axes there."
    return Finding(verdict(every([*leads["untrained"], special]), False in leads["untrained"]), numbers, note)


def combined(net: ConvNet, layer: str, count: int, seed: int = 0) -> ConvNet:
    """Return a network whose last layer holds random directions among a layer's maps, of unit length.

    A combination of maps at one place is a filter of one position, so that it has fields and hits like any map.

    Args:
        net: Any network.
        layer: Whose rectified maps are combined.
        count: Directions.
        seed: Of the draw.
    """
    below = net.spec.features(layer)
    bare = replace(below.convs[-1], pool=None, norm=None)
    spec = replace(below, convs=(*below.convs[:-1], bare, Conv(COMBINED, count, 1)))
    mixed = ConvNet(spec, net.preparation, seed).eval()
    with torch.no_grad():
        for conv in below.convs:
            mixed.get_submodule(conv.name).load_state_dict(net.get_submodule(conv.name).state_dict())
        weight = mixed.get_submodule(COMBINED).weight
        weight.copy_(F.normalize(weight, dim=1))
    return mixed


def _patches(at: Subject, layer: str, units: Sequence[Sequence[Unit]]) -> list[list[np.ndarray]]:
    """Return what each unit of each group sees, uint8 [s, s, 3]; the whole picture where its field is larger."""
    side, field = at.net.preparation.crop, receptive_field(at.net.spec, layer)
    found = []
    for group in units:
        seen = at.net.preparation.visible(at.x([unit.image for unit in group]))
        boxes = [field.box(unit.row, unit.column) for unit in group]
        if field.size >= side:
            boxes = [Box(0, 0, side, side)] * len(group)
        found.append([patch(*pair) for pair in zip(seen, boxes, strict=True)])
    return found
