"""Our transformer block around the layers of another library's: its layers, our windows and two resolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitmalis.detector.adapters.parts import Foreign, Parts, check_members
from vitmalis.detector.token_layout import grid_layout
from vitmalis.detector.vit import Attention, Block, post_attention, pre_attention
from vitmalis.errors import UserError

PROBE = (3, 5)
"""Rows and columns of the tokens that a block is tested on."""

ERROR = {torch.float32: 1e-4, torch.float64: 1e-4}
"""Largest difference in the test, relative to the largest output; for other types it is `COARSE_ERROR`."""

COARSE_ERROR = 5e-2


class NormedHeads(nn.Module):
    """Queries, keys and values as one tensor, with the norms of queries and keys that come after the projection."""

    def __init__(self, attention: Foreign) -> None:
        super().__init__()
        self.qkv = attention.qkv
        self.num_heads = attention.num_heads
        self.q_norm = getattr(attention, "q_norm", nn.Identity())
        self.k_norm = getattr(attention, "k_norm", nn.Identity())

    @property
    def bias(self) -> Tensor:
        """Queries, keys and values of a token of zeros, (3C,): such tokens pad windows."""
        width = self.qkv.in_features
        return self(self.qkv.weight.new_zeros(1, 1, width))[0, 0]

    def forward(self, tokens: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, 3C)."""
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.num_heads, -1)).unbind(2)  # each (B, T, heads, D)
        return torch.stack([self.q_norm(q), self.k_norm(k), v], dim=2).flatten(2)


class AdaptedAttention(Attention):
    """Our attention with a library's projections, norms and relative positions."""

    def __init__(self, theirs: Foreign, windowed: bool, *after: nn.Module | None) -> None:
        with torch.device("meta"):  # our own layers are replaced below, so they need no memory
            super().__init__(theirs.num_heads, theirs.num_heads, 0, windowed)
        plain = all(isinstance(getattr(theirs, name, nn.Identity()), nn.Identity) for name in ("q_norm", "k_norm"))
        self.add_module("qkv", theirs.qkv if plain and theirs.qkv.bias is not None else NormedHeads(theirs))
        self.add_module("proj", chained(getattr(theirs, "norm", None), theirs.proj, *after))
        self.rel_pos_h = getattr(theirs, "rel_pos_h", None)
        self.rel_pos_w = getattr(theirs, "rel_pos_w", None)


class AdaptedBlock(Block):
    """Our block with a library's layers; layer scale and stochastic depth follow what they scale and drop."""

    def __init__(self, theirs: Foreign, attention: str) -> None:
        nn.Module.__init__(self)

        def own(name: str) -> nn.Module | None:
            return getattr(theirs, name, None)

        scaled = (own("ls1"), own("drop_path1") or own("drop_path"))
        self.add_module("norm1", theirs.norm1)
        self.attn = AdaptedAttention(getattr(theirs, attention), bool(window_of(theirs)), *scaled)
        self.add_module("norm2", theirs.norm2)
        self.add_module("mlp", chained(theirs.mlp, own("ls2"), own("drop_path2") or own("drop_path")))
        self.pre_attention, self.post_attention = pre_attention, post_attention


def chained(*layers: nn.Module | None) -> nn.Module:
    """A sequence of layers without those that do nothing."""
    doing = [layer for layer in layers if layer is not None and not isinstance(layer, nn.Identity)]
    return doing[0] if len(doing) == 1 else nn.Sequential(*doing)


def window_of(block: Foreign) -> int:
    """Side of the windows that a library's block attends in; 0 for global attention."""
    return getattr(block, "window_size", 0)


def adapt_block(parts: Parts, index: int) -> AdaptedBlock:
    """Adapt one block of a library and test it against the original.

    Raises:
        UserError: it has a part without a rule, or gives another result than the library's on a few random tokens.
    """
    theirs, where = parts.blocks[index], f"block {index}"
    check_members(
        theirs,
        where,
        needed=("norm1", parts.attention, "norm2", "mlp"),
        known=("ls1", "ls2", "drop_path", "drop_path1", "drop_path2"),
    )
    attention = getattr(theirs, parts.attention)
    known = ("q_norm", "k_norm", "norm", "rel_pos_h", "rel_pos_w")
    check_members(attention, f"{where}: {parts.attention}", needed=("qkv", "proj"), known=known)
    if not isinstance(getattr(attention, "num_heads", None), int):
        raise UserError(f"{where}: {parts.attention} ({type(attention).__name__}) has no 'num_heads'")
    ours = AdaptedBlock(theirs, parts.attention)
    _check(ours, parts, index)
    return ours


@torch.no_grad()
def _check(ours: AdaptedBlock, parts: Parts, index: int) -> None:
    """Compare both blocks on the same tokens, as the names of layers do not say in which order they run."""
    theirs = parts.blocks[index]
    weight = next(theirs.parameters())
    generator = torch.Generator().manual_seed(index)
    tokens = torch.randn(1, *PROBE, parts.project.out_channels, generator=generator).to(weight)
    expected = parts.run(theirs, tokens)
    layout = grid_layout(*PROBE, window_of(theirs) or 1, weight.device)
    found = ours(tokens.flatten(1, 2), layout).view_as(expected)
    error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1))
    if not error <= ERROR.get(weight.dtype, COARSE_ERROR):
        raise UserError(
            f"block {index} ({type(theirs).__name__}) computes something else than a ViTDet block of the same layers "
            f"(relative difference {error:.1g} on random tokens): it cannot be wrapped"
        )
