"""Weights on disk: what is saved comes back, what is damaged is refused in one sentence."""

import json
import re
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock
from urllib.error import URLError

import pytest
import torch
import torchvision
from layouts import names
from oracles import lively
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from zfnet_lib import MINI, ConvNet, ZfnetError, load_network, save_network
from zfnet_lib.files import seal, sha256
from zfnet_lib.images import Preparation
from zfnet_lib.weights import known_classes, open_network, read_meta

RECORD = {"source": "a test", "classifier": True}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_network(ConvNet(MINI), tmp_path / "saved", RECORD)


def test_a_network_comes_back_with_its_bytes_its_spec_and_its_preparation(data):
    ramp = torch.arange(3 * 72 * 72.0).view(3, 72, 72) / 64
    net = lively(replace(MINI, name="mine")).float().train()
    net.preparation = Preparation(72, 64, ramp, torch.full((3, 1, 1), 2.5))
    folder = save_network(ConvNet(MINI), data / "weights" / "mine", {})
    (folder / "stray").write_text("old")
    save_network(net, folder, RECORD)
    back = load_network("mine")
    assert (back.spec, back.training) == (net.spec, False)
    for name, value in net.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
    assert all(parameter.requires_grad for parameter in back.parameters())
    image = Image.effect_noise((90, 80), 80)
    assert torch.equal(back.prepare(image), net.prepare(image))
    assert read_meta(folder)["record"] == RECORD
    assert names(folder) == ["SHA256SUMS", "meta.json", "weights.safetensors"]
    assert [each.name for each in folder.parent.iterdir()] == ["mine"]


def test_half_precision_and_eight_bits_round_no_further_than_a_half_and_half_a_step(tmp_path):
    net = lively(replace(MINI, name="mine")).float()
    with torch.no_grad():
        net.fc7.weight[3] = 0
    back, sizes = {}, {}
    for stored in ("float32", "float16", "int8"):
        folder = save_network(net, tmp_path / stored, {}, stored)
        back[stored], sizes[stored] = load_network(folder), (folder / "weights.safetensors").stat().st_size
        assert {value.dtype for value in back[stored].state_dict().values()} == {torch.float32}
        assert torch.equal(back[stored].preparation.mean, net.preparation.mean)
    for name, value in net.state_dict().items():
        assert torch.equal(back["float16"].state_dict()[name], value.half().float())
        eighth = back["int8"].state_dict()[name]
        if value.ndim != 2:
            assert torch.equal(eighth, value.half().float())
        else:  # each unit's largest weight is 127 steps
            step = value.abs().amax(1, keepdim=True) / 127
            assert ((value - eighth).abs() <= 0.501 * step + 1e-12).all()
    assert not back["int8"].fc7.weight[3].any()
    dense = sum(net.get_submodule(name).weight.numel() for name in ("fc6", "fc7", "fc8"))
    assert 0.5 < sizes["float16"] / sizes["float32"] < 0.52
    assert sizes["float16"] - dense < sizes["int8"] < sizes["float16"] - dense + 20_000


def test_modules_are_taken_as_they_are_or_adapted():
    net = ConvNet(MINI)
    assert load_network(net) is net
    for options in ({"image_size": 32}, {"layers": ["conv1"]}, {"preparation": net.preparation}):
        with pytest.raises(ZfnetError, match=r"^mini is a network already; leave image_size, .* out$"):
            load_network(net, **options)
    module = nn.Sequential(nn.Conv2d(3, 4, 7, stride=16), nn.ReLU())
    assert torch.equal(load_network(module).conv1.weight, module[0].weight)


OWN = """
from beside import MAPS
from torch import nn

def make():
    return nn.Sequential(nn.Conv2d(3, MAPS, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(MAPS, 4, 3), nn.ReLU())
def nothing(): return {}
def failing(): raise KeyError("no data")
"""


@pytest.fixture
def own(tmp_path, monkeypatch) -> Path:
    """A working folder with functions that make networks, and files of weights for them, whole and damaged ones."""
    monkeypatch.chdir(tmp_path)
    for name, text in {"own": OWN, "beside": "MAPS = 6", "broken": "def ("}.items():
        Path(f"{name}.py").write_text(text)
    state = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 3)).state_dict()
    torch.save(state, "whole.pt")
    save_file(state, "whole.safetensors")
    Path("cut.pt").write_bytes(Path("whole.pt").read_bytes()[:900])
    Path("cut.safetensors").write_bytes(Path("whole.safetensors").read_bytes()[:900])
    torch.save(state | {"3.bias": torch.zeros(5)}, "wide.pt")
    torch.save({"weight": torch.zeros(2)}, "other.pt")
    torch.save([1, 2], "list.pt")
    torch.save(nn.Linear(2, 2), "module.pt")
    return tmp_path


def test_modules_of_ones_own_and_of_torchvision_take_files_or_random_weights(own):
    saved = torch.load("whole.pt", weights_only=True)
    for file in ("whole.pt", "whole.safetensors"):
        net = open_network("own.py:make", Path(file), image_size=40)
        assert torch.equal(net.conv2.weight, saved["3.weight"]) and net.preparation.crop == 40
    assert not torch.equal(open_network("own.py:make").conv2.weight, saved["3.weight"])
    assert open_network("own.py:make", layers=["3"]).layers == ("3",)
    before = torch.random.get_rng_state()
    first, again = (open_network("torchvision:squeezenet1_1", random=True, image_size=40) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (first.name, first.image_size, first.classes) == ("squeezenet1_1", 40, 1000)
    assert all(map(torch.equal, first.parameters(), again.parameters()))
    del (state := first.module.state_dict())["classifier.1.bias"]
    torch.save(state, "some.pt")
    said = r"some.pt holds .*: classifier.1.bias is missing, torchvision:squeeze.* has"
    with pytest.raises(ZfnetError, match=said):
        open_network("torchvision:squeezenet1_1", Path("some.pt"))


def test_torchvisions_own_weights_bring_their_preparation_and_their_classes(monkeypatch):
    module = torchvision.models.shufflenet_v2_x0_5()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda url, **_: module.state_dict())
    net = open_network("torchvision:shufflenet_v2_x0_5")
    assert torch.equal(net.module.fc.weight, module.fc.weight)
    assert (net.preparation.short_side, net.preparation.crop) == (256, 224)
    assert net.preparation.scale.flatten()[0] == pytest.approx(255 * 0.229)
    assert known_classes("torchvision:shufflenet_v2_x0_5")[0] == "tench" and known_classes("own.py:make") == ()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", Mock(side_effect=URLError("cut")))
    said = r"^torchvision's weights of .* are out of reach \(.*cut.*\); give .* by --weights FILE, .* by --random$"
    with pytest.raises(ZfnetError, match=said):
        open_network("torchvision:shufflenet_v2_x0_5")


def test_a_stored_network_takes_another_size_and_random_weights(saved):
    folder = str(saved)
    assert open_network(folder).classes == 16
    part = open_network(folder, image_size=96, layers=["conv2"])
    assert (part.classes, part.preparation.crop) == (0, 96)
    assert torch.equal(open_network(folder, random=True).conv1.weight, ConvNet(MINI, seed=0).conv1.weight)


@pytest.mark.parametrize(
    ("text", "weights", "sentence"),
    [
        ("own.py:make", "absent.pt", "there is no file absent.pt; give one with the weights of own.py:make"),
        ("own.py:make", "cut.pt", "cut.pt cannot be read as a state dict (.*); write it by `torch.save.*"),
        ("own.py:make", "cut.safetensors", "cut.safetensors cannot be read as a state dict (.*); write it by .*"),
        ("own.py:make", "own.py", r"own.py cannot be .* \(it is damaged, or holds more than tensors\); .*"),
        ("own.py:make", "module.pt", r"module.pt cannot be .* \(it is damaged, or holds more than tensors\); .*"),
        ("own.py:make", "list.pt", "list.pt holds no state dict, a tensor for each name; write it by .*"),
        ("own.py:make", "wide.pt", r"wide.pt holds .*: 3.bias is \[5\], own.py:make has \[4\]"),
        ("own.py:make", "other.pt", r"other.pt holds .*: 0.bias is missing, own.py:make has \[6\]"),
        ("own.py:nothing", "", "own.py:nothing returns a dict; let it return a torch.nn.Module"),
        ("own.py:failing", "", r"own.py:failing fails \(KeyError: 'no data'\); mend that file"),
        ("own.py:mak", "", r"own.py has no function 'mak'; did you mean own.py:make\?"),
        ("own.py", "", "own.py has no function ''; give the name of a function without arguments"),
        ("broken.py:make", "", r"broken.py:make fails \(SyntaxError: .*\); mend that file"),
        ("absent.py:make", "", "there is no file absent.py; `FILE.py:FUNCTION` names a function that returns .*"),
        ("torchvision:resnt18", "", "torchvision has no network 'resnt18'; did you mean resnet18.*"),
        ("torchvision:zzzzzz", "", "torchvision has no network 'zzzzzz'; it has alexnet, .*"),
    ],
)
def test_texts_and_files_that_name_no_network_are_one_sentence(own, text, weights, sentence):
    with pytest.raises(ZfnetError, match=rf"\A{sentence}\Z"):
        open_network(text, Path(weights) if weights else None)


def refused(source, sentence: str) -> None:
    with pytest.raises(ZfnetError, match=rf"\A{sentence}\Z"):
        load_network(source)


def test_weights_of_another_kind_changed_and_missing_ones_are_refused(saved):
    path, meta = saved / "weights.safetensors", json.loads((saved / "meta.json").read_text())
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    again = "; fetch or save the weights again"
    refused(saved, rf"{path} is truncated or was changed \(its SHA-256 differs from meta.json\){again}")
    (saved / "meta.json").write_text(json.dumps(meta | {"sha256": sha256(path)}))
    seal(saved)
    refused(saved, rf"{path} is no safetensors file \(.*\){again}")
    path.unlink()
    refused(saved, f"{path} is missing{again}")


@pytest.mark.parametrize("content", [b"", b"[1]", b"7", b"\xff\xfe", b'{"format": 1}'])
def test_damaged_meta_is_refused(saved, content):
    (saved / "meta.json").write_bytes(content)
    refused(saved, r".*meta.json is damaged \(the SHA-256 of .*\); fetch or save the weights again")
    seal(saved)
    refused(saved, r".*meta.json is damaged \(.*\); fetch or save the weights again")


def conv(layer: int, **changes) -> dict:
    """Return meta with something changed in a convolutional layer of `MINI`."""
    spec = MINI.to_dict()
    spec["convs"] = [each | changes if i == layer else each for i, each in enumerate(spec["convs"])]
    return {"spec": spec}


ONES = torch.ones(3, 1, 1)
MADE_UP = "meta.json is damaged (this is no architecture of zfnet_lib: "
OTHER = " holds weights of another architecture: "
UNSAID = " does not say how pictures are prepared; save the network again"
REFUSED = {
    "meta.json is damaged (": [
        *({"record": record} for record in (None, {"classes": "cat"}, {"classes": [1, 2]})),
        *({"base": base} for base in ("alexnet", {"name": "alexnet"})),
        *({"base": {"name": name, "sha256": ""}} for name in (3, "../../elsewhere", "saved")),
        {"sha256": 12},
        {"spec": "mini"},
    ],
    MADE_UP: [conv(0, kernel=None), conv(1, maps=10**12), conv(0, pool=7), conv(0, name="../x")],
    "meta.json is damaged (no layer can have this name: ": [conv(0, name="forward"), conv(0, name="features.0")],
    " has format 99, this version reads 1; save it again": [{"format": 99}],
    OTHER + "conv2.bias is [32], mini has [44]": [conv(1, maps=44)],
    OTHER + "fc7.bias is missing, mini has [512]": [{"fc7.bias": None}],
    OTHER + "extra is [2], mini has no such layer": [{"extra": torch.zeros(2)}],
    " holds NaN or infinite values in fc6.bias; fetch the weights again": [
        {"fc6.bias": torch.full((512,), value)} for value in (torch.nan, torch.inf)
    ],
    UNSAID: [{"preparation.scale": None}, {"preparation": None}, {"preparation": {"crop": 64}}],
    " prepares pictures with a crop of ": [
        {"preparation": {"short_side": 73, "crop": n}} for n in (0, 99, "64", 64.0)
    ],
    " prepares pictures with a mean [": [
        {"preparation.mean": mean} for mean in (torch.zeros(3, 5, 5), torch.zeros(73, 73), ONES * torch.nan)
    ],
    " prepares pictures with a scale [": [
        {"preparation.scale": scale}
        for scale in (torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1), -ONES, ONES * torch.inf, torch.ones(3))
    ],
}
"""By what the sentence holds: changes of tensors (by their names, with a dot or of one), or else of the meta."""


@pytest.mark.parametrize(("sentence", "changes"), [(said, each) for said, some in REFUSED.items() for each in some])
def test_what_cannot_be_is_refused_even_with_the_right_hashes(saved, sentence, changes):
    path, meta = saved / "weights.safetensors", json.loads((saved / "meta.json").read_text())
    tensors = {name: value for name, value in changes.items() if "." in name or torch.is_tensor(value)}
    kept = {name: value for name, value in (load_file(path) | tensors).items() if value is not None}
    save_file(kept, path)
    others = {name: value for name, value in changes.items() if name not in tensors}
    (saved / "meta.json").write_text(json.dumps(meta | {"sha256": sha256(path)} | others))
    seal(saved)
    refused(saved, f".*saved/?{re.escape(sentence)}.*")


def test_unknown_names_and_folders_without_weights_are_refused(data, tmp_path, saved):
    refused("zfent", r"there are no weights 'zfent'; did you mean zfnet-tiny\?")
    refused("alexnet", r"there are no weights 'alexnet'; did you mean alexnet-imagenet, or torchvision:alexnet\?")
    refused("vgg16-imagenet", "the weights 'vgg16-imagenet' are not here; `zfnet fetch vgg16-imagenet` brings them")
    save_network(ConvNet(MINI), data / "weights" / "mine", {})
    refused("zzz", "there are no weights 'zzz'; here are .*mine.*; .*; torchvision:NAME, .* name others")
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "absent", str(tmp_path / "empty"), saved / "weights.safetensors"):
        refused(place, rf"{place} holds no weights \(meta.json is missing\); give a folder .*")
    refused(Path("vgg16-imagenet"), "the weights .* are not here; `zfnet fetch vgg16-imagenet` brings them")
    for place in (".", ".."):
        with pytest.raises(ZfnetError, match=rf"^{place} would be replaced as a whole; name a new folder in it$"):
            save_network(ConvNet(MINI), place, {})
    for kind, base, sentence in (
        ("int4", "", "stored='int4': choose one of float32"),
        ("int8", "a/b", "the base 'a/b'"),
    ):
        with pytest.raises(ZfnetError, match=rf"^{sentence}"):
            save_network(ConvNet(MINI), tmp_path / "mine", {}, kind, base)
