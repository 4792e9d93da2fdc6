"""The arithmetic of a model: autocast, and how a GPU multiplies fp32 matrices; chosen here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from vitmalis.errors import UserError

INT8 = "int8"
"""The precision in which linear layers of blocks multiply int8 numbers (`int8.Int8Linear`); the rest is bf16."""

AUTOCAST = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions that any model can be computed in: name -> type of products."""

PRECISIONS = AUTOCAST | {INT8: torch.bfloat16}
"""Name -> type of products, for `INT8` those that are not in int8."""


def checked_precision(name: str) -> str:
    """Check that a precision exists, and return it; raises `UserError` if not."""
    if name not in PRECISIONS:
        raise UserError(f"model precision '{name}' is unknown; choose one of {', '.join(PRECISIONS)}")
    return name


@contextmanager
def fp32_products(precision: str) -> Iterator[None]:
    """Multiply fp32 matrices on a GPU, inside this block, as a precision says.

    Products keep all bits of their factors, except with "tf32", which rounds factors to 10 bits in matrix products and
    convolutions alike. PyTorch itself rounds in convolutions only, so neither is left to its defaults. The flags are
    those of the process and are put back at the end.
    """
    kinds = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]  # the stubs lack it
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "tf32" if precision == "tf32" else "ieee"
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value


@contextmanager
def arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Compute a model whose weights are fp32 in a precision inside this block.

    Args:
        device: where the model runs.
        precision: one of `PRECISIONS`; "bf16" and "fp16" are autocast, as is what "int8" has besides int8 products, and
            "tf32" is fp32 on a CPU.
    """
    dtype = PRECISIONS[precision]
    with fp32_products(precision), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        yield
