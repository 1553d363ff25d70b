"""Weights on disk: saved beside what rebuilds the network, checked by hash, read without running code."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .adapt import adapt
from .architecture import ArchSpec
from .files import PROJECT, ZfnetError, check, data_root, is_there, sha256, storing
from .images import Preparation
from .network import ConvNet
from .probe import ProbedNet

WEIGHTS, META = "weights.safetensors", "meta.json"
FETCHED = ("alexnet-imagenet", "vgg16-imagenet")  # what `zfnet fetch` brings
FORMAT = 1

Stored = Literal["float32", "float16", "int8"]
SCALE = ".scale"  # what the scales of an 8-bit parameter are called after it


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
        base: Weights, by name, with the same convolutions (else an error): only what stands above is written.

    Returns:
        The folder; one that cannot be written is a `ZfnetError`.
    """
    if isinstance(net, ProbedNet):
        raise ZfnetError(f"{net.name} is made by its own code; keep that, and the `state_dict()` of its module")
    folder, preparation = Path(folder), net.preparation
    lower = net.features().state_dict() if base else {}
    tensors = {"preparation.mean": preparation.mean, "preparation.scale": preparation.scale}
    for name, value in net.state_dict().items():
        if name in lower:
            continue
        if stored == "int8" and value.ndim == 2:
            scale = value.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
            tensors |= {name: (value / scale).round().to(torch.int8), name + SCALE: scale.float()}
        else:
            tensors[name] = value.float() if stored == "float32" else value.half()
    with storing(folder) as temporary:
        temporary.mkdir()
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, temporary / WEIGHTS)
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


def load_network(
    source: str | Path | nn.Module,
    image_size: int = 224,
    preparation: Preparation | None = None,
    layers: Sequence[str] | None = None,
) -> ConvNet | ProbedNet:
    """Load a network in evaluation mode.

    Args:
        source: The name of shipped or fetched weights (`alexnet-imagenet`), the folder of saved ones, or any module
            that turns pictures into maps: a sequence is rebuilt, every other one probed, see `adapt`.
        image_size, preparation, layers: Of a module, see `adapt`; stored weights bring their own.

    Returns:
        The network: stored weights in float32 on the CPU, modules where they are, in float32 or float64.

    Raises:
        CheckpointError: Missing, damaged or foreign weights; the message names the repair.
        ZfnetError: A module without maps, or one that fails on such pictures.
    """
    if isinstance(source, ConvNet | ProbedNet):
        return source
    if isinstance(source, nn.Module):
        return adapt(source, None, image_size, preparation, layers)
    folder = _folder(source)
    meta, path, repair = read_meta(folder), folder / WEIGHTS, "fetch or save the weights again"
    if not path.exists():
        raise CheckpointError(f"{path} is missing; {repair}")
    if sha256(path) != meta["sha256"]:
        raise CheckpointError(f"{path} is truncated or was changed (its SHA-256 differs from {META}); {repair}")
    try:
        tensors = load_file(path)
        spec, preparation = ArchSpec.from_dict(meta["spec"]), _preparation(folder, meta, tensors)
        with torch.device("meta"):  # which takes no room: the weights may be of other shapes
            net = ConvNet(spec, preparation)
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file ({error}); {repair}") from error
    except KeyError as error:
        raise CheckpointError(f"{folder / META} is damaged (no layer can have this name: {error})") from error
    scales = {name: tensors.pop(name) for name in list(tensors) if name.endswith(SCALE)}
    tensors = {name: value.float() * scales.get(name + SCALE, 1) for name, value in tensors.items()}
    if "base" in meta:
        tensors |= _from_base(meta["base"], folder)
    expected, found = ({k: list(v.shape) for k, v in some.items()} for some in (net.state_dict(), tensors))
    for name in sorted(expected.keys() | found.keys()):
        own, given = expected.get(name, "no such layer"), found.get(name, "missing")
        if own != given:
            other = f"weights of another architecture: {name} is {given}, {spec.name} has {own}"
            raise CheckpointError(f"{folder} holds {other}")
        if not tensors[name].isfinite().all():
            raise CheckpointError(f"{folder} holds NaN or infinite values in {name}; fetch the weights again")
    net.load_state_dict(tensors, assign=True)
    return net.eval()


def read_meta(folder: Path) -> dict[str, Any]:
    """Return the `meta.json` of saved weights; one that is missing or damaged is a `CheckpointError`."""
    try:
        check(folder, META)
        meta = {"preparation": None, "record": {}} | json.loads((folder / META).read_text())
        if (found := meta["format"]) != FORMAT:
            raise CheckpointError(f"{folder} has format {found}, this version reads {FORMAT}; save it again")
        ArchSpec.from_dict(meta["spec"])
        base, classes = meta.get("base", {"name": "none", "sha256": ""}), meta["record"].get("classes", [])
        texts = [meta["sha256"], base["name"], base["sha256"], *classes]
        if isinstance(classes, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError("its hash, its base or the classes of its record are not text")
        if not re.fullmatch(r"\w[\w.-]*", base["name"]) or base["name"] == folder.name:
            raise ValueError(f"its base {base} is not the name of other weights and their hash")
        return meta
    except CheckpointError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        missing = f"{folder} holds no weights ({META} is missing)"
        raise CheckpointError(f"{missing}; give a folder that `save_network` wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{folder / META} is damaged ({error}); fetch or save the weights again") from error


def known_classes(source: str | Path) -> tuple[str, ...]:
    """Return the names of the classes that saved weights were trained on; none where the weights do not tell."""
    return tuple(read_meta(_folder(source))["record"].get("classes", ()))


def weights_folders() -> tuple[Path, ...]:
    """Return the folders that are searched for named weights: fetched or trained ones, then shipped ones."""
    return data_root() / "weights", PROJECT / "results" / "tiny" / "weights"


def weights_hash() -> str:
    """Return a hash of all weights that can be loaded by name."""
    metas = (path for folder in weights_folders() for path in sorted(folder.glob(f"*/{META}")))
    contents = (path.parent.name.encode() + path.read_bytes() for path in metas)
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def fingerprint(net: ConvNet, facts: Any = None) -> str:
    """Return a hash of a network, its preparation, and whatever else (as JSON) a result that is kept depends on."""
    preparation = net.preparation
    values = [net.identity(), preparation.short_side, preparation.crop, facts]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for tensor in (*net.state_dict().values(), preparation.mean, preparation.scale):
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _folder(source: str | Path) -> Path:
    """Return the folder of weights given by name or path."""
    if "/" in str(source) or Path(source).is_dir():
        return Path(source)
    for folder in weights_folders():
        if is_there(folder / str(source)):
            return folder / str(source)
    here = sorted({path.name for folder in weights_folders() for path in folder.glob("[!.]*")})
    bring = f"`zfnet fetch {source}` brings them if `zfnet list` names them"
    raise CheckpointError(f"the weights '{source}' are not here; {bring}; here are: {', '.join(here) or 'none'}")


def _preparation(folder: Path, meta: dict[str, Any], tensors: dict[str, Tensor]) -> Preparation:
    """Take the preparation out of meta and tensors; refuse one that no picture can pass."""
    try:
        mean, scale = (tensors.pop(f"preparation.{part}") for part in ("mean", "scale"))
        preparation = Preparation(**meta["preparation"], mean=mean, scale=scale)
    except (KeyError, TypeError):
        raise CheckpointError(f"{folder} does not say how pictures are prepared; save the network again") from None
    side, crop = preparation.short_side, preparation.crop
    if not (isinstance(side, int) and isinstance(crop, int) and 1 <= crop <= side):
        wrong = f"a crop of {crop!r} out of a short side of {side!r}"
    elif mean.shape not in ((3, 1, 1), (3, side, side)) or not mean.isfinite().all():
        wrong = f"a mean {list(mean.shape)}, where finite [3, 1, 1] or [3, {side}, {side}] fits"
    elif scale.shape != (3, 1, 1) or not (scale.isfinite() & (scale > 0)).all():
        wrong = f"a scale {scale.flatten().tolist()[:3]}, where three positive numbers [3, 1, 1] fit"
    else:
        return preparation
    raise CheckpointError(f"{folder} prepares pictures with {wrong}; save the network again")


def _from_base(base: dict[str, str], folder: Path) -> dict[str, Tensor]:
    """Return the convolutions that saved weights leave to others, which must be the very ones."""
    try:
        lower = load_network(base["name"]).features().state_dict()
    except CheckpointError as error:
        raise CheckpointError(f"{folder.name} takes its convolutions from {base['name']}: {error}") from error
    if _digest(lower) != base["sha256"]:
        other = f"was trained on other convolutions than those of {base['name']} here"
        raise CheckpointError(f"{folder.name} {other}; remove these and run: zfnet fetch {base['name']}")
    return lower


def _digest(tensors: dict[str, Tensor]) -> str:
    parts = (name.encode() + value.cpu().contiguous().numpy().tobytes() for name, value in sorted(tensors.items()))
    return hashlib.sha256(b"".join(parts)).hexdigest()
