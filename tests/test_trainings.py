"""Named trainings: their queue, what they leave, the weights that ship, and what `smoke` trains on the spot."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from layouts import class_folders
from PIL import Image
from planted import record
from safetensors.torch import load_file

from zfnet_lib import weights
from zfnet_lib.__main__ import main
from zfnet_lib.architecture import MINI, STEMS, TABLE_2
from zfnet_lib.datasets import dataset_folder, open_dataset, open_pack, pack_dataset, pack_in_memory
from zfnet_lib.evaluation import errors
from zfnet_lib.files import ZfnetError, alone, trained_root
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import records, setting, trainings
from zfnet_lib.paper.trainings import Training, epochs, performed, read_epochs, recorded_errors, state
from zfnet_lib.training import SMOKE, TINY, EpochResult, saved_states
from zfnet_lib.weights import load_network, save_network

RUN = Training("zfnet", "tiny-imagenet", TINY)
MINI_SMOKE = Training("mini", "shapes", SMOKE)
pytestmark = pytest.mark.usefixtures("results", "data")


@pytest.fixture
def stripes(tmp_path):
    """A folder data set of two classes, just large enough for a batch."""
    rng = np.random.default_rng(0)
    for split, n in (("train", 34), ("val", 3)):
        for label in ("rows", "columns"):
            folder = tmp_path / "stripes" / split / label
            folder.mkdir(parents=True)
            for i in range(n):
                picture = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
                picture[(slice(None, None, 8) if label == "rows" else (slice(None), slice(None, None, 8)))] += 150
                Image.fromarray(picture).save(folder / f"{i}.png")
    return f"folder:{tmp_path / 'stripes'}"


def test_the_order_is_base_runs_their_second_seeds_smaller_rows_third_seeds_wider_rows_and_stems():
    queued = trainings.queue("tiny-imagenet", TINY)
    names = [(t.network, t.recipe.clip, t.seed) for t in queued]
    assert names[:3] == [("zfnet", "all", 0), ("krizhevsky", "all", 0), ("zfnet", "none", 0)]
    assert names[3:5] == [("zfnet", "all", 1), ("krizhevsky", "all", 1)]
    thirds = names.index(("zfnet", "all", 2))
    assert names[thirds + 1] == ("krizhevsky", "all", 2)
    rows = [name for name, *_ in names[5:thirds] + names[thirds + 2 : -4]]
    own, *sizes = (sum(TABLE_2[name].parameters().values()) for name in ("zfnet", *rows))
    assert sizes == sorted(sizes) and sizes[thirds - 6] < own < sizes[thirds - 5]
    assert {*rows} == TABLE_2.keys() - {"zfnet", "krizhevsky"}
    assert [name for name, *_ in names[-4:-2]] == list(STEMS)
    assert names[-2:] == [("zfnet", "all", 3), ("zfnet", "all", 4)]
    assert len({t.name for t in queued}) == len(queued) == len(TABLE_2) + 9
    assert {member for row in trainings.TABLE_1.values() for member in row} <= {(t.network, t.seed) for t in queued}
    assert [len(row) for row in trainings.TABLE_1.values()] == [1, 1, 2, 5, 1, 6]


def test_states_say_what_is_left_and_what_the_tables_lack():
    def told(training) -> tuple[str, bool]:
        return state(training), trainings.lacks(training, "tiny-imagenet", TINY)

    member, single = replace(RUN, seed=3), replace(RUN, network="krizhevsky")
    assert told(member) == ("to come", True)
    with alone(member.folder):
        assert told(member) == ("runs", False)
    for training in (member, single):
        records.store(training.errors_file, [record("val top-1 error", 62.5, "%")])
    assert told(member) == ("stored", True)  # an ensemble of Table 1 needs its weights
    assert told(single) == ("stored", False)
    (member.folder / "update-000000007").mkdir(parents=True)
    assert told(member) == ("begun", True)
    member.weights.mkdir(parents=True)
    assert told(member) == ("ran", False)
    assert list(trainings.report([member])) == [f"ran       62.5 %  {member.name}"]


def test_missing_weights_are_saved_and_errors_without_a_record_measured(stripes, tmp_path, monkeypatch):
    training = Training("zfnet", stripes, replace(SMOKE, epochs=1))
    list(epochs(training))
    recorded = [path.read_bytes() for path in (training.epochs_file, training.errors_file)]
    monkeypatch.setenv("ZFNET_DATA", str(tmp_path / "new"))
    (last,) = epochs(training)
    facts = weights.read_meta(training.weights)["record"]
    assert facts["epoch"]["seconds"] == last.seconds  # of this training, not of the one that is recorded
    assert recorded == [path.read_bytes() for path in (training.epochs_file, training.errors_file)]
    shutil.rmtree(training.weights)
    training.errors_file.unlink()
    list(epochs(training, resume=True))
    assert weights.load_network(training.weights).spec.name == "zfnet"
    assert len(records.read(training.errors_file)) == 6
    (before,) = read_epochs(training.epochs_file)
    Image.new("RGB", (64, 64)).save(tmp_path / "stripes/train/rows/0.png")  # others begin the record anew
    shutil.rmtree(training.folder)
    list(epochs(training))
    (line,) = read_epochs(training.epochs_file)
    assert line["data"] == records.read(training.errors_file)[-1].data != before["data"]


def test_a_changed_pixel_of_a_pack_is_noticed_before_a_training_begins(stripes, data, monkeypatch):
    for split in ("train", "val"):
        pack_dataset(stripes, split, workers=0, progress=False)
    (pixels,) = (data / "packs").glob("*-train-*/pictures.bin")
    content = pixels.read_bytes()
    pixels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with monkeypatch.context() as patch:
        patch.setattr(trainings, "training_data", open_pack)  # as of a fetched data set, whose pictures may be gone
        with pytest.raises(ZfnetError, match=r"^the pack of .* train is damaged"):
            next(epochs(Training("zfnet", stripes, SMOKE)))
    with pytest.warns(UserWarning, match=r"damaged.*packing again"):
        next(epochs(Training("zfnet", stripes, SMOKE)))
    assert pixels.read_bytes() == content


def test_which_precision_was_performed_is_told_by_what_is_wanted_of_it():
    slow = replace(RUN, recipe=replace(TINY, precision="float32"))
    assert performed(RUN) == performed(RUN, "weights") == RUN
    records.store(RUN.errors_file, [])
    slow.weights.mkdir(parents=True)
    assert (performed(RUN), performed(RUN, "weights")) == (RUN, slow)


def test_pictures_that_cannot_be_read_are_left_out_and_named_once(stripes, tmp_path, monkeypatch):
    monkeypatch.setattr(trainings, "training_data", open_dataset)  # as of a fetched data set
    for place in ("train/rows/3.png", "val/columns/1.png"):
        (tmp_path / "stripes" / place).write_bytes(b"no picture")
    training, said = Training("zfnet", stripes, replace(SMOKE, epochs=1)), []
    (epoch,) = epochs(training, workers=2, notice=said.append)
    assert epoch.updates == 1
    assert [words.partition(" left out: ")[2] for words in said] == ["1, train/rows/3.png", "1, val/columns/1.png"]
    found = records.read(training.errors_file)
    assert {(record.quantity[:5], record.n) for record in found} == {("val t", 5), ("train", 67)}
    monkeypatch.setitem(trainings.MOST, stripes, 32)  # as of a data set whose splits are pooled for folds
    said.clear()
    (epoch,) = epochs(replace(training, each=32), notice=said.append)
    assert epoch.updates == 1
    assert [words.partition(" left out: ")[2] for words in said] == ["1, train/rows/3.png", "1, val/columns/1.png"]


def test_what_was_begun_is_left_to_who_began_it_before_a_picture_is_read(stripes, capsys, monkeypatch):
    monkeypatch.setattr(trainings, "training_pictures", None)
    folder = Training("zfnet", stripes, SMOKE).folder
    with alone(folder):
        assert main(["train", "zfnet", "--data", stripes, "--recipe", "smoke"]) == 1
    assert "another process trains zfnet-folder" in capsys.readouterr().err
    (folder / "update-000000007").mkdir(parents=True)
    assert main(["train", "zfnet", "--data", stripes, "--recipe", "smoke"]) == 1
    assert "continue it with resume (--resume)" in capsys.readouterr().err


def test_networks_of_data_without_splits_are_tested_on_what_they_did_not_learn_from(monkeypatch, capsys):
    monkeypatch.setattr(trainings, "TABLE_1", {"both": (("mini", 0), ("mini", 1))})
    class_folders(dataset_folder("caltech-101"), ["ant", "bee"], 10)
    for run in (runs := [Training("mini", "caltech-101", SMOKE, seed) for seed in (0, 1)]):
        learnt = {"training": run.name, "data": "caltech-101 all (c0ffee)", "recipe": run.recipe.to_dict()}
        save_network(ConvNet(replace(MINI, classes=2)), run.weights, learnt)
    assert len(list(trainings.measure_ensembles("caltech-101", SMOKE))) == 2
    found = records.read(trainings.ensembles_file("smoke"))
    assert {(each.quantity[:10], each.n) for each in found} == {("test top-1", 2), ("test top-5", 2)}
    assert found[0].parameters["weights"] == [run.name for run in runs]
    assert main(["evaluate", runs[1].name, "--data", "caltech-101"]) == 1
    sentence = f"learnt from a part of caltech-101; its errors on the rest stand in {runs[1].errors_file}\n"
    assert capsys.readouterr().err.endswith(sentence)


def test_a_queue_killed_twice_goes_on_and_ends_with_all_records(stripes, monkeypatch):
    program = (
        "import sys; from zfnet_lib.paper import trainings as q; from zfnet_lib.__main__ import main\n"
        "q.queue = lambda data, recipe: [q.Training('zfnet', data, recipe, seed) for seed in (0, 1)]\n"
        "q.TABLE_1 = {'both': (('zfnet', 0), ('zfnet', 1))}\n"
        "sys.exit(main(['train', '--table', '2', '--data', sys.argv[1], '--recipe', 'smoke']))\n"
    )

    def start():
        return subprocess.Popen([sys.executable, "-c", program, stripes], stdout=subprocess.PIPE, text=True)

    both = [Training("zfnet", stripes, SMOKE, seed) for seed in (0, 1)]
    for training in both:  # once in the first training, once in the second
        running = start()
        while not saved_states(training.folder):
            assert running.poll() is None
            time.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    running = start()
    said = running.communicate(timeout=120)[0]
    assert running.returncode == 0
    assert "ensemble of 2, 1 view: top-1 error" in said and "ensemble of 2, 10 views: top-1 error" in said
    for training in both:
        assert f"%  {training.name}" in said and state(training) == "ran"
        numbers = [line["epoch"]["epoch"] for line in read_epochs(training.epochs_file)]
        assert numbers == list(range(1, SMOKE.epochs + 1))
    assert recorded_errors(trainings.ensembles_file("smoke"), networks=[training.name for training in both])


@pytest.fixture
def trained(stripes, monkeypatch):
    """A finished training of seconds, in the place of the one that ships."""
    training = Training("zfnet", stripes, replace(SMOKE, epochs=2))
    list(epochs(training))
    for name in ("zfnet-tiny", "krizhevsky-tiny"):
        monkeypatch.setitem(trainings.SHIPPED, name, trainings.SHIPPED[name]._replace(training=training))
    return training


def test_shipped_weights_have_the_errors_and_nearly_the_projections_of_the_trained_ones(trained, results, capsys):
    assert main(["ship", "zfnet-tiny"]) == 0
    assert "val top-1 error" in capsys.readouterr().out
    folder = results / "smoke/weights/zfnet-tiny"
    net, before = load_network(folder), load_network(trained.weights)
    assert torch.equal(net.conv5.weight, before.conv5.weight.half().float())
    assert not torch.equal(net.fc7.weight, before.fc7.weight)
    assert weights.known_classes(folder) == trainings.training_data(trained.data, "val").classes
    file = results / "smoke/errors/zfnet-tiny.jsonl"
    for views, key in product((1, 10), ("val1", "val5")):
        stored, expected = (recorded_errors(path, views)[key] for path in (file, trained.errors_file))
        assert stored == pytest.approx(expected, abs=0.1)
    same = [r.value for r in records.read(file) if r.quantity.endswith("the same switches")]
    assert len(same) == 5 and 0 < max(same) < 2
    card = {row["fact"]: row["value"] for row in setting.weight_card("zfnet-tiny").rows}
    assert card["Recipe"].startswith("`smoke`, 2 epochs") and card["Stored"].startswith("int8")
    assert card["Val top-1 error, views: 10"].endswith(" %")


def test_lower_layers_ship_alone_and_weights_that_lost_too_much_do_not(trained, results, monkeypatch):
    monkeypatch.setattr(trainings, "TOLERANCE", -1.0)
    with pytest.raises(ZfnetError, match=r"of the stored weights is .* %; store them with more bits"):
        list(trainings.ship("zfnet-tiny"))
    assert not (results / "smoke/weights").exists()
    list(trainings.ship("krizhevsky-tiny"))
    net = load_network(results / "smoke/weights/krizhevsky-tiny")
    assert [conv.name for conv in net.spec.convs] == ["conv1", "conv2"] and not net.spec.classes


def test_what_has_not_ended_or_has_no_name_is_refused():
    with pytest.raises(ZfnetError, match=r"^'x' is not shipped; shipped are zfnet-tiny, krizhevsky-tiny"):
        list(trainings.ship("x"))
    with pytest.raises(ZfnetError, match=r"^zfnet-tiny-imagenet-tiny-seed0 has not ended; run: "):
        list(trainings.ship("zfnet-tiny"))
    assert [row["fact"] for row in setting.weight_card("zfnet-tiny").rows] == ["Not run"]


def test_a_new_softmax_ships_without_the_convolutions_that_it_stands_on(results, data, stripes, monkeypatch):
    base, lower = ConvNet(MINI, seed=1).eval(), data / "weights/base"
    save_network(base, lower, {})
    monkeypatch.setitem(trainings.RETRAINED, "on-base", trainings.Retrained("base", stripes, "tests"))
    sentences = list(trainings.ship("on-base"))
    assert [sentence.partition(":")[0] for sentence in sentences] == ["val top-1 error", "val top-5 error"] * 2
    folder = results / "tiny/weights/on-base"
    written = {"fc8.weight", "fc8.bias", "preparation.mean", "preparation.scale"}
    assert set(load_file(folder / "weights.safetensors")) == written
    net = load_network(folder)
    assert torch.equal(net.conv3.weight, base.conv3.weight)
    error = recorded_errors(results / "tiny/errors/on-base.jsonl")["val1"]
    assert error == pytest.approx(errors(net, trainings.training_data(stripes, "val")).top1)
    assert error < 50  # stripes of two directions: even random filters tell them apart
    assert setting.weight_card("on-base").rows[0]["value"].startswith("the convolutions of `base`")
    save_network(ConvNet(MINI, seed=2), lower, {})
    with pytest.raises(weights.CheckpointError, match="other convolutions than those of base here"):
        load_network(folder)
    shutil.rmtree(lower)
    with pytest.raises(weights.CheckpointError, match=r"on-base takes its convolutions from base: .*zfnet fetch"):
        load_network(folder)


@pytest.fixture
def performed_here(monkeypatch):
    """The seeds of the trainings that were performed on the spot, with next to no work."""
    performed = []

    def train(net, data, recipe, seed, **options):
        performed.append(seed)
        yield EpochResult(1, 64, 0.01, 2.5, 20.0, 5.0, 90.0, 2.0, {"conv1": (0.1, 0.2)}, None, False)

    pictures = {split: pack_in_memory(open_dataset("shapes", split, n=16), 64) for split in ("train", "val")}
    monkeypatch.setattr(trainings, "training_data", lambda name, split: pictures[split])
    monkeypatch.setattr(trainings, "train", train)
    trainings.trained.cache_clear()
    yield performed
    trainings.trained.cache_clear()


def next_notebook(seed=0):
    trainings.trained.cache_clear()  # another notebook is another process
    return trainings.trained(replace(MINI_SMOKE, seed=seed))


def test_the_next_notebook_takes_up_what_this_one_trained(performed_here):
    first, second = trainings.trained(MINI_SMOKE), next_notebook()
    next_notebook(seed=1)
    assert performed_here == [0, 1]
    (line,), found = read_epochs(MINI_SMOKE.epochs_file), recorded_errors(MINI_SMOKE.errors_file)
    assert line["epoch"]["top1"] == 20.0 and not second.training
    assert found["val1"] == pytest.approx(errors(second, trainings.training_data("shapes", "val")).top1)
    states = first.state_dict(), second.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_other_code_and_what_is_damaged_or_lacks_its_records_is_trained_anew(performed_here, monkeypatch):
    folder = trained_root() / MINI_SMOKE.name / MINI_SMOKE.network
    next_notebook()
    for damage in (
        lambda: (folder / "meta.json").write_text("{"),
        lambda: (folder / "weights.safetensors").write_bytes(b"cut"),
        MINI_SMOKE.errors_file.unlink,
        MINI_SMOKE.epochs_file.unlink,
        lambda: monkeypatch.setattr(trainings, "library_hash", lambda: "changed"),
    ):
        before = len(performed_here)
        damage()
        next_notebook(), next_notebook()
        assert len(performed_here) == before + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed", "most"), [*(("mini", seed, 35) for seed in range(5)), *((name, 0, 70) for name in TABLE_2)]
)
def test_every_network_learns_the_drawn_objects_as_the_recipe_promises(name, seed, most):
    training = Training(name, "shapes", SMOKE, seed)
    trainings.trained(training)
    assert recorded_errors(training.errors_file)["val1"] < most
    assert name != "mini" or read_epochs(training.epochs_file)[-1]["epoch"]["plateau_left"] < 200
