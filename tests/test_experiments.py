"""Experiments: what notebooks and command line get."""

from contextlib import nullcontext

import numpy as np
import papermill
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from zfnet_lib import strongest
from zfnet_lib.architecture import ZFNET, Box
from zfnet_lib.deconv import deconv
from zfnet_lib.files import PROJECT, ZfnetError
from zfnet_lib.paper import fig2, fig3, setting
from zfnet_lib.paper.records import Provenance, Record
from zfnet_lib.strongest import TopUnits


@pytest.fixture(scope="module")
def descent():
    return fig2.fig1("smoke", picture=3)


def test_fig1_ends_at_the_projection_of_its_unit(descent):
    net = setting.network_of("smoke")
    trace = net.trace(net.prepare([setting.pictures_of("smoke")[3].picture]))
    unit = descent.unit
    expected = deconv(trace, unit.layer, (unit.map, unit.row, unit.column))[0].numpy()
    name, pixels = descent.levels[-1]
    assert name == "pixels"
    assert np.array_equal(pixels, expected)
    assert [name for name, _ in descent.levels[:-1]] == ["conv5", "conv4", "conv3", "conv2", "conv1"]
    assert all((maps >= 0).all() for _, maps in descent.levels[:-1])


def test_fig1_shows_a_shared_switch_on_real_numbers(descent):
    window = torch.from_numpy(descent.window)
    pooled, switches = F.max_pool2d(window[None, None], 3, 2, return_indices=True)
    assert np.array_equal(pooled[0, 0].numpy(), descent.pooled)
    assert np.array_equal(switches[0, 0].numpy(), descent.switches)
    assert descent.unpooled.sum() == pytest.approx(descent.pooled.sum(), rel=1e-6)
    active = descent.switches[descent.pooled > 0]
    assert len(set(active.tolist())) < active.size


def test_the_alternatives_move_the_projection(descent):
    assert all(row["difference"] > 0.01 for row in descent.variants.rows)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"profile": "huge"}, "there is no profile 'huge'; choose one of smoke, tiny, paper"),
        ({"picture": 10**6}, "shapes has no picture 1000000"),
        ({"layer": "conv9"}, "mini has no layer 'conv9'; its layers are conv1"),
        ({"layer": "fc6"}, "mini has no layer 'fc6'; its layers are conv1"),
        ({"map": 999}, "conv5 has no map 999"),
    ],
)
def test_bad_requests_get_one_sentence(changes, sentence):
    with pytest.raises(ZfnetError) as error:
        fig2.fig1(**{"profile": "smoke"} | changes)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_fig2_projects_the_strongest_units():
    result = fig2.measure("smoke", "photos", layers=["conv1", "conv3"], maps=2, k=4)
    assert list(result.layers) == ["conv1", "conv3"]
    for blocks, side in zip(result.layers.values(), (7, 64), strict=True):
        assert len(blocks) == 2
        for block in blocks:
            assert block.scores == sorted(block.scores, reverse=True)
            assert len(block.names) == len(set(block.names)) == 4
            assert all(pixels.shape == (3, side, side) for pixels in block.projections)
            assert all(patch.shape == (side, side, 3) and patch.dtype == np.uint8 for patch in block.patches)
    with pytest.raises(ZfnetError, match="'conv2' was not computed; here are conv1, conv3"):
        result.blocks("conv2")


def test_fig2_over_a_whole_data_set_says_how_it_is_computed(tmp_path, monkeypatch):
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    whole = fig2.fig2_whole("alexnet-imagenet", "caltech-101")
    assert "Not run: `zfnet run fig2 --profile tiny --live`" in whole._repr_markdown_()
    assert whole.blocks("conv2") == []


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("typo = 1", "there is no parameter 'typo'; the parameters of this notebook are profile, live, size, maps"),
        ('profile = "smoke"\nPictures = "photos"', "there is no parameter 'Pictures'"),
        ('live = "no"', "the parameter live takes bool, not 'no'"),
        ("maps = 2.0", "the parameter maps takes int, not 2.0"),
        ("maps = True", "the parameter maps takes int, not True"),
        ("profile = None", "the parameter profile takes str, not None"),
        ('profile = "smoke"\nlive = True\nsize = 2\nmaps = 3', ""),
    ],
)
def test_what_papermill_injects_is_checked(cell, sentence):
    notebook = {}
    exec('profile: str = "tiny"\nlive: bool = False\nsize: float = 1.5\nmaps: int = 6', notebook)
    exec(cell, notebook)
    notebook["In"] = ["", "profile: str …", f"# Parameters\n{cell}\n", "typo = 2"]
    with pytest.raises(ZfnetError, match=sentence) if sentence else nullcontext():
        setting.check_parameters(notebook)


def test_papermill_alone_ends_at_a_misspelt_parameter(tmp_path):
    with pytest.raises(papermill.PapermillExecutionError, match="there is no parameter 'netwrok'"):
        papermill.execute_notebook(
            PROJECT / "notebooks/fig3.ipynb",
            tmp_path / "out.ipynb",
            {"netwrok": "krizhevsky"},
            cwd=PROJECT / "notebooks",
            progress_bar=False,
        )


def test_a_field_larger_than_the_picture_shows_the_whole_picture():
    projection = torch.zeros(3, 9, 9)
    projection[:, 4, 4] = 1
    whole, box = strongest.fitted(projection, Box(-3, -1, 6, 8), 6)
    assert whole.shape == (3, 6, 6)
    assert box == (0, 0, 6, 6)
    assert whole[0].argmax() == 1 * 6 + 3
    same, box = strongest.fitted(projection, Box(2, 2, 11, 11), 20)
    assert same is projection


def test_fig2_draws_maps_by_seed_and_layer_among_the_active_ones():
    def drawn(seed, layer="conv1"):
        score = torch.ones(40, 2)
        score[7, 1] = 0
        return fig2.drawn_maps(TopUnits(layer, score, score, score, score), 5, seed)

    assert drawn(5) == drawn(5)
    assert len({tuple(drawn(seed)) for seed in range(6)}) == 6
    assert drawn(0) != drawn(0, "conv2")
    assert all(7 not in drawn(seed) for seed in range(40))
    for maps in (0, -1):
        with pytest.raises(ZfnetError, match=f"{maps} maps of a layer cannot be drawn"):
            fig2.drawn_maps(TopUnits("conv1", *4 * [torch.ones(40, 2)]), maps, 0)


def test_fig3_agrees_with_the_paper():
    sizes = fig3.measure()
    assert sizes.spec == ZFNET
    assert sizes.agrees
    assert sizes.table.rows[-1]["parameters"] == 62_357_608
    shown = {row["layer"]: row for row in sizes.table.rows}
    assert shown["pool1"]["printed"] == shown["pool1"]["ours"] == "96×55×55"
    assert shown["pool5"]["printed"] == "256×6×6"
    assert (shown["conv5"]["field"], shown["conv5"]["stride"]) == (139, 16)


def test_a_source_names_network_pictures_and_machine(descent):
    text = str(descent.source)
    for part in ("mini, trained on the spot", "shapes val (1024 pictures, fingerprint", "torch", "seed 0"):
        assert part in text


def test_of_a_folder_all_pictures_are_looked_at_unless_it_sets_some_aside(tmp_path):
    for place, count in (("whole/blue", 3), ("divided/train/blue", 3), ("divided/val/blue", 2)):
        (tmp_path / place).mkdir(parents=True)
        for n in range(count):
            Image.new("RGB", (8, 8), "blue").save(tmp_path / place / f"{n}.png")
    assert len(setting.pictures_of("tiny", f"folder:{tmp_path / 'whole'}")) == 3
    assert len(setting.pictures_of("tiny", f"folder:{tmp_path / 'divided'}")) == 2


def test_the_seconds_of_records_add_up_over_the_parts_of_the_work():
    def record(seconds: float) -> Record:
        made = Provenance("", False, {"torch": "2"}, "two cores", 0, seconds)
        return Record("some", "share", 1.0, "%", made, spec="mini", data="shapes")

    source = setting.source_of([record(seconds) for seconds in (1.0, 2.5, 4.0, 0.5, 3.0)])
    assert source.provenance.seconds == 7.0
    assert (source.network, source.pictures) == ("mini", "shapes")
