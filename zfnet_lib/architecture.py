"""Architectures as data: Fig. 3, every row of Table 2, their sizes and receptive fields by arithmetic."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice, pairwise
from math import lcm, prod, sqrt
from numbers import Integral, Real
from typing import Any, NamedTuple

from .files import ZfnetError


class SpecError(ZfnetError, ValueError):
    """An architecture, layer or size that does not exist or does not fit."""


class Sliding:
    """What filters and pools have in common: `kernel` positions at every `stride`, along one axis."""

    kernel: Any  # int
    stride: int
    padding: int  # zeros before the first position
    ceil: bool

    def side(self, side: int) -> int:
        """Return how many outputs stand over `side` positions; with `ceil` the last one may reach over the end."""
        room = side + 2 * self.padding - self.kernel
        return 1 + (-(-room // self.stride) if self.ceil else room // self.stride)

    def reads(self, first: int, end: int) -> tuple[int, int]:
        """Return the positions that outputs first … end - 1 read, padding included, as first and end."""
        return first * self.stride - self.padding, (end - 1) * self.stride - self.padding + self.kernel

    def reaches(self, first: int, end: int) -> tuple[int, int]:
        """Return the outputs that read any of the positions first … end - 1, as first and end; maybe none."""
        return (first + self.padding - self.kernel) // self.stride + 1, (end - 1 + self.padding) // self.stride + 1


@dataclass(frozen=True)
class Pool(Sliding):
    """Max pooling over regions of `size` at every `stride` (section 2.1); with `ceil` the last may be truncated."""

    size: int = 3
    stride: int = 2
    ceil: bool = True

    padding = 0
    kernel = property(lambda pool: pool.size)


@dataclass(frozen=True)
class Norm:
    """Contrast normalisation over `size` neighbouring maps (section 2): x / (k + alpha/size * sum x^2)^beta."""

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    before_pool: bool = False


@dataclass(frozen=True)
class Conv(Sliding):
    """A convolutional layer: filters, rectification, then optionally pooling and normalisation (section 2).

    With `ceil` zeros are added right and bottom until the filters cover everything, as in cuda-convnet. Maps of one
    of the `groups` see only their own block beneath. `std` is the deviation of the initial weights (section 3).
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

    def side(self, side: int) -> int:
        """Return the side of the layer's maps over maps of `side` positions (0 where the filter does not fit)."""
        return super().side(side) if side + 2 * self.padding >= self.kernel else 0

    def overhang(self, side: int) -> int:
        """Return the zeros added at the right and bottom: (-(N + 2p - k)) mod s, or 0 without `ceil`."""
        return -(side + 2 * self.padding - self.kernel) % self.stride if self.ceil else 0

    @property
    def pool_name(self) -> str:
        """`pool1` for `conv1`, and for the last layer `conv1_2` of a block."""
        return "pool" + self.name.removeprefix("conv").split("_")[0]


@dataclass(frozen=True)
class Dense:
    """A fully connected layer (Fig. 3: layers 6, 7, `fc8`); training drops the share `dropout` of its outputs."""

    name: str
    units: int
    dropout: float = 0.5
    std: float = 0.01


Shape = tuple[int, int, int]  # maps (or units), rows, columns

LIMITS: dict[str, tuple[type, Any, Any]] = (
    dict.fromkeys(("image_size", "maps", "units", "kernel", "stride", "groups", "size"), (Integral, 1, 10**6))
    | dict.fromkeys(("classes", "padding"), (Integral, 0, 10**6))
    | dict.fromkeys(("std", "softmax_std", "alpha", "beta"), (Real, 0, 10**6))
    | {"dropout": (Real, 0, 0.999), "k": (Real, 1e-6, 10**6)}
)  # kind, least and largest value of every number of an architecture


@dataclass(frozen=True)
class ArchSpec:
    """A network as a value: its layers from the picture upwards, its input size in pixels and its classes.

    The softmax layer `fc8` stands on top of the hidden layers `dense`, unless there are 0 classes: no classifier.
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
        for name in ("convs", "dense"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        names = [layer.name for layer in self.layers]
        parts: list[tuple[str, Any]] = [(self.name, self)]
        for layer in self.layers:
            name = layer.name
            if not isinstance(name, str) or not re.fullmatch(r"\w+(\.\w+)*", name, re.ASCII):
                raise SpecError(f"a layer cannot be called {name!r}; give it letters, digits, '_' and single dots")
            if names.count(name) > 1:
                raise SpecError(f"{self.name} has two layers called {name!r}; give each a name of its own")
            parts += [(name, part) for part in (layer, *(vars(layer).get(key) for key in ("pool", "norm"))) if part]
        for owner, part in parts:
            for name in [name for name in vars(part) if name in LIMITS]:
                value, (kind, least, most) = vars(part)[name], LIMITS[name]
                if not isinstance(value, kind) or not least <= value <= most:
                    number = "whole number" if kind is Integral else "number"
                    raise SpecError(f"{name} of {owner} is {value!r}; give a {number} from {least:g} to {most:g}")
            if isinstance(part, Pool) and part.stride > part.size:
                raise SpecError(f"the pool of {owner} leaves gaps; give a stride of at most {part.size}")
            if isinstance(part, Norm) and part.size % 2 == 0:
                raise SpecError(f"the normalisation of {owner} sums over {part.size} maps; give an odd number")

    @property
    def layers(self) -> tuple[Conv | Dense, ...]:
        """All layers with weights, from the picture upwards; the last is `fc8` where there are classes."""
        softmax = (Dense("fc8", self.classes, 0.0, self.softmax_std),) if self.classes else ()
        return self.convs + self.dense + softmax

    def __getitem__(self, name: str) -> Conv | Dense:
        found = {layer.name: layer for layer in self.layers}
        if name not in found:
            raise SpecError(f"{self.name} has no layer {name!r}; its layers are {', '.join(found)}")
        return found[name]

    def conv(self, name: str) -> Conv:
        """Return a convolutional layer; a layer without maps is an error."""
        layer = self[name]
        if isinstance(layer, Dense):
            known = ", ".join(conv.name for conv in self.convs)
            raise SpecError(f"layer {name!r} of {self.name} has no maps; choose one of {known}")
        return layer

    def without(self, *names: str, name: str | None = None) -> ArchSpec:
        """Return the network without some layers, and without the pools that follow these (Table 2, "Removed").

        Their neighbours are joined: without conv5 and its pool, fc6 reads four times as many values.
        """
        if "fc8" in [self[removed].name for removed in names]:
            raise SpecError("the softmax layer fc8 stays; `features()` gives a network without a classifier")
        numbers = [removed.removeprefix("conv").removeprefix("fc") for removed in names]
        name = name or "-".join([self.name, "without", *numbers])
        convs = tuple(layer for layer in self.convs if layer.name not in names)
        dense = tuple(layer for layer in self.dense if layer.name not in names)
        return replace(self, name=name, convs=convs, dense=dense)

    def resized(self, name: str | None = None, **widths: int) -> ArchSpec:
        """Return the network with other numbers of maps or units (Table 2, "Adjust"): `resized(fc6=2048)`."""
        for layer, width in widths.items():
            if self[layer].name == "fc8" or width < 1:
                raise SpecError(f"{layer}={width}: layers 1 to 7 take a positive width; `classes` sets fc8's")
        name = name or "-".join([self.name, *(f"{layer}-{width}" for layer, width in widths.items())])
        convs = tuple(replace(c, maps=widths.get(c.name, c.maps)) for c in self.convs)
        dense = tuple(replace(d, units=widths.get(d.name, d.units)) for d in self.dense)
        return replace(self, name=name, convs=convs, dense=dense)

    def scaled(self, factor: float, image_size: int | None = None, name: str | None = None) -> ArchSpec:
        """Return the network with `factor` times as many maps and units, at another input size if given.

        A narrow network keeps two things of the wide one. The initial deviations grow by
        sqrt(max(1, fan-in before / fan-in after)), so that activations start at the same scale. The odds
        p / (1 - p) of dropout shrink by the factor, so that its noise is the same share of a sum over units.
        """
        widths: dict[str, int] = {}
        for c, above in zip(self.convs, [*self.convs[1:], None], strict=True):
            step = lcm(c.groups, above.groups if above else 1)  # both layers divide the maps into their groups
            widths[c.name] = max(round(c.maps * factor / step), 1) * step
        widths |= {d.name: max(round(d.units * factor), 1) for d in self.dense}
        narrow = self.resized(name or f"{self.name}-x{factor:g}", **widths)
        narrow = replace(narrow, image_size=self.image_size if image_size is None else image_size)
        after, dense = narrow.fan_in(), []
        growth = {layer: sqrt(max(1.0, n / after[layer])) for layer, n in self.fan_in().items()}
        convs = tuple(replace(c, std=c.std * growth[c.name]) for c in narrow.convs)
        for hidden in narrow.dense:
            odds = min(factor, 1) * hidden.dropout / (1 - hidden.dropout)
            dense.append(replace(hidden, std=hidden.std * growth[hidden.name], dropout=odds / (1 + odds)))
        std = self.softmax_std * growth.get("fc8", 1.0)
        return replace(narrow, convs=convs, dense=tuple(dense), softmax_std=std)

    def features(self, upto: str = "") -> ArchSpec:
        """Return the convolutional part alone, up to one of its layers; it runs at any input size."""
        last = self.convs.index(self.conv(upto)) if upto else len(self.convs) - 1
        return replace(self, convs=self.convs[: last + 1], dense=(), classes=0)

    def steps(self, upto: str | None = None) -> dict[str, Conv | Pool]:
        """Return every filter and pool from the picture up to a layer or pool, by default to the last."""
        steps: dict[str, Conv | Pool] = {}
        for conv in self.convs:
            steps |= {conv.name: conv} | ({conv.pool_name: conv.pool} if conv.pool else {})
        if upto not in (None, *steps):
            raise SpecError(f"{self.name} has no maps {upto!r}; choose one of {', '.join(steps)}")
        return steps if upto is None else dict(islice(steps.items(), list(steps).index(upto) + 1))

    def shapes(self, height: int | None = None, width: int | None = None) -> dict[str, Shape]:
        """Return (maps, rows, columns) of `input` and every layer and pool, from the picture upwards (Fig. 3)."""
        rows = self.image_size if height is None else height
        columns = rows if width is None else width
        maps, given, shapes = 3, f"an input of {rows}x{columns} pixels", {"input": (3, rows, columns)}
        for name, step in self.steps().items():
            maps, rows, columns = getattr(step, "maps", maps), step.side(rows), step.side(columns)
            shapes[name] = (maps, rows, columns)
            if min(rows, columns) < 1:
                raise SpecError(f"{given} is too small for {self.name}; it needs {self.smallest()}")
        return shapes | {layer.name: (layer.units, 1, 1) for layer in self.layers if isinstance(layer, Dense)}

    def smallest(self) -> int:
        """Return the side in pixels of the smallest input on which every map has a position."""
        side = 1
        for step in reversed(self.steps().values()):  # with `ceil` all but a layer's first filter may reach over
            over = step.stride - 1 if step.ceil and (side > 1 or isinstance(step, Pool)) else 0
            side = max(1, (side - 1) * step.stride + step.kernel - 2 * step.padding - over)
        return side

    def fan_in(self) -> dict[str, int]:
        """Return the inputs that one unit of each layer sums over."""
        shapes, layers, fan_in = self.shapes(), {layer.name: layer for layer in self.layers}, {}
        for (_, below), (name, _) in pairwise(shapes.items()):
            match layers.get(name):  # none for a pool
                case Dense():
                    fan_in[name] = prod(below)
                case Conv(maps=maps, groups=groups, kernel=kernel):
                    if below[0] % groups or maps % groups:
                        split = f"{below[0]} to {maps} maps cannot be split into {groups} groups"
                        raise SpecError(f"{name} of {self.name}: {split}")
                    fan_in[name] = below[0] // groups * kernel**2
        return fan_in

    def parameters(self) -> dict[str, int]:
        """Return the number of weights and biases of each layer."""
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
        """Rebuild a spec from `to_dict`; anything else is an error."""
        try:
            convs = []
            for conv in values["convs"]:
                pool, norm = (conv[part] and kind(**conv[part]) for part, kind in (("pool", Pool), ("norm", Norm)))
                convs.append(Conv(**conv | {"pool": pool, "norm": norm}))
            spec = cls(**values | {"convs": convs, "dense": [Dense(**each) for each in values["dense"]]})
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

NARROW = 1 / 8  # width of the smoke profile's networks, as a share of the paper's
MINI = replace(ZFNET, classes=16).scaled(NARROW, image_size=64, name="mini")
"""`ZFNET`, narrow, at 64 pixels: for tests and the smoke profile."""

_wide = {"conv3": 512, "conv4": 1024, "conv5": 512}
TABLE_2 = {
    spec.name: spec
    for spec in (
        KRIZHEVSKY,
        KRIZHEVSKY.without("conv3", "conv4"),
        KRIZHEVSKY.without("fc7"),
        KRIZHEVSKY.without("fc6", "fc7"),
        KRIZHEVSKY.without("conv3", "conv4", "fc6", "fc7"),
        KRIZHEVSKY.resized("krizhevsky-fc-2048", fc6=2048, fc7=2048),
        KRIZHEVSKY.resized("krizhevsky-fc-8192", fc6=8192, fc7=8192),
        ZFNET,
        ZFNET.resized("zfnet-fc-2048", fc6=2048, fc7=2048),
        ZFNET.resized("zfnet-fc-8192", fc6=8192, fc7=8192),
        ZFNET.resized("zfnet-maps-512-1024-512", **_wide),
        ZFNET.resized("zfnet-fc-8192-maps-512-1024-512", fc6=8192, fc7=8192, **_wide),
    )
}
"""Every row of Table 2, in its order, under the names that `zfnet train` takes."""

STEMS = {
    name: replace(spec, name=name, convs=(replace(spec.convs[0], kernel=kernel), *spec.convs[1:]))
    for name, spec, kernel in (("zfnet-11x11", ZFNET, 11), ("krizhevsky-7x7", KRIZHEVSKY, 7))
}
"""The crossed stems: each differs from its base in the filter size of layer 1 alone."""

ARCHITECTURES = TABLE_2 | STEMS | {MINI.name: MINI}
"""All named architectures."""


METHODS = ("without", "resized", "scaled")


def architecture(name: str) -> ArchSpec:
    """Return a named architecture, or what methods make of one: `zfnet.without('conv4').scaled(0.5)`.

    The result is called `zfnet-without-conv4-scaled-0.5`, a name that stands for the same expression; what equals a
    named network has its name.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    based = (known for known in ARCHITECTURES if name.startswith((f"{known}.", f"{known}-")))
    base = max(based, key=len, default=name)
    try:
        spec, calls = ARCHITECTURES[base], _calls(name.removeprefix(base))
    except (KeyError, ValueError, SyntaxError, MemoryError, RecursionError):
        known = f"{', '.join(ARCHITECTURES)}, and what {', '.join(METHODS)} make of them, such as"
        raise SpecError(f"there is no architecture {name!r}; known are {known} zfnet.without('conv4')") from None
    for method, args, named, suffix in calls:
        try:
            spec = getattr(spec, method)(*args, **named, name=f"{spec.name}-{suffix}")
            spec.fan_in()
        except (TypeError, OverflowError) as error:
            raise SpecError(f"{name} is no architecture ({error}); see `ArchSpec.{method}`") from None
    return next((known for known in ARCHITECTURES.values() if known == replace(spec, name=known.name)), spec)


def _calls(text: str) -> list[tuple[str, list, dict[str, Any], str]]:
    """Return the `METHODS` that a text calls on a network, their arguments, and the words of the result's name.

    Arguments are texts and numbers. `-resized-fc6-2048`, a result's name, stands for the call `.resized(fc6=2048)`.
    """
    if text.startswith("-"):
        first, *parts = re.split(rf"-({'|'.join(METHODS)})-", text)
        text = first
        for method, joined in zip(parts[::2], parts[1::2], strict=True):
            args = re.sub(r"([a-z]\w*)-(?=\d)", r"\1=", joined).split("-")
            text += f".{method}({', '.join(map(repr, args) if method == 'without' else args)})"
    node, calls = ast.parse(f"base{text}", mode="eval").body, []
    while not isinstance(node, ast.Name):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in METHODS):
            raise ValueError(text)
        values = [getattr(each, "value", None) for each in node.args]
        pairs = [(each.arg, getattr(each.value, "value", None)) for each in node.keywords]
        words, named = [*values, *chain(*pairs)], {str(key): value for key, value in pairs}
        plain = all(type(word) in (str, int, float) and "-" not in str(word) for word in words)
        if not words or not plain or "name" in named or len(named) < len(pairs):
            raise ValueError(text)
        calls.append((node.func.attr, values, named, "-".join([node.func.attr, *map(str, words)])))
        node = node.func.value
    return calls[::-1]


class Unit(NamedTuple):
    """One unit: which picture of a batch, which layer, which map, and where in the map."""

    image: int
    layer: str
    map: int
    row: int
    column: int

    @property
    def place(self) -> tuple[int, int, int]:
        """Map, row and column: the unit in any picture."""
        return self.map, self.row, self.column


class Box(NamedTuple):
    """A rectangle of pixels: rows top … bottom - 1, columns left … right - 1."""

    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def seen(cls, fields: tuple[Field, Field], row: int, column: int) -> Box:
        """Return what a unit sees, by the receptive fields of its layer along rows and along columns."""
        down, across = fields
        top, left = down.offset + down.stride * row, across.offset + across.stride * column
        return cls(top, left, top + down.size, left + across.size)

    def clipped(self, height: int, width: int) -> Box:
        """Return the part that lies inside a picture of this size."""
        return Box(max(self.top, 0), max(self.left, 0), min(self.bottom, height), min(self.right, width))


class Field(NamedTuple):
    """The receptive field of a layer's units along one axis, in pixels; at `offset` begins that of unit 0.

    A `stride` of 0 means that every unit sees the whole picture.
    """

    size: int
    stride: int
    offset: int

    def box(self, row: int, column: int) -> Box:
        """Return the whole field of a unit; near the border it reaches over the picture's edge."""
        return Box.seen((self, self), row, column)


def receptive_field(spec: ArchSpec, layer: str) -> Field:
    """Return the receptive field of the units of a layer, or of a pool, along one axis (Fig. 3)."""
    first, end, steps = 0, 1, spec.steps(layer).values()
    for step in reversed(steps):
        first, end = step.reads(first, end)
    return Field(end - first, prod(step.stride for step in steps), first)


class Span(NamedTuple):
    """The positions that a filter or pool reads along one axis: at least one that exists, and zeros beside."""

    start: int
    size: int
    before: int  # negative, as `after`, where not even the one position is read
    after: int


def spans(steps: dict[str, Conv | Pool], sides: Sequence[int], position: int) -> dict[str, Span]:
    """Return what a unit's filter, and every filter and pool beneath, reads for it, from the unit downwards.

    `sides` are those of the input and of the maps above it; what lies beyond the maps is left out at every step.
    """
    first, end, found = position, position + 1, {}
    for (name, step), side in reversed(list(zip(steps.items(), sides, strict=False))):
        low, high = step.reads(first, end)
        first = min(max(low, 0), side - 1)
        end = max(min(high, side), first + 1)
        found[name] = Span(first, end - first, first - low, high - end)
    return found


def input_window(
    spec: ArchSpec, layer: str, row: int, column: int, height: int | None = None, width: int | None = None
) -> Box:
    """Return exactly the pixels that can change a unit, also at borders; empty where it sees only padding."""
    shapes, steps = spec.shapes(height, width), spec.steps(layer)
    _, rows, columns = shapes[layer]
    if not (0 <= row < rows and 0 <= column < columns):
        last = f"rows end at {rows - 1}, columns at {columns - 1}"
        raise SpecError(f"{layer} has no unit at row {row}, column {column}; {last}")
    edges = []
    for axis, position in ((1, row), (2, column)):
        found = list(spans(steps, [shape[axis] for shape in shapes.values()], position).values())
        only_padding = any(min(span.before, span.after) < 0 for span in found)
        edges.append((found[-1].start, found[-1].start + (0 if only_padding else found[-1].size)))
    (top, bottom), (left, right) = edges
    return Box(top, left, bottom, right)
