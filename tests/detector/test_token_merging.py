"""Token merging: matching and means by hand, and when a merging ViT has to equal the plain one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.detector.mixed_resolution import CPU, make_vit
from vitmalis.detector import load_detector
from vitmalis.detector.token_layout import grid_layout
from vitmalis.detector.token_merging import (
    Merge,
    MergingViT,
    match_tokens,
    merge_similar,
    window_groups,
    with_merging,
)
from vitmalis.errors import UserError


def rows(*values: tuple[float, ...]) -> Tensor:
    """Make the tokens of one window."""
    return torch.tensor([values])


def test_the_most_similar_pair_is_merged_first() -> None:
    keys = rows((1, 0), (9, 1), (0, 1), (1, 1))  # cosines: 0.994 of the first two, 0.707 of the last two
    assert match_tokens(keys, 0).tolist() == [[0, 1, 2, 3]]
    assert match_tokens(keys, 1).tolist() == [[0, 0, 1, 2]]
    assert match_tokens(keys, 2).tolist() == [[0, 0, 1, 1]]


def test_several_tokens_go_into_the_one_that_both_are_most_similar_to() -> None:
    keys = rows((1, 0), (1, 1), (0, 1), (-1, -1), (-1, -2))
    assert match_tokens(keys, 2).tolist() == [[0, 0, 1, 2, 2]], "-1, -2 is nearer to -1, -1 than the others are to 1, 1"
    assert match_tokens(keys[:, :4], 2).tolist() == [[0, 0, 0, 1]]


def test_windows_are_matched_on_their_own() -> None:
    keys = torch.cat([rows((1, 0), (1, 0), (0, 1), (1, 1)), rows((0, 1), (1, 0), (1, 1), (1, 1))])
    assert match_tokens(keys, 1).tolist() == [[0, 0, 1, 2], [0, 1, 2, 2]]


def test_means_are_weighted_by_size() -> None:
    merge = Merge.of(torch.tensor([[0, 0, 0, 1]]), 2)
    tokens = rows((1, 8), (2, 0), (6, 1), (5, 5))
    assert merge.sizes.tolist() == [[3, 1]]
    assert merge.mean(tokens).tolist() == [[[3, 3], [5, 5]]]
    assert merge.spread(merge.mean(tokens)).tolist() == [[[3, 3], [3, 3], [3, 3], [5, 5]]]


@pytest.mark.parametrize("keep", [25, 20, 12, 6, 1])
def test_merging_conserves_the_sum_of_the_tokens(keep: int) -> None:
    tokens = torch.from_numpy(np.random.default_rng(keep).normal(size=(3, 25, 8)))
    merge = merge_similar(tokens, keep)
    merged = merge.mean(tokens)
    assert merged.shape == (3, keep, 8)
    assert merge.sizes.sum(1).tolist() == [25] * 3
    assert merge.sizes.min() >= 1
    torch.testing.assert_close((merge.sizes[:, :, None] * merged).sum(1), tokens.sum(1))
    if keep == 25:
        torch.testing.assert_close(merge.spread(merged), tokens, rtol=0, atol=0)


def test_windows_are_grouped_by_the_slots_that_they_fill() -> None:
    groups = window_groups(grid_layout(3, 4, 2, CPU))  # the two lower windows have two empty slots each
    found = {tuple(group.filled.tolist()): (group.tokens.tolist(), group.empty.tolist()) for group in groups}
    assert found == {
        (0, 1, 2, 3): ([[0, 1, 4, 5], [2, 3, 6, 7]], []),
        (0, 1): ([[8, 9], [10, 11]], [2, 3]),
    }


@pytest.mark.parametrize("relative_positions", [True, False])
@torch.inference_mode()
def test_a_share_of_one_is_the_plain_model(relative_positions: bool) -> None:
    vit = make_vit(1, subsets=2, relative_positions=relative_positions)  # two window blocks before each global one
    images = torch.randn(2, 3, 7 * 16, 5 * 16)  # windows at both borders are partly empty
    torch.testing.assert_close(MergingViT(vit, 1.0)(images), vit(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("share", [0.75, 0.5, 0.25])
@torch.inference_mode()
def test_unmerging_restores_the_tokens_where_window_blocks_change_nothing(share: float) -> None:
    vit = make_vit(2, subsets=2)
    for block in vit.blocks:
        if block.attn.windowed:
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.zero_()
                layer.bias.zero_()
    images = torch.randn(1, 3, 6 * 16, 6 * 16)
    torch.testing.assert_close(MergingViT(vit, share)(images), vit(images), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_equal_tokens_may_be_merged_without_a_difference() -> None:
    vit = make_vit(3, subsets=2, relative_positions=False)
    vit.pos_embed.zero_()
    lines = torch.randn(5, 3, 16, 16)  # a patch for each row of patches: the two of a window's row are equal
    images = torch.cat(list(lines), 1)[None].repeat(1, 1, 1, 6)
    merging = MergingViT(vit, 0.5)
    torch.testing.assert_close(merging(images), vit(images), rtol=1e-4, atol=1e-4)
    images = images + torch.randn_like(images)
    assert not torch.allclose(merging(images), vit(images), rtol=1e-2, atol=1e-2)


def test_a_detector_with_merging_shares_its_weights_and_leaves_the_other_as_it_is() -> None:
    detector = load_detector("vitdet_tiny", engine="eager")
    image = np.random.default_rng(4).integers(0, 256, (96, 160, 3), np.uint8)
    before = detector.detect(image)
    merging = with_merging(detector, 0.5)
    pairs = zip(detector.model.parameters(), merging.model.parameters(), strict=True)
    assert all(own is other for own, other in pairs)
    assert isinstance(merging.model.backbone.net, MergingViT)
    assert not isinstance(detector.model.backbone.net, MergingViT)
    np.testing.assert_array_equal(detector.detect(image).boxes_xyxy, before.boxes_xyxy)
    merging.detect(image)


@pytest.mark.parametrize("share", [0.0, 1.5, -1.0])
def test_a_share_that_no_window_can_keep_is_refused(share: float) -> None:
    with pytest.raises(UserError, match="above 0 and at most 1"):
        MergingViT(make_vit(0), share)
