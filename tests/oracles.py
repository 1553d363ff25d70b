"""Second implementations, literal and slow, that the library is compared with; all in float64."""

import warnings
from collections.abc import Callable, Iterator
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zfnet_lib.architecture import ArchSpec, Box, Conv, Norm, Unit
from zfnet_lib.deconv import deconv, deconv_units
from zfnet_lib.network import ConvNet, Network

# ---- sliding regions, one by one ----------------------------------------------------------------------------


def starts(side: int, kernel: int, stride: int, padding: int = 0, ceil: bool = True) -> list[int]:
    """Where filters or regions begin; with `ceil` the last one reaches over the end rather than miss anything."""
    begin = -padding
    found = [begin]
    while begin + kernel < side + padding if ceil else begin + stride + kernel <= side + padding:
        begin += stride
        found.append(begin)
    return found


def filter_by_loops(x: Tensor, conv: Conv, weight: Tensor, bias: Tensor) -> Tensor:
    """Filter [n, maps, h, w] position by position; beyond the edges everything is 0."""
    rows, columns = (starts(n, conv.kernel, conv.stride, conv.padding, conv.ceil) for n in x.shape[-2:])
    result = bias.view(1, -1, 1, 1).repeat(len(x), 1, len(rows), len(columns))
    wide, seen, made = F.pad(x, [20] * 4), x.shape[1] // conv.groups, conv.maps // conv.groups
    for (i, top), (j, left) in product(enumerate(rows), enumerate(columns)):
        patch = wide[..., 20 + top : 20 + top + conv.kernel, 20 + left : 20 + left + conv.kernel]
        for m in range(conv.maps):
            group = m // made
            result[:, m, i, j] += (patch[:, group * seen : (group + 1) * seen] * weight[m]).sum(dim=(1, 2, 3))
    return result


def pool_by_loops(maps: Tensor, size: int, stride: int, ceil: bool = True) -> tuple[Tensor, Tensor]:
    """Return the maximum of each region of [n, maps, h, w] and its flat position; the first of equal ones."""
    height, width = maps.shape[-2:]
    rows, columns = (starts(n, size, stride, 0, ceil) for n in (height, width))
    pooled = maps.new_zeros(*maps.shape[:2], len(rows), len(columns))
    switches = torch.zeros(pooled.shape, dtype=torch.int64)
    for n, m, i, j in product(*map(range, pooled.shape)):
        down, across = range(rows[i], min(rows[i] + size, height)), range(columns[j], min(columns[j] + size, width))
        row, column = max(product(down, across), key=lambda place: maps[n, m, *place])
        pooled[n, m, i, j], switches[n, m, i, j] = maps[n, m, row, column], row * width + column
    return pooled, switches


def unpool_by_loops(values: Tensor, switches: Tensor, size: tuple[int, int]) -> Tensor:
    """Add each value to the position that its switch names."""
    result = values.new_zeros(*values.shape[:2], *size)
    for n, m, i, j in product(*map(range, values.shape)):
        row, column = divmod(int(switches[n, m, i, j]), size[1])
        result[n, m, row, column] += values[n, m, i, j]
    return result


def contrast_by_loops(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    """Divide the values of [n, maps, h, w] one by one by the energy of their neighbours."""
    result = torch.empty_like(x)
    n_, maps, height, width = x.shape
    for n, m, i, j in product(range(n_), range(maps), range(height), range(width)):
        near = range(max(m - size // 2, 0), min(m + size // 2, maps - 1) + 1)
        energy = sum(x[n, other, i, j].item() ** 2 for other in near)
        result[n, m, i, j] = x[n, m, i, j].item() / (k + alpha / size * energy) ** beta
    return result


# ---- a network by autograd, with chosen rules for what comes back --------------------------------------------


class RectifiedBackwards(torch.autograd.Function):
    """A ReLU, or a rectifier of other bounds, that rectifies what comes back: the deconvnet's rule."""

    @staticmethod
    def forward(ctx, x: Tensor, low: float = 0, high: float = torch.inf) -> Tensor:
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx, grad: Tensor):
        return grad.clamp(min=0), None, None


def normalised(x: Tensor, norm: Norm) -> Tensor:
    """Normalise the contrast, and let everything pass on the way back."""
    return x + (F.local_response_norm(x, norm.size, norm.alpha, norm.beta, norm.k) - x).detach()


def layers_by_autograd(
    net: ConvNet, x: Tensor, relu: Callable = RectifiedBackwards.apply
) -> Iterator[tuple[str, Tensor]]:
    """Yield (name, maps) of every convolutional layer and pool, from the picture upwards."""
    for conv in net.spec.convs:
        module = net.get_submodule(conv.name)
        x = F.pad(x, [side for n in (x.shape[-1], x.shape[-2]) for side in margins(n, conv)])
        x = relu(F.conv2d(x, module.weight, module.bias, conv.stride, groups=conv.groups))
        yield conv.name, x
        if conv.norm and conv.norm.before_pool:
            x = normalised(x, conv.norm)
        if conv.pool:
            x = F.max_pool2d(x, conv.pool.size, conv.pool.stride, ceil_mode=conv.pool.ceil)
            yield conv.pool_name, x
        if conv.norm and not conv.norm.before_pool:
            x = normalised(x, conv.norm)


def margins(side: int, conv: Conv) -> tuple[int, int]:
    """Zeros before and behind, so that plain filtering covers what the last filter covers."""
    last = starts(side, conv.kernel, conv.stride, conv.padding, conv.ceil)[-1]
    return conv.padding, max(conv.padding, last + conv.kernel - side)


def deconv_by_autograd(
    net: ConvNet, x: Tensor, name: str, unit: tuple, relu: Callable = RectifiedBackwards.apply
) -> tuple[Tensor, float]:
    """Return what comes back to one picture from one unit of a layer or pool, and the unit's activation."""
    x = x.clone().requires_grad_()
    maps = dict(layers_by_autograd(net, x, relu))[name]
    activation = maps[0][unit]
    (back,) = torch.autograd.grad(activation, x)
    return back * activation.detach(), activation.item()


# ---- networks to compare on ---------------------------------------------------------------------------------


def lively(spec: ArchSpec, seed: int = 0) -> ConvNet:
    """Return a float64 network whose maps neither fade nor die, with biases that matter."""
    net = ConvNet(spec, seed=seed).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer, fan_in in spec.fan_in().items():
            module = net.get_submodule(layer)
            module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            module.bias.uniform_(-0.1, 0.2, generator=generator)
    return net


def picture(height: int, width: int, seed: int = 0, n: int = 1) -> Tensor:
    """Return float64 noise of about the range of a prepared picture, so that normalisation has an effect."""
    return 60 * torch.randn(n, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def sequential(net: ConvNet, layer: str, side: int) -> nn.Sequential:
    """Return an `nn.Sequential` of the convolutions up to a layer, for captum; there is no normalisation in it."""
    modules = []
    for conv in net.spec.convs:
        source = net.get_submodule(conv.name)
        before, behind = margins(side, conv)
        bare = nn.Conv2d(source.in_channels, conv.maps, conv.kernel, conv.stride, groups=conv.groups).double()
        bare.load_state_dict(source.state_dict())
        modules += [nn.ZeroPad2d((before, behind, before, behind)), bare, nn.ReLU()]
        if conv.name == layer:
            break
        side = len(starts(side, conv.kernel, conv.stride, conv.padding, conv.ceil))
        if conv.pool:
            modules.append(nn.MaxPool2d(conv.pool.size, conv.pool.stride, ceil_mode=conv.pool.ceil))
            side = len(starts(side, conv.pool.size, conv.pool.stride, 0, conv.pool.ceil))
    return nn.Sequential(*modules)


def captum(method: type, twin: nn.Module, x: Tensor, unit: tuple) -> Tensor:
    """Return captum's attribution of one unit of a twin; it warns that it sets hooks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return method(twin).attribute(x.clone(), target=unit)


def cut_from_wide(image: Tensor, box: Box) -> Tensor:
    """Cut a box out of the picture in the middle of a much larger field of zeros."""
    wide, reach = F.pad(image, [400] * 4), 400
    return wide[:, reach + box.top : reach + box.bottom, reach + box.left : reach + box.right]


def wrong(net: Network, x: Tensor, units: list[Unit], batch: int | None = None) -> list[Unit]:
    """Return the units whose windowed projection is not the literal one, cut to the field."""
    trace, shown = net.trace(x), deconv_units(net, x, units, batch)
    expected = [deconv(trace, unit.layer, unit.place)[unit.image] for unit in units]
    fields = zip(units, shown.projections, shown.boxes, expected, strict=True)
    return [unit for unit, found, box, whole in fields if not close(found, cut_from_wide(whole, box))]


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> bool:
    """Say whether two tensors agree to a share of the largest expected value."""
    largest = expected.abs().max().item()
    return found.shape == expected.shape and (found - expected).abs().max().item() <= tolerance * largest
