"""The engine that a model gets on a device, and what is said where it cannot have the one that was named."""

from __future__ import annotations

import pytest
import torch

from vitmalis.detector import engines, load_detector, preset
from vitmalis.detector.config import AdaptedConfig, DetectorConfig, ModelConfig
from vitmalis.detector.engines import chosen_engine
from vitmalis.errors import UserError
from vitmalis.regions.grid import ModelGeometry

TINY: DetectorConfig = preset("vitdet_tiny")
TIMM = AdaptedConfig(
    name="vit",
    source="timm",
    architecture="0",
    geometry=ModelGeometry(2, 2, 16, 4),
    pixel_mean=(0, 0, 0),
    pixel_std=(1, 1, 1),
)


def engine(name: str, config: ModelConfig = TINY, device: str = "cpu", precision: str = "fp32", **more: bool) -> str:
    return chosen_engine(name, config, device=device, precision=precision, **more)


def test_auto_is_fused_on_a_gpu_that_can() -> None:
    assert engine("auto") == engine("eager", device="cuda") == "eager"
    assert engine("auto", device="cuda:1") == engine("auto", device="cuda", precision="bf16") == "fused"
    assert engine("auto", device="cuda", precision="fp16") == "eager"
    assert engine("auto", device="cuda", compiled=True) == "eager"
    assert engine("auto", preset("vitdet_l").with_geometry(window=20), device="cuda") == "eager"
    assert engine("auto", TIMM, device="cuda") == "eager"


def test_auto_says_once_why_it_is_eager_on_a_gpu(caplog: pytest.LogCaptureFixture) -> None:
    engines._log_eager.cache_clear()
    for _ in range(2):
        engine("auto", device="cuda", precision="fp16")
        engine("auto")
        engine("auto", device="cuda")
    assert caplog.messages == ["vitdet_tiny runs on the eager engine: it has no fp16, but fp32, tf32, bf16 and int8"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, r"it needs a CUDA GPU, not cpu \(for tests, TRITON_INTERPRET=1"),
        ({"device": "cuda", "precision": "fp16"}, "it has no fp16, but fp32, tf32, bf16 and int8"),
        ({"device": "cuda", "compiled": True}, r"model\.compile=true is for the eager engine"),
        ({"device": "cuda", "config": TIMM}, "its layers are those of timm"),
        ({"device": "cuda", "config": TINY.with_geometry(window=20)}, "its windows of 20 tokens are wider than 16"),
    ],
)
def test_fused_says_why_it_cannot(options: dict, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match=rf"^model\.engine=fused cannot run \S+: {reason}.*; use model\.engine=auto$"):
        engine("fused", **options)


@pytest.mark.parametrize(
    ("capability", "hip", "reason"),
    [
        ((7, 5), None, "it needs a GPU of compute capability 8.0, as Triton does, and cuda:1 has 7.5"),  # T4
        ((9, 4), "6.4", "its kernels are made for NVIDIA's GPUs"),  # MI300
        ((8, 0), None, None),
        ((12, 0), None, None),
    ],
)
def test_gpus_that_triton_cannot_use_run_eagerly(
    capability: tuple[int, int],
    hip: str | None,
    reason: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    engines._log_eager.cache_clear()
    asked: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: asked.append(device) or capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    assert engine("auto", device="cuda:1") == ("eager" if reason else "fused")
    assert caplog.messages == ([f"vitdet_tiny runs on the eager engine: {reason}"] if reason else [])
    assert asked == ([] if hip else ["cuda:1"])


def test_an_engine_that_does_not_exist() -> None:
    with pytest.raises(UserError, match=r"model\.engine=warp is unknown; choose one of auto, eager, fused"):
        load_detector("vitdet_tiny", engine="warp")


def test_the_interpreter_runs_fused_on_a_cpu_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert engine("auto") == "eager"
    assert engine("fused") == "fused"
    eager, fused = load_detector("vitdet_tiny"), load_detector("vitdet_tiny", engine="fused")
    assert (eager.engine, fused.engine) == ("eager", "fused")
    assert eager.model_id == fused.model_id
