"""The strongest units of every map as a result: what it holds, and its file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .deconv import Unit
from .files import ZfnetError, check, storing


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
