"""Fused, plain and chunked attention are the same function, and equal timm's."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from vitmalis.detector.attention import attention, plain_attention
from vitmalis.detector.positions import RelativePositions, relative_table
from vitmalis.detector.token_layout import grid_layout, grid_rectangle
from vitmalis.detector.vit import Attention, Block

CPU = torch.device("cpu")


def naive(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias).softmax(-1) @ v


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 6 * 7, 8)
    return q, k, v


def test_fused_and_plain_attention_equal_the_formula(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    torch.testing.assert_close(attention(*qkv, None), naive(*qkv))
    torch.testing.assert_close(plain_attention(*qkv), naive(*qkv))


@pytest.mark.parametrize("tokens", [25, 70])
def test_bfloat16_trains_as_exactly_as_its_digits_allow(tokens: int) -> None:
    """Windows of 25 tokens take plain products, more tokens the fused kernel."""
    torch.manual_seed(0)
    exact = [torch.randn(2, 3, tokens, 8).bfloat16().float().requires_grad_() for _ in range(3)]
    rounded = [part.detach().bfloat16().requires_grad_() for part in exact]
    expected, found = naive(*exact), attention(*rounded, None)
    torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.03)
    gradients = zip(
        *(torch.autograd.grad(out.sum(), parts) for out, parts in ((found, rounded), (expected, exact))), strict=True
    )
    for own, wanted in gradients:
        torch.testing.assert_close(own.float(), wanted, rtol=0, atol=0.06)


@pytest.mark.parametrize("tokens", [25, 70, 1100])
def test_plain_attention_equals_the_formula(tokens: int) -> None:
    """Small windows in one product, more tokens head by head, many in chunks of query rows."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, tokens, 8)
    torch.testing.assert_close(plain_attention(q, k, v), naive(q, k, v))


def test_bfloat16_without_amx_is_as_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitmalis.detector.attention.BF16_WITHOUT_AMX", True)
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, 70, 8)
    found = attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), None)
    torch.testing.assert_close(found.float(), naive(q, k, v), rtol=0, atol=0.03)


@pytest.mark.parametrize("query_rows", [1, 5, 42, 256])
def test_chunks_equal_the_whole_bias(qkv: tuple[Tensor, Tensor, Tensor], query_rows: int) -> None:
    q, k, v = qkv
    rows, cols = relative_table(torch.randn(11, 8), 6), relative_table(torch.randn(13, 8), 7)
    bias = torch.zeros(2, 3, 42, 42)
    for i in range(42):
        for j in range(42):
            table = rows[i // 7, j // 7] + cols[i % 7, j % 7]
            bias[:, :, i, j] = q[:, :, i] @ table
    relative = RelativePositions(rows, cols, [grid_rectangle(6, 7, CPU)])
    torch.testing.assert_close(attention(q, k, v, relative, query_rows), naive(q, k, v, bias), rtol=1e-4, atol=1e-5)


def test_an_empty_slot_is_a_zero_before_the_projection() -> None:
    """Upstream pads with zeros in front of `qkv`; we fill in its bias behind it."""
    torch.manual_seed(0)
    layer = Attention(8, 2, relative_size=0, windowed=True)
    nn.init.normal_(layer.qkv.bias)
    tokens = torch.randn(1, 3 * 4, 8)
    padded = torch.zeros(1, 5, 5, 8)
    padded[:, :3, :4] = tokens.view(1, 3, 4, 8)
    whole = layer(padded.flatten(1, 2), grid_layout(5, 5, 5, CPU))
    expected = whole.view(1, 5, 5, 8)[:, :3, :4].flatten(1, 2)
    torch.testing.assert_close(layer(tokens, grid_layout(3, 4, 5, CPU)), expected)


@pytest.mark.parametrize("window", [0, 4])
def test_a_block_equals_timms(window: int) -> None:
    """Timm's segment-anything ViT has ViTDet's blocks, written by others."""
    sam = pytest.importorskip("timm.models.vision_transformer_sam")
    torch.manual_seed(0)
    theirs = sam.Block(
        dim=24,
        num_heads=3,
        use_rel_pos=True,
        window_size=window,
        input_size=(window, window) if window else (8, 8),
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    ).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = Block(24, 3, relative_size=window or 8, windowed=window > 0)
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 6, 9, 24)  # 9 columns: the global block's relative positions are resized
    with torch.inference_mode():
        tokens = ours(image.flatten(1, 2), grid_layout(6, 9, window or 4, CPU))
        torch.testing.assert_close(tokens.view(2, 6, 9, 24), theirs(image), rtol=1e-4, atol=1e-4)
