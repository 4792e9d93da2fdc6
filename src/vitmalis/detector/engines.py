"""The engines that a detector can run on, and which one a model gets on a device."""

from __future__ import annotations

import logging
import os
from functools import cache

import torch

from vitmalis.detector.config import DetectorConfig, ModelConfig
from vitmalis.detector.devices import AUTO, chosen_device
from vitmalis.detector.fused.support import unsupported_reason
from vitmalis.errors import UserError

EAGER, FUSED = "eager", "fused"
ENGINES = (AUTO, EAGER, FUSED)
"""`auto` is `fused` on a CUDA GPU where it can run the model, else `eager`."""

LEAST_CAPABILITY = (8, 0)
"""Compute capability of the oldest GPUs that Triton supports (A100); older ones have no matrix products in bfloat16."""

_log = logging.getLogger(__name__)


def chosen_engine(engine: str, config: ModelConfig, *, device: str, precision: str, compiled: bool = False) -> str:
    """The engine of a model: "eager" or "fused". Why `auto` is eager on a CUDA GPU is logged once.

    Args:
        engine: one of `ENGINES`.
        config: of the model.
        device: as PyTorch names it, or "auto".
        precision: one of `PRECISIONS`.
        compiled: whether the model's blocks are compiled.

    Raises:
        UserError: there is no such engine, or "fused" cannot run this model here.
    """
    if engine not in ENGINES:
        raise UserError(f"model.engine={engine} is unknown; choose one of {', '.join(ENGINES)}")
    if engine == EAGER:
        return engine
    reason = _not_fused_reason(config, device, precision, compiled)
    if engine == AUTO and not _is_cuda(device):
        return EAGER
    if engine == AUTO and reason is not None:
        _log_eager(config.name, reason)
        return EAGER
    if reason is not None:
        raise UserError(f"model.engine=fused cannot run {config.name}: {reason}; use model.engine=auto")
    return FUSED


@cache
def _log_eager(name: str, reason: str) -> None:
    _log.warning("%s runs on the eager engine: %s", name, reason)


def _is_cuda(device: str) -> bool:
    return chosen_device(device).partition(":")[0] == "cuda"


def _not_fused_reason(config: ModelConfig, device: str, precision: str, compiled: bool) -> str | None:
    """Why the fused engine cannot run a model here; None where it can."""
    if not isinstance(config, DetectorConfig):
        return (
            "it is a class of another package"
            if config.source == "custom"
            else f"its layers are those of {config.source}"
        )
    if compiled:
        return "model.compile=true is for the eager engine"
    if precision == "fp16":
        return "it has no fp16, but fp32, tf32, bf16 and int8"
    if not _is_cuda(device) and os.environ.get("TRITON_INTERPRET") != "1":
        return f"it needs a CUDA GPU, not {device} (for tests, TRITON_INTERPRET=1 interprets its kernels on a CPU)"
    return unsupported_reason(config.vit) or _unsupported_gpu(device)


def _unsupported_gpu(device: str) -> str | None:
    """Why Triton's kernels cannot run on a GPU; None where they can, and where there is none to ask."""
    if not _is_cuda(device) or not torch.cuda.is_available():
        return None
    if torch.version.hip is not None:
        return "its kernels are made for NVIDIA's GPUs"
    try:
        capability = torch.cuda.get_device_capability(chosen_device(device))
    except (AssertionError, RuntimeError):
        return None  # there is no such GPU, as `checked_device` says
    if capability < LEAST_CAPABILITY:
        found, least = (f"{major}.{minor}" for major, minor in (capability, LEAST_CAPABILITY))
        return f"it needs a GPU of compute capability {least}, as Triton does, and {device} has {found}"
    return None
