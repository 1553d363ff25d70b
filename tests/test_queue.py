"""The queue of trainings: its order, what it knows of each, and that kills cost it nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zfnet_lib import weights
from zfnet_lib.__main__ import main
from zfnet_lib.architecture import STEMS, TABLE_2
from zfnet_lib.datasets import open_pack, pack_dataset
from zfnet_lib.files import ZfnetError, alone
from zfnet_lib.paper import records, trainings
from zfnet_lib.paper import trainings as queues
from zfnet_lib.paper.trainings import Training, epochs, performed
from zfnet_lib.training import SMOKE, TINY


@pytest.fixture
def results(data, tmp_path, monkeypatch):
    """An empty folder of results."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


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


def test_the_order_is_base_runs_cheapest_rows_stems_then_seeds():
    trainings = queues.queue("tiny-imagenet", TINY)
    names = [(t.network, t.recipe.clip, t.seed) for t in trainings]
    assert names[:3] == [("zfnet", "all", 0), ("krizhevsky", "all", 0), ("zfnet", "none", 0)]
    costs = [sum(TABLE_2[name].macs().values()) for name, *_ in names[3:13]]
    assert costs == sorted(costs) and len(costs) == 10
    assert [name for name, *_ in names[13:15]] == list(STEMS)
    assert names[15:21] == [("zfnet", "all", s) for s in (1, 2, 3, 4)] + [("krizhevsky", "all", s) for s in (1, 2)]
    assert {(name, seed) for name, _, seed in names[21:]} == {(name, 1) for name, *_ in names[3:15]}
    assert len({t.name for t in trainings}) == len(trainings) == 33


def test_the_networks_of_table_1_are_all_in_the_queue():
    queued = {(t.network, t.seed) for t in queues.queue("x", TINY)}
    assert {member for row in queues.TABLE_1 for member in row} <= queued
    assert [len(row) for row in queues.TABLE_1] == [1, 1, 5, 1, 6]


def test_states(results):
    training = Training("zfnet", "tiny-imagenet", TINY)
    assert queues.state(training) == "to come"
    with alone(training.folder):
        assert queues.state(training) == "runs"
    assert queues.state(training) == "to come"
    made = records.Stopwatch().provenance()
    records.append(training.errors_file, [records.Record("training", "val top-1 error", 62.5, "%", made)])
    assert queues.state(training) == "stored"
    (training.folder / "update-000000007").mkdir(parents=True)
    assert queues.state(training) == "begun"
    training.weights.mkdir(parents=True)
    assert queues.state(training) == "ran"
    assert list(queues.report([training])) == [f"ran       62.5 %  {training.name}"]


def test_weights_are_saved_wherever_they_are_missing_and_errors_measured_where_they_have_no_record(
    results, stripes, tmp_path, monkeypatch
):
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


def test_a_changed_pixel_of_a_pack_is_noticed_before_a_training_begins(results, stripes, data, monkeypatch):
    for split in ("train", "val"):
        pack_dataset(stripes, split, workers=0, progress=False)
    (pixels,) = (data / "packs").glob("*-train-*/pictures.bin")
    content = pixels.read_bytes()
    pixels.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with monkeypatch.context() as patch:
        patch.setattr(trainings, "training_data", open_pack)  # as of a fetched data set, whose pictures may be gone
        with pytest.raises(ZfnetError, match=r"^the pack of .* train is damaged"):
            next(epochs(Training("zfnet", stripes, SMOKE)))
    with pytest.warns(UserWarning, match="damaged.*packing again"):
        next(epochs(Training("zfnet", stripes, SMOKE)))
    assert pixels.read_bytes() == content


def test_which_precision_was_performed_is_told_by_what_is_wanted_of_it(results):
    quick = Training("zfnet", "tiny-imagenet", TINY)
    slow = replace(quick, recipe=replace(TINY, precision="float32"))
    assert performed(quick) == performed(quick, "weights") == quick
    records.store(quick.errors_file, [])
    slow.weights.mkdir(parents=True)
    assert performed(quick) == quick
    assert performed(quick, "weights") == slow


def test_stored_errors_are_enough_for_the_tables_but_not_for_their_ensembles(results):
    alone, member = Training("krizhevsky", "tiny-imagenet", TINY), Training("zfnet", "tiny-imagenet", TINY, seed=3)
    made = records.Stopwatch().provenance()
    for training in (alone, member):
        assert queues.lacks(training, "tiny-imagenet", TINY)
        records.append(training.errors_file, [records.Record("training", "val top-1 error", 62.5, "%", made)])
    assert not queues.lacks(alone, "tiny-imagenet", TINY)
    assert queues.lacks(member, "tiny-imagenet", TINY)
    member.weights.mkdir(parents=True)
    assert not queues.lacks(member, "tiny-imagenet", TINY)


def test_what_another_process_trains_is_left_to_it(results, stripes, capsys):
    with alone(Training("zfnet", stripes, SMOKE).folder):
        assert main(["train", "zfnet", "--data", stripes, "--recipe", "smoke"]) == 1
    assert "another process trains zfnet-folder" in capsys.readouterr().err


def test_a_queue_killed_twice_goes_on_and_ends_with_all_records(results, stripes, monkeypatch):
    program = (
        "import sys; from zfnet_lib.paper import trainings as q; from zfnet_lib.__main__ import main\n"
        "q.queue = lambda data, recipe: [q.Training('zfnet', data, recipe, seed) for seed in (0, 1)]\n"
        "q.TABLE_1 = ((('zfnet', 0), ('zfnet', 1)),)\n"
        "sys.exit(main(['train', '--table', '2', '--data', sys.argv[1], '--recipe', 'smoke']))\n"
    )

    def start():
        return subprocess.Popen([sys.executable, "-c", program, stripes], stdout=subprocess.PIPE, text=True)

    trainings = [Training("zfnet", stripes, SMOKE, seed) for seed in (0, 1)]
    for training in trainings:  # once in the first training, once in the second
        running = start()
        while not training.saved_states(training.folder) if training.folder.is_dir() else True:
            assert running.poll() is None
            time.sleep(0.02)
        os.kill(running.pid, signal.SIGKILL)
        running.wait()
    running = start()
    said = running.communicate(timeout=120)[0]
    assert running.returncode == 0
    assert "ensemble of 2: top-1 error" in said
    for training in trainings:
        assert f"%  {training.name}" in said and queues.state(training) == "ran"
        lines = [json.loads(line) for line in Path(training.epochs_file).read_text().splitlines()]
        assert [line["epoch"]["epoch"] for line in lines] == list(range(1, SMOKE.epochs + 1))
    (ensemble,) = {
        tuple(record.parameters["networks"])
        for record in records.read(results / "smoke" / "errors" / "ensembles.jsonl")
    }
    assert list(ensemble) == [training.name for training in trainings]
