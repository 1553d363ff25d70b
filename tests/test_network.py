"""The convnet: how it normalises, what it computes, how it starts, what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import close, contrast_by_loops, filter_by_loops, layers_by_autograd, lively, picture, pool_by_loops
from strategies import cases, shaped
from torch.nn import functional as F

from zfnet_lib.architecture import KRIZHEVSKY, MINI, ArchSpec, Conv, Dense, Norm, Pool
from zfnet_lib.files import ZfnetError
from zfnet_lib.network import CACHED, ConvNet, contrast_normalise

constants = st.tuples(*map(st.sampled_from, ([1, 3, 5, 7], [1e-4, 1e-2, 1.0], [0.5, 0.75, 1.0], [1.0, 2.0])))


@given(st.data(), st.integers(1, 9), constants, st.sampled_from([torch.contiguous_format, torch.channels_last]))
def test_normalisation_equals_the_loops_and_its_derivative_torchs(data, maps, numbers, layout):
    x = (50 * data.draw(shaped(2, maps, 2, 3))).contiguous(memory_format=layout).requires_grad_()
    found, expected = contrast_normalise(x, *numbers), F.local_response_norm(x, *numbers)
    assert close(found, contrast_by_loops(x, *numbers), 1e-12)
    grad = data.draw(st.sampled_from([torch.ones(()).double().expand_as(x), torch.randn_like(x)]))
    assert close(*(torch.autograd.grad(each, x, grad)[0] for each in (found, expected)), 1e-10)


def test_normalisation_equals_torch_in_float32_also_where_a_batch_is_taken_in_parts():
    x = 90 * torch.randn(3, 96, 30, 30, generator=torch.Generator().manual_seed(0))
    assert len(x) * x[0].numel() > CACHED
    x.requires_grad_()
    both = contrast_normalise(x), F.local_response_norm(x, 5, 1e-4, 0.75, 2.0)
    assert close(*both, 1e-5)
    assert close(*(torch.autograd.grad(each, x, x.detach())[0] for each in both), 1e-5)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_few_bits_cost_no_more_than_their_own_rounding(kind):
    x = (60 * torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))).to(kind).requires_grad_()
    exact = x.detach().double().requires_grad_()
    found, expected = contrast_normalise(x), F.local_response_norm(exact, 5, 1e-4, 0.75, 2.0)
    gradients = [torch.autograd.grad(each.sum(), given)[0] for each, given in ((found, x), (expected, exact))]
    assert found.dtype == gradients[0].dtype == kind
    assert close(found.double(), expected, torch.finfo(kind).eps)
    assert close(gradients[0].double(), gradients[1], torch.finfo(kind).eps)


SMALL_FIG_3 = ArchSpec(
    "small",
    (
        Conv("conv1", 6, 5, stride=2, pool=Pool(), norm=Norm(alpha=1e-2)),
        Conv("conv2", 5, 3, padding=1, pool=Pool(2, 2, ceil=False)),
    ),
    (Dense("fc6", 7),),
    classes=4,
    image_size=18,
)
SMALL_REPLICA = ArchSpec(
    "small replica",
    (
        Conv("conv1", 6, 4, stride=3, pool=Pool(), norm=Norm(alpha=1e-2, before_pool=True)),
        Conv("conv2", 4, 3, padding=2, groups=2, ceil=False),
    ),
    (Dense("fc6", 7), Dense("fc7", 6)),
    classes=4,
    image_size=18,
)


def weights(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("spec", [SMALL_FIG_3, SMALL_REPLICA], ids=lambda spec: spec.name)
def test_every_stage_equals_the_loops(spec):
    net, below = lively(spec), picture(18, 18, n=2)
    trace = net.trace(below)
    for conv in spec.convs:
        module, stage = net.get_submodule(conv.name), trace[conv.name]
        maps = filter_by_loops(below, conv, module.weight.detach(), module.bias.detach()).clamp(min=0)
        assert close(stage.maps, maps, 1e-12)
        below = maps
        if conv.norm and conv.norm.before_pool:
            below = contrast_by_loops(below, 5, 1e-2, 0.75, 2.0)
        if conv.pool:
            below, switches = pool_by_loops(below, conv.pool.size, conv.pool.stride, conv.pool.ceil)
            assert stage.switches.dtype == torch.int64
            assert torch.equal(stage.switches, switches)
        else:
            assert stage.switches is None
        if conv.norm and not conv.norm.before_pool:
            below = contrast_by_loops(below, 5, 1e-2, 0.75, 2.0)
        assert close(stage.output, below, 1e-12)
    below = below.flatten(1)
    for dense in spec.dense:
        module = net.get_submodule(dense.name)
        below = (below @ module.weight.T + module.bias).clamp(min=0)
        assert close(trace[dense.name].maps, below, 1e-12)
        assert trace[dense.name].switches is None
    assert close(trace.logits, below @ net.fc8.weight.T + net.fc8.bias, 1e-12)
    assert torch.equal(net(picture(18, 18, n=2)), trace.logits)


@given(cases())
def test_generated_networks_have_their_specs_shapes_and_compute_what_torchs_own_layers_compute(case):
    trace, shapes = case.net.trace(case.x), case.net.spec.shapes(*case.x.shape[2:])
    expected = dict(layers_by_autograd(case.net, case.x))
    for conv in case.net.spec.convs:
        stage = trace[conv.name]
        assert close(stage.maps, expected[conv.name], 1e-12) and shapes[conv.name] == stage.maps.shape[1:]
        assert not conv.pool or shapes[conv.pool_name] == stage.output.shape[1:]
    assert close(case.net.convolved(case.x), stage.output, 1e-12)  # what the classifier sees, without a trace
    assert trace.logits is None


def test_a_trace_may_stop_early_and_is_the_same_up_to_there():
    net, x = lively(MINI), picture(64, 64)
    whole, part = net.trace(x), net.trace(x, upto="conv3")
    assert list(part.stages) == ["conv1", "conv2", "conv3"]
    assert list(whole.stages) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    assert torch.equal(part["conv3"].maps, whole["conv3"].maps)
    assert part.logits is None and part.x is x
    shapes = "x [1, 3, 64, 64], conv1 [1, 12, 30, 30], conv2 [1, 32, 6, 6], conv3 [1, 48, 3, 3]"
    assert repr(part) == f"<Trace of mini: {shapes}>" and repr(whole).endswith(", fc7 [1, 512], logits [1, 16]>")


def test_the_same_seed_gives_the_same_bytes_and_the_global_generators_stay_as_they_were():
    torch.manual_seed(0)
    np.random.seed(0)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()
    one, again, other = (weights(ConvNet(MINI, seed=seed)) for seed in (5, 5, 6))
    layers = [f"conv{i}" for i in range(1, 6)] + ["fc6", "fc7", "fc8"]
    assert list(one) == [f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")]
    for name, value in one.items():
        assert torch.equal(value, again[name])
        assert name.endswith("bias") or not torch.equal(value, other[name])
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()


def test_weights_have_the_specs_deviations_and_biases_are_zero():
    net = ConvNet(MINI)
    for layer in MINI.layers:
        module = net.get_submodule(layer.name)
        n = module.weight.numel()
        assert module.weight.std().item() == pytest.approx(layer.std, rel=4 / n**0.5)
        assert abs(module.weight.mean().item()) < 4 * layer.std / n**0.5
        assert not module.bias.any()


def test_renormalisation_touches_convolutions_beyond_the_radius_alone():
    net = ConvNet(MINI).double()
    for factor, module in enumerate((net.conv1, net.conv2, net.conv5, net.fc6), start=3):
        module.weight.data.normal_(0, factor / 30, generator=torch.Generator().manual_seed(factor))
    before = weights(net)
    net.renormalise()
    for name, value in weights(net).items():
        if not name.startswith("conv") or name.endswith("bias"):
            assert torch.equal(value, before[name])
            continue
        old, new = (each.square().mean(dim=(1, 2, 3), keepdim=True).sqrt() for each in (before[name], value))
        assert torch.allclose(new, old.clamp(max=0.1), rtol=1e-12)
        assert torch.equal(value[old.flatten() <= 0.1], before[name][old.flatten() <= 0.1])
        assert torch.allclose(value / new, before[name] / old, rtol=1e-12)
    before = weights(net)
    net.renormalise(("conv2",), radius=0.01)
    after = weights(net)
    assert [name for name in after if not torch.equal(after[name], before[name])] == ["conv2.weight"]
    assert after["conv2.weight"].square().mean(dim=(1, 2, 3)).sqrt().numpy() == pytest.approx(0.01)


def test_training_drops_half_of_layers_6_and_7_and_doubles_the_rest():
    halving = replace(MINI, dense=tuple(replace(dense, dropout=0.5) for dense in MINI.dense))
    net, x, seen = lively(halving).train(), picture(64, 64, n=16), {}
    for layer in ("fc6", "fc7", "fc8"):
        net.get_submodule(layer).register_forward_pre_hook(
            lambda module, given, layer=layer: seen.update({layer: given[0].detach()})
        )
    torch.manual_seed(0)
    net(x)
    assert torch.equal(seen["fc6"], net.trace(x)["conv5"].output.flatten(1))
    net(x)
    for layer, below in (("fc7", "fc6"), ("fc8", "fc7")):
        module = net.get_submodule(below)
        whole = (seen[below] @ module.weight.T + module.bias).clamp(min=0)
        kept = seen[layer] != 0
        assert close(seen[layer][kept], 2 * whole[kept], 1e-12)
        assert kept.sum() / (whole > 0).sum() == pytest.approx(0.5, abs=0.05)


def test_dropout_is_off_in_evaluation_and_in_traces():
    net, x = lively(MINI), picture(64, 64)
    still = net(x)
    assert torch.equal(net(x), still)
    assert not torch.equal(net.train()(x), still)
    assert torch.equal(net.trace(x).logits, still) and net.training


def test_features_share_the_weights():
    net = lively(MINI)
    part = net.features()
    assert [name for name, _ in net.features("conv2").named_children()] == ["conv1", "conv2"]
    assert list(part.state_dict()) == [name for name in net.state_dict() if name.startswith("conv")]
    assert part.preparation is net.preparation
    net.conv3.weight.data += 1
    assert part.conv3.weight is net.conv3.weight
    assert (net.training, part.training) == (False, False)
    assert net.train().features().training


NET, X = ConvNet(MINI), torch.zeros(1, 3, 64, 64)


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (torch.zeros(1, 1, 64, 64), r"mini takes prepared pictures, float \[n, 3, h, w\]; given float32 \[1, .*"),
        (torch.zeros(3, 64, 64), r".*; given float32 \[3, 64, 64\]; `net.prepare` makes them from uint8 pictures"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r".*; given uint8 \[1, 3, 64, 64\]; .*"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.float64), r"mini computes in float32, given float64; turn .*"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.bfloat16), r".* by `x.to\(net.dtype\)`, or the network by .*"),
        (torch.zeros(1, 3, 0, 64), "an input of 0x64 pixels is too small for mini; it needs 44"),
        (torch.zeros(1, 3, 128, 64), "the classifier of mini takes pictures of 64x64, given 128x64; `net.*"),
        (np.zeros((1, 3, 64, 64), "float32"), "mini takes prepared pictures, .*; given ndarray; .*"),
        (torch.zeros(1, 3, 64, 64, device="meta"), "mini lies .* cpu, the pictures on meta; move .*"),
    ],
    ids=["one channel", "no batch", "unprepared", "double", "bf16", "no rows", "too large", "array", "elsewhere"],
)  # fmt: skip
def test_inputs_of_another_form_get_one_sentence(x, sentence):
    for run in (NET, NET.trace):
        with pytest.raises(ZfnetError, match=f"^{sentence}$"):
            run(x)


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        *((lambda bad=bad: NET.trace(X + bad), "the input holds NaN or infinite values; prepare .*")
          for bad in (float("nan"), float("inf"), -float("inf"))),
        (lambda: NET.features()(X), "mini has no classifier here; use `net.trace.x.` for its maps, or .*"),
        (lambda: NET.trace(X, upto="conv9"), "mini has no layer 'conv9'; its layers are conv1, .*fc8"),
        (lambda: ConvNet(replace(MINI, dense=())).trace(torch.zeros(1, 3, 96, 96)), "the classifier of .*"),
        (lambda: NET.trace(X)["conv9"], "mini has no layer 'conv9'; .*"),
        (lambda: NET.trace(X, upto="conv3")["conv4"], "this trace holds no conv4; .* without `upto` and `keep`"),
        (lambda: NET.trace(X, keep=("conv5",))["conv4"], "this trace holds no conv4; .* without `upto` and `keep`"),
        (lambda: NET.trace(X, upto="fc8"), "fc8 .*`trace.logits`"),
        (lambda: NET.trace(X)["fc8"], "fc8 .*`trace.logits`"),
        (lambda: NET.renormalise(("fc6",)), "layer 'fc6' of mini has no maps; .*"),
        *((lambda size=size: contrast_normalise(X, size), f"the window .* has an odd size from 1; given {size}")
          for size in (4, -1)),
        (lambda: ConvNet(KRIZHEVSKY.resized(conv2=255)), "conv2 of .* cannot be split into 2 groups"),
    ],
)  # fmt: skip
def test_what_a_network_cannot_do_gets_one_sentence(ask, sentence):
    with pytest.raises(ZfnetError, match=f"^{sentence}$"):
        ask()


def test_the_smallest_input_works_and_autocast_chooses_the_type_itself():
    side = MINI.smallest()
    assert NET.features().trace(torch.zeros(1, 3, side, side + 3))["conv5"].output.shape[-2:] == (1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        assert NET(X.bfloat16()).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_pictures_are_prepared_in_the_type_of_the_weights(dtype):
    net = ConvNet(MINI).to(dtype).eval()
    x = net.prepare(torch.full((1, 3, 80, 90), 120, dtype=torch.uint8))
    assert x.dtype == dtype and x.shape == (1, 3, 64, 64) and x.unique().item() == -8
    assert net.trace(x).logits.dtype == net(x).dtype == dtype


def test_a_trace_can_be_differentiated_where_its_input_asks_for_it():
    net, x = lively(MINI), picture(64, 64)

    def numbers(trace):
        return [trace.logits, *(each for stage in trace.stages.values() for each in (stage.maps, stage.output))]

    assert not any(each.requires_grad for each in numbers(net.trace(x)))
    assert all(each.requires_grad for each in numbers(net.trace(x.clone().requires_grad_())))
    with torch.no_grad():
        assert not any(each.requires_grad for each in numbers(net.trace(x.clone().requires_grad_())))
