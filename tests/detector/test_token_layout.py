"""Tokens go into windows and come back; none is lost, and empty slots hold the fill."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitmalis.detector.token_layout import grid_layout

CPU = torch.device("cpu")


@settings(max_examples=40)
@given(rows=st.integers(1, 20), cols=st.integers(1, 20), window=st.integers(1, 7), batch=st.integers(1, 3))
def test_round_trip(rows: int, cols: int, window: int, batch: int) -> None:
    layout = grid_layout(rows, cols, window, CPU)
    tokens = torch.randn(batch, rows * cols, 3)
    windows = layout.window_partition(tokens, torch.zeros(3))
    assert windows.shape == (batch * -(-rows // window) * -(-cols // window), window * window, 3)
    assert torch.equal(layout.window_unpartition(windows, batch), tokens)


def test_three_by_two_tokens_in_windows_of_two() -> None:
    layout = grid_layout(3, 2, 2, CPU)
    tokens = torch.tensor([[[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]]])
    windows = layout.window_partition(tokens, torch.tensor([9.0]))
    assert windows[..., 0].tolist() == [[0, 1, 2, 3], [4, 5, 9, 9]]


def test_a_layout_made_while_predicting_serves_training() -> None:
    with torch.inference_mode():
        layout = grid_layout(4, 6, 5, CPU)
    tokens = torch.randn(1, 24, 2, requires_grad=True)
    layout.window_unpartition(layout.window_partition(tokens, torch.zeros(2)), 1).sum().backward()
    assert torch.equal(tokens.grad, torch.ones(1, 24, 2))


def test_upstream_window_partition(units: dict[str, np.ndarray]) -> None:
    image = torch.from_numpy(units["win_in"])  # (1, 11, 13, 3)
    layout = grid_layout(11, 13, 9, CPU)
    windows = layout.window_partition(image.flatten(1, 2), torch.zeros(3))
    assert torch.equal(windows.reshape(-1, 9, 9, 3), torch.from_numpy(units["win_out"]))
    assert len(layout.slot_token) == units["win_padhw"].prod()
    back = layout.window_unpartition(torch.from_numpy(units["win_out"]).flatten(1, 2), 1)
    assert torch.equal(back.view(1, 11, 13, 3), torch.from_numpy(units["win_back"]))
