"""The command line: what it writes, and one sentence with exit status 1 where something is wrong."""

import json
import os
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layouts import class_folders
from PIL import Image

from zfnet_lib.__main__ import main
from zfnet_lib.architecture import MINI
from zfnet_lib.batches import BatchError, Batches
from zfnet_lib.bench import norm
from zfnet_lib.datasets import open_dataset
from zfnet_lib.images import Preparation
from zfnet_lib.network import ConvNet
from zfnet_lib.paper.trainings import Training, excluded_rows, training_data
from zfnet_lib.training import SMOKE
from zfnet_lib.weights import save_network


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A data folder of its own, with a small network in it, and a picture."""
    monkeypatch.setenv("ZFNET_DATA", str(tmp_path / "data"))
    save_network(ConvNet(MINI), tmp_path / "data" / "weights" / "small", {})
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    return tmp_path


def refusal(capsys, *words):
    """Run a command that must fail; return its sentence."""
    assert main([str(word) for word in words]) == 1
    said = capsys.readouterr().err
    assert said.startswith("zfnet: ")
    assert said.count("\n") == 1
    return said


def test_show_writes_one_projection_a_layer(home, capsys):
    assert main(["show", str(home / "noise.png"), "--network", "small", "--out", str(home / "out")]) == 0
    names = sorted(path.name for path in (home / "out").iterdir())
    assert [name.split("-")[1] for name in names] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert all(Image.open(home / "out" / name).size[0] >= 1000 for name in names)
    assert "conv5, map" in capsys.readouterr().out


@pytest.fixture
def nowhere(home, monkeypatch):
    """A home whose data folder cannot be made, with a folder of pictures."""
    class_folders(home / "pictures", ["cat", "dog"], 2)
    monkeypatch.setenv("ZFNET_DATA", str(home / "noise.png" / "data"))
    monkeypatch.setenv("ZFNET_RESULTS", str(home / "noise.png" / "results"))
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize(
    "command",
    [
        "train mini --data folder:pictures --recipe smoke",
        "pack shapes",
        "fetch tiny-imagenet --from noise.png",
        "fetch alexnet-imagenet --from noise.png",
        "show noise.png --network data/weights/small --layer conv1 --out noise.png/out",
        "atlas data/weights/small --pictures folder:pictures --maps 1 --out noise.png/out",
    ],
)
def test_a_result_that_cannot_be_written_is_one_sentence(nowhere, capsys, command):
    with warnings.catch_warnings(action="ignore"):
        assert "cannot write" in refusal(capsys, *command.split())


def test_a_cache_that_cannot_be_written_stops_no_result(nowhere):
    with pytest.warns(UserWarning, match="cannot write .*; the search goes on and is not kept"):
        assert (
            main(["atlas", "data/weights/small", "--pictures", "folder:pictures", "--maps", "1", "--out", "out"])
            == 0
        )
    assert (nowhere / "out/index.html").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"picture": "missing.png"}, "there is no picture"),
        ({"picture": "broken.png"}, "cannot be read as a picture"),
        ({"--network": "nowhere"}, "the weights 'nowhere' are not here"),
        ({"--layer": "conv9"}, "mini has no layer 'conv9'; its layers are conv1, conv2"),
        ({"--layer": "fc6"}, "has no maps"),
        ({"--map": "99999"}, "has no map 99999"),
    ],
)
def test_show_refuses_bad_input_and_writes_nothing(home, capsys, changes, sentence):
    (home / "broken.png").write_bytes((home / "noise.png").read_bytes()[:200])
    options = {"picture": "noise.png", "--network": "small", "--layer": "conv5"} | changes
    picture = home / options.pop("picture")
    words = [word for pair in options.items() for word in pair]
    assert sentence in refusal(capsys, "show", picture, *words, "--out", home / "out")
    assert not (home / "out").exists()


def test_show_never_replaces_another_picture_s_figure(home, capsys):
    for folder, value in {"a": 50, "b": 200}.items():
        (home / folder).mkdir()
        Image.new("RGB", (80, 80), (value, 9, 9)).save(home / folder / "1.png")
    options = ["--network", "small", "--layer", "conv1", "--map", "0", "--out", str(home / "out")]
    written = []
    for folder in ("a", "b", "b", "a"):
        assert main(["show", str(home / folder / "1.png"), *options]) == 0
        written.append(Path(capsys.readouterr().out.partition(":")[0]))
    assert [path.name for path in written] == [f"1-conv1-map0{end}.png" for end in ("", "-2", "-2", "")]
    assert sorted((home / "out").iterdir()) == sorted(set(written))


def test_show_says_where_it_cannot_write(home, capsys):
    words = ["--network", "small", "--layer", "conv1", "--out", home / "noise.png"]
    assert "cannot write" in refusal(capsys, "show", home / "noise.png", *words)


def test_a_picture_of_too_many_pixels_gets_one_sentence(home, capsys):
    Image.new("1", (9500, 9500)).save(home / "wall.png")
    said = refusal(capsys, "show", home / "wall.png", "--network", "small")
    assert said.endswith("wall.png has more than 89 million pixels; save it smaller\n")


def test_fetch_and_bench_name_what_they_know(home, capsys):
    assert "known are alexnet-imagenet, imagenet, tiny-imagenet" in refusal(capsys, "fetch", "mnist")
    assert "there is no benchmark 'coffee'" in refusal(capsys, "bench", "norm", "coffee")


def test_run_refuses_an_unknown_parameter_before_anything_runs(home, capsys):
    said = refusal(capsys, "run", "fig1", "--profile", "smoke", "-p", "typo=1", "--out", home / "runs")
    assert "typo" in said
    assert "picture" in said
    assert not list((home / "runs").glob("*.ipynb"))
    assert "-p takes name=value, given 'typo'" in refusal(capsys, "run", "fig1", "--profile", "smoke", "-p", "typo")


def test_list_and_doctor_say_what_there_is(home, capsys):
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    for name in ("krizhevsky-without-3-4-6-7", "zfnet-11x11", "tiny-imagenet", "alexnet-imagenet", "fig1"):
        assert name in listed
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert all(f"\n{title}" in said for title in ("Programs", "Machine", "Data sets in", "Weights", "Profiles"))


def test_bench_norm_writes_records(home, capsys, monkeypatch):
    monkeypatch.setattr(norm, "NORM_SHAPES", {"a small map": (2, 8, 5, 5)})
    assert main(["bench", "norm", "--json", str(home / "bench.jsonl")]) == 0
    lines = read_lines(home / "bench.jsonl")
    assert [line["quantity"] for line in lines] == ["a small map, forward", "a small map, forward and backward"]
    assert all(line["value"] > 0 and line["n"] == norm.ROUNDS for line in lines)
    assert all(line["parameters"]["allocator"] == "default" for line in lines)
    assert "a small map, forward" in capsys.readouterr().out


def read_lines(path):
    """Read a file of JSON lines."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture
def tiny_folder(home):
    """A folder data set: two classes, red and blue, of 70 training and four validation pictures each."""
    noise = np.random.default_rng(1)
    for split, count in (("train", 70), ("val", 4)):
        for label, channel in (("red", 0), ("blue", 2)):
            (home / "colours" / split / label).mkdir(parents=True)
            for i in range(count):
                picture = noise.integers(0, 90, (64, 64, 3), dtype=np.uint8)
                picture[..., channel] += 150
                Image.fromarray(picture).save(home / "colours" / split / label / f"{i}.png")
    return f"folder:{home / 'colours'}"


def test_train_leaves_record_errors_and_weights_that_evaluate(home, tiny_folder, capsys, monkeypatch):
    monkeypatch.setenv("ZFNET_RESULTS", str(home / "results"))
    words = ["train", "zfnet", "--data", tiny_folder, "--recipe", "smoke"]
    assert main(words) == 0
    weights, record, errors = (line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()[-3:])
    epochs = read_lines(record)
    assert [line["epoch"]["epoch"] for line in epochs] == list(range(1, len(epochs) + 1))
    assert epochs[0]["seed"] == 0 and epochs[0]["provenance"]["device"]
    measured = read_lines(errors)
    assert {(line["quantity"], line["parameters"]["views"]) for line in measured} == {
        *((f"val top-{k} error", views) for k in (1, 5) for views in (1, 10)),
        *((f"train top-{k} error", 1) for k in (1, 5)),
    }
    kept = home / "kept.jsonl"
    assert main(["evaluate", weights, "--data", tiny_folder, "--json", str(kept)]) == 0
    top1 = next(line["value"] for line in measured if line["quantity"] == "val top-1 error")
    printed = capsys.readouterr().out
    assert f"top-1 error {top1:.2f} %" in printed and "hardest: " in printed
    again = read_lines(kept)
    assert [line["value"] for line in again] == [line["value"] for line in measured[:2]]
    assert again[0]["parameters"] == {"networks": [measured[0]["parameters"]["networks"][0]], "views": 1}

    assert "continue it with resume (--resume)" in refusal(capsys, *words)
    before = read_lines(record)
    assert main([*words, "--resume"]) == 0
    assert read_lines(record) == before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"NAME": "zfnet9"}, "there is no architecture 'zfnet9'; known are krizhevsky"),
        ({"--data": "mnist"}, "there is no data set 'mnist'"),
        ({"--data": "caltech-256"}, "zfnet fetch caltech-256"),
        ({"--recipe": "huge"}, "there is no recipe 'huge'; known are paper, tiny, smoke"),
        ({"--clip": "some"}, "clip is 'some'; choose one of all, none, first, but-first"),
        ({"--clip": ""}, "clip is ''; choose one of"),
        ({"--views": ""}, "views is ''; choose one of"),
        ({"--precision": ""}, "precision is ''; choose one of"),
        ({"--epochs": "0"}, "epochs is 0; it is at least 1"),
        ({"--batch": "0"}, "batch is 0; it is at least 1"),
        ({"--seed": "-1"}, "seed -1, 0 pictures a class: no number may be negative"),
        ({"--seed": str(2**63)}, "nor a seed above 2^63"),
        ({"--each": "-1"}, "seed 0, -1 pictures a class: no number may be negative"),
        ({"--workers": "-2"}, "-2 decoding processes are impossible"),
        ({"--data": "folder:" + 300 * "x"}, "File name too long"),
        ({"--data": "folder:~no-such-user"}, "~no-such-user: there is no such user here"),
    ],
)
def test_train_refuses_bad_requests(home, capsys, changes, sentence):
    options = {"NAME": "zfnet", "--data": "shapes", "--recipe": "smoke"} | changes
    name = options.pop("NAME")
    assert sentence in refusal(capsys, "train", name, *(word for pair in options.items() for word in pair))
    assert not (home / "data" / "trainings").exists()


@pytest.mark.parametrize("option", ["--side", "--maps"])
def test_an_atlas_refuses_negative_numbers(home, capsys, option):
    said = refusal(capsys, "atlas", "small", "--pictures", "photos", option, "-1", "--out", home / "atlas")
    assert "an atlas of" in said and "is impossible; 0 takes all, and the network's own" in said
    assert not (home / "atlas").exists()


def test_overlap_and_pack_refuse_bad_requests(home, capsys):
    assert "there is no data set 'x'" in refusal(capsys, "overlap", "x", "shapes")
    assert "there is no data set 'x'" in refusal(capsys, "pack", "x")


@pytest.mark.parametrize(
    ("classes", "record", "sentence"),
    [
        (16, {}, "weights tells 16 classes apart and folder:"),
        (2, {"classes": ["blue", "green"]}, "class 1 is 'green' to "),
        (2, {"classes": ["red", "blue"]}, "class 0 is 'red' to "),
        (2, {"classes": ["blue", "red"]}, ""),
        (2, {}, ""),
    ],
)
def test_evaluate_compares_the_classes(home, tiny_folder, capsys, classes, record, sentence):
    weights = save_network(ConvNet(replace(MINI, classes=classes)), home / "weights", record)
    words = ["evaluate", weights, "--data", tiny_folder]
    if sentence:
        said = refusal(capsys, *words)
        assert sentence in said and said.endswith("; evaluate it on the data that it was trained on\n")
    else:
        assert main(list(map(str, words))) == 0


@pytest.mark.parametrize("options", [[], ["--workers", "2"]])
def test_a_training_leaves_damaged_pictures_out_and_names_them_once(
    home, tiny_folder, capsys, recwarn, monkeypatch, options
):
    monkeypatch.setenv("ZFNET_RESULTS", str(home / "results"))
    for place in ("train/red/3.png", "train/blue/0.png", "val/red/1.png"):
        (home / "colours" / place).write_bytes(b"no picture")
    assert main(["train", "zfnet", "--data", tiny_folder, "--recipe", "smoke", "--epochs", "1", *options]) == 0
    said = [str(warning.message).partition(" that cannot be read are left out: ")[2] for warning in recwarn]
    assert sorted(filter(None, said)) == ["1, val/red/1.png", "2, train/blue/0.png, train/red/3.png"]
    errors = read_lines(capsys.readouterr().out.splitlines()[-1].partition(": ")[2])
    assert {(line["quantity"][:5], line["n"]) for line in errors} == {("val t", 7), ("train", 138)}


def test_folders_are_packed_and_compared_and_training_leaves_out_what_both_have(home, tiny_folder, capsys):
    other = home / "others" / "any"
    other.mkdir(parents=True)
    shutil.copy(home / "noise.png", other / "1.png")
    shutil.copy(home / "noise.png", home / "colours" / "train" / "red" / "noise.png")
    assert main(["pack", tiny_folder]) == 0
    assert "train: 141 pictures of 256 pixels\n" in capsys.readouterr().out
    assert main(["overlap", tiny_folder, f"folder:{home / 'others'}"]) == 0
    assert "1 of 141 pictures of folder-colours-" in capsys.readouterr().out
    data = training_data(tiny_folder, "train")
    assert [data.names[row] for row in excluded_rows(data)] == ["train/red/noise.png"]


def test_a_batch_of_ones_own_is_part_of_the_trainings_name():
    recipe = replace(SMOKE, batch=96, clip="none")
    training = Training("zfnet", "shapes", recipe)
    assert training.name == "zfnet-clip-none-batch-96-shapes-smoke-seed0"
    assert training.command == "zfnet train zfnet --data shapes --recipe smoke --clip none --batch 96"
    with pytest.raises(
        BatchError, match=r"a batch of 64 cannot be shared by 3 processes; .* multiple of 3 \(--batch\)"
    ):
        Batches(open_dataset("shapes", n=96), Preparation.grey(64), size=SMOKE.batch, classes=16, world=3)
    Batches(open_dataset("shapes", n=96), Preparation.grey(64), size=recipe.batch, classes=16, world=3)


@pytest.mark.parametrize(
    "words",
    [
        ["show", "{long}", "--network", "small"],
        ["show", "noise.png", "--network", "{long}"],
        ["show", "noise.png", "--network", "small", "--out", "{long}"],
        ["evaluate", "{long}", "--data", "shapes"],
        ["fetch", "caltech-101", "--from", "{long}"],
        ["atlas", "{long}"],
        ["claims", "--profile", "tiny", "--json", "{long}"],
    ],
)
def test_names_that_are_too_long_are_one_sentence(home, capsys, monkeypatch, words):
    monkeypatch.chdir(home)
    assert "File name too long" in refusal(capsys, *(word.format(long=300 * "x") for word in words))


@pytest.mark.parametrize(
    "words", [["evaluate", "small", "--data", "shapes"], ["claims", "--profile", "tiny"], ["bench", "norm"]]
)
def test_a_folder_in_the_place_of_a_file_is_refused_before_the_work(home, capsys, words):
    assert refusal(capsys, *words, "--json", home) == f"zfnet: {home} is a folder; name a file\n"


def test_a_home_that_is_not_there_is_one_sentence(home, capsys, monkeypatch):
    monkeypatch.setenv("ZFNET_DATA", "~no-such-user")
    for command in ("list", "doctor"):
        assert "there is no such user here" in refusal(capsys, command)


def test_a_reader_that_has_seen_enough_is_no_error(capsys, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["list"]) == 141
    assert capsys.readouterr().err == ""
