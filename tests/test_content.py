"""Pictures replaced under the same names, and weights at the same path, are noticed by all that keep results."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from layouts import class_folders, write_picture

from zfnet_lib import runner
from zfnet_lib.architecture import MINI
from zfnet_lib.batches import training_preparation
from zfnet_lib.browser.atlas import read_manifest, write_atlas
from zfnet_lib.datasets import dataset_folder, pack_dataset
from zfnet_lib.datasets.opening import open_dataset
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import claims, records
from zfnet_lib.paper.claims import evidence, registry
from zfnet_lib.paper.trainings import training_data
from zfnet_lib.paper.transfer import Pixels, extract
from zfnet_lib.strongest import strongest
from zfnet_lib.training import SMOKE, StateError, train
from zfnet_lib.weights import save_network

NET = ConvNet(MINI).eval()


@pytest.fixture
def pictures(data: Path, tmp_path: Path) -> str:
    """A folder of twelve pictures; `data` is the data folder."""
    class_folders(tmp_path / "pictures", ["cats", "dogs"], 6, "{}.png")
    return f"folder:{tmp_path / 'pictures'}"


def replace_pictures(name: str) -> None:
    """Put other pixels, of the same size, under the same names."""
    for seed, path in enumerate(sorted(Path(name.removeprefix("folder:")).rglob("*.png"))):
        write_picture(path, 1000 + seed)


def test_the_fingerprint_covers_the_pixels_of_what_no_archive_vouches_for(pictures: str) -> None:
    unpacked = dataset_folder("caltech-101")
    class_folders(unpacked, ["ant", "bee"], 2)
    before = [open_dataset(name, "all").fingerprint for name in (pictures, "caltech-101")]
    assert [open_dataset(name, "all").fingerprint for name in (pictures, "caltech-101")] == before
    replace_pictures(pictures)
    write_picture(unpacked / "bee/image_0002.jpg", 99)
    after = [open_dataset(name, "all").fingerprint for name in (pictures, "caltech-101")]
    assert all(np.array(before) != np.array(after))
    (unpacked.parents[1] / "origin.json").write_text('{"archive": "the official zip"}')
    before = open_dataset("caltech-101", "all").fingerprint
    write_picture(unpacked / "bee/image_0002.jpg", 98)
    assert open_dataset("caltech-101", "all").fingerprint == before


def test_strongest_searches_again(pictures: str, tmp_path: Path) -> None:
    def scores() -> list[float]:
        found = strongest(NET, open_dataset(pictures, "all"), 2, ["conv1"], folder=tmp_path / "searches")
        return found["conv1"].score.flatten().tolist()

    before = scores()
    assert scores() == before
    replace_pictures(pictures)
    assert scores() != before


def test_an_atlas_is_written_again(pictures: str, tmp_path: Path) -> None:
    def key() -> str:
        folder = write_atlas(NET, open_dataset(pictures, "all"), tmp_path / "atlas", maps=1)
        return read_manifest(folder)["key"]

    before = key()
    assert key() == before
    replace_pictures(pictures)
    assert key() != before


@pytest.mark.parametrize("packed", [False, True])
def test_a_training_does_not_go_on_with_other_pictures(pictures: str, tmp_path: Path, packed: bool) -> None:
    def learn() -> None:
        data = training_data(pictures, "train") if packed else open_dataset(pictures, "train")
        spec = replace(MINI, classes=2)
        net = ConvNet(spec, training_preparation(data, spec.image_size))
        recipe = replace(SMOKE, batch=8, epochs=1)
        list(train(net, data, recipe, folder=tmp_path / "training", resume=True))

    learn()
    learn()
    replace_pictures(pictures)
    with pytest.raises(StateError, match="holds a training with another data"):
        learn()


def test_a_folder_is_packed_again(pictures: str) -> None:
    before = pack_dataset(pictures, "all", 16).pictures.clone()
    replace_pictures(pictures)
    assert (pack_dataset(pictures, "all", 16).pictures != before).any()


def test_features_are_computed_again(pictures: str) -> None:
    def features() -> list[list[float]]:
        return extract(Pixels(), training_data(pictures, "all"), progress=False)["pixels"].matrix().tolist()

    before = features()
    assert features() == before
    replace_pictures(pictures)
    assert features() != before


def test_a_notebook_runs_again(pictures: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = nbformat.v4.new_code_cell('pictures: str = ""\nnetwork: str = ""', metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (tmp_path / "notebooks").mkdir()
    page = nbformat.v4.new_notebook(metadata={"kernelspec": kernel}, cells=[cell])
    nbformat.write(page, tmp_path / "notebooks" / "page.ipynb")
    (tmp_path / "_toc.yml").touch()
    monkeypatch.setattr(runner, "PROJECT", tmp_path)
    monkeypatch.setattr(runner, "state_hash", lambda: "unchanged")
    monkeypatch.setattr(runner, "_execute", lambda source, executed, *rest: shutil.copy(source, executed) and "")
    weights = save_network(NET, tmp_path / "weights", {})

    def state() -> str:
        named = {"pictures": pictures, "network": str(weights)}
        (run,) = runner.run_notebooks(["page"], "tiny", named, out=tmp_path / "runs")
        return run.state

    assert [state(), state()] == ["done", "kept"]
    replace_pictures(pictures)
    assert [state(), state()] == ["done", "kept"]
    save_network(ConvNet(MINI, seed=1), weights, {})
    assert [state(), state()] == ["done", "kept"]


def test_a_claim_is_measured_again(pictures: str, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = records.Provenance("c0ffee", False, {}, "a processor", 0, 1.0)
    answer = [evidence.counted("answer", 42, 7)]
    monkeypatch.setenv("ZFNET_RESULTS", str(data / "results"))
    monkeypatch.setattr(records.Stopwatch, "provenance", lambda *given: made)
    claim = replace(claims.CLAIMS["input-range-128"], measure=lambda at: answer)
    monkeypatch.setitem(claims.CLAIMS, "input-range-128", claim)
    monkeypatch.setattr(
        registry,
        "Subject",
        lambda profile: SimpleNamespace(name="net", seed=0, dataset=open_dataset(pictures, "all")),
    )

    def seconds() -> float:
        return dict(claims.measure("tiny", ["input-range-128"]))["input-range-128"]

    assert [seconds(), seconds()] == [1, 0]
    replace_pictures(pictures)
    assert [seconds(), seconds()] == [1, 0]
    save_network(NET, data / "weights" / "net", {})
    assert [seconds(), seconds()] == [1, 0]
