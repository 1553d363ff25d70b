"""Contrast normalisation against loops, against torch, and its derivative against differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import close, contrast_by_loops
from strategies import shaped
from torch.nn import functional as F

from zfnet_lib.network import contrast_normalise

constants = st.tuples(
    st.sampled_from([1, 3, 5, 7]),
    st.sampled_from([1e-4, 1e-2, 1.0]),
    st.sampled_from([0.5, 0.75, 1.0]),
    st.sampled_from([1.0, 2.0]),
)


@given(st.data(), st.integers(1, 9), constants)
def test_it_equals_the_loops_also_with_fewer_maps_than_the_window(data, maps, numbers):
    x = 50 * data.draw(shaped(2, maps, 2, 3))
    assert close(contrast_normalise(x, *numbers), contrast_by_loops(x, *numbers), 1e-12)


def test_the_defaults_are_the_papers_constants():
    x = 50 * torch.randn(1, 8, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = contrast_by_loops(x, 5, 1e-4, 0.75, 2.0)
    assert close(contrast_normalise(x), expected, 1e-12)
    assert not close(contrast_normalise(x, k=1.0), expected, 1e-2)


@given(st.data(), st.integers(1, 12), st.sampled_from([torch.contiguous_format, torch.channels_last]))
def test_it_equals_torch_in_float32_forward_and_backward(data, maps, layout):
    x = (90 * data.draw(shaped(3, maps, 4, 5))).float().contiguous(memory_format=layout).requires_grad_()
    grad = data.draw(shaped(3, maps, 4, 5)).float()
    ours = contrast_normalise(x)
    theirs = F.local_response_norm(x, 5, 1e-4, 0.75, 2.0)
    assert close(ours, theirs, 1e-5)
    assert close(torch.autograd.grad(ours, x, grad)[0], torch.autograd.grad(theirs, x, grad)[0], 1e-5)


@given(st.data(), st.integers(1, 7), constants)
def test_the_derivative_equals_differences(data, maps, numbers):
    x = (3 * data.draw(shaped(2, maps, 1, 2))).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: contrast_normalise(x, *numbers), (x,))


def test_the_derivative_takes_gradients_without_memory_of_their_own():
    x = torch.randn(2, 6, 3, 3, dtype=torch.float64, requires_grad=True)
    spread = torch.autograd.grad(contrast_normalise(x).sum(), x)[0]
    whole = torch.autograd.grad(contrast_normalise(x), x, torch.ones_like(x))[0]
    assert torch.equal(spread, whole)


def test_layouts_and_batches_do_not_change_the_values():
    x = 90 * torch.randn(4, 9, 6, 7, generator=torch.Generator().manual_seed(0))
    whole = contrast_normalise(x)
    last = contrast_normalise(x.contiguous(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert close(last, whole, 1e-6)
    assert torch.equal(torch.cat([contrast_normalise(each[None]) for each in x]), whole)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_few_bits_cost_no_more_than_their_own_rounding(kind):
    x = (60 * torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))).to(kind).requires_grad_()
    exact = x.detach().double().requires_grad_()
    found, expected = contrast_normalise(x), F.local_response_norm(exact, 5, 1e-4, 0.75, 2.0)
    gradients = [torch.autograd.grad(each.sum(), given)[0] for each, given in ((found, x), (expected, exact))]
    assert found.dtype == gradients[0].dtype == kind
    assert close(found.double(), expected, torch.finfo(kind).eps)
    assert close(gradients[0].double(), gradients[1], torch.finfo(kind).eps)


def test_no_pictures_give_none():
    assert contrast_normalise(torch.zeros(0, 6, 3, 3)).shape == (0, 6, 3, 3)


def test_the_input_is_left_as_it_was():
    x = torch.randn(2, 6, 3, 3)
    before = x.clone()
    contrast_normalise(x)
    assert torch.equal(x, before)


def test_an_even_window_is_refused():
    with pytest.raises(ValueError, match=r"odd"):
        contrast_normalise(torch.ones(1, 6, 1, 1), size=4)
