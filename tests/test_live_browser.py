"""The live browser: its state against literal counterparts, its panes without a page, and both in JupyterLab."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import asdict
from html import unescape

import layouts
import nbformat
import numpy as np
import pytest
import torch
from ipywidgets.widgets.widget import _instances
from lab import CHROMIUM, PATIENCE, chromium, lab, run_all, wait_until_done
from PIL import Image

from zfnet_lib.architecture import MINI
from zfnet_lib.batches import training_preparation
from zfnet_lib.browser import live_browser
from zfnet_lib.browser.atlas import write_atlas
from zfnet_lib.browser.live import (
    Explorer,
    LiveBrowser,
    Occluder,
    RecordedTraining,
    StrongestUnits,
    TrainingHere,
    read_upload,
    recorded_trainings,
)
from zfnet_lib.browser.live.strongest import at_hand, pictures_named
from zfnet_lib.browser.live.widgets import LARGEST
from zfnet_lib.datasets import open_dataset, pack_in_memory
from zfnet_lib.deconv import cut, deconv
from zfnet_lib.files import PROJECT, ZfnetError, alone
from zfnet_lib.network import ConvNet
from zfnet_lib.occlusion import occlude
from zfnet_lib.paper import setting
from zfnet_lib.strongest import strongest
from zfnet_lib.training import Drops, Recipe, train
from zfnet_lib.weights import save_network

SHAPES = open_dataset("shapes", n=12)
BRIEF = Recipe("smoke", 2, Drops(()), batch=16)


@pytest.fixture(scope="module")
def net():
    return ConvNet(MINI, seed=1).eval()


@pytest.fixture
def explorer(net):
    explorer = Explorer(net)
    explorer.show(SHAPES[5].picture)
    return explorer


# ---- units --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "place"), [("conv1", (0, 29)), ("conv2", (3, 4)), ("conv5", (1, 0))])
def test_a_unit_is_projected_as_by_the_literal_method(net, explorer, layer, place):
    trace = net.trace(net.prepare([SHAPES[5].picture]))
    map_ = explorer.strongest_map(layer)
    assert map_ == int(trace[layer].maps[0].flatten(1).amax(1).argmax())
    view = explorer.view(layer, map_, *place)
    whole = deconv(trace, layer, (map_, *place))[0]
    expected = cut(whole, view.box) if len(view.patch) < 64 else whole
    assert np.allclose(view.projection, expected.numpy(), atol=1e-5 * float(whole.abs().max() + 1))
    assert view.activation == pytest.approx(trace[layer].maps[0, map_, place[0], place[1]].item(), rel=1e-4)
    assert view.patch.shape == (*view.projection.shape[1:], 3)


def test_the_strongest_unit_is_the_maps_maximum(explorer):
    row, column = explorer.strongest_unit("conv3", 7)
    assert explorer.maps("conv3")[7, row, column] == explorer.maps("conv3")[7].max()


def test_a_pixel_belongs_to_the_unit_that_is_centred_there(explorer):
    # Units of conv1 see 7 pixels every 2, the first one those around pixel 3; conv2: 27 every 8, around 13.
    pixels = {
        ("conv1", 3, 3): (0, 0),
        ("conv1", 3, 6.4): (0, 2),
        ("conv2", 13, 29): (0, 2),
        ("conv2", 22, 0): (1, 0),
    }
    for (layer, y, x), unit in pixels.items():
        assert explorer.nearest(layer, y, x) == unit
    assert explorer.nearest("conv1", 63, 63) == (29, 29)


def test_the_convolutions_look_at_larger_pictures(net):
    explorer = Explorer(net, side=128)
    explorer.show(SHAPES[0].picture)
    assert explorer.seen.shape == (128, 128, 3)
    assert explorer.maps("conv1").shape == (12, 62, 62)


def test_what_is_not_there_is_refused_in_one_sentence(explorer):
    with pytest.raises(ZfnetError, match="mini has no layer 'conv9'; its layers are conv1"):
        explorer.view("conv9", 0, 0, 0)
    with pytest.raises(ZfnetError, match="conv1 has no map 12; its maps are 0 to 11"):
        explorer.strongest_unit("conv1", 12)
    with pytest.raises(ZfnetError, match=r"conv1 has no unit \(0, 30, 0\)"):
        explorer.view("conv1", 0, 30, 0)


# ---- occluder -----------------------------------------------------------------------------------------------


def test_a_covered_picture_gives_what_the_literal_sweep_gives_there(net):
    occluder = Occluder(net, SHAPES.classes)
    occluder.show(SHAPES[3].picture)
    x = net.prepare([SHAPES[3].picture])
    seen = occlude(net, x[0], size=20, stride=22)
    assert (occluder.map, occluder.target) == (seen.map, seen.target)
    for row, column in np.ndindex(3, 3):
        hidden = occluder.cover(22 * row, 22 * column, 20)
        assert hidden.activity == pytest.approx(float(seen.activity[row, column]), rel=1e-4, abs=1e-6)
        assert hidden.probability == pytest.approx(float(seen.probability[row, column]), rel=1e-4)
        assert hidden.answers[0][0] == int(seen.label[row, column])
    assert torch.allclose(occluder.everywhere(20).probability[0, 0], seen.probability[0, 0], rtol=1e-4)


def test_a_square_over_the_edge_covers_what_lies_inside(net):
    occluder = Occluder(net)
    occluder.show(SHAPES[3].picture)
    x = occluder.x.clone()
    x[..., :6, 60:] = 0
    probabilities = net(x)[0].softmax(0)
    hidden = occluder.cover(-4, 60, 10)
    assert hidden.probability == pytest.approx(float(probabilities[occluder.target].detach()), rel=1e-5)
    assert sum(each for _, each in hidden.answers) < 1
    assert occluder.cover(-99, 0, 10) == occluder.clear
    with pytest.raises(ZfnetError, match="a square of 65 pixels does not fit a picture of 64x64"):
        occluder.cover(0, 0, 65)


def test_without_a_classifier_there_is_activity_alone(net):
    occluder = Occluder(net.features())
    occluder.show(SHAPES[3].picture)
    hidden = occluder.cover(20, 20, 20)
    assert (hidden.probability, hidden.answers) == (None, ())
    assert hidden.activity >= 0


# ---- uploads ------------------------------------------------------------------------------------------------


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_an_upload_that_is_too_large_is_refused_in_one_sentence():
    with pytest.raises(ZfnetError, match=r"^film.png has 24 MB and 8 are the most; save it smaller$"):
        read_upload("film.png", 3 * LARGEST, b"")


def test_a_panorama_is_looked_at_in_its_middle(net, data):
    browser = LiveBrowser(net, SHAPES)
    content = encoded(Image.new("RGB", (4000, 40), (9, 200, 30)))
    browser.take_upload("panorama.png", len(content), content)
    assert "panorama.png" in browser.about.value


# ---- strongest units ----------------------------------------------------------------------------------------


def test_the_nine_strongest_are_those_of_the_library(net):
    nine = StrongestUnits(net, SHAPES)
    with pytest.raises(ZfnetError, match="nothing is known of these pictures yet"):
        nine.block("conv3", 5)
    looked = []
    nine.search(report=lambda done, of: looked.append((done, of)))
    assert looked == [(12, 12)]
    hits = strongest(net, SHAPES, 9)["conv3"]
    block = nine.block("conv3", 5)
    assert block.units == hits.units(5)
    assert block.scores == hits.score[5].tolist()
    assert nine.source == "found here in 12 of 12 pictures"
    with pytest.raises(ZfnetError, match="conv3 has no map 48; its maps are 0 to 47"):
        nine.block("conv3", 48)


def test_a_search_takes_pictures_evenly_and_stops_when_asked(net):
    nine = StrongestUnits(net, SHAPES)
    nine.search(most=4)
    assert {unit.image for unit in nine.block("conv1", 0).units} <= {0, 4, 7, 11}
    with pytest.raises(KeyboardInterrupt):
        StrongestUnits(net, SHAPES).search(report=lambda done, of: (_ for _ in ()).throw(KeyboardInterrupt))


def test_an_atlas_gives_the_same_and_one_of_other_weights_is_refused(net, tmp_path):
    with pytest.raises(
        ZfnetError, match="mini at 64 pixels has no atlas over shapes; look through the pictures here"
    ):
        StrongestUnits(net, SHAPES).read_atlas(tmp_path)
    write_atlas(net, SHAPES, tmp_path / "atlas", maps=4)
    nine, searched = StrongestUnits(net, SHAPES), StrongestUnits(net, SHAPES)
    nine.read_atlas(tmp_path)
    searched.search()
    map_ = int((nine.hits["conv4"].score[:, 0] > 0).nonzero()[0])
    ours, theirs = nine.block("conv4", map_), searched.block("conv4", map_)
    assert ours.units == theirs.units
    assert ours.scores == pytest.approx(theirs.scores, rel=1e-3)
    with pytest.raises(ZfnetError, match="the atlas atlas is of other weights than this network's"):
        StrongestUnits(ConvNet(MINI, seed=2).eval(), SHAPES).read_atlas(tmp_path)


def test_pictures_that_cannot_be_read_are_named(net, tmp_path):
    layouts.class_folders(tmp_path, ["cat"], 4)
    (tmp_path / "cat/image_0003.jpg").write_text("no picture")
    nine = StrongestUnits(net, pictures_named(f"folder:{tmp_path}"))
    nine.search()
    assert nine.source == "found here in 3 of 4 pictures; 1 cannot be read: cat/image_0003.jpg"


def test_data_sets_at_hand_are_offered_and_opened(data, tmp_path):
    assert at_hand() == ["photos", "shapes", "shapes-transfer", "shapes-scenes"]
    (data / "packs" / "tiny-imagenet-val-64").mkdir(parents=True)
    assert at_hand()[0] == "tiny-imagenet"
    assert len(pictures_named("photos")) > 500 and pictures_named("shapes").split == "val"
    for name in "ab":
        (tmp_path / "mine" / name).mkdir(parents=True)
        Image.new("RGB", (70, 70)).save(tmp_path / "mine" / name / "it.png")
    assert len(pictures_named(f"folder:{tmp_path / 'mine'}")) == 2
    with pytest.raises(ZfnetError, match="there is no data set 'nothing'"):
        pictures_named("nothing")


# ---- trainings ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def squares():
    return pack_in_memory(open_dataset("shapes", "train", n=64), 64)


def test_a_training_here_is_the_generators(squares):
    here = TrainingHere(squares, squares, BRIEF, seed=3)
    before = here.filters("now")
    here.run()
    net = ConvNet(MINI, training_preparation(squares, 64), seed=3)
    expected = [asdict(epoch) for epoch in train(net, squares, BRIEF, validation=squares, seed=3)]
    clocks = ("seconds", "images_per_second")
    assert [{k: v for k, v in each.items() if k not in clocks} for each in here.epochs] == [
        {k: v for k, v in each.items() if k not in clocks} for each in expected
    ]
    assert here.says == f"finished: 2 of 2 epochs, update 8 of 8, loss {here.loss[-1]:.3f}"
    assert np.mean(here.loss[4:]) == pytest.approx(expected[1]["loss"])
    assert here.moments == ["the beginning", "epoch 1", "epoch 2", "now"]
    assert np.array_equal(here.filters("the beginning"), before)
    assert np.array_equal(here.filters("epoch 2"), net.conv1.weight.detach().numpy())
    assert not np.array_equal(here.filters("epoch 1"), here.filters("epoch 2"))


def test_a_training_here_stops_at_its_next_update(squares):
    here = TrainingHere(squares, squares, BRIEF)
    here.stop()
    assert here.says == "stops: 0 of 2 epochs"
    report = here._moved
    here._moved = lambda progress: (progress.update == 3 and here.stop(), report(progress))
    here.run()
    assert here.says.startswith("stopped: 0 of 2 epochs, update 3 of 8")


def test_a_recorded_training_is_read_from_what_it_leaves(squares, data, tmp_path, monkeypatch):
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))
    name = "mini-shapes-smoke-seed0"
    record, folder = tmp_path / "results/smoke/trainings" / f"{name}.jsonl", data / "trainings" / name
    net = ConvNet(MINI, training_preparation(squares, 64))
    run = train(net, squares, BRIEF, folder=folder)
    first = asdict(next(run))
    (training,) = recorded_trainings()
    assert (training.name, training.record, training.classes) == (name, record, 16)
    assert training.says == "stopped: 0 of ? epochs, last checkpoint at update 4; the same `zfnet train` with --resume continues it"  # fmt: skip # noqa: E501
    assert np.array_equal(training.filters("update 4"), net.conv1.weight.detach().numpy())

    record.parent.mkdir(parents=True)
    line = {"data": "shapes train (0)", "epoch": first, "recipe": {"epochs": 2}, "training": name}
    record.write_text(json.dumps(line) + "\n")
    with alone(folder):
        assert training.says == "runs now: 1 of 2 epochs, last checkpoint at update 4"
    assert json.loads(json.dumps(training.epochs)) == json.loads(json.dumps([first]))
    last = asdict(next(run))
    record.write_text("".join(json.dumps(line | {"epoch": epoch}) + "\n" for epoch in (first, last)))
    save_network(net, folder / "snapshots" / "epoch-01-of-70", {})
    save_network(net, data / "weights" / name, {"training": name})
    assert training.says == "finished: 2 of 2 epochs, last checkpoint at update 8"
    assert list(training.moments) == ["epoch 01 of 70", "update 8", "the end"]
    assert np.array_equal(training.filters("the end"), net.conv1.weight.detach().numpy())
    with pytest.raises(ZfnetError, match="the weights of update 4 are gone; choose a newer moment"):
        training.filters("update 4")


def test_the_shipped_training_has_its_record_and_its_weights():
    training = RecordedTraining("zfnet-tiny-imagenet-tiny-seed0", PROJECT / "results/tiny/trainings/zfnet-tiny-imagenet-tiny-seed0.jsonl")  # fmt: skip # noqa: E501
    assert (len(training.epochs), training.classes) == (12, 200)
    assert training.filters("the end").shape == (96, 3, 7, 7)


# ---- the panes, without a page ------------------------------------------------------------------------------


@pytest.fixture
def browser(net, data):
    return LiveBrowser(net, SHAPES, SHAPES.classes)


def point(pad, row: int, column: int) -> None:
    pad.pointed = [row, column, pad.pointed[2] + 1]


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
    assert units.view.unit.map == units.explorer.strongest_map("conv2")


def test_another_size_keeps_the_map(browser):
    units = browser.units
    units.map.value = 5
    units.side.value = 224
    assert (units.view.unit.map, units.picture.grid) == (5, [224, 224])


def test_the_square_is_dragged_and_taken_away(browser):
    pane = browser.occluder
    clear = pane.results.value
    point(pane.picture, 30, 31)
    hidden = pane.occluder.cover(30 - 7, 31 - 7, 14)
    assert f"<b>{hidden.probability:.3f}</b>" in pane.results.value
    assert pane.picture.mark == [-7, -7, 14, 14]
    pane.size.value = 40
    assert pane.picture.mark == [-20, -20, 40, 40]
    pane.lift.click()
    assert pane.results.value == clear
    pane._cover_everywhere()
    point(pane.probability, 0, 2)
    assert pane.picture.place[:2] == [20, 20 + 2 * pane.found.stride]
    assert pane.activity.place[:2] == [0, 2]


def test_a_strongest_unit_is_shown_in_its_picture(browser):
    pane = browser.nine
    pane.pictures.value = "shapes-scenes"
    pane.most.value = 20
    pane.look()
    assert "found here in 20 of 1,024 pictures" in pane.result.children[0].value
    point(pane.tile, 1, 4)
    assert pane.tile.says.startswith("Number 5: ")
    pane.show_unit.click()
    assert browser.tabs.selected_index == 0
    assert browser.units.view.unit[1:] == pane.unit[1:]
    assert browser.units.view.activation == pytest.approx(pane.block.scores[4], rel=1e-3)


def test_a_training_is_followed_as_it_happens(browser, squares, monkeypatch):
    pane = browser.training
    pane.training = TrainingHere(squares, squares, BRIEF)
    pane.training.run()
    pane.look()
    assert "over 2 epochs" in pane.curves.value and "at now" in pane.filters.value
    assert "finished: 2 of 2 epochs" in pane.says.value
    pane.moment.value = "the beginning"
    assert "at the beginning" in pane.filters.value


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (lambda b: b.upload._arrived(None, {"name": "a.txt", "size": 3}, [b"abc"]), "a.txt cannot be read as a"),
        (lambda b: b.upload._arrived(None, {"name": "a.png", "size": 10**9}, []), "a.png has 954 MB and 8 are"),
        (lambda b: b.units.go("conv9"), "mini has no layer"),
        (lambda b: b.nine.read_atlas(), "mini at 64 pixels has no atlas over shapes; look through"),
        (lambda b: setattr(b.nine.pictures, "value", "nowhere") or b.nine.read_atlas(), "there is no data set"),
        (lambda b: b.choose(99), "shapes has no picture 99; it has 12"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence_and_changes_nothing(browser, act, sentence, monkeypatch, tmp_path):
    monkeypatch.setattr("zfnet_lib.browser.live.strongest.ATLASES", tmp_path)
    before = browser.units.view
    act(browser)
    assert sentence in browser.notice.value
    assert browser.units.view == before


def test_the_browser_says_where_it_computes_and_takes_uploads(browser, net, monkeypatch):
    assert "this kernel has no GPU" in browser.about.value
    monkeypatch.setattr("zfnet_lib.browser.live.browser.own_device", lambda: "mps")
    content = encoded(Image.new("LA", (80, 70), (200, 255)))
    browser.upload._arrived(None, {"name": "my.png", "size": len(content)}, [memoryview(content)])
    assert browser.about.value.startswith("<b>my.png</b>. mini answers: ")
    assert "a GPU here, and `net.to('mps')` before `live_browser` takes it" in unescape(browser.about.value)
    assert np.ptp(browser.units.explorer.seen[10]) <= 1
    assert "no layer" in LiveBrowser(net, SHAPES, layer="conv9").notice.value


def test_a_page_without_a_kernel_gets_a_shut_door_and_no_module(net, data):
    before = set(_instances)
    door = live_browser(net, SHAPES)
    made = [widget for name, widget in _instances.items() if name not in before]
    assert {widget._model_module for widget in made} <= {"@jupyter-widgets/controls", "@jupyter-widgets/base"}
    door.heard.value = 1
    (browser,) = door.children
    assert isinstance(browser, LiveBrowser)
    door.enter()
    assert door.children == (browser,)


# ---- in JupyterLab ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    return setting.network_of("smoke")


@pytest.fixture(scope="module")
def page(tmp_path_factory, trained):
    """A page of JupyterLab over three notebooks, in a place without any data."""
    if not CHROMIUM:
        pytest.skip("no Chromium here")
    home = tmp_path_factory.mktemp("lab")
    root, weights = home / "notebooks", save_network(trained, home / "mini", {"classes": SHAPES.classes})
    root.mkdir()
    for name in ("fig3", "table1"):
        shutil.copy(PROJECT / "notebooks" / f"{name}.ipynb", root)
    book = nbformat.read(PROJECT / "notebooks/browse.ipynb", 4)
    (live,) = (i for i, cell in enumerate(book.cells) if "live_browser" in cell.source)
    book.cells[1].source = f"profile, pictures, network = 'smoke', '', {str(weights)!r}"
    book.cells = book.cells[: live + 1]
    nbformat.write(book, root / "browse.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZFNET_DATA", str(home / "data"))
        patch.setenv("PYTHONPATH", str(PROJECT))
        with lab(root, home) as address, chromium(viewport={"width": 1280, "height": 1100}) as page:
            page.set_default_timeout(PATIENCE)
            page.goto(f"{address}/lab?reset")
            yield page


def middle(pad, row: int, column: int, rows: int, columns: int) -> dict[str, float]:
    """Return where in a pad the middle of a cell lies."""
    box = pad.bounding_box()
    return {"x": box["width"] * (column + 0.5) / columns, "y": box["height"] * (row + 0.5) / rows}


def as_file(name: str, content: bytes) -> dict[str, str | bytes]:
    return {"name": name, "mimeType": "image/png", "buffer": content}


def test_the_live_browser_answers_in_jupyterlab(page, trained):
    pictures = setting.pictures_of("smoke")
    run_all(page, "browse.ipynb")
    explorer, occluder = Explorer(trained), Occluder(trained, SHAPES.classes)
    explorer.show(pictures[0].picture)
    occluder.show(pictures[0].picture)
    map_ = explorer.strongest_map("conv5")
    rows, columns = explorer.maps("conv5").shape[1:]
    # The square is dragged to where it matters most, so that what the page says differs from the uncovered answer.
    corners = [(row, column) for row in range(1, 50, 8) for column in range(1, 50, 8)]
    top, left = max(corners, key=lambda at: abs(occluder.cover(*at, 14).probability - occluder.clear.probability))

    units = page.get_by_role("application", name="point at a unit")
    units.wait_for()
    units.click(position=middle(units, 2, 1, rows, columns))
    page.get_by_alt_text(f"the projection of conv5, map {map_}, row 2, column 1").wait_for()
    page.keyboard.press("ArrowLeft")
    page.get_by_alt_text(f"the projection of conv5, map {map_}, row 2, column 0").wait_for()
    assert page.locator(".zf-words", has_text=str(explorer.view("conv5", map_, 2, 0))).count() == 1

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
    hidden = occluder.cover(top, left, 14)
    assert abs(hidden.probability - occluder.clear.probability) > 0.01
    page.get_by_text(f"{hidden.probability:.3f} {uncovered}").wait_for()
    page.keyboard.press("ArrowUp")
    page.get_by_text(f"A square of 14 pixels around row {top + 3}, column {left + 7}.").wait_for()

    upload = page.locator(".zf-upload input")
    upload.set_input_files(as_file("mine.png", encoded(Image.new("L", (80, 70)))))
    page.get_by_alt_text("mine.png, as the network sees it").locator("visible=true").wait_for()
    page.get_by_text("mine.png. mini answers:").wait_for()
    upload.set_input_files(as_file("words.png", b"words"))
    page.get_by_role("alert").get_by_text("words.png cannot be read as a picture").wait_for()


@pytest.mark.parametrize("name", ["fig3", "table1"])
def test_jupyterlab_opens_a_notebook_and_runs_it_with_its_defaults(page, name):
    run_all(page, f"{name}.ipynb")
    wait_until_done(page)
    panel = page.locator(".jp-NotebookPanel:visible")
    assert panel.locator(".jp-OutputArea-output table").count() >= 1
    assert panel.locator("[data-mime-type*=error], [data-mime-type*=stderr]").count() == 0
