"""Linear layers in int8: rounding and products by hand, and a detector that has them in its blocks only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitmalis.detector import load_detector
from vitmalis.detector.build import build_model
from vitmalis.detector.config import PRESETS
from vitmalis.detector.detector import Detector
from vitmalis.detector.int8 import Int8Linear, quantised
from vitmalis.detector.precision import arithmetic
from vitmalis.errors import UserError


def test_rows_are_scaled_to_127() -> None:
    rows, scale = quantised(torch.tensor([[1, -2.54, 0.509], [0, 0, 0], [127, 1, -0.4]]))
    assert rows.tolist() == [[50, -127, 25], [0, 0, 0], [127, 1, 0]]
    assert scale.flatten().tolist() == pytest.approx([0.02, 1e-12, 1])


def test_a_layer_by_hand() -> None:
    """Numbers that int8 has exactly: scales 1 and 0.5 of the inputs, 2 and 1 of the output channels."""
    layer = nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[254.0, 2], [-127, 3]]))
        layer.bias.copy_(torch.tensor([1.0, -1]))
    found = Int8Linear(layer)(torch.tensor([[127.0, 1], [-63.5, 0.5]]))
    assert found.dtype == torch.bfloat16
    exact = torch.tensor([[127 * 254 + 2 + 1, -127 * 127 + 3 - 1], [-63.5 * 254 + 1 + 1, 63.5 * 127 + 1.5 - 1]])
    assert torch.equal(found, exact.bfloat16())


@pytest.mark.parametrize("shape", [(1,), (3, 20), (2, 2, 5)])
def test_a_layer_is_near_the_exact_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer, x = nn.Linear(64, 24), torch.randn(*shape, 64)
    found, exact = Int8Linear(layer)(x), layer(x)
    assert found.shape == exact.shape
    assert ((found - exact).norm() / exact.norm()).item() < 0.02


def test_a_detector_multiplies_in_int8_in_its_blocks_only() -> None:
    exact, rounded = load_detector("vitdet_tiny"), load_detector("vitdet_tiny", precision="int8", engine="eager")
    names = [name for name, layer in rounded.model.named_modules() if isinstance(layer, Int8Linear)]
    layers = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
    assert names == [f"backbone.net.blocks.{block}.{layer}" for block in range(8) for layer in layers]
    assert rounded.model_id != exact.model_id
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (96, 160, 3), np.uint8))
    padded = exact.model.prepare(F.avg_pool2d(image.permute(2, 0, 1)[None].float(), 5, 1, 2))
    with torch.inference_mode():
        expected = exact.model.backbone.net(padded)
        with arithmetic(rounded.device, "int8"):
            found = rounded.model.backbone.net(padded)
    error = ((found - expected).norm() / expected.norm()).item()
    assert 1e-3 < error < 0.05
    rounded.detect(image.numpy(), np.ones((1, 1), np.bool_), 2)


def test_compiled_models_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be compiled with precision=int8; use compile=false or precision=bf16"):
        Detector(build_model(PRESETS["vitdet_tiny"]), weights_sha256="0", precision="int8", compiled=True)
