"""Plans of masks: computed by hand for two regions, and against the layouts of the eager model."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detector.mixed_resolution import frame_sizes, layout_of, random_mask
from vitmalis.detector.fused import plan as plans
from vitmalis.detector.fused.geometry import BLOCK_COORDINATES, block_patterns, frame_geometry
from vitmalis.detector.fused.plan import PLAIN, Counts, bucket_of, bucket_tokens, mask_plan, plan_sections
from vitmalis.detector.fused.preparation import launch_kinds
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid

TWO_REGIONS = RegionGrid(96, 64, window=2)
"""4 x 6 patches, 2 x 3 low-resolution cells; regions of 4 x 4 and 4 x 2 patches."""


def test_a_plan_by_hand() -> None:
    """The left region is low: 8 patches of the right one, then 4 cells of the left one."""
    geometry = frame_geometry(TWO_REGIONS, block_keys=16, bucket_tokens=16)
    plan = mask_plan(geometry, np.array([[True, False]]), 16)
    parts = {name: part.view(plan) for name, part in plan_sections(geometry, 16)._asdict().items()}
    assert Counts(*parts["counts"].tolist()) == Counts(tokens=12, windows=3, blocks=2)
    assert parts["cell"].tolist() == [4, 5, 10, 11, 16, 17, 22, 23, 24, 25, 27, 28, 0, 0, 0, 0]
    assert parts["patch"].tolist() == [*range(12), 0, 0, 0, 0]
    assert parts["token"][[4, 5, 10, 23, 24, 28]].tolist() == [0, 1, 2, 7, 8, 11]
    assert (parts["token"] == -1).sum() == 18
    assert parts["window"][:3].tolist() == [2, 5, 6]  # of 2 x 3 windows of patches, then one for each region
    assert geometry.coordinates == 15  # 4 + 2 rows, 6 + 3 columns
    assert parts["block"][:2, :2].tolist() == [[0, 8], [8, 4]]
    assert parts["coordinate"][0].tolist() == [0, 1, 2, 3, 10, 11, *[15] * 26]
    assert parts["coordinate"][1].tolist() == [4, 5, 12, 13, *[15] * 28]


def test_the_plain_plan_by_hand() -> None:
    geometry = frame_geometry(TWO_REGIONS, block_keys=16, bucket_tokens=16)
    assert bucket_of(geometry, None) == bucket_of(geometry, np.zeros((1, 2), np.bool_)) == PLAIN
    assert bucket_tokens(geometry, PLAIN) == 48  # the last line starts at 18 and is read up to 34
    plan = mask_plan(geometry, None, PLAIN)
    sections = plan_sections(geometry, PLAIN)
    assert Counts(*sections.counts.view(plan).tolist()) == Counts(tokens=24, windows=6, blocks=0)
    assert sections.cell.view(plan)[:24].tolist() == sections.token.view(plan)[:24].tolist() == list(range(24))
    assert sections.patch.view(plan)[:8].tolist() == [0, 1, 2, 3, 16, 17, 4, 5]  # clients send region by region


@settings(max_examples=60)
@given(
    size=frame_sizes,
    window=st.integers(1, 4),
    factor=st.integers(1, 3),
    seed=st.integers(0, 99),
    block_keys=st.sampled_from([16, 32, 128]),
)
def test_a_plan_has_the_tokens_of_the_eager_layout(
    size: tuple[int, int], window: int, factor: int, seed: int, block_keys: int
) -> None:
    grid = RegionGrid(*size, window, factor, 8)
    geometry, mask = frame_geometry(grid, block_keys, 16), random_mask(grid, seed)
    layout = layout_of(grid, mask)
    bucket = plans.rounded_tokens(geometry, layout.tokens)
    plan = mask_plan(geometry, mask, bucket)
    parts = {name: part.view(plan) for name, part in plan_sections(geometry, bucket)._asdict().items()}
    tokens, windows, blocks = parts["counts"]
    assert tokens == layout.tokens < bucket
    low_cols = grid.patch_cols // factor
    full = layout.full.rows * grid.patch_cols + layout.full.cols
    low = grid.patch_rows * grid.patch_cols + layout.low.rows * low_cols + layout.low.cols
    sent = np.concatenate([full.numpy(), low.numpy()])  # the cell of each patch that a client sends
    cell = parts["cell"][:tokens]
    assert np.array_equal(sent[parts["patch"][:tokens]], cell)
    assert np.array_equal(parts["token"][cell], np.arange(tokens))
    assert (parts["token"] >= 0).sum() == tokens
    assert windows == len(layout.attention.slot_token) // window**2
    _check_blocks(parts, geometry.coordinates, block_patterns(block_keys), tokens, blocks, grid)


def _check_blocks(
    parts: dict[str, np.ndarray], absent: int, patterns: np.ndarray, tokens: int, blocks: int, grid: RegionGrid
) -> None:
    """Blocks are runs of tokens, and the pattern of each leads every key to its own row and column."""
    start, length, shape = parts["block"][:blocks, :3].T
    assert start.tolist() == [0, *np.cumsum(length)[:-1]]
    assert length.sum() == tokens
    patches, factor = grid.patch_rows * grid.patch_cols, grid.factor
    for index in range(blocks):
        cell = parts["cell"][start[index] : start[index] + length[index]]
        is_low = cell >= patches
        place, cols = cell - patches * is_low, np.where(is_low, grid.patch_cols // factor, grid.patch_cols)
        row = place // cols + grid.patch_rows * is_low
        col = place % cols + grid.patch_rows + grid.patch_rows // factor + grid.patch_cols * is_low
        key_coordinates = parts["coordinate"][index][:, None] * patterns[shape[index]]
        assert np.array_equal(key_coordinates[:-1, : len(cell)].sum(0), row + col)
        assert not patterns[shape[index], :-1, len(cell) :].any()
        assert patterns[shape[index], -1, len(cell) :].all()
        assert parts["coordinate"][index, BLOCK_COORDINATES - 1] == absent


@pytest.mark.parametrize(
    ("size", "patches", "block_keys", "tokens"),
    [
        ((1024, 1024), 4096, 128, 4352),  # one segment of 64 keys
        ((2048, 1152), 9216, 64, 9472),  # two of 64
        ((1024, 576), 2304, 32, 2560),  # two of 32
        ((1040, 1024), 66 * 64, 128, 4352),  # a segment of 128 keys reads 62 beyond the last line
    ],
)
def test_plain_frames_whose_lines_are_whole_segments_have_an_empty_token(
    size: tuple[int, int], patches: int, block_keys: int, tokens: int
) -> None:
    """Where no key is read behind the last line and the patches fill a bucket, the empty token needs another one."""
    geometry = frame_geometry(RegionGrid(*size, window=9), block_keys, bucket_tokens=256)
    assert geometry.patches == patches
    assert bucket_tokens(geometry, PLAIN) == tokens
    plan = mask_plan(geometry, None, PLAIN)
    assert plan_sections(geometry, PLAIN).counts.view(plan)[0] == patches


def test_the_buckets_of_all_masks_by_hand() -> None:
    """The left region saves 12 of 24 tokens, the right one 6: 12, 18 or 6 remain, and one more is empty."""
    assert plans.mask_buckets(frame_geometry(TWO_REGIONS, block_keys=16, bucket_tokens=8)) == [8, 16, 24]
    assert plans.mask_buckets(frame_geometry(TWO_REGIONS, block_keys=16, bucket_tokens=16)) == [16, 32]
    same_resolution = frame_geometry(RegionGrid(96, 64, window=2, factor=1), block_keys=16, bucket_tokens=16)
    assert plans.mask_buckets(same_resolution) == [32]  # low regions save nothing


@pytest.mark.parametrize(("size", "window", "factor"), [((150, 190), 2, 2), ((300, 100), 2, 3), ((90, 70), 1, 2)])
def test_the_buckets_of_all_masks_are_those_of_each(size: tuple[int, int], window: int, factor: int) -> None:
    geometry = frame_geometry(RegionGrid(*size, window, factor), block_keys=16, bucket_tokens=16)
    rows, cols = geometry.grid.shape
    masks = [np.array(bits).reshape(rows, cols) for bits in itertools.product([False, True], repeat=rows * cols)]
    assert plans.mask_buckets(geometry) == sorted({bucket_of(geometry, mask) for mask in masks} - {PLAIN})


def test_the_launches_that_can_be_needed_by_hand() -> None:
    plain, others = (PLAIN, "images", 0), [(512, 1), (512, 0), (256, 1), (256, 0), (768, 1), (768, 0)]
    one = [(1, *plain), *[(1, bucket, "patches", point) for bucket, point in others]]
    two = [(2, *plain), *[(2, bucket, "patches", point) for bucket, point in others]]
    assert launch_kinds([256, 512, 768], points=1, max_batch=1) == one
    assert launch_kinds([256, 512, 768], points=1, max_batch=2) == one + two


def test_buckets_leave_room_for_the_empty_token() -> None:
    geometry = frame_geometry(TWO_REGIONS, block_keys=16, bucket_tokens=12)
    mask = np.array([[True, False]])
    assert bucket_of(geometry, mask) == 24  # 12 tokens
    with pytest.raises(ValueError, match="a bucket of 12 has no room for 12 tokens and an empty one"):
        mask_plan(geometry, mask, 12)
    with pytest.raises(UserError, match="downsample mask"):
        bucket_of(geometry, np.array([[True]]))


def test_plans_of_thousands_of_masks_are_not_kept() -> None:
    geometry = frame_geometry(RegionGrid(128, 128, window=1), block_keys=16, bucket_tokens=16)
    random = np.random.default_rng(0)
    for _ in range(2000):
        mask_plan(geometry, random.random((4, 4)) < 0.5, 80)
    assert plans._mixed_plan.cache_info().currsize == plans.CACHED_PLANS
    mask = np.eye(4, dtype=np.bool_)
    plan = mask_plan(geometry, mask, 80)
    assert mask_plan(geometry, mask.copy(), 80) is plan
    assert not plan.flags.writeable
