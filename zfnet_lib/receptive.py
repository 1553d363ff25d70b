"""What a unit can see: receptive fields, strides and exact input windows, by arithmetic alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from .specs import ArchSpec, SpecError


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
