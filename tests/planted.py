"""What the tests of the claims plant: records whose verdict is known, and pictures whose object alone matters."""

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from zfnet_lib.architecture import ArchSpec, Conv, Unit
from zfnet_lib.datasets import Dataset, Sample, mask_box
from zfnet_lib.images import Preparation
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import records
from zfnet_lib.paper.claims import CLAIMS
from zfnet_lib.paper.claims.evidence import Finding, Number, Scale, Subject
from zfnet_lib.paper.claims.registry import record_of
from zfnet_lib.paper.setting import training_of


def record(quantity, value, unit="", **facts):
    """Return one record."""
    return records.Record("test", quantity, value, unit, records.Stopwatch().provenance(), **facts)


def number(quantity: str, value: float, half: float = 0.0, unit: str = "", n: int = 9, **place) -> Number:
    """Return a number with an interval of `half` on both sides."""
    return Number(value, value - half, value + half, n, unit, None, quantity, place)


def plant(file: Path, found: Iterable[Number]) -> None:
    """Store numbers as those of a claim are."""
    made = records.Stopwatch().provenance()
    records.store(file, [record_of(each, "planted", "net", "data", made) for each in found])


def judged(claim: str, *found: Number, profile: str = "tiny") -> Finding:
    """Store numbers as the record of a claim, and judge it."""
    if found:
        plant(CLAIMS[claim].stored(profile).file, found)
    return CLAIMS[claim].finding(profile)


RMS = {"conv1": [0.04, 0.1], "conv2": [0.01, 0.03]}


def plant_training(
    name: str, seed=0, clip="all", views="random", train=10.0, val1=50.0, val5=25.0, rms=RMS, seconds=3600.0, **line
) -> None:
    """Leave what a finished training of `tiny` leaves: an epoch's line and its errors."""
    run = training_of("tiny", name, seed, clip, views)
    run.epochs_file.parent.mkdir(parents=True, exist_ok=True)
    epoch = {"rms": rms, "seconds": seconds, "images_per_second": line.get("rate", 80.0)}
    epoch |= {"plateau_left": None, "updates": 70}
    provenance = {"device": line.get("device", "two cores")}
    recipe = {"precision": line.get("precision", "bfloat16")}
    line = {"network": name, "epoch": epoch, "recipe": recipe, "provenance": provenance}
    run.epochs_file.write_text(json.dumps(line) + "\n")
    errors = {"train top-1 error": train, "val top-1 error": val1, "val top-5 error": val5}
    facts = {"unit": "%", "data": f"{run.data} val"}
    found = [record(name, error, parameters={"views": 1}, **facts) for name, error in errors.items()]
    found += [record(name, 1.0, parameters={"views": 10}, **facts) for name in errors]  # which nobody asks for
    records.store(run.errors_file, found)


def plant_seeds(name: str, errors: list[float], key: str = "val5", **others) -> None:
    """Leave a training a seed, each with its error."""
    for seed, error in enumerate(errors):
        plant_training(name, seed, **{key: error}, **others)


SIDE, SQUARE = 32, 6


class Coloured(Dataset):
    """Red (0) and blue squares on grey noise; `lie` marks another place as the object, `boxed` has boxes alone."""

    name, split, classes = "coloured", "val", ("red", "blue")

    def __init__(self, n: int, lie: bool, boxed: bool):
        rng = np.random.default_rng(0)
        self.labels, self.lie, self.boxed = np.arange(n) % 2, lie, boxed
        self.corners = [tuple(SQUARE * rng.integers(0, 3, 2)) for _ in range(n)]
        self.names = [str(i) for i in range(n)]

    def sample(self, i: int) -> Sample:
        rng = np.random.default_rng(i)
        picture = torch.from_numpy(rng.integers(126, 131, (3, SIDE, SIDE)).astype(np.uint8))
        top, left = self.corners[i]
        picture[:, top : top + SQUARE, left : left + SQUARE] = 28
        picture[2 * self.labels[i], top : top + SQUARE, left : left + SQUARE] = 228
        mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        top, left = (top + 12, left + 12) if self.lie else (top, left)
        mask[top : top + SQUARE, left : left + SQUARE] = True
        return Sample(picture, int(self.labels[i]), mask_box(mask), None if self.boxed else mask, self.names[i])


def colour_net() -> ConvNet:
    """Return a network whose maps are red and blue, and whose classes are whichever there is more of."""
    spec = ArchSpec("colours", (Conv("conv1", 2, SQUARE, stride=SQUARE),), dense=(), classes=2, image_size=SIDE)
    net = ConvNet(spec, replace(Preparation.grey(SIDE), short_side=SIDE)).eval()
    with torch.no_grad():
        net.conv1.weight.zero_()
        net.conv1.weight[0, 0] = net.conv1.weight[1, 2] = 0.01
        net.conv1.bias.fill_(-1.0)
        red = torch.arange(net.fc8.weight.shape[1]) < net.fc8.weight.shape[1] // 2
        net.fc8.weight.copy_(torch.stack([red, ~red]).float())
    return net


def coloured(lie: bool = False, boxed: bool = False, n: int = 20) -> Subject:
    """Return a subject whose network sees colours alone, on pictures of coloured squares."""
    at = Subject("smoke")
    at.net, at.dataset, at.scale = colour_net(), Coloured(n, lie, boxed), Scale(n, 2, 3, n)
    return at


def small(net: ConvNet, dataset: Dataset) -> Subject:
    """Return a subject of a given network on few pictures, which it is taken to name rightly."""
    at = Subject("smoke")
    dataset.sample = cache(dataset.sample)
    at.net, at.dataset, at.scale = net.eval(), dataset, Scale(pictures=12, maps=4, units=3, few=6)
    at.right = at.few
    return at


def arriving(at: Subject, unit: Unit) -> torch.Tensor:
    """Return literally what arrives at layer 1 from one unit of layer 2, not rectified: [maps, pixels]."""
    trace = at.net.trace(at.x([unit.image]))
    signal = torch.zeros_like(trace["conv2"].maps)
    signal[0, unit.map, unit.row, unit.column] = 1
    back = F.conv_transpose2d(signal, at.net.conv2.weight.detach(), stride=2)
    switches, maps = trace["conv1"].switches[0], trace["conv1"].maps[0]
    rows, columns = switches.shape[1:]
    flat = torch.zeros(len(maps), maps[0].numel())
    return flat.scatter_add_(1, switches.flatten(1), back[0, :, :rows, :columns].flatten(1))


def shown(found) -> dict[tuple, Number]:
    """Return measured numbers by quantity and place."""
    return {(each.quantity, *each.place.values()): each for each in found}
