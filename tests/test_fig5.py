"""Figure 5: first and second layers measured on small networks, what is at hand, and the drawings."""

import numpy as np
import pytest
import torch
from drawings import assert_legible, words

from zfnet_lib.architecture import MINI
from zfnet_lib.datasets import open_dataset
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import fig5
from zfnet_lib.paper.fig5 import Compared, Stems
from zfnet_lib.paper.records import Record, Stopwatch, store
from zfnet_lib.weights import CheckpointError

FEATURES, SPECTRA, ARTEFACTS = "features", "spectra", "artefacts"


@pytest.fixture(scope="module")
def measured():
    """A network whose first filters are stripes, as noise would count as dead, and what was measured on it."""
    net, dataset = ConvNet(MINI, seed=3), open_dataset("shapes", "val", n=12)
    y, x = np.mgrid[:7, :7]
    stripes = [np.cos((0.3 + 0.1 * n) * (x if n % 2 else y)) for n in range(12)]
    with torch.no_grad():
        net.conv1.weight += torch.from_numpy(0.05 * np.stack(stripes)[:, None]).float()
    return net, dataset, fig5.describe(net, dataset)


def test_the_first_two_layers_are_measured(measured):
    net, dataset, (stride, filters, projections, tables) = measured
    assert stride == 2 and filters.shape == (12, 3, 7, 7)
    assert 0 < len(projections) <= 32 and projections.shape[1:] == (3, 27, 27)
    x = net.prepare([dataset[i].picture for i in range(12)])
    largest = net.trace(x)["conv1"].maps.detach().amax((0, 2, 3)).numpy()
    assert {name: tables[name] for name in (FEATURES, SPECTRA)} == fig5.stem(filters, 2, largest)
    own, pool = (fig5.grid(projections, period) for period in (2, 4))
    _, near, at_layer, untrained, at_pool, _ = tables[ARTEFACTS].values()
    assert (near, at_layer, at_pool) == (round(own.near, 1), round(own.excess, 2), round(pool.excess, 2))
    assert untrained != at_layer


def test_what_is_at_hand_is_shown_and_what_brings_the_rest_is_named(measured, tmp_path, monkeypatch, data):
    def nothing(name: str):
        raise CheckpointError(f"no weights {name}")

    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(fig5, "open_network", nothing)
    found = fig5.measure("tiny")
    beside = ["AlexNet, ImageNet", "krizhevsky, Caltech-101", "zfnet, Caltech-101"]
    assert found.panels(1) == dict.fromkeys(["(a) zfnet, not renormalised", "(b) krizhevsky", "(c) zfnet", *beside])
    assert found.panels(2) == dict.fromkeys(["(d) krizhevsky", "(e) zfnet", *beside])
    assert "1/4 cycle a pixel" in found.caveat
    commands = [row["Not run"] for row in found.table(FEATURES).rows]
    assert commands[0] == "not run: `zfnet train zfnet --data tiny-imagenet --recipe tiny --clip none`"
    assert commands[3] == "not run: `zfnet fetch alexnet-imagenet`"
    training = "zfnet train zfnet --data caltech-101 --recipe tiny --epochs 60"
    assert commands[5] == f"not run: `{training} && zfnet ship zfnet-caltech-101-stem`"

    found.networks[2] = Compared(*found.networks[2][:3], *measured[2])
    for name in (FEATURES, SPECTRA, ARTEFACTS):
        table = found.table(name)
        first, *others = list(table.columns)[1:]
        assert {"Network": "zfnet"} | measured[2][3][name] == table.rows[2]
        assert table.rows[3][first] == commands[3] and not set(others) & set(table.rows[3])
        zeros = [title for title, cell in measured[2][3][name].items() if cell == 0]  # said, not tabled
        assert not set(zeros) & set(table.columns) and all(
            title.rstrip(", %").lower() in table.note for title in zeros
        )
    drawn = [fig5.draw_filters(found), fig5.draw_frequencies(found)]
    assert [words(figure).count("not run") for figure in drawn] == [5, 5]
    drawn = [fig5.draw_projections(found, 4), fig5.draw_spectra(found)]
    assert [words(figure).count("not run") for figure in drawn] == [4, 4]


def test_filters_that_differ_in_scale_are_the_same_and_grids_are_compared_over_trainings(tmp_path, monkeypatch):
    filters = np.random.default_rng(0).normal(size=(96, 3, 7, 7))
    scales = np.ones((96, 1, 1, 1))
    scales[3] = 5
    given = {fig5.FREE: scales * filters, "zfnet": filters}
    both = [Compared(name, ("", None), "", 2, each, None, {"features": {}}) for name, each in given.items()]
    assert "median cosine of 1.000: they are the same ones" in Stems(both, None, None, 0).renormalised
    assert "Not run" in Stems(both[:1], None, None, 0).renormalised
    both[1] = both[1]._replace(filters=filters[::-1])
    assert "they are others" in Stems(both, None, None, 0).renormalised

    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    assert "Not run" in fig5.grids("tiny")
    path = tmp_path / "tiny/claims/stride-4-causes-layer-2-aliasing.jsonl"
    made, place = Stopwatch().provenance(), {"grid": "layer 1", "weights": "trained"}  # what the claim keeps
    for theirs, word in (((3, 4), "the reverse of"), ((13, 14), "do not agree"), ((15, 16), "stride 4, as the")):
        found = []
        for network, value in zip(["zfnet"] * 2 + ["krizhevsky"] * 2, (12, 13.5, *theirs), strict=True):
            facts = {"parameters": place | {"network": network}, "data": "caltech-101 all ("}
            found.append(Record("claim", "excess", value, "times", made, **facts))
        store(path, found)
        assert word in fig5.grids("tiny") and "(2 and 2 trainings)" in fig5.grids("tiny")


def test_letters_are_legible_and_every_filter_is_a_dot_at_its_frequency():
    rng = np.random.default_rng(0)
    layers = 2, rng.normal(size=(96, 3, 7, 7)), rng.normal(size=(25, 3, 27, 27)), {"features": {}}
    networks = [Compared(name, ("(a) ", "(d) "), "", *layers) for name in ("one", "a longer name")]
    result = Stems([*networks, Compared("missing", ("(c) ", "(e) "), "none")], None, None, 0)
    for figure in (fig5.draw_filters(result), fig5.draw_projections(result, 16), fig5.draw_frequencies(result)):
        assert_legible(figure)
    lines = figure.axes[0].lines
    dots = next(line for line in lines if len(line.get_xdata()) == 96)
    assert (dots.get_xdata() == fig5.peak_frequencies(layers[1])).all()
    assert [1 / 4] * 2 in [list(line.get_xdata()) for line in lines]
