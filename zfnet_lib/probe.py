"""Any module with maps as a network: its units are projected by the rule of the deconvnet, through autograd."""

from __future__ import annotations

import inspect
import re
import threading
from collections import Counter, deque
from collections.abc import Container, Sequence
from copy import copy
from functools import partial
from types import CodeType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from .architecture import Box, Conv, Field, Shape, SpecError, Unit
from .deconv import PAPERS_RULE, Rule, chosen_switches, cut, unpool
from .files import ZfnetError
from .images import Preparation
from .machine import fitting, threads
from .network import Fields, Network, Stage, Trace, require_finite

LOWEST = {"hardtanh": ("min_val", -1.0), "threshold": ("threshold", None)}  # rectifiers only where this is 0
LOWEST |= dict.fromkeys(("clamp", "clip", "clamp_min"), ("min", None))
RECTIFIERS = {"relu", "relu6", "leaky_relu", *LOWEST}
MAX_POOLS = {"max_pool2d", "max_pool2d_with_indices"}
RULED = {*RECTIFIERS, *MAX_POOLS, "adaptive_max_pool2d", "local_response_norm", "conv2d"}  # what a rule can change
EXACT = {
    *("elu", "selu", "celu", "prelu", "rrelu", "gelu", "silu", "mish", "softplus", "hardswish", "glu", "softsign"),
    *("sigmoid", "hardsigmoid", "logsigmoid", "tanh", "softmax", "log_softmax", "hardshrink", "softshrink"),
    *("maximum", "minimum", "where", "abs", "pow", "square", "sqrt", "rsqrt", "exp", "log", "sin", "cos", "erf"),
    *("layer_norm", "group_norm", "instance_norm", "rms_norm", "normalize", "product"),
    *("hardtanh", "threshold", "tanhshrink", "max", "min", "amax", "amin"),
    *("scaled_dot_product_attention", "multi_head_attention_forward"),
}  # neither rectifiers nor linear: the exact gradient passes
COPIES = 4  # of a picture's maps that a pass keeps at once, about: maps, what the modules handed on, signals


class _Way(torch.autograd.Function):
    """A function whose value is known and whose way down is given."""

    @staticmethod
    def forward(ctx, x: Tensor, values: tuple[Tensor], down):
        ctx.down = down
        (value,) = values  # autograd does not look inside a tuple, so the value counts as new
        return value.clone() if value._is_view() else value  # a view could not be changed in place afterwards

    @staticmethod
    def backward(ctx, signal: Tensor):
        return ctx.down(signal), None, None


class _ReachedError(Exception):
    """The last layer that was asked for has been computed."""


# Torch calls the hooks of a module and cannot hand them the pass: they find the one of their thread here.
_NOW = threading.local()


def _keep(layer: str, _module: nn.Module, _given, output):
    seen = getattr(_NOW, "seen", None)
    if seen and layer in seen.wanted and isinstance(output, Tensor):
        return seen.keep_output(layer, output)
    return None


class _Pass(TorchFunctionMode):
    """One forward pass of a module: keeps the maps of layers, and lays a rule under rectifiers and pools.

    With `reach` all passes downwards that an output looks at, for receptive fields.
    """

    def __init__(
        self, net: ProbedNet, wanted: Sequence[str], rule: Rule | None, upto: str | None = None, reach: bool = False
    ):
        super().__init__()
        self.net, self.wanted, self.rule, self.upto, self.reach = net, set(wanted), rule, upto, reach
        self.random = torch.Generator().manual_seed(rule.seed if rule else 0)
        self.maps: dict[str, Tensor] = {}
        self.to_come = set(wanted)  # layers whose maps are not complete
        self.runs: Counter[str] = Counter()
        self.functions_seen: set[str] = set()
        self.rectified_layers: set[str] = set()
        # By the id of a tensor, the layers that gave it. The tensor is kept so that its id stays its own.
        self.named_outputs: dict[int, tuple[Tensor, list[str]]] = {}

    def keep_output(self, layer: str, maps: Tensor) -> Tensor:
        """Keep what a layer gave, and hand on a copy, which whatever follows may change in place."""
        self.runs[layer] += 1
        _, names = self.named_outputs.pop(id(maps), (None, []))
        self.maps.pop(layer, None)  # a module that runs again is a layer by its last maps
        self.maps[layer] = maps
        self.rectified_layers.discard(layer)
        onwards = maps.clone()
        self.named_outputs[id(onwards)] = onwards, [*names, layer]
        self.stop_after(layer, rectified=False)
        return onwards

    def stop_after(self, layer: str, rectified: bool) -> None:
        """End the pass where the maps of all layers that are needed are complete."""
        if self.runs[layer] == self.net.runs[layer] and rectified == (layer in self.net.rectified):
            self.to_come.discard(layer)
        if self.upto and not self.to_come:
            raise _ReachedError

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        called = getattr(func, "__name__", "")
        name = called.strip("_")
        if name in RULED and not args:  # called by keywords
            args = (kwargs.pop("input"),)
        if name in RECTIFIERS and self.is_rectifier(name, args, kwargs):
            return self.rectify(func, args, kwargs)
        self.functions_seen.add(name)
        if args and (called == "__setitem__" or (called.endswith("_") and not called.endswith("__"))):
            self.named_outputs.pop(id(args[0]), None)  # changed in place, it is no longer what its layers gave
        factors = [*args, kwargs.get("other")][:2]
        if name == "mul" and all(isinstance(each, Tensor) and each.ndim == 4 for each in factors):
            self.functions_seen.add("product")  # of two maps: it is not linear
        if self.rule is None:
            return func(*args, **kwargs)
        if name == "local_response_norm":
            return _Way.apply(args[0], (func(*args, **kwargs).detach(),), lambda signal: signal)
        if name in MAX_POOLS and self.rule[:2] != ("recorded", "add"):
            return self.pooled(self.rule, *args, **kwargs)
        if name in MAX_POOLS and self.reach:
            return _reaching(*args, **kwargs)
        if name == "adaptive_max_pool2d" and self.reach:
            return F.adaptive_avg_pool2d(args[0], args[1] if len(args) > 1 else kwargs["output_size"])
        if name == "conv2d":
            weight, padding = (kwargs.get(key, [*args, *[0] * 5][i]) for i, key in ((1, "weight"), (4, "padding")))
            if not (weight.requires_grad or isinstance(padding, str)):  # filters that the picture makes: a product
                return _filtered(*args, **kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def is_rectifier(name: str, args: tuple, kwargs: dict) -> bool:
        """Tell whether a function cuts, or weakens, what is below 0."""
        key, default = LOWEST.get(name, (None, 0))
        least = args[1] if key and len(args) > 1 else kwargs.get(key, default)
        return isinstance(args[0], Tensor) and (key is None or (not isinstance(least, Tensor) and least == 0))

    def rectify(self, func, args: tuple, kwargs: dict) -> Tensor:
        """Rectify, on the way down by the rule; what is rectified are the maps of the layers that gave it."""
        x, *rest = args
        before = x.detach().clone() if self.rule else x
        value = func(before, *rest, **kwargs)
        in_place = value is before
        if self.rule and x.requires_grad:
            rectify, reach = self.rule.rectify, self.reach
            active = x.detach() > 0 if rectify in ("mask", "both") else None

            def down(signal: Tensor) -> Tensor:
                signal = F.relu(signal) if rectify in ("relu", "both") and not reach else signal
                return signal if active is None else signal * active

            value = _Way.apply(x, (value,), down)
        _, names = self.named_outputs.pop(id(x), (None, ()))
        if names:
            self.maps |= dict.fromkeys(names, value.clone() if value is x else value)
            self.rectified_layers |= set(names)
            for layer in names:
                self.stop_after(layer, rectified=True)
        if in_place:
            return value if value is x else x.copy_(value)
        return value.clone() if names else value

    def pooled(
        self, rule, x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
    ):
        """Pool, and unpool on the way down by other switches, or without adding what shares one."""
        given = (kernel_size, stride or kernel_size, padding, dilation)
        *numbers, gap = (set(n) if isinstance(n, tuple | list) else {n} for n in given)
        if gap != {1} or max(map(len, numbers)) > 1:
            raise ZfnetError("a pool with gaps or oblong regions has no other switches than the recorded ones")
        kernel, step, margin = (n.pop() for n in numbers)
        value, switches = F.max_pool2d(x.detach(), kernel, step, margin, 1, ceil_mode, return_indices=True)
        pool = Conv("", 1, kernel, step, margin)  # it slides as this pool does; a `Pool` has no padding
        chosen = chosen_switches(Stage(x, switches, x), pool, rule.switches, self.random)
        size, sharing = x.shape[-2:], rule.sharing
        value = _Way.apply(x, (value,), lambda signal: unpool(signal, chosen, size, sharing))
        return (value, switches) if return_indices else value


def _reaching(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """Average instead of taking the largest, so that a signal reaches all that a pool looks at, gaps included."""
    sides, gaps = ((n, n) if isinstance(n, int) else n for n in (kernel_size, dilation))
    extent = [gap * (side - 1) + 1 for side, gap in zip(sides, gaps, strict=True)]
    value = F.avg_pool2d(x, extent, stride or kernel_size, padding, ceil_mode)
    if not return_indices:
        return value
    return value, F.max_pool2d(x.detach(), kernel_size, stride, padding, dilation, ceil_mode, True)[1]


def _filtered(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Filter maps; on the way down only where a signal is not 0."""
    value = F.conv2d(x.detach(), weight, bias, stride, padding, dilation, groups)
    steps, margins = (n if isinstance(n, tuple | list) else (n, n) for n in (stride, padding))

    def down(signal: Tensor) -> Tensor:
        # A unit reaches few positions of lower maps, and the transposed filters are most of the work.
        active = (signal != 0).flatten(0, 1).any(0)
        rows, columns = (active.any(axis).nonzero().flatten().tolist() for axis in (1, 0))
        if not rows:
            return signal.new_zeros(x.shape)
        part = signal[..., rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        part = F.conv_transpose2d(part, weight, None, stride, 0, 0, groups, dilation)
        top, left = rows[0] * steps[0] - margins[0], columns[0] * steps[1] - margins[1]
        return cut(part, Box(-top, -left, x.shape[2] - top, x.shape[3] - left)).contiguous()

    return _Way.apply(x, (value,), down)


class ProbedNet(Network):
    """Any module with maps: its layers are its submodules, and their units are projected through autograd.

    Its layers are the submodules that give maps [n, maps, rows, columns] of more than one position, in the order in
    which they end; one that runs several times counts by its last maps. Where a rectifier follows a layer directly,
    the layer's maps are those that leave it. What has its channels last, [n, rows, columns, channels], as in Swin
    and ConvNeXt, is no layer; it shows by two equal sides in front, and passes for maps where all three are equal.

    On the way down a signal is rectified wherever the module rectifies, however it does so; what is linear
    (convolutions, BatchNorm, average pools, sums of branches, concatenations) gives its adjoint, max pools add at
    their switches, local response normalisation is skipped. What is neither rectifier nor linear, such as GELU,
    SiLU, layer normalisation or attention, passes the exact gradient: `exact` names the known kinds.

    Args:
        module: The module, which takes pictures [n, channels, h, w]; `load_network` hands a copy of the user's.
        name: What it is called.
        image_size: Side in pixels of the pictures that it is tried on, and by default takes.
        preparation: What turns pictures into its input.
        layers: Submodules that count as layers; by default all that give maps.
        channels: Of its input.
    """

    runs: Counter[str]
    rectified: frozenset[str]
    layout = torch.preserve_format  # of the pictures that the module is handed

    def __init__(
        self,
        module: nn.Module,
        name: str,
        image_size: int,
        preparation: Preparation,
        layers: Sequence[str] | None = None,
        channels: int = 3,
    ):
        super().__init__()
        self.module, self.name, self.image_size, self.preparation = module, name, image_size, preparation
        self.channels, self.narrowed = channels, bool(layers)
        self._fields: dict[tuple[str, tuple[int, int]], Fields] = {}
        self.runs, self.rectified, self.classes = Counter(), frozenset(), 0  # none known yet: the first pass counts
        self.eval()
        names, parts = [path for path, _ in module.named_modules() if path], list(module.modules())
        before = [dict(vars(part)) for part in parts]
        for path in names:
            module.get_submodule(path).register_forward_hook(partial(_keep, path))
        if missing := [layer for layer in layers or () if layer not in names]:
            raise SpecError(f"{name} has no module {missing[0]!r}; its modules are {', '.join(names)}")
        x = torch.randn(
            2, channels, image_size, image_size, generator=torch.Generator().manual_seed(0), device="cpu"
        )
        x = x.to(self.device, self.dtype, memory_format=torch.channels_last)  # as searches hand them over: faster
        with torch.no_grad():
            try:
                seen, output = self._run(x, names)
            except ZfnetError:  # a `view`, say, takes no maps whose channels lie last
                self.layout = torch.contiguous_format
                seen, output = self._run(x, names)
        pairs = ((had, *item) for part, had in zip(parts, before, strict=True) for item in vars(part).items())
        self.kept = frozenset(key for had, key, value in pairs if had.get(key) is not value)
        self._values = sum(maps.numel() for maps in seen.maps.values()) / x.numel()  # for each one of the input
        whole = {layer: maps for layer, maps in seen.maps.items() if maps.ndim == 4 and len(maps) == len(x)}
        shapes = {layer: tuple(maps.shape[1:]) for layer, maps in whole.items()}
        wanted = layers or [layer for layer, (a, b, c) in shapes.items() if max(b, c) > 1 and not a == b != c]
        for layer in wanted:
            if layer not in shapes:
                given = list(seen.maps[layer].shape) if layer in seen.maps else "nothing"
                raise SpecError(f"{layer} of {name} gives {given}, no maps [n, maps, rows, columns]; leave it out")
        if not wanted:
            raise ZfnetError(f"no layer of {name} gives maps [n, maps, rows, columns]; there is nothing to project")
        self.layers = tuple(layer for layer in shapes if layer in wanted)
        self.runs, self.rectified = seen.runs, frozenset(seen.rectified_layers)
        self.classes = output.shape[1] if isinstance(output, Tensor) and output.ndim == 2 else 0
        if self.classes > 1 and output.min() >= 0 and torch.allclose(output.sum(1), output.new_ones(len(output))):
            raise ZfnetError(f"{name} gives probabilities; give the module without its softmax")
        self.exact = tuple(sorted(seen.functions_seen & EXACT))
        self._shapes = {(image_size, image_size): {layer: shapes[layer] for layer in self.layers}}

    def _run(self, x: Tensor, wanted: Sequence[str], rule: Rule | None = None, **how):
        """Pass pictures through the module; return what was seen on the way, and what came out."""
        if any(part.training for part in self.modules()):
            mixes = "in which BatchNorm mixes pictures and dropout draws"
            raise ZfnetError(f"{self.name} is in training mode, {mixes}; call `net.eval()` first")
        _NOW.seen = seen = _Pass(self, wanted, rule, **how)
        try:
            with seen:
                return seen, self.module(x.clone(memory_format=self.layout))  # it may change its input in place
        except _ReachedError:
            return seen, None
        except ZfnetError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
            if re.search("out of memory|can't allocate memory", str(error)):
                raise
            first = " ".join(str(error).split())[:200] or type(error).__name__
            give = "give an `image_size` that it takes, and a `preparation` whose mean has its input's channels"
            raise ZfnetError(f"{self.name} fails on pictures {list(x.shape)} ({first}); {give}") from error
        finally:
            _NOW.seen = None

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits [n, classes] of prepared pictures."""
        if not self.classes:
            known = f"{self.name} gives no logits [n, classes]"
            raise ZfnetError(f"{known}; use `net.trace(x)` for its maps, or load a network that has a classifier")
        self.check(x)
        return self._run(x, ())[1]

    def trace(self, x: Tensor, upto: str | None = None, keep: Container[str] | None = None) -> Trace:
        """Run the module once and keep its layers' maps; the same contract as `ConvNet.trace`, without switches."""
        layers = [layer for layer in self.layers_upto(upto) if keep is None or layer in keep or layer == upto]
        upto = upto if self.classes or not layers else layers[-1]  # what lies above may take one size alone
        self.check(x)
        require_finite(x)
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            seen, output = self._run(x, layers, upto=upto)
        stages = {layer: Stage(seen.maps[layer], None, seen.maps[layer]) for layer in layers}
        return Trace(self, x, stages, output if self.classes else None)

    def require(self, layer: str) -> str:
        """Return a layer's name; one that does not exist is an error that names those that do."""
        if layer not in self.layers:
            known = ", ".join(self.layers)
            raise SpecError(f"{self.name} has no layer {layer!r} with maps; its layers are {known}")
        return layer

    @property
    def outline(self) -> tuple[str, ...]:
        """The layers that are shown unless others are named: the outermost three or more, or those it was given."""
        for depth in () if self.narrowed else range(1 + max(layer.count(".") for layer in self.layers)):
            shown = [layer for layer in self.layers if layer.count(".") <= depth]
            shown = [outer for outer in shown if not any(inner.startswith(f"{outer}.") for inner in shown)]
            if len(shown) >= 3:
                return tuple(shown)
        return self.layers

    def layers_upto(self, upto: str | None = None) -> tuple[str, ...]:
        """Return the layers up to one, in the order in which they end."""
        return self.layers if upto is None else self.layers[: self.layers.index(self.require(upto)) + 1]

    def shapes(self, height: int | None = None, width: int | None = None) -> dict[str, Shape]:
        """Return (maps, rows, columns) of every layer for pictures of a size, by default its own."""
        height = self.image_size if height is None else height
        size = height, height if width is None else width
        if size not in self._shapes:
            x = torch.zeros(1, self.channels, *size, dtype=self.dtype, device=self.device)
            with torch.no_grad():
                maps = self._run(x, self.layers, upto=self.layers[-1])[0].maps
            self._shapes[size] = {layer: tuple(maps[layer].shape[1:]) for layer in self.layers}
        return self._shapes[size]

    def fields(self, layer: str, height: int | None = None, width: int | None = None) -> Fields:
        """Return the receptive field of a layer's units along rows and columns: of all its maps together.

        It is read off the pixels that a few units reach on their way down through linear rectifiers. Where it does
        not fit into the picture, or does not move evenly over it, it is the whole picture.
        """
        _, *counts = self.shapes(height, width)[self.require(layer)]
        height = self.image_size if height is None else height
        sides = height, height if width is None else width
        if (layer, sides) not in self._fields:
            positions = [sorted({0, 1, n // 2, n // 2 + 1, n - 2, n - 1} & set(range(n))) for n in counts]
            most = max(map(len, positions))
            down, across = positions
            pairs = [(down[i % len(down)], across[i % len(across)]) for i in range(most)]
            x = torch.rand(1, self.channels, *sides, generator=torch.Generator().manual_seed(0), device="cpu")
            x = x.to(self.device, self.dtype).expand(most, -1, -1, -1)
            x, maps = self._ruled(x, layer, reach=True)
            # Not-a-number survives whatever it is multiplied by or added to, 0 included; so as a signal it marks
            # all that the way leads to, whatever the weights.
            signal = torch.zeros_like(maps)
            for i, (row, column) in enumerate(pairs):
                signal[i, :, row, column] = torch.nan
            pixels, fields = self._sent(layer, maps, x, signal), []
            reached = pixels.isnan().any(1)
            for axis, side in enumerate(sides):
                seen = [along.nonzero().flatten().tolist() for along in reached.any(2 - axis)]
                ends = [(pair[axis], all_[0], all_[-1] + 1) for pair, all_ in zip(pairs, seen, strict=True) if all_]
                fields.append(_even(ends, side))
            rows, columns = fields
            self._fields[layer, sides] = rows, columns
        return self._fields[layer, sides]

    def project(self, x: Tensor, layer: str, signal: Tensor, rule: Rule = PAPERS_RULE) -> Tensor:
        """Send a signal on a layer's maps down to the pixels."""
        x, maps = self._ruled(x, layer, rule)
        return self._sent(layer, maps, x, signal)

    def _sent(self, layer: str, maps: Tensor, x: Tensor, signal: Tensor, again: bool = False) -> Tensor:
        """Return what a signal on maps becomes in the pictures; with `again` others may follow it."""
        try:
            return torch.autograd.grad(maps, x, signal, retain_graph=again, materialize_grads=True)[0]
        except RuntimeError as error:
            if "memory" in str(error):
                raise
            leads = f"no gradient leads from {layer} of {self.name} down to the picture"
            reason = " ".join(str(error).split())[:100]
            take = "take no_grad, detach and checkpointing out of its forward pass"
            raise ZfnetError(f"{leads} ({reason}); {take}") from error

    def _ruled(self, x: Tensor, layer: str, rule: Rule = PAPERS_RULE, reach: bool = False) -> tuple[Tensor, Tensor]:
        """Return pictures, and a layer's maps from which autograd leads down to them by a rule."""
        with torch.inference_mode(False), torch.enable_grad(), self.unmixed():
            x = x.detach().to(self.dtype, copy=True).requires_grad_()
            return x, self._run(x, [layer], rule, upto=layer, reach=reach)[0].maps[layer]

    def project_units(
        self, x: Tensor, units: Sequence[Unit], boxes: Sequence[Box], batch: int | None
    ) -> list[Tensor]:
        """Project units, and cut out their boxes; those of one picture and layer share a forward pass."""
        require_finite(x)
        groups: dict[tuple[int, str], list[int]] = {}
        for number, unit in enumerate(units):
            groups.setdefault((unit.image, unit.layer), []).append(number)
        found: list[Tensor] = [x] * len(units)
        on_cpu = self.device.type == "cpu"  # where units go down one by one, side by side
        with threads(torch.get_num_threads() if on_cpu else 1) as pool:
            for (image, layer), numbers in groups.items():
                together = min(batch or (1 if on_cpu else self.together(x)), len(numbers))
                pictures, maps = self._ruled(x[image].expand(together, -1, -1, -1), layer)

                parts = [numbers[start : start + together] for start in range(0, len(numbers), together)]

                def send(part: Sequence[int], layer=layer, pictures=pictures, maps=maps) -> None:
                    signal = torch.zeros_like(maps)
                    for i, number in enumerate(part):
                        signal[i, *units[number].place] = maps[i, *units[number].place].detach()
                    pixels = self._sent(layer, maps, pictures, signal, again=True)
                    for number, projection in zip(part, pixels, strict=False):
                        found[number] = cut(projection, boxes[number])

                deque(pool.map(send, parts), maxlen=0)
        return found

    def together(self, x: Tensor) -> int:
        """Return how many pictures of the size of x are passed together, by the memory that is free."""
        return fitting(COPIES * self._values * x[:1].numel() * x.element_size(), self.device)

    def features(self, upto: str = "", side: int = 0) -> ProbedNet:
        """Return the layers alone, up to one, sharing these weights, for pictures of `side` pixels if given."""
        part = copy(self)
        part.classes, part.layers = 0, self.layers_upto(upto or None)
        known = self._shapes.items()  # a part has fewer layers, and so what it knows of them is its own
        part._shapes = {size: {layer: shapes[layer] for layer in part.layers} for size, shapes in known}
        if side:
            part.preparation, part.image_size = self.preparation.resized(side), side
        return part

    def identity(self) -> list[Any]:
        """Return what, beside the weights, says which network this is."""
        kinds = {kind for part in self.module.modules() for kind in type(part).__mro__} - {object}
        code: list[Any] = []
        for kind in sorted(kinds, key=str):
            if not kind.__module__.startswith("torch."):
                try:
                    code.append(inspect.getsource(kind))
                except (OSError, TypeError):  # of a class that was typed in, the text is not to be had
                    functions = filter(inspect.isfunction, vars(kind).values())
                    code.append([_compiled(each.__code__) for each in functions])
        own = []
        for part in self.module.modules():
            for key in sorted(vars(part).keys() - self.kept - {"training"}):
                value = vars(part)[key]
                values = value if type(value) is tuple else (value,)
                if all(isinstance(each, int | float | str) for each in values):
                    own.append((key, repr(value)))
        return [repr(self.module), code, own, self.layers, self.image_size]


def _compiled(code: CodeType) -> list[Any]:
    """Return what a function's code does, without the places in memory that its own text would name."""
    sets = (sorted(map(repr, each)) if isinstance(each, frozenset) else each for each in code.co_consts)
    inner = [_compiled(each) if isinstance(each, CodeType) else repr(each) for each in sets]
    return [code.co_code.hex(), code.co_names, inner]


def _even(ends: Sequence[tuple[int, int, int]], side: int) -> Field:
    """Return the field that moves evenly and gives these (position, first, end) in a picture; or all of it."""
    inside = sorted({(position, first) for position, first, _ in ends if first > 0})  # oblong maps repeat positions
    last = max((end for *_, end in ends), default=0)  # a filter's stride may leave the picture's last pixels unread
    whole = [(position, end) for position, _, end in ends if end < last]
    if whole and inside and inside[0][0] < inside[-1][0]:
        (p, first), *_, (q, later) = inside
        stride = (later - first) // (q - p)
        offset = first - stride * p
        field = Field(whole[0][1] - stride * whole[0][0] - offset, stride, offset)
        tops = [offset + stride * position for position, *_ in ends]
        if [(max(top, 0), min(top + field.size, last)) for top in tops] == [each[1:] for each in ends]:
            return field
    return Field(side, 0, 0)
