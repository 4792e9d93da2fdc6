"""Detectron2's `ViT` (modeling/backbone/vit.py)."""

from __future__ import annotations

import math

from torch import Tensor

from vitmalis.detector.adapters.parts import Foreign, Parts, check_members
from vitmalis.detector.positions import resize_absolute


def fits(model: Foreign) -> bool:
    """Whether a model has this structure."""
    return hasattr(model, "pretrain_use_cls_token")


def take_apart(model: Foreign) -> Parts:
    """Describe the parts of the model; the features are its output 'last_feat'.

    Raises:
        UserError: it has a part without a rule, such as residual blocks.
    """
    check_members(model, "the model", needed=("patch_embed", "blocks"), known=("pos_embed",))
    check_members(model.patch_embed, "its patch_embed", needed=("proj",))

    def positions(rows: int, cols: int) -> Tensor | None:
        if model.pos_embed is None:
            return None
        return resize_square(model.pos_embed[0, int(model.pretrain_use_cls_token) :], rows, cols)

    return Parts(
        project=model.patch_embed.proj,
        blocks=list(model.blocks),
        run=lambda block, tokens: block(tokens),
        positions=positions,
    )


def resize_square(table: Tensor, rows: int, cols: int) -> Tensor:
    """Interpolate absolute positions (side * side, C) to (rows, cols, C) as detectron2 does."""
    side = math.isqrt(len(table))
    return resize_absolute(table.unflatten(0, (side, side)), rows, cols)
