from __future__ import annotations

import itertools

import numpy as np
import pytest

from vitmalis.detector.config import preset
from vitmalis.detector.flops import vit_cost
from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision, TokenCaching
from vitmalis.types import Configuration
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.testbed import FULL_HD, NHD, inference_s, paper_testbed

GRID = preset("vitdet_tiny").region_grid(540, 960)  # 4 x 6 regions


def test_what_the_paper_states_comes_out() -> None:
    vitdet_l = preset("vitdet_l").with_geometry(9)
    assert inference_s(vitdet_l, FULL_HD) == pytest.approx(0.281)
    assert inference_s(vitdet_l, NHD) == pytest.approx(0.039)
    durations = Durations(paper_testbed("id", "vitdet_tiny", GRID, 4))
    full, packed = OffloadDecision(Configuration()), OffloadDecision(Configuration(), np.ones((4, 6), bool))
    blanked = OffloadDecision(Configuration(), blank_mask=np.ones((4, 6), bool))
    coarse = OffloadDecision(Configuration(), coarse_mask=np.ones((34, 60), bool), coarse_quality=30)
    halved = OffloadDecision(Configuration(), frame_downsampling=2)
    codec_s = [durations.encode_s(0, d) + durations.decode_s(0, d) for d in (full, halved, blanked, packed)]
    assert codec_s == pytest.approx([0.030, 0.030 / 4, 0.038, 0.039]), "a halved frame has a quarter of the pixels"
    assert durations.encode_s(0, coarse) == durations.encode_s(0, blanked), "an assumption: docs/field.md"
    assert [durations.inference_s(0, sent) for sent in (full, blanked)] == pytest.approx([0.281, 0.281])
    assert durations.inference_s(0, halved) == pytest.approx(inference_s(vitdet_l, (540, 960)))
    assert durations.motion_s(0) == 0.010


def test_later_restoration_and_more_regions_save_more() -> None:
    tables = paper_testbed("id", "vitdet_tiny", GRID, 4)
    slopes = [fit.slope_s for fit in tables.inference]
    assert slopes[0] == pytest.approx(0.0, abs=1e-12)
    assert all(later < earlier for earlier, later in itertools.pairwise(slopes))
    assert all(fit.r2 > 0.99 for fit in tables.inference)
    assert tables.inference_s(24, 4) < 0.4 * 0.281


def test_pyramid_and_head_take_the_same_time_whatever_is_downsampled() -> None:
    """Of 6112 + 1008 GFLOPs 4375 are the transformer's that a frame all low to point 4 is spared.

    The line rises by 242 ms over the 6167.5 GFLOPs between the two stated frames.
    """
    vitdet_l = preset("vitdet_l").with_geometry(9)
    grid = vitdet_l.region_grid(*FULL_HD)
    low = np.ones(grid.shape, bool)
    spared = vit_cost(vitdet_l.vit, grid).flops - vit_cost(vitdet_l.vit, grid, low, 4).flops
    assert spared == pytest.approx(4375e9, rel=1e-3)
    assert inference_s(vitdet_l, FULL_HD, low, 4) == pytest.approx(0.281 - 0.242 * spared / 6167.5e9, rel=1e-4)
    assert inference_s(vitdet_l, FULL_HD, low, 4) == pytest.approx(0.1095, abs=3e-4)


@pytest.mark.parametrize(("point", "low", "cached"), [(2, 6, 6), (4, 0, 12), (4, 6, 12), (3, 0, 18)])
def test_a_cached_region_saves_all_of_its_tokens_before_the_restoration_point(
    point: int, low: int, cached: int
) -> None:
    """Compared with the FLOPs of a 1080p frame with the same shares of its regions low and cached."""
    vitdet_l = preset("vitdet_l").with_geometry(9)
    shape = vitdet_l.region_grid(*FULL_HD).shape
    masks = []
    for seed in range(8):
        place = np.random.default_rng(seed).permutation(28).reshape(shape)
        bounds = round(28 * low / 24), round(28 * (low + cached) / 24)
        masks.append(np.select([place < bounds[0], place < bounds[1]], [1, 2]).astype(np.int8))
    expected_s = np.mean([inference_s(vitdet_l, FULL_HD, mask, point) for mask in masks])
    place = np.arange(24).reshape(4, 6)
    mask, cached_mask = place < low, (place >= low) & (place < low + cached)
    caching = TokenCaching(0, cached_mask)
    decision = OffloadDecision(Configuration(2, 90, point), mask if low else None, caching=caching)
    durations = Durations(paper_testbed("id", "vitdet_tiny", GRID, 4))
    assert durations.inference_s(0, decision) == pytest.approx(expected_s, rel=0.05)
    packed = OffloadDecision(Configuration(2, 90, point), mask | cached_mask)
    assert durations.encode_s(0, decision) == durations.encode_s(0, packed)
    whole = OffloadDecision(Configuration(0, 90, point), caching=TokenCaching())
    assert durations.inference_s(0, whole) == durations.inference_s(0, OffloadDecision(Configuration()))


def test_a_size_that_was_not_profiled_is_refused() -> None:
    durations = Durations(paper_testbed("id", "vitdet_tiny", GRID, 4))
    with pytest.raises(UserError, match="4 times smaller was not profiled"):
        durations.encode_s(0, OffloadDecision(Configuration(), frame_downsampling=4))
