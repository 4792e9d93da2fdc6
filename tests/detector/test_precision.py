"""Precisions: what PyTorch's flags are while a detector runs, and that they are put back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitmalis.detector import load_detector
from vitmalis.detector.precision import PRECISIONS, arithmetic

CPU = torch.device("cpu")


def flags() -> tuple[str, str]:
    return torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_tf32_rounds_the_factors_of_fp32_products(precision: str) -> None:
    before = flags()
    with arithmetic(CPU, precision):
        assert flags() == (("tf32", "tf32") if precision == "tf32" else ("ieee", "ieee"))
        computed = torch.ones(2, 2) @ torch.ones(2, 2)
    assert computed.dtype == PRECISIONS[precision]
    assert flags() == before


def test_flags_are_put_back_after_an_error() -> None:
    before = flags()
    with pytest.raises(RuntimeError), arithmetic(CPU, "tf32"):
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert flags() == before


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_a_detector_computes_in_its_precision(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    detector, seen = load_detector("vitdet_tiny", precision=precision), []
    predict = type(detector._model).predict
    monkeypatch.setattr(type(detector._model), "predict", lambda *args: (seen.append(flags()), predict(*args))[1])
    detector.detect(np.zeros((64, 96, 3), np.uint8))
    assert seen == [("tf32", "tf32") if precision == "tf32" else ("ieee", "ieee")]


def test_tf32_is_an_identity_of_its_own() -> None:
    exact, rounded = load_detector("vitdet_tiny"), load_detector("vitdet_tiny", precision="tf32")
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    assert exact.model_id != rounded.model_id
    assert np.array_equal(exact.detect(image).boxes_xyxy, rounded.detect(image).boxes_xyxy)  # on a CPU
