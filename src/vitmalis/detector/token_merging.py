"""Token merging in attention windows: a plain ViT whose window blocks see fewer tokens, without training.

ToMe (https://arxiv.org/abs/2210.09461) for dense prediction. In each subset the first window block attends as usual;
then similar tokens of a window are merged, the window blocks run on what is left, and the tokens are restored before
the global block. A restored token keeps its difference from the mean that stood for it, as the residual connection does
in ToMe for Stable Diffusion (https://arxiv.org/abs/2303.17604). Eager engine, full resolution.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vitmalis.detector.batched_layout import Tokens
from vitmalis.detector.detector import Detector
from vitmalis.detector.engines import EAGER
from vitmalis.detector.flops import merged_tokens
from vitmalis.detector.positions import joined, relative_table
from vitmalis.detector.token_layout import TokenLayout
from vitmalis.detector.vit import Attention, Block, ViT
from vitmalis.errors import UserError


def match_tokens(keys: Tensor, count: int) -> Tensor:
    """Bipartite soft matching: choose the tokens to merge, each with the token most similar to it.

    Tokens at even places are matched with tokens at odd places by the cosine of their keys, and the `count` best pairs
    are merged. Several tokens may go into one.

    Args:
        keys: (W, n, D), of W windows with n tokens each.
        count: tokens of each window to merge, at most n // 2.

    Returns:
        int64 (W, n): where each token goes, 0 to n - count - 1. Tokens that stay keep their order.
    """
    keys = F.normalize(keys.float(), dim=2)
    similarity, nearest = (keys[:, ::2] @ keys[:, 1::2].transpose(1, 2)).max(dim=2)  # each (W, n - n // 2)
    best = similarity.argsort(dim=1, descending=True, stable=True)[:, :count]
    stays = keys.new_ones(keys.shape[:2]).scatter(1, 2 * best, 0.0)
    place = stays.long().cumsum(1) - 1
    return place.scatter(1, 2 * best, place.gather(1, 2 * nearest.gather(1, best) + 1))


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """Which tokens of W windows are merged, n tokens of each into m.

    Attributes:
        into: int64 (W, n): the merged token that each token goes into.
        sizes: int64 (W, m): how many tokens each merged token stands for.
    """

    into: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, into: Tensor, merged: int) -> Merge:
        """The merge by its mapping (W, n) into `merged` tokens."""
        sizes = into.new_zeros(len(into), merged).scatter_add(1, into, torch.ones_like(into))
        return cls(into, sizes)

    def mean(self, tokens: Tensor) -> Tensor:
        """Merge tokens (W, n, C) to their means (W, m, C)."""
        sums = tokens.new_zeros(self.sizes.numel(), tokens.shape[2])
        sums.index_add_(0, self._flat(), tokens.flatten(0, 1))
        return sums.view(*self.sizes.shape, -1) / self.sizes.to(tokens.dtype)[:, :, None]

    def spread(self, merged: Tensor) -> Tensor:
        """Give each token what its merged token has: (W, m, C) to (W, n, C)."""
        return merged.flatten(0, 1).index_select(0, self._flat()).view(*self.into.shape, -1)

    def _flat(self) -> Tensor:
        windows, merged = self.sizes.shape
        return (self.into + merged * torch.arange(windows, device=self.into.device)[:, None]).flatten()


def merge_similar(keys: Tensor, keep: int) -> Merge:
    """Merge tokens until `keep` are left of each window.

    One matching merges at most every other token, so that fewer than half need several, the later ones between means.

    Args:
        keys: (W, n, D).
        keep: tokens to keep of each window, 1 to n.
    """
    left = keys.shape[1]
    merge = Merge.of(torch.arange(left, device=keys.device).expand(keys.shape[:2]), left)
    while left > keep:
        count = min(left - keep, left // 2)
        left -= count
        merge = Merge.of(match_tokens(merge.mean(keys), count).gather(1, merge.into), left)
    return merge


@dataclass(frozen=True, slots=True, eq=False)
class WindowGroup:
    """The windows of a frame that hold tokens in the same slots: those inside, or those at one border.

    Attributes:
        tokens: int64 (windows, n): the tokens of each window, in the order of its slots.
        filled: int64 (n,): the slots that hold them.
        empty: int64 (window * window - n,): the slots that hold none.
    """

    tokens: Tensor
    filled: Tensor
    empty: Tensor

    def gather(self, tokens: Tensor) -> Tensor:
        """Gather the tokens of the windows: (B, T, C) to (B * windows, n, C)."""
        return tokens.index_select(1, self.tokens.flatten()).view(-1, self.tokens.shape[1], tokens.shape[2])


@lru_cache(maxsize=32)
def window_groups(layout: TokenLayout) -> tuple[WindowGroup, ...]:
    """Group the windows of a frame by the slots that hold tokens."""
    slots = layout.slot_token.unflatten(0, (-1, layout.window**2))  # (windows, slots)
    patterns, group = (slots < layout.tokens).unique(dim=0, return_inverse=True)
    return tuple(
        WindowGroup(slots[group == index][:, filled], filled.nonzero().flatten(), (~filled).nonzero().flatten())
        for index, filled in enumerate(patterns)
    )


@dataclass(frozen=True, slots=True, eq=False)
class MergedWindows:
    """The windows of one group while their tokens are merged.

    Attributes:
        group: the windows.
        merge: of all frames of the batch.
    """

    group: WindowGroup
    merge: Merge

    def attend(self, attn: Attention, qkv: Tensor, window: int) -> Tensor:
        """Attend inside the windows with keys weighted by their sizes (proportional attention).

        Empty slots are attended to as in the plain model, where they hold the bias of `qkv`.

        Args:
            attn: of a window block.
            qkv: queries, keys and values of the merged tokens (B * windows, m, 3C).
            window: side of a window.

        Returns:
            (B * windows, m, C).
        """
        windows, merged, _ = qkv.shape
        empty = len(self.group.empty)
        if empty:
            qkv = torch.cat([qkv, attn.qkv.bias.to(qkv.dtype).expand(windows, empty, -1)], dim=1)
        q, k, v = qkv.unflatten(2, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)  # each (windows, heads, slots, D)
        q = q[:, :, :merged]
        bias = F.pad(self.merge.sizes.to(q.dtype).log(), (0, empty))[:, None, None]
        if attn.rel_pos_h is not None and attn.rel_pos_w is not None:
            slots = torch.cat([self._slots(), self.group.empty.expand(windows, -1)], dim=1)
            bias = bias + _axis_bias(q, relative_table(attn.rel_pos_h, window), slots // window)
            bias = bias + _axis_bias(q, relative_table(attn.rel_pos_w, window), slots % window)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)

    def _slots(self) -> Tensor:
        """The slot of each merged token, the first of those that went into it: int64 (B * windows, m)."""
        slots = self.group.filled.expand(self.merge.into.shape)
        first = torch.full_like(self.merge.sizes, int(slots.max()))
        return first.scatter_reduce(1, self.merge.into, slots, "amin")


def _axis_bias(q: Tensor, table: Tensor, at: Tensor) -> Tensor:
    """Bias of relative positions along one axis: (W, heads, queries, keys).

    Args:
        q: queries (W, heads, queries, D), not scaled.
        table: (size, size, D) from `relative_table`.
        at: int64 (W, keys): the coordinate of each key; those of the queries come first.
    """
    queries = q.shape[2]
    terms = torch.einsum("whqd,wqkd->whqk", q, table.to(q.dtype)[at[:, :queries]])
    return terms.gather(3, at[:, None, None].expand(*terms.shape[:3], -1))


class MergingViT(ViT):
    """A ViT that merges tokens in its window blocks; it shares the parameters of the one that it is made from.

    Args:
        vit: whose parameters it has.
        token_share: share of the tokens of each window that is left, above 0; 1 merges none.

    Raises:
        UserError: there is no such share.
    """

    def __init__(self, vit: ViT, token_share: float) -> None:
        if not 0 < token_share <= 1:
            raise UserError(f"a share of {token_share:g} of the tokens cannot be left; give one above 0 and at most 1")
        with torch.device("meta"):
            super().__init__(vit.config)
        self.patch_embed, self.pos_embed, self.blocks = vit.patch_embed, vit.pos_embed, vit.blocks
        self.token_share = token_share

    def _features(self, tokens: Tensor, layout: Tokens, blocks: Iterable[torch.nn.Module]) -> Tensor:
        assert isinstance(layout, TokenLayout)
        for windowed, run in groupby(cast(Iterable[Block], blocks), key=lambda block: block.attn.windowed):
            if windowed:
                tokens = self._merged_blocks(tokens, layout, list(run))
            else:
                for block in run:
                    tokens = block(tokens, layout)
        return super()._features(tokens, layout, ())

    def _merged_blocks(self, tokens: Tensor, layout: TokenLayout, blocks: Sequence[Block]) -> Tensor:
        """Run consecutive window blocks, on merged tokens after the attention of the first: (B, T, C) to (B, T, C)."""
        first, *others = blocks
        qkv = first.pre_attention(first, tokens)
        tokens = tokens + first.attn.proj(first.attn.self_attention(qkv, layout))
        keys = qkv.unflatten(2, (3, first.attn.num_heads, -1))[:, :, 1].mean(dim=2)  # (B, T, D), as in ToMe
        groups = [MergedWindows(group, self._merge(group.gather(keys))) for group in window_groups(layout)]
        means = [own.merge.mean(own.group.gather(tokens)) for own in groups]
        before = _listed(means)
        merged = before + first.mlp(first.norm2(before))
        for block in others:
            qkvs = _split(block.pre_attention(block, merged), means)
            pairs = zip(groups, qkvs, strict=True)
            attended = _listed([own.attend(block.attn, qkv, layout.window) for own, qkv in pairs])
            merged = block.post_attention(block, merged, attended)
        changes = zip(groups, _split(merged - before, means), strict=True)
        batch = len(tokens)
        spread = joined([own.merge.spread(change).reshape(batch, -1, tokens.shape[2]) for own, change in changes], 1)
        return tokens.index_add(1, joined([own.group.tokens.flatten() for own in groups], 0), spread)

    def _merge(self, keys: Tensor) -> Merge:
        return merge_similar(keys, merged_tokens(keys.shape[1], self.token_share))


def _listed(parts: Sequence[Tensor]) -> Tensor:
    """All tokens of windows (W, m, C) of several groups as one sequence (1, tokens, C)."""
    return joined([part.flatten(0, 1) for part in parts], 0)[None]


def _split(listed: Tensor, parts: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of `_listed`, for windows and tokens as in `parts`."""
    sizes = [part.shape[0] * part.shape[1] for part in parts]
    return [own.view(*part.shape[:2], -1) for own, part in zip(listed[0].split(sizes), parts, strict=True)]


def with_merging(detector: Detector, token_share: float) -> Detector:
    """A detector like this one that merges tokens in its window blocks; the two share their weights.

    Both have the same `model_id`, although their boxes differ: keep none of them by it.

    Args:
        detector: of a built-in model, on the eager engine.
        token_share: share of the tokens of each window that is left, above 0; 1 merges none.

    Raises:
        UserError: the detector has another engine or another library's transformer, or there is no such share.
    """
    if detector.engine != EAGER or not isinstance(detector.model.backbone.net, ViT):
        raise UserError(f"tokens of {detector.name} cannot be merged: take a built-in model and model.engine=eager")
    shared = {id(parameter): parameter for parameter in detector.model.parameters()}
    merging = copy.deepcopy(detector, memo=dict(shared))
    merging.model.backbone.net = MergingViT(merging.model.backbone.vit, token_share)
    return merging
