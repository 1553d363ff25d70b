"""Fig. 3: an architecture in numbers, beside the paper's, and drawn to scale."""

from __future__ import annotations

from typing import NamedTuple

from ..architecture import ARCHITECTURES, STEMS, TABLE_2, ZFNET, ArchSpec, Shape, architecture, receptive_field
from ..weights import load_network
from .numbers import contents
from .plots import BLUE, GREEN, GREY, PALE, SKY, VERMILION, WIDTH, Figure, Sheet, tint
from .records import Table


def measure(name: str = "zfnet") -> tuple[ArchSpec, Table]:
    """Return an architecture, by its name or that of weights, and its sizes beside those that the paper has."""
    spec = architecture(name) if name in ARCHITECTURES else load_network(name).spec
    printed, recalled = _of_the_paper() if spec == ZFNET else ({}, {})
    parameters, macs = spec.parameters(), spec.macs()

    def size(count: int, rows: int, columns: int) -> str:
        return str(count) if rows == columns == 1 else f"{count}×{rows}×{columns}"

    rows = []
    for place, shape in spec.shapes().items():
        sizes = {"ours": shape, "printed": printed.get(place), "recalled": recalled.get(place)}
        row = {"layer": place} | {key: size(*shape) for key, shape in sizes.items() if shape}
        if place in spec.steps():
            field = receptive_field(spec, place)
            row |= {"field": field.size, "stride": field.stride}
        rows.append(row | {"parameters": parameters.get(place), "macs": macs.get(place)})
    rows.append({"layer": "**all**", "parameters": sum(parameters.values()), "macs": sum(macs.values())})
    keys = ("layer", "ours", "printed", "recalled", "field", "stride", "parameters")
    return spec, Table({key: key.capitalize() for key in keys} | {"macs": "MACs"}, rows)


def _of_the_paper() -> tuple[dict[str, Shape], dict[str, Shape]]:
    """Return maps, rows and columns as Fig. 3's caption prints them, and as its image, not at hand, is recalled."""
    facts = {fact["fact"]: fact["value"] for fact in contents()["architecture"]["stated_in_the_caption"]}
    top, recalled = facts["top convolutional features"], {}
    printed = {"input": tuple(facts["input"][::-1]), "pool1": tuple(facts["layer 1 output"][::-1])}
    printed["pool5"] = top["maps"], top["height"], top["width"]
    for layer in contents()["architecture"]["recalled_from_the_published_figure"]["layers"]:
        number = layer["layer"]
        if "conv_output" in layer:
            recalled[f"conv{number}"] = (layer["maps"], layer["conv_output"], layer["conv_output"])
            if layer["pool"]:
                recalled[f"pool{number}"] = (layer["maps"], layer["output"], layer["output"])
        elif isinstance(layer["units"], int):
            recalled[f"fc{number}"] = (layer["units"], 1, 1)
    return printed, recalled


def table_2() -> Table:
    """Return parameters and multiply-accumulates of every row of Table 2 and of the crossed stems."""
    rows = [
        {"name": name, "parameters": sum(spec.parameters().values()), "macs": sum(spec.macs().values())}
        for name, spec in (TABLE_2 | STEMS).items()
    ]
    return Table({"name": "Network", "parameters": "Parameters", "macs": "Multiply-accumulates"}, rows)


INPUT, COLUMN, BAR = 1.25, 1.25, 0.13
"""Inches of the input's side, to whose scale all is drawn; of the largest dense layer's column, and its width."""
SHEETS, SHIFT, LIFT = 12, 0.024, 0.014
"""Sheets of the deepest stack, the others having their share, and the inches between sheets."""
GAP, EDGE, HEADINGS, LINE, LETTER = 0.16, 0.08, 1.0, 0.165, 0.074
"""Inches between stacks, beside the drawing, for the table's headings, between its lines, and of a small letter."""
FACTS = ("filters", "stride", "groups", "maps, units", "max pooling", "pool stride", "contrast norm.")
"""The lines of the table; those that no layer has are left out."""


class Stack(NamedTuple):
    """Maps drawn one behind the other, or one column of units; lengths are inches."""

    label: str  # beneath
    width: float
    height: float
    sheets: int
    colour: str
    window: float = 0.0  # side of the filter or pooling region that looks down on the stack before
    window_colour: str = VERMILION

    @property
    def drawn(self) -> float:
        """Inches from the left edge of the first sheet to the right edge of the last."""
        return self.width + (self.sheets - 1) * SHIFT

    @property
    def across(self) -> float:
        """Inches that the stack takes with its label."""
        return max(self.drawn, len(self.label) * LETTER)


class Column(NamedTuple):
    """One layer: its stacks, and what the table below says of it."""

    name: str
    stacks: list[Stack]
    facts: dict[str, str]

    @property
    def drawn(self) -> float:
        """Inches that the stacks take."""
        return sum(stack.across for stack in self.stacks) + GAP * (len(self.stacks) - 1)

    @property
    def across(self) -> float:
        """Inches that the layer takes with what the table says."""
        return max(self.drawn, LETTER * max(map(len, (self.name, *self.facts.values()))))


def draw(spec: ArchSpec) -> Figure:
    """Draw any architecture to scale, as Fig. 3 draws the paper's; layers that do not fit go on in the next row."""
    layers = _columns(spec)
    facts = [fact for fact in FACTS if any(fact in layer.facts for layer in layers)]
    rows = [layers[:1]]
    for layer in layers[1:]:
        taken = sum(other.across + GAP for other in rows[-1])
        if _start(rows[-1]) + taken + layer.across > WIDTH - EDGE:
            rows.append([])
        rows[-1].append(layer)
    heights = [max(s.height + (s.sheets - 1) * LIFT for layer in row for s in layer.stacks) for row in rows]
    y, below = Sheet.HEAD, (len(facts) + 1) * LINE + 0.5
    sheet = Sheet(y + sum(heights) + len(rows) * below + 0.3, f"{spec.name}: {len(spec.layers)} layers")
    for row, height in zip(rows, heights, strict=True):
        _draw_row(sheet, y, row, height, facts)
        y += height + below
    x, y = EDGE, y + 0.12
    key = {"filter": VERMILION, "pooling region": BLUE, "maps": SKY, "pooled maps": GREEN}
    for words, colour in key.items():
        sheet.box(x, y - 0.05, 0.1, 0.1, tint(colour, 0.4), colour)
        sheet.text(x + 0.16, y, words, across="left")
        x += 0.4 + len(words) * 0.85 * LETTER
    words = "sides to scale; depth: maps; height of columns: units"
    sheet.text(WIDTH - EDGE, y, words, colour=GREY, across="right")
    return sheet.figure


def _columns(spec: ArchSpec) -> list[Column]:
    """Return the input and the layers: convolutions with their maps and pooled maps, dense ones as one column."""
    shapes, scale, size = spec.shapes(), INPUT / spec.image_size, spec.image_size
    found = [Column("input", [Stack(f"{size}×{size}, 3 planes", INPUT, INPUT, 3, GREY)], {})]
    for conv in spec.convs:
        facts = {"filters": f"{conv.kernel}×{conv.kernel}", "stride": f"{conv.stride}"}
        facts["maps, units"] = f"{conv.maps}"
        drawn = [(conv.name, conv.kernel, SKY, VERMILION)]
        if conv.groups > 1:
            facts["groups"] = f"{conv.groups}"
        if conv.pool:
            facts |= {"max pooling": f"{conv.pool.size}×{conv.pool.size}", "pool stride": f"{conv.pool.stride}"}
            drawn.append((conv.pool_name, conv.pool.size, GREEN, BLUE))
        if conv.norm:
            facts["contrast norm."] = "before pool" if conv.norm.before_pool else "after pool"
        sheets = max(1, round(conv.maps / max(other.maps for other in spec.convs) * SHEETS))
        stacks = []
        for name, window, colour, edge in drawn:
            _, high, wide = shapes[name]
            stacks.append(Stack(f"{high}×{wide}", wide * scale, high * scale, sheets, colour, window * scale, edge))
        found.append(Column(conv.name, stacks, facts))
    dense = spec.layers[len(spec.convs) :]
    for layer in dense:
        height = COLUMN * layer.units / max(other.units for other in dense)
        column = Stack("softmax" if layer.name == "fc8" else "", BAR, height, 1, SKY)
        found.append(Column(layer.name, [column], {"maps, units": f"{layer.units}"}))
    return found


def _start(row: list[Column]) -> float:
    """Return where a row's first layer begins; the input stands over the headings, other layers beside them."""
    return EDGE if row[0].name == "input" else EDGE + HEADINGS + GAP


def _draw_row(sheet: Sheet, top: float, row: list[Column], height: float, facts: list[str]) -> None:
    """Draw one row of layers, each stack linked to the one before, and the table beneath it."""
    x, axis, table = _start(row), top + height / 2 + 0.1, top + height + 0.42
    free = WIDTH - EDGE - x - sum(layer.across for layer in row)
    space = min(free / max(len(row) - 1, 1), 3 * GAP)
    for line, fact in enumerate(facts, start=1):
        sheet.text(EDGE, table + line * LINE, fact, colour=GREY, across="left")
    before = None
    for layer in row:
        left = x + (layer.across - layer.drawn) / 2
        for stack in layer.stacks:
            place = left + (stack.across - stack.drawn) / 2
            for n in reversed(range(stack.sheets)):
                corner = place + n * SHIFT, axis - stack.height / 2 - n * LIFT
                sheet.box(*corner, stack.width, stack.height, tint(stack.colour, 0.4), stack.colour, 0.5)
            label = sheet.text(place + stack.drawn / 2, axis + stack.height / 2 + 0.11, stack.label)
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})
            if before:
                _link(sheet, *before, place, stack, axis)
            before = place, stack
            left += stack.across + GAP
        middle = x + layer.across / 2
        sheet.text(middle, table, layer.name, weight="bold")
        for line, fact in enumerate(facts, start=1):
            sheet.text(middle, table + line * LINE, layer.facts.get(fact, ""))
        x += layer.across + space


def _link(sheet: Sheet, x0: float, before: Stack, x1: float, stack: Stack, axis: float) -> None:
    """Draw the window on the stack before and lines to the position that it feeds, or the fan to a column."""
    if not stack.window:
        for end in (-0.5, 0.5):
            sheet.line(x0 + before.width, axis + end * before.height, x1, axis + end * stack.height, PALE)
        return
    across, down = 0.62, 0.4  # where on a sheet the window is drawn
    x, y = x0 + across * before.width, axis + (down - 0.5) * before.height
    target = x1 + across * stack.width, axis + (down - 0.5) * stack.height
    side, edge = stack.window, stack.window_colour
    for corner in (-side / 2, side / 2):
        sheet.line(x + side / 2, y + corner, *target, edge, 0.6, level=3)
    sheet.box(x - side / 2, y - side / 2, side, side, tint(edge, 0.4), edge, 0.8, level=3)
