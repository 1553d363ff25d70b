"""The convnet, built from its spec; a forward pass as a value; contrast normalisation, exact and fast."""

from __future__ import annotations

from collections.abc import Container
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .architecture import ArchSpec, Conv, Dense, Field, Norm, Shape, SpecError, receptive_field
from .files import ZfnetError
from .images import Preparation

RADIUS = 0.1  # of section 3: no convolution filter keeps a larger root mean square
CACHED = 2**17  # values that contrast normalisation treats at a time, so that they stay in a processor's cache


def contrast_normalise(x: Tensor, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Tensor:
    r"""Divide each value by the energy of its neighbouring maps (section 2, step iv; constants of [18]).

    $y_i = x_i \, d_i^{-\beta}$ with $d_i = k + \frac{\alpha}{size} \sum_{|j - i| \le size/2} x_j^2$, the same as
    `torch.nn.functional.local_response_norm(x, size, alpha, beta, k)`, several times faster; `size` is odd.
    """
    if size < 1 or size % 2 == 0:
        raise ZfnetError(f"the window of contrast normalisation has an odd size from 1; given {size}")
    return _ContrastNorm.apply(x, size, alpha, beta, k)


class _ContrastNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.constants = size, alpha, beta, k
        y = torch.empty_like(x)
        for part, out in zip(_parts(x), _parts(y), strict=True):
            part = _wide(part)
            out.copy_(_energy(part, *ctx.constants)[1].mul_(part))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        size, alpha, beta, _ = ctx.constants
        result = torch.empty_like(x)
        for part, g, out in zip(_parts(x), _parts(grad), _parts(result), strict=True):
            part = _wide(part)
            energy, scale = _energy(part, *ctx.constants)
            scaled = scale.mul_(_wide(g))
            across = _window_sum((scaled * part).div_(energy), size)
            out.copy_(scaled.addcmul_(across, part, value=-2 * (alpha / size) * beta))
        return result, None, None, None, None


def _parts(x: Tensor):
    """Split a batch so that a part stays in the processor's cache; a GPU takes it whole."""
    return x.split(max(1, CACHED // max(1, x[:1].numel()))) if x.device.type == "cpu" else (x,)


def _wide(x: Tensor) -> Tensor:
    """Return x in float32 where it has fewer bits; mixed operations are slow on the CPU."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _energy(x: Tensor, size: int, alpha: float, beta: float, k: float) -> tuple[Tensor, Tensor]:
    """Return d and d^-beta; at 0.75 two roots are cheaper than a power."""
    energy = _window_sum(x * x, size).mul_(alpha / size).add_(k)
    if beta != 0.75:
        return energy, energy.pow(-beta)
    root = energy.rsqrt()
    return energy, root.sqrt().mul_(root)


def _window_sum(x: Tensor, size: int) -> Tensor:
    """Sum over `size` neighbouring maps, zeros beyond the first and last."""
    total = x.clone()
    for shift in range(1, min(size // 2, x.shape[1] - 1) + 1):
        total[:, shift:] += x[:, :-shift]
        total[:, :-shift] += x[:, shift:]
    return total


Fields = tuple[Field, Field]  # along rows and along columns


@dataclass(frozen=True)
class Stage:
    """What one layer computed."""

    maps: Tensor  # rectified [n, maps, h, w], before pool and normalisation; [n, units] for fc6, fc7
    switches: Tensor | None  # int64 [n, maps, h', w'] of a pool: each region's maximum, as a flat place in its map
    output: Tensor  # what the next layer sees: `maps` after pool and normalisation


@dataclass(frozen=True)
class Trace:
    """One forward pass as a value."""

    net: Network
    x: Tensor  # [n, 3, H, W]
    stages: dict[str, Stage]  # by layer name, from the picture upwards
    logits: Tensor | None  # [n, classes]; None without a classifier or where the pass stopped earlier

    def __getitem__(self, layer: str) -> Stage:
        if layer not in self.stages:
            self.net.layers_upto(layer)
            raise SpecError(f"this trace holds no {layer}; trace the picture again without `upto` and `keep`")
        return self.stages[layer]

    def __repr__(self) -> str:
        kept = {"x": self.x} | {layer: stage.maps for layer, stage in self.stages.items()}
        kept |= {} if self.logits is None else {"logits": self.logits}
        shapes = ", ".join(f"{name} {list(values.shape)}" for name, values in kept.items())
        return f"<Trace of {self.net.name}: {shapes}>"


class Network(nn.Module):
    """What a `ConvNet` and a `ProbedNet` have in common."""

    name: str  # the architecture's or module's; of loaded weights theirs
    preparation: Preparation
    channels: int  # of the input
    classes: int  # how many logits there are; 0 without a classifier
    layers: tuple[str, ...]  # those with maps, from the picture upwards
    kept: frozenset[str] = frozenset()  # attributes that a forward pass sets: threads would overwrite them

    if TYPE_CHECKING:  # what each kind says of itself, see `ConvNet`

        def require(self, layer: str) -> str: ...
        def shapes(self, height: int | None = None, width: int | None = None) -> dict[str, Shape]: ...
        def fields(self, layer: str, height: int | None = None, width: int | None = None) -> Fields: ...
        def layers_upto(self, upto: str | None = None) -> tuple[Any, ...]: ...
        def trace(self, x: Tensor, upto: str | None = None, keep: Container[str] | None = None) -> Trace: ...
        def features(self, upto: str = "", side: int = 0) -> Self: ...
        def identity(self) -> Any: ...

    @property
    def outline(self) -> tuple[str, ...]:
        """The layers that are shown unless others are named: all."""
        return self.layers

    @property
    def device(self) -> torch.device:
        """The device that holds the weights."""
        return next(self.parameters(), torch.empty(0)).device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights."""
        return next(self.parameters(), torch.empty(0)).dtype

    def unmixed(self) -> AbstractContextManager:
        """Return a context in which it computes in the type of its weights, inside `torch.autocast` too."""
        kind = self.device.type
        return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()

    def prepare(self, pictures) -> Tensor:
        """Turn uint8 [n, 3, h, w] or PIL pictures into the input [n, channels, crop, crop]; 0 is the mean."""
        return self.preparation(pictures).to(self.device, self.dtype)

    def check(self, x: Tensor, anywhere: bool = False) -> None:
        """Refuse anything but prepared pictures, and another type or device than the network's."""
        if not isinstance(x, Tensor) or x.ndim != 4 or x.shape[1] != self.channels or not x.is_floating_point():
            takes = f"{self.name} takes prepared pictures, float [n, {self.channels}, h, w]"
            raise ZfnetError(f"{takes}; given {described(x)}; `net.prepare` makes them from uint8 pictures")
        weight = next(self.parameters(), x)
        if x.device != weight.device:
            lies = f"{self.name} lies on the device {weight.device}, the pictures on {x.device}"
            raise ZfnetError(f"{lies}; move them by `x.to(net.device)`")
        if x.dtype != self.dtype and not torch.is_autocast_enabled(x.device.type):
            own, given = (str(dtype).removeprefix("torch.") for dtype in (self.dtype, x.dtype))
            turn = "turn the pictures by `x.to(net.dtype)`, or the network by `net.to(x.dtype)`"
            raise ZfnetError(f"{self.name} computes in {own}, given {given}; {turn}")


class ConvNet(Network):
    """The convnet of Fig. 3, of Table 2, or any other that an `ArchSpec` describes.

    Weights start as section 3 says (normal, the spec's deviations, biases 0); the same seed gives the same bytes.

    Args:
        spec: The architecture; its layers become the modules `conv1` … `fc8`.
        preparation: How pictures become its input; mean 128 and raw range until a training mean is known.
        seed: Of the initial weights.
    """

    def __init__(self, spec: ArchSpec, preparation: Preparation | None = None, seed: int = 0):
        super().__init__()
        self.spec, self.name = spec, spec.name
        self.classes, self.layers = spec.classes, tuple(conv.name for conv in spec.convs)
        self.preparation = preparation or Preparation.grey(spec.image_size)
        for name, fan_in in spec.fan_in().items():
            layer = spec[name]
            if isinstance(layer, Dense):
                self.add_module(name, Linear(fan_in, layer.units))
            else:
                below = fan_in * layer.groups // layer.kernel**2
                sizes = (below, layer.maps, layer.kernel, layer.stride, layer.padding)
                self.add_module(name, Conv2d(*sizes, groups=layer.groups))
        self.initialise(seed)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw all weights from N(0, std^2) and set the biases to 0 (section 3)."""
        generator = torch.Generator().manual_seed(seed)
        for layer in self.spec.layers:
            weight = self.get_parameter(f"{layer.name}.weight")
            drawn = torch.empty(weight.shape, device="meta" if weight.is_meta else "cpu")
            weight.copy_(drawn.normal_(0, layer.std, generator=generator))
            self.get_parameter(f"{layer.name}.bias").zero_()

    # What a network of either kind, this one or a `ProbedNet`, says of itself.

    channels = 3

    def require(self, layer: str) -> str:
        """Return a layer's name, if it has maps; else it is an error that names those that have."""
        return layer if layer in self.layers else replace(self.spec, name=self.name).conv(layer).name

    def shapes(self, height: int | None = None, width: int | None = None) -> dict[str, Shape]:
        """Return (maps, rows, columns) of every layer with maps, for pictures of a size."""
        shapes = self.spec.features().shapes(height, width)
        return {layer: shapes[layer] for layer in self.layers}

    def fields(self, layer: str, height: int | None = None, width: int | None = None) -> Fields:
        """Return the receptive field of a layer's units along rows and along columns."""
        field = receptive_field(self.spec, self.require(layer))
        return field, field

    def identity(self) -> Any:
        """Return what, beside the weights, says which network this is."""
        return self.spec.to_dict()

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the logits [n, classes] of prepared pictures; the generator draws what dropout drops."""
        if not self.spec.classes:
            give = "use `net.trace(x)` for its maps, or load a network that has one"
            raise ZfnetError(f"{self.name} has no classifier here; {give}")
        self.check(x)
        x = self.convolved(x).flatten(1)
        for dense in self.spec.dense:
            x = F.relu(self.get_submodule(dense.name)(x))
            if self.training and dense.dropout:  # the others grow, so that the expected sum stays (section 3)
                kept = 1 - dense.dropout
                x = x * torch.empty_like(x).bernoulli_(kept, generator=generator).div_(kept)
        return self.get_submodule("fc8")(x)

    def convolved(self, x: Tensor) -> Tensor:
        """Return what the last convolutional layer hands on, [n, maps, h, w], without keeping what lies below."""
        for conv in self.spec.convs:
            x = self.filtered(conv, x)
            if conv.norm and conv.norm.before_pool:
                x = pooled(conv, F.relu(x))[0]
            else:  # the maxima are rectified instead of the maps: a quarter of the work
                x = output(conv, F.relu(pooled(conv, x)[0]))
        return x

    def trace(self, x: Tensor, upto: str | None = None, keep: Container[str] | None = None) -> Trace:
        """Run the network once and keep every layer's maps and switches.

        Dropout is off. A network without a classifier takes any input size that its layers allow. What is kept
        can be differentiated where `x` asks for it (`requires_grad`); otherwise it is plain numbers.

        Args:
            x: Prepared pictures [n, 3, H, W].
            upto: Last layer to compute; all by default.
            keep: Layers to keep, where only their maps are wanted; all by default.

        Raises:
            ZfnetError: No such layer, wrong shape, or values that are not finite.
        """
        layers = self.layers_upto(upto)
        self.check(x, anywhere=isinstance(layers[-1], Conv) and not (upto is None and self.classes))
        require_finite(x)
        stages, below, logits = {}, x, None
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            for layer in layers:  # section 2: filter, rectify, pool and keep the switches, normalise
                if isinstance(layer, Dense):
                    maps = F.relu(self.get_submodule(layer.name)(below.flatten(1)))
                    stage = Stage(maps, None, maps)
                else:
                    maps = F.relu(self.filtered(layer, below))
                    values, switches = pooled(layer, maps)
                    stage = Stage(maps, switches, output(layer, values))
                below = stage.output
                if keep is None or layer.name in keep:
                    stages[layer.name] = stage
            if upto is None and self.spec.classes:
                logits = self.get_submodule("fc8")(below.flatten(1))
        return Trace(self, x, stages, logits)

    def filtered(self, conv: Conv, x: Tensor) -> Tensor:
        """Return a layer's pre-activations; right and bottom are padded as far as the last filters reach."""
        right, bottom = conv.overhang(x.shape[-1]), conv.overhang(x.shape[-2])
        return self.get_submodule(conv.name)(F.pad(x, (0, right, 0, bottom)) if right or bottom else x)

    def features(self, upto: str = "", side: int = 0) -> ConvNet:
        """Return the convolutional part alone, up to a layer, sharing these weights, for pictures of any size.

        It prepares pictures for an input of `side` pixels, by default as the whole network does.
        """
        part = ConvNet.__new__(ConvNet)
        nn.Module.__init__(part)
        part.spec, part.name, part.classes = self.spec.features(upto), self.name, 0
        part.layers = tuple(conv.name for conv in part.spec.convs)
        part.preparation = self.preparation.resized(side) if side else self.preparation
        for conv in part.spec.convs:
            part.add_module(conv.name, self.get_submodule(conv.name))
        return part.train(self.training)

    @torch.no_grad()
    def renormalise(self, layers: tuple[str, ...] | None = None, radius: float = RADIUS) -> None:
        """Scale every convolution filter, or some layers', whose RMS exceeds `radius` back to it (section 3)."""
        for conv in self.spec.convs if layers is None else map(self.spec.conv, layers):
            weight = self.get_parameter(f"{conv.name}.weight")
            rms = weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
            weight.mul_((radius / rms).clamp(max=1))

    def layers_upto(self, upto: str | None = None) -> tuple[Conv | Dense, ...]:
        """Return the layers from the picture up to one with rectified outputs, `conv1` to `fc7`."""
        layers = self.spec.convs + self.spec.dense
        last = replace(self.spec, name=self.name)[upto] if upto else layers[-1]
        if last not in layers:
            raise SpecError(f"{upto} gives the logits: trace without `upto` and read `trace.logits`")
        return layers[: layers.index(last) + 1]

    def check(self, x: Tensor, anywhere: bool = False) -> None:
        """Refuse as any network does; unless `anywhere`, also another size than the classifier takes."""
        super().check(x)
        name, size = self.name, self.spec.image_size
        (height, width), top = x.shape[-2:], list(self.spec.steps())[-1]
        if self.spec.shapes(height, width)[top] != self.spec.shapes()[top] and not anywhere:
            given = f"given {height}x{width}; `net.features()` runs its convolutions at any size"
            raise ZfnetError(f"the classifier of {name} takes pictures of {size}x{size}, {given}")


def described(x: Any) -> str:
    """Name the type and shape of what was given for pictures."""
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def require_finite(x: Tensor) -> None:
    """Refuse pictures with values that are not finite."""
    if x.numel() and not all(bound.isfinite() for bound in x.aminmax()):
        raise ZfnetError("the input holds NaN or infinite values; prepare the picture again with `net.prepare`")


def pooled(conv: Conv, maps: Tensor) -> tuple[Tensor, Tensor | None]:
    """Pool a layer's maps and keep the switches; a layer without a pool passes them on."""
    if conv.norm and conv.norm.before_pool:
        maps = _normalised(conv.norm, maps)
    if (pool := conv.pool) is None:
        return maps, None
    return F.max_pool2d(maps, pool.size, pool.stride, 0, 1, pool.ceil, return_indices=True)


def output(conv: Conv, values: Tensor) -> Tensor:
    """Turn pooled maps into what the next layer sees."""
    return _normalised(conv.norm, values) if conv.norm and not conv.norm.before_pool else values


def _normalised(norm: Norm, x: Tensor) -> Tensor:
    return contrast_normalise(x, norm.size, norm.alpha, norm.beta, norm.k)


class Conv2d(nn.Conv2d):
    """Filters, whose weights `ConvNet.initialise` draws: torch's `skip_init` would import sympy, for a second."""

    def reset_parameters(self) -> None:
        """Draw nothing."""


class Linear(nn.Linear):
    """Units that are connected to all below, as undrawn as `Conv2d`."""

    reset_parameters = Conv2d.reset_parameters
