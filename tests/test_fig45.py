"""Figures 4 and 5: their experiments on small networks, their stored files, and their drawings."""

from itertools import combinations

import numpy as np
import pytest
import torch
from pictures import TINY_SPEC

from zfnet_lib.architecture import MINI
from zfnet_lib.batches import training_preparation
from zfnet_lib.datasets import open_dataset, pack_in_memory
from zfnet_lib.files import ZfnetError, results_root
from zfnet_lib.images import FigureError, projection_image
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import fig4, fig5
from zfnet_lib.paper.fig4 import ALIGNMENT, Development
from zfnet_lib.paper.fig5 import grid, stem
from zfnet_lib.paper.plots import SMALL, Figure
from zfnet_lib.weights import CheckpointError

EPOCHS = (1, 20, 64)
rng = np.random.default_rng(0)


@pytest.fixture
def results(tmp_path, monkeypatch, data):
    """Empty folders of results and of data."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))


@pytest.fixture(scope="module")
def development():
    """Fig. 4 of a network at three moments, on few pictures."""
    pack = pack_in_memory(open_dataset("shapes", "train", n=96), 64)
    nets = {epoch: ConvNet(TINY_SPEC, training_preparation(pack, 64), seed=0) for epoch in EPOCHS}
    with torch.no_grad():
        for epoch, net in nets.items():
            generator = torch.Generator().manual_seed(epoch)
            for weight in (net.conv1.weight, net.conv2.weight):
                weight += 0.01 * epoch / 64 * torch.randn(weight.shape, generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fig4, "training_data", lambda name, split: pack)
        patch.setattr(fig4, "SCALES", {"smoke": fig4.Scale(16, 64, 32, 16)})
        return fig4._followed("smoke", nets, "mini", None, maps=2, seed=0)


def test_a_development_has_every_layer_at_every_moment(development):
    assert list(development.epochs) == list(EPOCHS)
    assert list(development.features) == [conv.name for conv in TINY_SPEC.convs]
    for layer, features in development.features.items():
        for feature in features:
            assert feature.pictures.dtype == np.uint8 and len(feature.pictures) == 3
            assert len(feature.contrasts) == len(feature.scores) == len(feature.places) == 3
            assert all(name.startswith("shapes/train/") for name in feature.names)
            before = [feature.names[0], *feature.names]
            assert feature.changes == [one != other for one, other in zip(before, feature.names, strict=False)]
        assert development.alignment[layer][-1] == pytest.approx(1)
        assert development.nearness[layer][-1] == pytest.approx(1)
    assert list(development.probes) == [*development.features, "fc6", "fc7"]
    assert all(0 <= value <= 100 for values in development.probes.values() for value in values)
    assert "16 of shapes train" in str(development.source)


def test_tables_say_when_layers_settle_and_what_jumps(development):
    rows = {row["layer"]: row for row in development.settled.rows}
    assert rows["conv5"]["paper"] == "40-50 epochs" and rows["conv1"]["answers"] in EPOCHS
    assert rows["conv1"]["share"] == f"{rows['conv1']['answers'] / 70:.0%}"
    for row in development.jumps.rows:
        shares = [row[f"{kind} %"] for kind in ("same unit", "same picture", "other picture")]
        assert sum(shares) == pytest.approx(100, abs=0.1)


def test_a_stored_development_is_read_back_and_only_for_its_parameters(development, tmp_path):
    parameters = {"maps": 2, "seed": 0}
    assert Development.load(tmp_path / "evolution", parameters) is None
    development.save(tmp_path / "evolution", parameters)
    found = Development.load(tmp_path / "evolution", parameters)
    assert found.numbers == development.numbers and found.source == development.source
    for layer, features in development.features.items():
        for one, other in zip(features, found.features[layer], strict=True):
            assert (one.pictures == other.pictures).all()
            assert (one.names, one.scores, one.changes) == (other.names, other.scores, other.changes)
    assert Development.load(tmp_path / "evolution", parameters | {"seed": 1}) is None
    assert sum(record.quantity == ALIGNMENT for record in found.numbers) == 15
    (tmp_path / "evolution" / "projections.safetensors").write_bytes(b"half")
    with pytest.raises(ZfnetError, match=r"is damaged \(the SHA-256 of projections.safetensors differs"):
        Development.load(tmp_path / "evolution", parameters)


def test_fig4_is_read_from_the_results(development, results):
    development.save(results_root("tiny") / "evolution", {"maps": 2, "seed": 0})
    assert fig4.measure("tiny", maps=2).numbers == development.numbers
    assert "-p maps=3 -p seed=0" in fig4.measure("tiny", maps=3).source


def test_fig4_that_was_not_run_names_its_commands_and_draws(results):
    found = fig4.measure("tiny")
    assert "`zfnet train zfnet --data tiny-imagenet --recipe tiny`" in found.source
    assert "`zfnet run fig4 --profile tiny --live -p maps=6 -p seed=0`" in found.source
    assert found.settled.rows == found.jumps.rows == []
    drawn = [
        fig4.block(found.block("conv1"), found.epochs, "Layer 1"),
        fig4.curves(found.epochs, found.alignment, found.nearness, found.probes),
    ]
    assert all("not run" in words(figure) for figure in drawn)


def test_fig4_live_needs_the_snapshots(results):
    with pytest.raises(ZfnetError, match="zfnet-tiny-imagenet-tiny-seed0 lacks the snapshots of epochs 1, 2, 5"):
        fig4.measure("tiny", live=True)


def test_a_layer_that_was_not_followed_is_named(development):
    with pytest.raises(ZfnetError, match="layer 'conv9' was not followed; here are conv1, conv2"):
        development.block("conv9")


# ------------------------------------------------------------------------------------------------------- fig. 5


@pytest.fixture(scope="module")
def layers():
    net = ConvNet(MINI, seed=3)
    y, x = np.mgrid[:7, :7]
    stripes = [np.cos((0.3 + 0.1 * n) * (x if n % 2 else y)) for n in range(12)]  # noise would count as dead
    with torch.no_grad():
        net.conv1.weight += torch.from_numpy(0.05 * np.stack(stripes)[:, None]).float()
    return net, fig5._measured(net, open_dataset("shapes", "val", n=12), seed=0)


def test_the_first_two_layers_are_measured(layers):
    net, found = layers
    assert found.stride == 2 and list(found.grids) == list(found.untrained) == [2, 4]
    assert found.filters.shape == (12, 3, 7, 7)
    assert 0 < len(found.projections) <= 32 and found.projections.shape[1:] == (3, 27, 27)
    assert found.grids[2] == grid(found.projections, 2)
    dataset = open_dataset("shapes", "val", n=12)
    x = net.prepare([sample.picture for sample in (dataset[i] for i in range(12))])
    largest = net.trace(x)["conv1"].maps.detach().amax((0, 2, 3)).numpy()
    assert found.stem == stem(found.filters, 2, largest)


def test_stems_of_native_pictures_ship(results):
    for one in fig5.NATIVE:
        net = one.at_hand("tiny")
        assert [conv.name for conv in net.spec.convs] == ["conv1", "conv2"], one


def test_fig5_shows_what_is_at_hand_and_names_what_brings_the_rest(layers, results, monkeypatch):
    monkeypatch.setattr(fig5, "load_network", nothing_at_hand)
    found = fig5.measure("tiny")
    assert all(value is None for value in found.filters.values())
    assert list(found.filters) == [
        "(a) zfnet, not renormalised",
        "(b) krizhevsky",
        "(c) zfnet",
        *BESIDE,
    ]
    assert list(found.spectra) == list(found.projections(4)) == ["(d) krizhevsky", "(e) zfnet", *BESIDE]
    commands = [row["filters"] for row in found.features.rows]
    assert commands[0] == "not run: `zfnet train zfnet --data tiny-imagenet --recipe tiny --clip none`"
    assert commands[3] == "not run: `zfnet fetch alexnet-imagenet`"
    assert commands[5] == (
        "not run: `zfnet train zfnet --data caltech-101 --recipe tiny --epochs 60 "
        "&& zfnet ship zfnet-caltech-101-stem`"
    )
    assert "1/4 cycle a pixel" in found.caveat
    partly = fig5.Stems(found.layers | {fig5.NETWORKS[2]: layers[1]}, "tiny", found.source, 0)
    assert [row.get("ratio") is None for row in partly.features.rows] == [True, True, False, True, True, True]
    assert sum(row.get(f"peaks {band}", 0) for row in partly.bands.rows for band in fig5.BANDS) == pytest.approx(
        100, abs=0.2
    )
    assert partly.artefacts.rows[2]["own"] == round(layers[1].grids[2].excess, 2)
    for figure in (fig5.layer_1(partly.filters), fig5.layer_2(partly.projections(4))):
        assert words(figure).count("not run") == len(figure_names(figure)) - 1
    assert words(fig5.frequencies(partly.peaks)).count("not run") == 5
    assert words(fig5.spectra(partly.spectra)).count("not run") == 4


def nothing_at_hand(name: str):
    raise CheckpointError(f"no weights {name}")


BESIDE = ("AlexNet, ImageNet", "krizhevsky, Caltech-101", "zfnet, Caltech-101")
"""What stands beside the panels of the caption."""


def figure_names(figure) -> list[str]:
    return [word for word in words(figure) if word.endswith(("zfnet", "krizhevsky", "renormalised", *BESIDE))]


def test_networks_are_the_caption_s(results):
    calls = {one.title: (one.layer_1 + one.layer_2, one.name, one.clip) for one in fig5.NETWORKS}
    assert calls["zfnet, not renormalised"] == ("(a) ", "zfnet", "none")
    assert calls["krizhevsky"] == ("(b) (d) ", "krizhevsky", "all")
    assert calls["zfnet"] == ("(c) (e) ", "zfnet", "all")


# ----------------------------------------------------------------------------------------------------- drawings


def words(figure) -> list[str]:
    found = [text.get_text() for axes in figure.axes for text in (*axes.texts, axes.title, axes._left_title)]
    return [text for text in found if text]


def some_rows(count: int, side: int, moments: int = 8) -> list[tuple[int, np.ndarray, list[bool]]]:
    pictures = [
        np.stack([projection_image(rng.normal(size=(3, side, side))) for _ in range(moments)]) for _ in range(count)
    ]
    changes = [[False, *(rng.random(moments - 1) < 0.5)] for _ in range(count)]
    return list(zip(range(10, 10 + count), pictures, changes, strict=True))


PEAKS = (rng.uniform(0, 0.5, 96), 2)
FIGURES = {
    "block": lambda: fig4.block(some_rows(6, 75), (1, 2, 5, 10, 20, 30, 40, 64), "Layer 3"),
    "block in two columns": lambda: fig4.block(some_rows(5, 7), (1, 2, 5, 10, 20, 30, 40, 64), "Layer 1", 2),
    "layer 1": lambda: fig5.layer_1({"(a) one": rng.normal(size=(96, 3, 7, 7)), "(b) other": None}),
    "layer 2": lambda: fig5.layer_2({name: rng.normal(size=(25, 3, 27, 27)) for name in ("(d)", "(e)", "AlexNet")}),
    "frequencies": lambda: fig5.frequencies({"(a) one": PEAKS, "(b) a longer name": None, "(c) two": PEAKS}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_letters_are_legible_inside_the_page_and_never_overlap(name):
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    figure.draw_without_rendering()
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    assert texts and all(text.get_fontsize() >= SMALL for text in texts)
    assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)
    for a, b in combinations(boxes, 2):
        assert a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 + 1 or b.y1 <= a.y0 + 1


def test_a_block_has_a_row_a_map_and_a_bar_a_change():
    rows = some_rows(3, 27, 4)
    figure = fig4.block(rows, (1, 2, 5, 64), "Layer 2")
    written = words(figure)
    assert written[0] == "Layer 2" and [word for word in written if word.startswith("map ")] == [
        "map 10",
        "map 11",
        "map 12",
    ]
    assert [word for word in written if word.isdigit()] == ["1", "2", "5", "64"]
    (axes,) = figure.axes
    assert len(axes.images) == 12
    bars = len(axes.patches) - 1  # one explains them
    assert bars == sum(sum(changes) for *_, changes in rows)
    shown = np.asarray(axes.images[5].get_array())
    assert (shown[0, 0] == rows[1][1][1][0, 0]).all()


def test_curves_are_drawn_with_the_values_given():
    lines = {"conv1": [0.2, 0.8, 1.0], "conv2": [0.1, 0.5, 1.0]}
    answers, projections, probes = fig4.curves(EPOCHS, lines, lines, lines | {"fc6": [10.0, 20.0, 30.0]}).axes
    assert [list(line.get_ydata()) for line in answers.lines[:2]] == list(lines.values())
    assert [list(line.get_xdata()) for line in projections.lines[:2]] == [list(EPOCHS)] * 2
    assert list(probes.lines[2].get_ydata()) == [10.0, 20.0, 30.0]


def test_every_filter_is_a_dot_at_its_frequency():
    axes = fig5.frequencies({"one": PEAKS}).axes[0]
    dots = next(line for line in axes.lines if len(line.get_xdata()) == 96)
    assert (dots.get_xdata() == PEAKS[0]).all()
    assert [1 / 4] * 2 in [list(line.get_xdata()) for line in axes.lines]


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (
            lambda: fig4.block(some_rows(1, 7, 3), (1, 2), "Layer 1"),
            "map 10 has 3 pictures and 3 marks for 2 moments",
        ),
        (lambda: fig5.layer_1({}), "at least one panel"),
        (lambda: fig5.layer_1({"a": np.zeros((3, 7, 7))}), r"an array \[maps, 3, k, k\]; given \[3, 7, 7\]"),
        (lambda: fig5.layer_2({"d": np.zeros((2, 7, 7))}), r"a projection is an array \[3, h, w\]"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, sentence):
    with pytest.raises(FigureError, match=sentence):
        draw()
