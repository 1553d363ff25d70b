"""Figure 3: the architecture in numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..architecture import ARCHITECTURES, STEMS, TABLE_2, ZFNET, ArchSpec, Conv, receptive_fields
from ..architecture import architecture as architecture_from_architecture
from ..weights import load_network
from . import numbers
from .plots import BLUE, GREEN, GREY, PALE, SKY, VERMILION, WIDTH, Figure, Sheet, tint
from .tables import Table


@dataclass(frozen=True)
class Sizes:
    """Fig. 3: an architecture, its sizes beside the paper's, and the same numbers by place.

    Attributes:
        spec: The architecture.
        table: One row a layer or pool.
        agrees: Whether every size that the paper prints, or that is recalled from it, equals ours.
    """

    spec: ArchSpec
    table: Table
    agrees: bool


def measure(name: str = "zfnet") -> Sizes:
    """Work out sizes, parameters, multiply-accumulates and receptive fields of an architecture (Fig. 3).

    Args:
        name: A named architecture, or the name of weights that are here.
    """
    spec = architecture_from_architecture(name) if name in ARCHITECTURES else load_network(name).spec
    printed, recalled = (numbers.printed_shapes(), numbers.recalled_shapes()) if spec == ZFNET else ({}, {})
    shapes, parameters, macs = spec.shapes(), spec.parameters(), spec.macs()
    fields = receptive_fields(spec)
    rows = [
        {
            "layer": place,
            "ours": _size(shapes[place]),
            "printed": _size(printed.get(place)),
            "recalled": _size(recalled.get(place)),
            "field": fields[place].size if place in fields else None,
            "stride": fields[place].stride if place in fields else None,
            "parameters": parameters.get(place),
            "macs": macs.get(place),
        }
        for place in shapes
    ]
    rows.append({"layer": "**all**", "parameters": sum(parameters.values()), "macs": sum(macs.values())})
    columns = {
        "layer": "Layer",
        "ours": "Ours",
        "printed": "Printed",
        "recalled": "Recalled",
        "field": "Field",
        "stride": "Stride",
        "parameters": "Parameters",
        "macs": "MACs",
    }
    agrees = all(shapes[place] == size for known in (printed, recalled) for place, size in known.items())
    return Sizes(spec, Table(columns, rows), agrees)


def table_2_sizes() -> Table:
    """Return parameters and multiply-accumulates of every row of Table 2 and of the crossed stems."""
    rows = [
        {"name": name, "parameters": sum(spec.parameters().values()), "macs": sum(spec.macs().values())}
        for name, spec in (TABLE_2 | STEMS).items()
    ]
    return Table({"name": "Network", "parameters": "Parameters", "macs": "Multiply-accumulates"}, rows)


def _size(shape: tuple[int, int, int] | None) -> str | None:
    """Write a shape as the paper does, for example 96 maps of 55x55."""
    if shape is None:
        return None
    count, rows, columns = shape
    return str(count) if rows == columns == 1 else f"{count}×{rows}×{columns}"


# Fig. 3: an architecture drawn to scale from its spec.

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
"""Where on a sheet the window is drawn, in shares of its width and height."""
FACTS = ("filters", "stride", "groups", "maps, units", "max pooling", "pool stride", "contrast norm.")
"""The lines of the table; those that no layer has are left out."""


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
    the height of a column its number of units. Layers that do not fit beside one another go on in the next row.

    Args:
        spec: Any architecture; everything drawn and written follows from it.

    Raises:
        SpecError: Its layers do not fit its input.

    Example:
        >>> from zfnet_lib.specs import ZFNET
        >>> float(architecture(ZFNET).get_size_inches()[0])
        7.5
    """
    blocks = [_input(spec), *_convs(spec), *_dense(spec)]
    facts = [fact for fact in FACTS if any(fact in block.facts for block in blocks)]
    rows = _rows(blocks)
    heights = [_drawing(row) + (len(facts) + 1) * LINE + 0.5 for row in rows]
    sheet = Sheet(Sheet.HEAD + sum(heights) + 0.3, f"{spec.name}: {len(spec.layers)} layers")
    top = Sheet.HEAD
    for row, height in zip(rows, heights, strict=True):
        _draw_row(sheet, top, row, facts)
        top += height
    _key(sheet, top + 0.12)
    return sheet.figure


def _input(spec: ArchSpec) -> Block:
    size = spec.image_size
    return Block("input", (Stack(f"{size}×{size}, 3 planes", INPUT, INPUT, 3, GREY),), {})


def _convs(spec: ArchSpec) -> Iterator[Block]:
    """Yield the convolutional layers, each with its maps and, where it pools, its pooled maps."""
    shapes, scale = spec.shapes(), INPUT / spec.image_size
    deepest = max(conv.maps for conv in spec.convs)

    def stack(name: str, maps: int, window: int, colour: str, edge: str) -> Stack:
        _, height, width = shapes[name]
        sheets = max(1, round(maps / deepest * SHEETS))
        label = f"{height}×{width}"
        return Stack(label, width * scale, height * scale, sheets, colour, window * scale, edge)

    for conv in spec.convs:
        stacks = [stack(conv.name, conv.maps, conv.kernel, SKY, VERMILION)]
        if conv.pool:
            stacks.append(stack(conv.pool_name, conv.maps, conv.pool.size, GREEN, BLUE))
        yield Block(conv.name, tuple(stacks), _conv_facts(conv))


def _conv_facts(conv: Conv) -> dict[str, str]:
    facts = {"filters": f"{conv.kernel}×{conv.kernel}", "stride": f"{conv.stride}", "maps, units": f"{conv.maps}"}
    if conv.groups > 1:
        facts["groups"] = f"{conv.groups}"
    if conv.pool:
        facts |= {"max pooling": f"{conv.pool.size}×{conv.pool.size}", "pool stride": f"{conv.pool.stride}"}
    if conv.norm:
        facts["contrast norm."] = "before pool" if conv.norm.before_pool else "after pool"
    return facts


def _dense(spec: ArchSpec) -> Iterator[Block]:
    """Yield the fully connected layers and the softmax as columns."""
    layers = spec.layers[len(spec.convs) :]
    for layer in layers:
        height = COLUMN * layer.units / max(other.units for other in layers)
        column = Stack("softmax" if layer.name == "fc8" else "", BAR, height, 1, SKY)
        yield Block(layer.name, (column,), {"maps, units": f"{layer.units}"})


def _start(row: list[Block]) -> float:
    """Return where a row's first layer begins; the input stands over the headings, other layers beside them."""
    return MARGIN if row[0].name == "input" else MARGIN + HEADINGS + GAP


def _rows(blocks: list[Block]) -> list[list[Block]]:
    """Break the layers into rows that fit the page."""
    rows: list[list[Block]] = [blocks[:1]]
    for block in blocks[1:]:
        taken = sum(other.across + GAP for other in rows[-1])
        if _start(rows[-1]) + taken + block.across > WIDTH - MARGIN:
            rows.append([])
        rows[-1].append(block)
    return rows


def _drawing(row: list[Block]) -> float:
    """Return the inches that a row's stacks take downwards."""
    return max(stack.height + (stack.sheets - 1) * LIFT for block in row for stack in block.stacks)


def _draw_row(sheet: Sheet, top: float, row: list[Block], facts: list[str]) -> None:
    """Draw one row of layers and the table beneath it."""
    height, x = _drawing(row), _start(row)
    free = WIDTH - MARGIN - x - sum(block.across for block in row)
    space = min(free / max(len(row) - 1, 1), 3 * GAP)
    table = top + height + 0.42
    for line, fact in enumerate(facts, start=1):
        sheet.text(MARGIN, table + line * LINE, fact, colour=GREY, across="left")
    before = None
    for block in row:
        before = _draw_block(sheet, x + (block.across - block.drawn) / 2, top + height / 2 + 0.1, block, before)
        middle = x + block.across / 2
        sheet.text(middle, table, block.name, weight="bold")
        for line, fact in enumerate(facts, start=1):
            sheet.text(middle, table + line * LINE, block.facts.get(fact, ""))
        x += block.across + space


def _draw_block(
    sheet: Sheet, x: float, axis: float, block: Block, before: tuple[float, Stack] | None
) -> tuple[float, Stack]:
    """Draw a layer's stacks, linked to the stack before; return the last one with its place."""
    for stack in block.stacks:
        place = x + (stack.across - stack.drawn) / 2
        _draw_stack(sheet, place, axis, stack)
        if before:
            _link(sheet, *before, place, stack, axis)
        before = place, stack
        x += stack.across + GAP
    return before


def _draw_stack(sheet: Sheet, x: float, axis: float, stack: Stack) -> None:
    """Draw the sheets, the last one first, and the label."""
    fill, edge = tint(stack.colour, 0.4), stack.colour
    for n in reversed(range(stack.sheets)):
        sheet.box(x + n * SHIFT, axis - stack.height / 2 - n * LIFT, stack.width, stack.height, fill, edge, 0.5)
    label = sheet.text(x + stack.drawn / 2, axis + stack.height / 2 + 0.11, stack.label)
    label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})


def _link(sheet: Sheet, x0: float, before: Stack, x1: float, stack: Stack, axis: float) -> None:
    """Draw the window on the stack before and lines to the position that it feeds, or the fan to a column."""
    if not stack.window:
        for end in (-0.5, 0.5):
            sheet.line(x0 + before.width, axis + end * before.height, x1, axis + end * stack.height, PALE)
        return
    across, down = SPOT
    x, y = x0 + across * before.width, axis + (down - 0.5) * before.height
    target = x1 + across * stack.width, axis + (down - 0.5) * stack.height
    side, edge = stack.window, stack.window_colour
    for corner in (-side / 2, side / 2):
        sheet.line(x + side / 2, y + corner, *target, edge, 0.6, level=3)
    sheet.box(x - side / 2, y - side / 2, side, side, tint(edge, 0.4), edge, 0.8, level=3)


def _key(sheet: Sheet, y: float) -> None:
    x = MARGIN
    for colour, words in ((VERMILION, "filter"), (BLUE, "pooling region"), (SKY, "maps"), (GREEN, "pooled maps")):
        sheet.box(x, y - 0.05, 0.1, 0.1, tint(colour, 0.4), colour)
        sheet.text(x + 0.16, y, words, across="left")
        x += 0.4 + len(words) * 0.85 * LETTER
    words = "sides to scale; depth: maps; height of columns: units"
    sheet.text(WIDTH - MARGIN, y, words, colour=GREY, across="right")
