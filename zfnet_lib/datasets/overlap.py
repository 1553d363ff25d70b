"""Near-duplicates between two data sets (section 5.2), so that no test picture was seen in pre-training.

The paper found them by normalised correlation. Here thumbnails of 16 pixels are correlated first, every picture
with every other in blocked matrix products. The most similar pairs are then compared at 32 pixels: the local
means are removed, so that similar colours and horizons do not count, and the middle of one picture is looked for
in the other at several scales and at every shift, so that a crop, a new size or a mirror does not hide a copy.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ..files import PROJECT, check, data_root, storing
from .pack import Pack, pack_in_memory
from .samples import DataError, Dataset
from .table import file_name

# Pixels: of the pictures compared, of the thumbnails, of the middle that is looked for; and the sides that the one
# picture is brought to while the other stays at `SIDE`.
SIDE, THUMBNAIL, MIDDLE = 32, 16, 24
SCALES = (26, 28, 30, 32, 34, 36, 38)
# How many pictures each is compared with closely, and from which correlation of the thumbnails on.
CANDIDATES, PROMISING = 4, 0.7
# Correlation from which two pictures count as the same: copies that were encoded anew and cropped by some per cent
# reach it, and so do a few pictures of one thin thing on a plain ground, whose loss costs training nothing.
THRESHOLD = 0.8
# Sizes of the blocks, so that what is computed at a time stays in the cache or near it.
ROWS, COLUMNS, CLOSE = 2048, 8192, 128


@dataclass(frozen=True)
class Pair:
    """Two pictures that show the same: their names, their correlation, and whether one is mirrored."""

    first: str
    second: str
    correlation: float
    mirrored: bool


@dataclass(frozen=True)
class Overlap:
    """Which pictures of a first data set are also in a second one."""

    first: str  # name and split of the data set that is trained on
    second: str  # name and split of the one that is tested on
    compared: tuple[int, int]  # number of pictures of each
    threshold: float  # correlation from which a pair counts
    pairs: tuple[Pair, ...]  # the strongest first

    def rows_in(self, dataset: Dataset) -> np.ndarray:
        """Return the rows of either data set, or of a pack of it, whose pictures the other one has too."""
        names = {self.first: [pair.first for pair in self.pairs], self.second: [pair.second for pair in self.pairs]}
        if (title := title_of(dataset)) not in names:
            raise DataError(f"this overlap is of {self.first} and {self.second}; given {title}")
        shared = set(names[title])
        return np.array([row for row, name in enumerate(dataset.names) if name in shared], np.int64)

    def report(self) -> str:
        """Return the pairs as a Markdown table below one sentence."""
        (n, m), lost = self.compared, len({pair.first for pair in self.pairs})
        lines = [
            f"{lost:,} of {n:,} pictures of {self.first} are also among the {m:,} of {self.second} "
            f"(correlation at least {self.threshold}).",
            "",
            f"| {self.first} | {self.second} | correlation | mirrored |",
            "|---|---|---|---|",
        ]
        for pair in self.pairs:
            mirrored = "yes" if pair.mirrored else ""
            lines.append(f"| {pair.first} | {pair.second} | {pair.correlation:.3f} | {mirrored} |")
        return "\n".join(lines) + "\n"

    def save(self, path: Path) -> None:
        """Write the overlap as JSON."""
        with storing(path) as temporary:
            temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Overlap:
        """Read what `save` wrote."""
        try:
            check(path)
            fields = json.loads(path.read_text())
            pairs = tuple(Pair(**pair) for pair in fields.pop("pairs"))
            return cls(**fields | {"compared": tuple(fields["compared"]), "pairs": pairs})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is no overlap ({error}); make it with: zfnet overlap A B") from error


def title_of(dataset: Dataset) -> str:
    """Return what an overlap calls a data set: name and split."""
    return f"{file_name(dataset.name)} {dataset.split}"


def overlap_path(first: Dataset, second: Dataset) -> Path:
    """Return where the overlap of two data sets is kept: `<data root>/overlap/<first>--<second>.json`."""
    names = [title_of(dataset).replace(" ", "-") for dataset in (first, second)]
    return data_root() / "overlap" / f"{'--'.join(names)}.json"


def known_overlaps(name: str, split: str) -> list[Overlap]:
    """Return the overlaps of a data set that is trained on with others: found here, or as they ship."""
    files = glob.escape(f"{file_name(name)}-{split}") + "--*.json"
    places = (PROJECT / "results" / "tiny" / "overlap", data_root() / "overlap")
    found = {path.name: path for place in places for path in sorted(place.glob(files))}
    return [Overlap.load(path) for path in found.values()]


def find_overlap(first: Dataset, second: Dataset) -> Overlap:
    """Find the pictures that two data sets share, the most alike first (section 5.2).

    The first is trained on: its pictures are the ones to leave out. The time grows with the product of both sizes.
    """
    small = [
        dataset if isinstance(dataset, Pack) else pack_in_memory(dataset, SIDE, workers=None, progress=True)
        for dataset in (first, second)
    ]
    a, b = (torch.cat([pack.batch(rows, SIDE) for rows in torch.arange(len(pack)).split(CLOSE)]) for pack in small)
    found: dict[tuple[int, int], Pair] = {}
    for mirrored in (False, True):
        shown = b.flip(-1) if mirrored else b
        for rows, columns in _candidates(a, shown):
            values = aligned_correlation(a[rows], shown[columns])
            for row, column, value in zip(rows.tolist(), columns.tolist(), values.tolist(), strict=True):
                pair = Pair(small[0].names[row], small[1].names[column], round(value, 4), mirrored)
                if value >= THRESHOLD:
                    found[row, column] = max(pair, found.get((row, column), pair), key=lambda p: p.correlation)
    pairs = sorted(found.values(), key=lambda pair: (-pair.correlation, pair.first, pair.second))
    return Overlap(title_of(first), title_of(second), (len(a), len(b)), THRESHOLD, tuple(pairs))


def _candidates(a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows of `a` and of `b` whose thumbnails resemble one another, `CLOSE` pairs at a time."""

    def thumbnails(pictures: Tensor) -> Tensor:  # unit vectors [n, 768], less the mean colour
        small = F.avg_pool2d(pictures.float(), SIDE // THUMBNAIL)
        return F.normalize((small - small.mean((2, 3), keepdim=True)).flatten(1), eps=1)

    blocks = [thumbnails(part) for part in a.split(COLUMNS)]
    with tqdm(desc="comparing", total=len(b), unit=" pictures") as bar:
        for start, part in zip(range(0, len(b), ROWS), b.split(ROWS), strict=True):
            mine, values, rows = thumbnails(part), [], []
            for k, block in enumerate(blocks):
                best = (mine @ block.T).topk(min(CANDIDATES, len(block)))
                values.append(best.values)
                rows.append(best.indices + k * COLUMNS)
            best = torch.cat(values, 1).topk(min(CANDIDATES, len(a)))
            columns, place = (best.values > PROMISING).nonzero(as_tuple=True)
            if len(columns):
                alike = torch.cat(rows, 1).gather(1, best.indices)[columns, place]
                yield from zip(alike.split(CLOSE), (start + columns).split(CLOSE), strict=True)
            bar.update(len(part))


def aligned_correlation(a: Tensor, b: Tensor) -> Tensor:
    """Return how well the middle of each picture `b` is found in picture `a`, over scales and shifts.

    Of uint8 [n, 3, 32, 32] and the same, float32 [n] in [-1, 1]: the largest correlation, local means removed.
    """
    details = []
    for pictures in (a.float(), b.float()):
        local = pictures
        for _ in range(2):  # means of 7 x 7 pixels, taken twice
            local = F.avg_pool2d(F.pad(local, (3, 3, 3, 3), mode="reflect"), 7, 1)
        details.append(pictures - local)
    a, b = details
    size, edge = max(SCALES), (SIDE - MIDDLE) // 2
    middle = b[..., edge:-edge, edge:-edge]
    middle = F.normalize((middle - middle.mean((2, 3), keepdim=True)).flatten(1), eps=1).view_as(middle)
    spectrum = torch.fft.rfft2(middle, s=(size, size)).conj()
    best = torch.full((len(a),), -1.0)
    for side in SCALES:
        scaled = F.interpolate(a, (side, side), mode="bilinear", antialias=True)
        product = torch.fft.irfft2((torch.fft.rfft2(scaled, s=(size, size)) * spectrum).sum(1), s=(size, size))
        shifts = side - MIDDLE + 1
        both = torch.cat([scaled.square().sum(1, keepdim=True), scaled], 1)  # summed over every window
        sums = F.avg_pool2d(F.avg_pool2d(both, (MIDDLE, 1), 1), (1, MIDDLE), 1) * MIDDLE**2
        energy = sums[:, 0] - sums[:, 1:].square().sum(1) / MIDDLE**2
        correlation = product[:, :shifts, :shifts] / energy.clamp(min=1).sqrt()
        best = torch.maximum(best, correlation.flatten(1).amax(1))
    return best
