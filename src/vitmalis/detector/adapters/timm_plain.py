"""Timm's `VisionTransformer`: DeiT, DINO, DINOv2, MAE and others that attend globally in every block."""

from __future__ import annotations

import torch
from torch import Tensor

from vitmalis.detector.adapters.parts import Foreign, Parts, check_members
from vitmalis.detector.positions import resize_absolute
from vitmalis.errors import UserError

PREFIX = ("cls_token", "dist_token", "reg_token")
"""Tokens that come before those of patches, in this order."""


def fits(model: Foreign) -> bool:
    """Whether a model has this structure."""
    return all(hasattr(model, name) for name in ("patch_embed", "cls_token", "no_embed_class"))


def take_apart(model: Foreign) -> Parts:
    """Describe the parts of the model; the features are `forward_features` without class and register tokens, as a map.

    These tokens are full members of the sequence: every token attends to them and they attend to every token, whatever
    its resolution. They cover no patch, so they are neither downsampled nor restored.

    Raises:
        UserError: it has a part without a rule.
    """
    known = (*PREFIX, "pos_embed", "patch_drop", "norm_pre", "norm", "fc_norm", "attn_pool", "head", "head_dist")
    check_members(model, "the model", needed=("patch_embed", "blocks"), known=known)
    check_members(model.patch_embed, "its patch_embed", needed=("proj",), known=("norm",))
    tokens = [getattr(model, name) for name in PREFIX if getattr(model, name, None) is not None]
    count = sum(token.shape[1] for token in tokens)
    positioned = 0 if model.no_embed_class else count
    side_rows, side_cols = model.patch_embed.grid_size
    if model.pos_embed is not None and model.pos_embed.shape[1] != positioned + side_rows * side_cols:
        raise UserError(
            f"the model has {model.pos_embed.shape[1]} positions, but {side_rows} x {side_cols} patches and "
            f"{positioned} tokens before them: it cannot be wrapped"
        )

    def positions(rows: int, cols: int) -> Tensor | None:
        if model.pos_embed is None:
            return None
        table = model.pos_embed[0, positioned:].unflatten(0, (side_rows, side_cols))
        return resize_absolute(table, rows, cols, antialias=True)

    def prefix() -> Tensor | None:
        if not count:
            return None
        own = torch.cat([getattr(model, name) for name in PREFIX if getattr(model, name, None) is not None], dim=1)
        return own + model.pos_embed[:, :count] if positioned and model.pos_embed is not None else own

    return Parts(
        project=model.patch_embed.proj,
        blocks=list(model.blocks),
        run=lambda block, cells: block(cells.flatten(1, 2)).view_as(cells),
        positions=positions,
        prefix=prefix,
        after_project=model.patch_embed.norm,
        before_blocks=model.norm_pre,
        after_blocks=model.norm,
    )
