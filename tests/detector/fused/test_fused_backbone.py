"""The fast path's transformer against the eager one, for all kinds of models, masks and frames."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from tests.detector.mixed_resolution import make_vit, random_mask
from vitmalis.detector.config import PRESETS
from vitmalis.detector.fused.backbone import FusedBackbone, Gelu
from vitmalis.detector.fused.kernels.settings import (
    FLOAT32,
    HOPPER,
    INTERPRETER,
    SMALL,
    LaunchSettings,
    ProductTile,
    Tile,
    launch_settings,
)
from vitmalis.detector.fused.plan import rounded_tokens
from vitmalis.detector.fused.support import unsupported_reason
from vitmalis.detector.fused.weights import FusedWeights
from vitmalis.detector.mixed import mixed_layout
from vitmalis.detector.postprocess import pad_to_multiple
from vitmalis.detector.vit import ViT
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask

MEAN, STD = PRESETS["vitdet_l"].pixel_mean, PRESETS["vitdet_l"].pixel_std
SMALL_TILE = Tile(queries=16, warps=4, stages=1)
SMALL_TILES = LaunchSettings(16, 16, 16, SMALL_TILE, SMALL_TILE, SMALL_TILE, SMALL_TILE, ProductTile(16, 16, 16, 4, 1))
"""Several tiles, segments and blocks in frames that the interpreter can do."""


@dataclass
class Case:
    """A small model, the size of its frames, and the same model on the fast path."""

    vit: ViT
    grid: RegionGrid
    fused: FusedBackbone

    def images(self, batch: int, seed: int = 0) -> list[np.ndarray]:
        shape = (batch, self.grid.height_px, self.grid.width_px, 3)
        return list(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))

    def patches(self, mask: BoolMask, seed: int = 0) -> np.ndarray:
        shape = (self.grid.tokens(mask), self.grid.patch_px, self.grid.patch_px, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)

    def eager_images(self, images: Sequence[np.ndarray], masks: Sequence[BoolMask | None], point: int) -> Tensor:
        return torch.cat([self._eager_image(image, mask, point) for image, mask in zip(images, masks, strict=True)])

    def _eager_image(self, image: np.ndarray, mask: BoolMask | None, point: int) -> Tensor:
        scaled = (torch.from_numpy(image) - torch.tensor(MEAN)) / torch.tensor(STD)
        padded = pad_to_multiple(scaled.permute(2, 0, 1)[None], self.grid.patch_px * self.grid.factor)
        device = self.vit.pos_embed.device
        layout = None if mask is None else mixed_layout(self.grid, mask, device)
        return self.vit(padded.to(device), layout, point)

    def eager_patches(self, patches: Sequence[np.ndarray], masks: Sequence[BoolMask], point: int) -> Tensor:
        device, found = self.vit.pos_embed.device, []
        for own, mask in zip(patches, masks, strict=True):
            layout = mixed_layout(self.grid, mask, device)
            scaled = ((torch.from_numpy(own) - torch.tensor(MEAN)) / torch.tensor(STD))[None].to(device)
            found.append(self.vit.forward_patches(scaled * layout.inside()[..., None], layout, point))
        return torch.cat(found)

    def run(
        self, frames: Sequence[np.ndarray], masks: Sequence[BoolMask | None], point: int, mixed: bool = False
    ) -> Tensor:
        """Features of the fast path; `mixed` to have tokens of an empty mask in blocks."""
        buckets = [self.fused.bucket(mask) for mask in masks]
        if mixed:
            tokens = [self.grid.tokens(mask) for mask in masks if mask is not None]
            buckets.append(rounded_tokens(self.fused.geometry, max(tokens)))
        slot = self.fused.slot(max(buckets), len(frames), "images" if frames[0].ndim == 3 else "patches")
        self.fused.load(slot, frames, masks)
        return self.fused.run(slot, point)


def make_case(
    device: torch.device,
    size: tuple[int, int] = (60, 40),
    factor: int = 2,
    *,
    batch: int = 1,
    tiles: LaunchSettings = INTERPRETER,
    dtype: torch.dtype = torch.float32,
    gelu: Gelu = "exact",
    **model: object,
) -> Case:
    vit = make_vit(0, **{"patch_px": 8, "depth": 4, "subsets": 2, **model}).to(device)
    grid = RegionGrid(*size, vit.config.window, factor, vit.config.patch_px)
    used = tiles if device.type == "cpu" else launch_settings(device, dtype)
    fused = FusedBackbone(FusedWeights(vit, dtype), grid, MEAN, STD, batch=batch, gelu=gelu, settings=used)
    return Case(vit, grid, fused)


def assert_equal(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """The error relative to the norm is below a tolerance."""
    assert found.shape == expected.shape
    assert found.dtype == torch.float32
    assert ((found - expected).norm() / expected.norm()).item() < tolerance


MODELS = {
    "window 3": {"window": 3},
    "window 9 of 14": {"window": 9, "relative_window": 14, "depth": 2, "subsets": 1},
    "window 14": {"window": 14, "depth": 2, "subsets": 1, "num_heads": 1},
    "heads of 80": {"embed_dim": 80, "num_heads": 1},
    "vitdet_tiny's kind": {
        "embed_dim": 40, "num_heads": 5, "stem": "hierarchical", "relative_positions": False, "class_position": False,
        "patch_px": 16,
    },
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_models_of_every_kind(device: torch.device, model: dict[str, object]) -> None:
    case = make_case(device, (90, 50), **model)
    images = case.images(1)
    assert_equal(case.run(images, [None], 0), case.eager_images(images, [None], 0))
    mask = np.zeros(case.grid.shape, np.bool_)
    mask[0, 0] = True
    patches, last = [case.patches(mask)], case.vit.config.subsets
    assert_equal(case.run(patches, [mask], last), case.eager_patches(patches, [mask], last))


@pytest.mark.parametrize("point", [0, 1, 2])
def test_every_restoration_point_in_patches_and_in_images(device: torch.device, point: int) -> None:
    case = make_case(device)
    mask = np.array([[True, False], [False, True]])
    patches, images = [case.patches(mask)], case.images(1)
    assert_equal(case.run(patches, [mask], point), case.eager_patches(patches, [mask], point))
    assert_equal(case.run(images, [mask], point), case.eager_images(images, [mask], point))


@pytest.mark.parametrize("factor", [1, 3])
def test_other_factors(device: torch.device, factor: int) -> None:
    case = make_case(device, (70, 30), factor, window=1, depth=2, subsets=1)
    mask = random_mask(case.grid, 3)
    for point in (0, 1):
        patches = [case.patches(mask)]
        assert_equal(case.run(patches, [mask], point), case.eager_patches(patches, [mask], point))


@hypothesis_settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.tuples(st.integers(1, 90), st.integers(1, 50)), window=st.integers(1, 3), seed=st.integers(0, 99))
def test_any_size_and_mask(device: torch.device, size: tuple[int, int], window: int, seed: int) -> None:
    """Tiles of 16: lines of several segments, blocks of several shapes, tiles with tokens of both resolutions."""
    case = make_case(device, size, tiles=SMALL_TILES, window=window, depth=2, subsets=1, num_heads=1)
    mask = random_mask(case.grid, seed)
    patches = [case.patches(mask)]
    assert_equal(case.run(patches, [mask], 1), case.eager_patches(patches, [mask], 1))
    images = case.images(1)
    assert_equal(case.run(images, [None], 0), case.eager_images(images, [None], 0))


@pytest.mark.parametrize("point", [0, 1])
def test_frames_with_different_masks_in_one_batch(device: torch.device, point: int) -> None:
    """One mask leaves 32 tokens and the other 28, which a batch of the eager model cannot have."""
    case = make_case(device, batch=2, depth=2, subsets=1)
    masks = [np.array([[True, False], [False, False]]), np.array([[False, True], [True, False]])]
    patches = [case.patches(mask, seed) for seed, mask in enumerate(masks)]
    assert len({len(own) for own in patches}) == 2
    assert_equal(case.run(patches, masks, point), case.eager_patches(patches, masks, point))


@hypothesis_settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(30, 90), st.integers(20, 50)),
    window=st.integers(1, 3),
    point=st.integers(0, 2),
    seeds=st.lists(st.integers(0, 99), min_size=2, max_size=3),
)
def test_frames_padded_to_the_largest_bucket_of_a_batch(
    device: torch.device, size: tuple[int, int], window: int, point: int, seeds: list[int]
) -> None:
    """Buckets of 16 tokens: most masks fall into buckets of their own. The last frame has no low region at all."""
    case = make_case(device, size, batch=4, tiles=SMALL_TILES, window=window, num_heads=1)
    masks = [random_mask(case.grid, seed) for seed in seeds] + [np.zeros(case.grid.shape, np.bool_)]
    patches = [case.patches(mask, seed) for seed, mask in enumerate(masks)]
    together = case.run(patches, masks, point, mixed=True)
    assert_equal(together, case.eager_patches(patches, masks, point))


def test_frames_that_are_on_the_device_already(device: torch.device) -> None:
    case = make_case(device, depth=2, subsets=1)
    mask = np.array([[True, False], [False, True]])
    patches = [case.patches(mask)]
    slot = case.fused.slot(case.fused.bucket(mask))
    case.fused.load(slot, [torch.from_numpy(patches[0]).to(device)], [mask])
    assert_equal(case.fused.run(slot, 1), case.eager_patches(patches, [mask], 1))


def test_an_empty_mask_among_blocks_equals_plain(device: torch.device) -> None:
    case = make_case(device)
    images, mask = case.images(1), np.zeros((2, 2), np.bool_)
    plain = case.run(images, [None], 0)
    assert_equal(case.run(images, [mask], 2, mixed=True), plain)
    assert torch.equal(case.run(images, [mask], 2), plain)
    patches = [case.patches(mask)]
    assert_equal(case.run(patches, [mask], 2), case.eager_patches(patches, [mask], 2))


def test_a_slot_serves_every_mask_of_its_bucket(device: torch.device) -> None:
    """What a graph holds on to stays where it is, and slots of all buckets share the memory of one."""
    case = make_case(device, depth=2, subsets=1)
    addresses = set()
    for seed in range(3):
        mask = random_mask(case.grid, seed)
        patches = [case.patches(mask)]
        assert_equal(case.run(patches, [mask], 1), case.eager_patches(patches, [mask], 1))
        addresses.add(case.fused.slot(case.fused.bucket(mask), 1).plan.counts.data_ptr())
    assert len(addresses) == 1


@pytest.mark.parametrize("gelu", ["exact", "tanh"])
def test_bfloat16_is_close(device: torch.device, gelu: Gelu) -> None:
    """bfloat16 has 8 bits, an error of 2e-3 for each rounding, and GELU by tanh an error of 5e-4."""
    case = make_case(device, dtype=torch.bfloat16, gelu=gelu)
    mask = np.array([[True, False], [False, True]])
    patches = [case.patches(mask)]
    assert_equal(case.run(patches, [mask], 2), case.eager_patches(patches, [mask], 2), tolerance=2e-2)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_a_graph_holds_for_other_masks(device: torch.device) -> None:
    case = make_case(device)
    masks = [np.array([[True, False], [False, True]]), np.array([[False, True], [True, False]])]
    patches = [case.patches(mask) for mask in masks]
    slot = case.fused.slot(case.fused.bucket(masks[0]))
    case.run(patches[:1], masks[:1], 1)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        features = case.fused.run(slot, 1)
    for own, mask in zip(patches, masks, strict=True):
        case.fused.load(slot, [own], [mask])
        graph.replay()
        assert_equal(features, case.eager_patches([own], [mask], 1), tolerance=1e-4)


@pytest.mark.parametrize("settings", [HOPPER, SMALL, FLOAT32, INTERPRETER])
def test_no_program_has_tokens_of_two_frames(settings: LaunchSettings) -> None:
    for tokens in (settings.plain.queries, settings.mixed.queries, settings.product.rows, settings.rows):
        assert settings.bucket_tokens % tokens == 0


def test_a_batch_that_is_too_large_is_refused(device: torch.device) -> None:
    case = make_case(device, batch=2)
    with pytest.raises(ValueError, match="a batch of 3 frames is larger than the backbone was made for"):
        case.fused.slot(case.fused.bucket(None), batch=3)


def test_what_the_fast_path_cannot_run() -> None:
    assert all(unsupported_reason(config.vit) is None for config in PRESETS.values())
    wide = msgspec.structs.replace(PRESETS["vitdet_b"].vit, window=17)
    assert unsupported_reason(wide) == "its windows of 17 tokens are wider than 16"
    heads = msgspec.structs.replace(PRESETS["vitdet_b"].vit, num_heads=2)
    assert unsupported_reason(heads) == "its attention heads of 384 channels are wider than 256"
