"""The strongest units of every map over a data set (section 4, Fig. 2), and what Fig. 2 shows of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from numbers import Integral
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, distributed
from tqdm import tqdm

from .architecture import Box, Field, Unit
from .batches import squares_of
from .deconv import cut, deconv_units
from .files import UnwritableError, ZfnetError, alone, check, is_there, notice, storing
from .images import GREY, PictureError, Preparation, is_passing, projection_image
from .machine import ahead, threads
from .network import Network
from .weights import fingerprint

if TYPE_CHECKING:
    from .paper.plots import Figure

ARRAYS = ("score", "image", "row", "column")
KEPT = 2000  # prepared pictures: 300 MB of 224 pixels
CANDIDATE = np.dtype([("map", "i4"), ("score", "f8"), ("image", "i4"), ("row", "i4"), ("column", "i4")])


@dataclass(frozen=True)
class TopUnits:
    """The k strongest units of every map of one layer, strongest first; where a map has fewer, `image` is -1."""

    layer: str
    score: Tensor  # float [maps, k]: the activation before pool and normalisation, rectified if the layer is
    image: Tensor  # int64 [maps, k]: index in the data set; one unit a picture
    row: Tensor  # int64 [maps, k]: place in the map
    column: Tensor

    def units(self, map_: int) -> list[Unit]:
        """Return the strongest units of one map; `Unit.image` counts in the data set."""
        if not 0 <= map_ < len(self.score):
            raise ZfnetError(f"{self.layer} has no map {map_}; choose one from 0 to {len(self.score) - 1}")
        places = zip(*(getattr(self, name)[map_].tolist() for name in ARRAYS[1:]), strict=True)
        return [Unit(image, self.layer, map_, row, column) for image, row, column in places if image >= 0]

    def plot(self, net: Network, dataset, maps: Sequence[int], title: str = "") -> Figure:
        """Draw the strongest units of some maps, projected, beside the patches that caused them (Fig. 2).

        Example:
            >>> from zfnet_lib import MINI, ConvNet, open_dataset, strongest
            >>> net, shapes = ConvNet(MINI), open_dataset("shapes", n=12)
            >>> top = strongest(net, shapes, layers=["conv2"])["conv2"]
            >>> top.plot(net, shapes, maps=[0, 5])  # doctest: +ELLIPSIS
            <Figure size 1350x... with 1 Axes>
        """
        from .paper.fig2 import draw

        return draw(list(blocks(net, Squares(net, dataset), self, maps)), title or f"{net.name}, {self.layer}")


class Ranking(dict[str, TopUnits]):
    """The `TopUnits` of a data set by layer, how many pictures were looked at, and why others were not."""

    def __init__(self, layers: dict[str, TopUnits], pictures: int, left_out: dict[int, str]):
        super().__init__(layers)
        self.pictures, self.left_out = pictures, left_out


def strongest(
    net: Network,
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
    """Stream a data set once and keep the k strongest units of every map, one a picture (section 4, Fig. 2).

    Units are ranked at the rectified maps. Ties go to the earlier picture, then to the earlier row and column.
    Memory does not grow with the data set. Pictures that cannot be read are left out and named in the result. Under
    `torchrun` every process calls this with the same arguments, takes its share, and gets the whole result.

    Pictures are computed `batch` at a time, always the same ones together and each batch by one core, so the bytes
    of the result do not depend on the number of threads, on processes, or on interruptions. Another `batch`,
    processor or GPU changes the scores by float32 rounding, and so the order of units that are that close.

    Args:
        net: The network; it prepares the pictures itself.
        dataset: `len` and `[i] -> (uint8 picture [3, h, w], label)`, or a pack; labels are ignored.
        k: Units a map, at most the number of pictures.
        layers, rows: Which convolutional layers, and which pictures; all by default.
        variety: For `photos`, crops of few photographs: pass over units that show what a stronger one shows.
        folder: Keep the search here, and continue an earlier one of the same weights, pictures, arguments and
            number of processes, or return what it found.
        batch: Pictures in one forward pass.
        every: Seconds between two writings of the search to `folder`.
        progress: Show a bar.
        report: Called after every batch with the number of pictures looked at; what it raises stops the search.

    Returns:
        The `TopUnits` by layer, what was left out and why.

    Raises:
        ZfnetError: An impossible k, row or layer, no picture that can be read, `variety` for pictures that are no
            crops of photographs, or a `folder` for pictures without a fingerprint.
    """
    chosen = torch.as_tensor(np.arange(len(dataset)) if rows is None else rows, device="cpu")
    if chosen.dtype == torch.bool:
        raise ZfnetError("rows are the numbers of pictures, no mask; give `mask.nonzero()`, flattened")
    chosen = chosen.long().unique()
    if not (isinstance(k, Integral) and 1 <= k <= len(chosen)):
        whole = "the data set has" if rows is None else "the rows name"
        raise ZfnetError(f"k = {k}: {whole} {len(chosen)} pictures, so k is a whole number from 1 to that")
    if not (isinstance(batch, Integral) and batch >= 1):
        raise ZfnetError(f"batch = {batch}: pictures are passed together, so batch is a whole number from 1")
    if not 0 <= chosen[0] <= chosen[-1] < len(dataset):
        raise ZfnetError(f"rows from {chosen[0]} to {chosen[-1]}: the data set has rows 0 to {len(dataset) - 1}")
    if variety and not hasattr(dataset, "windows"):
        name = getattr(dataset, "name", "this data set")
        raise ZfnetError(f"{name} does not say from where in which photographs it was cut; leave variety out")
    if folder and not hasattr(dataset, "fingerprint"):
        raise ZfnetError("only a data set with a fingerprint can be continued; leave the folder out, or pack it")

    candidates: dict[str, Candidates] = {}
    left_out: dict[int, str] = {}
    for name in layers or net.layers:
        maps, *_ = net.shapes()[net.require(name)]
        crops = Crops(np.array(dataset.windows), net.preparation, net.fields(name)[0]) if variety else None
        candidates[name] = Candidates(maps, k, crops)
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
    path = None
    if folder:
        facts = {"k": k, "layers": list(candidates), "variety": variety, "batch": batch, "share": [rank, world]}
        facts |= {"device": net.device.type, "data": dataset.fingerprint, "rows": chosen.tolist()}
        path = Path(folder) / f"{fingerprint(net.features(), facts)}.safetensors"
    with ExitStack() as lock:
        if path:
            with suppress(UnwritableError):  # what was found there can be read all the same
                lock.enter_context(alone(path))
        parts = chosen.split(batch)[rank::world]
        _search(net, dataset, parts, candidates, left_out, path, every, progress and rank == 0, report)
    if world > 1:
        shares: list = [None] * world
        mine = {layer: of_layer.settle() for layer, of_layer in candidates.items()}
        distributed.all_gather_object(shares, (mine, left_out))
        for units, reasons in shares[:rank] + shares[rank + 1 :]:
            for layer, of_layer in units.items():
                candidates[layer].add(of_layer)
            left_out |= reasons
    if len(left_out) == len(chosen):
        raise ZfnetError(f"none of the {len(chosen)} pictures can be read: {left_out[min(left_out)]}")
    dtype, top = torch.promote_types(net.dtype, torch.float32), {}
    for layer, of_layer in candidates.items():
        units = of_layer.strongest()
        score, *places = (torch.from_numpy(units[name].copy()) for name in ARRAYS)
        top[layer] = TopUnits(layer, score.to(dtype), *(place.long() for place in places))
    return Ranking(top, len(chosen) - len(left_out), dict(sorted(left_out.items())))


def _search(net, dataset, parts, candidates, left_out, path, every, progress, report) -> None:
    """Look at the parts that are still to come, several at a time; take up and keep what is found, in order."""
    done = 0
    if path and is_there(path):
        try:
            check(path)
            with safe_open(path, "pt") as file:
                found = {layer: file.get_tensor(layer).numpy().view(CANDIDATE) for layer in candidates}
                notes = json.loads(file.metadata()["notes"])
            reasons, done = dict(notes["left_out"]), notes["done"]
            left_out |= reasons
            for layer, units in found.items():
                candidates[layer].add(units)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            notice(f"the search in {path} is damaged ({error}); it begins anew")
    n = 1 if net.kept else min(torch.get_num_threads(), 16 if net.device.type == "cpu" else 4)
    total, seen, written = sum(map(len, parts)), sum(map(len, parts[:done])), perf_counter()
    bar = tqdm(desc="strongest units", total=total, initial=seen, unit=" pictures", delay=1, disable=not progress)
    with threads(n, each=1) as pool, bar:
        for units, reasons in ahead(pool, partial(_look, net, dataset, candidates), parts[done:], 2 * n):
            for layer, of_layer in units.items():
                candidates[layer].add(of_layer)
            left_out |= reasons
            bar.update(len(parts[done]))
            seen, done = seen + len(parts[done]), done + 1
            if report:
                report(seen)
            if path and (perf_counter() - written >= every or done == len(parts)):
                tensors = {layer: torch.from_numpy(c.settle().view(np.uint8)) for layer, c in candidates.items()}
                try:
                    with storing(path) as temporary:
                        notes = json.dumps({"done": done, "left_out": list(left_out.items())})
                        save_file(tensors, temporary, {"notes": notes})
                except UnwritableError as error:
                    notice(f"{error}; the search goes on and is not kept")
                    path = None
                written = perf_counter()


@torch.inference_mode()
def _look(net: Network, dataset, candidates: dict[str, Candidates], rows: Tensor) -> tuple[dict, dict[int, str]]:
    """Return the candidates in some pictures by layer, and why pictures are left out."""
    left_out = {}
    try:
        squares = squares_of(dataset, rows, net.preparation)
    except (PictureError, OSError):  # one by one, so that only those that cannot be read are left out
        read = {}
        for row in rows.tolist():
            try:
                read[row] = squares_of(dataset, [row], net.preparation)
            except (PictureError, OSError) as error:
                if is_passing(error):
                    raise
                left_out[row] = str(error)
        if not read:
            return {}, left_out
        rows, squares = torch.tensor(list(read)), torch.cat(list(read.values()))
    x = net.prepare(squares).contiguous(memory_format=torch.channels_last)
    last = [name for name in net.layers if name in candidates][-1]
    trace = net.trace(x, upto=last, keep=candidates)
    return {name: of_layer.among(trace[name].maps, rows) for name, of_layer in candidates.items()}, left_out


class Candidates:
    """The units of one layer that may still be among the strongest; they are few, however many pictures there are.

    A candidate is the strongest unit of a map in one picture. The strongest candidate of a photograph (a picture
    that is no crop is its own) is chosen unless k others come before it: only an earlier one of its photograph can
    rule it out. So as soon as k photographs have a candidate in a map, the last of their k leading ones is a
    bound that only moves forward: what lies behind it cannot be chosen, nor keep others from it, and is dropped.
    """

    def __init__(self, maps: int, k: int, crops: Crops | None = None):
        self.maps, self.k, self.crops = maps, k, crops
        self.units, self.settled = np.empty(0, CANDIDATE), 0
        self.bound = np.full(maps, -np.inf)  # the score that later pictures must exceed

    def among(self, maps: Tensor, images: Tensor) -> np.ndarray:
        """Return the candidates in the rectified maps [n, maps, h, w] of some pictures: `CANDIDATE` [m]."""
        scores = maps.amax((2, 3)).cpu().double()
        if not scores.isfinite().all():
            raise ZfnetError("the network gives NaN or infinite activations; load or train it again")
        # Places are looked for in few maps only: finding where a maximum lies takes much longer than finding it.
        picture, map_ = (scores > torch.from_numpy(self.bound)).nonzero(as_tuple=True)
        place, columns = maps[picture, map_].flatten(1).argmax(1).cpu(), maps.shape[-1]
        values = (map_, scores[picture, map_], images[picture], place // columns, place % columns)
        found = np.empty(len(picture), CANDIDATE)
        for name, value in zip(CANDIDATE.names or (), values, strict=True):
            found[name] = value.numpy()
        return found

    def add(self, units: np.ndarray) -> None:
        """Take up candidates in other pictures."""
        self.units = np.concatenate([self.units, units])
        if len(self.units) > 2 * self.settled:
            self.settle()

    def settle(self) -> np.ndarray:
        """Sort the candidates by map, score and picture, drop those behind the bound, and return the others."""
        units = self.units[np.lexsort((self.units["image"], -self.units["score"], self.units["map"]))]
        leads = np.zeros(len(units), bool)
        leads[np.unique(_pairs(units, self.crops), return_index=True)[1]] = True
        before = np.cumsum(leads) - leads
        before -= before[_starts(units)]
        kept = before < self.k
        self.units, self.settled = units[kept], kept.sum()
        last = units[leads & (before == self.k - 1)]
        self.bound = np.full(self.maps, -np.inf)
        self.bound[last["map"]] = last["score"]
        return self.units

    def strongest(self) -> np.ndarray:
        """Choose: `CANDIDATE` [maps, k], strongest first, and -1 where a map has fewer."""
        units = self.settle()
        if self.crops:
            units = self.crops.varied(units, self.k)
        table = np.full((self.maps, self.k), np.array((-1,) * 5, CANDIDATE))
        table[units["map"], np.arange(len(units)) - _starts(units)] = units
        return table


class Crops(NamedTuple):
    """Pictures cut out of few photographs, of which the strongest units are to show different things.

    The chosen units of a map in one photograph are at most three, and the centres of their receptive fields at
    least half a field (the larger one) apart in rows or in columns, in the photograph's own pixels.
    """

    windows: np.ndarray  # int64 [pictures, 4]: photograph, and top, left and side of the square crop in its pixels
    preparation: Preparation
    field: Field  # of the layer's units

    def varied(self, units: np.ndarray, k: int) -> np.ndarray:
        """Choose from sorted candidates, greedily: in each of k rounds every map takes its next one."""
        # In units of 1 / (2 short sides) of a photograph's pixel all places are whole numbers: comparing is exact.
        short, field = self.preparation.short_side, self.field
        first = (short - self.preparation.crop) // 2 + field.offset
        _, *corners, side = self.windows[units["image"]].T
        rows, columns = (
            2 * short * corner + side * (2 * (first + field.stride * units[axis]) + field.size)
            for corner, axis in zip(corners, ("row", "column"), strict=True)
        )
        reach = side * field.size
        pairs = np.unique(_pairs(units, self), return_inverse=True)[1]
        taken, left, chosen = np.zeros(len(units), int), np.arange(len(units)), [np.arange(0)]
        for _ in range(k):
            maps, foremost = np.unique(units["map"][left], return_index=True)
            chosen.append(left[foremost])
            taken[pairs[chosen[-1]]] += 1
            latest = chosen[-1][np.searchsorted(maps, units["map"][left])]  # of each candidate's own map
            distance = np.maximum(abs(rows[left] - rows[latest]), abs(columns[left] - columns[latest]))
            apart = (pairs[left] != pairs[latest]) | (distance >= np.maximum(reach[left], reach[latest]))
            left = left[apart & (taken[pairs[left]] < 3)]
        return units[np.sort(np.concatenate(chosen))]


def _pairs(units: np.ndarray, crops: Crops | None) -> np.ndarray:
    """Number the pairs of a map and a photograph; a picture that is no crop is its own photograph."""
    photograph = crops.windows[units["image"], 0] if crops else units["image"].astype(np.int64)
    return units["map"] * (photograph.max(initial=0) + 1) + photograph


def _starts(units: np.ndarray) -> np.ndarray:
    """Return for each of the sorted candidates where its map begins."""
    return np.searchsorted(units["map"], units["map"])


class Block(NamedTuple):
    """What Fig. 2 shows of a map: its strongest units, projected, and the pieces of pictures that caused them."""

    layer: str
    map: int
    scores: list[float]
    projections: list[np.ndarray]  # float [3, s, s]
    patches: list[np.ndarray]  # uint8 [s, s, 3]: the same windows of the pictures, grey beyond their edge
    boxes: list[Box]  # where the windows lie in the prepared pictures
    units: list[Unit]  # `image` counts in the data set
    names: list[str]  # of the pictures
    chosen: str = ""  # why this map is shown


class Squares:
    """Pictures of a data set as a network prepares them; the latest are kept, and not read and resized again."""

    def __init__(self, net: Network, dataset):
        self.net, self.dataset = net, dataset
        self.square = lru_cache(KEPT)(lambda image: net.preparation.square(dataset[image][0]))

    def __getitem__(self, images: Sequence[int]) -> Tensor:
        """Return prepared pictures, float32 [n, 3, crop, crop]."""
        return self.net.prepare(torch.stack([self.square(image) for image in images]))


def blocks(
    net: Network, squares: Squares, top: TopUnits, maps: Sequence[int], together: int = 32
) -> Iterator[Block]:
    """Project the strongest units of some maps, `together` maps at once, and cut out what caused them (Fig. 2)."""
    names = getattr(squares.dataset, "names", range(len(squares.dataset)))
    for start in range(0, len(maps), together):
        units = {number: top.units(number) for number in maps[start : start + together]}
        images = sorted({unit.image for of_map in units.values() for unit in of_map})
        if not images:
            continue
        place, x = {image: i for i, image in enumerate(images)}, squares[images]
        seen = net.preparation.visible(x)
        flat = [unit._replace(image=place[unit.image]) for of_map in units.values() for unit in of_map]
        shown = zip(*deconv_units(net, x, flat), strict=True)
        windows = iter([fitted(projection.cpu(), box, x.shape[-1]) for projection, box in shown])
        for number, of_map in units.items():
            found = [next(windows) for _ in of_map]
            yield Block(
                top.layer,
                number,
                top.score[number, : len(found)].tolist(),
                [projection.numpy() for projection, _ in found],
                [patch(seen[place[unit.image]], box) for unit, (_, box) in zip(of_map, found, strict=True)],
                [box for _, box in found],
                of_map,
                [str(names[unit.image]) for unit in of_map],
            )


def fitted(projection: Tensor, box: Box, side: int) -> tuple[Tensor, Box]:
    """Return a square projection and its box; the whole picture, of `side` pixels, where the field is larger."""
    rows, columns = projection.shape[-2:]
    most = min(max(rows, columns), side)
    top, left = (box.top - (most - rows) // 2, box.left - (most - columns) // 2) if most < side else (0, 0)
    window = Box(top - box.top, left - box.left, top - box.top + most, left - box.left + most)
    return cut(projection, window), Box(top, left, top + most, left + most)


def patch(picture: Tensor, box: Box) -> np.ndarray:
    """Cut a box out of a picture [3, h, w]: uint8 [s, s, 3], grey beyond the edge."""
    return rows_first((cut(picture.float() - GREY, box) + GREY).to(torch.uint8))


def rows_first(picture: Tensor) -> np.ndarray:
    """Return a picture [3, h, w] as an array [h, w, 3]."""
    return picture.permute(1, 2, 0).contiguous().numpy()


def save_blocks(path: Path, found: Sequence[Block], notes: dict[str, Any]) -> None:
    """Store blocks as one npz file: 8-bit projections, never the patches, which are pieces of pictures."""
    facts: list[dict[str, Any]] = []
    arrays: dict[str, Any] = {}
    for block in found:
        arrays[f"{block.layer}.{block.map}"] = np.stack([projection_image(pixels) for pixels in block.projections])
        facts.append({k: v for k, v in block._asdict().items() if k not in ("projections", "patches")})
    index = np.frombuffer(json.dumps({"notes": notes, "blocks": facts}).encode(), np.uint8)
    with storing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, index=index, **arrays)


def load_blocks(path: Path, squares: Squares | None = None) -> tuple[list[Block], dict[str, Any]]:
    """Read blocks, with projections from -1 to 1, and their notes; patches come with the pictures, where given.

    Pictures are known by their names: another archive of a data set may have them in other rows.
    """
    found = []
    rows = {name: row for row, name in enumerate(squares.dataset.names)} if squares else {}
    try:
        check(path)
        with np.load(path) as file:
            index = json.loads(file["index"].tobytes())
            for facts in index["blocks"]:
                units, boxes = [Unit(*unit) for unit in facts["units"]], [Box(*box) for box in facts["boxes"]]
                shown = file[f"{facts['layer']}.{facts['map']}"].astype(np.float32).transpose(0, 3, 1, 2)
                patches = []
                if squares and rows.keys() >= set(facts["names"]):
                    seen = squares.net.preparation.visible(squares[[rows[name] for name in facts["names"]]])
                    patches = [patch(*pair) for pair in zip(seen, boxes, strict=True)]
                values = {"units": units, "boxes": boxes, "patches": patches}
                found.append(Block(projections=list((shown - GREY) / (255 - GREY)), **facts | values))
    except PictureError:  # of the data set, not of this file
        raise
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise ZfnetError(f"{path} holds no projections ({error}); restore it, or compute them again") from error
    return found, index["notes"]
