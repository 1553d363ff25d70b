"""The arithmetic of the training benchmark; its times are not tested."""

import pytest

from zfnet_lib.architecture import ArchSpec, Conv, Dense, Pool
from zfnet_lib.bench.training import matrix_rate, paper_hours, update_operations


def test_an_update_computes_maps_and_both_gradients_but_none_of_the_pixels():
    spec = ArchSpec(
        "small", (Conv("conv1", 4, 3, padding=1, pool=Pool()),), (Dense("fc6", 5),), classes=2, image_size=8
    )
    # 8x8 maps of 4 filters of 3x3x3, a pool to 4x4, then 64 -> 5 -> 2 by hand.
    conv, dense = 64 * 4 * 27, 4 * 4 * 4 * 5 + 5 * 2
    assert update_operations(spec) == 2 * (2 * conv + 3 * dense)


def test_the_papers_training_took_twelve_days_at_86_pictures_a_second():
    assert paper_hours(70 * 1_281_167 / (12 * 24 * 3600)) == pytest.approx(12 * 24)


def test_the_matrix_rate_is_a_rate():
    assert 1e8 < matrix_rate("float32", 256) < 1e16
