"""Fig. 3: sizes that agree with the paper's, and any architecture drawn to scale."""

import numpy as np
import pytest
from drawings import assert_legible, words

from zfnet_lib.architecture import ARCHITECTURES, KRIZHEVSKY, ZFNET, ArchSpec, Conv, Dense, Pool
from zfnet_lib.paper import fig3

VGG_CONVS = tuple(
    Conv(f"conv{block}_{n}", maps, 3, padding=1, ceil=False, pool=Pool(2, 2, False) if n == last else None)
    for block, (maps, last) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)], start=1)
    for n in range(1, last + 1)
)
VGG = ArchSpec("vgg16", VGG_CONVS, (Dense("fc6", 4096), Dense("fc7", 4096)))


def test_every_size_agrees_with_the_paper():
    spec, table = fig3.measure()
    assert spec == ZFNET and table.rows[-1]["parameters"] == 62_357_608
    shown = {row["layer"]: row for row in table.rows}
    assert {name for name, row in shown.items() if "printed" in row} == {"input", "pool1", "pool5"}
    assert sum("recalled" in row for row in shown.values()) >= 8
    assert all(row[by] == row["ours"] for row in shown.values() for by in {"printed", "recalled"} & row.keys())
    assert shown["pool1"]["ours"] == "96×55×55" and shown["pool5"]["ours"] == "256×6×6"
    assert (shown["conv5"]["field"], shown["conv5"]["stride"]) == (139, 16)
    rows = {row["name"]: row["parameters"] for row in fig3.table_2().rows}
    assert rows["zfnet"] == 62_357_608 and rows["krizhevsky"] == 60_965_224


@pytest.mark.parametrize(
    "spec", [*ARCHITECTURES.values(), ZFNET.features(), VGG, VGG.features()], ids=lambda spec: spec.name
)
def test_an_architecture_is_drawn_with_the_numbers_of_its_spec(spec):
    figure = fig3.draw(spec)
    assert_legible(figure)
    written = words(figure)
    for name, (maps, height, width) in spec.shapes().items():
        drawn = f"{height}×{width}, 3 planes" if name == "input" else f"{height}×{width}"
        assert name.startswith("fc") or drawn in written
        assert name == "input" or f"{maps}" in written
    assert all(written.count(layer.name) == 1 for layer in spec.layers)
    assert [text for text in written if text.endswith(" layers")] == [f"{spec.name}: {len(spec.layers)} layers"]
    assert ("softmax" in written) == bool(spec.classes)


def test_fig_3_of_the_paper_is_written_out_and_drawn_to_scale():
    written, other = (words(fig3.draw(spec)) for spec in (ZFNET, KRIZHEVSKY))
    times = {"110×110": 1, "55×55": 1, "26×26": 1, "13×13": 4, "6×6": 1, "7×7": 1, "5×5": 1, "3×3": 6}
    times |= {"after pool": 2, "4096": 2, "groups": 0}  # 3×3: three filters, three pools
    assert {label: written.count(label) for label in times} == times
    assert "groups" in other and other.count("before pool") == 2
    boxes = [(box.get_width(), box.get_height()) for box in fig3.draw(ZFNET.resized(fc7=1024)).axes[0].patches]
    scale = fig3.INPUT / 224
    sides = [round(width / scale, 3) for width, height in boxes if width == pytest.approx(height)]
    assert {224, 110, 55, 26, 13, 6, 7, 5, 3} <= set(sides)
    columns = [height for width, height in boxes if width == pytest.approx(fig3.BAR)]
    assert np.divide(columns, columns[0]) == pytest.approx([1, 1024 / 4096, 1000 / 4096])
    # planes; 96, 256 of at most 384 on 12 sheets
    assert [sides.count(side) for side in (224, 110, 26)] == [3, 3, 8]
