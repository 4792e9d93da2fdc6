"""Linear layers in int8 on the fast path: the kernels against the eager layers, and the transformer with them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.detector.fused.test_fused_backbone import MEAN, SMALL_TILES, STD, assert_equal, make_case
from vitmalis.detector.fused.backbone import FusedBackbone
from vitmalis.detector.fused.kernels.int8 import quantise_rows, scaled_product
from vitmalis.detector.fused.kernels.settings import INTERPRETER, LaunchSettings, launch_settings
from vitmalis.detector.fused.weights import FusedWeights
from vitmalis.detector.int8 import Int8Linear, prepare_products, quantised


@pytest.mark.parametrize("settings", [INTERPRETER, SMALL_TILES])
@pytest.mark.parametrize(("width", "out"), [(40, 120), (32, 48), (130, 10)])
def test_kernels_equal_the_eager_layer(device: torch.device, settings: LaunchSettings, width: int, out: int) -> None:
    """Rows of zeros, and sides that are no multiple of a tile's."""
    torch.manual_seed(0)
    used = settings if device.type == "cpu" else launch_settings(device, torch.bfloat16)
    layer = Int8Linear(nn.Linear(width, out)).to(device)
    x = torch.randn(2 * used.bucket_tokens, width, device=device)
    x[5] = 0
    rows, scale = quantise_rows(x, used)
    expected, expected_scale = quantised(x)
    assert torch.equal(rows, expected)
    torch.testing.assert_close(scale, expected_scale[:, 0])
    torch.testing.assert_close(scaled_product(rows, scale, layer, used), layer(x))


def test_gelu_before_rounding(device: torch.device) -> None:
    """The last bits of the error function may round to the next number."""
    used = INTERPRETER if device.type == "cpu" else launch_settings(device, torch.bfloat16)
    x = torch.linspace(-4, 4, used.bucket_tokens * 40, device=device).view(-1, 40)
    rows, scale = quantise_rows(x, used, gelu=True)
    expected, expected_scale = quantised(F.gelu(x))
    assert (rows.int() - expected.int()).abs().max() <= 1
    assert (rows != expected).float().mean() < 0.01
    torch.testing.assert_close(scale, expected_scale[:, 0])


def test_the_transformer_is_as_close_as_int8_is(device: torch.device) -> None:
    """The error next to fp32 is that of the eager layers."""
    case = make_case(device)
    mask = np.array([[True, False], [False, True]])
    patches = [case.patches(mask)]
    exact = case.eager_patches(patches, [mask], 2)
    prepare_products(case.vit, "int8")
    case.fused = FusedBackbone(FusedWeights(case.vit, torch.bfloat16), case.grid, MEAN, STD)
    found, eager = case.run(patches, [mask], 2), case.eager_patches(patches, [mask], 2)
    assert_equal(found, exact, tolerance=4e-2)
    assert_equal(eager.float(), exact, tolerance=4e-2)
    assert_equal(found, eager.float(), tolerance=4e-2)
