"""`wrap`: mixed resolution for vision transformers of other libraries, recognised by their structure."""

from __future__ import annotations

from torch import nn

from vitmalis.detector.adapters import detectron2_vit, timm_plain, timm_sam, transformers_vitdet
from vitmalis.detector.adapters.blocks import adapt_block, window_of
from vitmalis.detector.adapters.model import MixedResolutionViT
from vitmalis.errors import UserError
from vitmalis.regions.grid import RegionGrid

KINDS = (detectron2_vit, transformers_vitdet, timm_sam, timm_plain)

USUAL_SUBSETS = 4
USUAL_WINDOW = 9
"""Window of the paper, for models without windows of their own."""


def wrap(
    model: nn.Module, *, subsets: int | None = None, downsampling_factor: int = 2, window: int | None = None
) -> MixedResolutionViT:
    """Give mixed resolution to a vision transformer of another library.

    Its own layers run, in evaluation mode (the model is switched to it); no weight is copied. Load other weights
    before wrapping or in place. With nothing downsampled the features equal the library's own:

    - detectron2's `ViT`: the output 'last_feat';
    - transformers' `VitDetModel` and `VitDetBackbone`: the last hidden state;
    - timm's `VisionTransformerSAM`: the last block's output, before the neck (`model.neck` takes it);
    - timm's `VisionTransformer` (DeiT, DINO, ...): `forward_features` without class and register tokens, as a map.

    Args:
        model: of one of these structures, whatever its class is called.
        subsets: N, the number of restoration points. In a model with window attention they are its global blocks, so
            there is nothing to choose; blocks that are all global fall into N equal subsets (4 by default), and full
            resolution comes back before the last block of one of them.
        downsampling_factor: patches along the side of a low-resolution token.
        window: side of a downsampled region in tokens, and of attention windows. By default that of the model, or 9
            where every block is global. Another than the model's resizes the relative positions of window blocks as
            detectron2 does, like the paper's 9 with weights of 14; features are then no longer the library's own.

    Raises:
        UserError: the model has something that mixed resolution has no rule for, or the numbers do not fit it.
    """
    kind = next((kind for kind in KINDS if kind.fits(model)), None)
    if kind is None:
        raise UserError(
            f"{type(model).__name__} does not have the structure of a known vision transformer: detectron2's "
            "ViT, transformers' VitDetModel, timm's VisionTransformerSAM or VisionTransformer"
        )
    parts = kind.take_apart(model.eval())
    window, restoration_blocks = _geometry([window_of(block) for block in parts.blocks], subsets, window)
    RegionGrid(1, 1, window, downsampling_factor, parts.patch_px)  # refuses numbers below 1
    blocks = [adapt_block(parts, index) for index in range(len(parts.blocks))]
    return MixedResolutionViT(model, parts, blocks, window, downsampling_factor, restoration_blocks)


def _geometry(windows: list[int], subsets: int | None, window: int | None) -> tuple[int, tuple[int, ...]]:
    """The window and the first block after each restoration point, from the window of each block (0: global)."""
    own = {size for size in windows if size}
    window = max(own, default=USUAL_WINDOW) if window is None else window
    if not own:
        subsets = USUAL_SUBSETS if subsets is None else subsets
        if subsets < 1 or len(windows) % subsets:
            raise UserError(f"{len(windows)} blocks do not fall into {subsets} equal subsets; choose another number")
        length = len(windows) // subsets
        return window, tuple(range(length - 1, len(windows), length))
    if len(own) > 1:
        raise UserError(f"blocks attend in windows of {sorted(own)} tokens: mixed resolution needs one size")
    ends = tuple(index for index, local in enumerate(windows) if not local)
    if subsets not in (None, len(ends)):
        raise UserError(f"the model has {len(ends)} global blocks, not {subsets} subsets; leave subsets out")
    if not ends:
        raise UserError("the model has no block that attends globally: there is nowhere to restore resolution")
    return window, ends
