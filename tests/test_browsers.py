"""The browsers: their state without widgets, and what the widgets hold."""

import numpy as np
import pytest

from zfnet_lib import ZfnetError, experiments
from zfnet_lib.browsers import Explorer, linked_browser, live_browser
from zfnet_lib.browsers.live import _outlined
from zfnet_lib.deconv import deconv
from zfnet_lib.figures import projection_image
from zfnet_lib.receptive import Box


@pytest.fixture(scope="module")
def setting():
    return experiments.network_of("smoke"), experiments.pictures_of("smoke")


def test_the_explorer_projects_the_strongest_unit_of_a_map(setting):
    net, pictures = setting
    explorer = Explorer(net, pictures)
    explorer.choose(5)
    view = explorer.view("conv3", explorer.strongest_map("conv3"))
    trace = net.trace(net.prepare([pictures[5].picture]))
    assert view.activation == pytest.approx(float(trace["conv3"].maps.max()))
    pixels = deconv(trace, "conv3", (view.unit.map, view.unit.row, view.unit.column))[0].numpy()
    assert np.array_equal(view.projection, projection_image(pixels))
    assert view.unit.image == 5


def test_the_explorer_refuses_what_is_not_there(setting):
    explorer = Explorer(*setting)
    with pytest.raises(ZfnetError, match="shapes has no picture 99999"):
        explorer.choose(99999)
    with pytest.raises(ZfnetError, match="conv1 has no map 64"):
        explorer.view("conv1", 64)
    with pytest.raises(ZfnetError, match="has no maps"):
        explorer.view("fc6", 0)


def test_the_live_browser_follows_its_menus(setting):
    net, pictures = setting
    browser = live_browser(net, pictures)
    (picture, layer), map_, shown = browser.children[0].children, *browser.children[1:]
    first = shown.value
    picture.value = 7
    assert shown.value != first
    layer.value = "conv1"
    assert map_.max == net.spec["conv1"].maps - 1
    map_.value = 2
    assert "conv1, map 2, row" in shown.value


def test_the_linked_browser_holds_every_prepared_map():
    layers = experiments.fig2("smoke", "photos", layers=["conv1", "conv2"], maps=3).layers
    tabs = linked_browser(layers)
    assert tabs.titles == ("conv1", "conv2")
    for tab, blocks in zip(tabs.children, layers.values(), strict=True):
        slider, stack = tab.children
        assert list(slider.options) == [block.map for block in blocks]
        assert len(stack.children) == len(blocks)
        for page, block in zip(stack.children, blocks, strict=True):
            assert f"map {block.map}: nine projections" in page.value
            assert page.value.count("<li>") == 9


def test_the_outline_lies_on_the_fields_border():
    framed = _outlined(np.full((20, 20, 3), 77, np.uint8), Box(-4, 5, 10, 15))
    assert (framed[0, 5:15] == 255).all()
    assert (framed[9, 5:15] == 255).all()
    assert (framed[0:10, 14] == 255).all()
    assert (framed[10:] == 77).all()
    assert (framed[3:7, 8:12] == 77).all()
