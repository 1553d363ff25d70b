"""Features of whole data sets: computed once, kept on the disk in parts, and never mistaken for others.

A part holds the features of a block of pictures, float16, each picture's scaled to a root mean square of 1. Its
folder is named by a hash of what computes them, of the pictures and of the layer: features of other weights have
another folder. Whoever stops in between goes on at the first part that is missing or damaged. Where the data folder
cannot be written they lie in a temporary one until the process ends.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..datasets import Dataset
from ..files import DamagedError, UnwritableError, ZfnetError, check, data_root, notice, storing
from ..network import ConvNet, Trace, pooled
from ..specs import Conv

PART, BATCH = 512, 32
"""Pictures in a part, and pictures computed at once."""


class Extractor(Protocol):
    """What makes features of pictures.

    Attributes:
        name: Of the weights, or of the control.
        key: What its features depend on.
        layers: What it gives.
    """

    name: str
    key: str
    layers: tuple[str, ...]

    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, d] by layer for uint8 pictures [3, h, w]."""
        ...


class NetworkFeatures:
    """The layers of a network, prepared as its pre-training prepared its pictures (section 5.3).

    Rectified, after the layer's pooling and normalisation where it has them, flattened. Layers 3 and 4 have no
    pool: they are given layer 5's, or they would be compared with it at four times as many positions.

    Args:
        name: Of the weights.
        net: The network.
        layers: All that the network has by default: `conv1` … `fc7`.
    """

    def __init__(self, name: str, net: ConvNet, layers: Sequence[str] = ()):
        self.name, self.net = name, net
        self.layers = tuple(layers or (layer.name for layer in net.layers_upto()))
        for layer in self.layers:
            net.layers_upto(layer)  # an unknown layer is named here
        digest = hashlib.sha256(
            repr(("pooled", net.spec, net.preparation.short_side, net.preparation.crop)).encode()
        )
        for tensor in (*net.state_dict().values(), net.preparation.mean, net.preparation.scale):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        self.key = digest.hexdigest()

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return float32 [n, d] by layer."""
        last = max(self.layers, key=[layer.name for layer in self.net.layers_upto()].index)
        trace = self.net.trace(self.net.prepare(pictures), last)
        return {layer: self._handed_on(trace, layer).flatten(1).cpu() for layer in self.layers}

    def _handed_on(self, trace: Trace, layer: str) -> Tensor:
        entry, highest = self.net.spec[layer], self.net.spec.convs[-1]
        unpooled = isinstance(entry, Conv) and not entry.pool
        return pooled(highest, trace[layer].output)[0] if unpooled else trace[layer].output


@dataclass(frozen=True)
class LayerFeatures:
    """One layer's features of a data set.

    Attributes:
        folder: Where the parts lie.
        count: How many pictures there are.
    """

    folder: Path
    count: int

    @property
    def dimensions(self) -> int:
        """How many features a picture has."""
        return np.load(self.folder / _part(0), mmap_mode="r").shape[1]

    def parts(self) -> Iterator[Tensor]:
        """Yield float32 [at most 512, d], each picture's features of length 1."""
        for start in range(0, self.count, PART):
            part = torch.from_numpy(np.load(self.folder / _part(start))).float()
            yield part / part.norm(dim=1, keepdim=True).clamp(min=1e-12)

    def matrix(self) -> Tensor:
        """Return all features at once, float32 [count, d], each picture's of length 1."""
        return torch.cat(list(self.parts()))

    def kernel(self) -> Tensor:
        """Return the inner products of all pairs of pictures, float32 [count, count], two parts at a time."""
        result = torch.empty(self.count, self.count)
        for i, rows in enumerate(self.parts()):
            for j, columns in enumerate(self.parts()):
                if j > i:
                    break
                block = rows @ columns.T
                above, beside = i * PART, j * PART
                result[above : above + len(rows), beside : beside + len(columns)] = block
                result[beside : beside + len(columns), above : above + len(rows)] = block.T
        return result


def extract(extractor: Extractor, dataset: Dataset, progress: bool = True) -> dict[str, LayerFeatures]:
    """Compute the features of all pictures of a data set, or go on where an earlier attempt stopped.

    Args:
        extractor: What computes them.
        dataset: The pictures.
        progress: Show a progress bar.

    Returns:
        By layer, in the extractor's order.

    Raises:
        ZfnetError: A picture that cannot be read, or a full disk.
    """
    try:
        return _extracted(extractor, dataset, progress, data_root() / "features")
    except UnwritableError as error:
        notice(f"{error}; these features are not kept")
        return _extracted(extractor, dataset, progress, Path(_scratch().name))


@cache
def _scratch() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory()


def _extracted(extractor: Extractor, dataset: Dataset, progress: bool, root: Path) -> dict[str, LayerFeatures]:
    folders = {layer: root / _key(extractor, dataset, layer) for layer in extractor.layers}
    found = {layer: LayerFeatures(folder, len(dataset)) for layer, folder in folders.items()}
    starts = range(0, len(dataset), PART)
    missing = [start for start in starts if not all(_is_whole(path / _part(start)) for path in folders.values())]
    for start in tqdm(
        missing, f"{extractor.name} on {dataset.name}", unit="part", disable=not progress or not missing
    ):
        rows = range(start, min(start + PART, len(dataset)))
        for layer, values in _block(extractor, dataset, rows).items():
            _save(folders[layer] / _part(start), values)
    return found


def _is_whole(path: Path) -> bool:
    try:
        check(path)
        return path.exists()
    except DamagedError as error:
        notice(f"{path} is damaged ({error}); its features are computed again")
        return False


def _block(extractor: Extractor, dataset: Dataset, rows: range) -> dict[str, Tensor]:
    """Compute the features of some pictures: float16 [n, d] by layer."""
    computed: dict[str, list[Tensor]] = {layer: [] for layer in extractor.layers}
    for start in range(rows.start, rows.stop, BATCH):
        pictures = [dataset[i].picture for i in range(start, min(start + BATCH, rows.stop))]
        for layer, values in extractor(pictures).items():
            rms = values.square().mean(1, keepdim=True).sqrt().clamp(min=1e-12)
            computed[layer].append((values / rms).clamp(-65504, 65504).half())
    return {layer: torch.cat(values) for layer, values in computed.items()}


def _key(extractor: Extractor, dataset: Dataset, layer: str) -> str:
    facts = json.dumps([extractor.key, dataset.name, dataset.split, dataset.fingerprint, layer])
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def _part(start: int) -> str:
    return f"{start:07d}.npy"


def _save(path: Path, values: Tensor) -> None:
    free = shutil.disk_usage(next(folder for folder in path.parents if folder.exists())).free
    needed = values.numel() * values.element_size()
    if free < 2 * needed:
        raise ZfnetError(
            f"{needed / 1e6:.0f} MB of features do not fit into {path.parent}; free space, or name another folder "
            f"by ZFNET_DATA; what is computed stays"
        )
    with storing(path) as temporary, temporary.open("wb") as file:
        np.save(file, values.numpy())
