"""Packs: a data set decoded once into one memory-mapped array of squares, from which training reads slices.

Pictures are stored at their own size where that is small and enlarged as they are read: a batch of 128 costs about
5 ms on two cores, a hundredth of a training step.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..architecture import Box
from ..files import alone, check, data_root, is_there, notice, put, seal
from ..images import PictureError, resize_short_side
from ..machine import cores, in_processes
from .fetch import require_room
from .samples import DataError, Dataset, MissingDataError, Sample, check_labels, pixel_hash
from .table import DATASETS, dataset_entry, fetched_archive, file_name, open_dataset

# What a pack holds beside its pixels, and what of it grows with the pictures: their rows in the data set, their
# names, labels and boxes (left, top, right, bottom), and row and reason of what cannot be read.
INDEX, ROWS = "index.json", ("rows", "names", "labels", "boxes", "left_out")
CHUNK = 256  # pictures that are decoded, written and noted at a time: the most that an interruption costs


class Pack(Dataset):
    """A packed data set; its items are `Sample`s of squares."""

    def __init__(self, index: dict, pictures: Tensor):
        self.index, self.pictures = index, pictures  # uint8 [n, 3, side, side], memory-mapped where it is on disk
        self.name, self.split, self.origin, self.side = (index[key] for key in ("name", "split", "origin", "side"))
        self.classes, self.names, self.left_out = tuple(index["classes"]), index["names"], index["left_out"]
        several = bool(index["labels"]) and isinstance(index["labels"][0], list)
        self.labels = check_labels(np.array(index["labels"], np.int8 if several else np.int64), len(self.classes))

    def sample(self, i: int) -> Sample:
        """Return square i."""
        box = self.index["boxes"][i]
        if box:
            left, top, right, bottom = box
            box = Box(top, left, bottom, right)
        return Sample(self.pictures[i], self.label(i), box, name=self.names[i])

    def content(self) -> str:
        """Return the hash of the pixels."""
        return self.index["content"]

    def batch(self, rows: Sequence[int] | Tensor, side: int | None = None) -> Tensor:
        """Return some squares, enlarged or reduced to `side` pixels: uint8 [k, 3, side, side]."""
        return resize_short_side(self.pictures[rows], side or self.side)

    def mean(self, side: int | None = None, rows: Sequence[int] | None = None) -> Tensor:
        """Return the per-pixel mean (section 3) over some or all squares, float32 [3, side, side] in [0, 255]."""
        rows, side = torch.arange(len(self)) if rows is None else torch.as_tensor(rows), side or self.side
        total = np.zeros((3, side, side), np.int64)
        for part in rows.split(CHUNK):
            total += self.batch(part, side).numpy().sum(0, dtype=np.uint32)
        return torch.from_numpy(total / len(rows)).float()

    def verify(self) -> None:
        """Compare the pixels with the hash that was taken when they were packed; a second a gigabyte."""
        if pixel_hash(self.pictures.split(CHUNK)) != self.index["content"]:
            folder = f"{data_root() / 'packs'}/{file_name(self.name)}-{self.split}-…"
            raise DataError(
                f"the pack of {self.name} {self.split} is damaged; remove {folder} and run: zfnet pack {self.name}"
            )


def pack_dataset(
    name: str, split: str = "train", side: int | None = None, *, workers: int | None = None, progress: bool = True
) -> Pack:
    """Decode a data set into a pack, or continue where an earlier attempt stopped; one that is there is checked.

    Every picture is resized to a shorter side of `side`, by default the table's, and its centre square is kept
    (section 3). Pictures that cannot be read are left out; the index names them, and so does a warning. Processes
    decode, by default one for each core. Errors are `DataError` and `UnwritableError`.
    """
    (folder, side), dataset = _place(name, split, side), open_dataset(name, split)

    def packed() -> bool:  # a whole pack of these very pictures; every pixel is checked
        try:
            return is_there(folder) and whole_pack(folder).index["source"] == dataset.fingerprint
        except DataError as damage:
            notice(f"{damage}; packing again")
            return False

    if not packed():
        try:
            with alone(folder.parent):
                if not packed():
                    _make(dataset, side, folder, workers, progress)
        except OSError as error:
            raise DataError(
                f"cannot write {folder}: {error.strerror or error}; free space and run zfnet pack {name} again"
            ) from error
    pack = open_pack(name, split, side)
    if pack.left_out:
        named = ", ".join(dataset.names[row] for row, _ in pack.left_out[:5]) + " …" * (len(pack.left_out) > 5)
        notice(f"pictures of {name} {split} that cannot be read are left out: {len(pack.left_out)}, {named}")
    return pack


def _make(dataset: Dataset, side: int, folder: Path, workers: int | None, progress: bool) -> None:
    """Pack beside the place, and move there what is whole.

    The pixels of a chunk are written before the line that notes it. Whoever continues takes up the chunks that are
    noted, and cuts off what was written after the last of them; where pixels of these were lost, all begins anew.
    """
    draft, index = folder.with_name(f".{folder.name}.part"), _begun(dataset, side)
    pictures, notes = draft / "pictures.bin", draft / "chunks.jsonl"
    title = json.dumps([index["source"], side]) + "\n"
    draft.mkdir(parents=True, exist_ok=True)
    lines = notes.read_text().splitlines(keepends=True) if notes.exists() else []
    lines = [line for line in lines if line.endswith("\n")] if lines[:1] == [title] else [title]
    for line in lines[1:]:
        _extend(index, json.loads(line))
    pictures.touch()
    if pictures.stat().st_size < len(index["rows"]) * 3 * side**2:  # `truncate` would fill up with black pictures
        lines, index = [title], _begun(dataset, side)
    notes.write_text("".join(lines))
    os.truncate(pictures, len(index["rows"]) * 3 * side**2)
    done = len(index["rows"]) + len(index["left_out"])
    room = (len(dataset) - done) * 3 * side**2
    require_room(folder, room, f"packing {dataset.name} {dataset.split} at {side} pixels")
    for squares, chunk in _chunks(dataset, side, done, workers, progress):
        with pictures.open("ab") as file:
            file.write(squares.numpy().data)
        with notes.open("a") as file:
            file.write(json.dumps(chunk) + "\n")
        _extend(index, chunk)
    if not index["rows"]:
        reason = index["left_out"][0][1]
        raise DataError(f"{dataset.name} {dataset.split} has no picture that can be read: {reason}")
    index["content"] = pixel_hash(_mapped(pictures, len(index["rows"]), side).split(CHUNK))
    (draft / INDEX).write_text(json.dumps(index))
    seal(draft, INDEX)  # the hash of the pixels stands in the index
    put(draft, folder)
    (folder / notes.name).unlink()


def pack_in_memory(dataset: Dataset, side: int, *, workers: int | None = 0, progress: bool = False) -> Pack:
    """Pack a small data set without touching the disk; without workers it is decoded here."""
    index, squares = _begun(dataset, side), []
    for part, chunk in _chunks(dataset, side, 0, workers, progress):
        squares.append(part)
        _extend(index, chunk)
    return Pack(index | {"content": pixel_hash(squares)}, torch.cat(squares))


def open_pack(name: str, split: str = "train", side: int | None = None) -> Pack:
    """Open a pack that `pack_dataset` made; the data set itself need not be there."""
    folder, side = _place(name, split, side)
    if not is_there(folder):
        raise MissingDataError(
            f"{name} {split} is not packed at {side} pixels in {folder.parent}; run: zfnet pack {name}"
        )
    pack = whole_pack(folder, verify=False)
    archive = fetched_archive(name) if name in DATASETS else ""
    if archive not in ("", pack.origin):
        raise DataError(f"{name} was packed from {pack.origin}, and is here from {archive}; run: zfnet pack {name}")
    return pack


def whole_pack(folder: Path, verify: bool = True) -> Pack:
    """Open a pack and check its index, and every pixel."""
    try:
        check(folder, INDEX)
        index = json.loads((folder / INDEX).read_text())
        pack = Pack(index, _mapped(folder / "pictures.bin", len(index["rows"]), index["side"]))
    except DataError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"the pack {folder} is damaged ({error}); remove it and pack again") from error
    if verify:
        pack.verify()
    return pack


def _place(name: str, split: str, side: int | None) -> tuple[Path, int]:
    """Return where a pack lies, `<data root>/packs/<name>-<split>-<side>`, and its side."""
    side = dataset_entry(name).side if side is None else side
    if side < 2:  # torch resizes to one pixel by no rule
        raise DataError(f"the side of a pack is at least 2 pixels; given {side}")
    return data_root() / "packs" / f"{file_name(name)}-{split}-{side}", side


def _mapped(path: Path, n: int, side: int) -> Tensor:
    """Map a file of squares into memory: uint8 [n, 3, side, side]."""
    size, needed = path.stat().st_size if path.exists() else 0, n * 3 * side * side
    if size != needed:
        raise DataError(f"{path} has {size} bytes instead of {needed}; remove its folder and pack again")
    return torch.from_file(str(path), size=needed, dtype=torch.uint8).view(n, 3, side, side)


def _begun(dataset: Dataset, side: int) -> dict:
    """Return the index of a pack without pictures yet."""
    facts = {"name": dataset.name, "split": dataset.split, "origin": dataset.origin}
    facts |= {"classes": list(dataset.classes), "source": dataset.fingerprint, "side": side}
    return facts | {key: [] for key in ROWS}


def _extend(index: dict, chunk: dict) -> None:
    for key in ROWS:
        index[key] += chunk[key]


def _chunks(
    dataset: Dataset, side: int, start: int, workers: int | None, progress: bool
) -> Iterator[tuple[Tensor, dict]]:
    """Decode in the data set's order: squares [k, 3, side, side] and their rows of the index."""
    parts = [range(i, min(i + CHUNK, len(dataset))) for i in range(start, len(dataset), CHUNK)]
    found = in_processes(partial(_decoded, dataset, side), parts, cores() if workers is None else workers)
    about = {"desc": f"packing {dataset.name} {dataset.split}", "unit": " pictures", "delay": 1}
    with tqdm(total=len(dataset), initial=start, disable=not progress, **about) as bar:
        for part, (squares, chunk) in zip(parts, found, strict=True):
            yield torch.from_numpy(squares), chunk
            bar.update(len(part))


def _decoded(dataset: Dataset, side: int, rows: range) -> tuple[np.ndarray, dict]:
    squares, chunk = np.empty((len(rows), 3, side, side), np.uint8), {key: [] for key in ROWS}
    for row in rows:
        try:
            sample = dataset[row].squared(side)
        except PictureError as error:
            chunk["left_out"].append((row, str(error)))
            continue
        squares[len(chunk["rows"])] = sample.picture.numpy()
        box = sample.box and [sample.box.left, sample.box.top, sample.box.right, sample.box.bottom]
        for key, value in zip(ROWS, (row, sample.name, dataset.labels[row].tolist(), box), strict=False):
            chunk[key].append(value)
    return squares[: len(chunk["rows"])], chunk
