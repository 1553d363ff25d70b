"""The command line: what it writes, and one sentence with exit status 1 where something is wrong."""

import json
import os
import re
import shutil
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from layouts import class_folders
from PIL import Image

from zfnet_lib import MINI, ConvNet, load_network, save_network
from zfnet_lib.__main__ import main, zfnet
from zfnet_lib.bench import plain
from zfnet_lib.machine import own_device
from zfnet_lib.paper.trainings import Training, excluded_rows, training_data
from zfnet_lib.training import SMOKE, Drops


@pytest.fixture
def home(data, tmp_path, monkeypatch):
    """A data folder of its own, with a small network in it, and a picture, in the working folder."""
    monkeypatch.chdir(tmp_path)
    save_network(ConvNet(MINI), data / "weights" / "small", {})
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    return tmp_path


def done(command):
    """Run a command that must succeed."""
    assert main(command.split()) == 0


def refusal(capsys, command):
    """Run a command that must fail; return its sentence."""
    assert main(command.split()) == 1
    said = capsys.readouterr().err
    assert said.startswith("zfnet: ")
    assert said.count("\n") == 1
    return said


SHOW = "show noise.png --network small --layer conv5 --out out"
OCCLUDE = "occlude noise.png --network small --out out"
TRAIN = "train zfnet --data shapes --recipe smoke"
LONG = 300 * "x"
TOO_LONG = (
    f"show {LONG} --network small", f"show noise.png --network {LONG}", f"{SHOW} --out {LONG}",
    f"evaluate {LONG} --data shapes", f"fetch caltech-101 --from {LONG}", f"atlas {LONG}",
    f"claims --profile tiny --json {LONG}", f"{TRAIN} --data folder:{LONG}",
)  # fmt: skip
REFUSALS = [
    ("show wall.png --network small --out out", "wall.png has more than 89 million pixels; save it smaller\n"),
    (f"{SHOW} --network nowhere", "there are no weights 'nowhere'; "),
    (f"{SHOW} --layer conv9", "small has no layer 'conv9'; its layers are conv1, conv2"),
    (f"{SHOW} --out noise.png", "cannot write"),
    ("fetch mnist", "known are alexnet-imagenet, vgg16-imagenet, imagenet"),
    ("bench norm coffee", "there is no benchmark 'coffee'"),
    ("run fig1 --profile smoke -p typo", "-p takes name=value, given 'typo'"),
    (f"{TRAIN} --data mnist", "there is no data set 'mnist'"),
    (f"{TRAIN} --data caltech-256", "zfnet fetch caltech-256"),
    (f"{TRAIN} --device cuda:7", "the device 'cuda:7' is not here; choose one of cpu"),
    ("train zfnet.without('conv9') --data shapes", "zfnet has no layer 'conv9'; its layers are conv1"),
    (f"{OCCLUDE} --label dog", "small has no class 'dog'; give its number"),
    (f"{OCCLUDE} --label 99", "small has no class 99; choose one from 0 to 15"),
    (f"{OCCLUDE} --layers conv2,conv9", "small has no layer 'conv9'; its layers are conv1"),
    (f"{OCCLUDE} --random --weights x", "leave out --weights or --random"),
    (f"{SHOW} --network own.py:make --random", "own.py:make makes its own weights; let a function draw them"),
    (f"{TRAIN} --clip some", "clip is 'some'; choose one of all, none, first, but-first"),
    (f"{TRAIN} --precision=", "precision is ''; choose one of"),
    (f"{TRAIN} --epochs 0", "epochs is 0; it is at least 1"),
    (f"{TRAIN} --seed {2**63}", "nor a seed above 2^63"),
    (f"{TRAIN} --each -1", "seed 0, -1 pictures a class: no number may be negative"),
    (f"{TRAIN} --workers -2", "-2 decoding processes are impossible"),
    (f"{TRAIN} --data folder:~no-such-user", "~no-such-user: there is no such user here"),
    ("atlas small --side -1 --out out", "is impossible; 0 takes all, and the network's own"),
    ("atlas small --maps -1 --out out", "is impossible; 0 takes all, and the network's own"),
    ("overlap caltech-101 shapes", "a training on it leaves nothing out; name it second: zfnet overlap shapes cal"),
    *((command, "File name too long") for command in TOO_LONG),
    ("bench norm --json data", "zfnet: data is a folder; name a file\n"),
]


@pytest.mark.parametrize(("command", "sentence"), REFUSALS)
def test_what_is_wrong_is_one_sentence_and_nothing_is_written(home, capsys, command, sentence):
    if "wall.png" in command:
        Image.new("1", (9500, 9500)).save(home / "wall.png")
    assert sentence in refusal(capsys, command)
    assert not (home / "out").exists() and not (home / "data" / "trainings").exists()


def test_show_writes_one_projection_a_layer_and_never_replaces_another_picture_s_figure(home, capsys):
    done("show noise.png --network small --out all")
    names = sorted(path.name for path in (home / "all").iterdir())
    assert [name.split("-")[1] for name in names] == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert all(Image.open(home / "all" / name).size[0] >= 1000 for name in names)
    assert "conv5, map" in capsys.readouterr().out
    written = []
    for folder, value in {"a": 50, "b": 200}.items():
        (home / folder).mkdir()
        Image.new("RGB", (80, 80), (value, 9, 9)).save(home / folder / "1.png")
    for folder in ("a", "b", "b", "a"):
        done(f"show {folder}/1.png --network small --layer conv1 --map 0 --out out")
        written.append(Path(capsys.readouterr().out.partition(":")[0]))
    assert [path.name for path in written] == [f"1-conv1-map0{end}.png" for end in ("", "-2", "-2", "")]
    assert sorted(Path("out").iterdir()) == sorted(set(written))


def test_occlude_draws_what_there_is_says_where_most_is_lost_and_replaces_nothing(home, capsys):
    command = "occlude noise.png --network small --square 20 --stride 22 --map 5 --out out"
    done(f"{command} --label 3")
    said = r"out/noise-occluded-conv5-map5.png: the probability of class 3 falls most, from 0.\d+ to 0.\d+, "
    assert re.fullmatch(said + r"with the square's corner at row \d+, column \d+\n", capsys.readouterr().out)
    for size in (64, 80):  # its own, and one at which there is no classifier
        done(f"{command} --size {size}")
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [f"out/noise-occluded-conv5-map5-{n}.png" for n in (2, 3)]
    assert "the activity falls most" in lines[1]
    assert all(Image.open(path).size[0] == 1350 for path in (home / "out").iterdir())


OWN = """
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, 4, 5), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3), nn.ReLU())
"""


def test_any_network_is_shown_occluded_and_made_an_atlas_of(home, capsys, monkeypatch):
    (home / "own.py").write_text(OWN)
    class_folders(home / "pictures", ["cat", "dog"], 5)
    done("show noise.png --network own.py:make --size 32 --layers 0,3 --out out")
    first, second = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"out/noise-0-map\d\.png: 0, map \d, activation .*; the exact gradient passes gelu", first)
    assert second.startswith("out/noise-3-map")
    done("occlude noise.png --network own.py:make --size 32 --square 8 --stride 12 --out out")
    assert "the activity falls most" in capsys.readouterr().out
    done("atlas own.py:make --size 32 --layers 3 --pictures folder:pictures --maps 1 --out out/atlas")
    manifest = json.loads((home / "out/atlas/manifest.json").read_text())
    assert (manifest["name"], manifest["side"]) == ("own.py-make", 32)
    assert [layer["layer"] for layer in manifest["layers"]] == ["3"]
    done("atlas small --layers conv2,conv3 --pictures folder:pictures --maps 1 --out out/small")
    manifest = json.loads((home / "out/small/manifest.json").read_text())
    assert [layer["layer"] for layer in manifest["layers"]] == ["conv2", "conv3"]
    monkeypatch.setattr("zfnet_lib.__main__.PROJECT", home / "project")  # where the live browser looks for them
    done("atlas small --layers conv2 --pictures folder:pictures --maps 1")
    assert (home / "project/atlas/small-folder-pictures/index.html").exists()


def test_the_device_holds_for_one_command_and_what_it_begins(home, monkeypatch):
    asked = []
    monkeypatch.delenv("ZFNET_DEVICE", raising=False)
    monkeypatch.setattr("zfnet_lib.paper.runner.run_notebooks", lambda *_, **__: asked.append(own_device()) or [])
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for device in ("cuda:1", "cpu"):
        done(f"run fig1 --profile smoke --device {device}")
    assert asked == ["cuda:1", "cpu"] and "ZFNET_DEVICE" not in os.environ


@pytest.fixture
def nowhere(home, monkeypatch):
    """A home whose data folder cannot be made, with a folder of pictures."""
    class_folders(home / "pictures", ["cat", "dog"], 2)
    monkeypatch.setenv("ZFNET_DATA", str(home / "noise.png" / "data"))
    monkeypatch.setenv("ZFNET_RESULTS", str(home / "noise.png" / "results"))
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
        assert "cannot write" in refusal(capsys, command)


def test_list_and_doctor_say_what_there_is_or_why_not(home, capsys, monkeypatch):
    done("list")
    listed = capsys.readouterr().out
    for name in ("krizhevsky-without-3-4-6-7", "zfnet-11x11 ", "tiny-imagenet +Tiny-", "fig1 .* the deconvnet"):
        assert re.search(f"\n  {name}", listed)
    assert "vgg16-imagenet               not here  zfnet fetch vgg16-imagenet\n" in listed
    assert re.search(r"\n  small +here\n(.*\n)*  zfnet-tiny +ships +projections, ", listed)
    done("doctor")
    said = capsys.readouterr().out
    assert all(f"\n{title}" in said for title in ("Programs", "Machine", "Data sets in", "Weights", "Profiles"))
    monkeypatch.setenv("ZFNET_DATA", "~no-such-user")
    for command in ("list", "doctor"):
        assert "there is no such user here" in refusal(capsys, command)


def test_every_command_is_said_in_a_line_that_is_not_cut(capsys):
    done("--help")
    said = capsys.readouterr().out
    assert "..." not in said.partition("Commands:")[2] and all(f"\n  {name} " in said for name in zfnet.commands)


def test_bench_norm_writes_records(home, capsys, monkeypatch):
    monkeypatch.setattr(plain, "NORM_SHAPES", {"a small map": (2, 8, 5, 5)})
    done("bench norm --json bench.jsonl")
    lines = read_lines("bench.jsonl")
    assert [line["quantity"] for line in lines] == ["a small map, forward", "a small map, forward and backward"]
    assert all(line["value"] > 0 and line["n"] == plain.NORM_ROUNDS for line in lines)
    assert all(line["parameters"]["allocator"] == "default" for line in lines)
    assert "a small map, forward" in capsys.readouterr().out


def read_lines(path):
    """Read a file of JSON lines."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


@pytest.fixture
def tiny_folder(home, results):
    """A folder data set: two classes, red and blue, of 70 training and four validation pictures each."""
    for split, count in (("train", 70), ("val", 4)):
        class_folders(home / "colours" / split, ["blue", "red"], count, "{}.jpg")
    return f"folder:{home / 'colours'}"


def test_train_leaves_record_errors_and_weights_that_evaluate(home, tiny_folder, capsys):
    command = f"train zfnet --data {tiny_folder} --recipe smoke"
    done(command)
    weights, record, errors = (line.partition(": ")[2] for line in capsys.readouterr().out.splitlines()[-3:])
    epochs = read_lines(record)
    assert [line["epoch"]["epoch"] for line in epochs] == list(range(1, len(epochs) + 1))
    assert epochs[0]["seed"] == 0 and epochs[0]["provenance"]["device"]
    measured = read_lines(errors)
    assert {(line["quantity"], line["parameters"]["views"]) for line in measured} == {
        *((f"val top-{k} error", views) for k in (1, 5) for views in (1, 10)),
        *((f"train top-{k} error", 1) for k in (1, 5)),
    }
    done(f"evaluate {weights} --data {tiny_folder} --json kept.jsonl")
    top1 = next(line["value"] for line in measured if line["quantity"] == "val top-1 error")
    printed = capsys.readouterr().out
    assert f"top-1 error {top1:.2f} %" in printed and "hardest: " in printed
    again = read_lines("kept.jsonl")
    assert [line["value"] for line in again] == [line["value"] for line in measured[:2]]
    assert again[0]["parameters"] == {"networks": [measured[0]["parameters"]["networks"][0]], "views": 1}

    before = read_lines(record)
    done(f"{command} --resume")
    assert read_lines(record) == before


@pytest.mark.parametrize(
    ("classes", "record", "sentence"),
    [
        (16, {}, "weights tells 16 classes apart and folder:"),
        (2, {"classes": ["blue", "green"]}, "class 1 is 'green' to "),
        (2, {"classes": ["blue", "red"]}, ""),
        (2, {}, ""),
    ],
)
def test_evaluate_compares_the_classes(home, tiny_folder, capsys, classes, record, sentence):
    weights = save_network(ConvNet(replace(MINI, classes=classes)), home / "weights", record)
    command = f"evaluate {weights} --data {tiny_folder}"
    if sentence:
        said = refusal(capsys, command)
        assert sentence in said and said.endswith("; evaluate it on the data that it was trained on\n")
    else:
        done(command)


def test_folders_are_packed_and_compared_and_training_leaves_out_what_both_have(home, tiny_folder, capsys):
    other = home / "others" / "any"
    other.mkdir(parents=True)
    shutil.copy(home / "noise.png", other / "1.png")
    shutil.copy(home / "noise.png", home / "colours" / "train" / "red" / "noise.png")
    done(f"pack {tiny_folder}")
    assert "train: 141 pictures of 256 pixels\n" in capsys.readouterr().out
    done(f"overlap {tiny_folder} folder:others")
    assert "1 of 141 pictures of folder-colours-" in capsys.readouterr().out
    data = training_data(tiny_folder, "train")
    assert [data.names[row] for row in excluded_rows(data)] == ["train/red/noise.png"]


def test_an_ablation_of_ones_own_trains_resumes_and_evaluates_by_its_name(home, tiny_folder, capsys):
    rest = f"--data {tiny_folder} --recipe smoke --epochs 1 --batch 32"
    assert main(["train", "zfnet.without('conv4').resized(fc6=800)", *rest.split()]) == 0
    weights = capsys.readouterr().out.splitlines()[-3].partition(": ")[2]
    assert Path(weights).name.startswith("zfnet-without-conv4-resized-fc6-800-epochs-1-batch-32-folder-")
    net = load_network(weights)
    assert net.layers == ("conv1", "conv2", "conv3", "conv5") and net.fc6.out_features == 100  # an eighth
    done(f"train zfnet-without-conv4-resized-fc6-800 {rest} --resume")
    done(f"evaluate {Path(weights).name} --data {tiny_folder}")
    assert "top-1 error" in capsys.readouterr().out


def test_a_batch_and_a_folder_of_ones_own_are_part_of_the_trainings_name(tmp_path):
    training = Training("zfnet", "shapes", replace(SMOKE, batch=96, clip="none"))
    assert training.name == "zfnet-clip-none-batch-96-shapes-smoke-seed0"
    assert training.command == "zfnet train zfnet --data shapes --recipe smoke --clip none --batch 96"
    constant = replace(training, recipe=replace(SMOKE, anneal=Drops(())))
    assert constant.name == "zfnet-rate-constant-shapes-smoke-seed0"
    assert constant.recipe.rate_in(5, []) == SMOKE.rate
    assert constant.command == "zfnet train zfnet --data shapes --recipe smoke --rate constant"
    for path in (tmp_path / "a b/c", tmp_path / "a b-c"):
        path.mkdir(parents=True)
        own = replace(training, data=f"folder:{path}")
        assert re.fullmatch(f"zfnet-.*-96-folder-{path.name}-[0-9a-f]{{8}}-smoke-seed0", own.name)
        assert f" --data 'folder:{path}' " in own.command


def test_a_reader_that_has_seen_enough_is_no_error(capsys, monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert main(["list"]) == 141
    assert capsys.readouterr().err == ""


def test_options_that_contradict_one_another_are_refused(data, results, capsys, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")  # as torchrun does
    table, both = "train --table 2 --data shapes", "a.png --network small --layer a --layers a,b"
    for command, sentence in (
        (f"{table} --seed 5 --rate constant", "as it is; leave out --seed, --rate"),
        (table, "name an architecture under torchrun"),
        *((f"{command} {both}", "give one of the two") for command in ("show", "occlude")),
    ):
        assert main(command.split()) == 2
        assert sentence in capsys.readouterr().err


def test_lack_of_memory_is_one_sentence_and_other_errors_stay_as_they_are(home, capsys, monkeypatch):
    def failing(*given, **how):
        raise RuntimeError(said)

    monkeypatch.setattr("zfnet_lib.weights.open_network", failing)
    said = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."
    assert refusal(capsys, SHOW) == "zfnet: the memory is too small for this; choose a smaller batch or size\n"
    said = "something else"
    with pytest.raises(RuntimeError, match="something else"):
        main(SHOW.split())


def test_a_notebook_of_ones_own_that_is_empty_is_listed(home, capsys, monkeypatch):
    (home / "notebooks").mkdir()
    (home / "notebooks" / "own.ipynb").touch()
    monkeypatch.setattr("zfnet_lib.__main__.PROJECT", home)
    monkeypatch.setattr("zfnet_lib.__main__.notebook_names", lambda: ["own"])
    done("list")
    assert "own" in capsys.readouterr().out
