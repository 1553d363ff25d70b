"""Fig. 3: an architecture drawn to scale from its spec."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..specs import ArchSpec, Conv
from .sheet import Sheet
from .style import BLUE, GREEN, GREY, NORMAL, PALE, SKY, SMALL, VERMILION, WIDTH, Figure, tint

INPUT = 1.25
"""Inches of the input's side; all sides and filters are drawn to this scale."""
COLUMN, BAR = 1.25, 0.13
"""Inches of the widest fully connected layer, drawn as a column, and the thickness of columns."""
SHEETS, SHIFT, LIFT = 12, 0.024, 0.014
"""Sheets of the deepest stack, the others having their share, and the inches between sheets."""
GAP, MARGIN, HEADINGS, LINE = 0.16, 0.08, 1.0, 0.165
"""Inches between stacks, beside the drawing, for the headings of the table, and between its lines."""
LETTER = 0.074
"""Inches that a small letter takes at most, on average."""
SPOT = 0.62, 0.4
"""Where on a sheet the window is drawn, in shares of its side."""


@dataclass(frozen=True)
class Stack:
    """Maps drawn one behind the other, or one column of units.

    Attributes:
        label: Written beneath.
        width, height: Inches of a sheet.
        sheets: How many there are.
        colour: Of the sheets.
        window, window_colour: Inches of the filter or pooling region that looks down on the stack before.
    """

    label: str
    width: float
    height: float
    sheets: int
    colour: str
    window: float = 0.0
    window_colour: str = VERMILION

    @property
    def drawn(self) -> float:
        """Inches from the left edge of the first sheet to the right edge of the last."""
        return self.width + (self.sheets - 1) * SHIFT

    @property
    def across(self) -> float:
        """Inches that the stack takes with its label."""
        return max(self.drawn, len(self.label) * LETTER)


@dataclass(frozen=True)
class Block:
    """One layer: its stacks, and its column in the table."""

    name: str
    stacks: tuple[Stack, ...]
    facts: dict[str, str]

    @property
    def drawn(self) -> float:
        """Inches that the stacks take."""
        return sum(stack.across for stack in self.stacks) + GAP * (len(self.stacks) - 1)

    @property
    def across(self) -> float:
        """Inches that the layer takes with its column in the table."""
        return max(self.drawn, LETTER * max(len(words) for words in ("", self.name, *self.facts.values())))


def architecture(spec: ArchSpec) -> Figure:
    """Draw an architecture to scale, as Fig. 3 draws the paper's.

    Sides of maps, filters and pooling regions share one scale; the depth of a stack follows its number of maps,
    the height of a column its number of units. Layers that do not fit beside one another go on in the next line.

    Args:
        spec: Any architecture; everything drawn and written follows from it.

    Raises:
        SpecError: Its layers do not fit its input.
    """
    blocks = list(_blocks(spec))
    headings = [key for key in _FACTS if any(key in block.facts for block in blocks)]
    rows = _broken(blocks)
    heights = [_drawing(row) + (len(headings) + 1) * LINE + 0.5 for row in rows]
    sheet = Sheet(Sheet.HEAD + sum(heights) + 0.3, _title(spec))
    top = Sheet.HEAD
    for row, height in zip(rows, heights, strict=True):
        _row(sheet, top, row, headings)
        top += height
    _key(sheet, top + 0.12)
    return sheet.figure


_FACTS = ("filters", "stride", "groups", "maps or units", "max pooling", "pool stride", "contrast norm.")


def _title(spec: ArchSpec) -> str:
    layers = len(spec.layers)
    return f"{spec.name}: {layers} layers, input {spec.image_size}×{spec.image_size}"


def _blocks(spec: ArchSpec) -> Iterator[Block]:
    """Yield the input and every layer as they are drawn."""
    shapes, scale = spec.shapes(), INPUT / spec.image_size
    deepest = max(conv.maps for conv in spec.convs)
    size = spec.image_size
    yield Block("input", (Stack(f"{size}×{size}, 3 planes", INPUT, INPUT, 3, GREY),), {})
    for conv in spec.convs:
        sheets = max(1, round(conv.maps / deepest * SHEETS))
        names = (conv.name, conv.pool_name) if conv.pool else (conv.name,)
        windows = (conv.kernel, conv.pool.size if conv.pool else 0)
        looks = ((SKY, VERMILION), (GREEN, BLUE))
        stacks = []
        for name, window, (colour, edge) in zip(names, windows, looks, strict=False):
            _, height, width = shapes[name]
            label = f"{height}×{width}"
            stacks.append(Stack(label, width * scale, height * scale, sheets, colour, window * scale, edge))
        yield Block(conv.name, tuple(stacks), _conv_facts(conv))
    widest = max((shapes[layer.name][0] for layer in spec.layers[len(spec.convs) :]), default=1)
    for layer in spec.layers[len(spec.convs) :]:
        label = "softmax" if layer.name == "fc8" else ""
        column = Stack(label, BAR, COLUMN * layer.units / widest, 1, SKY)
        yield Block(layer.name, (column,), {"maps or units": f"{layer.units}"})


def _conv_facts(conv: Conv) -> dict[str, str]:
    facts = {"filters": f"{conv.kernel}×{conv.kernel}", "stride": f"{conv.stride}", "maps or units": f"{conv.maps}"}
    if conv.groups > 1:
        facts["groups"] = f"{conv.groups}"
    if conv.pool:
        facts |= {"max pooling": f"{conv.pool.size}×{conv.pool.size}", "pool stride": f"{conv.pool.stride}"}
    if conv.norm:
        facts["contrast norm."] = "before pool" if conv.norm.before_pool else "after pool"
    return facts


def _broken(blocks: list[Block]) -> list[list[Block]]:
    """Break the layers into lines that fit the page; lines after the first leave room for the headings."""
    rows, room = [[]], WIDTH - 2 * MARGIN
    for block in blocks:
        if block.across > room:
            rows.append([])
            room = WIDTH - 2 * MARGIN - HEADINGS - GAP
        rows[-1].append(block)
        room -= block.across + GAP
    return rows


def _drawing(row: list[Block]) -> float:
    """Return the inches that a line's stacks take downwards."""
    return max(stack.height + (stack.sheets - 1) * LIFT for block in row for stack in block.stacks)


def _row(sheet: Sheet, top: float, row: list[Block], headings: list[str]) -> None:
    """Draw one line of layers and the table beneath it."""
    first = row[0].name == "input"
    room = WIDTH - 2 * MARGIN - (0 if first else HEADINGS + GAP)
    spread = (room - sum(block.across for block in row)) / max(len(row) - 1, 1)
    x = MARGIN + (0 if first else HEADINGS + GAP)
    axis, table = top + _drawing(row) / 2 + 0.1, top + _drawing(row) + 0.42
    for line, words in enumerate(headings, start=1):
        sheet.text(MARGIN, table + line * LINE, words, colour=GREY, across="left")
    before = None
    for block in row:
        left = x + (block.across - block.drawn) / 2
        for stack in block.stacks:
            place = left + (stack.across - stack.drawn) / 2
            _stack(sheet, place, axis, stack)
            if before:
                _link(sheet, *before, place, stack, axis)
            before = place, stack
            left += stack.across + GAP
        _column(sheet, x + block.across / 2, table, block, headings)
        x += block.across + min(spread, 2 * GAP)


def _stack(sheet: Sheet, x: float, axis: float, stack: Stack) -> None:
    """Draw the sheets, the last one first, and the label."""
    for n in reversed(range(stack.sheets)):
        top = axis - stack.height / 2 - n * LIFT
        sheet.box(x + n * SHIFT, top, stack.width, stack.height, tint(stack.colour, 0.4), tint(stack.colour, 1), 0.5)
    label = sheet.text(x + stack.drawn / 2, axis + stack.height / 2 + 0.11, stack.label)
    label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})


def _link(sheet: Sheet, x0: float, before: Stack, x1: float, stack: Stack, axis: float) -> None:
    """Draw the window on the stack before, and lines from its corners to the position that it feeds."""
    if not stack.window:
        for end in (-0.5, 0.5):
            sheet.line(x0 + before.width, axis + end * before.height, x1, axis + end * stack.height, PALE, 0.8)
        return
    across, down = SPOT
    x, y = x0 + across * before.width, axis + (down - 0.5) * before.height
    half = stack.window / 2
    target = x1 + across * stack.width, axis + (down - 0.5) * stack.height
    for corner in (y - half, y + half):
        sheet.line(x + half, corner, *target, stack.window_colour, 0.6, level=3)
    sheet.box(x - half, y - half, 2 * half, 2 * half, tint(stack.window_colour, 0.4), stack.window_colour, 0.8, level=3)


def _column(sheet: Sheet, x: float, y: float, block: Block, headings: list[str]) -> None:
    """Write a layer's column of the table."""
    sheet.text(x, y, block.name, SMALL, weight="bold")
    for line, key in enumerate(headings, start=1):
        sheet.text(x, y + line * LINE, block.facts.get(key, ""))


def _key(sheet: Sheet, y: float) -> None:
    x = MARGIN
    for colour, words in ((VERMILION, "filter"), (BLUE, "pooling region"), (SKY, "maps"), (GREEN, "pooled maps")):
        sheet.box(x, y - 0.05, 0.1, 0.1, tint(colour, 0.4), colour, 0.8)
        sheet.text(x + 0.16, y, words, across="left")
        x += 0.4 + len(words) * 0.85 * LETTER
    sheet.text(WIDTH - MARGIN, y, "sides to scale; depth by maps, columns by units", colour=GREY, across="right")
