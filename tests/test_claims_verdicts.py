"""Every threshold of the claims: numbers planted on both sides of it, and the verdict that has to follow."""

import json
import re
import tomllib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from planted import judged, number, plant, plant_seeds, plant_training, record

from zfnet_lib.files import results_root
from zfnet_lib.paper import fig4, grouping, records
from zfnet_lib.paper.claims import CLAIMS, features
from zfnet_lib.paper.claims.evidence import FAILS, HOLDS, NOT_RUN, UNDECIDED, UNTESTABLE
from zfnet_lib.paper.records import cell
from zfnet_lib.paper.setting import training_of
from zfnet_lib.training import TINY, snapshot_updates

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5")
VERDICTS = (HOLDS, UNDECIDED, FAILS, UNTESTABLE, NOT_RUN)

pytestmark = pytest.mark.usefixtures("results")


def asked_for(claim, values, half):
    """Yield numbers at all places that the rows of an entry ask for."""
    values, seen = iter(values), set()
    for row in CLAIMS[claim].numbers:
        place = {"of": row["of"]} | row.get("where", {})
        for where in (place, place | row.get("than", {})):
            where = {key: each if isinstance(each, list) else [each] for key, each in where.items()}
            asked = {*product(*where.values())}
            if asked <= seen:
                continue
            value = next(values)
            several = value if isinstance(value, list) else [value, value]
            for key in re.findall(r"{(\w+)}", row.get("name", "{layer}")):
                where.setdefault(key, LAYERS[-len(several) :] if key == "layer" else ["x"])
            for n, found in enumerate(product(*where.values())):
                if found not in seen:
                    seen.add(found)
                    places = dict(zip(where, found, strict=True))
                    yield number(places.pop("of"), several[n % len(several)], half, **places)
            seen |= asked


ROWS = tomllib.loads(Path(__file__).with_name("verdicts.toml").read_text())


@pytest.mark.parametrize(
    ("claim", "half", "values", "verdict"),
    [
        pytest.param(claim, cases["half"], values, verdict, id=f"{claim}-{verdict}-{values}")
        for claim, cases in ROWS.items()
        for verdict, key in zip(VERDICTS, ("holds", "undecided", "fails"), strict=False)
        for values in cases[key]
    ],
)
def test_numbers_that_an_entry_asks_for_give_their_verdict(claim, half, values, verdict):
    assert judged(claim, *asked_for(claim, values, half)).verdict == verdict


TABLE = []


def cases(claim, holds=(), undecided=(), fails=(), untestable=(), not_run=()):
    """Mark a function that plants, with the arguments that give each verdict of a claim."""

    def marked(plant):
        for verdict, given in zip(VERDICTS, (holds, undecided, fails, untestable, not_run), strict=True):
            for case in given:
                TABLE.append(pytest.param(claim, plant, case, verdict, id=f"{claim}-{verdict}-{case}"))
        return plant

    return marked


def three(error):
    return [error, error + 0.2, error - 0.2]


def over(key, quantity, values, half=0.0, **place):
    """Return numbers of one quantity, one for each value of a parameter."""
    return [number(quantity, value, half, **place, **{key: each}) for each, value in values.items()]


@cases("background-feature-grass", [(0, 9, 8)], [(0, 3), (0, 3, 0), (0, 3, 1)], [(0, 0), (0, 0, 0)])
def background(control, *counts):
    return [
        *over("seed", features.BACKGROUND, dict(enumerate(counts))),
        number(f"{features.BACKGROUND}, random weights", control),
        number(features.BEYOND, 30, map=7, seed=0),
    ]


@cases(
    "layer-5-objects-with-pose-variation",
    [(60, 1.3)],
    [(51, 1.3), (60, 1.15)],
    [(40, 1.3), (60, 0.6)],
    [(60, 1.3, 1.2)],
)
def objects(coverage, top, window=0.6):
    found = [number(features.WINDOW, window), number(features.COVERED, coverage, 2)]
    varied = dict(zip(LAYERS, (0.5, 0.7, 0.9, 1.1, top), strict=True))
    return found + over("layer", features.VARIATION, varied, 0.05)


MOMENTS = (1, 2, 5, 10, 20, 30, 40, 64)


@cases(
    "lower-layers-converge-early",
    [((10, 20, 40, 40, 64),)],
    [((20, 30, 40, 40, 64),), ((10, 20, 40, 20, 64),)],  # 3.4 to 5.1 of 12 epochs; in one span
    [((20, 30, 40, 20, 64),), ((20, 40, 40, 30, 64),)],  # upper ones before them
)
def settling(epochs):
    """Curves that reach 0.95 at an epoch, layer by layer, and stay there."""
    curves = product((fig4.ALIGNMENT, fig4.NEARNESS), zip(LAYERS, epochs, strict=True), MOMENTS)
    return [
        number(quantity, 0.95 if epoch >= at else 0.5, layer=layer, epoch=epoch)
        for quantity, (layer, at), epoch in curves
    ]


@cases(
    "upper-layers-develop-late",
    [((5, 10, 20, 64, 64),) * 2],
    # no control; it settles partly late; between 43 and 57 %
    [((5, 10, 20, 64, 64),), ((5, 10, 20, 64, 64), (5, 10, 20, 30, 64)), ((5, 10, 20, 40, 64),) * 2],
    [((5, 10, 20, 5, 64),) * 2, ((5, 10, 20, 64, 64), (5, 10, 20, 20, 30)), ((5, 10, 20, 20, 30),)],
)
def late(epochs, constant=()):
    plant(results_root("tiny") / features.EVOLUTION, settling(epochs))
    return settling(constant) if constant else []


@cases(
    "jumps-are-image-changes",
    [(70, 95)],
    [(45, 95), (70, 80), (70, 95, 0.9, 3), (70, 95, 0)],  # counting errs; base rate; one moment; none
    [(70, 60), (10, 95), (70, 95, 0.2)],  # the base rate is as high, in a layer; no less alike
)
def jumping(few, many, same=0.9, moment=0):
    found, maps, random = [], {}, np.random.default_rng(0)
    for layer in ("conv1", "conv2"):
        # Of six maps three change their picture at each step; projections change with it, or all at one moment.
        maps[layer] = []
        for map_ in range(6):
            pictures = [random.integers(0, 256, (4, 4, 3))]
            names = ["a"]
            for step in range(7):
                changes = (map_ + step) % 2 == 0
                new = step == moment if moment else changes
                pictures.append(random.integers(0, 256, (4, 4, 3)) if new else pictures[-1])
                names.append(f"{step}" if changes else names[-1])
            shown = np.stack(pictures).astype(np.uint8)
            maps[layer].append(fig4.Feature(map_, shown, [1.0] * 8, names, [(0, 0)] * 8))
    for layer, largest, base, n in (("conv1", few, 35, 700), ("conv2", many, 80, 9000)):
        found += [number(fig4.LARGEST, largest, n=n, layer=layer)]
        found += [number("share of steps", base, n=n, layer=layer, kind="other picture")]
        kept = {"same unit": same or 0.9} if same or layer == "conv2" else {}
        found += over("kind", "median cosine", kept | {"other picture": 0.3}, layer=layer)
    plant(file := results_root("tiny") / features.EVOLUTION, found)
    made = records.Stopwatch().provenance()
    shown = fig4.Development(range(8), maps, records.read(file), fig4.Source("net", "data", made))
    shown.save(file.parent, {"maps": 6, "seed": 0})
    return []


@cases(
    "train-until-fully-converged",
    [((0, 3), (0, 3))],
    [((3, 3), (0, 3)), ((0, 3), (0, 1)), ((0, 3), (0, 3), 0), ((0, 3), (0, 3), 5, ("zfnet", "krizhevsky"))],
    [((0, -2), (0, 3)), ((0, 3), (0, -2))],  # the control: no gain until the rate falls
)
def gaining(end, unchanged, fall=5, names=("zfnet", "krizhevsky", "krizhevsky-without-3-4")):
    for number_of, name in enumerate(names):
        plant_training(name)
        run = training_of("tiny", name)
        tops = [{"epoch": {"top1": 80.0 - fall * (epoch >= 4) + number_of / 2}} for epoch in range(12)]
        run.epochs_file.write_text("\n".join(map(json.dumps, tops)))
    found = []
    for place, layers in enumerate((LAYERS[:2], ("conv5", "fc6", "fc7"))):
        curve = {20: 40.0, 30: 40.0 + unchanged[place], 64: 40.0 + unchanged[place] + end[place]}
        for layer in layers:
            found += [number(fig4.PROBE, value, n=10_000, layer=layer, epoch=at) for at, value in curve.items()]
    return found


@cases(
    "invariance-grows-with-layer",
    [((0.97, 0.97, 0.2), (0.1, 0.1, -0.3))],
    [((0.97, 0.79, 0.2), (0.1,) * 3), ((0.97,) * 3, (0.1, 0.0, 0.0))],
    [((0.97, -0.5, -0.2), (0.1,) * 3)],
)
def invariant(*values):
    ways, found = ("shift", "scale", "turn"), []
    for quantity, half, of_ways in zip((features.RANKS, features.MORE), (0.02, 0.05), values, strict=True):
        found += over("way", quantity, dict(zip(ways, of_ways, strict=True)), half)
    shown = {features.INDEX: 0.5, "maximum kept": 90}
    places = product(shown.items(), ways, ("conv1", "fc7"))
    found += [number(quantity, value, layer=layer, way=way) for (quantity, value), way, layer in places]
    untrained = product({"conv1": 0.5, "fc7": 0.6}.items(), ways)
    return found + [number("with random weights", each, layer=layer, way=way) for (layer, each), way in untrained]


@cases(
    "features-far-from-random",
    [((0.8, 0.7, 0.7), (2.5, 3.0, 2.9))],
    [((0.8, 0.7, 0.82), (2.5, 3.0, 2.5)), ((0.8, 0.79, 0.7), (2.5, 3.0, 2.9))],
    [((0.6, 0.7, 0.5), (2.5, 3.0, 2.9))],
)
def coherent(*values):
    found, kinds = [], ("trained", "untrained", features.COMBINED)
    shape, colour = map(grouping.LIKE.format, ("shape", "colour"))
    asked = zip((shape, grouping.ENTROPY, colour), (0.02, 0.1, 0.1), (*values, (0.5,) * 3), strict=True)
    for (quantity, half, of), layer in product(asked, LAYERS[2:]):
        found += over("of", quantity, dict(zip(kinds, of, strict=True)), half, layer=layer)
    return found


@cases(
    "few-filters-dominate-without-clipping",
    [((6.0, 6.0, 3.0), (1.5, 1.9, 1.5))],
    [((6.0,), (1.5,))],
    [((6.0, 4.9, 3.0), (1.5,) * 3), ((6.0,) * 3, (2.1,) * 3)],
    not_run=[((), (1.5,))],
)
def ratios(free, bound):
    for clip, found in (("none", free), ("all", bound)):
        for seed, ratio in enumerate(found):
            plant_training("zfnet", seed, clip, rms={"conv1": [0.02, 0.02 * ratio]})


@cases("scale-clipping-is-crucial", [(55.0,)], [(55.0, 0.1), (50.0,)], [(49.0,)])
def clipped(none, second=0.03):
    for clip, error in {"all": 50.0, "none": none}.items():
        rms = {"conv1": [0.04, 0.1], "conv2": [0.01, second]}
        plant_seeds("zfnet", three(error), "val1", clip=clip, rms=rms)


@cases(
    "crops-and-flips-help",
    [(three(60.0),), ([60.0],)],  # one training beside three has their spread
    [([60.0], 5.0, 1), (three(60.0), 45.0)],
    [(three(40.0),)],
    not_run=[([],)],
)
def views(centre, train=5.0, seeds=3):
    plant_seeds("zfnet", three(50.0)[:seeds], "val1", train=30.0)
    plant_seeds("zfnet", centre, "val1", train=train, views="centre")


@cases("smaller-stem-lower-error", [(20, 21, 22)], [(20, 24, 28), (20,)], [(29, 30, 31)], not_run=[()])
@cases("ours-beats-krizhevsky-single", [(20, 21, 22)], [(20,)], [(29, 30, 31)])
def stems(*ours):
    for seed, (five, theirs) in enumerate(zip(ours, (25, 26, 27), strict=False)):
        plant_training("zfnet", seed, val5=five, val1=five + 20)
        plant_training("krizhevsky", seed, val5=theirs, val1=theirs + 20)


@cases("fc-removal-gives-slight-increase", [(21, 22, 40)], [(21, 22, 22)], [(23, 27, 29)])
@cases("middle-conv-removal-relatively-small", [(21, 22, 40)], fails=[(23, 27, 29)])
@cases("removing-both-is-dramatic", [(21, 22, 40)], [(21, 22, 40, 5.0, 1)], [(23, 27, 29), (21, 22, 40, 5.0)])
@cases("depth-not-any-single-section", [(21, 22, 40)], [(21, 22, 40, 60.0, 1), (21, 30.3, 40)], [(21, 39, 40)])
def removals(dense, convs, both, train=60.0, seeds=3):
    for name, error in {"": 20, "-without-6-7": dense, "-without-3-4": convs, "-without-7": 20.5}.items():
        plant_seeds(f"krizhevsky{name}", three(error)[:seeds])
    plant_seeds("krizhevsky-without-3-4-6-7", three(both)[:seeds], train=train)


WIDTHS = ("zfnet-fc-2048", "zfnet-fc-8192", "krizhevsky-fc-2048", "krizhevsky-fc-8192")


@cases(
    "fc-width-makes-little-difference",
    [()],
    [(20.0, 21.0), (20.0, 30.0, WIDTHS[::2])],  # what was trained of the four decides where it fails
    [(18.0,), (18.0, 30.0, WIDTHS[:2])],
    not_run=[(20.0, 30.0, ())],
)
def widths(enlarged=20.0, both=30.0, trained=WIDTHS):
    plant_seeds("krizhevsky-without-3-4-6-7", three(both))
    for name in ("zfnet", "krizhevsky", *trained):
        plant_seeds(name, three(enlarged if name == "zfnet-fc-8192" else 20.0))


@cases("larger-middle-layers-help", [(18.0,)], fails=[(21.0,)])
@cases("enlarging-both-over-fits", [(18.0,)], fails=[(18.0, 17.0), (18.0, 19.0, 10.0)])
def enlarged(middle, both=19.0, gap=29.0):
    names = {"zfnet": 20.0, "zfnet-fc-8192": 20.0, "zfnet-maps-512-1024-512": middle}
    for name, error in (names | {"zfnet-fc-8192-maps-512-1024-512": both}).items():
        lead = 20 - gap if name not in names else 5
        for seed, five in enumerate(three(error)):
            plant_training(name, seed, val5=five, val1=five + 20, train=five + lead)


@cases("ensemble-gain", [(22.0,)], [(24.3,), (22.0, 1)], [(28.0,)])
def ensembles(five, seeds=3):
    plant_seeds("zfnet", three(25.0)[:seeds])
    plant_training("zfnet-fc-2048", val5=40.0)  # a worse one: what counts is the gain over those that are averaged
    members = [training_of("tiny", "zfnet", seed).name for seed in range(seeds)]
    found = [
        record("val top-5 error", value, "%", parameters={"views": 1, "networks": names})
        for names, value in ((members, five), ([*members, training_of("tiny", "zfnet-fc-2048").name], 22.0))
    ]
    records.store(results_root("tiny") / "errors" / "ensembles.jsonl", found)


@cases("seventy-epochs-twelve-days", untestable=[()])
@cases("transposed-filters-are-flips", [()])
@cases("fc-layers-hold-most-parameters", [()])
@cases("replication-within-0-1", untestable=[()])
def nothing():
    """What rests on arithmetic, or has no trainings here."""


@pytest.mark.parametrize(("claim", "plant", "case", "verdict"), TABLE)
def test_planted_numbers_give_their_verdict(claim, plant, case, verdict):
    assert judged(claim, *(plant(*case) or ())).verdict == verdict


def test_notes_name_what_is_missing_and_numbers_what_was_counted():
    assert judged("input-range-128").note == "`zfnet claims --profile tiny --live input-range-128`; minutes"
    plant_training("zfnet", rms={"conv1": [0.02, 0.09], "conv2": [0.01, 0.03]})
    free = judged("scale-clipping-is-crucial")
    assert free.verdict == UNTESTABLE and "largest RMS, 0.09, is that of conv1" in free.note
    rates = judged("seventy-epochs-twelve-days").numbers.values()
    assert [round(each.value, 2) for each in rates] == [87.77, 1.17, 80.0]
    assert "`zfnet train --table 1 --data tiny-imagenet --recipe tiny`; about" in judged("ensemble-gain").note
    plant_training("zfnet", 1)
    assert judged("ensemble-gain").note.endswith("--recipe tiny`; minutes")  # of what is trained already
    clipped(55.0)
    assert "the same training" in judged("scale-clipping-is-crucial").note
    assert "--views centre`; about 4.2 h on two cores" in judged("crops-and-flips-help").note
    stems(20, 21, 22)
    single = judged("ours-beats-krizhevsky-single")
    assert single.numbers["reduction"].value == pytest.approx(100 * 5 / 26)
    assert single.note.startswith("Spread between seeds 0.") and "`krizhevsky` 1.00 (n = 3)" in single.note
    removals(23, 27, 29)
    plant_training("zfnet", 1, val5=0.0)  # has odds, too
    steps = judged("depth-not-any-single-section").numbers.values()
    assert [round(each.value, 1) for each in steps] == [-2.0, 4.0, 2.0, 20.0, 20.5, 27.0, 23.0]
    assert judged("removing-both-is-dramatic").numbers["interaction, top-5"].value == pytest.approx(-1)
    dense = judged("fc-layers-hold-most-parameters").numbers["zfnet, 224 pixels"]
    assert dense.value == pytest.approx((9217 + 4097) * 4096 / 62357608)
    assert judged("transposed-filters-are-flips").n == "10"
    lead = judged("jumps-are-image-changes", *jumping(70, 100)).numbers["conv2, above all steps"]
    assert (lead.value, lead.n) == (20, 900) and 0 < lead.low < lead.value < lead.high
    late((5, 10, 20, 40, 64))
    (results_root("tiny") / "claims" / "upper-layers-develop-late.jsonl").unlink(missing_ok=True)
    note = judged("upper-layers-develop-late").note
    assert "`zfnet train zfnet --data tiny-imagenet --recipe tiny --rate constant`, about 4.2 h" in note
    assert [TINY.rate_in(epoch, []) < TINY.rate for epoch in (7, 8)] == [False, True]
    at = snapshot_updates(455, 9360)  # of the training that ships; the rate is unchanged from epoch 20 to 30 of 70
    assert at[30] <= 7 * 780 < at[40]
    early = judged("lower-layers-converge-early", *settling((10, 20, 40, 40, 64))).note
    assert "Of 70 epochs: epochs 9 to 19 for layers 1 and 2." in early
    for dense, falls in ((21, False), (19, True)):
        removals(dense, 22, 40)
        assert ("does not rise" in judged("fc-removal-gives-slight-increase").note) == falls
    only_random = coherent((0.8, 0.7, 0.82), (2.5, 3.0, 2.5))
    assert "no special axes" in judged("features-far-from-random", *only_random).note


def test_cells_are_found_by_row_and_network():
    assert cell(1, "Our replication", "val_top5") == 18.1
    assert cell(2, "Adjust layers 6,7: 2048 units", "val_top5", "ours") == 17.6
    with pytest.raises(LookupError, match="Table 2 has no row 'Removed layer 9'"):
        cell(2, "Removed layer 9", "val_top5")


def test_printed_numbers_agree_or_not_as_the_tables_say():
    found = {name: claim.agreement for name, claim in CLAIMS.items() if claim.printed}
    wrong = "fc-removal-gives-slight-increase pretrained-beats-best-caltech-101 all-layers-give-best-results"
    assert len(found) == 20
    assert {name for name, (agrees, _) in found.items() if agrees == "inconsistent"} == {*wrong.split()}
    for name, arithmetic in {
        "fc-removal-gives-slight-increase": "+4.3 points, 23.8 % of the error",
        "seventy-epochs-twelve-days": "87.8 images/s, 710,938 updates",
        "removing-both-is-dramatic": "+32.0 against +4.0 and +4.3 points",
        "pretrained-beats-scratch": "+61.0, +40.0; +56.7, +48.1, +41.5, +35.4",
        "pascal-transfers-less-well": "3.2 below [27], 3.8 below [21]; Bird, Boat, Cat",
        "replication-within-0-1": "top-5 differs by 0.1, top-1 by 0.2",
    }.items():
        assert found[name][1].startswith(arithmetic)
