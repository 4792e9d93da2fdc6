"""torch.compile for a transformer whose number of tokens changes with every mask."""

from __future__ import annotations

import torch

from vitmalis.detector.vit import Block, ViT, enter, leave


def compile_blocks(vit: ViT) -> None:
    """Compile, at the first forward pass, what blocks do before and after attention; changes `vit` in place.

    Attention itself stays PyTorch's fused kernel, and the gathering of windows around it stays as it is, so that
    nothing that is compiled sees a layout: two functions, shared by all blocks, with the numbers of frames and tokens
    as symbols. That makes a graph each for one frame and for several, however many masks there are, and no padding of
    tokens to buckets is needed. Recompilations are logged with their reasons; more than PyTorch's limit would be an
    error (`fullgraph`), never a silent return to the slow path.
    """
    torch._logging.set_logs(recompiles=True)
    ends = torch.compile(enter, dynamic=True, fullgraph=True), torch.compile(leave, dynamic=True, fullgraph=True)
    for block in vit.modules():
        if isinstance(block, Block):
            block.ends = ends
