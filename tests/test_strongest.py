"""The search for the strongest units: literal searches, any split and order, kills, damage, and bad input."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import Pictures, plain
from strategies import specs
from torch import Tensor

from zfnet_lib import MINI, ConvNet, Ranking, TopUnits, ZfnetError, open_dataset, strongest
from zfnet_lib.architecture import ArchSpec, Field
from zfnet_lib.datasets import pack_in_memory
from zfnet_lib.images import Preparation
from zfnet_lib.strongest import ARRAYS, CANDIDATE, Candidates, Crops

BROKEN = (2, 7, 8, 9, 10, 11)


def noise(n: int, side: int = 64, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, 3, side, side), generator=generator, dtype=torch.uint8)


def content(ranking: Ranking) -> bytes:
    """Return everything that a ranking holds."""
    arrays = [getattr(top, name).numpy().tobytes() for top in ranking.values() for name in ARRAYS]
    return b"".join(arrays) + repr((list(ranking), ranking.pictures, ranking.left_out)).encode()


def literal_search(net: ConvNet, pictures: Tensor, images: list[int], layer: str, k: int) -> list[list[tuple]]:
    """Look at every unit of every picture in plain loops: per map the k best pictures with their best place."""
    x = net.prepare(pictures).to(net.conv1.weight.dtype)
    maps = {image: net.trace(x[image : image + 1])[layer].maps[0].tolist() for image in images}
    best = []
    for number in range(net.spec[layer].maps):
        places = []
        for image in images:
            units = ((v, r, c) for r, line in enumerate(maps[image][number]) for c, v in enumerate(line))
            score, row, column = min(units, key=lambda unit: (-unit[0], *unit[1:]))
            places.append((score, image, row, column))
        best.append(sorted(places, key=lambda place: (-place[0], place[1]))[:k])
    return best


def found(ranking: Ranking, layer: str) -> list[list[tuple]]:
    """Return what a ranking holds in the form of the literal search."""
    values = [getattr(ranking[layer], name).tolist() for name in ARRAYS]
    return [list(zip(*(value[number] for value in values), strict=True)) for number in range(len(values[0]))]


def whole_numbers(spec: ArchSpec, side: int, rng: np.random.Generator) -> ConvNet:
    """Return a float64 network in which nothing is rounded, so that equal units tie."""
    net = ConvNet(spec, replace(Preparation.grey(side), short_side=side)).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.from_numpy(rng.integers(-1, 2, tuple(parameter.shape))))
    return net


# ---- against a literal search --------------------------------------------------------------------------------


@given(specs(normalised=False), st.integers(0, 10**6), st.integers(1, 5), st.data())
def test_strongest_equals_a_literal_search_with_ties(spec, seed, n, data):
    rng = np.random.default_rng(seed)
    side = spec.smallest() + int(rng.integers(0, 9))
    net = whole_numbers(spec, side, rng)
    pictures = torch.from_numpy(rng.integers(127, 130, (n, 3, side, side)).astype(np.uint8))
    pictures = pictures[torch.from_numpy(rng.integers(0, n, n))]
    images = sorted(data.draw(st.sets(st.integers(0, n - 1), min_size=1)))
    k, batch = data.draw(st.integers(1, len(images))), data.draw(st.integers(1, 4))
    ranking = strongest(net, Pictures(pictures), k, rows=images[::-1], batch=batch)
    assert ranking.pictures == len(images)
    for conv in spec.convs:
        assert found(ranking, conv.name) == literal_search(net, pictures, images, conv.name, k)


@pytest.mark.parametrize("batch", [1, 32])
def test_float32_scores_are_those_of_a_literal_search(batch):
    net, pictures = ConvNet(MINI, seed=1).eval(), noise(11)
    ranking = strongest(net, Pictures(pictures), 3, ["conv5", "conv2"], batch=batch)
    assert list(ranking) == ["conv5", "conv2"]
    for layer, top in ranking.items():
        expected = torch.tensor(literal_search(net, pictures, list(range(11)), layer, 3))
        assert torch.allclose(top.score, expected[..., 0], rtol=1e-4, atol=1e-7)  # which are float32, too


def test_a_planted_pattern_is_found_in_all_nine():
    """A filter made of a pattern fires strongest where the pattern was put, in the nine pictures that have it."""
    net, pictures = ConvNet(MINI).eval(), noise(40, seed=5) // 3 + 85
    pattern = (noise(1, 7, seed=6)[0] > 127) * 255
    places = {image: (2 * (image % 5 + 3), 2 * (image % 7 + 4)) for image in range(3, 39, 4)}
    for image, (top, left) in places.items():
        pictures[image, :, top : top + 7, left : left + 7] = pattern
    net.preparation = plain(64, 64, 128.0)
    with torch.no_grad():
        net.conv1.weight[5] = (pattern - 127.5) / 127.5
    units = strongest(net, Pictures(pictures), 9, ["conv1"])["conv1"].units(5)
    assert {unit.image: (2 * unit.row, 2 * unit.column) for unit in units} == places


def repetitions(units: TopUnits, windows: Tensor, short_side: int) -> int:
    """Count pairs of units of conv2 in one photograph that are too near, and units where it has more than three."""
    photograph, top, left, side = windows[units.image].unbind(-1)
    pixel = side / short_side
    rows, columns = top + pixel * (17.5 + 8 * units.row), left + pixel * (17.5 + 8 * units.column)  # the centres
    count = 0
    for map_ in range(len(rows)):
        for i in range(rows.shape[1]):
            same = [j for j in range(rows.shape[1]) if j != i and photograph[map_, j] == photograph[map_, i]]
            count += len(same) > 2
            for j in same:
                apart = max(abs(values[map_, i] - values[map_, j]) for values in (rows, columns))
                count += bool(apart < 13.5 * max(pixel[map_, i], pixel[map_, j]))
    return count


def test_photographs_give_different_things():
    net, photos = ConvNet(MINI).eval(), open_dataset("photos", density=0.5)
    plain, varied = (strongest(net, photos, 9, ["conv2"], variety=v)["conv2"] for v in (False, True))
    windows, short_side = torch.tensor(photos.windows), net.preparation.short_side
    assert repetitions(plain, windows, short_side) > 0 == repetitions(varied, windows, short_side)
    assert torch.equal(varied.score[:, 0], plain.score[:, 0]) and (varied.image >= 0).all()


# ---- which candidates are chosen: a literal greedy search with exact fractions, and any split ------------------

MAPS, NONE = 3, (-1, -1.0, -1, -1, -1)


def drawn(rng: np.random.Generator, pictures: int, scores: int, side: int) -> np.ndarray:
    """Return the candidate of every map in every picture; few different scores tie often."""
    units = np.empty(MAPS * pictures, CANDIDATE)
    units["map"], units["image"] = np.divmod(np.arange(len(units)), pictures)
    units["score"] = rng.integers(0, scores, len(units)) / 7
    units["row"], units["column"] = rng.integers(0, side, (2, len(units)))
    return units


@st.composite
def searches(draw) -> tuple[np.ndarray, Crops | None, int, np.random.Generator]:
    """Return candidates, crops of up to four photographs close to one another, k, and chance for splitting."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    pictures, crops = draw(st.integers(1, 40)), None
    units = drawn(rng, pictures, draw(st.sampled_from([1, 3, 30])), draw(st.integers(1, 7)))
    if draw(st.booleans()):
        photographs = rng.integers(0, rng.integers(1, 5), pictures)
        sides = rng.integers(14, 101, pictures) if rng.random() < 0.7 else np.full(pictures, 28)
        windows = np.stack([photographs, *rng.integers(0, 60, (2, pictures)), sides], axis=1)
        field = Field(*(int(n) for n in rng.integers((1, 1, -6), (20, 5, 1))))
        crops = Crops(windows, plain(28, int(rng.integers(14, 29))), field)
    return units, crops, draw(st.integers(1, 12)), rng


def literally_chosen(units: np.ndarray, crops: Crops | None, k: int) -> list[list[tuple]]:
    """Go through all candidates of each map, strongest first and earlier pictures first."""

    def seen(unit: np.void) -> tuple[int, Fraction, Fraction, Fraction]:
        """Return the photograph, and the centre and side of the field in the photograph's pixels."""
        photograph, top, left, side = (int(n) for n in crops.windows[unit["image"]])
        pixel = Fraction(side, crops.preparation.short_side)
        margin = (crops.preparation.short_side - crops.preparation.crop) // 2
        row, column = (
            start
            + pixel * (margin + crops.field.offset + crops.field.stride * int(n) + Fraction(crops.field.size, 2))
            for start, n in ((top, unit["row"]), (left, unit["column"]))
        )
        return photograph, row, column, pixel * crops.field.size

    def shows_something_else(unit: np.void, chosen: list) -> bool:
        photograph, row, column, side = seen(unit)
        same = [others for mine, *others in map(seen, chosen) if mine == photograph]
        return len(same) < 3 and all(max(abs(row - r), abs(column - c)) >= max(side, s) / 2 for r, c, s in same)

    table = []
    for map_ in range(MAPS):
        chosen: list = []
        for unit in sorted((u for u in units if u["map"] == map_), key=lambda u: (-u["score"], u["image"])):
            if len(chosen) < k and (crops is None or shows_something_else(unit, chosen)):
                chosen.append(unit)
        table.append([unit.tolist() for unit in chosen] + [NONE] * (k - len(chosen)))
    return table


def streamed(units: np.ndarray, crops: Crops | None, k: int, batch: int) -> Candidates:
    """Take up candidates batch by batch as a search does: only those that exceed the bound."""
    candidates, images = Candidates(MAPS, k, crops), np.unique(units["image"])
    for start in range(0, len(images), batch):
        part = units[np.isin(units["image"], images[start : start + batch])]
        candidates.add(part[part["score"] > candidates.bound[part["map"]]])
    return candidates


@given(searches(), st.integers(1, 9))
def test_what_is_chosen_equals_a_literal_greedy_search(search, batch):
    units, crops, k, _ = search
    assert streamed(units, crops, k, batch).strongest().tolist() == literally_chosen(units, crops, k)


@given(searches(), st.integers(1, 4))
def test_any_split_merges_to_the_same_bytes(search, shares):
    units, crops, k, rng = search
    share = rng.integers(0, shares, units["image"].max() + 1)
    parts = [streamed(units[share[units["image"]] == n], crops, k, 3) for n in range(shares)]
    merged = Candidates(MAPS, k, crops)
    for n in rng.permutation(shares):
        merged.add(parts[n].settle())
    whole = streamed(units, crops, k, 5)
    assert merged.settle().tobytes() == whole.settle().tobytes()
    assert merged.strongest().tobytes() == whole.strongest().tobytes()


def test_candidates_of_k_photographs_are_kept_however_many_there_are():
    rng, k, each = np.random.default_rng(0), 4, 3
    units = drawn(rng, 3000, 10**6, 5)
    windows = np.stack([np.arange(3000) // each, *rng.integers(0, 50, (2, 3000)), np.full(3000, 28)], axis=1)
    for crops, most in ((None, k), (Crops(windows, plain(28, 28), Field(7, 2, 0)), k * each)):
        candidates = streamed(units, crops, k, 16)
        assert len(candidates.units) <= 2 * MAPS * most
        kept = candidates.settle()
        assert all(k <= len(list(group)) <= most for _, group in groupby(kept["map"]))


def test_two_scales_of_one_thing_are_one_and_a_third_of_a_photograph_is_the_last():
    """Half a field is 5 pixels in crops of 20, and 10 in those of 40."""
    windows = {
        "the strongest, its centre at (5, 5)": (0, 0, 0, 20),
        "twice as large, its centre at (10, 14): 9 of 10 pixels away": (0, 0, 4, 40),
        "5 columns away": (0, 0, 5, 20),
        "4 rows away": (0, 4, 0, 20),
        "far away": (0, 0, 60, 20),
        "far away, the fourth": (0, 60, 0, 20),
        "another photograph": (1, 0, 0, 20),
    }
    candidates = Candidates(1, 6, Crops(np.array(list(windows.values())), plain(20, 20), Field(10, 1, 0)))
    units = np.zeros(len(windows), CANDIDATE)
    units["image"], units["score"] = np.arange(len(windows)), -np.arange(len(windows))
    candidates.add(units)
    assert candidates.strongest()["image"].tolist() == [[0, 2, 4, 6, -1, -1]]


def test_activations_that_are_not_finite_are_refused():
    net = ConvNet(MINI).eval()
    net.conv1.bias.data[0] = torch.nan
    with pytest.raises(ZfnetError, match=r"^the network gives NaN or infinite activations; load or train it again"):
        strongest(net, Pictures(noise(2)), 1)


# ---- the same bytes ------------------------------------------------------------------------------------------


def test_threads_and_packs_change_no_byte():
    net, pictures = ConvNet(MINI).eval(), Pictures(noise(40))
    expected, before = content(strongest(net, pictures)), torch.get_num_threads()
    pack = pack_in_memory(pictures, 64)
    pack.labels = np.ones((40, 20), np.int8)  # several of a picture, which are ignored
    try:
        for n, data in ((3, pictures), (1, pack)):
            torch.set_num_threads(n)
            assert content(strongest(net, data)) == expected
    finally:
        torch.set_num_threads(before)


PROCESSES = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
from torch import distributed
from test_strongest import BROKEN, MINI, ConvNet, Pictures, content, noise
from zfnet_lib import strongest
from zfnet_lib.machine import process_group
with process_group():
    ranking = strongest(ConvNet(MINI).eval(), Pictures(noise(30), BROKEN), batch=4, folder=Path(sys.argv[1]))
    Path(sys.argv[1], f"found-{{distributed.get_rank()}}").write_bytes(content(ranking))
"""


def test_two_processes_give_the_bytes_of_one(tmp_path):
    script = tmp_path / "search.py"
    script.write_text(PROCESSES.format(tests=str(Path(__file__).parent)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run([*command, str(script), str(tmp_path)], check=True, capture_output=True)
    expected = content(strongest(ConvNet(MINI).eval(), Pictures(noise(30), BROKEN), batch=4))
    assert [(tmp_path / f"found-{rank}").read_bytes() == expected for rank in (0, 1)] == [True, True]


# ---- stop and continue ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [0, 6, 15, 29])
def test_a_stopped_search_continues_to_the_same_bytes(stop, tmp_path):
    net, options = ConvNet(MINI).eval(), {"k": 4, "batch": 3, "folder": tmp_path, "every": 0.0}
    whole = content(strongest(net, Pictures(noise(30), BROKEN), 4, batch=3))
    with pytest.raises(KeyboardInterrupt):
        strongest(net, Pictures(noise(30), BROKEN, stop), **options)
    continued = Pictures(noise(30), BROKEN)
    assert content(strongest(net, continued, **options)) == whole
    assert min(continued.read) == next(i for i in range(stop // 3 * 3, 30) if i not in BROKEN)
    again = Pictures(noise(30), BROKEN)
    assert content(strongest(net, again, **options)) == whole and again.read == []


def test_other_weights_pictures_and_arguments_begin_anew(tmp_path):
    net = ConvNet(MINI).eval()
    coarser = ConvNet(MINI, net.preparation.resized(56)).features().eval()
    kinds = [
        (net, noise(12), {}),
        (ConvNet(MINI, seed=1).eval(), noise(12), {}),
        (coarser, noise(12), {}),
        (net, noise(12, seed=4), {}),
        (net, noise(12), {"k": 2}),
        (net, noise(12), {"layers": ["conv1"]}),
        (net, noise(12), {"rows": range(11)}),
        (net, noise(12), {"batch": 5}),
    ]
    for network, pictures, options in kinds:
        options = {"k": 3} | options
        kept = strongest(network, Pictures(pictures), **options, folder=tmp_path)
        assert content(kept) == content(strongest(network, Pictures(pictures), **options))
    assert len(list(tmp_path.glob("*.safetensors"))) == len(kinds)


# ---- bad input -----------------------------------------------------------------------------------------------


def test_unreadable_pictures_are_named_left_out_and_counted():
    net, pictures = ConvNet(MINI).eval(), noise(14)
    ranking = strongest(net, Pictures(pictures, BROKEN), 9, ["conv2"], batch=4)
    assert ranking.left_out == {i: f"{i}.png cannot be read" for i in BROKEN} and ranking.pictures == 8
    kept = [i for i in range(14) if i not in BROKEN]
    top = ranking["conv2"]
    assert all(sorted(images) == [-1, *kept] for images in top.image.tolist())
    assert (top.score[:, 8] == -1).all() and (top.score[:, :8] >= 0).all() and len(top.units(0)) == 8
    with pytest.raises(ZfnetError, match="has no map 99; choose one from 0 to"):
        top.units(99)
    alone = strongest(net, Pictures(pictures[kept]), 8, ["conv2"])["conv2"]
    assert torch.allclose(top.score[:, :8], alone.score, rtol=1e-5)
    with pytest.raises(ZfnetError, match=r"^none of the 3 pictures can be read: 0.png cannot be read$"):
        strongest(net, Pictures(noise(3), (0, 1, 2)), 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"k": 0}, r"^k = 0: the data set has 11 pictures, so k is a whole number from 1 to that$"),
        ({"k": 12}, r"^k = 12: the data set has 11 pictures, so k is a whole number from 1 to that$"),
        ({"k": 2.0}, r"^k = 2.0: the data set has 11 pictures, so k is a whole number"),
        ({"k": 2, "rows": [3, 3]}, r"^k = 2: the rows name 1 pictures, so k is a whole number from 1 to that$"),
        ({"rows": [True] * 11, "k": 1}, r"^rows are the numbers of pictures, no mask; give `mask.nonzero\(\)`"),
        ({"batch": 0}, r"^batch = 0: .* so batch is a whole number from 1$"),
        ({"rows": [], "k": 1}, r"^k = 1: the rows name 0 pictures"),
        ({"rows": [3, 11], "k": 1}, r"^rows from 3 to 11: the data set has rows 0 to 10$"),
        ({"layers": ["conv9"]}, r"^mini has no layer 'conv9'; its layers are conv1"),
        ({"layers": ["fc6"]}, r"^layer 'fc6' of mini has no maps; choose one of conv1"),
        ({"variety": True}, r"^squares does not say from where .* it was cut; leave variety out$"),
    ],
)
def test_bad_requests_get_one_sentence(options, sentence):
    with pytest.raises(ZfnetError, match=sentence):
        strongest(ConvNet(MINI).eval(), Pictures(noise(11)), **options)


def test_a_folder_needs_pictures_that_can_be_told_from_others(tmp_path):
    with pytest.raises(ZfnetError, match=r"^only a data set with a fingerprint can be continued; "):
        strongest(ConvNet(MINI).eval(), [(noise(1)[0], 0)], 1, folder=tmp_path)
