"""torch.compile for a transformer whose number of tokens changes with every mask."""

from __future__ import annotations

import torch

from vitmalis.detector.vit import Block, ViT, post_attention, pre_attention


def compile_blocks(vit: ViT) -> None:
    """Compile, at the first forward pass, what blocks do before and after attention; changes `vit` in place.

    Attention stays PyTorch's fused kernel and the gathering of windows stays as it is, so that no compiled code sees a
    layout: two functions, shared by all blocks, with the numbers of frames and tokens as symbols. That makes one graph
    of each for one frame and one for several, however many masks there are, and tokens need no padding to a few
    lengths. Recompilations are logged with their reasons; more than PyTorch's limit would be an error (`fullgraph`),
    never a silent return to the slow path.
    """
    torch._logging.set_logs(recompiles=True)
    before = torch.compile(pre_attention, dynamic=True, fullgraph=True)
    after = torch.compile(post_attention, dynamic=True, fullgraph=True)
    for block in vit.modules():
        if isinstance(block, Block):
            block.pre_attention, block.post_attention = before, after
