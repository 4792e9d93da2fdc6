import numpy as np

from vitmalis.regions.grid import RegionGrid
from vitmalis_jobs.training.detection.mask_sampling import FULL_RESOLUTION, random_mixture

GRID = RegionGrid(384, 256, window=5)


def test_a_share_of_zero_never_mixes_and_one_always_does() -> None:
    rng = np.random.default_rng(0)
    assert all(random_mixture(rng, GRID, 4, 0.0) == FULL_RESOLUTION for _ in range(20))
    for _ in range(200):
        mask, point = random_mixture(rng, GRID, 4, 1.0)
        assert mask is not None
        assert mask.shape == GRID.shape
        assert mask.any()
        assert 0 <= point <= 4


def test_every_point_and_every_region_count_occurs_and_the_share_is_kept() -> None:
    rng = np.random.default_rng(1)
    drawn = [random_mixture(rng, GRID, 4, 0.35) for _ in range(2000)]
    mixed = [(mask, point) for mask, point in drawn if mask is not None]
    assert abs(len(mixed) / len(drawn) - 0.35) < 0.04
    assert {point for _, point in mixed} == {0, 1, 2, 3, 4}
    assert {int(mask.sum()) for mask, _ in mixed} == set(range(1, GRID.shape[0] * GRID.shape[1] + 1))


def test_a_seed_is_a_mixture() -> None:
    first, again = (random_mixture(np.random.default_rng([5, 77]), GRID, 4, 1.0) for _ in range(2))
    assert first.restoration_point == again.restoration_point
    assert (first.downsample_mask == again.downsample_mask).all()
