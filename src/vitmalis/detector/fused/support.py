"""What the fast path can run, asked before anything of it is imported."""

from __future__ import annotations

from importlib.util import find_spec

from vitmalis.detector.config import VitConfig

MAX_FUSED_WINDOW = 16
"""Largest window side in tokens: one program of the window kernel holds all keys of a window."""

MAX_HEAD_WIDTH = 256
"""Most channels of an attention head; a program holds the queries of a tile of tokens at this width."""


def unsupported_reason(config: VitConfig) -> str | None:
    """Why the fast path cannot run a transformer; None where it can."""
    head_width = config.embed_dim // config.num_heads
    if find_spec("triton") is None:
        return "Triton is not installed (it comes with PyTorch's CUDA builds)"
    if config.window > MAX_FUSED_WINDOW:
        return f"its windows of {config.window} tokens are wider than {MAX_FUSED_WINDOW}"
    if head_width > MAX_HEAD_WIDTH:
        return f"its attention heads of {head_width} channels are wider than {MAX_HEAD_WIDTH}"
    return None
