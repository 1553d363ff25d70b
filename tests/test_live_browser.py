"""The live browser: its panes against literal counterparts, without a page and in JupyterLab."""

import json
import shutil
from dataclasses import asdict
from html import unescape

import nbformat
import numpy as np
import pytest
from ipywidgets.widgets.widget import _instances
from lab import PATIENCE, lab, run_all, wait_until_done
from layouts import class_folders, encoded
from PIL import Image
from residual import Small, residual
from torch import nn

from zfnet_lib import MINI, ConvNet, ZfnetError, deconv, load_network, occlude, open_dataset, save_network, train
from zfnet_lib import strongest as find_strongest
from zfnet_lib.batches import training_preparation
from zfnet_lib.browser import live_browser
from zfnet_lib.browser.atlas import MANIFEST, write_atlas
from zfnet_lib.browser.live import LiveBrowser, occluder, strongest
from zfnet_lib.browser.live.occluder import OccluderPane
from zfnet_lib.browser.live.training import RecordedTraining, TrainingHere, recorded_trainings
from zfnet_lib.browser.live.units import UnitPane
from zfnet_lib.browser.live.widgets import Message
from zfnet_lib.datasets import pack_in_memory
from zfnet_lib.deconv import cut
from zfnet_lib.files import PROJECT, alone
from zfnet_lib.training import Drops, Recipe

SHAPES = open_dataset("shapes", n=12)
BRIEF = Recipe("smoke", 2, Drops(()), batch=16)


@pytest.fixture(scope="module")
def net():
    """A network that was not trained, but is sure of its answers."""
    net = ConvNet(MINI, seed=1).eval()
    net.fc8.weight.data *= 200
    return net


@pytest.fixture
def browser(net, data):
    return LiveBrowser(net, SHAPES, SHAPES.classes)


def pane_of(kind, *of, picture=SHAPES[3].picture):
    """Return a pane of units, or of the occluder, that looks at a picture."""
    pane = kind(*of, Message())
    pane.show(picture, "a picture")
    return pane


def point(pad, row: int, column: int) -> None:
    pad.pointed = [row, column, pad.pointed[2] + 1]


# ---- units --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "place"),
    [("conv1", (0, 29)), ("conv2", (3, 4)), ("conv5", (1, 0)), ("stem", (30, 4)), ("top", (2, 14))],
)
def test_a_unit_is_projected_as_by_the_literal_method(net, layer, place):
    net = net if layer in net.layers else residual(64)
    trace = net.trace(net.prepare([SHAPES[3].picture]))
    maps = trace[layer].maps[0]
    map_ = int(maps.flatten(1).amax(1).argmax())
    pane = pane_of(UnitPane, net)
    view = pane.look(layer, place=place)
    assert layer in pane.layer.options == net.outline
    assert view.unit.place == (map_, *place)
    whole = deconv(trace, layer, (map_, *place))[0]
    expected = cut(whole, view.box) if len(view.patch) < 64 else whole
    assert np.allclose(view.projection, expected.numpy(), atol=1e-5 * float(whole.abs().max() + 1))
    assert view.activation == pytest.approx(maps[map_, place[0], place[1]].item(), rel=1e-4)
    assert view.patch.shape == (*view.projection.shape[1:], 3)
    assert pane.look(layer, 2).activation == pytest.approx(maps[2].max().item(), rel=1e-4)


def test_a_pixel_belongs_to_the_unit_that_is_centred_there(net):
    # Units of conv1 see 7 pixels every 2, the first one those around pixel 3; conv2: 27 every 8, around 13.
    pixels = {("conv1", 3, 3): (0, 0), ("conv1", 3, 6.4): (0, 2), ("conv1", 63, 63): (29, 29)}
    pixels |= {("conv2", 13, 29): (0, 2), ("conv2", 22, 0): (1, 0)}
    pane = pane_of(UnitPane, net)
    assert {at: pane.nearest(*at) for at in pixels} == pixels

    pane = pane_of(UnitPane, residual(12))  # whose top units see the whole picture, and lie on it as on their map
    assert [pane.nearest("top", at, at) for at in (0, 6, 11)] == [(0, 0), (1, 1), (1, 1)]
    point(pane.picture, 7, 2)
    assert pane.view.unit[3:] == (1, 0) and pane.view.patch.shape == (12, 12, 3)
    assert (pane.picture.place, pane.picture.mark, pane.picture.step) == ([9, 3, 1], [-3, -3, 6, 6], 6)


def test_a_layer_that_is_asked_for_is_offered_and_a_size_that_does_not_fit_is_left_again(data):
    browser = LiveBrowser(residual(64), SHAPES, layer="stem.1")
    assert browser.units.layer.options == ("stem.1", *browser.net.outline) and browser.units.layer.value == "stem.1"
    below = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(3600, 2))  # a classifier binds it alone
    pane = pane_of(UnitPane, load_network(below, 32, layers=["0"]))
    pane.side.value = 224
    assert pane.trace["0"].maps.shape == (1, 4, 222, 222) and not pane.notice.value
    pane = pane_of(UnitPane, load_network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LayerNorm([30, 30])), 32))
    pane.side.value = 224
    assert "sequential fails on pictures [1, 3, 224, 224]" in unescape(pane.notice.value)
    assert (pane.side.value, pane.picture.grid, pane.view.unit.layer) == (32, [32, 32], "1")


def test_pointing_goes_from_picture_to_map_to_unit(browser):
    units = browser.units
    units.layer.value = "conv2"
    point(units.maps, 1, 2)
    assert (units.view.unit.map, units.map.value) == (units.maps.grid[1] + 2, units.maps.grid[1] + 2)
    before = units.projection.value
    point(units.units, 1, 3)
    assert (units.view.unit.row, units.view.unit.column) == (1, 3)
    assert units.units.place == [1, 3, 1]
    assert units.units.says.startswith(f"conv2, map {units.view.unit.map}, row 1, column 3: activation")
    assert units.projection.value != before
    point(units.picture, 22, 13)
    assert (units.view.unit.row, units.view.unit.column) == (1, 0)
    # The field of 27 pixels lies around the unit's centre, 8 below that of the first unit, 13.5.
    assert (units.picture.place, units.picture.mark) == ([21.5, 13.5, 1], [-13.5, -13.5, 27, 27])
    units.strongest.click()
    assert units.view.unit == units.look("conv2").unit
    units.map.value = 5
    units.side.value = 224  # the convolutions look at larger pictures and stay at the map
    assert (units.view.unit.map, units.picture.grid) == (5, [224, 224])
    assert units.trace["conv1"].maps.shape[2:] == (110, 110)


# ---- occluder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sequence", "residual"])
def test_a_covered_picture_gives_what_the_literal_sweep_gives_there(net, kind):
    net = net if kind == "sequence" else residual(64)
    pane = pane_of(OccluderPane, net, SHAPES.classes)
    seen = occlude(net, net.prepare([SHAPES[3].picture])[0], size=20, stride=22)
    assert (pane.map, pane.target) == (seen.map, seen.target)
    for row, column in np.ndindex(3, 3):
        occluded = pane.look(22 * row, 22 * column, 20)
        assert occluded.activity == pytest.approx(float(seen.activity[row, column]), rel=1e-4, abs=1e-6)
        assert occluded.probability == pytest.approx(float(seen.probability[row, column]), rel=1e-4)
        assert occluded.answers[0][0] == int(seen.label[row, column])


def test_a_square_over_the_edge_covers_what_lies_inside_and_without_a_classifier_there_is_activity_alone(net):
    pane = pane_of(OccluderPane, net, ())
    x = pane.x.clone()
    x[..., :6, 60:] = 0
    occluded = pane.look(-4, 60, 10)
    assert occluded.probability == pytest.approx(float(net(x)[0].softmax(0)[pane.target].detach()), rel=1e-5)
    assert len(occluded.answers) == 5 and sum(each for _, each in occluded.answers) < 1
    assert pane.look(-99, 0, 10) == pane.clear
    pane = pane_of(OccluderPane, net.features(), ())
    assert pane.look(20, 20, 20)[1:] == (None, ())
    assert "no class, no probability" in pane.results.value


def test_whole_passes_go_to_as_many_places_as_there_is_time_for(monkeypatch):
    pane = pane_of(OccluderPane, residual(64), ())
    for seconds, said in ((0.001, "26 × 26 places at a stride of 2."), (1, "2 × 2 places at a stride of 26.")):
        monkeypatch.setattr(occluder, "perf_counter", iter((0.0, seconds)).__next__)
        pane.cover_everywhere()
        assert pane.activity.says == said


def test_the_square_is_dragged_and_taken_away(browser):
    pane = browser.occluder
    clear = pane.results.value
    point(pane.picture, 30, 31)
    assert f"<b>{pane.look(30 - 7, 31 - 7, 14).probability:.3f}</b>" in pane.results.value
    assert pane.picture.mark == [-7, -7, 14, 14]
    pane.size.value = 40
    assert pane.picture.mark == [-20, -20, 40, 40]
    pane.lift.click()
    assert pane.results.value == clear
    pane.cover_everywhere()
    assert float(pane.found.probability[0, 0]) == pytest.approx(pane.look(0, 0, 40).probability, rel=1e-4)
    point(pane.probability, 0, 2)
    assert pane.picture.place[:2] == [20, 20 + 2 * pane.found.stride]
    pane.size.value = 60  # of the maps, which were made with a square of 40, the cell stays
    assert [each.place[:2] for each in (pane.activity, pane.probability)] == [[0, 2], [0, 2]]


def test_places_of_a_picture_that_was_left_meanwhile_are_not_shown(browser, monkeypatch):
    pane, sweep = browser.occluder, occluder.occlude

    def slow(*arguments, **how):
        browser.choose(5)
        return sweep(*arguments, **how)

    monkeypatch.setattr(occluder, "occlude", slow)
    pane.cover_everywhere()
    assert pane.fig6.children == () and pane.everywhere.disabled is False


# ---- strongest units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["conv4", "pool"])
def test_the_nine_strongest_are_those_of_the_library_and_of_an_atlas(net, layer, tmp_path):
    net, other = (net, ConvNet(MINI, seed=2)) if layer == "conv4" else (residual(64), load_network(Small(), 64))
    looked = []
    top, source = strongest.search(net, SHAPES, 0, lambda done, of: looked.append((done, of)))
    expected = find_strongest(net, SHAPES, 9)[layer]
    assert tuple(top) == net.outline
    assert (looked, source) == ([(12, 12)], "found here in 12 of 12 pictures")
    assert top[layer].units(5) == expected.units(5) and top[layer].score.equal(expected.score)
    assert set(strongest.search(net, SHAPES, 4)[0][net.outline[0]].image.unique().tolist()) <= {0, 4, 7, 11}

    with pytest.raises(ZfnetError, match=f"{net.name} at 64 pixels has no atlas over shapes; look through the pic"):
        strongest.read_atlas(net, SHAPES, tmp_path)
    (tmp_path / "aged").mkdir()
    (tmp_path / "aged" / MANIFEST).write_text('{"format": 1}')
    with pytest.raises(ZfnetError, match=r"aged holds no atlas \(its format is 1, not \d\); look through"):
        strongest.read_atlas(net, SHAPES, tmp_path)
    write_atlas(net, SHAPES, tmp_path / "atlas", maps=4)
    read, source = strongest.read_atlas(net, SHAPES, tmp_path)
    assert source == "from the atlas atlas"
    map_ = int((read[layer].score[:, 0] > 0).nonzero()[0])
    assert read[layer].units(map_) == expected.units(map_)
    assert read[layer].score[map_].tolist() == pytest.approx(expected.score[map_].tolist(), rel=1e-3)
    with pytest.raises(ZfnetError, match="the atlas atlas is of other weights than this network's"):
        strongest.read_atlas(other, SHAPES, tmp_path)
    silent = ConvNet(MINI, seed=3)
    silent.conv5.bias.data -= 1e9
    write_atlas(silent, SHAPES, tmp_path / "a silent one", maps=4)
    assert strongest.read_atlas(net, SHAPES, tmp_path)[1] == source
    with pytest.raises(ZfnetError, match="the atlas a silent one has no unit of conv5 to compare"):
        strongest.read_atlas(silent, SHAPES, tmp_path / "a silent one")


def test_data_sets_at_hand_are_offered_and_opened_and_what_cannot_be_read_is_named(net, data, tmp_path):
    assert strongest.at_hand() == ["photos", "shapes", "shapes-transfer", "shapes-scenes"]
    (data / "packs" / "tiny-imagenet-val-64").mkdir(parents=True)
    assert strongest.at_hand()[0] == "tiny-imagenet"
    assert len(strongest.pictures_named("photos")) > 500 and strongest.pictures_named("shapes").split == "val"
    class_folders(tmp_path / "mine", ["cat"], 4)
    (tmp_path / "mine/cat/image_0003.jpg").write_text("no picture")
    _, source = strongest.search(net, strongest.pictures_named(f"folder:{tmp_path}/mine"))
    assert source == "found here in 3 of 4 pictures; 1 cannot be read: cat/image_0003.jpg"


def test_a_strongest_unit_is_shown_in_its_picture(browser):
    pane = browser.nine
    pane.pictures.value = "shapes-scenes"
    pane.most.value = 20
    pane.look()
    said = "shapes-scenes, conv5, map 0: found here in 20 of 1,024 pictures."
    assert pane.result.children[0].value == said
    point(pane.tile, 1, 4)
    assert pane.tile.says.startswith("Number 5: ")
    pane.show_unit.click()
    assert browser.tabs.selected_index == 0
    assert browser.units.view.unit[1:] == pane.unit[1:]
    assert browser.units.view.activation == pytest.approx(pane.block.scores[4], rel=1e-3)
    name = browser.picture.label
    assert browser.picture.value == len(SHAPES) and browser.about.value.startswith(f"<b>{name}</b>")
    browser.picture.value = 0

    pane.pictures.value, pane.bar.value = "shapes", 1
    pane.bar.observe(lambda change: pane.search.click(), "value")  # somebody presses "stop" when the bar is at 0
    pane.look()
    assert "Stopped; nothing of this search was kept." in browser.notice.value
    pane.map.value = 1
    assert "nothing is known of these pictures yet" in browser.notice.value
    pane.show_unit.click()  # of the nine that still stand there
    assert browser.units.view.activation == pytest.approx(pane.block.scores[4], rel=1e-3)
    assert (browser.picture.label, len(browser.uploads)) == (name, 1)


def test_a_search_shows_the_pictures_that_it_looked_through(browser, monkeypatch):
    pane, search = browser.nine, strongest.search

    def slow(*arguments):
        pane.pictures.value = "shapes"
        pane.read_atlas()
        return search(*arguments)

    monkeypatch.setattr(strongest, "search", slow)
    pane.pictures.value, pane.most.value = "shapes-scenes", 20
    pane.look()
    assert pane.squares.dataset.name == "shapes-scenes" and len(pane.block.units) > 0


# ---- trainings ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def squares():
    return pack_in_memory(open_dataset("shapes", "train", n=64), 64)


def test_a_training_is_the_generators_and_followed_as_it_happens(browser, squares):
    here, pane = TrainingHere(BRIEF, squares, squares), browser.training
    assert pane.choice.label == "MINI on shapes, here and now"
    before, pane.training = here.filters("now"), here
    here.run()
    browser.notice.say("not read yet")
    pane.look()
    net = ConvNet(MINI, training_preparation(squares, 64), seed=0)
    expected = [asdict(epoch) for epoch in train(net, squares, BRIEF, validation=squares)]
    for epoch in (*here.epochs, *expected):
        del epoch["seconds"], epoch["images_per_second"]
    assert here.epochs == expected
    assert here.look().says == f"finished: 2 of 2 epochs, update 8 of 8, loss {here.progress.loss:.3f}"
    assert here.look().moments == ["the beginning", "epoch 1", "epoch 2", "now"]
    assert np.array_equal(here.filters("the beginning"), before)
    assert np.array_equal(here.filters("epoch 2"), net.conv1.weight.detach().numpy())
    assert not np.array_equal(here.filters("epoch 1"), here.filters("epoch 2"))

    assert "over 2 epochs" in pane.curves.value and "at now" in pane.filters.value
    assert "finished: 2 of 2 epochs" in pane.says.value
    pane.moment.value = "the beginning"
    assert "at the beginning" in pane.filters.value and "not read yet" in browser.notice.value
    pane.choice.index = 1
    assert browser.notice.value == ""


def test_one_training_runs_here_and_stops_while_another_is_looked_at(browser, squares, monkeypatch):
    pane, begun = browser.training, []

    class Watched(TrainingHere):
        def _moved(self, progress):
            assert (pane.start.description, pane.start.disabled, pane.training) == ("stop", False, self)
            pane.choice.value = pane.choice.options[1][1]
            pane.start.click()
            assert (self.state, pane.start.disabled) == ("stops", False)
            super()._moved(progress)

    monkeypatch.setattr("zfnet_lib.browser.live.training.TrainingHere", lambda: Watched(BRIEF, squares, squares))
    monkeypatch.setattr(pane.notice, "beside", begun.append)
    pane.start.click()
    pane.choice.value = pane.choice.options[1][1]
    pane.choice.index = 0
    assert begun == [pane.train] and pane.start.disabled  # so that a second click begins no second one
    pane.train()
    assert (pane.here.state, pane.start.description, pane.start.disabled) == ("stopped", "train", True)
    pane.choice.index = 0
    assert pane.training is pane.here and "stopped: 0 of 2 epochs, update 1 of 8" in pane.says.value
    begun[-1]()  # what looks again and again looks once more


def test_a_recorded_training_is_read_from_what_it_leaves(squares, data, results):
    name = "mini-shapes-smoke-seed0"
    record, folder = results / "smoke/trainings" / f"{name}.jsonl", data / "trainings" / name
    net = ConvNet(MINI, training_preparation(squares, 64))
    run = train(net, squares, BRIEF, folder=folder)
    first = asdict(next(run))
    (training,) = recorded_trainings()
    assert (training.name, training.record, training.look().classes) == (name, record, 16)
    stopped = "stopped: 0 of ? epochs, last checkpoint at update 4; "
    assert training.look().says == f"{stopped}the same `zfnet train` with --resume continues it"
    assert np.array_equal(training.filters("update 4"), net.conv1.weight.detach().numpy())

    record.parent.mkdir(parents=True)
    line = {"data": "shapes train (0)", "epoch": first, "recipe": {"epochs": 2}, "training": name}
    record.write_text(json.dumps(line) + "\n")
    with alone(folder):
        assert training.look().says == "runs now: 1 of 2 epochs, last checkpoint at update 4"
    assert json.loads(json.dumps(training.look().epochs)) == json.loads(json.dumps([first]))
    last = asdict(next(run))
    record.write_text("".join(json.dumps(line | {"epoch": epoch}) + "\n" for epoch in (first, last)))
    save_network(net, folder / "snapshots" / "epoch-01-of-70", {})
    save_network(net, data / "weights" / name, {"training": name})
    assert training.look().says == "finished: 2 of 2 epochs, last checkpoint at update 8"
    assert training.look().moments == ["epoch 01 of 70", "update 8", "the end"]
    assert np.array_equal(training.filters("the end"), net.conv1.weight.detach().numpy())
    with pytest.raises(ZfnetError, match="the weights of update 4 are gone; choose a newer moment"):
        training.filters("update 4")


def test_the_shipped_training_has_its_record_and_its_weights():
    name = "zfnet-tiny-imagenet-tiny-seed0"
    training = RecordedTraining(name, PROJECT / f"results/tiny/trainings/{name}.jsonl")
    seen = training.look()
    assert (len(seen.epochs), seen.classes) == (12, 200)
    assert training.filters("the end").shape == (96, 3, 7, 7)


# ---- the whole, without a page ------------------------------------------------------------------------------


WRONG = {
    "a.txt cannot be read as a": lambda b: b.take_upload("a.txt", 3, b"abc"),
    "a.png has 954 MB and 8 are the most; save it smaller": lambda b: b.take_upload("a.png", 10**9, b""),
    "mini has no layer 'conv9'; its layers are conv1": lambda b: b.units.go("conv9"),
    "conv1 has no map 12; its maps are 0 to 11": lambda b: b.units.go("conv1", 12),
    "conv1 has no unit (0, 30, 0)": lambda b: b.units.go("conv1", 0, (30, 0)),
    "mini at 64 pixels has no atlas over shapes; look through": lambda b: b.nine.read_atlas(),
    "there is no data set": lambda b: setattr(b.nine.pictures, "value", "nowhere") or b.nine.read_atlas(),
    "shapes has no picture 99; it has 12": lambda b: b.choose(99),
}


def test_what_is_wrong_is_said_in_one_sentence_and_changes_nothing(browser, monkeypatch, tmp_path):
    monkeypatch.setattr(strongest, "ATLASES", tmp_path)
    before = browser.units.view
    for sentence, act in WRONG.items():
        act(browser)
        assert sentence in unescape(browser.notice.value)
        assert browser.units.view is before


def test_the_browser_says_where_it_computes_and_takes_uploads(browser, net, monkeypatch):
    assert "this kernel has no GPU" in browser.about.value
    shown, show = [], browser.show
    monkeypatch.setattr(browser, "show", lambda *picture: (shown.append(picture[1]), show(*picture)))
    monkeypatch.setattr("zfnet_lib.browser.live.own_device", lambda: "mps")
    panorama, grey = Image.new("RGB", (4000, 40), (9, 200, 30)), Image.new("LA", (80, 70), (200, 255))
    for name, picture in (("panorama.png", panorama), ("my.png", grey)):
        shown.clear()
        browser.take_upload(name, 1000, encoded(picture))
        assert browser.about.value.startswith(f"<b>{name}</b>. mini answers: ")
        assert browser.picture.value == dict(browser.picture.options)[name] >= len(SHAPES)
        assert set(shown) == {name}
        browser.picture.value = 0
        browser.picture.value = len(SHAPES) + len(browser.uploads) - 1
        assert browser.about.value.startswith(f"<b>{name}</b>")
    assert "a GPU here, and `net.to('mps')` before `live_browser` takes it" in unescape(browser.about.value)
    assert np.ptp(browser.units.seen[10]) <= 1
    assert "no layer" in LiveBrowser(net, SHAPES, layer="conv9").notice.value


def test_it_begins_with_the_first_picture_that_can_be_read(net, data, tmp_path):
    class_folders(tmp_path / "mine", ["cat"], 2)
    pictures = open_dataset(f"folder:{tmp_path}/mine", "all")
    (tmp_path / "mine/cat/image_0001.jpg").write_text("no picture")
    browser = LiveBrowser(net, pictures, layer="conv2")
    assert browser.about.value.startswith("<b>cat/image_0002.jpg</b>") and browser.picture.value == 1
    assert browser.units.view.unit.layer == "conv2" and not browser.notice.value
    (tmp_path / "mine/cat/image_0002.jpg").write_text("no picture")
    with pytest.raises(ZfnetError, match=r"none of the 2 pictures of .* can be read"):
        LiveBrowser(net, pictures)


def test_a_page_without_a_kernel_gets_a_button_and_no_module(net, data):
    before = set(_instances)
    closed = live_browser(net, SHAPES)
    made = [widget for name, widget in _instances.items() if name not in before]
    assert {widget._model_module for widget in made} <= {"@jupyter-widgets/controls", "@jupyter-widgets/base"}
    closed.heard.value = 1
    (browser,) = closed.children
    assert isinstance(browser, LiveBrowser)
    closed.enter()
    assert closed.children == (browser,)


# ---- in JupyterLab ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory, net):
    """A page of JupyterLab over two notebooks, in a place without any data."""
    home = tmp_path_factory.mktemp("lab")
    root, weights = home / "notebooks", save_network(net, home / "mini", {"classes": SHAPES.classes})
    root.mkdir()
    shutil.copy(PROJECT / "notebooks/fig3.ipynb", root)
    book = nbformat.read(PROJECT / "notebooks/browse.ipynb", 4)
    (live,) = (i for i, cell in enumerate(book.cells) if "live_browser" in cell.source)
    book.cells[1].source = f"profile, pictures, network = 'smoke', '', {str(weights)!r}"
    book.cells = book.cells[: live + 1]
    nbformat.write(book, root / "browse.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZFNET_DATA", str(home / "data"))
        patch.setenv("PYTHONPATH", str(PROJECT))
        with lab(root, home) as server:
            page = chromium.new_context(viewport={"width": 1280, "height": 1100}).new_page()
            page.set_default_timeout(PATIENCE)
            page.goto(f"{server}/lab?reset")
            yield page
            page.context.close()


def middle(pad, row: int, column: int, rows: int, columns: int) -> dict[str, float]:
    """Return where in a pad the middle of a cell lies."""
    box = pad.bounding_box()
    return {"x": box["width"] * (column + 0.5) / columns, "y": box["height"] * (row + 0.5) / rows}


def test_the_live_browser_answers_in_jupyterlab(page, net):
    run_all(page, "browse.ipynb")
    explorer = pane_of(UnitPane, net, picture=SHAPES[0].picture)
    occluder = pane_of(OccluderPane, net, SHAPES.classes, picture=SHAPES[0].picture)
    rows, columns = explorer.trace["conv5"].maps.shape[2:]
    # The square is dragged to where it matters most, so that what the page says differs from the uncovered answer.
    corners = [(row, column) for row in range(1, 50, 8) for column in range(1, 50, 8)]
    top, left = max(corners, key=lambda at: abs(occluder.look(*at, 14).probability - occluder.clear.probability))

    units = page.get_by_role("application", name="point at a unit")
    units.wait_for()
    units.click(position=middle(units, 2, 1, rows, columns))
    view = explorer.look("conv5", place=(2, 0))
    page.get_by_alt_text(f"the projection of conv5, map {view.unit.map}, row 2, column 1").wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_alt_text(f"the projection of {view.title}").wait_for()
    assert page.locator(".zf-words", has_text=f"{view.title}: activation {view.activation:.4g}").count() == 1

    page.get_by_role("tab", name="Occluder").click()
    uncovered = f"({occluder.clear.probability:.3f} uncovered)"
    page.get_by_text(uncovered).wait_for()
    square = page.get_by_role("application", name="drag the square")
    box = square.bounding_box()
    page.mouse.move(box["x"] + 9, box["y"] + 9)
    page.mouse.down()
    for at in range(20, 200, 20):
        page.mouse.move(box["x"] + at, box["y"] + at)
    place = middle(square, top + 7, left + 7, 64, 64)
    page.mouse.move(box["x"] + place["x"], box["y"] + place["y"])
    page.mouse.up()
    page.get_by_text(f"A square of 14 pixels around row {top + 7}, column {left + 7}.").wait_for()
    occluded = occluder.look(top, left, 14)
    assert abs(occluded.probability - occluder.clear.probability) > 0.01
    page.get_by_text(f"{occluded.probability:.3f} {uncovered}").wait_for()
    page.keyboard.press("Control+ArrowUp")  # which is no pointing
    page.keyboard.press("ArrowUp")
    page.get_by_text(f"A square of 14 pixels around row {top + 3}, column {left + 7}.").wait_for()

    upload = page.locator(".zf-upload input")
    mine = {"name": "mine.png", "mimeType": "image/png", "buffer": encoded(Image.new("L", (80, 70)))}
    upload.set_input_files(mine)
    page.get_by_alt_text("mine.png, as the network sees it").locator("visible=true").wait_for()
    page.get_by_text("mine.png. mini answers:").wait_for()
    upload.set_input_files(mine | {"name": "words.png", "buffer": b"words"})
    page.get_by_role("alert").get_by_text("words.png cannot be read as a picture").wait_for()


def test_jupyterlab_opens_a_notebook_and_runs_it_with_its_defaults(page):
    run_all(page, "fig3.ipynb")
    wait_until_done(page)
    panel = page.locator(".jp-NotebookPanel:visible")
    assert panel.locator(".jp-OutputArea-output table").count() >= 1
    assert panel.locator("[data-mime-type*=error], [data-mime-type*=stderr]").count() == 0
