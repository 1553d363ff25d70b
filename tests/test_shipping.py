"""Shipped weights: small, close to the trained ones, and refused where they are not."""

import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from test_queue import results, stripes  # noqa: F401

from zfnet_lib import files, weights
from zfnet_lib.__main__ import main
from zfnet_lib.architecture import MINI
from zfnet_lib.evaluation import errors
from zfnet_lib.network import ConvNet
from zfnet_lib.paper import records, setting, trainings
from zfnet_lib.paper.trainings import Training, epochs
from zfnet_lib.training import SMOKE, TINY
from zfnet_lib.weights import load_network, save_network


@pytest.fixture
def trained(results, stripes, monkeypatch):  # noqa: F811
    """A finished training of seconds, in the place of the one that ships."""
    training = Training("zfnet", stripes, replace(SMOKE, epochs=2))
    list(epochs(training))
    whole = replace(trainings.SHIPPED["zfnet-tiny"], training=training)
    lower = replace(trainings.SHIPPED["krizhevsky-tiny"], training=training)
    monkeypatch.setitem(trainings.SHIPPED, "zfnet-tiny", whole)
    monkeypatch.setitem(trainings.SHIPPED, "krizhevsky-tiny", lower)
    return training


def test_shipped_weights_have_the_errors_and_nearly_the_projections_of_the_trained_ones(trained, results, capsys):  # noqa: F811
    assert main(["ship", "zfnet-tiny"]) == 0
    assert "val top-1 error" in capsys.readouterr().out
    net, before = load_network(results / "smoke/weights/zfnet-tiny"), load_network(trained.weights)
    assert torch.equal(net.conv5.weight, before.conv5.weight.half().float())
    assert not torch.equal(net.fc7.weight, before.fc7.weight)
    named = weights.read_meta(results / "smoke/weights/zfnet-tiny")["record"]["classes"]
    assert named == list(trainings.training_data(trained.data, "val").classes)
    stored = records.read(results / "smoke/errors/zfnet-tiny.jsonl")
    values = {(r.quantity, r.parameters.get("views")): r.value for r in stored}
    for record in records.read(trained.errors_file):
        if record.quantity.startswith("val"):
            assert values[record.quantity, record.parameters["views"]] == pytest.approx(record.value, abs=0.1)
    same = [r.value for r in stored if r.quantity.endswith("the same switches")]
    assert len(same) == 5 and 0 < max(same) < 2
    card = {row["fact"]: row["value"] for row in setting.weight_card("zfnet-tiny").rows}
    assert card["Recipe"].startswith("`smoke`, 2 epochs") and card["Stored"].startswith("int8")
    assert card["Val top-1 error, views: 10"].endswith(" %")


def test_only_the_lower_layers_of_the_others_ship(trained, results):  # noqa: F811
    list(trainings.ship("krizhevsky-tiny"))
    net = load_network(results / "smoke/weights/krizhevsky-tiny")
    assert [conv.name for conv in net.spec.convs] == ["conv1", "conv2"] and not net.spec.classes


def test_weights_that_lost_too_much_are_refused_and_nothing_is_stored(trained, results, monkeypatch):  # noqa: F811
    monkeypatch.setattr(trainings, "TOLERANCE", -1.0)
    with pytest.raises(files.ZfnetError, match=r"of the stored weights is .* %; store them with more bits"):
        list(trainings.ship("zfnet-tiny"))
    assert not (results / "smoke/weights").exists()


def test_what_has_not_ended_or_has_no_name_is_refused(results):  # noqa: F811
    with pytest.raises(files.ZfnetError, match=r"^'x' is not shipped; shipped are zfnet-tiny, krizhevsky-tiny"):
        list(trainings.ship("x"))
    with pytest.raises(files.ZfnetError, match=r"^zfnet-tiny-imagenet-tiny-seed0 has not ended; run: "):
        list(trainings.ship("zfnet-tiny"))
    assert [row["fact"] for row in setting.weight_card("zfnet-tiny").rows] == ["Not run"]


def test_the_table_names_trainings_of_the_queue():
    from zfnet_lib.paper.trainings import queue

    shipped = [entry.training for entry in trainings.SHIPPED.values()]
    assert [training for training in shipped if training.data == "tiny-imagenet"] == queue("tiny-imagenet", TINY)[
        :3
    ]
    assert {training.data for training in shipped} == {"tiny-imagenet", "caltech-101"}


def test_a_new_softmax_ships_without_the_convolutions_that_it_stands_on(results, stripes, monkeypatch):  # noqa: F811
    base = ConvNet(MINI, seed=1).eval()
    save_network(base, files.data_root() / "weights/base", {})
    monkeypatch.setitem(trainings.RETRAINED, "on-base", trainings.Retrained("base", stripes, "tests"))
    sentences = list(trainings.ship("on-base"))
    assert [sentence.partition(":")[0] for sentence in sentences] == ["val top-1 error", "val top-5 error"] * 2
    folder = results / "tiny/weights/on-base"
    assert set(load_file(folder / "weights.safetensors")) == {
        "fc8.weight", "fc8.bias", "preparation.mean", "preparation.scale"
    }  # fmt: skip
    net, data = load_network(folder), trainings.training_data(stripes, "val")
    assert torch.equal(net.conv3.weight, base.conv3.weight)
    stored = records.read(results / "tiny/errors/on-base.jsonl")
    assert stored[0].value == pytest.approx(errors(net, data).top1)
    assert stored[0].value < 50  # stripes of two directions: even random filters tell them apart
    assert setting.weight_card("on-base").rows[0]["value"].startswith("the convolutions of `base`")
    save_network(ConvNet(MINI, seed=2), files.data_root() / "weights/base", {})
    with pytest.raises(weights.CheckpointError, match="other convolutions than those of base here"):
        load_network(folder)
    shutil.rmtree(files.data_root() / "weights/base")
    with pytest.raises(weights.CheckpointError, match=r"on-base takes its convolutions from base: .*zfnet fetch"):
        load_network(folder)
