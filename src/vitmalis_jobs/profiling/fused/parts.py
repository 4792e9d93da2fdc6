"""What the job measures: the backbone, the server's step, and the agreement of boxes, on both engines."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from vitmalis.codec.offload import encode_offload
from vitmalis.detector import Detector
from vitmalis.detector.base import DetectionModel
from vitmalis.detector.config import DetectorConfig
from vitmalis.detector.flops import vit_cost
from vitmalis.detector.fused.backbone import FusedBackbone, Gelu
from vitmalis.detector.fused.engine import FusedDetector
from vitmalis.detector.fused.graphs import GraphCache
from vitmalis.detector.fused.weights import FusedWeights
from vitmalis.detector.precision import PRECISIONS, arithmetic, fp32_products
from vitmalis.metrics import Counts, match
from vitmalis.network.wire.messages import Offload
from vitmalis.offload import OffloadDecision
from vitmalis.regions.grid import RegionGrid
from vitmalis.server.decoding import Decoder, decode_offload, infer
from vitmalis.server.device_decoding import device_decoder
from vitmalis.types import BoolMask, Configuration, RgbImage
from vitmalis_jobs.common.timing import Run, Stopwatch
from vitmalis_jobs.profiling.inference import nested_mask

BAR_FACTOR, BAR_OFFSET = 1.05, 0.03
"""The backbone's time ratio is at most BAR_FACTOR x FLOP ratio + BAR_OFFSET."""

QUALITY = 90
STEP_SHARES = (0.0, 0.5, 1.0)


class Bench(NamedTuple):
    """A model on its device, and what it is measured with.

    Attributes:
        model: eager, in fp32.
        device, precision: where and how engines run it.
        gelu: how the fused backbone alone computes it.
        grid: regions of the frames.
        frames: rendered, RGB uint8 (H, W, 3).
        stopwatch: of the device.
        repeats: calls of which the median is reported.
    """

    model: DetectionModel
    device: torch.device
    precision: str
    gelu: Gelu
    grid: RegionGrid
    frames: list[RgbImage]
    stopwatch: Stopwatch
    repeats: int

    @property
    def config(self) -> DetectorConfig:
        """The architecture that is measured."""
        assert isinstance(self.model.config, DetectorConfig)
        return self.model.config

    def detector(self, fused: bool, precision: str | None = None) -> Detector:
        """The model on an engine; a copy, as a precision may replace layers."""
        kind, model = FusedDetector if fused else Detector, copy.deepcopy(self.model)
        return kind(model, weights_sha256="", device=str(self.device), precision=precision or self.precision)

    def call_ms(self, run: Run) -> float:
        """Time of a call of several that follow each other; on a CPU the median of single ones."""
        self.stopwatch.warm_up(run)
        return self.stopwatch.stream_ms(run, self.repeats) or self.stopwatch.median_ms(run, self.repeats)


class BackboneTimes:
    """The backbone on both engines, from bytes or pixels on the device to features."""

    def __init__(self, bench: Bench) -> None:
        self._bench, config = bench, bench.config
        self._net = bench.detector(fused=False).model.backbone.vit
        weights = FusedWeights(self._net, PRECISIONS[bench.precision])
        self._fused = FusedBackbone(weights, bench.grid, config.pixel_mean, config.pixel_std, gelu=bench.gelu)
        self._graphs = GraphCache(bench.device, 2)
        self._draws = np.random.default_rng(0)

    def fused_ms(self, mask: BoolMask, point: int) -> float:
        """Time of the fused backbone, its graph replayed."""
        backbone, slot = self._fused, self._fused.slot(self._fused.bucket(mask))
        backbone.load(slot, [self._patches(mask)], [mask])

        def run() -> object:
            return self._graphs.run((slot.bucket, point), lambda: [backbone.run(slot, point)])

        with fp32_products(self._bench.precision):
            return self._bench.call_ms(run)

    def eager_ms(self, mask: BoolMask, point: int) -> float:
        """Time of the eager backbone."""
        bench = self._bench
        layout = bench.model.layout((bench.grid.height_px, bench.grid.width_px), mask)
        pixels = torch.zeros(1, 3, bench.grid.padded_height_px, bench.grid.padded_width_px, device=bench.device)
        run: Run = lambda: self._net(pixels)  # noqa: E731
        if layout is not None:
            patches, mixed = layout.cut(pixels), layout
            run = lambda: self._net.forward_patches(patches, mixed, point)  # noqa: E731
        with arithmetic(bench.device, bench.precision):
            return bench.call_ms(run)

    def rows(self, shares: Sequence[float], points: Sequence[int]) -> list[dict[str, Any]]:
        """Each share of regions at each point, relative to no region."""
        bench, cost = self._bench, vit_cost(self._bench.config.vit, self._bench.grid)
        nothing = np.zeros(bench.grid.shape, np.bool_)
        plain_ms = self.fused_ms(nothing, 0)
        found = []
        for point in points:
            for share in shares:
                mask = nested_mask(bench.grid, share, seed=0)
                ms, own = self.fused_ms(mask, point), vit_cost(bench.config.vit, bench.grid, mask, point)
                ratio, flop_ratio = ms / plain_ms, own.flops / cost.flops
                found.append(
                    {
                        "restoration_point": point,
                        "downsampled_share": round(float(mask.mean()), 4),
                        "tokens": bench.grid.tokens(mask),
                        "fused_ms": round(ms, 3),
                        "fused_plain_ms": round(plain_ms, 3),
                        "flop_ratio": round(flop_ratio, 4),
                        "time_ratio": round(ratio, 4),
                        "met": ratio <= BAR_FACTOR * flop_ratio + BAR_OFFSET,
                    }
                )
        return found

    def _patches(self, mask: BoolMask) -> np.ndarray:
        side = self._bench.grid.patch_px
        return self._draws.integers(0, 256, (self._bench.grid.tokens(mask), side, side, 3), np.uint8)


def server_step(bench: Bench, detector: Detector, decoder: Decoder, share: float) -> dict[str, Any]:
    """Times of a server's step with a new mask in each frame: medians of decoding, inference, and both, ms."""
    point, geometry = bench.config.vit.subsets, detector.geometry
    rows = []
    for seed in range(bench.repeats + 2):
        mask = nested_mask(bench.grid, share, seed)
        configuration = Configuration(2, QUALITY, point)
        sent = encode_offload(bench.frames[seed % len(bench.frames)], OffloadDecision(configuration, mask), bench.grid)
        header = Offload.of(
            seed, seed, (sent.width, sent.height), configuration, downsample_mask=mask,
            window_size=geometry.window, downsampling_factor=geometry.factor,
        )  # fmt: skip
        frame, decode_s = bench.stopwatch.timed(decoder, geometry, header, sent.jpeg, sent.width * sent.height)
        _, infer_s = bench.stopwatch.timed(infer, detector, [frame])
        rows.append((1e3 * decode_s, 1e3 * infer_s, 1e3 * (decode_s + infer_s)))
    decode, inference, both = (round(statistics.median(column), 3) for column in zip(*rows[2:], strict=True))
    return {"decode_ms": decode, "inference_ms": inference, "step_ms": both}


def server_steps(bench: Bench) -> list[dict[str, Any]]:
    """The step on both engines and, on a GPU that can, with both decoders."""
    decoders = {"cpu": decode_offload, "gpu": device_decoder(bench.device)}
    if decoders["gpu"] is decode_offload:
        del decoders["gpu"]
    rows = []
    for engine, names in (("fused", [*decoders]), ("eager", ["cpu"])):
        detector = bench.detector(fused=engine == "fused")
        for decode in names:
            for share in STEP_SHARES:
                times = server_step(bench, detector, decoders[decode], share)
                rows.append({"engine": engine, "decode": decode, "downsampled_share": share, **times})
    return rows


def agreement(bench: Bench) -> dict[str, Any]:
    """F1 of the boxes of the fused engine against those of the eager engine in fp32, plain and half low."""
    exact, fused = bench.detector(fused=False, precision="fp32"), bench.detector(fused=True)
    half = nested_mask(bench.grid, 0.5, seed=0)
    found = {}
    for name, mask in (("plain", None), ("half_low", half)):
        counts, score_error = Counts(), 0.0
        for image in bench.frames:
            ours, theirs = (detector.detect(image, mask, bench.config.vit.subsets) for detector in (fused, exact))
            counts += match(ours, theirs)
            if len(ours) and len(theirs):
                score_error = max(score_error, abs(float(ours.scores[0] - theirs.scores[0])))
        found[name] = {"f1": counts.f1, "boxes": counts.tp + counts.fn, "best_score_error": round(score_error, 4)}
    return found
