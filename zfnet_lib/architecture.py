"""Architectures as data: Fig. 3, Krizhevsky's replica, every row of Table 2, and the arithmetic of their sizes.

Nothing here imports torch: sizes, parameters and multiply-accumulates follow from the values alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from math import ceil, prod, sqrt
from numbers import Integral, Real
from typing import Any, NamedTuple

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


# What a unit can see: receptive fields, strides and exact input windows, by arithmetic alone.


class Unit(NamedTuple):
    """One unit: which picture of a batch, which layer, which map, and where in the map."""

    image: int
    layer: str
    map: int
    row: int
    column: int


class Box(NamedTuple):
    """A rectangle of pixels: rows top … bottom - 1, columns left … right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    def clipped(self, height: int, width: int) -> Box:
        """Return the part that lies inside a picture of this size."""
        return Box(max(self.top, 0), max(self.left, 0), min(self.bottom, height), min(self.right, width))


@dataclass(frozen=True)
class Field:
    """The receptive field of a layer's units along one axis, in pixels.

    Attributes:
        size: Side of the field.
        stride: Distance between the fields of neighbouring units.
        offset: First pixel of the field of unit 0; negative where padding lies in it.
    """

    size: int
    stride: int
    offset: int

    def box(self, row: int, column: int) -> Box:
        """Return the whole field of a unit; near the border it reaches over the picture's edge."""
        top, left = (self.offset + self.stride * n for n in (row, column))
        return Box(top, left, top + self.size, left + self.size)


def steps_below(spec: ArchSpec, layer: str) -> Iterator[tuple[str, int, int, int]]:
    """Yield (name, kernel, stride, padding) of every filter and pool from the picture up to a layer or pool.

    Raises:
        SpecError: No such layer, or one without maps.
    """
    for conv in spec.convs:
        yield conv.name, conv.kernel, conv.stride, conv.padding
        if conv.name == layer:
            return
        if conv.pool:
            yield conv.pool_name, conv.pool.size, conv.pool.stride, 0
            if conv.pool_name == layer:
                return
    raise SpecError(f"{spec.name} has no maps {layer!r}; choose one of {', '.join(_places(spec))}")


def _places(spec: ArchSpec) -> list[str]:
    """Return the names of all layers with maps and of all pools, from the picture upwards."""
    return [name for conv in spec.convs for name in (conv.name, conv.pool and conv.pool_name) if name]


def receptive_field(spec: ArchSpec, layer: str) -> Field:
    """Return the receptive field of a layer's or pool's units.

    Example:
        >>> from zfnet_lib.specs import ZFNET
        >>> receptive_field(ZFNET, "conv5")
        Field(size=139, stride=16, offset=-48)
    """
    size, stride, offset = 1, 1, 0
    for _, kernel, step, padding in steps_below(spec, layer):
        size += (kernel - 1) * stride
        offset -= padding * stride
        stride *= step
    return Field(size, stride, offset)


def receptive_fields(spec: ArchSpec) -> dict[str, Field]:
    """Return the receptive field of every layer with maps and of every pool, from the picture upwards."""
    return {name: receptive_field(spec, name) for name in _places(spec)}


def input_window(
    spec: ArchSpec, layer: str, row: int, column: int, height: int | None = None, width: int | None = None
) -> Box:
    """Return the pixels that can change a unit, exactly, also at borders; empty where it sees only padding.

    Padding and truncated pools are cut off at every layer on the way down, so that no pixel outside
    the window has any influence and every pixel inside can have some.

    Args:
        spec: The architecture.
        layer: `conv1` … or `pool1` ….
        row, column: The unit's position in the layer's maps.
        height, width: Size of the input in pixels; `image_size` by default.

    Raises:
        SpecError: No such layer, or a position outside its maps.

    Example:
        >>> from zfnet_lib.specs import ZFNET
        >>> input_window(ZFNET, "conv5", 0, 12)
        Box(top=0, left=144, bottom=91, right=224)
    """
    shapes = spec.shapes(height, width)
    steps = list(steps_below(spec, layer))
    _, rows, columns = shapes[layer]
    if not (0 <= row < rows and 0 <= column < columns):
        raise SpecError(
            f"{layer} has no unit at row {row}, column {column}; rows end at {rows - 1}, columns at {columns - 1}"
        )
    below = ["input", *(name for name, *_ in steps[:-1])]
    spans = []
    for axis, position in ((1, row), (2, column)):
        first, end = position, position + 1
        for source, (_, kernel, stride, padding) in zip(reversed(below), reversed(steps), strict=True):
            if first >= end:  # nothing but padding is left, and padding sees nothing
                break
            end = min((end - 1) * stride - padding + kernel, shapes[source][axis])
            first = max(first * stride - padding, 0)
        spans.append((first, end))
    (top, bottom), (left, right) = spans
    return Box(top, left, bottom, right)


# What squares on a picture can reach, layer by layer: arithmetic alone.
#
# Rows and columns are independent, so everything here is about one axis. Squares that stand side by side form a
# group and are computed together: each has its own windows, and in a layer all windows of a group are equally wide.

Changed = tuple[int, int]
"""The first position that changes, and the one behind the last."""


class Stretch(NamedTuple):
    """Windows along one axis of a map, all of one width: one for each square of a band, or one for all.

    Attributes:
        first: Where they begin.
        width: Positions in each; the last of them may lie beyond the map.
        side: Positions in the map.
    """

    first: tuple[int, ...]
    width: int
    side: int

    @property
    def inside(self) -> bool:
        """Whether no window reaches beyond the map."""
        return max(self.first) + self.width <= self.side


class Step(NamedTuple):
    """What a group of squares changes in one convolutional layer.

    Attributes:
        below: The inputs that change, and with them some that do not.
        padding: Zeros to put before and behind the changes in `below`.
        maps: The pre-activations that change.
        field: The pre-activations that the next layer's changed inputs depend on; in the last layer all.
        output: What changes for the next layer.
        taps: Products that one filter takes along this axis for one square, those with padding left out.
    """

    below: Stretch
    padding: int
    maps: Stretch
    field: Stretch
    output: Stretch
    taps: int


@dataclass(frozen=True)
class Band:
    """Squares side by side: the pixels they cover, and a step for each convolutional layer."""

    squares: Stretch
    steps: tuple[Step, ...]


class _Layer(NamedTuple):
    """A layer, and what each square changes beneath it, in its maps and in its output, in maps of these sides."""

    conv: Conv
    pool: Pool | None
    sides: tuple[int, int, int]
    below: list[Changed]
    maps: list[Changed]
    output: list[Changed]


@lru_cache(maxsize=32)
def bands(spec: ArchSpec, side: int, corners: Sequence[int], size: int, fixed: int, room: int) -> tuple[Band, ...]:
    """Divide squares along one axis into the groups that cost least, and follow what each group changes.

    Many squares in a group share windows that must be wide enough for all; few call every filter more often.

    Args:
        spec: The architecture.
        side: Rows (or columns) of the picture.
        corners: First row (or column) of every square, ascending.
        size: Side of the squares in pixels.
        fixed: What a call of a filter costs, in applications of the filter.
        room: Values that a layer may have for all squares of a group of rows and a like group of columns.

    Example:
        >>> from zfnet_lib.specs import ZFNET
        >>> (band,) = bands(ZFNET, 224, (96,), 50, fixed=20, room=2**22)
        >>> [step.output.width for step in band.steps]
        [15, 6, 8, 10, 13]
    """
    layers = _layers(spec, side, corners, size)
    best: list[tuple[int, tuple[Band, ...]]] = [(0, ())]
    for end in range(1, len(corners) + 1):
        options = []
        for start in reversed(range(end)):
            steps = tuple(_step(layer, start, end) for layer in layers)
            if options and _values(spec, steps) > room:
                break
            cost, before = best[start]
            band = Band(Stretch(corners[start:end], size, side), steps)
            options.append((cost + _cost(spec, steps, fixed), (*before, band)))
        best.append(min(options, key=lambda option: option[0]))
    return best[-1][1]


def share(spec: ArchSpec, rows: Sequence[Band], columns: Sequence[Band]) -> float:
    """Return how many multiply-accumulates the changes take in all convolutions, as a share of whole passes."""
    part, whole, fan_in = 0.0, 0, spec.fan_in()
    for i, conv in enumerate(spec.convs):
        weights, taps, positions = conv.maps * fan_in[conv.name], 1, 1
        for axis in (rows, columns):
            taps *= sum(len(band.squares.first) * band.steps[i].taps for band in axis)
            positions *= sum(len(band.squares.first) * band.steps[i].maps.side for band in axis)
        part += weights * taps / conv.kernel**2
        whole += weights * positions
    return part / whole


def _cost(spec: ArchSpec, steps: Sequence[Step], fixed: int) -> int:
    """Return what a group costs: multiply-accumulates, as if the other axis were like this one."""
    fan_in, n = spec.fan_in(), len(steps[0].below.first)
    return sum(
        conv.maps * fan_in[conv.name] * (n * step.taps**2 + fixed * conv.kernel**2) // conv.kernel**2
        for conv, step in zip(spec.convs, steps, strict=True)
    )


def _values(spec: ArchSpec, steps: Sequence[Step]) -> int:
    """Return the most values that a layer has for a group of rows and a like group of columns."""
    n = len(steps[0].below.first)
    return max(conv.maps * (n * step.field.width) ** 2 for conv, step in zip(spec.convs, steps, strict=True))


def _layers(spec: ArchSpec, side: int, corners: Sequence[int], size: int) -> list[_Layer]:
    """Follow every square upwards; the maps of the last convolution are wanted whole."""
    layers, below = [], [(corner, corner + size) for corner in corners]
    for conv in spec.convs:
        pool = conv.pool if conv is not spec.convs[-1] else None
        across = conv.side(side)
        top = pool.side(across) if pool else across
        maps = output = [_touched(span, conv.kernel, conv.stride, conv.padding, across) for span in below]
        if pool:
            output = [_touched(span, pool.size, pool.stride, 0, top) for span in maps]
        elif conv is spec.convs[-1]:
            output = [(0, across)] * len(maps)
        layers.append(_Layer(conv, pool, (side, across, top), below, maps, output))
        side, below = top, output
    return layers


def _touched(span: Changed, kernel: int, stride: int, padding: int, side: int) -> Changed:
    """Return which filters or regions see any position of a span; where none does, one that stays as it is."""
    first = min(max((span[0] + padding - kernel) // stride + 1, 0), side - 1)
    end = min((span[1] - 1 + padding) // stride + 1, side)
    return first, max(end, first + 1)


def _step(layer: _Layer, start: int, end: int) -> Step:
    """Give the squares from `start` to `end` windows of equal width, each where its own changes begin."""
    conv, pool = layer.conv, layer.pool
    maps = _stretch(layer.maps[start:end], layer.sides[1])
    field = output = _stretch(layer.output[start:end], layer.sides[2])
    if pool:
        first = tuple(pool.stride * n for n in output.first)
        field = Stretch(first, pool.stride * (output.width - 1) + pool.size, maps.side)
    # What the filters of `maps` see, less the positions at either end that no square changes.
    seen = [conv.stride * n - conv.padding for n in maps.first]
    length = conv.stride * (maps.width - 1) + conv.kernel
    changed = list(zip(seen, layer.below[start:end], strict=True))
    before = min(span[0] - first for first, span in changed)
    behind = min(first + length - span[1] for first, span in changed)
    padding = max(min(before, behind), 0)
    below = Stretch(tuple(first + padding for first in seen), length - 2 * padding, layer.sides[0])
    taps = maps.width * conv.kernel - 2 * sum(range(padding, 0, -conv.stride))
    return Step(below, padding, maps, field, output, taps)


def _stretch(spans: Sequence[Changed], side: int) -> Stretch:
    return Stretch(tuple(first for first, _ in spans), max(end - first for first, end in spans), side)
