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


class ForeignError(ZfnetError, ValueError):
    """A module that the deconvnet cannot take apart."""


HEADED = ["features", "avgpool", "classifier"]
"""The parts of torchvision's AlexNet and VGG, by which they are known; their maps are flattened before the last."""

TORCHVISION_MEAN = (0.485, 0.456, 0.406)
TORCHVISION_SCALE = (0.229, 0.224, 0.225)


def torchvision_preparation(crop: int = 224) -> Preparation:
    """Return the preparation of torchvision's ImageNet networks: short side 256, mean and scale per channel."""
    mean, scale = (torch.tensor(values).view(3, 1, 1) * 255 for values in (TORCHVISION_MEAN, TORCHVISION_SCALE))
    return Preparation(round(crop * 256 / 224), crop, mean, scale)


def adapt(
    module: nn.Module, name: str | None = None, image_size: int = 224, preparation: Preparation | None = None
) -> ConvNet:
    """Rebuild a sequential network as a `ConvNet`, with its weights, so that everything here works on it.

    It takes convolutions, rectifications, max pools, contrast normalisations, dropouts and fully connected
    layers in the usual order, as `nn.Sequential` or as torchvision's AlexNet and VGG. Layers get the paper's
    style of names: `conv1 … conv5`, or `conv1_1 … conv5_3` where blocks end in pools. The result is compared
    with the module on a random input before it is returned.

    Args:
        module: The network, in any precision and on any device; it stays as it is.
        name: Used in messages; the module's class by default.
        image_size: Side in pixels of its input.
        preparation: How its pictures are prepared; torchvision's by default.

    Returns:
        A `ConvNet` in evaluation mode, with a copy of the weights in float32 on the CPU.

    Raises:
        ForeignError: A layer that the deconvnet has no inverse for, or one without numbers; the message names it.

    Example:
        >>> small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))
        >>> adapt(small, image_size=8).spec["conv1"].pool
        Pool(size=2, stride=2, ceil=False)
    """
    reader = _Reader(name or type(module).__name__.lower(), image_size)
    for place, layer in _leaves(module):
        _require_numbers(place, layer)
        reader.read(place, layer)
    spec = reader.spec()
    net = ConvNet(spec, preparation or torchvision_preparation(image_size)).eval()
    for layer, source in zip(spec.layers, reader.sources, strict=True):
        _copy(source, net.get_submodule(layer.name), layer.name)
    _compare(net, deepcopy(module).float().cpu().eval())
    return net


def _require_numbers(place: str, layer: nn.Module) -> None:
    """Refuse weights that are not there or are no numbers."""
    for name, value in layer.named_parameters(place, recurse=False):
        if is_lazy(value):
            raise ForeignError(f"{name} has no shape yet; run the network once on a picture, then give it again")
        if value.is_meta:
            raise ForeignError(f"{name} has no values (it lies on the device 'meta'); load the weights first")
        if not value.isfinite().all():
            raise ForeignError(f"{name} holds NaN or infinite values; load sound weights")


@torch.no_grad()
def _copy(source: nn.Module, own: nn.Module, layer: str) -> None:
    if source.weight.shape != own.weight.shape:
        raise ForeignError(
            f"{layer} has weights {list(source.weight.shape)} where {list(own.weight.shape)} are expected; "
            f"colour pictures of the right input size are taken"
        )
    own.weight.copy_(source.weight)
    if source.bias is not None:
        own.bias.copy_(source.bias)


def _leaves(module: nn.Module, place: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a sequential network in the order in which they run."""
    headed = [name for name, _ in module.named_children()] == HEADED
    if headed or isinstance(module, nn.Sequential):
        for name, child in module._modules.items():  # named_children() omits repeated ones
            yield from _leaves(child, f"{place}.{name}" if place else name)
            if headed and name == "avgpool":
                yield "flatten", nn.Flatten()
    elif any(True for _ in module.children()):
        raise ForeignError(
            f"cannot take apart {place or 'the network'} ({type(module).__name__}): it is not sequential; "
            f"give an nn.Sequential, or torchvision's AlexNet or VGG"
        )
    else:
        yield place, module


class _Reader:
    """Collects the layers of a spec from a sequence of modules."""

    def __init__(self, name: str, image_size: int):
        self.name, self.image_size = name, image_size
        self.convs: list[Conv] = []
        self.dense: list[Dense] = []
        self.sources: list[nn.Module] = []
        self.open = ""

    def read(self, place: str, module: nn.Module) -> None:
        """Take one module in; refuse what has no place in a convnet of section 2."""
        if self.open and not isinstance(module, nn.ReLU):
            raise ForeignError(f"{self.open} is followed by {place} ({type(module).__name__}); a ReLU is expected")
        match module:
            case nn.Conv2d():
                self._conv(place, module)
            case nn.ReLU():
                self._relu(place)
            case nn.MaxPool2d():
                self._pool(place, module)
            case nn.LocalResponseNorm():
                self._norm(place, module)
            case nn.Linear():
                self._linear(place, module)
            case nn.AdaptiveAvgPool2d():
                self._average(place, module)
            case nn.Dropout() | nn.Dropout2d() | nn.Flatten() | nn.Identity():
                pass
            case _:
                raise ForeignError(
                    f"cannot take apart {place or 'the network'} ({type(module).__name__}); the deconvnet knows "
                    f"Conv2d, ReLU, MaxPool2d, LocalResponseNorm, Dropout, Flatten and Linear"
                )

    def spec(self) -> ArchSpec:
        """Return the architecture of what was read; refuse one without maps to project."""
        if not self.convs or (self.open and not self.dense):
            raise ForeignError(f"{self.name} ends without a rectified convolution; there is nothing to project")
        convs = tuple(replace(c, name=name) for c, name in zip(self.convs, _names(self.convs), strict=True))
        classes = self.dense[-1].units if self.dense else 0
        hidden = tuple(replace(d, name=f"fc{6 + i}") for i, d in enumerate(self.dense[:-1]))
        if len(hidden) > 2:
            raise ForeignError(f"{self.name} has {len(hidden)} hidden fully connected layers; two are the most")
        return ArchSpec(self.name, convs, hidden, classes, self.image_size)

    def _conv(self, place: str, module: nn.Conv2d) -> None:
        square = len(set(module.kernel_size)) == len(set(module.stride)) == 1
        plain = module.dilation == (1, 1) and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        if self.dense or not square or not plain or len(set(module.padding)) > 1:
            raise ForeignError(f"cannot take apart {place} ({module}); square filters, zero padding, no dilation")
        kernel, stride, padding = module.kernel_size[0], module.stride[0], module.padding[0]
        self.convs.append(Conv("", module.out_channels, kernel, stride, padding, module.groups, ceil=False))
        self._keep(place, module)

    def _linear(self, place: str, module: nn.Linear) -> None:
        self.dense.append(Dense("", module.out_features, dropout=0.0))
        self._keep(place, module)

    def _keep(self, place: str, module: nn.Module) -> None:
        self.sources.append(module)
        self.open = place

    def _relu(self, place: str) -> None:
        if not self.open:
            raise ForeignError(f"cannot take apart {place} (ReLU): no layer stands before it")
        self.open = ""

    def _pool(self, place: str, module: nn.MaxPool2d) -> None:
        size, stride, padding, dilation = (
            set(value) if isinstance(value, tuple) else {value}
            for value in (module.kernel_size, module.stride, module.padding, module.dilation)
        )
        if len(size) > 1 or len(stride) > 1 or padding != {0} or dilation != {1} or max(stride) > max(size):
            raise ForeignError(f"cannot take apart {place} ({module}); square regions without padding or gaps")
        if module.return_indices:
            raise ForeignError(f"cannot take apart {place} ({module}): set its return_indices to False")
        self._extend(place, module, "pool", Pool(*size, *stride, ceil=module.ceil_mode))

    def _norm(self, place: str, module: nn.LocalResponseNorm) -> None:
        if module.size % 2 == 0:
            raise ForeignError(f"cannot take apart {place} ({module}): the sum needs an odd number of maps")
        before = not (self.convs and self.convs[-1].pool)
        norm = Norm(module.size, module.alpha, module.beta, module.k, before_pool=before)
        self._extend(place, module, "norm", norm)

    def _extend(self, place: str, module: nn.Module, part: str, value: Pool | Norm) -> None:
        if self.dense or not self.convs or getattr(self.convs[-1], part):
            raise ForeignError(
                f"cannot take apart {place} ({type(module).__name__}): no convolution stands before it"
            )
        self.convs[-1] = replace(self.convs[-1], **{part: value})

    def _average(self, place: str, module: nn.AdaptiveAvgPool2d) -> None:
        """Accept torchvision's averaging only where it changes nothing, that is at the network's own input size."""
        convs = tuple(replace(c, name=name) for c, name in zip(self.convs, _names(self.convs), strict=True))
        *_, top = ArchSpec(self.name, convs, (), 0, self.image_size).shapes().values()
        sides = module.output_size if isinstance(module.output_size, tuple) else (module.output_size,) * 2
        if top[1:] != sides:
            raise ForeignError(
                f"{place} averages maps of {top[1]}x{top[2]} to {sides[0]}x{sides[1]} at {self.image_size} pixels; "
                f"give the input size at which it changes nothing, or the network without its classifier"
            )


def _names(convs: list[Conv]) -> list[str]:
    """Name up to five convolutions conv1 … conv5, more of them by the blocks that pools end."""
    if len(convs) <= 5:
        return [f"conv{i}" for i in range(1, len(convs) + 1)]
    names, block, place = [], 1, 1
    for conv in convs:
        names.append(f"conv{block}_{place}")
        block, place = (block + 1, 1) if conv.pool else (block, place + 1)
    return names


@torch.no_grad()
def _compare(net: ConvNet, module: nn.Module) -> None:
    """Make sure that the rebuilt network computes what the module computes, both in float32."""
    size = net.spec.image_size
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0))
    expected, trace = module(x), net.trace(x)
    own = trace.logits if net.spec.classes else trace.stages[net.spec.convs[-1].name].output
    if own.shape != expected.shape or not torch.allclose(
        own, expected, rtol=1e-3, atol=1e-3 * expected.abs().max()
    ):
        raise ForeignError(
            f"{net.spec.name} computes something else than its layers in sequence; give an nn.Sequential of them"
        )
