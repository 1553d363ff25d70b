"""What `smoke` trains on the spot: once for all notebooks of the same code, and the same to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zfnet_lib.architecture import MINI, TABLE_2
from zfnet_lib.files import trained_root
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import spot
from zfnet_lib.paper.records import store
from zfnet_lib.paper.trainings import Training, read_epochs
from zfnet_lib.training import SMOKE

TRAINING = Training("mini", "shapes", SMOKE)


@pytest.fixture
def performed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the trainings that were performed, with results of their own and an untrained network each."""
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    performed: list[str] = []

    def perform(training: Training) -> tuple[ConvNet, dict]:
        performed.append(training.name)
        store(training.errors_file, [])
        return ConvNet(MINI, seed=training.seed), {"epochs": [], "train": 1.0, "val1": 2.0, "val5": 3.0}

    monkeypatch.setattr(spot, "_train", perform)
    spot.trained.cache_clear()
    yield performed
    spot.trained.cache_clear()


def test_the_next_notebook_takes_up_what_this_one_trained(performed: list[str]) -> None:
    first = spot.trained("mini")
    spot.trained.cache_clear()  # another notebook is another process
    second = spot.trained("mini")
    spot.trained("mini", seed=1)
    assert performed == [TRAINING.name, replace(TRAINING, seed=1).name]
    assert (second.train, second.val1, second.val5) == (1.0, 2.0, 3.0)
    states = [one.net.state_dict() for one in (first, second)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not second.net.training


def test_other_code_trains_anew(performed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    spot.trained("mini")
    monkeypatch.setattr(spot, "library_hash", lambda: "changed")
    spot.trained.cache_clear()
    spot.trained("mini")
    assert performed == [TRAINING.name] * 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda weights: (weights / "meta.json").write_text("{"),
        lambda weights: (weights / "weights.safetensors").write_bytes(b"cut"),
        lambda weights: TRAINING.errors_file.unlink(),
    ],
    ids=["facts", "weights", "records"],
)
def test_what_is_damaged_or_lacks_its_records_is_trained_anew(
    performed: list[str], damage: Callable[[Path], object]
) -> None:
    spot.trained("mini")
    damage(trained_root() / TRAINING.name / "weights")
    spot.trained.cache_clear()
    spot.trained("mini")
    assert performed == [TRAINING.name] * 2


def test_a_training_leaves_its_records_and_follows_its_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    recipe = replace(SMOKE, epochs=1)
    training = Training("mini", "shapes", recipe)
    net, facts = spot._train(training)
    assert [line["epoch"]["epoch"] for line in read_epochs(training.epochs_file)] == [1]
    assert [epoch["top1"] for epoch in facts["epochs"]] == [facts["val1"]]
    assert training.errors_file.exists() and not net.training


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_mini_learns_the_drawn_objects_from_any_seed(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    _, facts = spot._train(replace(TRAINING, seed=seed))
    assert facts["val1"] < 35 and facts["epochs"][-1]["plateau_left"] < 200


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLE_2)
def test_every_row_of_table_2_learns_as_its_recipe_promises(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZFNET_RESULTS", str(tmp_path))
    _, facts = spot._train(replace(TRAINING, network=name))
    assert facts["val1"] < 70
