"""Our linear layer is PyTorch's: same weights, same numbers, same gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vitmalis.detector.linear import ONEDNN, Linear, Perceptron


@pytest.fixture
def layers() -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, plain = Linear(48, 32), nn.Linear(48, 32)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize("shape", [(48,), (1, 48), (2, 7, 48), (0, 48)])
def test_predictions_are_those_of_pytorch(layers: tuple[Linear, nn.Linear], shape: tuple[int, ...]) -> None:
    ours, plain = layers
    tokens = torch.randn(shape)
    with torch.inference_mode():
        torch.testing.assert_close(ours(tokens), plain(tokens), rtol=1e-5, atol=1e-5)


def test_tokens_out_of_order_in_memory(layers: tuple[Linear, nn.Linear]) -> None:
    ours, plain = layers
    tokens = torch.randn(5, 48, 3).transpose(1, 2)
    with torch.inference_mode():
        torch.testing.assert_close(ours(tokens), plain(tokens), rtol=1e-5, atol=1e-5)


def test_training_has_gradients(layers: tuple[Linear, nn.Linear]) -> None:
    ours, plain = layers
    tokens = torch.randn(7, 48)
    for layer in layers:
        layer(tokens).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad)


def test_autocast_is_obeyed(layers: tuple[Linear, nn.Linear]) -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert layers[0](torch.randn(7, 48)).dtype == torch.bfloat16


@pytest.mark.skipif(not ONEDNN, reason="this PyTorch is built without oneDNN")
def test_predictions_take_onednn(layers: tuple[Linear, nn.Linear]) -> None:
    with torch.inference_mode(), torch.profiler.profile() as profile:
        layers[0](torch.randn(7, 48))
    assert "mkldnn::_linear_pointwise" in {event.key for event in profile.key_averages()}


@pytest.mark.parametrize("gradients", [False, True])
def test_a_perceptron_is_its_layers_one_after_another(gradients: bool) -> None:
    torch.manual_seed(0)
    perceptron = Perceptron(24)
    tokens = torch.randn(2, 7, 24)
    expected = nn.functional.gelu(tokens @ perceptron.fc1.weight.T + perceptron.fc1.bias)
    expected = expected @ perceptron.fc2.weight.T + perceptron.fc2.bias
    with torch.set_grad_enabled(gradients):
        torch.testing.assert_close(perceptron(tokens), expected.detach() if not gradients else expected)
    assert [name for name, _ in perceptron.named_children()] == ["fc1", "act", "fc2"]
