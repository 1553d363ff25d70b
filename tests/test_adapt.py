"""Other people's networks: the same logits, the paper's names, and refusals that name the layer."""

from __future__ import annotations

import pytest
import torch
from oracles import close, picture
from torch import nn
from torchvision.models import VGG, alexnet, resnet18
from torchvision.models.vgg import cfgs, make_layers

from zfnet_lib.adapt import adapt, torchvision_preparation
from zfnet_lib.architecture import Norm, Pool
from zfnet_lib.deconv import deconv
from zfnet_lib.files import ZfnetError


def hidden(number: int) -> list[nn.Module]:
    return [layer for _ in range(number) for layer in (nn.ReLU(), nn.Linear(3, 3))]


def filled(value: float) -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 3)
    conv.weight.data[1, 2, 0, 0] = value
    return conv


CONV, RELU, POOL = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2)


def narrow_vgg(letter: str) -> VGG:
    """Return torchvision's VGG with a sixteenth of the maps and small fully connected layers."""
    with torch.device("meta"):  # the wide classifier that it makes first is never filled
        module = VGG(nn.Sequential(), init_weights=False)
    width = [size if size == "M" else size // 16 for size in cfgs[letter]]
    layers = [nn.Linear(32 * 49, 24), nn.ReLU(True), nn.Dropout(), nn.Linear(24, 20), nn.ReLU(True), nn.Dropout()]
    module.features, module.classifier = make_layers(width), nn.Sequential(*layers, nn.Linear(20, 10))
    return module.eval()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def random_picture(side: int = 224) -> torch.Tensor:
    return picture(side, side, n=2).float() / 60


# ---- the same network ---------------------------------------------------------------------------------------


def test_alexnets_logits_and_layers():
    module = alexnet().eval()
    net = adapt(module, "mine")
    x = random_picture()
    assert close(net(x), module(x), 1e-5)
    assert [layer.name for layer in net.spec.layers] == [f"conv{i}" for i in range(1, 6)] + ["fc6", "fc7", "fc8"]
    sides = [net.spec.shapes()[name][1] for name in ("conv1", "pool1", "conv2", "conv3", "pool5")]
    assert sides == [55, 27, 27, 13, 6]
    assert (net.spec.name, net.training) == ("mine", False)
    trace = net.trace(x)
    assert torch.equal(trace["conv2"].maps, module.features[:5](x))
    assert torch.equal(trace["conv5"].output, module.features(x))
    assert sum(net.spec.parameters().values()) == 61_100_840


@pytest.mark.parametrize(("letter", "blocks"), [("A", (1, 1, 2, 2, 2)), ("D", (2, 2, 3, 3, 3))])
def test_vggs_logits_and_layers(letter, blocks):
    module = narrow_vgg(letter)
    net = adapt(module)
    x = random_picture()
    assert close(net(x), module(x), 1e-5)
    names = [f"conv{block}_{i}" for block, n in enumerate(blocks, start=1) for i in range(1, n + 1)]
    assert [conv.name for conv in net.spec.convs] == names
    assert [conv.name for conv in net.spec.convs if conv.pool] == [f"conv{b}_{n}" for b, n in enumerate(blocks, 1)]
    assert net.spec.shapes()["pool5"][1:] == (7, 7)
    trace = net.trace(x)
    top = trace[names[-1]].maps
    unit = tuple(int(n) for n in torch.unravel_index(top[0].argmax(), top.shape[1:]))
    assert deconv(trace, names[-1], unit).any()


def test_a_sequence_with_normalisations_and_odd_pools_computes_the_same():
    relu = nn.ReLU()  # one may serve several layers, and square pools may be written as pairs
    module = nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, bias=False), relu, nn.LocalResponseNorm(5, alpha=0.1, k=2.0), POOL,
        nn.Conv2d(8, 6, 3, padding=2, groups=2), relu, nn.MaxPool2d((3, 3), (2, 2), ceil_mode=True),
        nn.LocalResponseNorm(3, alpha=0.1), nn.Dropout2d(), nn.Conv2d(6, 5, 1), nn.ReLU(), nn.Identity(),
        nn.Sequential(nn.Flatten(), nn.Linear(5 * 25, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 3)),
    ).eval()  # fmt: skip
    net = adapt(module, image_size=35)
    x = random_picture(35)
    assert close(net(x), module(x), 1e-5)
    first, second, third = net.spec.convs
    assert (first.pool, first.norm) == (Pool(2, 2, ceil=False), Norm(5, 0.1, 0.75, 2.0, before_pool=True))
    assert (second.pool, second.norm) == (Pool(3, 2, ceil=True), Norm(3, 0.1, 0.75, 1.0, before_pool=False))
    assert (third.pool, third.norm) == (None, None)
    assert not net.conv1.bias.any()


def test_the_weights_are_a_copy_and_the_module_stays_as_it_was():
    module = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), nn.Dropout()).train()
    module[0].eval()
    flags = [part.training for part in module.modules()]
    net = adapt(module, image_size=9)
    assert [part.training for part in module.modules()] == flags and len(set(flags)) == 2
    before = net.conv1.weight.clone()
    module[0][0].weight.data += 1
    assert torch.equal(net.conv1.weight, before)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_any_precision_is_taken_and_becomes_float32(kind):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), POOL, nn.Flatten(), nn.Linear(36, 3)).to(kind)
    net = adapt(module, image_size=9)
    assert {(value.dtype, value.device.type) for value in net.parameters()} == {(torch.float32, "cpu")}
    assert torch.equal(net.conv1.weight, module[0].weight.float())
    assert {value.dtype for value in module.parameters()} == {kind}


def test_torchvisions_preparation_by_hand():
    preparation = torchvision_preparation()
    assert (preparation.short_side, preparation.crop) == (256, 224)
    x = preparation(torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 256, 256))
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert x[0, :, 7, 9].tolist() == pytest.approx(expected, rel=1e-6)


# ---- refusals -----------------------------------------------------------------------------------------------


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return x + self.inner(x)


class Twice(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


REFUSED = {
    "batch norm": ([CONV, nn.BatchNorm2d(4), RELU], r"0 is followed by 1 \(BatchNorm2d\); a ReLU is expected"),
    "no relu": ([CONV, POOL], r"0 is followed by 1 \(MaxPool2d\); a ReLU is expected"),
    "leaky": ([CONV, nn.LeakyReLU()], r"0 is followed by 1 \(LeakyReLU\); a ReLU is expected"),
    "average pool": ([CONV, RELU, nn.AvgPool2d(2)], r"cannot take apart 2 \(AvgPool2d\); the deconvnet knows .*"),
    "residual": ([CONV, RELU, Residual()], r"cannot take apart 2 \(Residual\): it is not sequential; .*"),
    "nested": ([nn.Sequential(CONV, RELU, nn.Upsample())], r"cannot take apart 0\.2 \(Upsample\); .*"),
    "dilated": ([nn.Conv2d(3, 4, 3, dilation=2), RELU], r"cannot take apart 0 \(Conv2d.*\); square filters.*"),
    "oblong": ([nn.Conv2d(3, 4, (3, 1)), RELU], r"cannot take apart 0 \(Conv2d.*\); square filters.*"),
    "strides": ([nn.Conv2d(3, 4, 3, (1, 2)), RELU], r"cannot take apart 0 \(Conv2d.*\); square filters.*"),
    "same": ([nn.Conv2d(3, 4, 3, padding="same"), RELU], r"cannot take apart 0 \(Conv2d.*\); .*zero padding.*"),
    "reflected": ([nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), RELU], r"cannot take apart 0 .*"),
    "padded pool": ([CONV, RELU, nn.MaxPool2d(3, 2, 1)], r"cannot take apart 2 \(MaxPool2d.*\); square regions.*"),
    "gaps": ([CONV, RELU, nn.MaxPool2d(2, 3)], r"cannot take apart 2 \(MaxPool2d.*\); .*gaps"),
    "indices": (
        [CONV, RELU, nn.MaxPool2d(2, return_indices=True)],
        r"cannot take apart 2 \(MaxPool2d.*\): set its return_indices to False",
    ),
    "not finite": ([filled(torch.nan), RELU], r"0\.weight holds NaN or infinite values; load sound weights"),
    "infinite": ([filled(torch.inf), RELU], r"0\.weight holds NaN or infinite values; load sound weights"),
    "lazy": ([nn.LazyConv2d(4, 3), RELU], r"0\.weight has no shape yet; run the network once on a picture, .*"),
    "lazy above": (
        [CONV, RELU, nn.Flatten(), nn.LazyLinear(3)],
        r"3\.weight has no shape yet; run the network once on a picture, .*",
    ),
    "meta": ([CONV, RELU, nn.Conv2d(4, 4, 3, device="meta"), RELU], r"2\.weight has no values .*; load the .*"),
    "even norm": ([CONV, RELU, nn.LocalResponseNorm(4)], r"cannot take apart 2 \(LocalResponseNorm.*odd number.*"),
    "pool first": ([POOL, CONV, RELU], r"cannot take apart 0 \(MaxPool2d\): no convolution stands before it"),
    "two pools": ([CONV, RELU, POOL, nn.MaxPool2d(2)], r"cannot take apart 3 \(MaxPool2d\).*"),
    "relu first": ([RELU, CONV], r"cannot take apart 0 \(ReLU\): no layer stands before it"),
    "bare": ([CONV], "toy ends without a rectified convolution; there is nothing to project"),
    "nothing": ([], "toy ends without a rectified convolution; there is nothing to project"),
    "one channel": ([nn.Conv2d(1, 4, 3), RELU], r"conv1 has weights \[4, 1, 3, 3\] where \[4, 3, 3, 3\] .*"),
    "conv behind linear": (
        [CONV, RELU, nn.Flatten(), nn.Linear(4 * 49, 3), nn.ReLU(), nn.Conv2d(3, 4, 3)],
        r"cannot take apart 5 \(Conv2d.*",
    ),
    "wrong size": ([CONV, RELU, nn.Flatten(), nn.Linear(144, 3)], r"fc8 has weights \[3, 144\] where \[3, 196\].*"),
    "deep": (
        [CONV, RELU, nn.Flatten(), nn.Linear(196, 3), *hidden(3)],
        "toy has 3 hidden fully connected layers; two are the most",
    ),
    "averaging": (
        [CONV, RELU, nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 2)],
        "2 averages maps of 7x7 to 3x3 at 9 pixels; give the input size .*",
    ),
    "softmax": (
        [CONV, RELU, nn.Flatten(), nn.Linear(196, 3), nn.Softmax(1)],
        r"3 is followed by 4 \(Softmax\); a ReLU is expected",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_deconvnet_cannot_take_apart_is_named(case):
    layers, sentence = REFUSED[case]
    with pytest.raises(ZfnetError, match=f"^{sentence}$") as caught:
        adapt(nn.Sequential(*layers), "toy", image_size=9)
    assert "\n" not in str(caught.value)


def test_networks_that_are_not_sequential_are_named():
    with pytest.raises(ZfnetError, match=r"^cannot take apart the network \(ResNet\): it is not sequential; .*"):
        adapt(resnet18())
    with pytest.raises(ZfnetError, match=r"^cannot take apart the network \(Unflatten\); .*"):
        adapt(nn.Unflatten(1, (1, 1)))


def test_a_sequence_that_computes_something_else_is_refused_and_keeps_its_training_mode():
    module = Twice(CONV, RELU).train()
    with pytest.raises(ZfnetError, match=r"^twice computes something else than its layers in sequence; .*"):
        adapt(module, image_size=9)
    assert module.training


def test_a_picture_too_small_for_the_module_gets_one_sentence():
    with pytest.raises(ZfnetError, match=r"too small for toy; it needs 3"):
        adapt(nn.Sequential(CONV, RELU), "toy", image_size=2)
