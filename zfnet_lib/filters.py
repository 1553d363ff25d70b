"""One layer's filters, forwards and transposed, on windows.

Over many positions windows of one size are filtered as usual. Over few, reading the filters takes longer than
applying them to one window; there windows of all sizes share one matrix product.
"""

from __future__ import annotations

from functools import cached_property
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .specs import Conv

LANES = 16
"""Numbers that a processor multiplies at once."""


class Filters:
    """The filters of a convolutional layer, on tensors [n, maps, h, w] of windows.

    Args:
        conv: The layer.
        module: Its weights and biases.
    """

    def __init__(self, conv: Conv, module: nn.Conv2d):
        self.conv, self.module = conv, module

    def forwards(self, x: Tensor) -> Tensor:
        """Filter windows in which all padding is already there."""
        return F.conv2d(x, self._weight, self.module.bias, self.conv.stride, groups=self.conv.groups)

    def transposed(self, signal: Tensor) -> Tensor:
        """Filter with the transposed weights, without biases; the padding stays."""
        if self.conv.stride > 1 and self.conv.groups == 1 and self.module.in_channels < LANES:
            return self._by_blocks(signal)
        return F.conv_transpose2d(signal, self._weight, None, self.conv.stride, groups=self.conv.groups)

    def forwards_together(self, windows: list[Tensor]) -> list[Tensor]:
        """Do as `forwards` does with windows of several sizes, in one matrix product."""
        shapes = [
            (len(x), *((side - self.conv.kernel) // self.conv.stride + 1 for side in x.shape[2:])) for x in windows
        ]
        patches = torch.cat([self._patches(x) for x in windows], dim=1)
        rows = (patches @ self._matrix.transpose(1, 2)).transpose(0, 1).flatten(1) + self.module.bias
        parts = rows.split([prod(shape) for shape in shapes])
        return [part.unflatten(0, shape).permute(0, 3, 1, 2) for part, shape in zip(parts, shapes, strict=True)]

    def transposed_together(self, signals: list[Tensor]) -> list[Tensor]:
        """Do as `transposed` does with signals of several sizes, in one matrix product."""
        shapes = [(len(each), *each.shape[2:]) for each in signals]
        rows = torch.cat([each.permute(0, 2, 3, 1).flatten(0, 2) for each in signals])
        patches = rows.unflatten(1, (self.conv.groups, -1)).transpose(0, 1) @ self._matrix
        parts = patches.split([prod(shape) for shape in shapes], dim=1)
        return [self._laid_down(part, *shape) for part, shape in zip(parts, shapes, strict=True)]

    @cached_property
    def _weight(self) -> Tensor:
        return self.module.weight.contiguous(memory_format=torch.channels_last)

    @cached_property
    def _matrix(self) -> Tensor:
        """The weights as [groups, maps of a group, kernel * kernel * maps beneath]."""
        return self._weight.permute(0, 2, 3, 1).flatten(1).unflatten(0, (self.conv.groups, -1))

    @cached_property
    def _blocks(self) -> Tensor:
        """The weights over blocks of stride x stride pixels instead of single ones."""
        more = -self.conv.kernel % self.conv.stride
        weight = F.pixel_unshuffle(F.pad(self.module.weight, (0, more, 0, more)), self.conv.stride)
        return weight.contiguous(memory_format=torch.channels_last)

    def _patches(self, x: Tensor) -> Tensor:
        """Return what each position sees: [groups, n * h * w, kernel * kernel * maps beneath of a group]."""
        kernel, stride = self.conv.kernel, self.conv.stride
        seen = x.permute(0, 2, 3, 1).unfold(1, kernel, stride).unfold(2, kernel, stride)
        return seen.unflatten(3, (self.conv.groups, -1)).permute(3, 0, 1, 2, 5, 6, 4).flatten(4).flatten(1, 3)

    def _laid_down(self, patches: Tensor, n: int, h: int, w: int) -> Tensor:
        """Add up patches [groups, n * h * w, …] where they overlap: the adjoint of `_patches`."""
        kernel, stride, groups = self.conv.kernel, self.conv.stride, self.conv.groups
        rows, columns = (stride * (side - 1) + kernel for side in (h, w))
        steps = torch.arange(max(rows, columns), device=patches.device)
        down, across = (stride * steps[:side, None] + steps[:kernel] for side in (h, w))
        places = (columns * down[:, None, :, None] + across[None, :, None, :]).flatten()
        parts = patches.reshape(groups, n, len(places), -1).permute(1, 2, 0, 3).flatten(2)
        result = parts.new_zeros(n, rows * columns, parts.shape[2]).index_add_(1, places, parts)
        return result.unflatten(1, (rows, columns)).permute(0, 3, 1, 2)

    def _by_blocks(self, signal: Tensor) -> Tensor:
        """Filter into blocks of pixels: few maps beneath would leave most of the processor's lanes empty."""
        more = -self.conv.kernel % self.conv.stride
        pixels = F.pixel_shuffle(F.conv_transpose2d(signal, self._blocks), self.conv.stride)
        return pixels[..., : pixels.shape[2] - more, : pixels.shape[3] - more]
