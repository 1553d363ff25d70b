"""Generated architectures, pictures and units."""

from typing import NamedTuple

import torch
from hypothesis import assume
from hypothesis import strategies as st
from oracles import lively, picture
from torch import Tensor

from zfnet_lib.architecture import ArchSpec, Conv, Norm, Pool
from zfnet_lib.network import ConvNet

pools = st.one_of(st.none(), st.builds(Pool, size=st.integers(2, 3), stride=st.integers(1, 2), ceil=st.booleans()))
norms = st.one_of(
    st.none(),
    st.builds(Norm, size=st.sampled_from([3, 5]), alpha=st.sampled_from([1e-4, 1e-2]), before_pool=st.booleans()),
)


@st.composite
def convs(draw, number: int, groups: int) -> Conv:
    """Return a convolutional layer whose filters all touch the maps beneath."""
    kernel = draw(st.integers(1, 5))
    padding = draw(st.integers(0, kernel // 2))
    stride = draw(st.integers(1, min(3, kernel - padding)))
    maps = 2 * draw(st.integers(1, 3))
    pool, norm, ceil = draw(pools), draw(norms), draw(st.booleans())
    return Conv(f"conv{number}", maps, kernel, stride, padding, groups, pool, norm, ceil=ceil)


@st.composite
def specs(draw, normalised: bool = True) -> ArchSpec:
    """Return a network of one to four convolutional layers, of coarse stride 24 at most."""
    layers, step = [], 1
    for number in range(1, draw(st.integers(1, 4)) + 1):
        layer = draw(convs(number, 1 if number == 1 else draw(st.integers(1, 2))))
        step *= layer.stride * (layer.pool.stride if layer.pool else 1)
        layers.append(layer)
    assume(step <= 24)
    if not normalised:
        layers = [Conv(**{**vars(layer), "norm": None}) for layer in layers]
    spec = ArchSpec("generated", tuple(layers), dense=(), classes=0)
    assume(spec.smallest() <= 60)
    return spec


class Case(NamedTuple):
    """A network and a picture that it can take."""

    net: ConvNet
    x: Tensor


@st.composite
def cases(draw, normalised: bool = True) -> Case:
    spec = draw(specs(normalised))
    height, width = (spec.smallest() + draw(st.integers(0, 17)) for _ in range(2))
    seed = draw(st.integers(0, 10**6))
    return Case(lively(spec, seed), picture(height, width, seed))


def along(size: int) -> st.SearchStrategy[int]:
    """Return positions along one side of a map, the first and last ones often."""
    return st.one_of(st.sampled_from([0, size - 1]), st.integers(0, size - 1))


@st.composite
def active_units(draw, maps: Tensor) -> tuple[int, int, int]:
    """Return the unit of the strongest map at a drawn place of [1, maps, h, w]; it is active."""
    row, column = draw(along(maps.shape[2])), draw(along(maps.shape[3]))
    strongest = int(maps[0, :, row, column].argmax())
    assume(maps[0, strongest, row, column] > 0)
    return strongest, row, column


@st.composite
def shaped(draw, *shape: int) -> Tensor:
    """Return float64 noise of a shape."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    return torch.randn(shape, dtype=torch.float64, generator=generator)
