"""The atlas of a network: for every map its nine strongest units, as sheets of small pictures with a manifest.

A sheet holds a row for each map: nine projections, then the nine patches that caused them. Each layer has a cover
too, one small picture a map: the filters of layer 1, above it the strongest projections. The pictures in which the
units were found lie beside them, whole and small. `manifest.json` says what stands where, and gives scores,
pictures, places and labels. Browsers read these files; nothing else is needed.
"""

from .manifest import FORMAT, MANIFEST, SHOWN, TILE, is_atlas, read_manifest
from .writing import write_atlas

__all__ = ["FORMAT", "MANIFEST", "SHOWN", "TILE", "is_atlas", "read_manifest", "write_atlas"]
