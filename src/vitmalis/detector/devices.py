"""Devices that a model runs on, by PyTorch's names, and `auto` for the best one that this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from vitmalis.errors import UserError

AUTO = "auto"


def chosen_device(name: str) -> str:
    """The name of a device; in the place of `auto`, `cuda` where PyTorch can use such a GPU, else `cpu`.

    Other kinds of devices, such as Apple's `mps`, are taken only by name: the detector was never run on them.
    """
    if name != AUTO:
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def checked_device(name: str, option: str = "model.device") -> torch.device:
    """Look up a device by name, and compute something on it.

    Args:
        name: as PyTorch names it, or "auto".
        option: where the name was given, for the message.

    Raises:
        UserError: this machine has no such device, or it cannot compute.
    """
    try:
        device = torch.device(chosen_device(name))
        torch.ones(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].partition(". ")[0]  # PyTorch may go on for pages
        raise UserError(
            f"{option}={name} is not available here ({reason}): choose {', '.join(_available())}, or {AUTO} for "
            "the best of them"
        ) from error
    return device


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Make a GPU the current one of this thread inside a block: kernels that are not PyTorch's own run on that one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def constant(values: Sequence[object], like: Tensor) -> Tensor:
    """Copy numbers to where a tensor is, as its type; on a GPU without waiting for what that computes."""
    return torch.tensor(values, dtype=like.dtype).to(like.device, non_blocking=True)


def _available() -> list[str]:
    """The devices that can be chosen instead."""
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
