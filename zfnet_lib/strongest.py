"""The strongest units of every map as a result: what it holds, and its file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed
from tqdm import tqdm

from .architecture import Box, Conv, Field, Unit, receptive_field
from .batches import squares_of
from .deconv import cut, deconv_units
from .files import UnwritableError, ZfnetError, alone, check, notice, storing
from .images import GREY, PictureError, Preparation, projection_image
from .machine import ahead, threads
from .network import ConvNet
from .training import newest_state, save_state


class RankingError(ZfnetError, ValueError):
    """A search for strongest units that is impossible, or a file of them that is damaged."""


@dataclass(frozen=True)
class Hits:
    """The k strongest units of every map of one layer, strongest first.

    Where a map has fewer than k hits (pictures that cannot be read, or few photographs), the others are -1.

    Attributes:
        layer: `conv1` ….
        score: float [maps, k]: the rectified activation, before pool and normalisation.
        image: int64 [maps, k]: index in the data set; one hit per picture.
        row, column: int64 [maps, k]: place in the map.
    """

    layer: str
    score: Tensor
    image: Tensor
    row: Tensor
    column: Tensor

    def units(self, map_: int) -> list[Unit]:
        """Return the hits of one map as units; `Unit.image` counts in the data set."""
        places = zip(self.image[map_], self.row[map_], self.column[map_], strict=True)
        return [
            Unit(int(image), self.layer, map_, int(row), int(column)) for image, row, column in places if image >= 0
        ]


ARRAYS = tuple(field.name for field in fields(Hits) if field.name != "layer")


@dataclass(frozen=True, eq=False)
class Ranking(Mapping[str, Hits]):
    """The strongest units of a data set: a mapping from a layer's name to its `Hits`.

    Attributes:
        layers: The hits of each layer.
        pictures: How many pictures were looked at.
        left_out: Why pictures could not be read, by their index in the data set.
    """

    layers: dict[str, Hits]
    pictures: int
    left_out: dict[int, str]

    def __getitem__(self, layer: str) -> Hits:
        return self.layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def save(self, path: Path) -> Path:
        """Write the ranking to one safetensors file; the same ranking gives the same bytes.

        Raises:
            ZfnetError: The file cannot be written.
        """
        arrays = {f"{layer}.{name}": getattr(hits, name) for layer, hits in self.items() for name in ARRAYS}
        notes = {
            "layers": list(self.layers),
            "pictures": self.pictures,
            "left_out": list(self.left_out.items()),
        }
        with storing(path) as temporary:
            save_file(arrays, temporary, {"ranking": json.dumps(notes)})
        return path

    @classmethod
    def load(cls, path: Path) -> Ranking:
        """Read what `save` wrote.

        Raises:
            RankingError: The file is missing or damaged.
        """
        try:
            check(path)
            with safe_open(path, "pt") as file:
                notes = json.loads(file.metadata()["ranking"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            layers = {
                layer: Hits(layer, *(arrays[f"{layer}.{name}"] for name in ARRAYS)) for layer in notes["layers"]
            }
            return cls(layers, notes["pictures"], dict(notes["left_out"]))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise RankingError(f"{path} holds no strongest units ({error}); compute them again") from error


# Which units of a map are its strongest, decided while pictures stream by in any order and in any split.
#
# A *peak* is the strongest unit of one map in one picture. The *hits* of a map are chosen from its peaks, strongest
# first; ties go to the earlier picture. By default the first k peaks are the hits. `Variety` passes over those that
# repeat a hit of the same photograph.

PEAK = np.dtype([("map", "i4"), ("score", "f8"), ("image", "i4"), ("row", "i4"), ("column", "i4")])
"""A peak; its score is the rectified activation."""

NONE = np.array((-1, -1, -1, -1, -1), PEAK)
"""Stands where a map has no further hit."""


class OneAPicture:
    """The plain rule: the k strongest peaks are the hits, so there is one hit a picture."""

    def photographs(self, peaks: np.ndarray) -> np.ndarray:
        """Return which peaks compete for being hits: here only those of the same picture."""
        return peaks["image"]

    def hits(self, peaks: np.ndarray, k: int) -> np.ndarray:
        """Return the peaks that are hits: all that are still kept, the first k of each map."""
        return peaks


@dataclass(frozen=True)
class Variety:
    """The rule for crops of few photographs: hits that show different things.

    The hits of a map in one photograph are at most three, and at least half a receptive field apart: the centres of
    their fields differ by that much in rows or in columns. Both are measured in the photograph's own pixels, of
    which a unit's field covers its size times the side of its crop, divided by the preparation's short side; of two
    fields the larger one counts. Peaks become hits one after the other, strongest first, where the rule allows it
    (greedy).

    Attributes:
        windows: int64 [pictures, 4]: photograph, and top, left and side of the square crop in its pixels.
        preparation: How the network's input is made of a crop.
        field: The receptive field of the layer's units.
    """

    windows: np.ndarray
    preparation: Preparation
    field: Field

    most: ClassVar[int] = 3

    def photographs(self, peaks: np.ndarray) -> np.ndarray:
        """Return the photograph of each peak."""
        return self.windows[peaks["image"], 0]

    def hits(self, peaks: np.ndarray, k: int) -> np.ndarray:
        """Return the peaks that are hits, of peaks in order; in each round every map takes its next hit."""
        found = [peaks[:0]]
        _, photograph = np.unique(_pairs(peaks, self), return_inverse=True)
        taken = np.zeros(len(peaks), int)
        for _ in range(k):
            maps, first = np.unique(peaks["map"], return_index=True)
            found.append(peaks[first])
            taken[photograph[first]] += 1
            latest = found[-1][np.searchsorted(maps, peaks["map"])]
            left = (taken[photograph] < self.most) & self._apart(peaks, latest)
            peaks, photograph = peaks[left], photograph[left]
        return in_order(np.concatenate(found))

    def _apart(self, peaks: np.ndarray, hits: np.ndarray) -> np.ndarray:
        """Tell for pairs of a peak and a hit whether the peak may be a hit as well."""
        rows, columns, reach = self._places(peaks)
        other_rows, other_columns, other_reach = self._places(hits)
        distance = np.maximum(abs(rows - other_rows), abs(columns - other_columns))
        same = self.photographs(peaks) == self.photographs(hits)
        return ~same | (distance >= np.maximum(reach, other_reach))

    def _places(self, peaks: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the centres of the fields, and half their sides.

        All are whole numbers in units of 1 / (2 short sides) of a photograph's pixel, so that comparing them is
        exact.
        """
        short, field = self.preparation.short_side, self.field
        _, top, left, side = self.windows[peaks["image"]].T
        first = (short - self.preparation.crop) // 2 + field.offset
        rows, columns = (2 * (first + field.stride * peaks[axis]) + field.size for axis in ("row", "column"))
        return 2 * short * top + side * rows, 2 * short * left + side * columns, side * field.size


Rule = OneAPicture | Variety


class Peaks:
    """The peaks of one layer that can still become hits.

    They are few, however many pictures there are. The strongest peak of a photograph (of a picture, by the plain
    rule) always becomes a hit unless k others come before it, since only an earlier one of its own photograph could
    rule it out. So as soon as k photographs have a peak in a map, the last of their k foremost leading peaks is a
    bound that the last hit never falls behind, and that only moves forward. Peaks behind it are dropped: they can
    be no hits, and since hits are chosen in order they cannot keep others from it. What stays is the peaks of at
    most k photographs a map.

    Args:
        maps: Of the layer.
        k: Hits a map.
        rule: Which peaks become hits.

    Attributes:
        peaks: `PEAK` [n].
        bound: float64 [maps], the score that later pictures must exceed for their peaks to count.
    """

    def __init__(self, maps: int, k: int, rule: Rule):
        self.maps, self.k, self.rule = maps, k, rule
        self.peaks, self.settled = np.empty(0, PEAK), 0
        self.bound = np.full(maps, -np.inf)

    def add(self, peaks: np.ndarray) -> None:
        """Take up peaks of other pictures."""
        self.peaks = np.concatenate([self.peaks, peaks])
        if len(self.peaks) > 2 * self.settled:
            self.settle()

    def settle(self) -> np.ndarray:
        """Put the peaks in order, drop those that cannot become hits, and return the others."""
        peaks = in_order(self.peaks)
        leads = np.zeros(len(peaks), bool)
        leads[np.unique(_pairs(peaks, self.rule), return_index=True)[1]] = True
        before = np.cumsum(leads) - leads
        before -= before[_starts(peaks)]
        keep = before < self.k
        self.peaks, self.settled = peaks[keep], keep.sum()
        full = peaks[leads & (before == self.k - 1)]
        self.bound = np.full(self.maps, -np.inf)
        self.bound[full["map"]] = full["score"]
        return self.peaks

    def hits(self) -> np.ndarray:
        """Choose the hits: `PEAK` [maps, k], strongest first, `NONE` where a map has fewer."""
        table = np.full((self.maps, self.k), NONE)
        hits = self.rule.hits(self.settle(), self.k)
        table[hits["map"], np.arange(len(hits)) - _starts(hits)] = hits
        return table


def peaks_of(maps: Tensor, images: Tensor, bound: np.ndarray) -> np.ndarray:
    """Return the strongest unit of every map in every picture, where it exceeds the map's bound.

    Places are looked for in these few maps only: finding where a maximum lies takes much longer than finding it.

    Args:
        maps: [n, maps, h, w], rectified.
        images: int64 [n], the pictures' indices.
        bound: float64 [maps].

    Returns:
        `PEAK` [m].

    Raises:
        ZfnetError: Activations that are no numbers.
    """
    scores = maps.amax((2, 3)).cpu().double()
    if not scores.isfinite().all():
        raise ZfnetError("the network gives activations that are no numbers; load or train it again")
    picture, map_ = (scores > torch.from_numpy(bound)).nonzero(as_tuple=True)
    place = maps[picture, map_].flatten(1).argmax(1).cpu()
    columns = maps.shape[-1]
    values = (map_, scores[picture, map_], images[picture], place // columns, place % columns)
    peaks = np.empty(len(picture), PEAK)
    for name, value in zip(PEAK.names, values, strict=True):
        peaks[name] = value.numpy()
    return peaks


def in_order(peaks: np.ndarray) -> np.ndarray:
    """Sort by map, then strongest first, then by picture."""
    return peaks[np.lexsort((peaks["image"], -peaks["score"], peaks["map"]))]


def _starts(peaks: np.ndarray) -> np.ndarray:
    """Return for each peak where its map begins."""
    return np.searchsorted(peaks["map"], peaks["map"])


def _pairs(peaks: np.ndarray, rule: Rule) -> np.ndarray:
    """Number the pairs of a map and a photograph."""
    photographs = rule.photographs(peaks).astype(np.int64)
    return peaks["map"] * (photographs.max(initial=0) + 1) + photographs


# What Fig. 2 shows of a map: its strongest units, projected, beside the pieces of pictures that caused them.


@dataclass(frozen=True)
class Block:
    """One map and its strongest units, strongest first.

    Attributes:
        layer, map: Which map.
        scores: Activations.
        projections: float [3, s, s] each, s being the receptive field, or the picture where that is smaller.
        patches: uint8 [s, s, 3] each: the same windows of the pictures, grey beyond their edge.
        boxes: Where the windows lie in the prepared pictures.
        units: The units; `image` counts in the data set.
        names: Of the pictures.
    """

    layer: str
    map: int
    scores: list[float]
    projections: list[np.ndarray]
    patches: list[np.ndarray]
    boxes: list[Box]
    units: list[Unit]
    names: list[str]


class Squares:
    """Pictures of a data set as a network prepares them; each is read and resized once.

    Args:
        net: The network.
        dataset: A data set or a pack.
    """

    def __init__(self, net: ConvNet, dataset):
        self.net, self.dataset = net, dataset
        self.known: dict[int, Tensor] = {}

    def __getitem__(self, images: Sequence[int]) -> Tensor:
        """Return prepared pictures, float32 [n, 3, crop, crop]."""
        for image in set(images) - self.known.keys():
            self.known[image] = self.net.preparation.square(self.dataset[image][0])
        return self.net.prepare(torch.stack([self.known[image] for image in images]))


def blocks(net: ConvNet, squares: Squares, hits: Hits, maps: Sequence[int], together: int = 32) -> Iterator[Block]:
    """Project the hits of some maps and cut out what caused them (Fig. 2).

    Args:
        net: The network.
        squares: The pictures in which the hits were found.
        hits: Of one layer.
        maps: Which maps.
        together: Maps whose units are projected at once.
    """
    for start in range(0, len(maps), together):
        yield from _together(net, squares, hits, maps[start : start + together])


def _together(net: ConvNet, squares: Squares, hits: Hits, maps: Sequence[int]) -> Iterator[Block]:
    units = {number: hits.units(number) for number in maps}
    images = sorted({unit.image for of_map in units.values() for unit in of_map})
    if not images:
        return
    place = {image: i for i, image in enumerate(images)}
    x = squares[images]
    seen = net.preparation.visible(x)
    flat = [unit._replace(image=place[unit.image]) for number in maps for unit in units[number]]
    shown = deconv_units(net, x, flat)
    pairs = zip(shown.projections, shown.boxes, strict=True)
    windows = iter([fitted(projection.cpu(), box, x.shape[-1]) for projection, box in pairs])
    for number in maps:
        found = [(unit, *next(windows)) for unit in units[number]]
        yield Block(
            hits.layer,
            number,
            hits.score[number, : len(found)].tolist(),
            [pixels.numpy() for _, pixels, _ in found],
            [patch(seen[place[unit.image]], box) for unit, _, box in found],
            [box for *_, box in found],
            units[number],
            [squares.dataset.names[unit.image] for unit in units[number]],
        )


def fitted(projection: Tensor, box: Box, side: int) -> tuple[Tensor, Box]:
    """Return a projection and its box; the whole picture, of `side` pixels, where the field is larger."""
    if projection.shape[-1] < side:
        return projection, box
    whole = Box(-box.top, -box.left, side - box.top, side - box.left)
    return cut(projection, whole), Box(0, 0, side, side)


def patch(picture: Tensor, box: Box) -> np.ndarray:
    """Cut a box out of a picture [3, h, w]: uint8 [s, s, 3], grey beyond the edge."""
    return rows_first((cut(picture.float() - GREY, box) + GREY).to(torch.uint8))


def rows_first(picture: Tensor) -> np.ndarray:
    """Return a picture [3, h, w] as an array [h, w, 3]."""
    return picture.permute(1, 2, 0).contiguous().numpy()


def save_blocks(path: Path, found: Sequence[Block], notes: dict[str, Any]) -> None:
    """Store blocks without their patches: what a network made of pictures, never the pictures.

    Args:
        path: Of one npz file.
        found: The blocks; projections are stored as the 8-bit pictures that Fig. 2 shows.
        notes: What they were computed from.
    """
    arrays = {
        f"{block.layer}.{block.map}": np.stack([projection_image(pixels) for pixels in block.projections])
        for block in found
    }
    facts = [
        {"layer": b.layer, "map": b.map, "scores": b.scores, "boxes": b.boxes, "units": b.units, "names": b.names}
        for b in found
    ]
    index = np.frombuffer(json.dumps({"notes": notes, "blocks": facts}).encode(), np.uint8)
    with storing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, index=index, **arrays)


def load_blocks(path: Path, squares: Squares | None = None) -> tuple[list[Block], dict[str, Any]]:
    """Read what `save_blocks` wrote; patches come with the pictures, where those are at hand.

    Returns:
        The blocks, whose projections run from -1 to 1, and the notes.

    Raises:
        ZfnetError: The file is missing or damaged.
    """
    try:
        check(path)
        with np.load(path) as file:
            index = json.loads(file["index"].tobytes())
            found = [
                _restored(facts, file[f"{facts['layer']}.{facts['map']}"], squares) for facts in index["blocks"]
            ]
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ZfnetError(f"{path} holds no projections ({error}); restore it, or compute them again") from error
    return found, index["notes"]


def _restored(facts: dict[str, Any], shown: np.ndarray, squares: Squares | None) -> Block:
    units, boxes = [Unit(*unit) for unit in facts["units"]], [Box(*box) for box in facts["boxes"]]
    projections = [(image.astype(np.float32).transpose(2, 0, 1) - GREY) / (255 - GREY) for image in shown]
    patches = []
    if squares:
        seen = squares.net.preparation.visible(squares[[unit.image for unit in units]])
        patches = [patch(picture, box) for picture, box in zip(seen, boxes, strict=True)]
    return Block(facts["layer"], facts["map"], facts["scores"], projections, patches, boxes, units, facts["names"])


# The search for the strongest units of every map over a data set (section 4, Fig. 2).


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
