"""Other people's networks: a sequence becomes a `ConvNet`, every other module is probed through autograd."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import chain
from numbers import Integral

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .architecture import ArchSpec, Conv, Dense, Norm, Pool, SpecError
from .files import ZfnetError
from .images import Preparation
from .network import ConvNet, Network
from .probe import ProbedNet

HEADED = ["features", "avgpool", "classifier"]  # the parts of torchvision's AlexNet and VGG: known by these names
MOST = 4096  # positions of maps whose average is joined to the layer above; the matrix has their square


def torchvision_preparation(crop: int = 224) -> Preparation:
    """Return the preparation of torchvision's ImageNet networks: short side 256, mean and scale per channel."""
    known = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    mean, scale = (torch.tensor(values).view(3, 1, 1) * 255 for values in known)
    return Preparation(round(crop * 256 / 224), crop, mean, scale)


def adapt(
    module: nn.Module,
    name: str | None = None,
    image_size: int = 224,
    preparation: Preparation | None = None,
    layers: Sequence[str] | None = None,
) -> Network:
    """Make any module that turns pictures into maps a network whose units can be projected.

    A sequence of convolutions (with BatchNorm), rectifiers, max pools, contrast normalisations, average pools above
    the last map, dropouts and fully connected layers, as `nn.Sequential` or as torchvision's AlexNet and VGG,
    becomes a `ConvNet`: exact, windowed, fast. Its layers get the paper's style of names: `conv1 … conv5`, or
    `conv1_1 … conv5_3` where blocks end in pools. Every other module becomes a `ProbedNet`, whose layers are named
    as `named_modules()` names them.

    Args:
        module: The network, in any precision and on any device; it stays as it is.
        name: Used in messages; the module's class by default.
        image_size: Side in pixels of its input.
        preparation: How its pictures are prepared; torchvision's by default, and [0, 1] for one channel. Its mean
            has the input's channels, which without it are those of the first convolution.
        layers: Names of the submodules to look at; a module of which they are named is always probed.

    Returns:
        A network in evaluation mode, with a copy of the weights, in float32 unless they are float64.

    Raises:
        ZfnetError: Weights that are not there or not finite, an impossible `image_size`, a preparation of another
            size, a module that is scripted, mixes the pictures of a batch, cannot be copied, fails on such
            pictures, has no maps, or ends in a softmax.
    """
    module = getattr(module, "_orig_mod", module)  # of `torch.compile`
    name = name or type(module).__name__.lower()
    if not isinstance(image_size, Integral) or image_size < 1:
        raise ZfnetError(f"image_size={image_size!r}: give the side of square pictures, a whole number from 1")
    if preparation and preparation.crop != image_size:
        makes = f"the preparation makes pictures of {preparation.crop} pixels, not of image_size={image_size}"
        raise ZfnetError(f"{makes}; give both the same size, as by `preparation.resized({image_size})`")
    for place, value in chain(module.named_parameters(), module.named_buffers()):
        if is_lazy(value):
            raise ZfnetError(f"{place} has no shape yet; run the network once on a picture, then give it again")
        if value.is_meta:
            raise ZfnetError(f"{place} has no values (it lies on the device 'meta'); load the weights first")
        holes = isinstance(value, nn.Parameter) or value.isnan().any()  # a mask of attention holds -inf
        if holes and not value.isfinite().all():
            raise ZfnetError(f"{place} holds NaN or infinite values; load sound weights")
    for place, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            hides = f"{place or name} is compiled by torch.jit, which hides its rectifiers"
            raise ZfnetError(f"{hides}; give the module that it was made from")
        if isinstance(part, _BatchNorm) and part.running_mean is None:
            mixes = f"{place or name} keeps no running statistics, so that a picture's maps depend on its batch"
            raise ZfnetError(f"{mixes}; train it with `track_running_stats=True`")
    try:
        module = deepcopy(module)
    except (RuntimeError, TypeError) as error:
        made = "weights that are computed, as by `torch.nn.utils.weight_norm`, are removed first"
        raise ZfnetError(f"{name} cannot be copied ({' '.join(str(error).split())[:100]}); {made}") from error
    module.eval()
    module.requires_grad_(False)
    if any(value.dtype in (torch.float16, torch.bfloat16) for value in module.parameters()):
        module = module.float()
    guessed = next((m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)), 3)
    channels = len(preparation.mean) if preparation else guessed
    if preparation is None and channels == 1:
        preparation = Preparation(image_size, image_size, torch.zeros(1, 1, 1), torch.full((1, 1, 1), 255.0))
    preparation = preparation or torchvision_preparation(image_size)
    rebuilt = None if layers else _rebuilt(module, name, image_size, preparation)
    return rebuilt or ProbedNet(module, name, image_size, preparation, layers, channels)


def _expect(fits: bool) -> None:
    """Refuse a module that is no sequence of the layers that a `ConvNet` has."""
    if not fits:
        raise SpecError("this is no sequence of a `ConvNet`'s layers")


def _rebuilt(module: nn.Module, name: str, image_size: int, preparation: Preparation) -> ConvNet | None:
    """Return a sequence as a `ConvNet`, once it computes the same; none for other modules."""
    try:
        spec, sources = _read(list(_leaves(module)), name, image_size)
    except SpecError:
        return None
    net = ConvNet(spec, preparation).eval().to(sources[0].weight)
    for layer, source in zip(spec.layers, sources, strict=True):
        weight = net.get_parameter(f"{layer.name}.weight")
        if source.weight.shape != weight.shape:
            return None
        with torch.no_grad():
            weight.copy_(source.weight)
            if source.bias is not None:
                net.get_parameter(f"{layer.name}.bias").copy_(source.bias)
    return net if _computes_the_same(net, module) else None


def _read(leaves: list[nn.Module], name: str, image_size: int) -> tuple[ArchSpec, list[nn.Conv2d | nn.Linear]]:
    """Return the architecture of layers in sequence, and the modules whose weights its layers have."""
    convs: list[Conv] = []
    dense: list[Dense] = []
    sources: list[nn.Conv2d | nn.Linear] = []
    average = None  # a pool above the last map
    rectified = True  # whether the layer read last is
    for layer in leaves:
        match layer:
            case nn.Conv2d():
                layer = _as_padded(layer)
                square = len(set(layer.kernel_size)) == len(set(layer.stride)) == len(set(layer.padding)) == 1
                plain = layer.dilation == (1, 1) and layer.padding_mode == "zeros"
                _expect(rectified and not dense and not average and square and plain)
                kernel, stride, padding = layer.kernel_size[0], layer.stride[0], int(layer.padding[0])
                convs.append(Conv("", layer.out_channels, kernel, stride, padding, layer.groups, ceil=False))
                sources.append(layer)
            case nn.Linear():
                _expect(rectified)
                if average:
                    *_, top = ArchSpec(name, _named(convs), (), 0, image_size).shapes().values()
                    layer, average = _over_all(layer, average, top), None
                dense.append(Dense("", layer.out_features, dropout=0.0))
                sources.append(layer)
            case nn.BatchNorm2d() | nn.BatchNorm1d():
                _expect(not rectified)
                last = sources[-1]
                _expect(isinstance(last, nn.Linear) == isinstance(layer, nn.BatchNorm1d))  # not of flattened maps
                if isinstance(last, nn.Linear):
                    _expect(layer.affine)  # torch joins no other kind
                    sources[-1] = fuse_linear_bn_eval(last, layer)
                else:
                    sources[-1] = fuse_conv_bn_eval(last, layer)
            case nn.ReLU():
                _expect(not rectified)
            case nn.MaxPool2d():
                numbers = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
                sizes, strides, *margins = (set(n) if isinstance(n, tuple) else {n} for n in numbers)
                plain = len(sizes) == len(strides) == 1 and margins == [{0}, {1}] and not layer.return_indices
                _expect(rectified and bool(convs) and plain and not (dense or average or convs[-1].pool))
                convs[-1] = replace(convs[-1], pool=Pool(sizes.pop(), strides.pop(), layer.ceil_mode))
            case nn.LocalResponseNorm():
                _expect(rectified and bool(convs) and not (dense or average or convs[-1].norm))
                norm = Norm(layer.size, layer.alpha, layer.beta, layer.k, before_pool=not convs[-1].pool)
                convs[-1] = replace(convs[-1], norm=norm)
            case nn.AdaptiveAvgPool2d() | nn.AvgPool2d():
                _expect(rectified and bool(convs) and not (dense or average))
                average = layer
            case nn.Dropout() | nn.Dropout2d() | nn.Flatten() | nn.Identity():
                continue
            case _:
                _expect(False)
        rectified = rectified if isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d) else layer is not sources[-1]
    # The last maps are rectified, and logits are not.
    _expect(bool(convs) and bool(dense) != rectified and not average and len(dense) <= 3)
    hidden = tuple(replace(d, name=f"fc{6 + i}") for i, d in enumerate(dense[:-1]))
    return ArchSpec(name, _named(convs), hidden, dense[-1].units if dense else 0, image_size), sources


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of a sequential network in the order in which they run."""
    headed = [name for name, _ in module.named_children()] == HEADED
    if headed or isinstance(module, nn.Sequential):
        for name, child in module._modules.items():  # named_children() omits repeated ones
            if child is None:
                raise SpecError(f"{name} is empty")
            yield from _leaves(child)
            if headed and name == "avgpool":
                yield nn.Flatten()
    else:
        _expect(not list(module.children()))
        yield module


def _as_padded(conv: nn.Conv2d) -> nn.Conv2d:
    """Write `padding="same"` in numbers; an even filter gets a row and column of zeros before it."""
    if not isinstance(conv.padding, str):
        return conv
    _expect(len(set(conv.kernel_size)) == 1)
    side, even = conv.kernel_size[0], conv.kernel_size[0] % 2 == 0
    padding = side // 2 if conv.padding == "same" else 0
    made = deepcopy(conv)
    made.padding = (padding, padding)
    if padding and even:
        made.kernel_size = (side + 1, side + 1)
        made.weight = nn.Parameter(F.pad(conv.weight, (1, 0, 1, 0)), requires_grad=False)
    return made


def _over_all(linear: nn.Linear, average: nn.Module, top: Sequence[int]) -> nn.Linear:
    """Join an average pool to the fully connected layer above it, which then reads the whole maps."""
    maps, rows, columns = top
    _expect(rows * columns <= MOST)
    each = average(torch.eye(rows * columns, dtype=linear.weight.dtype).view(-1, 1, rows, columns)).flatten(1)
    _expect(linear.in_features == maps * each.shape[1])
    made = nn.Linear(maps * rows * columns, linear.out_features, device="meta")
    spread = linear.weight.view(-1, maps, each.shape[1]) @ each.T.to(linear.weight)
    made.weight, made.bias = nn.Parameter(spread.flatten(1), requires_grad=False), linear.bias
    return made


def _named(convs: list[Conv]) -> tuple[Conv, ...]:
    """Name up to five convolutions conv1 … conv5, more of them by the blocks that pools end."""
    names: list[str] = []
    block, place = 1, 1
    for conv in convs:
        names.append(f"conv{block}_{place}" if len(convs) > 5 else f"conv{len(names) + 1}")
        block, place = (block + 1, 1) if conv.pool else (block, place + 1)
    return tuple(replace(conv, name=name) for conv, name in zip(convs, names, strict=True))


@torch.no_grad()
def _computes_the_same(net: ConvNet, module: nn.Module) -> bool:
    """Tell whether the rebuilt network computes what the module computes, to the rounding of their type."""
    size = net.spec.image_size
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0), device="cpu")
    x = x.to(net.device, net.dtype)
    try:
        expected = module(x.clone())  # it may change its input in place
    except Exception:  # a forward pass of its own raises whatever it likes: the probe says what
        return False
    if not isinstance(expected, torch.Tensor):
        return False
    trace = net.trace(x)
    own = trace.stages[net.layers[-1]].output if trace.logits is None else trace.logits
    tolerance = torch.finfo(net.dtype).eps * 1e4
    absolute = tolerance * float(expected.abs().max())
    return own.shape == expected.shape and torch.allclose(own, expected, tolerance, absolute)
