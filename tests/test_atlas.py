"""The atlas: what its sheets and manifest hold, and when it is written anew."""

import json
import sys
from unittest.mock import Mock

import layouts
import numpy as np
import pytest
import torch
from PIL import Image
from residual import residual

from zfnet_lib import MINI, ConvNet, ZfnetError, open_dataset, save_network, strongest
from zfnet_lib.__main__ import main
from zfnet_lib.architecture import Box
from zfnet_lib.browser.atlas import MANIFEST, SHOWN, TILE, read_manifest, write_atlas
from zfnet_lib.files import seal
from zfnet_lib.images import PictureError, projection_image
from zfnet_lib.strongest import Squares, blocks, fitted, load_blocks, patch, save_blocks

SHAPES = open_dataset("shapes", n=12)
NET = ConvNet(MINI, seed=1).eval()


def test_rows_of_the_sheets_are_the_maps_of_the_manifest_and_show_pieces_of_the_pictures(tmp_path):
    folder = write_atlas(NET, SHAPES, tmp_path / "atlas")
    manifest = read_manifest(folder)
    assert [layer["layer"] for layer in manifest["layers"]] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    top = strongest(NET, SHAPES, SHOWN)["conv3"]
    layer = manifest["layers"][2]
    assert (layer["maps"], layer["field"], layer["stride"]) == (48, 75, 16)
    assert layer["sheets"] == ["conv3-0.webp", "conv3-1.webp"]
    heights = [np.asarray(Image.open(folder / name)).shape for name in layer["sheets"]]
    rows = len(layer["entries"])
    assert heights == [(32 * TILE, 18 * TILE, 3), ((rows - 32) * TILE, 18 * TILE, 3)]
    entry = next(entry for entry in layer["entries"] if entry["map"] == 5)
    units = top.units(5)
    assert entry["images"] == [unit.image for unit in units]
    assert entry["places"] == [[unit.row, unit.column] for unit in units]
    assert entry["scores"] == pytest.approx(top.score[5].tolist(), rel=1e-3)
    labels = [manifest["seen"][str(unit.image)]["labels"] for unit in units]
    assert labels == [[SHAPES[unit.image][1]] for unit in units]

    layer = manifest["layers"][1]
    sheet = np.asarray(Image.open(folder / layer["sheets"][0])).astype(float)
    x, box = NET.prepare([SHAPES[layer["entries"][2]["images"][0]].picture]), Box(*layer["entries"][2]["boxes"][0])
    expected = Image.fromarray(patch(NET.preparation.visible(x)[0], box)).resize((TILE, TILE), Image.BICUBIC)
    shown = sheet[2 * TILE : 3 * TILE, SHOWN * TILE : (SHOWN + 1) * TILE]
    assert abs(shown - np.asarray(expected)).mean() < 12


def test_an_atlas_of_a_residual_network_shows_its_outermost_layers_and_projections_in_place_of_filters(tmp_path):
    net = residual()
    folder = write_atlas(net, SHAPES, tmp_path / "atlas", maps=3)
    manifest = read_manifest(folder)
    found = [tuple(layer.values()) for layer in manifest["architecture"]]
    assert found == [("stem", 8, 32), ("pool", 8, 16), ("block", 8, 16), ("top", 5, 7)]
    assert not any(layer["cover"]["exact"] for layer in manifest["layers"]) and "filter" not in manifest["contrast"]
    layer = manifest["layers"][3]
    assert (layer["maps"], layer["field"], layer["stride"], len(layer["entries"])) == (5, 13, 4, 3)
    top = strongest(net, SHAPES, SHOWN)["top"]
    (block,) = blocks(net, Squares(net, SHAPES), top, [layer["entries"][0]["map"]])
    expected = Image.fromarray(projection_image(block.projections[0])).resize((TILE, TILE), Image.NEAREST)
    tile = np.asarray(Image.open(folder / layer["sheets"][0])).astype(float)[:TILE, :TILE]
    assert abs(tile - np.asarray(expected)).mean() < 12


def test_of_other_maps_an_atlas_keeps_fewer_units(tmp_path):
    layer = read_manifest(write_atlas(NET, SHAPES, tmp_path / "some", maps=3))["layers"][1]
    drawn = {entry["map"]: entry for entry in layer["entries"]}
    layer = read_manifest(write_atlas(NET, SHAPES, tmp_path / "all", maps=3, others=1))["layers"][1]
    assert len(layer["entries"]) == layer["active"] > len(drawn) == 3
    for entry in layer["entries"]:
        expected, units = drawn.get(entry["map"]), [len(entry[key]) for key in ("scores", "boxes", "images")]
        assert entry == expected if expected else units == [1] * 3
    sheets = [Image.open(tmp_path / "all" / name) for name in layer["sheets"]]
    assert sum(sheet.height for sheet in sheets) == TILE * layer["active"]


def test_a_network_in_training_mode_answers_without_dropout_or_not_at_all(tmp_path):
    layouts.class_folders(tmp_path / "pictures", ["cat"], 9)
    pictures, net = open_dataset(f"folder:{tmp_path / 'pictures'}", "all"), ConvNet(MINI, seed=1).train()
    net.fc8.weight.data *= 200
    folder = write_atlas(net, pictures, tmp_path / "atlas", maps=1, classes=SHAPES.classes)
    answers = read_manifest(folder)["answers"]
    assert answers
    for image, (answer, _) in answers.items():
        logits = net.trace(net.prepare([pictures[int(image)].picture])).logits
        assert answer == SHAPES.classes[logits.argmax()]
    with pytest.raises(ZfnetError, match=r"small is in training mode, .*; call `net.eval\(\)` first"):
        write_atlas(residual().train(), pictures, tmp_path / "never")


def test_an_atlas_is_written_once_and_anew_for_other_weights_or_maps_and_speaks_of_its_own_files(tmp_path):
    folder = write_atlas(NET, SHAPES, tmp_path / "atlas", maps=2)
    before = (folder / MANIFEST).stat().st_mtime_ns
    write_atlas(NET, SHAPES, folder, maps=2)
    assert (folder / MANIFEST).stat().st_mtime_ns == before
    keys = {read_manifest(folder)["key"]}
    smaller = NET.features(side=56)
    for other, maps in ((ConvNet(MINI, seed=2).eval(), 1), (NET, 1), (smaller, 1)):
        keys.add(read_manifest(write_atlas(other, SHAPES, folder, maps=maps))["key"])
    assert len(keys) == 4 and read_manifest(folder)["side"] == 56
    (folder / "conv1-0.webp").unlink()
    with pytest.raises(ZfnetError, match=r"holds no atlas \(conv1-0.webp is missing\); write it with: zfnet atlas"):
        read_manifest(folder)
    write_atlas(smaller, SHAPES, folder, maps=1)

    (tmp_path / "secret.webp").touch()
    for name in ("../secret.webp", "/etc/hostname", "sources/../../secret.webp"):
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["layers"][0]["cover"]["sheet"] = name
        (folder / MANIFEST).write_text(json.dumps(manifest))
        seal(folder)
        with pytest.raises(ZfnetError, match=r"holds no atlas \('.*' lies outside it\); write it with: .*"):
            read_manifest(folder)
    with pytest.raises(ZfnetError, match="holds something that is no atlas; choose another folder"):
        write_atlas(NET, SHAPES, tmp_path)
    assert (tmp_path / "secret.webp").exists()


def test_pictures_that_cannot_be_read_are_left_out_and_named(tmp_path, data, capsys):
    save_network(NET, data / "weights" / "small", {})
    layouts.class_folders(tmp_path / "pictures", ["cat", "dog"], 4)
    (tmp_path / "pictures/dog/image_0002.jpg").write_text("no picture")
    (tmp_path / "pictures/dog/image_0004.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    words = ["atlas", "small", "--pictures", f"folder:{tmp_path / 'pictures'}", "--maps", "1"]
    for _ in range(2):  # the second finds the atlas written
        assert main([*words, "--out", str(tmp_path / "out")]) == 0
        said = capsys.readouterr().out
        assert "unreadable pictures left out: 2 (dog/image_0002.jpg, dog/image_0004.jpg)" in said
        assert said.strip().endswith(f"{tmp_path / 'out/index.html'}: open it in a browser")
    assert read_manifest(tmp_path / "out")["left_out"] == ["dog/image_0002.jpg", "dog/image_0004.jpg"]


def test_prepared_pictures_are_kept_as_far_as_they_fit(monkeypatch):
    monkeypatch.setattr(sys.modules[Squares.__module__], "KEPT", 4)
    squares, read = Squares(NET, SHAPES), []
    monkeypatch.setattr(type(SHAPES), "__getitem__", lambda data, i: (read.append(i), data.sample(i))[1])
    for images in ([0, 1, 2], [2, 1], range(2, 9), [8, 5, 2]):
        assert squares[images].equal(NET.prepare([SHAPES.sample(i).picture for i in images]))
    assert read == [0, 1, 2, *range(3, 9), 2] and squares.square.cache_info().currsize == 4


def test_blocks_name_units_and_boxes_and_come_back_without_pictures_and_with_them(tmp_path, monkeypatch):
    squares, top = Squares(NET, SHAPES), strongest(NET, SHAPES, 3, ["conv2"])["conv2"]
    before = list(blocks(NET, squares, top, [4, 0]))
    assert [(block.layer, block.map) for block in before] == [("conv2", 4), ("conv2", 0)]
    assert before[0].units == top.units(4) and len(before[0].projections) == 3
    box = before[0].boxes[0]
    assert box.bottom - box.top == 27 == len(before[0].patches[0])
    save_blocks(tmp_path / "blocks.npz", before, {"network": "mini"})
    alone, notes = load_blocks(tmp_path / "blocks.npz")
    assert notes == {"network": "mini"} and alone[0].patches == []
    beside, _ = load_blocks(tmp_path / "blocks.npz", squares)
    for ours, theirs in zip(before, beside, strict=True):
        assert all(getattr(ours, key) == getattr(theirs, key) for key in ("map", "units", "boxes", "names"))
        assert all(np.array_equal(a, b) for a, b in zip(ours.patches, theirs.patches, strict=True))
        for a, b in zip(ours.projections, theirs.projections, strict=True):
            assert abs(projection_image(a).astype(int) - projection_image(b, 1.0)).max() <= 1

    class Turned:
        """The same pictures in other rows, as another archive may have them."""

        names, __len__ = SHAPES.names[::-1], SHAPES.__len__

        def __getitem__(self, row):
            return SHAPES[len(SHAPES) - 1 - row]

    turned, _ = load_blocks(tmp_path / "blocks.npz", Squares(NET, Turned()))
    assert all(map(np.array_equal, turned[0].patches, before[0].patches))
    Turned.names = ["elsewhere"] * len(SHAPES)
    assert load_blocks(tmp_path / "blocks.npz", Squares(NET, Turned()))[0][0].patches == []
    monkeypatch.setattr(Squares, "__getitem__", Mock(side_effect=PictureError("a picture is damaged")))
    with pytest.raises(PictureError):  # no fault of the projections
        load_blocks(tmp_path / "blocks.npz", Squares(NET, SHAPES))
    (tmp_path / "blocks.npz").write_bytes(b"PK nothing")
    with pytest.raises(ZfnetError, match=r"holds no projections .*; restore it, or compute them again"):
        load_blocks(tmp_path / "blocks.npz")


def test_a_field_as_large_as_the_picture_shows_the_picture():
    image, box = fitted(torch.ones(3, 75, 75), Box(-10, -10, 65, 65), 64)
    assert (tuple(image.shape), box) == ((3, 64, 64), Box(0, 0, 64, 64))
    image, box = fitted(torch.ones(3, 3, 9), Box(4, -2, 7, 7), 64)  # no square: in the middle of one
    assert (image.shape, image.sum(), image[:, 3:6].min(), box) == ((3, 9, 9), 81, 1, Box(1, -2, 10, 7))
