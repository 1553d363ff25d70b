"""The deconvnet (section 2.1): from one unit's activation back to the pixels that caused it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from numbers import Integral
from operator import index
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from .architecture import Box, Sliding, SpecError, Unit
from .fast.windows import project_units
from .files import ZfnetError
from .images import projection_image
from .network import ConvNet, Network, Stage, Trace

if TYPE_CHECKING:
    from .paper.plots import Figure

Switches = Literal["recorded", "centre", "random"]
Sharing = Literal["add", "overwrite"]
Rectify = Literal["relu", "none", "mask", "both"]


class Rule(NamedTuple):
    """What pools and rectifiers do on the way down, see `project`; the defaults are the paper's way."""

    switches: Switches = "recorded"
    sharing: Sharing = "add"
    rectify: Rectify = "relu"
    seed: int = 0


PAPERS_RULE = Rule()


def unpool(values: Tensor, switches: Tensor, size: Sequence[int], sharing: Sharing = "add") -> Tensor:
    """Put pooled values back where their maxima were; values that share a switch add up (section 2.1, Fig. 1).

    Regions of 3x3 at stride 2 overlap, so one position can be the maximum of up to four of them. Adding is the
    adjoint of max pooling. The windowed engine has its own (`fast/windows.py`), and a probed network takes torch's
    backward of max pooling; tests hold them equal.

    Args:
        values: [n, maps, h', w'].
        switches: int64, same shape: flat positions in a map of `size`.
        size: Rows and columns of the unpooled maps.
        sharing: `overwrite` keeps the last of the values that share a switch, in row-major order.

    Returns:
        [n, maps, rows, columns]; 0 where no switch points.
    """
    if sharing not in get_args(Sharing):
        raise SpecError(f"sharing={sharing!r}: choose one of {', '.join(get_args(Sharing))}")
    flat = values.new_zeros(*values.shape[:2], size[0] * size[1])
    values, switches = values.flatten(2), switches.flatten(2)
    if sharing == "add":
        flat.scatter_add_(2, switches, values)
    else:
        for region in range(values.shape[2]):
            flat.scatter_(2, switches[..., region : region + 1], values[..., region : region + 1])
    return flat.unflatten(2, size)


def chosen_switches(stage: Stage, pool: Sliding, switches: Switches, generator: torch.Generator) -> Tensor:
    """Return a pooled layer's recorded switches, or the centre or a random position of the same regions."""
    assert stage.switches is not None
    if switches == "recorded":
        return stage.switches
    shape = stage.switches.shape
    places = []
    for axis in (2, 3):
        first = torch.arange(shape[axis], device="cpu") * pool.stride - pool.padding
        first = first[:, None] if axis == 2 else first
        end = (first + pool.kernel).clamp(max=stage.maps.shape[axis])  # the outermost regions may be truncated
        first = first.clamp(min=0)
        if switches == "random":
            places.append(first + (torch.rand(shape, generator=generator, device="cpu") * (end - first)).long())
        else:
            places.append((first + end - 1) // 2)
    rows, columns = places
    return (rows * stage.maps.shape[3] + columns).expand(shape).to(stage.maps.device)


@torch.no_grad()
def descend(
    trace: Trace, layer: str, signal: Tensor, rule: Rule = PAPERS_RULE, arriving: bool = False
) -> dict[str, Tensor]:
    """Project a signal of a `ConvNet`; return what each layer hands on, and last the `pixels` (Fig. 1).

    With `arriving` it is what reaches each layer's maps from above, before it is rectified there.
    """
    if not isinstance(trace.net, ConvNet):
        raise ZfnetError(f"{trace.net.name} is projected through autograd, without levels; use `project`")
    convs = trace.net.spec.features(layer).convs
    generator, levels = torch.Generator().manual_seed(rule.seed), {}
    for conv, below in zip(reversed(convs), [*reversed(convs[:-1]), None], strict=True):
        arrived = signal
        # Rectify, whatever was active on the way up.
        if rule.rectify in ("relu", "both"):
            signal = F.relu(signal)
        if rule.rectify in ("mask", "both"):
            signal = signal * (trace[conv.name].maps > 0)
        levels[conv.name] = arrived if arriving else signal
        # Filter with the transposed weights; the padding of the way up is cut off, uncovered positions stay 0.
        weight = trace.net.get_parameter(f"{conv.name}.weight")
        signal = F.conv_transpose2d(signal, weight, stride=conv.stride, groups=conv.groups)
        size = (trace[below.name].output if below else trace.x).shape[-2:]
        bottom, right = (conv.padding + n - m for n, m in zip(size, signal.shape[-2:], strict=True))
        signal = F.pad(signal, (-conv.padding, right, -conv.padding, bottom))
        # Unpool to the layer beneath; its contrast normalisation is skipped.
        if below and below.pool:
            stage = trace[below.name]
            chosen = chosen_switches(stage, below.pool, rule.switches, generator)
            signal = unpool(signal, chosen, stage.maps.shape[-2:], rule.sharing)
    return levels | {"pixels": signal}


@torch.no_grad()
def project(
    trace: Trace,
    layer: str,
    signal: Tensor,
    *,
    switches: Switches = "recorded",
    sharing: Sharing = "add",
    rectify: Rectify = "relu",
    seed: int = 0,
) -> Tensor:
    """Send a signal on a layer's rectified maps down to the pixels (section 2.1).

    Layer by layer: rectify, filter with the transposed weights (no bias), unpool with the switches of the layer
    beneath; contrast normalisation is skipped and the pixels are not rectified. The defaults are the paper's
    way; the other values are what it argues against.

    Args:
        trace: A forward pass that reaches `layer`.
        layer: `conv1` ….
        signal: [n, maps, h, w], like `trace.stages[layer].maps`.
        switches: `centre` or `random` positions of each region instead of the recorded ones.
        sharing: What values that share a switch do, see `unpool`.
        rectify: `none` at all; `mask`: keep what was active in the forward pass instead; `both` (guided).
        seed: Of the `random` switches.

    Returns:
        [n, 3, H, W], like the input.

    Raises:
        SpecError: No such layer, one without maps, or a signal of another shape than its maps.
    """
    maps = trace[trace.net.require(layer)].maps
    if signal.shape != maps.shape:
        raise SpecError(f"a signal on {layer} has shape {list(maps.shape)}, given {list(signal.shape)}")
    rule, signal = Rule(switches, sharing, rectify, seed), signal.to(trace.net.dtype)
    for name, value, kind in zip(rule._fields, rule, (Switches, Sharing, Rectify), strict=False):
        if value not in get_args(kind):
            raise SpecError(f"{name}={value!r}: choose one of {', '.join(get_args(kind))}")
    if isinstance(trace.net, ConvNet):
        return descend(trace, layer, signal, rule)["pixels"]
    probed: Any = trace.net  # a `ProbedNet`, whose module imports this one
    return probed.project(trace.x, layer, signal, rule)


def deconv(trace: Trace, layer: str, unit: tuple[int, int, int] | int) -> Tensor:
    """Project one unit of every picture of a trace on the whole picture: the literal method of section 2.1.

    The unit keeps its activation; all other activations of the layer are set to zero.

    Args:
        trace: A forward pass of n pictures that reaches `layer`.
        layer: `conv1` ….
        unit: Its place: map, row and column. A map alone stands for its strongest unit, in each picture its own.

    Returns:
        [n, 3, H, W].

    Raises:
        SpecError: No such layer, one without maps, or no such unit.

    Example:
        >>> from zfnet_lib import MINI, ConvNet
        >>> trace = ConvNet(MINI).trace(torch.randn(1, 3, 64, 64))
        >>> deconv(trace, "conv5", 3).equal(deconv(trace, "conv5", strongest_unit(trace["conv5"].maps[0], 3)))
        True
    """
    maps = trace[trace.net.require(layer)].maps
    if isinstance(unit, Integral):
        if not 0 <= unit < maps.shape[1]:
            raise SpecError(f"{layer} has no map {unit}; choose one from 0 to {maps.shape[1] - 1}")
        signal = torch.cat([alone(own[None], strongest_unit(own, int(unit))) for own in maps])
    else:
        signal = alone(maps, _place(layer, maps.shape[1:], unit))
    return project(trace, layer, signal)


def alone(maps: Tensor, place: tuple[int, int, int]) -> Tensor:
    """Return maps [n, maps, h, w] on which the unit at a place (map, row, column) keeps its value, all others 0."""
    signal = torch.zeros_like(maps)
    index = (slice(None), *place)
    signal[index] = maps[index]
    return signal


def strongest_unit(maps: Tensor, map_: int | None = None) -> tuple[int, int, int]:
    """Return the place (map, row, column) of the first of the largest values of [maps, h, w], or of one map."""
    if map_ is None:
        map_ = int(maps.amax((1, 2)).argmax())
    return map_, *divmod(int(maps[map_].argmax()), maps.shape[2])


class Projections(NamedTuple):
    """Projections of units, each [3, size, size] of its receptive field, 0 beyond the picture; and these boxes."""

    projections: list[Tensor]
    boxes: list[Box]

    def plot(self, title: str = "") -> Figure:
        """Draw each projection at its own contrast, under its number and the row and column where its field begins.

        Example:
            >>> import torch
            >>> from zfnet_lib import MINI, ConvNet, Unit, deconv_units
            >>> units = [Unit(0, "conv3", map_, 1, 1) for map_ in range(4)]
            >>> deconv_units(ConvNet(MINI), torch.randn(1, 3, 64, 64), units).plot("conv3")
            <Figure size 1350x440.3 with 1 Axes>
        """
        from .paper.plots import side_by_side

        shown = {}
        for number, (pixels, box) in enumerate(zip(*self, strict=True), 1):
            shown[f"{number}: ({box.top}, {box.left})"] = projection_image(pixels.cpu().numpy())
        return side_by_side(shown, title)


def deconv_units(net: Network, x: Tensor, units: Sequence[Unit], batch: int | None = None) -> Projections:
    """Project many units of many pictures, each cut to its receptive field (Figs. 2 and 4).

    The same as `deconv`, but only what a unit can see is computed. In float64 the results agree to 1e-10: every
    picture is passed forward as a whole, and the windows take its switches. In float32 the windows are passed
    forward alone, and two activations that are equal up to rounding can swap a switch (see `zfnet bench deconv`).

    Args:
        net: The network.
        x: Prepared pictures [n, 3, H, W].
        units: Units in any order.
        batch: Units projected together; by default as many as stay in the processor's cache.

    Returns:
        `Projections`, in the order of `units`.

    Raises:
        ZfnetError: A unit that does not exist, a wrong shape, or values that are not finite.
    """
    x = x.to(net.device) if isinstance(x, Tensor) else x
    net.check(x, anywhere=True)
    if batch is not None and batch < 1:
        raise ZfnetError(f"{batch} units cannot be projected together; give batch=1 or more, or leave it out")
    sides = x.shape[-2:]
    shapes = net.shapes(*sides)
    for unit in units:
        if not 0 <= unit.image < len(x):
            raise SpecError(f"there is no picture {unit.image}; the batch holds {len(x)}")
        _place(unit.layer, shapes[net.require(unit.layer)], unit.place)
    boxes = [Box.seen(net.fields(unit.layer, *sides), unit.row, unit.column) for unit in units]
    if isinstance(net, ConvNet):
        with net.unmixed():
            return Projections(project_units(net, x.to(net.dtype), units, batch), boxes)
    probed: Any = net
    return Projections(probed.project_units(x, units, boxes, batch), boxes)


def cut(image: Tensor, box: Box) -> Tensor:
    """Cut a box out of [..., H, W]; what reaches over the edge is 0."""
    height, width = image.shape[-2:]
    inside = image[..., max(box.top, 0) : max(box.bottom, 0), max(box.left, 0) : max(box.right, 0)]
    margins = (-box.left, box.right - width, -box.top, box.bottom - height)
    sides = (box.right - box.left,) * 2 + (box.bottom - box.top,) * 2  # a box may lie beyond the edge as a whole
    return F.pad(inside, [min(max(margin, 0), side) for margin, side in zip(margins, sides, strict=True)])


def _place(layer: str, shape: Sequence[int], unit: Any) -> tuple[int, int, int]:
    """Return a unit's map, row and column, if it is one of a layer whose maps have a shape."""
    maps, rows, columns = shape
    with suppress(TypeError, ValueError):  # of what is no three whole numbers
        map_, row, column = map(index, unit)
        if 0 <= map_ < maps and 0 <= row < rows and 0 <= column < columns:
            return map_, row, column
    what = "a unit is a place (map, row, column), to `deconv` also a map alone"
    raise SpecError(f"{layer} has no unit {unit!r}; it has {maps} maps of {rows}x{columns}, and {what}")
