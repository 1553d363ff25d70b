"""The browser of a static page: what its widgets hold."""

from zfnet_lib import strongest
from zfnet_lib.browser import linked_browser
from zfnet_lib.paper import fig2, setting


def test_the_linked_browser_holds_every_prepared_map():
    at = setting.opened("smoke", "photos")
    layers = fig2.measure(at, strongest(at.net, at.dataset, layers=["conv1", "conv2"], variety=True), maps=3).layers
    tabs = linked_browser(layers)
    assert tabs.titles == ("conv1", "conv2")
    for tab, blocks in zip(tabs.children, layers.values(), strict=True):
        slider, stack = tab.children
        assert list(slider.options) == [block.map for block in blocks]
        assert len(stack.children) == len(blocks)
        for page, block in zip(stack.children, blocks, strict=True):
            assert f"map {block.map}: nine projections" in page.value
            assert page.value.count("<li>") == 9
