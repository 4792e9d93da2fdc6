"""Hugging Face's `VitDetModel` and `VitDetBackbone` (transformers, models/vitdet)."""

from __future__ import annotations

from torch import Tensor

from vitmalis.detector.adapters.detectron2_vit import resize_square
from vitmalis.detector.adapters.parts import Foreign, Parts, check_members


def fits(model: Foreign) -> bool:
    """Whether a model has this structure."""
    return hasattr(model, "embeddings") and hasattr(model, "encoder")


def take_apart(model: Foreign) -> Parts:
    """Describe the parts of the model; the features are `last_hidden_state`, or the last of `feature_maps`.

    Raises:
        UserError: it has a part without a rule, such as residual blocks.
    """
    check_members(model, "the model", needed=("embeddings", "encoder"))
    check_members(model.embeddings, "its embeddings", needed=("projection",), known=("position_embeddings",))
    check_members(model.encoder, "its encoder", needed=("layer",))

    def positions(rows: int, cols: int) -> Tensor | None:
        table = model.embeddings.position_embeddings
        return None if table is None else resize_square(table[0, 1:], rows, cols)  # without the class token's

    return Parts(
        project=model.embeddings.projection,
        blocks=list(model.encoder.layer),
        attention="attention",
        run=lambda block, tokens: block(tokens.permute(0, 3, 1, 2))[0].permute(0, 2, 3, 1),
        positions=positions,
    )
