"""The arithmetic of a model: autocast, and how a GPU multiplies fp32 matrices; chosen here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vitmalis.errors import UserError

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Name -> type that products are computed in."""


def checked_precision(name: str) -> str:
    """Check that a precision exists, and return it; raises `UserError` if not."""
    if name not in PRECISIONS:
        raise UserError(f"model precision '{name}' is unknown; choose one of {', '.join(PRECISIONS)}")
    return name


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Compute in a precision inside this block.

    fp32 products on a GPU keep all bits of their factors, except with "tf32", which rounds factors to 10 bits in matrix
    products and convolutions alike. PyTorch itself rounds in convolutions only, so neither is left to its defaults.
    The flags are those of the process and are put back at the end.

    Args:
        device: where the model runs.
        precision: one of `PRECISIONS`; "bf16" and "fp16" are autocast, and "tf32" is fp32 on a CPU.
    """
    dtype = PRECISIONS[precision]
    products = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]  # the stubs lack it
    before = [kind.fp32_precision for kind in products]
    try:
        for kind in products:
            kind.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            yield
    finally:
        for kind, value in zip(products, before, strict=True):
            kind.fp32_precision = value
