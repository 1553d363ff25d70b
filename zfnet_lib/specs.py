"""Architectures as data: Fig. 3, Krizhevsky's replica, every row of Table 2, and the arithmetic of their sizes.

Nothing here imports torch: sizes, parameters and multiply-accumulates follow from the values alone.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from math import ceil, prod, sqrt
from numbers import Integral, Real
from typing import Any

from .files import ZfnetError


class SpecError(ZfnetError, ValueError):
    """An architecture, layer or size that does not exist or does not fit."""


@dataclass(frozen=True)
class Pool:
    """Max pooling (section 2.1; Fig. 3: 3x3 regions, stride 2).

    Attributes:
        size: Side of a region.
        stride: Distance between regions, at most `size`.
        ceil: Count the last, truncated region too, as cuda-convnet does.
    """

    size: int = 3
    stride: int = 2
    ceil: bool = True

    def side(self, side: int) -> int:
        """Return the side of the pooled map."""
        steps = (side - self.size) / self.stride
        return 1 + (ceil(steps) if self.ceil else int(steps // 1))


@dataclass(frozen=True)
class Norm:
    """Contrast normalisation across maps (section 2): x / (k + alpha/size * sum of squares)^beta.

    Attributes:
        size: Neighbouring maps in the sum.
        alpha, beta, k: Krizhevsky's constants.
        before_pool: Krizhevsky's network normalises before it pools, Fig. 3 after.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    before_pool: bool = False


@dataclass(frozen=True)
class Conv:
    """A convolutional layer: filters, rectification, then optionally pooling and normalisation (section 2).

    Attributes:
        name: `conv1` … `conv5`.
        maps: Feature maps, that is filters.
        kernel, stride, padding: Side of the filter, its step, and zeros on every side, in positions.
        groups: Blocks of maps that see only their own block beneath (Krizhevsky's two GPUs).
        pool, norm: What follows the rectification.
        std: Deviation of the initial weights (section 3).
        ceil: Pad right and bottom until the filters cover everything, as cuda-convnet does.
    """

    name: str
    maps: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    pool: Pool | None = None
    norm: Norm | None = None
    std: float = 0.01
    ceil: bool = True

    def overhang(self, side: int) -> int:
        """Return the zeros added at the right and bottom: (-(N + 2p - k)) mod s, or 0 without `ceil`."""
        return -(side + 2 * self.padding - self.kernel) % self.stride if self.ceil else 0

    def side(self, side: int) -> int:
        """Return the side of the layer's maps over maps of `side` positions (0 where the filter does not fit)."""
        room = side + 2 * self.padding - self.kernel
        return (room + self.overhang(side)) // self.stride + 1 if room >= 0 else 0

    @property
    def pool_name(self) -> str:
        """`pool1` for `conv1`, and for the last layer `conv1_2` of a block."""
        return "pool" + self.name.removeprefix("conv").split("_")[0]


@dataclass(frozen=True)
class Dense:
    """A fully connected layer (Fig. 3: layers 6 and 7, and the softmax).

    Attributes:
        name: `fc6`, `fc7`, `fc8`.
        units: Outputs.
        dropout: Share of its rectified outputs that training drops (section 3: 0.5 on layers 6 and 7).
        std: Deviation of the initial weights (section 3).
    """

    name: str
    units: int
    dropout: float = 0.5
    std: float = 0.01


LARGEST = 10**6
LIMITS = (
    dict.fromkeys(("image_size", "maps", "units", "kernel", "stride", "groups", "size"), (Integral, 1, LARGEST))
    | dict.fromkeys(("classes", "padding"), (Integral, 0, LARGEST))
    | dict.fromkeys(("std", "softmax_std", "alpha", "beta"), (Real, 0, LARGEST))
    | {"dropout": (Real, 0, 0.999), "k": (Real, 1e-6, LARGEST)}
)
"""Kind, least and largest value of every number of an architecture."""


def _require_limits(owner: str, part: ArchSpec | Layer | Pool | Norm | None) -> None:
    """Refuse numbers out of their limits, pools with gaps, and normalisation over an even number of maps."""
    for name, value in vars(part).items() if part else ():
        if name not in LIMITS:
            continue
        kind, least, most = LIMITS[name]
        if not isinstance(value, kind) or not least <= value <= most:
            number = "whole number" if kind is Integral else "number"
            raise SpecError(f"{name} of {owner} is {value!r}; give a {number} from {least:g} to {most:g}")
    if isinstance(part, Pool) and part.stride > part.size:
        raise SpecError(f"the pool of {owner} leaves gaps: give a stride up to {part.size}, not {part.stride}")
    if isinstance(part, Norm) and part.size % 2 == 0:
        raise SpecError(f"the normalisation of {owner} sums over {part.size} maps; give an odd number")


def _least(places: int, size: int, stride: int, ceil: bool) -> int:
    """Return the smallest side on which windows of a size and stride have so many places."""
    return size + (places - 2) * stride + 1 if ceil else size + (places - 1) * stride


Layer = Conv | Dense
Shape = tuple[int, int, int]
"""Maps (or units), rows, columns."""


@dataclass(frozen=True)
class ArchSpec:
    """A network as a value: its layers, its input size and its classes.

    Attributes:
        name: Used in messages, records and file names.
        convs: Convolutional layers from the picture upwards.
        dense: Hidden fully connected layers.
        classes: Outputs of the softmax layer `fc8`; 0 for a network without a classifier.
        image_size: Side in pixels of the square input that the classifier takes.
        softmax_std: Deviation of the initial weights of `fc8`.

    Raises:
        SpecError: A number out of `LIMITS`, or a layer's name that is no file's: it is made of letters, digits,
            `_` and single dots.
    """

    name: str
    convs: tuple[Conv, ...]
    dense: tuple[Dense, ...] = (Dense("fc6", 4096), Dense("fc7", 4096))
    classes: int = 1000
    image_size: int = 224
    softmax_std: float = 0.01

    def __post_init__(self):
        if not self.convs:
            raise SpecError(f"{self.name} has no convolution; give it at least one")
        names = [layer.name for layer in self.layers]
        for name in names:
            if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*", name, re.ASCII):
                raise SpecError(f"a layer cannot be called {name!r}; give it letters, digits, '_' and single dots")
            if names.count(name) > 1:
                raise SpecError(f"{self.name} has two layers called {name!r}; give each a name of its own")
        _require_limits(self.name, self)
        for layer in self.layers:
            for part in (layer, getattr(layer, "pool", None), getattr(layer, "norm", None)):
                _require_limits(layer.name, part)

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers with weights, from the picture upwards; the last is `fc8` where there are classes."""
        softmax = (Dense("fc8", self.classes, 0.0, self.softmax_std),) if self.classes else ()
        return self.convs + self.dense + softmax

    def __getitem__(self, name: str) -> Layer:
        for layer in self.layers:
            if layer.name == name:
                return layer
        known = ", ".join(layer.name for layer in self.layers)
        raise SpecError(f"{self.name} has no layer {name!r}; its layers are {known}")

    def conv(self, name: str) -> Conv:
        """Return a convolutional layer.

        Raises:
            SpecError: No such layer, or a layer without maps.
        """
        layer = self[name]
        if isinstance(layer, Dense):
            known = ", ".join(conv.name for conv in self.convs)
            raise SpecError(f"layer {name!r} of {self.name} has no maps; choose one of {known}")
        return layer

    def without(self, *names: str, name: str | None = None) -> ArchSpec:
        """Return the network without some layers; their neighbours are joined (Table 2, "Removed").

        Example:
            >>> [layer.name for layer in KRIZHEVSKY.without("conv3", "conv4").layers]
            ['conv1', 'conv2', 'conv5', 'fc6', 'fc7', 'fc8']
        """
        for removed in names:
            if self[removed].name == "fc8":
                raise SpecError("the softmax layer fc8 stays; `features()` gives a network without a classifier")
        return replace(
            self,
            name=name or "-".join([self.name, "without", *names]),
            convs=tuple(layer for layer in self.convs if layer.name not in names),
            dense=tuple(layer for layer in self.dense if layer.name not in names),
        )

    def resized(self, name: str | None = None, **widths: int) -> ArchSpec:
        """Return the network with other numbers of maps or units (Table 2, "Adjust").

        Example:
            >>> ZFNET.resized(fc6=2048, fc7=2048)["fc6"].units
            2048
        """
        for layer, width in widths.items():
            if self[layer].name == "fc8" or width < 1:
                raise SpecError(f"{layer}={width}: layers 1 to 7 take a positive width; `classes` sets fc8's")
        return replace(
            self,
            name=name or "-".join([self.name, *(f"{layer}-{width}" for layer, width in widths.items())]),
            convs=tuple(replace(c, maps=widths.get(c.name, c.maps)) for c in self.convs),
            dense=tuple(replace(d, units=widths.get(d.name, d.units)) for d in self.dense),
        )

    def scaled(self, factor: float, image_size: int | None = None, name: str | None = None) -> ArchSpec:
        """Return the network with `factor` times as many maps and units, at another input size if given.

        A narrow network keeps two things of the wide one, and both are the paper's at factor 1. The initial
        deviations grow by sqrt(max(1, fan-in before / fan-in after)), so that activations start at the same scale.
        The odds p / (1 - p) of dropout shrink by the factor, so that its noise is the same share of a sum over
        units: an eighth of the units with half of them dropped would learn from noise eight times as strong.

        Raises:
            SpecError: Maps that a layer's groups cannot share evenly.
        """

        def width(n: int, groups: int = 1) -> int:
            return max(round(n * factor / groups), 1) * groups

        narrow = replace(
            self,
            name=name or f"{self.name}-x{factor:g}",
            convs=tuple(replace(c, maps=width(c.maps, c.groups)) for c in self.convs),
            dense=tuple(replace(d, units=width(d.units)) for d in self.dense),
            image_size=self.image_size if image_size is None else image_size,
        )
        growth = {k: sqrt(max(1.0, n / narrow.fan_in()[k])) for k, n in self.fan_in().items()}

        def dropout(p: float) -> float:
            odds = min(factor, 1) * p / (1 - p)
            return odds / (1 + odds)

        return replace(
            narrow,
            convs=tuple(replace(c, std=c.std * growth[c.name]) for c in narrow.convs),
            dense=tuple(replace(d, std=d.std * growth[d.name], dropout=dropout(d.dropout)) for d in narrow.dense),
            softmax_std=self.softmax_std * growth.get("fc8", 1.0),
        )

    def features(self, upto: str = "") -> ArchSpec:
        """Return the convolutional part alone, up to one of its layers; it runs at any input size."""
        last = self.convs.index(self.conv(upto)) if upto else len(self.convs) - 1
        return replace(self, convs=self.convs[: last + 1], dense=(), classes=0)

    def shapes(self, height: int | None = None, width: int | None = None) -> dict[str, Shape]:
        """Return (maps, rows, columns) of `input` and of every layer and pool, from the picture upwards.

        Args:
            height, width: Size of the input in pixels; `image_size` by default.

        Raises:
            SpecError: The input is smaller than the layers allow.

        Example:
            >>> [ZFNET.shapes()[name][1] for name in ("conv1", "pool1", "conv2", "pool2", "conv5", "pool5")]
            [110, 55, 26, 13, 13, 6]
        """
        rows = self.image_size if height is None else height
        columns = rows if width is None else width
        shapes = {"input": (3, rows, columns)}
        for conv in self.convs:
            rows, columns = conv.side(rows), conv.side(columns)
            shapes[conv.name] = (conv.maps, rows, columns)
            if conv.pool:
                rows, columns = conv.pool.side(rows), conv.pool.side(columns)
                shapes[conv.pool_name] = (conv.maps, rows, columns)
            if min(rows, columns) < 1:
                size = "x".join(str(n) for n in shapes["input"][1:])
                raise SpecError(
                    f"an input of {size} pixels is too small for {self.name}; it needs {self.smallest()}"
                )
        return shapes | {dense.name: (dense.units, 1, 1) for dense in self.layers[len(self.convs) :]}

    def smallest(self) -> int:
        """Return the side in pixels of the smallest input on which every map has a position."""
        side = 1
        for conv in reversed(self.convs):
            if conv.pool:
                side = max(1, _least(side, conv.pool.size, conv.pool.stride, conv.pool.ceil))
            reach = max(conv.kernel, _least(side, conv.kernel, conv.stride, conv.ceil))
            side = max(1, reach - 2 * conv.padding)
        return side

    def fan_in(self) -> dict[str, int]:
        """Return the inputs that one unit of each layer sums over."""
        shapes = self.shapes()
        below, fan_in = shapes["input"], {}
        for layer in self.layers:
            if isinstance(layer, Conv):
                if below[0] % layer.groups or layer.maps % layer.groups:
                    raise SpecError(
                        f"{layer.name} of {self.name}: {below[0]} to {layer.maps} maps "
                        f"cannot be split into {layer.groups} groups"
                    )
                fan_in[layer.name] = below[0] // layer.groups * layer.kernel**2
                below = shapes[layer.pool_name if layer.pool else layer.name]
            else:
                fan_in[layer.name] = prod(below)
                below = shapes[layer.name]
        return fan_in

    def parameters(self) -> dict[str, int]:
        """Return the number of weights and biases of each layer.

        Example:
            >>> sum(ZFNET.parameters().values())
            62357608
        """
        shapes, fan_in = self.shapes(), self.fan_in()
        return {layer.name: (fan_in[layer.name] + 1) * shapes[layer.name][0] for layer in self.layers}

    def macs(self) -> dict[str, int]:
        """Return the multiply-accumulates of each layer for one picture, biases and pools not counted."""
        shapes, fan_in = self.shapes(), self.fan_in()
        return {layer.name: fan_in[layer.name] * prod(shapes[layer.name]) for layer in self.layers}

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ArchSpec:
        """Rebuild a spec from `to_dict`.

        Raises:
            SpecError: Fields are missing, unknown, or no sizes.
        """
        try:
            convs = tuple(
                Conv(
                    **conv
                    | {
                        "pool": None if conv["pool"] is None else Pool(**conv["pool"]),
                        "norm": None if conv["norm"] is None else Norm(**conv["norm"]),
                    }
                )
                for conv in values["convs"]
            )
            dense = tuple(Dense(**dense) for dense in values["dense"])
            spec = cls(**values | {"convs": convs, "dense": dense})
            spec.fan_in()
            return spec
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise SpecError(f"this is no architecture of zfnet_lib: {error}") from error


ZFNET = ArchSpec(
    "zfnet",
    (
        Conv("conv1", 96, 7, stride=2, pool=Pool(), norm=Norm()),
        Conv("conv2", 256, 5, stride=2, pool=Pool(), norm=Norm()),
        Conv("conv3", 384, 3, padding=1),
        Conv("conv4", 384, 3, padding=1),
        Conv("conv5", 256, 3, padding=1, pool=Pool()),
    ),
)
"""The paper's network, exactly Fig. 3."""

KRIZHEVSKY = ArchSpec(
    "krizhevsky",
    (
        Conv("conv1", 96, 11, stride=4, pool=Pool(), norm=Norm(before_pool=True)),
        Conv("conv2", 256, 5, padding=2, groups=2, pool=Pool(), norm=Norm(before_pool=True)),
        Conv("conv3", 384, 3, padding=1),
        Conv("conv4", 384, 3, padding=1, groups=2),
        Conv("conv5", 256, 3, padding=1, groups=2, pool=Pool()),
    ),
)
"""The replica of Krizhevsky et al. [18] that Tables 1 and 2 start from."""

NARROW = 1 / 8
"""Width of the smoke profile's networks, as a share of the paper's."""

MINI = replace(ZFNET, classes=16).scaled(NARROW, image_size=64, name="mini")
"""`ZFNET`, narrow, at 64 pixels: for tests and the smoke profile."""


def _stem(spec: ArchSpec, kernel: int) -> ArchSpec:
    """Return `spec` with another filter size in layer 1 and nothing else changed."""
    first = replace(spec.convs[0], kernel=kernel)
    return replace(spec, name=f"{spec.name}-{kernel}x{kernel}", convs=(first, *spec.convs[1:]))


def _named(*specs: ArchSpec) -> dict[str, ArchSpec]:
    return {spec.name: spec for spec in specs}


_wide = {"conv3": 512, "conv4": 1024, "conv5": 512}
TABLE_2 = _named(
    KRIZHEVSKY,
    KRIZHEVSKY.without("conv3", "conv4", name="krizhevsky-without-3-4"),
    KRIZHEVSKY.without("fc7", name="krizhevsky-without-7"),
    KRIZHEVSKY.without("fc6", "fc7", name="krizhevsky-without-6-7"),
    KRIZHEVSKY.without("conv3", "conv4", "fc6", "fc7", name="krizhevsky-without-3-4-6-7"),
    KRIZHEVSKY.resized("krizhevsky-fc-2048", fc6=2048, fc7=2048),
    KRIZHEVSKY.resized("krizhevsky-fc-8192", fc6=8192, fc7=8192),
    ZFNET,
    ZFNET.resized("zfnet-fc-2048", fc6=2048, fc7=2048),
    ZFNET.resized("zfnet-fc-8192", fc6=8192, fc7=8192),
    ZFNET.resized("zfnet-maps-512-1024-512", **_wide),
    ZFNET.resized("zfnet-fc-8192-maps-512-1024-512", fc6=8192, fc7=8192, **_wide),
)
"""Every row of Table 2, in its order, under the names that `zfnet train` takes."""

STEMS = _named(_stem(ZFNET, 11), _stem(KRIZHEVSKY, 7))
"""The crossed stems: each differs from its base in the filter size of layer 1 alone."""

ARCHITECTURES = TABLE_2 | STEMS | _named(MINI)
"""All named architectures."""


def architecture(name: str) -> ArchSpec:
    """Return a named architecture.

    Raises:
        SpecError: Unknown name; the message lists the known ones.
    """
    if name not in ARCHITECTURES:
        raise SpecError(f"there is no architecture {name!r}; known are {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[name]
