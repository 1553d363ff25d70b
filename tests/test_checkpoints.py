"""Weights on disk: what is saved comes back, and what is damaged is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from oracles import lively, picture
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from zfnet_lib import weights
from zfnet_lib.architecture import MINI
from zfnet_lib.files import ZfnetError, seal, sha256
from zfnet_lib.images import Preparation
from zfnet_lib.network import ConvNet
from zfnet_lib.weights import load_network, read_meta, save_network

RECORD = {"source": "a test", "classifier": True}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_network(ConvNet(MINI), tmp_path / "saved", RECORD)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rewrite(folder: Path, change: Callable[[dict], None]) -> None:
    """Change tensors or meta as someone would who also puts the hashes right."""
    tensors, meta = load_file(folder / "weights.safetensors"), json.loads((folder / "meta.json").read_text())
    change(tensors if change.__name__.startswith("tensors") else meta)
    save_file(tensors, folder / "weights.safetensors")
    meta["sha256"] = sha256(folder / "weights.safetensors") if "sha256" in meta else None
    (folder / "meta.json").write_text(json.dumps({key: value for key, value in meta.items() if value is not None}))
    seal(folder)


# ---- what is saved comes back -------------------------------------------------------------------------------


def test_a_network_comes_back_with_its_bytes_its_spec_and_its_preparation(tmp_path):
    ramp = torch.arange(3 * 72 * 72.0).view(3, 72, 72) / 64
    net = lively(replace(MINI, name="mine")).float().train()
    net.preparation = Preparation(72, 64, ramp, torch.full((3, 1, 1), 2.5))
    back = load_network(save_network(net, tmp_path / "deep" / "mine", RECORD))
    assert (back.spec, back.training) == (net.spec, False)
    for name, value in net.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
    image = Image.effect_noise((90, 80), 80)
    assert torch.equal(back.prepare(image), net.prepare(image))
    assert read_meta(tmp_path / "deep" / "mine")["record"] == RECORD
    assert names(tmp_path / "deep") == ["mine"]
    assert names(tmp_path / "deep" / "mine") == ["SHA256SUMS", "meta.json", "weights.safetensors"]


def test_half_precision_halves_the_file_and_comes_back_as_float32(tmp_path):
    net = ConvNet(MINI)
    small, whole = (save_network(net, tmp_path / how, {}, how) for how in ("float16", "float32"))
    sizes = [(folder / "weights.safetensors").stat().st_size for folder in (small, whole)]
    assert 0.5 < sizes[0] / sizes[1] < 0.52
    back = load_network(small)
    assert {value.dtype for value in back.state_dict().values()} == {torch.float32}
    assert torch.equal(back.conv3.weight, net.conv3.weight.half().float())
    assert torch.equal(back.preparation.mean, net.preparation.mean)


def test_eight_bits_keep_each_unit_within_half_a_step_of_its_largest_weight(tmp_path):
    net = lively(replace(MINI, name="mine")).float()
    with torch.no_grad():
        net.fc7.weight[3] = 0
    folder = save_network(net, tmp_path / "int8", {}, "int8")
    back = load_network(folder)
    for name in ("fc6", "fc7", "fc8"):
        ours, theirs = net.get_submodule(name), back.get_submodule(name)
        step = ours.weight.abs().amax(1, keepdim=True) / 127
        assert ((ours.weight - theirs.weight).abs() <= 0.501 * step + 1e-12).all()
        assert torch.equal(theirs.bias, ours.bias.half().float())
    assert torch.equal(back.conv2.weight, net.conv2.weight.half().float())
    assert not back.fc7.weight[3].any()
    bytes_ = (folder / "weights.safetensors").stat().st_size
    dense = sum(net.get_submodule(name).weight.numel() for name in ("fc6", "fc7", "fc8"))
    assert bytes_ < dense + 2 * (sum(p.numel() for p in net.parameters()) - dense) + 4 * 3 * 72 * 72 + 20_000


def test_networks_without_a_classifier_and_views_of_others_are_saved(tmp_path):
    net = ConvNet(MINI)
    back = load_network(save_network(net.features(), tmp_path / "features", {}))
    x = picture(80, 70).float()
    assert back.spec.classes == 0
    assert torch.equal(back.trace(x)["conv5"].maps, net.features().trace(x)["conv5"].maps)


def test_saving_again_replaces_the_folder_as_a_whole(saved):
    (saved / "stray").write_text("old")
    save_network(ConvNet(MINI, seed=1), saved, {})
    assert names(saved) == ["SHA256SUMS", "meta.json", "weights.safetensors"]
    assert torch.equal(load_network(saved).conv1.weight, ConvNet(MINI, seed=1).conv1.weight)


def test_networks_are_found_by_name_among_the_data(data):
    save_network(ConvNet(MINI, seed=4), data / "weights" / "mine", {})
    assert torch.equal(load_network("mine").conv2.weight, ConvNet(MINI, seed=4).conv2.weight)


def test_modules_are_taken_as_they_are_or_adapted():
    net = ConvNet(MINI)
    assert load_network(net) is net
    module = nn.Sequential(nn.Conv2d(3, 4, 7, stride=16), nn.ReLU())
    assert torch.equal(load_network(module).conv1.weight, module[0].weight)


# ---- nothing half-written -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "full", [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device")]
)
def test_a_full_disk_is_one_sentence_and_the_old_weights_stay(saved, monkeypatch, full):
    def fail(tensors, path):
        Path(path).write_bytes(b"half")
        raise full

    monkeypatch.setattr(weights, "save_file", fail)
    with pytest.raises(ZfnetError, match=r"cannot write .*No space left on device"):
        save_network(ConvNet(MINI, seed=1), saved, {})
    assert names(saved.parent) == ["saved"]
    assert torch.equal(load_network(saved).conv1.weight, ConvNet(MINI).conv1.weight)


def test_a_record_that_json_cannot_hold_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_network(ConvNet(MINI), tmp_path / "mine", {"net": object()})
    assert names(tmp_path) == []


# ---- what is refused ----------------------------------------------------------------------------------------


def refused(source, sentence: str) -> None:
    with pytest.raises(ZfnetError, match=f"^{sentence}$") as caught:
        load_network(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 7, 1000, -1])
def test_truncated_weights_are_refused(saved, length):
    path = saved / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    refused(saved, r".*weights.safetensors is truncated or was changed .*; fetch or save the weights again")


def test_one_changed_bit_is_refused(saved):
    path = saved / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(saved, r".* is truncated or was changed \(its SHA-256 differs from meta.json\); fetch or save .*")


def test_a_file_of_another_kind_is_refused_even_with_its_own_hash(saved):
    path, meta = saved / "weights.safetensors", json.loads((saved / "meta.json").read_text())
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    (saved / "meta.json").write_text(json.dumps(meta | {"sha256": sha256(path)}))
    seal(saved)
    refused(saved, r".*weights.safetensors is no safetensors file \(.*\); fetch or save the weights again")


def test_missing_weights_are_refused(saved):
    (saved / "weights.safetensors").unlink()
    refused(saved, r".*weights.safetensors is missing; fetch or save the weights again")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"7", b"\xff\xfe", b"{}", b'{"format": 1}'])
def test_damaged_meta_is_refused(saved, content):
    (saved / "meta.json").write_bytes(content)
    refused(saved, r".*meta.json is damaged \(.*\); fetch or save the weights again")


@pytest.mark.parametrize("key", ["format", "spec", "sha256"])
def test_meta_without_a_part_is_refused(saved, key):
    meta = json.loads((saved / "meta.json").read_text())
    del meta[key]
    (saved / "meta.json").write_text(json.dumps(meta))
    refused(saved, r".*meta.json is damaged \(.*\); fetch or save the weights again")


def test_another_format_is_refused(saved):
    def meta(values):
        values["format"] = 99

    rewrite(saved, meta)
    refused(saved, ".* has format 99, this version reads 1; save it again")


@pytest.mark.parametrize("part", ["mean", "scale"])
def test_a_network_without_its_preparation_is_refused(saved, part):
    def tensors(values):
        del values[f"preparation.{part}"]

    rewrite(saved, tensors)
    refused(saved, ".* does not say how pictures are prepared; save the network again")


@pytest.mark.parametrize("change", [{"preparation": None}, {"preparation": {"crop": 64}}])
def test_meta_without_the_preparation_is_refused(saved, change):
    def meta(values):
        values.update(change)

    rewrite(saved, meta)
    refused(saved, ".* does not say how pictures are prepared; save the network again")


def test_weights_of_another_architecture_are_refused_with_the_first_difference(saved):
    def meta(values):
        values["spec"]["convs"][1]["maps"] = 44

    rewrite(saved, meta)
    refused(
        saved,
        r".*saved holds weights of another architecture: conv2.bias is \[32\], mini has \[44\]",
    )


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda tensors: tensors.pop("fc7.bias"), r"fc7.bias is missing, mini has \[512\]"),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), r"extra is \[2\], mini has no such layer"),
    ],
)
def test_missing_and_additional_layers_are_named(saved, change, sentence):
    def tensors(values):
        change(values)

    rewrite(saved, tensors)
    refused(saved, f".* holds weights of another architecture: {sentence}")


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.pop("convs"),
        lambda spec: spec["convs"][0].update(colour="red"),
        lambda spec: spec["convs"][0].update(pool=7),
        lambda spec: spec["convs"][0].update(maps="many"),
        lambda spec: spec["convs"][0].update(kernel=None),
    ],
    ids=["no layers", "unknown field", "no pool", "a word for maps", "no filter"],
)
def test_a_damaged_architecture_is_refused(saved, change):
    def meta(values):
        change(values["spec"])

    rewrite(saved, meta)
    refused(saved, ".*no architecture of zfnet_lib.*")


@pytest.mark.parametrize(
    "changes",
    [
        {"record": 7},
        {"record": None},
        {"record": {"classes": "cat"}},
        {"record": {"classes": [1, 2]}},
        {"base": "alexnet"},
        {"base": {"name": "alexnet"}},
        {"base": {"name": 3, "sha256": ""}},
        {"base": {"name": "../../elsewhere", "sha256": ""}},
        {"base": {"name": "/etc", "sha256": ""}},
        {"base": {"name": "saved", "sha256": ""}},
        {"sha256": 12},
        {"spec": []},
        {"spec": "mini"},
    ],
    ids=str,
)
def test_parts_of_meta_that_cannot_be_are_refused(saved, changes):
    path = saved / "meta.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(saved, r".*saved/meta.json is damaged \(.*\); fetch or save the weights again")


@pytest.mark.parametrize(
    ("layer", "change"),
    [
        (0, {"kernel": 0}),
        (0, {"kernel": -7}),
        (1, {"maps": -32}),
        (1, {"maps": 10**12}),
        (2, {"stride": 0}),
        (2, {"padding": -1}),
        (2, {"groups": 0}),
        (0, {"pool": {"size": 0, "stride": 0}}),
        (0, {"norm": {"size": 4}}),
        (0, {"std": float("nan")}),
        (0, {"name": "/x"}),
        (0, {"name": "../x"}),
        (1, {"name": "conv1"}),
    ],
    ids=str,
)
def test_an_architecture_that_cannot_be_is_refused(saved, layer, change):
    def meta(values):
        values["spec"]["convs"][layer].update(change)

    rewrite(saved, meta)
    refused(saved, r".*meta.json is damaged \(this is no architecture of zfnet_lib: .*\); fetch or save .*")


@pytest.mark.parametrize("name", ["forward", "features.0"])
def test_a_layer_that_no_module_can_hold_is_refused(saved, name):
    def meta(values):
        values["spec"]["convs"][0]["name"] = name

    def tensors(values):
        values.update({f"{name}.{part}": values.pop(f"conv1.{part}") for part in ("weight", "bias")})

    rewrite(saved, meta)
    rewrite(saved, tensors)
    refused(saved, r".*meta.json is damaged \(no layer can have this name: .*\)")


@pytest.mark.parametrize(
    "change",
    [
        {"short_side": 0, "crop": 0},
        {"short_side": -73},
        {"crop": 99},
        {"crop": "64"},
        {"crop": 64.0},
        {"mean": torch.zeros(3, 5, 5)},
        {"mean": torch.zeros(73, 73)},
        {"mean": torch.full((3, 1, 1), torch.nan)},
        {"scale": torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)},
        {"scale": torch.full((3, 1, 1), -1.0)},
        {"scale": torch.full((3, 1, 1), torch.inf)},
        {"scale": torch.ones(3)},
    ],
    ids=lambda change: " ".join(change),
)
def test_a_preparation_that_no_picture_can_pass_is_refused(saved, change):
    def meta(values):
        values["preparation"].update({key: value for key, value in change.items() if key in ("short_side", "crop")})

    def tensors(values):
        values.update({f"preparation.{key}": value for key, value in change.items() if torch.is_tensor(value)})

    rewrite(saved, meta)
    rewrite(saved, tensors)
    refused(saved, r".*saved prepares pictures with a (crop|mean|scale) .*; save the network again")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(saved, value):
    def tensors(values):
        values["fc6.bias"][3] = value

    rewrite(saved, tensors)
    refused(saved, r".*saved holds NaN or infinite values in fc6.bias; fetch the weights again")


def test_unknown_names_and_folders_without_weights_are_refused(data, tmp_path):
    refused("zfent", r"the weights 'zfent' are not here; `zfnet fetch zfent` .*; here are: .*zfnet-tiny.*")
    save_network(ConvNet(MINI), data / "weights" / "mine", {})
    refused("zfent", ".*; here are: .*mine.*")
    refused(tmp_path / "absent", r".*absent holds no weights \(meta.json is missing\); give a folder .*")
    (tmp_path / "empty").mkdir()
    refused(str(tmp_path / "empty"), r".*empty holds no weights \(meta.json is missing\); give a folder .*")


def test_a_file_in_the_place_of_a_folder_is_refused(saved):
    refused(saved / "weights.safetensors", ".*weights.safetensors holds no weights .*; give a folder .*")
