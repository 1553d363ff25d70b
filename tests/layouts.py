"""Small data sets in the layouts of the real ones, made of random pictures; notebooks and kernels."""

import io
import json
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image


def names(folder: Path) -> list[str]:
    """Return the paths of everything below a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_picture(path: Path, seed: int, height: int = 24, width: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    Image.fromarray(pixels).resize((width, height), Image.BICUBIC).save(path, quality=95)


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def class_folders(root: Path, folders: list[str], n: int, pattern: str = "image_{:04d}.jpg") -> None:
    for label, folder in enumerate(folders):
        for i in range(1, n + 1):
            write_picture(root / folder / pattern.format(i), 100 * label + i)


def tiny_imagenet(root: Path) -> None:
    wnids = ["n02", "n01"]
    for wnid in wnids:
        class_folders(root / "train" / wnid, ["images"], 3, f"{wnid}_{{}}.JPEG")
    (root / "wnids.txt").write_text("\n".join(wnids) + "\n")
    (root / "words.txt").write_text("n01\ttench, Tinca tinca\nn02\tcat\nn03\tdog\n")
    rows = []
    for i, wnid in enumerate(["n02", "n01", "n02"]):
        write_picture(root / f"val/images/val_{i}.JPEG", 50 + i, 64, 64)
        rows.append(f"val_{i}.JPEG\t{wnid}\t{i}\t2\t{10 + i}\t63")
    (root / "val/val_annotations.txt").write_text("\n".join(rows) + "\n")


def voc(root: Path, classes: tuple[str, ...]) -> None:
    """Two training pictures and one for validation; the first shows a dog, the last is too hard to tell."""
    signs = {"train": [("2007_01", 1), ("2007_02", -1)], "val": [("2007_03", 0)]}
    signs["trainval"] = signs["train"] + signs["val"]
    for split, rows in signs.items():
        for name in classes:
            lines = [f"{picture} {sign if name == 'dog' else -1:2d}" for picture, sign in rows]
            path = root / f"ImageSets/Main/{name}_{split}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
    for seed, (picture, _) in enumerate(signs["trainval"]):
        write_picture(root / f"JPEGImages/{picture}.jpg", seed)


def write_notebook(path: Path, *cells: str, parameters: str) -> None:
    """Write a notebook with a title, parameters and other cells."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    new = nbformat.v4.new_code_cell
    first = new(parameters, metadata={"tags": ["parameters", "hide-input"]})
    all_cells = [nbformat.v4.new_markdown_cell(f"# {path.stem}\n\n**Run time.** Seconds."), first, *map(new, cells)]
    nbformat.write(nbformat.v4.new_notebook(metadata={"kernelspec": kernel}, cells=all_cells), path)


def foreign_kernel(folder: Path) -> str:
    """Write a kernelspec `python3` of another environment, which starts nothing; return its `JUPYTER_PATH`."""
    (folder / "kernels/python3").mkdir(parents=True)
    spec = {"argv": ["/elsewhere/bin/python", "{connection_file}"], "display_name": "other", "language": "python"}
    (folder / "kernels/python3/kernel.json").write_text(json.dumps(spec))
    return str(folder)
