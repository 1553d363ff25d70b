"""Other people's sequences: the same numbers, the paper's names; rebuilt and probed they agree."""

from copy import deepcopy
from functools import partial

import pytest
import torch
from oracles import close, picture
from torch import nn
from torchvision.models import VGG, alexnet
from torchvision.models.vgg import cfgs, make_layers

from zfnet_lib import MINI, ConvNet, Unit, ZfnetError, deconv, deconv_units, project
from zfnet_lib.adapt import adapt, torchvision_preparation
from zfnet_lib.architecture import Norm, Pool
from zfnet_lib.deconv import alone, strongest_unit
from zfnet_lib.probe import ProbedNet


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
    assert deconv(trace, names[-1], strongest_unit(trace[names[-1]].maps[0])).any()


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
def test_any_precision_is_taken_and_half_becomes_float32(kind):
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), POOL, nn.Flatten(), nn.Linear(36, 3)).to(kind)
    net = adapt(module, image_size=9)
    own = torch.float64 if kind == torch.float64 else torch.float32
    assert {(value.dtype, value.device.type) for value in net.parameters()} == {(own, "cpu")}
    assert torch.equal(net.conv1.weight, module[0].weight.to(own))
    assert {value.dtype for value in module.parameters()} == {kind}


def test_torchvisions_preparation_by_hand():
    preparation = torchvision_preparation()
    assert (preparation.short_side, preparation.crop) == (256, 224)
    x = preparation(torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 256, 256))
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert x[0, :, 7, 9].tolist() == pytest.approx(expected, rel=1e-6)
    assert adapt(nn.Sequential(*SHUFFLED), image_size=224, preparation=preparation).channels == 3  # not 12


def lively(*layers: nn.Module) -> nn.Sequential:
    """Return a sequence in float64 whose BatchNorms have seen something."""
    module = deepcopy(nn.Sequential(*layers)).double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) and part.affine:
            for value in (part.running_mean, part.bias.data):
                value.normal_()
            for value in (part.running_var, part.weight.data):
                value.uniform_(0.5, 2)
    return module


CONV, RELU, POOL, FLAT, BN = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.BatchNorm2d(4)
SHUFFLED, SUM = [nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 3), RELU], nn.Linear(196, 1)
nn.init.ones_(SUM.weight)
REBUILT = {
    "batch norm": [nn.Conv2d(3, 4, 3, bias=False), BN, RELU, nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), RELU],
    "batch norm above": [CONV, RELU, FLAT, nn.Linear(196, 3), nn.BatchNorm1d(3), RELU, nn.Linear(3, 2)],
    "global average": [CONV, RELU, nn.AdaptiveAvgPool2d(1), FLAT, nn.Linear(4, 2)],
    "uneven average": [CONV, RELU, nn.AdaptiveAvgPool2d((3, 2)), FLAT, nn.Linear(24, 2)],
    "upsampling average": [CONV, RELU, nn.AdaptiveAvgPool2d(9), FLAT, nn.Linear(324, 3), RELU, nn.Linear(3, 2)],
    "average pool": [CONV, RELU, POOL, nn.AvgPool2d(2, 1), FLAT, nn.Linear(16, 2)],
    "same": [nn.Conv2d(3, 4, 5, padding="same"), RELU],
    "same, even": [nn.Conv2d(3, 4, 4, padding="same"), RELU, nn.Conv2d(4, 2, 2, padding="same"), RELU],
    "valid": [nn.Conv2d(3, 4, 3, padding="valid"), RELU],
}
PROBED = {
    "leaky": [CONV, nn.LeakyReLU()],
    "relu first": [RELU, CONV],
    "bare": [CONV, nn.Conv2d(4, 4, 1)],
    "pool before relu": [CONV, POOL, RELU],
    "average between": [CONV, RELU, nn.AvgPool2d(2), nn.Conv2d(4, 2, 1), RELU],
    "batch norm after relu": [CONV, RELU, BN],
    "padded pool": [CONV, RELU, nn.MaxPool2d(3, 2, 1)],
    "gaps": [CONV, RELU, nn.MaxPool2d(2, 3)],
    "two pools": [CONV, RELU, POOL, nn.MaxPool2d(2, 1)],
    "dilated": [nn.Conv2d(3, 4, 3, dilation=2), RELU],
    "oblong": [nn.Conv2d(3, 4, (3, 1)), RELU, nn.Conv2d(4, 4, 3, (1, 2)), RELU],
    "reflected": [nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), RELU],
    "even norm": [CONV, RELU, nn.LocalResponseNorm(4)],
    "one channel": [nn.Conv2d(1, 4, 3), RELU],
    "convolution above": [CONV, RELU, FLAT, nn.Linear(196, 16), nn.Unflatten(1, (1, 4, 4)), nn.Conv2d(1, 4, 3)],
    "three hidden": [CONV, RELU, FLAT, *[layer for n in (196, 3, 3, 3) for layer in (nn.Linear(n, 3), RELU)]],
    "log softmax": [CONV, RELU, FLAT, nn.Linear(196, 3), nn.LogSoftmax(1)],
    "rectified logits": [CONV, RELU, FLAT, SUM, RELU],
    "batch norm of flat maps": [CONV, FLAT, nn.BatchNorm1d(196), RELU, nn.Linear(196, 2)],
    "plain norm": [CONV, RELU, FLAT, nn.Linear(196, 3), nn.BatchNorm1d(3, affine=False), RELU, nn.Linear(3, 2)],
}


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even")
@pytest.mark.parametrize("case", REBUILT | PROBED)
def test_what_is_a_sequence_of_our_layers_is_rebuilt_and_all_else_probed(case):
    module = lively(*(REBUILT | PROBED)[case])
    net = adapt(module, image_size=9)
    assert isinstance(net, ConvNet if case in REBUILT else ProbedNet)
    x = torch.randn(2, net.channels, 9, 9, dtype=torch.float64)
    trace, expected = net.trace(x), module(x)
    own = trace.logits if net.classes else list(trace.stages.values())[-1].output
    assert close(own, expected, 1e-12)


def test_a_sequence_that_computes_something_else_is_probed():
    class Twice(nn.Sequential):
        def forward(self, x):
            return 2 * super().forward(x)

        def train(self, mode=True):  # returns nothing
            super().train(mode)

    class Shifted(nn.Sequential):  # its input, in place
        def forward(self, x):
            return super().forward(x.sub_(0.5))

    assert isinstance(adapt(Shifted(CONV, RELU), image_size=9), ProbedNet)
    module = Twice(CONV, RELU)
    module.register_buffer("mask", torch.full((3,), -torch.inf))
    net, x = adapt(module, image_size=9), random_picture(9)
    assert isinstance(net, ProbedNet) and module.training
    assert torch.equal(net.trace(x)["1"].maps, RELU(CONV(x)))


class Named(nn.Module):
    """Has the parts of a sequence, and a forward pass of its own."""

    def __init__(self, forward):
        super().__init__()
        self.features, self.avgpool = nn.Sequential(CONV, RELU), nn.AdaptiveAvgPool2d(1)
        self.classifier, self.last = nn.Sequential(FLAT, nn.Linear(4, 2)), forward

    def forward(self, x):
        return self.last(self.classifier(self.avgpool(self.features(x))))


def test_sizes_that_do_not_fit_are_refused_and_large_maps_not_joined_to_the_layer_above_their_average():
    sizes = [{"image_size": size} for size in ((9, 9), -5, 9.0)]
    for options in [*sizes, {"image_size": 9, "preparation": torchvision_preparation(64)}]:
        with pytest.raises(
            ZfnetError, match=r"^(image_size=.*: give|the preparation makes pictures of 64 pixels, .*)"
        ):
            adapt(CONV, **options)
    module = nn.Sequential(nn.Conv2d(3, 2, 1), RELU, nn.AdaptiveAvgPool2d(1), FLAT, nn.Linear(2, 2))
    assert [type(adapt(module, image_size=side)) for side in (64, 65)] == [ConvNet, ProbedNet]


def test_a_forward_pass_that_returns_something_else_is_probed_and_one_that_fails_is_named():
    assert isinstance(adapt(Named(lambda x: (x, x)), image_size=9), ProbedNet)
    with pytest.raises(ZfnetError, match=r"^named fails on pictures"):
        adapt(Named(lambda x: {}["no data"]), image_size=9)


HOW = [{"rectify": how} for how in ("relu", "none", "mask", "both")]
HOW += [{"switches": "centre"}, {"sharing": "overwrite"}]


@pytest.mark.parametrize("kind", ["alexnet", "vgg-bn", "zfnet"])
def test_rebuilt_and_probed_agree(kind):
    if kind == "alexnet":
        convs = nn.Conv2d(3, 8, 11, 4, 2), nn.Conv2d(8, 12, 5, padding=2), nn.Conv2d(12, 9, 3, padding=1)
        pools = [nn.MaxPool2d(3, 2)], [nn.MaxPool2d(3, 2)], []
        layers = [layer for conv, pool in zip(convs, pools, strict=True) for layer in (conv, nn.ReLU(), *pool)]
        module, side = lively(*layers), 131
    elif kind == "vgg-bn":
        module, side = lively(make_layers([4, 4, "M", 6, "M", 8], batch_norm=True)), 40
    else:  # without normalisation, at a side where no filter reaches over the end
        net, side, layers = ConvNet(MINI.features()).double(), 89, []
        for conv in net.spec.convs:
            layers += [net.get_submodule(conv.name), nn.ReLU()]
            layers += [nn.MaxPool2d(3, 2, ceil_mode=True)] * bool(conv.pool)
        module = nn.Sequential(*layers)
    names = [place for place, part in module.named_modules() if isinstance(part, nn.ReLU)]
    rebuilt, probed = adapt(module, image_size=side), adapt(module, image_size=side, layers=names)
    assert isinstance(rebuilt, ConvNet) and isinstance(probed, ProbedNet)
    x = picture(side, side, n=2) / 60
    one, other = rebuilt.trace(x), probed.trace(x)
    for own, theirs in zip(rebuilt.layers, probed.layers, strict=True):
        assert close(one[own].maps, other[theirs].maps, 1e-12)
        units = [Unit(image, own, *strongest_unit(one[own].maps[image])) for image in (1, 0)]
        for _, _, *unit in units:
            for how in HOW if own == rebuilt.layers[-1] else HOW[:1]:
                signal = alone(one[own].maps, unit)
                assert close(project(one, own, signal, **how), project(other, theirs, signal, **how), 1e-10)
        if rebuilt.fields(own)[0].size < side:
            assert rebuilt.fields(own) == probed.fields(theirs)
            expected = deconv_units(rebuilt, x, units)
            found = deconv_units(probed, x, [unit._replace(layer=theirs) for unit in units])
            assert found.boxes == expected.boxes
            assert all(map(partial(close, tolerance=1e-10), found.projections, expected.projections))


def unsound(part: nn.Module, name: str, value: float) -> nn.Module:
    getattr(part, name).data.view(-1)[-1] = value
    return part


@pytest.mark.parametrize(
    ("weights", "sentence"),
    [
        ([unsound(nn.Conv2d(3, 4, 3), "weight", torch.nan), RELU], r"0\.weight holds NaN or infinite values; .*"),
        ([unsound(nn.Conv2d(3, 4, 3), "weight", torch.inf), RELU], r"0\.weight .*; load sound weights"),
        ([CONV, unsound(nn.BatchNorm2d(4), "running_var", torch.nan), RELU], r"1\.running_var holds NaN or .*"),
        ([nn.LazyConv2d(4, 3), RELU], r"0\.weight has no shape yet; run the network once on a picture, .*"),
        ([CONV, nn.BatchNorm2d(4, track_running_stats=False)], "1 keeps no running statistics, .*; train .*"),
        ([CONV, FLAT, nn.Linear(196, 3), nn.Softmax(1)], "sequential gives probabilities; .* its softmax"),
        (SHUFFLED, r"sequential fails on pictures \[2, 12, .* a `preparation` whose mean has its input's channels"),
        ([CONV, RELU, nn.Conv2d(4, 4, 3, device="meta")], r"2\.weight has no values .*; load the weights first"),
    ],
)
def test_weights_that_are_not_there_or_not_finite_and_unfit_parts_are_named(weights, sentence):
    with pytest.raises(ZfnetError, match=f"^{sentence}$"):
        adapt(nn.Sequential(*weights), image_size=9)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_modules_that_hide_their_rectifiers_or_cannot_be_copied_are_refused_and_compiled_ones_opened():
    said = r"^1 is compiled by torch.jit, which hides its rectifiers; give the module"
    with pytest.raises(ZfnetError, match=said):
        adapt(nn.Sequential(CONV, torch.jit.trace(nn.ReLU(), torch.zeros(1))), image_size=9)
    with pytest.raises(ZfnetError, match=r"^sequential cannot be copied \(.*\); .*weight_norm"):
        adapt(nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 4, 3)), RELU), image_size=9)
    assert adapt(torch.compile(nn.Sequential(CONV, RELU)), image_size=9).layers == ("conv1",)
