"""The measured testbed: what was measured is used as it is, and everything else follows from it by hand."""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest

from vitmalis.detector.config import preset
from vitmalis.errors import UserError
from vitmalis.offload import OffloadDecision
from vitmalis.types import Configuration
from vitmalis.virtual.durations import Durations
from vitmalis.virtual.measured_testbed import MeasuredTime, ModelTimes, ServerTable, h200_table, measured_testbed
from vitmalis.virtual.testbed import SHARES, paper_testbed

GRID = preset("vitdet_tiny").region_grid(540, 960)  # 4 x 6 regions


def table(rows: dict[tuple[float, int], tuple[float, float, float | None]]) -> ServerTable:
    """A table of `vitdet_b` by (share, restoration point): FLOP ratio, backbone and detector, ms."""
    times = tuple(
        MeasuredTime(share=share, restoration_point=point, flop_ratio=ratio, backbone_ms=backbone, detector_ms=whole)
        for (share, point), (ratio, backbone, whole) in rows.items()
    )
    facts = dict.fromkeys(("card", "date", "torch", "precision", "code"), "x")
    size = {"width_px": 1920, "height_px": 1080, "window": 9, "downsampling_factor": 2}
    return ServerTable(**facts, **size, notes=(), models={"vitdet_b": times})


# The backbone takes 2 + 8 x FLOP ratio ms, the other parts 6, 7 and 7.6 ms at the shares 0, 0.5 and 1.
SPARSE = table({(0.0, 0): (1.0, 10.0, 16.0), (0.5, 4): (0.5, 6.0, 13.0), (1.0, 4): (0.3, 4.4, 12.0)})


def test_what_was_measured_is_used_as_it_is() -> None:
    times = ModelTimes(SPARSE, "vitdet_b")
    assert [times.inference_s(*case) for case in ((0, 0), (0.5, 4), (1.0, 4))] == pytest.approx([0.016, 0.013, 0.012])
    assert times.inference_s(0.75, 0) == pytest.approx(0.016), "at point 0 every token is at full resolution"
    assert times.inference_s(0, 3) == pytest.approx(0.016)


def test_what_was_not_measured_lies_on_the_line_over_flops() -> None:
    times = ModelTimes(SPARSE, "vitdet_b")
    line = times.flop_line
    assert (line.intercept_s, line.slope_s, line.r2) == pytest.approx((0.002, 0.008, 1.0))
    # ViT-B, everything low to point 1: the stem and two window blocks have 2040 of 8160 tokens and 28 of 112 windows.
    # They save 7.22 and 2 x (86.63 + 1.88) of 2243.45 GFLOPs.
    assert times.backbone_s(1.0, 1) == pytest.approx(0.002 + 0.008 * (1 - 184.25 / 2243.45), abs=1e-7)
    # A frame of 540x960: 0.18109 of the backbone's FLOPs, and 432.04 of 954.93 GFLOPs of pyramid and head.
    assert times.downsampled_s() == pytest.approx(0.002 + 0.008 * 0.18109 + 0.006 * 432.04 / 954.93, abs=1e-7)
    # The other parts between two shares: 7.3 ms.
    assert times.inference_s(0.75, 4) - times.backbone_s(0.75, 4) == pytest.approx(0.0073)


def test_another_factor_takes_nothing_but_the_line() -> None:
    coarse = ModelTimes(SPARSE, "vitdet_b", factor=3)
    assert coarse.backbone_s(0, 4) == pytest.approx(0.010)
    assert coarse.backbone_s(1.0, 4) != pytest.approx(0.0044)
    assert coarse.backbone_s(1.0, 4) < ModelTimes(SPARSE, "vitdet_b").backbone_s(1.0, 4)


def test_the_fit_and_its_r2_by_hand() -> None:
    # Totals 16, 15, 12, 11, 10 ms at 0 to 4 regions: 16 - 1.6 n; misses 0, 0.6, -0.8, -0.2, 0.4; R2 = 1 - 1.2 / 26.8.
    whole_ms = dict(zip(SHARES, (16.0, 15.0, 12.0, 11.0, 10.0), strict=True))
    rows = {(share, 4 if share else 0): (1.0 - share / 2, ms - 6, ms) for share, ms in whole_ms.items()}
    times = ModelTimes(table(rows), "vitdet_b")
    fit = times.fit(4, regions=4)
    assert (fit.intercept_s, fit.slope_s) == pytest.approx((0.016, -0.0016))
    assert fit.r2 == pytest.approx(1 - 1.2 / 26.8)
    assert times.backbone_fit(4, 4).r2 == pytest.approx(fit.r2), "the other parts are the same everywhere"
    flat = times.fit(0, 4)
    assert (flat.intercept_s, flat.slope_s, flat.r2) == pytest.approx((0.016, 0.0, 1.0), abs=1e-12)


def test_a_model_without_detector_times_takes_the_other_parts_of_the_others() -> None:
    only_backbone = MeasuredTime(share=0.0, restoration_point=0, flop_ratio=1.0, backbone_ms=30.0)
    models = SPARSE.models | {"vitdet_l": (only_backbone, msgspec.structs.replace(only_backbone, flop_ratio=0.5))}
    times = ModelTimes(msgspec.structs.replace(SPARSE, models=models), "vitdet_l")
    assert times.inference_s(0, 0) == pytest.approx(0.036)


def test_a_model_that_was_not_measured_is_refused() -> None:
    with pytest.raises(UserError, match=r"latency\.model=vitdet_h: the NVIDIA H200 was measured with vitdet_l and"):
        ModelTimes(h200_table(), "vitdet_h")


def test_the_table_of_the_package_says_where_it_comes_from() -> None:
    server = h200_table()
    assert (server.card, server.torch, server.precision) == ("NVIDIA H200", "2.11.0+cu130", "bf16")
    assert server.code.endswith("not measured since")
    assert any(note.startswith("not measured:") for note in server.notes)
    large, base = (ModelTimes(server, model) for model in ("vitdet_l", "vitdet_b"))
    assert large.inference_s(0, 0) == pytest.approx(0.021428)
    assert large.inference_s(0.5, 4) == pytest.approx(0.0197)
    assert large.inference_s(0.5, 3) == pytest.approx(0.011509 + 0.0197 - 0.010026)
    assert base.inference_s(0, 0) == pytest.approx(0.007085 + 0.021428 - 0.015378)
    assert large.fit(4, 28).r2 == pytest.approx(0.897, abs=1e-3)
    assert min(times.backbone_fit(point, 28).r2 for times in (large, base) for point in range(5)) > 0.95
    assert large.flop_line.r2 > 0.99


def test_only_the_server_differs_from_the_papers_testbed() -> None:
    ours = measured_testbed(h200_table(), "vitdet_l", "id", "vitdet_tiny", GRID, 4)
    papers = paper_testbed("id", "vitdet_tiny", GRID, 4)
    same = ("device", "model", "regions", "encode", "decode_s", "window", "downsampling_factor")
    assert [getattr(ours, name) for name in same] == [getattr(papers, name) for name in same]
    assert "NVIDIA H200 (vitdet_l, bf16, prototype" in ours.server
    assert ours.host["measured_model"] == "vitdet_l"
    durations = Durations(ours)
    plain, halved = OffloadDecision(Configuration()), OffloadDecision(Configuration(), frame_downsampling=2)
    packed = OffloadDecision(Configuration(restoration_point=4), np.ones((4, 6), bool))
    assert durations.inference_s(0, plain) == pytest.approx(0.021428)
    assert durations.inference_s(0, halved) == pytest.approx(0.00678, abs=1e-5)
    assert durations.inference_s(0, packed) == pytest.approx(
        ours.inference[4].intercept_s + 24 * ours.inference[4].slope_s
    )
    assert json.loads(msgspec.json.encode(ours))["host"]["date"] == "2026-11"
