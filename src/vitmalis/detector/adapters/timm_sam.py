"""Timm's `VisionTransformerSAM` (samvit_base_patch16 and so on), and models like it without its norms."""

from __future__ import annotations

from torch import Tensor

from vitmalis.detector.adapters.parts import Foreign, Parts, check_members, unchanged
from vitmalis.detector.positions import resize_absolute


def fits(model: Foreign) -> bool:
    """Whether a model has this structure."""
    return hasattr(model, "patch_embed") and hasattr(model, "neck")


def take_apart(model: Foreign) -> Parts:
    """Describe the parts of the model; the features are those before the neck, as `forward_intermediates` gives them.

    Raises:
        UserError: it has a part without a rule, such as rotary positions.
    """
    known = ("pos_embed", "patch_drop", "norm_pre", "neck", "head")
    check_members(model, "the model", needed=("patch_embed", "blocks"), known=known)
    check_members(model.patch_embed, "its patch_embed", needed=("proj",), known=("norm",))

    def positions(rows: int, cols: int) -> Tensor | None:
        return None if model.pos_embed is None else resize_absolute(model.pos_embed[0], rows, cols, antialias=True)

    return Parts(
        project=model.patch_embed.proj,
        blocks=list(model.blocks),
        run=lambda block, tokens: block(tokens),
        positions=positions,
        after_project=getattr(model.patch_embed, "norm", unchanged),
        before_blocks=getattr(model, "norm_pre", unchanged),
    )
