"""The head of the fast path against the eager one, part by part, and the cache of graphs."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.detector.fused.fused_models import CONFIGS, small_model
from vitmalis.detector.fcos import FcosDetector
from vitmalis.detector.fused.fcos_head import FusedFcosHead
from vitmalis.detector.fused.graphs import GraphCache
from vitmalis.detector.fused.head_kernels import roi_align
from vitmalis.detector.fused.pyramid import FusedPyramid
from vitmalis.detector.fused.rcnn_head import FusedRcnnHead
from vitmalis.detector.fused.selection import ABSENT, select, unpacked
from vitmalis.detector.fused.suppression import suppress, suppress_by_kernels
from vitmalis.detector.pooling import pool_boxes
from vitmalis.types import Detections

DEVICES = [torch.device("cpu"), *([torch.device("cuda")] if torch.cuda.is_available() else [])]
CPU = torch.device("cpu")


def features(batch: int, rows: int, cols: int, seed: int = 0) -> Tensor:
    """Random features (B, C, rows, cols), channels last in memory."""
    return torch.randn(batch, rows, cols, 32, generator=torch.Generator().manual_seed(seed)).permute(0, 3, 1, 2)


def detect(head: str, dtype: torch.dtype, maps: Tensor, size: tuple[int, int]) -> list[Detections]:
    model = small_model(head).to(maps.device)
    fused = FusedFcosHead(model, dtype) if isinstance(model, FcosDetector) else FusedRcnnHead(model, dtype)
    found = fused(FusedPyramid(model.backbone, dtype)(maps), size)
    return [unpacked(own, model.config.classes) for own in found.cpu().numpy()]


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("head", CONFIGS)
def test_levels_of_the_pyramid(head: str, device: torch.device) -> None:
    backbone, maps = small_model(head).backbone.to(device), features(2, 6, 10).to(device)
    expected = backbone.pyramid(maps)
    found = FusedPyramid(backbone, torch.float32)(maps)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.permute(0, 3, 1, 2), theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("rows", "cols", "size"), [(6, 8, (90, 125)), (5, 7, (70, 100)), (9, 5, (130, 80))])
@pytest.mark.parametrize("head", CONFIGS)
def test_detections(head: str, rows: int, cols: int, size: tuple[int, int], batch: int, device: torch.device) -> None:
    model, maps = small_model(head).to(device), features(batch, rows, cols).to(device)
    expected = model.detect_in(model.backbone.pyramid(maps), size)
    for ours, theirs in zip(detect(head, torch.float32, maps, size), expected, strict=True):
        assert len(ours) == len(theirs) > 5
        np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-5)
        np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-3)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        assert ours.labels.dtype == theirs.labels.dtype


@pytest.mark.parametrize("head", CONFIGS)
def test_a_batch_equals_its_images(head: str) -> None:
    maps, size = features(2, 6, 8), (90, 125)
    together = detect(head, torch.float32, maps, size)
    for index, whole in enumerate(together):
        (alone,) = detect(head, torch.float32, maps[index : index + 1], size)
        np.testing.assert_allclose(whole.boxes_xyxy, alone.boxes_xyxy, atol=1e-4)


@pytest.mark.parametrize("head", CONFIGS)
def test_weights_in_bf16_find_nearly_the_same_best_score(head: str) -> None:
    maps, size = features(1, 6, 8), (90, 125)
    (exact,), (rounded,) = (detect(head, dtype, maps, size) for dtype in (torch.float32, torch.bfloat16))
    assert rounded.scores[0] == pytest.approx(exact.scores[0], abs=0.03)
    assert exact.scores[0] != rounded.scores[0]


BOXES = torch.tensor([[[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 6], [20, 0, 30, 10], [20, 0, 30, 9]]]).float()
ALWAYS = torch.ones(1, 5, dtype=torch.bool)


@pytest.mark.parametrize("run", [suppress, suppress_by_kernels])
@pytest.mark.parametrize(
    ("labels", "valid", "kept"),
    [
        ([0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 1, 1, 0]),  # overlaps with the first: 0.8, 0.6; 0.9 on the right
        ([0, 1, 1, 0, 1], [1, 1, 1, 1, 1], [1, 1, 0, 1, 1]),  # the second and third overlap by 0.75
        ([0, 0, 0, 0, 0], [0, 1, 1, 0, 1], [0, 1, 0, 0, 1]),
        ([0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]),
    ],
)
def test_suppression_by_hand(run: object, labels: list[int], valid: list[int], kept: list[int]) -> None:
    arguments = BOXES, torch.tensor([labels], dtype=torch.int32), torch.tensor([valid], dtype=torch.bool), 0.7
    assert run(*arguments)[0].int().tolist() == kept  # type: ignore[operator]


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("places", [1, 33, 70])
def test_suppression_by_kernels_equals_torchvision(places: int, device: torch.device) -> None:
    draws = torch.Generator().manual_seed(places)
    corner = torch.rand(3, places, 2, generator=draws) * 60
    boxes = torch.cat([corner, corner + torch.rand(3, places, 2, generator=draws) * 40], -1)
    labels = torch.randint(0, 2, (3, places), generator=draws, dtype=torch.int32)
    valid = torch.rand(3, places, generator=draws) > 0.2
    valid[2] = False
    found = suppress_by_kernels(*(part.to(device) for part in (boxes, labels, valid)), 0.4)
    assert torch.equal(found.cpu(), suppress(boxes, labels, valid, 0.4))


@pytest.mark.parametrize("device", DEVICES, ids=str)
def test_roi_align_equals_torchvisions(device: torch.device) -> None:
    """Boxes of the finest and the coarsest level, at the border, empty, and beyond the image; six channels."""
    boxes = torch.tensor([[[0.5, 0.5, 3, 2], [0, 0, 0, 0]], [[80, 50, 104, 72], [0, 0, 600, 500]]])
    draws = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 24 >> i, 32 >> i, 6, generator=draws) for i in range(4)]
    maps = [level.permute(0, 3, 1, 2) for level in levels]
    expected = torch.cat([pool_boxes([m[i : i + 1] for m in maps], (4, 8, 16, 32), boxes[i], 7) for i in range(2)])
    found = roi_align([level.to(device) for level in levels], 2, boxes.to(device), 7, 224)
    torch.testing.assert_close(found.cpu().permute(0, 3, 1, 2), expected, rtol=0, atol=1e-5)


def test_places_without_a_detection() -> None:
    """Two candidates overlap by 0.8, a third one is outside of the image, two places have none; seven are asked for."""
    boxes = BOXES.clone()
    boxes[0, 2] = torch.tensor([-9, -9, -1, -1])
    scores = torch.tensor([[0.9, 0.8, 0.7, ABSENT, ABSENT]])
    found = select(boxes, scores, torch.tensor([[2, 2, 1, 0, 0]]), image_size=(5, 50), nms_iou=0.7, max_detections=7)
    assert found.shape == (1, 7, 6)
    detections = unpacked(found[0].numpy(), (10, 11, 12))
    assert detections.boxes_xyxy.tolist() == [[0, 0, 10, 5]]
    assert detections.scores.tolist() == pytest.approx([0.9])
    assert detections.labels.tolist() == [12]


def test_graphs_are_bounded_and_the_recently_used_ones_stay() -> None:
    cache, made = GraphCache(CPU, 2), []

    def run(key: int) -> int:
        def launch() -> list[Tensor]:
            made.append(key)
            return [torch.tensor(key)]

        return int(cache.run((key,), launch)[0])

    assert [run(key) for key in (1, 2, 1, 3, 4, 1)] == [1, 2, 1, 3, 4, 1]
    assert (len(cache), cache.room, (1,) in cache, (3,) in cache) == (2, 0, True, False)
    cache.drop(lambda key: key == (4,))
    assert (len(cache), cache.room) == (1, 1)


def test_a_graph_is_made_once_for_each_key() -> None:
    """On a CPU the function itself takes the place of its graph: the one that was given first."""
    cache = GraphCache(CPU, 2)
    assert [int(cache.run(("key",), lambda value=value: [torch.tensor(value)])[0]) for value in (1, 2)] == [1, 1]


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vitmalis.detector.fused import head_kernels as kernels

def compiled(kernel, pointers, constants, **options):
    types = {"threshold": "fp32", **pointers, **dict.fromkeys(constants, "constexpr")}
    signature = {p.name: types.get(p.name, "i32") for p in kernel.params}
    triton.compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32), options=options)

compiled(kernels._overlap_words, {"BOX": "*fp32", "LABEL": "*i32", "COUNT": "*i32", "WORD": "*i32"},
         {"ROWS": 64, "BITS": 32}, num_warps=4)
compiled(kernels._greedy, {"OVERLAP": "*i32", "GONE": "*i32", "COUNT": "*i32"}, {"WORDS": 128, "BITS": 32}, num_warps=1)
maps = dict.fromkeys(("L0", "L1", "L2", "L3", "OUT"), "*bf16")
shape = {"LEVELS": 4, "FINEST": 2, "CANONICAL": 224.0, "CHANNELS": 256, "WIDTH": 256, "SIDE": 7}
compiled(kernels._roi_align, {**maps, "BOX": "*fp32"}, shape, num_warps=1)
"""


@pytest.mark.slow
def test_kernels_compile_for_a_gpu_that_is_not_here() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
