"""Writes the browser that needs no kernel: one page, with the tables of atlases beside their sheets.

A page that is opened as a file may neither fetch data nor import modules: browsers count every file as a foreign
origin. Scripts they take, so each table of an atlas becomes a script that hands it to the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atlas import FORMAT, is_atlas, read_manifest
from ..files import ZfnetError, replacing

STATIC = Path(__file__).parent / "static"
"""The page's own sources."""

PAGE, NETWORKS = "index.html", "networks.js"

OF_ENTRIES = ("map", "scores", "images", "places", "boxes")
"""What the page reads of a map; names and labels stand with the pictures."""


def write_browser(
    folder: Path, atlases: Sequence[Path], repair: str, missing: Mapping[str, str] | None = None
) -> Path:
    """Write the page that shows some atlases, and their tables.

    Args:
        folder: Holds the page; the atlases lie in it, or one of them is it.
        atlases: Their folders, in the order in which the page offers them.
        repair: The command that writes all of it again; the page names it where a file is missing.
        missing: Networks that have no atlas here, and why, in one sentence each.

    Returns:
        The page.

    Raises:
        ZfnetError: An atlas is missing or damaged, or the folder holds something else.
    """
    require_own(folder)
    networks = []
    for atlas in atlases:
        manifest = read_manifest(atlas)
        place = atlas.relative_to(folder).as_posix()
        networks.append({"name": manifest["name"], "place": place, "key": manifest["key"]})
        for table, values in _tables(manifest):
            arguments = ", ".join(map(_text, (manifest["key"], table, values)))
            _write(atlas / f"{table}.js", f"zfnet.take({arguments});\n")
    known = {"format": FORMAT, "networks": networks, "missing": dict(missing or {}), "repair": repair}
    _write(folder / NETWORKS, f"zfnet.begin({_text(known)});\n")
    for source in sorted(STATIC.iterdir()):
        _write(folder / source.name, source.read_text())
    return folder / PAGE


def require_own(folder: Path) -> None:
    """Refuse a folder that holds anything but a browser or an atlas."""
    own = (folder / NETWORKS).exists() or is_atlas(folder)
    if folder.is_dir() and not own and any(folder.glob("[!.]*.*")):
        raise ZfnetError(f"{folder} holds something that is no browser; choose another folder for it")


def _tables(manifest: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the tables that the page loads one by one: of the network, and of each layer."""
    layers = [{name: value for name, value in layer.items() if name != "entries"} for layer in manifest["layers"]]
    tables = [("network", {**manifest, "layers": layers})]
    for layer in manifest["layers"]:
        entries = [{name: entry[name] for name in OF_ENTRIES} for entry in layer["entries"]]
        tables.append((layer["layer"], {"entries": entries}))
    return tables


def _text(values: Any) -> str:
    return json.dumps(values, separators=(",", ":"))


def _write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)
