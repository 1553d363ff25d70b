"""Contrast normalisation across feature maps, exact and fast, with its derivative in closed form."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHED = 2**17
"""Values that are treated at a time on the CPU."""


def contrast_normalise(x: Tensor, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> Tensor:
    r"""Divide each value by the energy of its neighbouring maps (section 2, step iv; constants of [18]).

    $y_i = x_i \, d_i^{-\beta}$ with $d_i = k + \frac{\alpha}{size} \sum_{|j - i| \le size/2} x_j^2$, the same as
    `torch.nn.functional.local_response_norm(x, size, alpha, beta, k)`, several times faster.

    Args:
        x: [n, maps, h, w], floating point.
        size: Number of neighbouring maps in the sum, odd.
        alpha, beta, k: Constants.

    Returns:
        [n, maps, h, w].

    Raises:
        ValueError: An even `size`.

    Example:
        >>> contrast_normalise(torch.ones(1, 1, 1, 1), alpha=10.0, beta=1.0).item()
        0.25
    """
    if size % 2 == 0:
        raise ValueError(f"the window of contrast normalisation has an odd size; given {size}")
    return _ContrastNorm.apply(x, size, alpha, beta, k)


class _ContrastNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.constants = size, alpha / size, beta, k
        y = torch.empty_like(x)
        for part, out in zip(_parts(x), _parts(y), strict=True):
            part = _wide(part)
            out.copy_(_power(_energy(part, *ctx.constants), beta).mul_(part))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        (x,) = ctx.saved_tensors
        size, alpha, beta, _ = ctx.constants
        result = torch.empty_like(x)
        for part, g, out in zip(_parts(x), _parts(grad), _parts(result), strict=True):
            part = _wide(part)
            energy = _energy(part, *ctx.constants)
            scaled = _power(energy, beta).mul_(_wide(g))
            across = _window_sum((scaled * part).div_(energy), size)
            out.copy_(scaled.addcmul_(across, part, value=-2 * alpha * beta))
        return result, None, None, None, None


def _parts(x: Tensor):
    """Split a batch so that a part stays in the processor's cache; a GPU takes it whole."""
    return x.split(max(1, CACHED // max(1, x[:1].numel()))) if x.device.type == "cpu" else (x,)


def _energy(x: Tensor, size: int, alpha: float, beta: float, k: float) -> Tensor:
    return _window_sum(x * x, size).mul_(alpha).add_(k)


def _wide(x: Tensor) -> Tensor:
    """Return x in float32 where it has fewer bits; mixed operations are slow on the CPU."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _power(energy: Tensor, beta: float) -> Tensor:
    """Return energy^-beta; at 0.75 two roots are cheaper than a power."""
    if beta != 0.75:
        return energy.pow(-beta)
    root = energy.rsqrt()
    return root.sqrt().mul_(root)


def _window_sum(x: Tensor, size: int) -> Tensor:
    """Sum over `size` neighbouring maps, zeros beyond the first and last."""
    total = x.clone()
    for shift in range(1, min(size // 2, x.shape[1] - 1) + 1):
        total[:, shift:] += x[:, :-shift]
        total[:, :-shift] += x[:, shift:]
    return total
