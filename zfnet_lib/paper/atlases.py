"""Atlases by name: what `zfnet atlas` and the book write for the browsers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..browser.atlas import write_atlas
from ..browser.pages import require_own, write_browser
from ..files import ZfnetError
from .setting import class_names, dense_side, network_of, pictures_of, searches

PROFILE = "tiny"
"""Atlases are of its networks: those that are shipped, fetched or trained here."""


def microscope(
    networks: Sequence[str], pictures: str, folder: Path, *, side: int = 0, maps: int = 0, progress: bool = False
) -> Path:
    """Write the atlases of some networks over one data set, and a browser that shows them, in one folder."""
    places = {Path(network).name: network for network in networks}
    if len(places) < len(networks):
        raise ZfnetError(f"two of {', '.join(networks)} have the same name; give each network once")
    atlases = {name: folder if len(places) == 1 else folder / name for name in places}
    require_own(folder)
    for name, place in atlases.items():
        network_atlas(places[name], pictures, place, side=side, maps=maps, progress=progress)
    repair = f"zfnet atlas {' '.join(networks)} --pictures {pictures} --out {folder}"
    return write_browser(folder, list(atlases.values()), repair)


def network_atlas(
    network: str, pictures: str, folder: Path, *, side: int = 0, maps: int = 0, progress: bool = False
) -> Path:
    """Write the atlas of a network over a data set, both by name; arguments as of `microscope`."""
    net, dataset = network_of(PROFILE, network), pictures_of(PROFILE, pictures, dense=True)
    return write_atlas(
        net,
        dataset,
        folder,
        name=Path(network).name,
        side=side or dense_side(PROFILE, net, dataset),
        maps=maps,
        classes=class_names(PROFILE, network),
        searches=searches(),
        progress=progress,
    )
