"""The manifest of an atlas: what it says of the network, and how it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..files import SUMS, ZfnetError, check
from ..specs import ArchSpec, Conv, Shape

FORMAT = 3
TILE, SHOWN, ROWS = 64, 9, 32
"""Side of a small picture in pixels, units of each map, and maps on a sheet."""

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return an atlas's manifest.

    Raises:
        ZfnetError: There is no atlas, or it is damaged.
    """
    try:
        check(folder)
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["format"] != FORMAT:
            raise ValueError(f"its format is {manifest['format']}, not {FORMAT}")
        outside = [name for name in _files(manifest) if ".." in Path(name).parts or Path(name).is_absolute()]
        if outside:
            raise ValueError(f"{outside[0]!r} lies outside it")
        missing = [name for name in _files(manifest) if not (folder / name).exists()]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return manifest
    except (OSError, ValueError, KeyError, TypeError) as error:
        repair = f"write it with: zfnet atlas NETWORK --out {folder}"
        raise ZfnetError(f"{folder} holds no atlas ({error}); {repair}") from error


def is_atlas(folder: Path) -> bool:
    """Tell whether a folder holds an atlas, be it a damaged one."""
    sums = folder / SUMS
    return (folder / MANIFEST).exists() or (sums.exists() and MANIFEST in sums.read_text(errors="replace"))


def _files(manifest: dict[str, Any]) -> Iterator[str]:
    """Yield the name of every picture file that a manifest speaks of."""
    for layer in manifest["layers"]:
        yield from layer["sheets"]
        yield layer["cover"]["sheet"]
    for source in manifest["sources"]:
        yield source["file"]


def described(spec: ArchSpec, side: int) -> list[dict[str, Any]]:
    """Return a network's layers as plain values, with the sides of their maps for an input of `side` pixels.

    Example:
        >>> from zfnet_lib.specs import ZFNET
        >>> described(ZFNET, 224)[0]["side"], [layer["name"] for layer in described(ZFNET, 224)][5:]
        (110, ['fc6', 'fc7', 'fc8'])
    """
    shapes = spec.features().shapes(side, side)
    above = spec.layers[len(spec.convs) :]
    return [_convolution(conv, shapes) for conv in spec.convs] + [
        {"name": layer.name, "units": layer.units} for layer in above
    ]


def _convolution(conv: Conv, shapes: dict[str, Shape]) -> dict[str, Any]:
    facts = {"name": conv.name, "maps": conv.maps, "side": shapes[conv.name][1]}
    facts |= {"kernel": conv.kernel, "stride": conv.stride, "groups": conv.groups}
    if conv.pool:
        facts |= {"pool": conv.pool.size, "pooled": shapes[conv.pool_name][1]}
    return facts
