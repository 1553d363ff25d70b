"""Fig. 2: the strongest units of drawn maps, whole data sets, and the mosaics."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from drawings import assert_legible, pictures, words

from zfnet_lib import strongest
from zfnet_lib.files import ZfnetError
from zfnet_lib.paper import fig2, setting
from zfnet_lib.paper.plots import tile

rng = np.random.default_rng(0)


def a_block(map_: int, count: int = 9, side: int = 11, patches: bool = True):
    projections = [rng.normal(size=(3, side, side)) for _ in range(count)]
    seen = [rng.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count if patches else 0)]
    return SimpleNamespace(map=map_, projections=projections, patches=seen, chosen="")


def test_the_strongest_units_of_drawn_maps_are_projected():
    at = setting.opened("smoke", "photos")
    result = fig2.measure(at, strongest(at.net, at.dataset, 4, ["conv1", "conv3"], variety=True), maps=2)
    assert list(result.layers) == ["conv1", "conv3"]
    for blocks, side in zip(result.layers.values(), (7, 64), strict=True):
        assert [block.chosen for block in blocks] == ["most alike", "drawn"]
        for block in blocks:
            assert block.scores == sorted(block.scores, reverse=True)
            assert len(block.names) == len(set(block.names)) == 4
            assert all(pixels.shape == (3, side, side) for pixels in block.projections)
            assert all(patch.shape == (side, side, 3) and patch.dtype == np.uint8 for patch in block.patches)
    with pytest.raises(ZfnetError, match="'conv2' was not computed; here are conv1, conv3"):
        result["conv2"]


def test_a_whole_data_set_says_how_it_is_computed(results):
    whole = fig2.whole("alexnet-imagenet", "caltech-101", ("conv2",))
    assert "Not run: `zfnet run fig2 --profile tiny --live`" in whole.source
    assert words(fig2.draw(whole["conv2"], "Layer 2")) == ["Layer 2", "not run"]


def test_maps_are_drawn_by_seed_and_layer_among_the_active_ones():
    score = torch.ones(40, 2)
    score[7, 1] = 0

    def drawn(seed, layer="conv1", maps=5):
        return fig2.drawn_maps(SimpleNamespace(layer=layer, score=score), maps, seed)

    assert drawn(5) == drawn(5) and drawn(0) != drawn(0, "conv2")
    assert len({tuple(drawn(seed)) for seed in range(6)}) == 6
    assert all(7 not in drawn(seed) for seed in range(40))
    with pytest.raises(ZfnetError, match="0 maps of a layer cannot be drawn"):
        drawn(0, maps=0)


def test_a_mosaic_shows_every_map_with_its_number_and_its_patches_if_it_has_any():
    blocks = [a_block(17, side=30), a_block(4, 7, side=30)]
    figure = fig2.draw(blocks, "Layer 2")
    assert words(figure) == ["Layer 2", "map 17", "map 4"]
    for block, shown in zip(blocks, pictures(figure), strict=True):
        assert (shown == tile(block.projections, block.patches, (len(shown) - 4) // 3)).all()
        assert shown.shape[1] <= 7.5 * 200 / 2
    assert_legible(fig2.draw([a_block(n) for n in range(5)], "Layer 1"))
    (shown,) = pictures(fig2.draw([a_block(3, 12, side=30)], "Layer 2"))  # of twelve, nine
    assert shown.shape[1] > shown.shape[0]
    alone = fig2.draw([a_block(n, side=7, patches=False) for n in range(4)], "Layer 1", columns=4)
    assert [shown.shape[0] == shown.shape[1] for shown in pictures(alone)] == [True] * 4
