"""Weights on disk: saved beside what rebuilds the network, checked by hash, read without running code."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import pickle
import re
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .adapt import adapt
from .architecture import ArchSpec
from .files import (
    FETCHED,
    META,
    ZfnetError,
    check,
    expanded,
    is_there,
    sha256,
    stored_weights,
    storing,
    weights_folders,
)
from .images import Preparation
from .machine import own_device
from .network import ConvNet, Network
from .probe import ProbedNet

WEIGHTS = "weights.safetensors"  # beside META
FORMAT = 1

Stored = Literal["float32", "float16", "int8"]
NAME = r"\w[\w.-]*"  # of weights
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
    if folder.name in ("", ".."):
        raise CheckpointError(f"{folder} would be replaced as a whole; name a new folder in it")
    if stored not in get_args(Stored):
        raise CheckpointError(f"stored={stored!r}: choose one of {', '.join(get_args(Stored))}")
    if base and (base == folder.name or not re.fullmatch(NAME, base)):
        raise CheckpointError(f"the base {base!r} is not the name of other weights, as `zfnet list` shows them")
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
        meta: dict[str, Any] = {
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
) -> Network:
    """Load a network in evaluation mode.

    Args:
        source: The name of shipped or fetched weights (`alexnet-imagenet`), the folder of saved ones, or any module
            that turns pictures into maps: a sequence is rebuilt, every other one probed, see `adapt`.
        image_size, preparation, layers: Of a module, see `adapt`; stored weights bring their own. A `Network` is
            returned as it is, in whatever mode, and takes none of them.

    Returns:
        The network: stored weights in float32 on the CPU, modules where they are, in float32 or float64.

    Raises:
        CheckpointError: Missing, damaged or foreign weights; the message names the repair.
        ZfnetError: A module without maps, or one that fails on such pictures.
    """
    if isinstance(source, Network):
        if preparation or layers or image_size != 224:
            raise ZfnetError(f"{source.name} is a network already; leave image_size, preparation and layers out")
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
    _require_same_shapes(net, tensors, folder, spec.name)
    for name, value in tensors.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{folder} holds NaN or infinite values in {name}; fetch the weights again")
    net.load_state_dict(tensors, assign=True)
    net.name = folder.resolve().name  # messages call it what the user does
    return net.eval()


def _require_same_shapes(net: nn.Module, tensors: dict[str, Tensor], place: Path, title: str) -> None:
    """Refuse tensors of other names or shapes than those of a network; counts of batches may be missing."""
    own = {name: list(value.shape) for name, value in net.state_dict().items() if not is_lazy(value)}
    given = {name: list(value.shape) for name, value in tensors.items()}
    for name in sorted(own.keys() | given.keys()):
        ours, theirs = own.get(name, "no such layer"), given.get(name, "missing")
        if ours != theirs and not (name.endswith("num_batches_tracked") and theirs == "missing"):
            other = f"weights of another architecture: {name} is {theirs}, {title} has {ours}"
            raise CheckpointError(f"{place} holds {other}")


TORCHVISION = "torchvision:"


def open_network(
    text: str,
    weights: Path | None = None,
    random: bool = False,
    image_size: int = 0,
    layers: Sequence[str] | None = None,
) -> Network:
    """Return the network that a text names on the command line, on the device that computes.

    It is stored weights by name or folder, `torchvision:NAME` with torchvision's weights, or `FILE.py:FUNCTION`, a
    function that returns a module. `weights` is a file with a state dict for it; `random` takes the weights of a
    fixed seed. The input has the size that the weights were trained for, else 224; at another `image_size` a stored
    network has no classifier. `layers` by a module's own names keep it from being rebuilt.
    """
    if weights and random:
        raise ZfnetError("a network has the weights of a file or random ones; leave out --weights or --random")
    if image_size < 0:
        raise ZfnetError(f"an input of {image_size} pixels is impossible; leave the size out, or give more than 0")
    file, _, function = text.rpartition(":")
    preparation = None
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        if text.startswith(TORCHVISION):
            module, preparation = _from_torchvision(function, own=not (weights or random))
        elif (file or text).endswith(".py"):
            if random:
                raise ZfnetError(f"{text} makes its own weights; let a function draw them, and leave out --random")
            module = _called(Path(file or text), function if file else "")
        else:
            module = load_network(text)
            if random and isinstance(module, ConvNet):
                module.initialise(0)
    if weights:
        _fill(module, weights, text)
    if isinstance(module, Network):
        own = module.preparation.crop
        net = module.features(side=image_size) if image_size not in (0, own) else module
    else:
        if preparation and image_size:
            preparation = preparation.resized(image_size)
        size = image_size or (preparation.crop if preparation else 224)
        own = set(layers or ()) <= dict(module.named_modules()).keys()  # else they may be those of a rebuilt one
        net = adapt(module, function if file == "torchvision" else None, size, preparation, layers if own else None)
    for layer in layers or ():
        net.require(layer)
    return net.to(own_device())


def _from_torchvision(name: str, own: bool) -> tuple[nn.Module, Preparation | None]:
    """Return one of torchvision's networks; with its `own` weights also how these take pictures."""
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = get_close_matches(name.lower(), known, 2, 0.7)
        ask = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(known)}"
        raise CheckpointError(f"torchvision has no network {name!r}; {ask}")
    weights = models.get_model_weights(name).DEFAULT if own else None
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # others will be drawn one day
            module = models.get_model(name, weights=weights)
    except (OSError, HTTPException, RuntimeError) as error:
        other = "give a file that has them by --weights FILE, or take none by --random"
        raise CheckpointError(f"torchvision's weights of {name} are out of reach ({error}); {other}") from error
    if weights is None:
        return module, None
    given = weights.transforms()
    mean, scale = (torch.tensor(values).view(3, 1, 1) * 255 for values in (given.mean, given.std))
    return module, Preparation(given.resize_size[0], given.crop_size[0], mean, scale)


def _called(file: Path, function: str) -> nn.Module:
    """Return what a function in a file of Python makes."""
    if not file.is_file():
        raise ZfnetError(f"there is no file {file}; `FILE.py:FUNCTION` names a function that returns a module")
    name = f"own_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec and spec.loader
    own = sys.modules[name] = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(file.resolve().parent))  # it may import what lies beside it
    try:
        spec.loader.exec_module(own)
        if not callable(getattr(own, function, None)):
            near = get_close_matches(function, [key for key, value in vars(own).items() if callable(value)], 1)
            ask = f"did you mean {file}:{near[0]}?" if near else "give the name of a function without arguments"
            raise ZfnetError(f"{file} has no function {function!r}; {ask}")
        made = getattr(own, function)()
    except ZfnetError:
        raise
    except (Exception, SystemExit) as error:  # code of one's own raises whatever it likes
        reason = " ".join(str(error).split())[:200]
        raise ZfnetError(f"{file}:{function} fails ({type(error).__name__}: {reason}); mend that file") from error
    finally:
        sys.path.remove(str(file.resolve().parent))
    if not isinstance(made, nn.Module):
        raise ZfnetError(f"{file}:{function} returns a {type(made).__name__}; let it return a torch.nn.Module")
    return made


def _fill(module: nn.Module, path: Path, text: str) -> None:
    """Load a state dict from a file, which may hold anything."""
    save = "write it by `torch.save(module.state_dict(), FILE)`"
    try:
        safe = path.suffix == ".safetensors"
        tensors = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"there is no file {path}; give one with the weights of {text}") from None
    except Exception as error:  # damage makes readers raise whatever they stumble over
        unsafe = isinstance(error, pickle.UnpicklingError)
        reason = "it is damaged, or holds more than tensors" if unsafe else " ".join(str(error).split())[:100]
        raise CheckpointError(f"{path} cannot be read as a state dict ({reason}); {save}") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise CheckpointError(f"{path} holds no state dict, a tensor for each name; {save}")
    _require_same_shapes(module, tensors, path, text)
    module.load_state_dict(tensors, strict=False)  # which lacks nothing but counts of batches


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
        if not re.fullmatch(NAME, base["name"]) or base["name"] == folder.name:
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
    """Return the names of the classes that weights were trained on; none where they do not tell."""
    if str(source).startswith(TORCHVISION):
        from torchvision import models

        return tuple(models.get_model_weights(str(source).removeprefix(TORCHVISION)).DEFAULT.meta["categories"])
    return tuple(known_record(source).get("classes", ()))


def known_record(source: str | Path) -> dict[str, Any]:
    """Return what stored weights tell of where they come from; nothing of networks from elsewhere."""
    elsewhere = str(source).startswith(TORCHVISION) or ".py:" in str(source)
    return {} if elsewhere else read_meta(_folder(source))["record"]


def weights_hash() -> str:
    """Return a hash of all weights that can be loaded by name."""
    metas = (path for folder in weights_folders() for path in sorted(folder.glob(f"*/{META}")))
    contents = (path.parent.name.encode() + path.read_bytes() for path in metas)
    return hashlib.sha256(b"".join(contents)).hexdigest()[:16]


def fingerprint(net: Network, facts: Any = None) -> str:
    """Return a hash of a network, its preparation, and whatever else (as JSON) a result that is kept depends on."""
    preparation = net.preparation
    values = [net.identity(), preparation.short_side, preparation.crop, facts]
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for tensor in (*net.state_dict().values(), preparation.mean, preparation.scale):
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _folder(source: str | Path) -> Path:
    """Return the folder of weights given by name or path."""
    source = str(expanded(source))
    if "/" in source or Path(source).is_dir():
        return Path(source)
    for folder in weights_folders():
        if is_there(folder / source):
            return folder / source
    if source in FETCHED:
        raise CheckpointError(f"the weights '{source}' are not here; `zfnet fetch {source}` brings them")
    from torchvision import models

    here, text = stored_weights(), source.lower()
    near = get_close_matches(text, [*here, *FETCHED], 1, 0.5)
    near += [TORCHVISION + name for name in get_close_matches(text, models.list_models(module=models), 1, 0.7)]
    brought = f"`zfnet fetch` brings {' and '.join(FETCHED)}"
    others = f"here are {', '.join(here) or 'none'}; {brought}; torchvision:NAME, FILE.py:FUNCTION name others"
    ask = f"did you mean {', or '.join(near)}?" if near else others
    raise CheckpointError(f"there are no weights '{source}'; {ask}")


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
