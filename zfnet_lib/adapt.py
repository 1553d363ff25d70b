"""Other people's networks: sequential modules, such as torchvision's AlexNet and VGG, become a `ConvNet`."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from .architecture import ArchSpec, Conv, Dense, Norm, Pool
from .files import ZfnetError
from .images import Preparation
from .network import ConvNet

HEADED = ["features", "avgpool", "classifier"]  # the parts of torchvision's AlexNet and VGG: known by these names


def torchvision_preparation(crop: int = 224) -> Preparation:
    """Return the preparation of torchvision's ImageNet networks: short side 256, mean and scale per channel."""
    known = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    mean, scale = (torch.tensor(values).view(3, 1, 1) * 255 for values in known)
    return Preparation(round(crop * 256 / 224), crop, mean, scale)


def adapt(
    module: nn.Module, name: str | None = None, image_size: int = 224, preparation: Preparation | None = None
) -> ConvNet:
    """Rebuild a sequential network as a `ConvNet`, with its weights, so that everything here works on it.

    It takes convolutions, rectifications, max pools, contrast normalisations, dropouts and fully connected layers
    in the usual order, as `nn.Sequential` or as torchvision's AlexNet and VGG. Layers get the paper's style of
    names: `conv1 … conv5`, or `conv1_1 … conv5_3` where blocks end in pools.

    Args:
        module: The network, in any precision and on any device; it stays as it is.
        name: Used in messages; the module's class by default.
        image_size: Side in pixels of its input.
        preparation: How its pictures are prepared; torchvision's by default.

    Returns:
        A `ConvNet` in evaluation mode, with a copy of the weights in float32 on the CPU.

    Raises:
        ZfnetError: A layer without an inverse, or weights that are not finite; it is named.
    """
    spec, sources = _read(module, name or type(module).__name__.lower(), image_size)
    net = ConvNet(spec, preparation or torchvision_preparation(image_size)).eval()
    for layer, source in zip(spec.layers, sources, strict=True):
        own = net.get_submodule(layer.name)
        if source.weight.shape != own.weight.shape:
            given, expected = list(source.weight.shape), list(own.weight.shape)
            wrong = f"{layer.name} has weights {given} where {expected} are expected"
            raise ZfnetError(f"{wrong}; colour pictures of the right input size are taken")
        with torch.no_grad():
            own.weight.copy_(source.weight)
            if source.bias is not None:
                own.bias.copy_(source.bias)
    _compare(net, deepcopy(module).float().cpu().eval())
    return net


def _read(module: nn.Module, name: str, image_size: int) -> tuple[ArchSpec, list[nn.Module]]:
    """Return the architecture of a sequence of modules, and the modules whose weights its layers have."""
    convs: list[Conv] = []
    dense: list[Dense] = []
    sources: list[nn.Module] = []
    bare = ""  # a layer that waits for its rectification
    for place, layer in _leaves(module):
        kind, refusal = type(layer).__name__, f"cannot take apart {place or 'the network'}"
        _require_finite(place, layer)
        if bare and not isinstance(layer, nn.ReLU):
            raise ZfnetError(f"{bare} is followed by {place} ({kind}); a ReLU is expected")
        match layer:
            case nn.Conv2d():
                square = len(set(layer.kernel_size)) == len(set(layer.stride)) == len(set(layer.padding)) == 1
                plain = layer.dilation == (1, 1) and layer.padding_mode == "zeros"
                if dense or not square or not plain:
                    raise ZfnetError(f"{refusal} ({layer}); square filters, zero padding, no dilation")
                kernel, stride, padding = layer.kernel_size[0], layer.stride[0], layer.padding[0]
                convs.append(Conv("", layer.out_channels, kernel, stride, padding, layer.groups, ceil=False))
            case nn.Linear():
                dense.append(Dense("", layer.out_features, dropout=0.0))
            case nn.ReLU():
                if not bare:
                    raise ZfnetError(f"{refusal} (ReLU): no layer stands before it")
            case nn.MaxPool2d() | nn.LocalResponseNorm():
                part = "pool" if isinstance(layer, nn.MaxPool2d) else "norm"
                value = _pool(layer, refusal) if part == "pool" else _norm(layer, refusal, convs)
                if dense or not convs or getattr(convs[-1], part):
                    raise ZfnetError(f"{refusal} ({kind}): no convolution stands before it")
                convs[-1] = replace(convs[-1], **{part: value})
            case nn.AdaptiveAvgPool2d():
                _require_idle(place, layer, ArchSpec(name, _named(convs), (), 0, image_size))
            case nn.Dropout() | nn.Dropout2d() | nn.Flatten() | nn.Identity():
                pass
            case _:
                known = "Conv2d, ReLU, MaxPool2d, LocalResponseNorm, Dropout, Flatten and Linear"
                raise ZfnetError(f"{refusal} ({kind}); the deconvnet knows {known}")
        bare = place if isinstance(layer, nn.Conv2d | nn.Linear) else ""
        sources += [layer] if bare else []
    if not convs or (bare and not dense):
        raise ZfnetError(f"{name} ends without a rectified convolution; there is nothing to project")
    classes = dense[-1].units if dense else 0
    hidden = tuple(replace(d, name=f"fc{6 + i}") for i, d in enumerate(dense[:-1]))
    if len(hidden) > 2:
        raise ZfnetError(f"{name} has {len(hidden)} hidden fully connected layers; two are the most")
    return ArchSpec(name, _named(convs), hidden, classes, image_size), sources


def _require_finite(place: str, layer: nn.Module) -> None:
    """Refuse weights that are not there or not finite."""
    for name, value in layer.named_parameters(place, recurse=False):
        if is_lazy(value):
            raise ZfnetError(f"{name} has no shape yet; run the network once on a picture, then give it again")
        if value.is_meta:
            raise ZfnetError(f"{name} has no values (it lies on the device 'meta'); load the weights first")
        if not value.isfinite().all():
            raise ZfnetError(f"{name} holds NaN or infinite values; load sound weights")


def _leaves(module: nn.Module, place: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a sequential network in the order in which they run."""
    headed = [name for name, _ in module.named_children()] == HEADED
    if headed or isinstance(module, nn.Sequential):
        for name, child in module._modules.items():  # named_children() omits repeated ones
            yield from _leaves(child, f"{place}.{name}" if place else name)
            if headed and name == "avgpool":
                yield "flatten", nn.Flatten()
    elif any(True for _ in module.children()):
        what = f"{place or 'the network'} ({type(module).__name__}): it is not sequential"
        raise ZfnetError(f"cannot take apart {what}; give an nn.Sequential, or torchvision's AlexNet or VGG")
    else:
        yield place, module


def _pool(module: nn.MaxPool2d, refusal: str) -> Pool:
    size, stride, padding, dilation = (
        set(value) if isinstance(value, tuple) else {value}
        for value in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    if len(size) > 1 or len(stride) > 1 or padding != {0} or dilation != {1} or max(stride) > max(size):
        raise ZfnetError(f"{refusal} ({module}); square regions without padding or gaps")
    if module.return_indices:
        raise ZfnetError(f"{refusal} ({module}): set its return_indices to False")
    return Pool(*size, *stride, ceil=module.ceil_mode)


def _norm(module: nn.LocalResponseNorm, refusal: str, convs: list[Conv]) -> Norm:
    if module.size % 2 == 0:
        raise ZfnetError(f"{refusal} ({module}): the sum needs an odd number of maps")
    before = not (convs and convs[-1].pool)
    return Norm(module.size, module.alpha, module.beta, module.k, before_pool=before)


def _require_idle(place: str, module: nn.AdaptiveAvgPool2d, spec: ArchSpec) -> None:
    """Accept torchvision's averaging only where it changes nothing, that is at the network's own input size."""
    *_, top = spec.shapes().values()
    sides = module.output_size if isinstance(module.output_size, tuple) else (module.output_size,) * 2
    if top[1:] != sides:
        change = f"averages maps of {top[1]}x{top[2]} to {sides[0]}x{sides[1]} at {spec.image_size} pixels"
        give = "give the input size at which it changes nothing, or the network without its classifier"
        raise ZfnetError(f"{place} {change}; {give}")


def _named(convs: list[Conv]) -> tuple[Conv, ...]:
    """Name up to five convolutions conv1 … conv5, more of them by the blocks that pools end."""
    names, block, place = [], 1, 1
    for conv in convs:
        names.append(f"conv{block}_{place}" if len(convs) > 5 else f"conv{len(names) + 1}")
        block, place = (block + 1, 1) if conv.pool else (block, place + 1)
    return tuple(replace(conv, name=name) for conv, name in zip(convs, names, strict=True))


@torch.no_grad()
def _compare(net: ConvNet, module: nn.Module) -> None:
    """Make sure that the rebuilt network computes what the module computes, both in float32."""
    size = net.spec.image_size
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected, trace = module(x), net.trace(x)
    own = trace.logits if net.spec.classes else trace.stages[net.spec.convs[-1].name].output
    close = {"rtol": 1e-3, "atol": 1e-3 * expected.abs().max()}
    if own.shape != expected.shape or not torch.allclose(own, expected, **close):
        wrong = "computes something else than its layers in sequence"
        raise ZfnetError(f"{net.spec.name} {wrong}; give an nn.Sequential of them")
