"""Figure 5: first and second layers measured on small networks, what is at hand, and the drawings."""

import numpy as np
import pytest
import torch
from drawings import assert_legible, words

from zfnet_lib.architecture import MINI
from zfnet_lib.datasets import open_dataset
from zfnet_lib.images import FigureError
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import fig5
from zfnet_lib.paper.fig5 import Compared, Layers, Stems, grid, stem
from zfnet_lib.weights import CheckpointError

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def layers():
    net = ConvNet(MINI, seed=3)
    y, x = np.mgrid[:7, :7]
    stripes = [np.cos((0.3 + 0.1 * n) * (x if n % 2 else y)) for n in range(12)]  # noise would count as dead
    with torch.no_grad():
        net.conv1.weight += torch.from_numpy(0.05 * np.stack(stripes)[:, None]).float()
    return net, fig5.describe(net, open_dataset("shapes", "val", n=12))


def test_the_first_two_layers_are_measured(layers):
    net, found = layers
    assert found.stride == 2 and found.filters.shape == (12, 3, 7, 7)
    assert 0 < len(found.projections) <= 32 and found.projections.shape[1:] == (3, 27, 27)
    own, pool = (grid(found.projections, period) for period in (2, 4))
    assert [found.cells[name] for name in ("own", "pool")] == [round(each.excess, 2) for each in (own, pool)]
    assert found.cells["own near"] == round(own.near, 1) and found.cells["own"] != found.cells["own untrained"]
    dataset = open_dataset("shapes", "val", n=12)
    x = net.prepare([dataset[i].picture for i in range(12)])
    largest = net.trace(x)["conv1"].maps.detach().amax((0, 2, 3)).numpy()
    expected = {name: round(value, 1) for name, value in stem(found.filters, 2, largest).items()}
    assert expected.items() <= found.cells.items()


def test_stems_of_native_pictures_ship():
    for one in fig5.NATIVE:
        assert [conv.name for conv in one.at_hand("tiny").spec.convs] == ["conv1", "conv2"], one


BESIDE = ["AlexNet, ImageNet", "krizhevsky, Caltech-101", "zfnet, Caltech-101"]
"""What stands beside the panels of the caption."""


def test_what_is_at_hand_is_shown_and_what_brings_the_rest_is_named(layers, tmp_path, monkeypatch, data):
    def nothing(name: str):
        raise CheckpointError(f"no weights {name}")

    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(fig5, "load_network", nothing)
    found = fig5.measure("tiny")
    assert not any(found.layers.values())
    assert list(found.panels(1)) == ["(a) zfnet, not renormalised", "(b) krizhevsky", "(c) zfnet", *BESIDE]
    assert list(found.panels(2)) == ["(d) krizhevsky", "(e) zfnet", *BESIDE]
    commands = [row["filters"] for row in fig5.table(found, fig5.FEATURES).rows]
    assert commands[0] == "not run: `zfnet train zfnet --data tiny-imagenet --recipe tiny --clip none`"
    assert commands[3] == "not run: `zfnet fetch alexnet-imagenet`"
    training = "zfnet train zfnet --data caltech-101 --recipe tiny --epochs 60"
    assert commands[5] == f"not run: `{training} && zfnet ship zfnet-caltech-101-stem`"
    assert "1/4 cycle a pixel" in fig5.CAVEATS["tiny"]

    partly = found._replace(layers=found.layers | {fig5.NETWORKS[2]: layers[1]})
    features, spectra, artefacts = (
        fig5.table(partly, columns).rows for columns in (fig5.FEATURES, fig5.SPECTRA, fig5.ARTEFACTS)
    )
    assert [row.get("ratio") is None for row in features] == [True, True, False, True, True, True]
    assert features[2]["filters"] == "12 of 7x7, stride 2"
    assert sum(spectra[2][f"peaks {band}"] for band in fig5.BANDS) == pytest.approx(100, abs=0.2)
    assert artefacts[2]["own"] == layers[1].cells["own"]
    drawn = [fig5.draw_filters(partly), fig5.draw_frequencies(partly)]
    assert [words(figure).count("not run") for figure in drawn] == [5, 5]
    drawn = [fig5.draw_projections(partly, 4), fig5.draw_spectra(partly)]
    assert [words(figure).count("not run") for figure in drawn] == [4, 4]


def planted(*, filters=None, projections=None, names=("one", "a longer name", "two")) -> Stems:
    filters = rng.normal(size=(96, 3, 7, 7)) if filters is None else filters
    projections = rng.normal(size=(25, 3, 27, 27)) if projections is None else projections
    networks = {Compared(name, name, ("(a) ", "(d) ")): Layers(filters, 2, projections, {}) for name in names}
    return Stems(networks | {Compared("missing", "none", ("(c) ", "(e) ")): None}, "tiny", None, 0)


DRAWINGS = {
    "filters": fig5.draw_filters,
    "projections": lambda result: fig5.draw_projections(result, 16),
    "frequencies": fig5.draw_frequencies,
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_letters_are_legible_inside_the_page_and_never_overlap(name):
    assert_legible(DRAWINGS[name](planted()))


def test_every_filter_is_a_dot_at_its_frequency():
    result = planted(names=("one",))
    axes = fig5.draw_frequencies(result).axes[0]
    dots = next(line for line in axes.lines if len(line.get_xdata()) == 96)
    (some, _) = result.layers.values()
    assert (dots.get_xdata() == fig5.peak_frequencies(some.filters)).all()
    assert [1 / 4] * 2 in [list(line.get_xdata()) for line in axes.lines]


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(FigureError, match=r"an array \[maps, 3, k, k\]; given \[3, 7, 7\]"):
        fig5.draw_filters(planted(filters=np.zeros((3, 7, 7))))
    with pytest.raises(FigureError, match=r"a projection is an array \[3, h, w\]"):
        fig5.draw_projections(planted(projections=np.zeros((2, 7, 7))), 4)
