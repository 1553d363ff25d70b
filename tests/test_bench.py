"""Benchmarks compare equal results and do their arithmetic right; their times are not tested."""

from dataclasses import replace

import pytest

from zfnet_lib.architecture import MINI, ArchSpec, Conv, Dense, Pool
from zfnet_lib.bench import deconv, occlusion, plain, training
from zfnet_lib.files import ZfnetError


def test_operations_and_hours_are_those_computed_by_hand():
    conv = Conv("conv1", 4, 3, padding=1, pool=Pool())
    spec = ArchSpec("small", (conv,), (Dense("fc6", 5),), classes=2, image_size=8)
    # 8x8 maps of 4 filters of 3x3x3, a pool to 4x4, then 64 -> 5 -> 2; no gradient of the pixels.
    operations, dense = 64 * 4 * 27, 4 * 4 * 4 * 5 + 5 * 2
    assert training.update_operations(spec) == 2 * (2 * operations + 3 * dense)
    assert training.paper_hours(70 * 1_281_167 / (12 * 24 * 3600)) == pytest.approx(12 * 24)


@pytest.fixture
def small(monkeypatch):
    """Loads of a second each."""
    changes = {
        deconv: {"SPEC": MINI.features(), "SHARE": 108, "BATCHES": (2,), "ROUNDS": 1}
        | {"MODULE": {"units": 8, "side": 64, "batches": (1,)}},
        occlusion: {"SPEC": MINI, "SIZE": 14, "STRIDE": 5, "COARSE": 10, "BATCHES": (4,), "ROUNDS": 1},
        plain: {"PICTURES": 10, "ROUNDS": 1, "NORM_SHAPES": {"a small map": (2, 8, 5, 5)}},
        training: {"ZFNET": MINI, "BATCHES": {64: 8}, "STEPS": 2, "ROUNDS": 1, "CLASSES": 5},
    }
    for module, values in changes.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.mark.usefixtures("small")
def test_records_say_what_was_compared_with_what():
    projections = deconv.bench_deconv()
    captum = [record.quantity for record in projections if "captum's Deconvolution" in record.unit]
    assert captum == ["all layers", "conv1", "conv2", "conv3", "conv4", "conv5", "any module"]
    *ratios, swapped, probed = projections
    assert all(record.value > 0 for record in (*ratios, probed)) and probed.spec == "resnet18"
    assert swapped.unit == "% of active units" and 0 <= swapped.value <= deconv.TIED

    *ratios, speed = occlusion.bench_occlusion()
    assert [record.unit.removeprefix("times as fast as ") for record in ratios] == [
        "captum's Occlusion, a run for each output",
        "captum's Occlusion, one run for both outputs",
        "a plain pass in batches",
        "our own whole pass",
    ]
    assert all(record.value > 0 and record.n == 1 for record in ratios)
    places = [speed.parameters[kind] for kind in ("places", "peers' places")]
    assert (speed.unit, *places) == ("places/s, ours", 121, 36)

    ratio, speed = plain.bench_mining()
    assert (ratio.value > 0, ratio.n, speed.unit) == (True, 1, "images/s, ours")

    *trained, share, hours = training.bench_train()
    assert (share.unit, hours.paper) == ("% of the measured matrix rate", 288) and 0 < share.value < 100
    parts = [f"64 pixels, {part}, float32" for part in ("loader", "step", "both")]
    assert [record.quantity for record in trained[-6::2]] == parts
    timed = (*projections, *ratios, ratio, speed, *trained)
    assert all(record.provenance.seconds > 0.001 for record in timed)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("run", "module", "name", "wrong", "sentence"),
    [
        (deconv.bench_deconv, deconv, "project", lambda it: 1.001 * it, r"\d+ of \d+ projections differ"),
        (occlusion.bench_occlusion, occlusion, "occlude", lambda it: replace(it, activity=1.1 * it.activity),
         "activity: the results differ by 1.0e"),
        (plain.bench_mining, plain, "strongest",
         lambda it: {name: replace(top, score=2 * top.score) for name, top in it.items()},
         "conv1: the results differ"),
        (plain.bench_norm, plain, "contrast_normalise", lambda it: 2 * it, r"a small map: .* differ by 1.0e\+00"),
    ],
)  # fmt: skip
def test_nothing_is_timed_that_differs(monkeypatch, run, module, name, wrong, sentence):
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *given, **options: wrong(right(*given, **options)))
    with pytest.raises(ZfnetError, match=f"^{sentence}.*; nothing was timed$"):
        list(run())
    if module is deconv:
        monkeypatch.setattr(deconv, "CLOSE", 1)
        with pytest.raises(ZfnetError, match=r"^the projection of .* is not the literal one; nothing was timed$"):
            run()
