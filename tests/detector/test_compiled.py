"""torch.compile: the same features, and two graphs however many masks there are."""

import logging

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

from tests.detector.mixed_resolution import TINY, layout_of, make_vit, padded_noise
from vitmalis.detector.batched_layout import MixedBatch
from vitmalis.detector.compiled import compile_blocks
from vitmalis.regions.grid import RegionGrid

pytestmark = pytest.mark.slow  # the compiler takes half a minute when its cache is empty


@pytest.fixture
def fresh_compiler() -> None:
    torch.compiler.reset()
    counters.clear()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("relative", [False, True])
@torch.inference_mode()
def test_masks_share_two_graphs(relative: bool) -> None:
    """More numbers of tokens than PyTorch would recompile for; a batch of several frames has two graphs of its own."""
    rng = np.random.default_rng(0)
    plain, compiled = make_vit(0, relative_positions=relative), make_vit(0, relative_positions=relative)
    compile_blocks(compiled)
    tokens = set()
    for size in ((128, 96), (200, 150)):
        grid = RegionGrid(*size, TINY.window)
        for point in (0, 1, 2, 3, 3, 3):
            layout, images = layout_of(grid, rng.random(grid.shape) < 0.5), padded_noise(grid)
            tokens.add(layout.tokens)
            torch.testing.assert_close(compiled(images, layout, point), plain(images, layout, point), rtol=0, atol=1e-4)
    assert len(tokens) > torch._dynamo.config.recompile_limit
    assert counters["stats"]["unique_graphs"] == 2
    masks = [np.array([[True, False], [False, False]]), np.array([[False, False], [True, True]])]
    for batch in (MixedBatch.of([layout_of(RegionGrid(128, 96, 2), mask) for mask in masks]), None):
        images = padded_noise(RegionGrid(128, 96, 2), batch=2)
        torch.testing.assert_close(compiled(images, batch, 3), plain(images, batch, 3), rtol=0, atol=1e-4)
    assert counters["stats"]["unique_graphs"] == 4


@pytest.mark.usefixtures("fresh_compiler")
@torch.inference_mode()
def test_recompilations_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    vit = make_vit(0, relative_positions=False)
    compile_blocks(vit)
    logging.getLogger("torch").addHandler(caplog.handler)
    try:
        for batch in (1, 2, 3):
            vit(padded_noise(RegionGrid(128, 96, 2), batch))
    finally:
        logging.getLogger("torch").removeHandler(caplog.handler)
    reasons = [record.getMessage() for record in caplog.records if "Recompiling function" in record.getMessage()]
    assert len(reasons) == 2
    assert "size mismatch at index 0. expected 1, actual 2" in reasons[0]
