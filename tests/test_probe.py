"""Any module is probed by the rule: against hooks and patched rectifiers, captum, and a way down by hand."""

from collections.abc import Callable
from copy import deepcopy
from itertools import product
from time import sleep

import pytest
import torch
import torchvision.models
from captum.attr import Deconvolution
from oracles import RectifiedBackwards, captum, close, picture, wrong
from residual import Small, residual
from torch import Tensor, nn
from torch.nn import functional as F

from zfnet_lib import MINI, ConvNet, Unit, deconv, deconv_units, load_network, occlude, project, strongest
from zfnet_lib.architecture import Field
from zfnet_lib.deconv import alone, descend, strongest_unit
from zfnet_lib.files import ZfnetError
from zfnet_lib.probe import ProbedNet
from zfnet_lib.weights import fingerprint, save_network


def by_hooks(module: nn.Module, x: Tensor, layer: str, unit: tuple[int, int, int], follows: bool) -> Tensor:
    """Return the gradient of a unit's maps, times its activation, in a module with replaced rectifiers.

    Torch's functional rectifiers, which its modules call, follow the rule: no function mode in sight.
    """
    seen, rectified = {}, RectifiedBackwards.apply
    hook = module.get_submodule(layer).register_forward_hook(lambda *given: seen.update(maps=given[2] * 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(F, "relu", lambda x, inplace=False: rectified(x))
        patch.setattr(F, "hardtanh", lambda x, low=-1.0, high=1.0, inplace=False: rectified(x, low, high))
        patch.setattr(F, "relu6", lambda x, inplace=False: rectified(x, 0, 6))
        x = x.clone().requires_grad_()
        module(x)
        hook.remove()
        value = (F.relu(seen["maps"]) if follows else seen["maps"])[(0, *unit)]
        return value.detach() * torch.autograd.grad(value, x)[0]


def made(name: str) -> nn.Module:
    """Return a network of torchvision with random weights in float64, its BatchNorms not at rest."""
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)().eval().double()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.weight.data.uniform_(0.5, 1.5)
    return module


NETWORKS = {  # a side in pixels, three layers, and which functions pass the exact gradient
    "resnet18": (33, ("bn1", "layer2.0.conv1", "layer4"), ()),
    "googlenet": (33, ("conv1", "inception3a.branch2", "inception4e"), ()),
    "squeezenet1_1": (33, ("features.1", "features.4", "features.9"), ()),
    "mobilenet_v2": (33, ("features.0", "features.3.conv.0", "features.8"), ()),
    "densenet121": (33, ("features.norm0", "features.denseblock1", "features.denseblock2.denselayer3.conv1"), ()),
    "shufflenet_v2_x1_0": (33, ("conv1", "stage2.0", "stage3"), ()),
    "efficientnet_b0": (33, ("features.0", "features.2.0.block.0", "features.4"), ("product", "sigmoid", "silu")),
    "convnext_tiny": (32, ("features.0", "features.1.1.block.0", "features.3"), ("gelu", "layer_norm")),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_torchvisions_networks_follow_the_rule(name):
    side, layers, exact = NETWORKS[name]
    module = made(name)
    net = load_network(module, image_size=side, layers=layers)
    assert isinstance(net, ProbedNet)
    assert (net.layers, net.classes, net.exact) == (layers, 1000, exact)
    x = picture(side, side) / 60
    trace = net.trace(x)
    assert close(trace.logits, module(x), 1e-12)
    for layer in layers:
        unit = strongest_unit(trace[layer].maps[0])
        found, expected = deconv(trace, layer, unit), by_hooks(module, x, layer, unit, layer in net.rectified)
        assert expected.any()
        assert close(found, expected, 1e-10)
    shown = deconv_units(net, x, [Unit(0, layer, *unit)] * 2)
    box = shown.boxes[0].clipped(side, side)
    inside = expected[0, :, box.top : box.bottom, box.left : box.right]
    assert inside.norm() == pytest.approx(expected.norm().item(), rel=1e-12)
    for projection in shown.projections:
        assert projection.norm() == pytest.approx(expected.norm().item(), rel=1e-10)


class Upto(nn.Module):
    """A network up to a layer, as captum wants it."""

    def __init__(self, module: nn.Module, layer: str):
        super().__init__()
        self.module, self.maps = module, None
        module.get_submodule(layer).register_forward_hook(lambda *given: setattr(self, "maps", given[2]))

    def forward(self, x):
        self.module(x)
        return self.maps


@pytest.mark.parametrize(
    ("name", "layer", "agrees"),
    [
        ("squeezenet1_1", "features.7", True),
        ("resnet18", "layer2", True),
        ("googlenet", "inception4a", False),
        ("mobilenet_v2", "features.6", False),
    ],
)
def test_captum_agrees_unless_rectifiers_are_functions_or_end_at_six(name, layer, agrees):
    module = made(name)
    for part in module.modules():
        if hasattr(part, "inplace"):
            part.inplace = False  # which captum cannot do with
    net = load_network(module, image_size=65, layers=[layer])
    x = picture(65, 65) / 60
    trace = net.trace(x)
    maps = trace[layer].maps[0]
    unit = strongest_unit(maps)
    found, expected = deconv(trace, layer, unit), maps[unit] * captum(Deconvolution, Upto(module, layer), x, unit)
    assert close(found, expected, 1e-10) if agrees else (found - expected).norm() > 0.5 * found.norm()


class Devious(nn.Module):
    """Rectifies in every way there is: as functions, methods, in place, one module again and again."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.third, self.rectifier = nn.Conv2d(6, 4, 3, stride=2), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.first(x)
        self.rectifier(x)  # in place: what it returns is not looked at
        y = self.second(x)
        y.relu_()
        y = torch.clamp_min(self.second(y), 0.0)
        y += F.leaky_relu(x, 0.1)
        y = F.local_response_norm(y, 3, 0.1)
        return self.rectifier(self.third(y))


def test_rectifiers_of_every_form_against_a_way_down_by_hand():
    torch.manual_seed(0)
    module = Devious().double()
    net = load_network(module, image_size=12)
    assert net.layers == ("first", "second", "third", "rectifier")
    x = picture(12, 12, n=2) / 60
    trace = net.trace(x)
    first = F.relu(module.first(x))
    second = F.relu(module.second(F.relu(module.second(first))))
    third = F.relu(module.third(F.local_response_norm(second + first, 3, 0.1)))
    for layer, maps in (("first", first), ("second", second), ("third", third), ("rectifier", third)):
        assert torch.equal(trace[layer].maps, maps)

    def down(conv: nn.Conv2d, signal: Tensor, size) -> Tensor:
        return torch.nn.grad.conv2d_input(size, conv.weight, signal, conv.stride, conv.padding)

    signal = alone(third, strongest_unit(third[0]))
    at_sum = down(module.third, F.relu(signal), second.shape)  # the normalisation is skipped
    lower = down(module.second, F.relu(at_sum), second.shape)
    at_first = down(module.second, F.relu(lower), first.shape) + F.relu(at_sum)  # leaky: rectified, too
    expected = down(module.first, F.relu(at_first), x.shape)
    assert close(project(trace, "third", signal), expected, 1e-12)


class Keywords(nn.Module):
    """Calls everything that a rule changes by keywords, or by position; `pool` are a pool's other numbers."""

    def __init__(self, keywords: bool, pool: dict | None = None):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weights = nn.ParameterList(torch.randn(4, n, 3, 3, generator=generator) for n in (3, 4))
        self.below, self.top, self.keywords, self.pool = nn.Identity(), nn.Identity(), keywords, pool or {}

    def forward(self, x):
        first, second = self.weights
        if not self.keywords:
            x = self.below(torch.conv2d(x, first).relu())
            x = torch.conv2d(F.max_pool2d(x, 2, **self.pool), second).clamp(0)
            return self.top(nn.Threshold(0, 0)(x * x))
        x = self.below(torch.relu(input=torch.conv2d(input=x, weight=first)))
        x = torch.conv2d(input=torch.max_pool2d(input=x, kernel_size=2, **self.pool), weight=second)
        x = torch.clip(input=x, min=0)
        return self.top(torch.threshold(input=torch.mul(input=x, other=x), threshold=0, value=0))


@pytest.mark.parametrize("way", [{}, {"switches": "centre"}, {"rectify": "none"}])
def test_functions_called_by_keywords_follow_the_rule_as_others_do(way):
    x = picture(16, 16, n=1).float() / 60
    nets = [load_network(Keywords(keywords), image_size=16) for keywords in (False, True)]
    for net in nets:
        assert net.exact == ("product",)
        assert net.fields("below") == (Field(3, 1, 0),) * 2 and net.fields("top") == (Field(8, 2, 0),) * 2
    traces = [net.trace(x) for net in nets]
    place = strongest_unit(traces[0]["top"].maps[0])
    shown = [project(trace, "top", alone(trace["top"].maps, place), **way) for trace in traces]
    assert shown[0].any() and torch.equal(*shown)
    windows = [deconv_units(net, x, [Unit(0, "top", *place)]).projections[0] for net in nets]
    assert windows[0].any() and torch.equal(*windows)


def test_receptive_fields_count_the_gaps_of_pools():
    net = load_network(Keywords(keywords=False, pool={"dilation": 3}), image_size=24)
    assert net.fields("top") == (Field(3 + 3 + 2 * 2, 2, 0),) * 2


class Own(nn.Module):
    """A convolution, and a forward pass of one's own."""

    def __init__(self, forward: Callable, **conv):
        super().__init__()
        self.conv, self.end, self.own = nn.Conv2d(3, 4, 1, **conv), nn.ReLU(), forward

    def forward(self, x):
        return self.own(self, x)


def test_modules_that_take_no_channels_last_are_handed_none_and_what_gives_them_is_no_layer():
    net = load_network(Own(lambda self, x: F.relu(self.conv(x)).view(len(x), -1)), image_size=8)
    data = [(torch.randint(256, (3, 9, 9), dtype=torch.uint8), 0) for _ in range(3)]
    assert occlude(net, torch.randn(3, 8, 8), size=4, stride=4).activity.shape == (2, 2)
    assert (strongest(net, data, k=1)["conv"].image >= 0).all()
    net = load_network(Own(lambda self, x: self.end(self.conv(x).permute(0, 2, 3, 1)).mean((1, 2))), image_size=8)
    assert net.layers == ("conv",) and net.classes == 4


def test_a_unit_that_sees_padding_alone_projects_to_nothing():
    net, x = load_network(Own(lambda self, x: self.conv(x), padding=2), image_size=8), torch.randn(1, 3, 8, 8)
    for row in (0, 11):
        assert not deconv(net.trace(x), "conv", (0, row, 5)).any()
    shown = deconv_units(net, x, [Unit(0, "conv", 0, row, 5) for row in (0, 1, 11)]).projections
    assert [each.shape for each in shown] == [(3, 1, 1)] * 3


def test_layers_are_whole_wherever_a_pass_ends_and_what_is_added_in_place_is_not_theirs():
    def late(self, x):
        maps = self.conv(x)
        end = self.end(maps + 1)
        return F.relu(maps) + end

    torch.manual_seed(0)
    net, x = load_network(Own(late), image_size=8), torch.randn(1, 3, 8, 8)
    for trace in (net.trace(x), net.trace(x, upto="end"), net.features("conv").trace(x)):
        assert close(trace["conv"].maps, F.relu(net.module.conv(x)), 1e-6)

    def added(self, x):
        out = self.conv(x)
        out += x.mean(1, keepdim=True)
        return self.end(out)

    net = load_network(Own(added), image_size=8)
    assert net.rectified == set() and close(net.trace(x)["conv"].maps, net.module.conv(x), 1e-6)
    net = load_network(Own(lambda self, x: self.conv(F.relu(self.conv(x)[:, :3]))), image_size=8)
    assert net.rectified == set() and net.trace(x)["conv"].maps.min() < 0  # rectified at first and not at last


def test_a_lack_of_memory_is_no_fault_of_the_pictures():
    def greedy(self, x):
        return self.conv(x) if x.shape[-1] == 8 else torch.empty(2**50)

    net = load_network(Own(greedy), image_size=8)
    with pytest.raises(RuntimeError, match="allocate"):
        net.trace(torch.randn(1, 3, 9, 9))


def test_where_no_gradient_leads_down_the_layer_is_named():
    net = load_network(Own(lambda self, x: self.end(self.conv(x).detach())), image_size=8)
    x = torch.randn(1, 3, 8, 8)
    for ask in (lambda: deconv(net.trace(x), "end", 0), lambda: deconv_units(net, x, [Unit(0, "end", 0, 1, 1)])):
        with pytest.raises(ZfnetError, match=r"^no gradient leads from end of own down to .*; take no_grad, "):
            ask()


@pytest.mark.parametrize("net", [ConvNet(MINI.features()), residual(64)], ids=["convnet", "probed"])
def test_autocast_and_the_type_of_a_signal_change_nothing(net):
    x, layer = torch.randn(1, 3, 64, 64), net.layers[-1]
    unit, found = Unit(0, layer, *strongest_unit(net.trace(x)[layer].maps[0])), []
    for mixed in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            seen, trace = occlude(net, x, size=30, stride=30).activity, net.trace(x)
            found.append((seen, *deconv_units(net, x, [unit]).projections))
    assert all(map(torch.equal, *found))
    shown = [project(trace, layer, trace[layer].maps.to(kind)) for kind in (torch.bfloat16, torch.float64)]
    assert shown[0].any() and torch.equal(*shown)


@pytest.fixture
def net() -> ProbedNet:
    return residual()


def test_a_residual_networks_layers_shapes_and_fields(net):
    assert net.layers == ("stem.0", "stem.1", "stem.2", "stem", "pool", "block", "top")
    assert net.shapes()["pool"] == (8, 16, 16) and net.shapes(40, 32)["top"] == (5, 9, 7)
    assert net.fields("stem") == (Field(3, 1, -1),) * 2
    assert net.fields("pool") == (Field(5, 2, -2),) * 2
    assert net.fields("top") == (Field(13, 4, -4),) * 2
    assert net.fields("top", 8, 32) == (Field(8, 0, 0), Field(13, 4, -4))  # larger than the picture's rows


class Strided(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.a(x))
        return F.relu(x + self.b(x))


@pytest.mark.parametrize("size", [(12, 36), (36, 12), (20, 36)])
def test_oblong_pictures_and_sizes_that_a_part_has_seen_before(size):
    torch.manual_seed(0)
    net, x = load_network(Strided().double(), image_size=32), picture(*size) / 60
    assert list(net.features("a").shapes(*size)) == ["a"]
    maps = net.trace(x)["b"].maps[0]
    assert wrong(net, x, [Unit(0, "b", *strongest_unit(maps, map_)) for map_ in range(4)]) == []


def test_the_outline_is_the_outermost_layers_or_those_that_were_named(net):
    assert net.outline == ("stem", "pool", "block", "top")
    assert net.features("pool").outline == ("stem.0", "stem.1", "stem.2", "pool")  # stem and pool alone are too few
    assert residual(layers=["stem", "stem.0", "top"]).outline == ("stem.0", "stem", "top")
    resnet = load_network(torchvision.models.resnet18(), image_size=33)
    assert resnet.outline == ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


def test_a_map_alone_stands_for_its_strongest_unit(net):
    trace = net.trace(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)))
    places = [strongest_unit(maps, 3) for maps in trace["block"].maps]
    apart = [deconv(trace, "block", place)[i] for i, place in enumerate(places)]
    assert places[0] != places[1] and close(deconv(trace, "block", 3), torch.stack(apart), 1e-6)


class Patches(nn.Module):
    """Looks at the quarters of a picture one by one, as pictures of their own."""

    def __init__(self):
        super().__init__()
        self.quarter, self.whole = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 5, 3, padding=1)

    def forward(self, x):
        (top, bottom), n = x.chunk(2, 2), len(x)
        maps = F.relu(self.quarter(torch.cat([*top.chunk(2, 3), *bottom.chunk(2, 3)])))
        rows = [torch.cat([*half.split(n)], 3) for half in maps.split(2 * n)]
        return F.relu(self.whole(torch.cat(rows, 2)))


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_a_module_may_make_several_pictures_of_one(batch):
    torch.manual_seed(0)
    net, x = load_network(Patches().double(), image_size=16), picture(16, 16) / 60
    assert net.layers == ("whole",)  # of a quarter there are four times as many
    maps = net.trace(x)["whole"].maps[0]
    assert wrong(net, x, [Unit(0, "whole", *strongest_unit(maps, map_)) for map_ in range(5)], batch) == []


def test_projections_are_linear_and_their_variants_differ(net):
    trace = net.trace(picture(32, 32, n=2).float() / 60)
    unit = strongest_unit(trace["top"].maps[0])
    shown = deconv(trace, "top", unit)
    signal = alone(trace["top"].maps, unit)
    assert torch.equal(project(trace, "top", signal), shown)
    assert close(project(trace, "top", 3 * signal), 3 * shown, 1e-5)
    ways = [{"rectify": "none"}, {"rectify": "mask"}, {"sharing": "overwrite"}]
    ways += [{"switches": "centre"}, {"switches": "random"}]
    others = [project(trace, "top", signal, **way) for way in ways]
    for one, other in product(others, others):
        assert one is other or not torch.allclose(one, other)
    assert torch.equal(others[-1], project(trace, "top", signal, switches="random"))


@pytest.fixture(scope="module")
def resnet() -> ProbedNet:
    return load_network(made("resnet18"), image_size=32, layers=["layer1", "layer3"])  # in float64


def test_occlusion_equals_a_literal_loop(resnet):
    net, x, fill = resnet, picture(32, 32)[0] / 60, (0.5, -1.0, 0.0)
    for layer in net.layers:
        seen = occlude(net, x, size=9, stride=7, fill=fill, layer=layer)
        assert seen.map == net.trace(x[None])[layer].maps[0].amax((1, 2)).argmax()
        for (i, top), (j, left) in product(enumerate(range(0, 24, 7)), enumerate(range(0, 24, 7))):
            covered = x.clone()
            covered[:, top : top + 9, left : left + 9] = torch.tensor(fill).view(3, 1, 1)
            trace = net.trace(covered[None])
            assert seen.activity[i, j] == pytest.approx(trace[layer].maps[0, seen.map].sum().item(), rel=1e-5)
            assert seen.probability[i, j] == pytest.approx(trace.logits.softmax(1)[0, seen.target].item(), rel=1e-5)
            assert seen.label[i, j] == trace.logits.argmax()


def test_results_draw_themselves(net):
    pictures = [(torch.randint(256, (3, 32, 32), dtype=torch.uint8), 0) for _ in range(3)]  # a set without names
    x = torch.randn(1, 3, 8, 32)  # whose fields are oblong
    units = [Unit(0, "top", map_, 0, 3) for map_ in range(5)]
    found = deconv_units(net, x, units), strongest(net, pictures, k=2, layers=["top"])["top"]
    projections, mosaic = found[0].plot("units"), found[1].plot(net, pictures, [0, 4])
    occlusion = occlude(net, torch.randn(3, 32, 32), size=9, stride=9).plot()
    names = [[text.get_text() for text in figure.axes[0].texts] for figure in (projections, mosaic, occlusion)]
    assert names[0][0] == "units" and names[0][1].startswith("1: (0, ") and len(names[0]) == 6
    assert names[1][1:] == ["map 0", "map 4"] and names[2][0].startswith("activity of map ")
    for left, right, bottom, top in (image.get_extent() for image in projections.axes[0].images):
        assert (bottom - top) * 13 == pytest.approx((right - left) * 8, rel=0.02)


def keeping(self, x):
    self.maps = self.conv(x)
    sleep(0.01)  # meanwhile another thread would keep its own
    return self.end(self.maps)


@pytest.mark.parametrize("own", [None, keeping])
def test_strongest_equals_a_literal_search_for_any_number_of_threads(resnet, own):
    net, generator = load_network(Own(own).double(), 32) if own else resnet, torch.Generator().manual_seed(1)
    assert net.kept == ({"maps"} if own else set())
    pictures = torch.randint(256, (20, 3, 40, 40), generator=generator).to(torch.uint8)
    data = [(each, 0) for each in pictures]
    found = strongest(net, data, k=3)
    for layer, top in found.items():
        maps = torch.cat([net.trace(net.prepare(each[None]))[layer].maps for each in pictures])
        score, image = maps.amax((2, 3)).sort(dim=0, descending=True, stable=True)
        assert torch.equal(top.image, image[:3].T)
        assert close(top.score, score[:3].T, 1e-12)
        place = maps.flatten(2).argmax(2).gather(0, top.image.T).T
        assert torch.equal(top.row * maps.shape[3] + top.column, place)
    before = torch.get_num_threads()
    try:
        for n in (1, 3):
            torch.set_num_threads(n)
            again = strongest(net, data, k=3)
            assert all(torch.equal(again[layer].score, found[layer].score) for layer in found)
    finally:
        torch.set_num_threads(before)


def test_one_channel_is_seen_as_grey():
    net = residual(channels=1)
    grey = torch.randint(0, 256, (1, 1, 32, 32), dtype=torch.uint8).expand(-1, 3, -1, -1)
    x = net.prepare(grey)
    assert torch.equal(x, grey[:, :1] / 255)
    assert torch.equal(net.preparation.visible(x), grey)
    assert deconv(net.trace(x), "top", (0, 1, 1)).shape == (1, 1, 32, 32)
    assert occlude(net, x, size=16, stride=16).activity.shape == (2, 2)


TYPED = "class Base(Small):\n def forward(self, x): return {} * super().forward(x)\nclass Typed(Base): 0"


def test_the_module_stays_as_it_is_and_the_fingerprint_says_what_it_is():
    torch.manual_seed(0)
    module = Small().train()
    net, other = load_network(module, image_size=32), load_network(Small(), image_size=32)
    assert module.training and all(value.requires_grad for value in module.parameters())
    assert not module.stem._forward_hooks
    assert fingerprint(net) == fingerprint(load_network(module, image_size=32)) != fingerprint(other)
    others = []
    for factor in (2, 3):
        torch.manual_seed(0)
        exec(TYPED.format(factor), {"Small": Small}, made := {})
        others.append(made["Typed"]())
    others.append(deepcopy(others[0]))
    others[2].factor = -1.0
    assert len({fingerprint(load_network(each, image_size=32)) for each in others}) == 3
    part = net.features("block", side=24)
    assert (part.layers[-1], part.classes, part.preparation.crop) == ("block", 0, 24)
    assert fingerprint(part) != fingerprint(net)
    with pytest.raises(ZfnetError, match="made by its own code"):
        save_network(net, "never", {})


PICTURE = torch.zeros(1, 3, 32, 32)
TOKENS = nn.Sequential(nn.Flatten(2), nn.TransformerEncoderLayer(48, 2, batch_first=True))
ROWS = nn.Sequential(nn.Flatten(1, 2), nn.LSTM(32, 4, batch_first=True))
TOO_SMALL = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(9, 2))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: load_network(TOKENS, image_size=32), "sequential fails on pictures .*"),
        (lambda: load_network(ROWS, image_size=32), "no layer of sequential gives maps .*"),
        (lambda: load_network(nn.Linear(2, 2), image_size=2), "no layer of linear gives maps .*"),
        (lambda: load_network(TOO_SMALL, image_size=9), r"sequential fails .*; give an `image_size` that .*"),
        (lambda: residual().train().trace(PICTURE), r"small is in training mode, .*`net.eval\(\)` first"),
        (lambda: residual().trace(PICTURE)["conv9"], "small has no layer 'conv9' with maps; its layers are .*"),
        (lambda: residual(layers=["conv9"]), "small has no module 'conv9'; its modules are stem, .*"),
        (lambda: residual(layers=["head"]), r"head of small gives \[2, 4\], no maps .*; leave it out"),
        (lambda: descend(residual().trace(PICTURE), "top", PICTURE), "small is projected .*; use `project`"),
        (lambda: deconv_units(residual(), PICTURE / 0, [Unit(0, "top", 0, 0, 0)]), "the input holds NaN .*"),
        (lambda: residual().trace(PICTURE[:, :1]), r"small takes prepared pictures, .*\[n, 3, h, w\]; .*"),
    ],
)
def test_refusals_name_the_layer_and_the_remedy(call: Callable, sentence: str):
    with pytest.raises(ZfnetError, match=f"^{sentence}$"):
        call()
