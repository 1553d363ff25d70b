"""Fig. 3: an architecture in numbers, beside the paper's, and drawn to scale."""

from __future__ import annotations

from typing import NamedTuple

from ..architecture import ARCHITECTURES, STEMS, TABLE_2, ZFNET, ArchSpec, architecture, receptive_field
from ..weights import load_network
from .plots import BLUE, GREEN, GREY, PALE, SKY, VERMILION, WIDTH, Figure, Sheet, tint
from .records import Table, contents


def measure(name: str = "zfnet") -> tuple[ArchSpec, Table]:
    """Return an architecture, by its name or that of weights, and its sizes beside those that the paper has."""
    spec = architecture(name) if name in ARCHITECTURES else load_network(name).spec
    printed, recalled = {}, {}  # maps, rows and columns in the caption, and in the image, which is not at hand
    if spec == ZFNET:
        facts = {fact["fact"]: fact["value"] for fact in contents()["architecture"]["stated_in_the_caption"]}
        top = facts["top convolutional features"]
        printed = {"input": facts["input"][::-1], "pool1": facts["layer 1 output"][::-1]}
        printed["pool5"] = top["maps"], top["height"], top["width"]
        for layer in contents()["architecture"]["recalled_from_the_published_figure"]["layers"]:
            number = layer["layer"]
            if "conv_output" in layer:
                recalled[f"conv{number}"] = layer["maps"], layer["conv_output"], layer["conv_output"]
                if layer["pool"]:
                    recalled[f"pool{number}"] = layer["maps"], layer["output"], layer["output"]
            elif isinstance(layer["units"], int):
                recalled[f"fc{number}"] = layer["units"], 1, 1
    parameters, macs, rows = spec.parameters(), spec.macs(), []
    for place, ours in spec.shapes().items():
        row = {"layer": place}
        for key, known in (("ours", {place: ours}), ("printed", printed), ("recalled", recalled)):
            if place in known:
                count, *sides = known[place]
                row[key] = str(count) if sides == [1, 1] else f"{count}×{sides[0]}×{sides[1]}"
        if place in spec.steps():
            field = receptive_field(spec, place)
            row |= {"field": field.size, "stride": field.stride}
        rows.append(row | {"parameters": parameters.get(place), "macs": macs.get(place)})
    rows.append({"layer": "**all**", "parameters": sum(parameters.values()), "macs": sum(macs.values())})
    keys = ("layer", "ours", "printed", "recalled", "field", "stride", "parameters")
    return spec, Table({key: key.capitalize() for key in keys} | {"macs": "MACs"}, rows)


def table_2() -> Table:
    """Return parameters and multiply-accumulates of every row of Table 2 and of the crossed stems."""
    rows = [
        {"name": name, "parameters": sum(spec.parameters().values()), "macs": sum(spec.macs().values())}
        for name, spec in (TABLE_2 | STEMS).items()
    ]
    return Table({"name": "Network", "parameters": "Parameters", "macs": "Multiply-accumulates"}, rows)


# Inches: the input's side, to whose scale all is drawn; the largest dense layer's column, and a column's width.
INPUT, COLUMN, BAR = 1.25, 1.25, 0.13
SHEETS, SHIFT, LIFT = 12, 0.024, 0.014  # of the deepest stack; inches between sheets
# Inches: between stacks, beside the drawing, for the table's headings, between its lines, and of a small letter.
GAP, EDGE, HEADINGS, LINE, LETTER = 0.16, 0.08, 1.0, 0.165, 0.074
FACTS = ("filters", "stride", "groups", "maps, units", "max pooling", "pool stride", "contrast norm.")


class Stack(NamedTuple):
    """Maps drawn one behind the other, or one column of units; lengths are inches."""

    label: str  # beneath
    width: float
    height: float
    sheets: int
    colour: str
    window: float = 0.0  # side of the filter or pooling region that looks down on the stack before
    edge: str = VERMILION  # and its colour

    @property
    def drawn(self) -> float:
        """Inches from the left edge of the first sheet to the right edge of the last."""
        return self.width + (self.sheets - 1) * SHIFT

    @property
    def across(self) -> float:
        """Inches that the stack takes with its label."""
        return max(self.drawn, len(self.label) * LETTER)


class Column(NamedTuple):
    """One layer: its stacks, what the table below says of it, and the inches it takes, without and with that."""

    name: str
    stacks: list[Stack]
    facts: dict[str, str]
    drawn: float
    across: float


def draw(spec: ArchSpec) -> Figure:
    """Draw any architecture to scale, as Fig. 3 draws the paper's; layers that do not fit go on in the next row."""
    layers, rows, room = _columns(spec), [], 0.0
    for layer in layers:
        if layer.across > room:  # the input stands over the headings, other layers beside them
            start = EDGE if layer.name == "input" else EDGE + HEADINGS + GAP
            rows.append((start, []))
            room = WIDTH - EDGE - start
        rows[-1][1].append(layer)
        room -= layer.across + GAP
    facts = [fact for fact in FACTS if any(fact in layer.facts for layer in layers)]
    heights = [max(s.height + (s.sheets - 1) * LIFT for layer in row for s in layer.stacks) for _, row in rows]
    y, below = Sheet.HEAD, (len(facts) + 1) * LINE + 0.5
    sheet = Sheet(y + sum(heights) + len(rows) * below + 0.3, f"{spec.name}: {len(spec.layers)} layers")
    for (start, row), height in zip(rows, heights, strict=True):
        _draw_row(sheet, start, y, row, height, facts)
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
    found = [("input", [Stack(f"{size}×{size}, 3 planes", INPUT, INPUT, 3, GREY)], {})]
    for conv in spec.convs:
        kernel, maps = f"{conv.kernel}×{conv.kernel}", f"{conv.maps}"
        facts = {"filters": kernel, "stride": f"{conv.stride}", "maps, units": maps}
        drawn = [(conv.name, conv.kernel, SKY, VERMILION)]
        if conv.groups > 1:
            facts["groups"] = f"{conv.groups}"
        if conv.pool:
            facts |= {"max pooling": f"{conv.pool.size}×{conv.pool.size}", "pool stride": f"{conv.pool.stride}"}
            drawn.append((conv.pool_name, conv.pool.size, GREEN, BLUE))
        if conv.norm:
            facts["contrast norm."] = "before pool" if conv.norm.before_pool else "after pool"
        sheets, stacks = max(1, round(conv.maps / max(other.maps for other in spec.convs) * SHEETS)), []
        for name, window, colour, edge in drawn:
            _, high, wide = shapes[name]
            stacks.append(Stack(f"{high}×{wide}", wide * scale, high * scale, sheets, colour, window * scale, edge))
        found.append((conv.name, stacks, facts))
    dense = spec.layers[len(spec.convs) :]
    for layer in dense:
        height = COLUMN * layer.units / max(other.units for other in dense)
        stack = Stack("softmax" if layer.name == "fc8" else "", BAR, height, 1, SKY)
        found.append((layer.name, [stack], {"maps, units": f"{layer.units}"}))
    columns = []
    for name, stacks, facts in found:
        drawn = sum(stack.across for stack in stacks) + GAP * (len(stacks) - 1)
        across = max(drawn, LETTER * max(map(len, (name, *facts.values()))))
        columns.append(Column(name, stacks, facts, drawn, across))
    return columns


def _draw_row(sheet: Sheet, x: float, top: float, row: list[Column], height: float, facts: list[str]) -> None:
    """Draw one row of layers, each stack linked to the one before, and the table beneath it."""
    axis, table, before = top + height / 2 + 0.1, top + height + 0.42, None
    free = WIDTH - EDGE - x - sum(layer.across for layer in row)
    space = min(free / max(len(row) - 1, 1), 3 * GAP)
    for line, fact in enumerate(facts, start=1):
        sheet.text(EDGE, table + line * LINE, fact, colour=GREY, across="left")
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
    for corner in (-stack.window / 2, stack.window / 2):
        sheet.line(x + stack.window / 2, y + corner, *target, stack.edge, 0.6, level=3)
    place = x - stack.window / 2, y - stack.window / 2, stack.window, stack.window
    sheet.box(*place, tint(stack.edge, 0.4), stack.edge, 0.8, level=3)
