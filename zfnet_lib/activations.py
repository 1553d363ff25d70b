"""The search for the strongest units of every map over a data set (section 4, Fig. 2)."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed
from tqdm import tqdm

from .batches import squares_of
from .files import UnwritableError, alone, notice
from .images import PictureError
from .machine import ahead, threads
from .network import ConvNet
from .peaks import PEAK, OneAPicture, Peaks, Variety, peaks_of
from .ranking import ARRAYS, Hits, Ranking, RankingError
from .receptive import receptive_field
from .specs import Conv
from .states import newest_state, save_state


def strongest(
    net: ConvNet,
    dataset,
    k: int = 9,
    layers: Iterable[str] | None = None,
    *,
    rows: Sequence[int] | None = None,
    variety: bool = False,
    folder: Path | None = None,
    batch: int = 16,
    every: float = 60.0,
    progress: bool = False,
    report: Callable[[int], None] | None = None,
) -> Ranking:
    """Stream a data set once and keep the k strongest units of every map, one hit per picture (Fig. 2).

    Units are ranked at the rectified maps. Ties go to the earlier picture, then to the earlier row and column.
    Memory does not grow with the data set. Pictures that cannot be read are left out and named in the result.

    Pictures are computed `batch` at a time, always the same ones together and each batch by one core, so the bytes
    of the result do not depend on the number of threads, on processes, or on interruptions. Another `batch`,
    processor or GPU changes the scores by float32 rounding, and so the order of hits that are that close.

    Under `torchrun` every process calls this with the same arguments, takes its share of the batches, and gets the
    whole result.

    Args:
        net: The network; it prepares the pictures itself.
        dataset: `len` and `[i] -> (uint8 picture [3, h, w], label)`, or a pack; labels are ignored.
        k: Hits a map, at most the number of pictures.
        layers: Convolutional layers; all by default.
        rows: Which pictures; all by default.
        variety: Pass over hits that repeat another of the same photograph (`peaks.Variety`); for `photos`.
        folder: Keep the state of the search here, and continue an earlier one of the same weights, pictures,
            arguments and number of processes, or return what it found.
        batch: Pictures in one forward pass.
        every: Seconds between writings of the state.
        progress: Show a bar.
        report: Called after every batch with the number of pictures that were looked at; what it raises stops the
            search.

    Returns:
        The `Hits` by layer, what was left out and why.

    Raises:
        RankingError: An impossible k or row, no picture that can be read, `variety` for pictures that are no crops
            of photographs, or a `folder` for pictures without a fingerprint.
        SpecError: No such layer, or one without maps.

    Example:
        >>> from zfnet_lib import MINI, open_dataset
        >>> top = strongest(ConvNet(MINI), open_dataset("shapes", n=12), k=3, layers=["conv2"])
        >>> len(top["conv2"].units(0)), top.pictures
        (3, 12)
    """
    chosen = _chosen_rows(dataset, rows, k)
    convs = [net.spec.conv(name) for name in layers or (conv.name for conv in net.spec.convs)]
    peaks = {conv.name: Peaks(conv.maps, k, _rule(net, dataset, conv, variety)) for conv in convs}
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    arguments = {"k": k, "layers": list(peaks), "variety": variety, "batch": batch, "share": [rank, world]}
    place = None if folder is None else Path(folder) / _key(net, dataset, chosen, arguments)
    search = _Search(net, dataset, chosen.split(batch)[rank::world], peaks, place, every)
    with ExitStack() as lock:
        if place:
            with suppress(UnwritableError):  # what was found there can be read all the same
                lock.enter_context(alone(place))
        search.run(progress and rank == 0, report)
    search.gather()
    return search.ranking(len(chosen))


@dataclass
class _Search:
    """One process's share of a search, and how far it got.

    Attributes:
        net, dataset: What looks at what.
        parts: The pictures of each batch.
        peaks: By layer.
        folder: Of its states; None keeps none.
        every: Seconds between them.
        done: How many batches `peaks` and `left_out` hold.
        left_out: Why pictures could not be read.
    """

    net: ConvNet
    dataset: Any
    parts: Sequence[Tensor]
    peaks: dict[str, Peaks]
    folder: Path | None
    every: float
    done: int = 0
    left_out: dict[int, str] = field(default_factory=dict)

    def run(self, progress: bool, report: Callable[[int], None] | None) -> None:
        """Look at the batches that are still to come, several at a time, and take them up in order."""
        if self.folder:
            self._restore()
        total, before = (sum(map(len, parts)) for parts in (self.parts, self.parts[: self.done]))
        bar = tqdm(desc="strongest units", total=total, initial=before, unit=" pictures", disable=not progress)
        n = min(torch.get_num_threads(), 16 if self.net.device.type == "cpu" else 4)
        with threads(n, each=1) as pool, bar:
            written = perf_counter()
            for found, left_out in ahead(pool, self._seen, self.parts[self.done :], 2 * n):
                self._take(found, left_out)
                bar.update(len(self.parts[self.done]))
                self.done += 1
                if report:
                    report(sum(map(len, self.parts[: self.done])))
                if self.folder and (perf_counter() - written >= self.every or self.done == len(self.parts)):
                    self._save()
                    written = perf_counter()

    def gather(self) -> None:
        """Take up what the other processes found."""
        if not distributed.is_initialized():
            return
        shares: list = [None] * distributed.get_world_size()
        mine = {layer: peaks.settle() for layer, peaks in self.peaks.items()}
        distributed.all_gather_object(shares, (mine, self.left_out))
        for rank, share in enumerate(shares):
            if rank != distributed.get_rank():
                self._take(*share)

    def ranking(self, pictures: int) -> Ranking:
        """Choose the hits from what all processes found in `pictures` pictures.

        Raises:
            RankingError: Not one could be read.
        """
        left_out = dict(sorted(self.left_out.items()))
        if len(left_out) == pictures:
            raise RankingError(f"none of the {pictures} pictures can be read: {next(iter(left_out.values()))}")
        dtype = torch.promote_types(next(self.net.parameters()).dtype, torch.float32)
        layers = {layer: _hits(layer, peaks.hits(), dtype) for layer, peaks in self.peaks.items()}
        return Ranking(layers, pictures - len(left_out), left_out)

    def _take(self, found: dict[str, np.ndarray], left_out: dict[int, str]) -> None:
        for layer, peaks in found.items():
            self.peaks[layer].add(peaks)
        self.left_out |= left_out

    @torch.inference_mode()
    def _seen(self, rows: Tensor) -> tuple[dict[str, np.ndarray], dict[int, str]]:
        """Return the peaks of one batch by layer, and why pictures are left out."""
        images, squares, left_out = self._read(rows)
        if not len(images):
            return {}, left_out
        x = self.net.prepare(squares).contiguous(memory_format=torch.channels_last)
        last = [conv.name for conv in self.net.spec.convs if conv.name in self.peaks][-1]
        trace = self.net.trace(x, upto=last)
        found = {name: peaks_of(trace[name].maps, images, peaks.bound) for name, peaks in self.peaks.items()}
        return found, left_out

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor | None, dict[int, str]]:
        """Return which pictures can be read, their squares, and why the others cannot."""
        try:
            return rows, squares_of(self.dataset, rows, self.net.preparation), {}
        except PictureError:
            squares, left_out = {}, {}
        for row in rows.tolist():
            try:
                squares[row] = squares_of(self.dataset, [row], self.net.preparation)
            except PictureError as error:
                left_out[row] = str(error)
        return torch.tensor(list(squares)), torch.cat(list(squares.values())) if squares else None, left_out

    def _save(self) -> None:
        tensors = {layer: torch.from_numpy(peaks.settle().view(np.uint8)) for layer, peaks in self.peaks.items()}
        try:
            save_state(
                self.folder, self.done, tensors, {"done": self.done, "left_out": list(self.left_out.items())}
            )
        except UnwritableError as error:
            notice(f"{error}; the search goes on and is not kept")
            self.folder = None

    def _restore(self) -> None:
        try:
            if found := newest_state(self.folder):
                peaks = {layer: values.numpy().view(PEAK) for layer, values in found.tensors.items()}
                self.done, self.left_out = found.values["done"], dict(found.values["left_out"])
                self._take(peaks, {})
        except (ValueError, KeyError, TypeError):
            notice(f"the search in {self.folder} is damaged; it begins anew")
            shutil.rmtree(self.folder, ignore_errors=True)


def _hits(layer: str, hits: np.ndarray, dtype: torch.dtype) -> Hits:
    score, *places = (torch.from_numpy(hits[name].copy()) for name in ARRAYS)
    return Hits(layer, score.to(dtype), *(place.long() for place in places))


def _chosen_rows(dataset, rows: Sequence[int] | None, k: int) -> Tensor:
    """Return which pictures are looked at, in their order."""
    n = len(dataset)
    chosen = torch.arange(n) if rows is None else torch.as_tensor(rows, dtype=torch.int64).unique()
    if not 1 <= k <= len(chosen):
        whole = "the data set has" if rows is None else "the rows name"
        raise RankingError(f"k = {k}: {whole} {len(chosen)} pictures, so k lies between 1 and that")
    if not 0 <= chosen[0] <= chosen[-1] < n:
        raise RankingError(f"rows from {chosen[0]} to {chosen[-1]}: the data set has rows 0 to {n - 1}")
    return chosen


def _rule(net: ConvNet, dataset, conv: Conv, variety: bool) -> OneAPicture | Variety:
    if not variety:
        return OneAPicture()
    if not hasattr(dataset, "windows"):
        name = getattr(dataset, "name", "this data set")
        raise RankingError(f"{name} does not say from where in which photographs it was cut; leave variety out")
    return Variety(np.array(dataset.windows), net.preparation, receptive_field(net.spec, conv.name))


def _key(net: ConvNet, dataset, rows: Tensor, arguments: dict[str, Any]) -> str:
    """Return what identifies a process's search: a hash of the weights, the pictures and the arguments."""
    if not hasattr(dataset, "fingerprint"):
        raise RankingError("only a data set with a fingerprint can be continued; leave the folder out, or pack it")
    preparation = net.preparation
    values = {
        "spec": net.spec.features().to_dict(),
        "prepared": [preparation.short_side, preparation.crop],
        "device": net.device.type,
        "data": dataset.fingerprint,
    }
    digest = hashlib.sha256(json.dumps(values | arguments, sort_keys=True).encode())
    weights = net.features().state_dict().values()
    for tensor in (*weights, preparation.mean, preparation.scale, rows):
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
