"""Split inference: codings of features, what crosses a split, latencies by hand, and the result for a real clip."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vitmalis.detector import load_detector
from vitmalis.estimation.latency import LatencyTables
from vitmalis.network.traces import constant_trace
from vitmalis.regions.grid import ModelGeometry
from vitmalis.virtual.testbed import DECODE_S, ENCODE_S, FULL_HD, INFERENCE_S, paper_testbed
from vitmalis_jobs.profiling.split_features import (
    CODINGS,
    NOWHERE,
    STEM,
    Payload,
    empty_payloads,
    encode_int8,
    send_frame,
)
from vitmalis_jobs.profiling.split_inference import DEVICE, break_even_factor, main, wins
from vitmalis_jobs.profiling.split_latency import SplitDurations, device_shares, latencies_s

GEOMETRY = ModelGeometry(5, 2, 16, 4)
FEATURES = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32) * np.arange(8, dtype=np.float32)
"""Features of 60 tokens; one of the 8 channels is 0 throughout."""


def tables() -> LatencyTables:
    return paper_testbed("id", "vitdet_tiny", GEOMETRY.grid(320, 192), 4)


def test_fp16_is_exact_up_to_its_rounding() -> None:
    coding = CODINGS["fp16"]
    decoded = coding.decode(coding.encode(FEATURES), FEATURES.shape)
    np.testing.assert_array_equal(decoded, FEATURES.astype(np.float16).astype(np.float32))


def test_int8_is_off_by_at_most_half_a_step_of_each_channel() -> None:
    coding = CODINGS["int8"]
    decoded = coding.decode(coding.encode(FEATURES), FEATURES.shape)
    half_step = np.abs(FEATURES).max(axis=0) / 127 / 2
    assert (np.abs(decoded - FEATURES) <= half_step * 1.001).all()


def test_equal_features_cost_next_to_nothing() -> None:
    assert len(encode_int8(np.ones((10_000, 4), np.float32))) < 100


def test_a_frame_is_sent_as_jpegs_and_at_each_split() -> None:
    detector = load_detector("vitdet_tiny", engine="eager")
    image = np.random.default_rng(1).integers(0, 256, (96, 160, 3), np.uint8)
    payloads = empty_payloads(detector.model.backbone.vit, [95])
    assert [(payload.split, payload.part) for payload in payloads[::2]] == [
        (NOWHERE, 0),
        (STEM, 1),
        ("block 2", 2),
        ("block 4", 3),
        ("block 6", 4),
        ("block 8", 5),
    ]
    before = detector.detect(image)
    send_frame(detector, image, payloads)
    np.testing.assert_array_equal(detector.detect(image).boxes_xyxy, before.boxes_xyxy, "no hook is left")
    assert all(len(payload.sizes) == 1 for payload in payloads)
    raw = 2 * 6 * 10 * 160
    fp16 = [payload.sizes[0] for payload in payloads if payload.coding == "fp16"]
    int8 = [payload.sizes[0] for payload in payloads if payload.coding == "int8"]
    assert all(0.5 * raw < size < raw for size in fp16)
    assert all(size < raw / 2 + 4 * 160 for size in int8)


def test_shares_of_the_device_rise_to_the_whole_transformer() -> None:
    shares = device_shares()
    assert len(shares) == 5
    assert 0 < shares[0] < 0.01, "the stem"
    steps = np.diff(shares[1:])
    np.testing.assert_allclose(steps, steps[0], rtol=1e-6)  # the subsets are equal
    assert shares[-1] == pytest.approx(0.86, abs=0.01)  # pyramid and head have 14 % (vitmalis.virtual.testbed)


def test_the_latency_of_a_split_is_the_sum_of_its_parts() -> None:
    model_s = INFERENCE_S[FULL_HD]
    trace = constant_trace(8.0, 40.0)
    small, large = (
        latencies_s(trace, [size], SplitDurations(tables(), 0.25, 20.0), GEOMETRY, 1)[0] for size in (50_000, 100_000)
    )
    assert large - small == pytest.approx(0.050, abs=0.005)  # 50 kB at 8 Mbps, with the headers of packets
    fixed_s = 20 * 0.25 * model_s + 0.75 * model_s + ENCODE_S + DECODE_S + 0.040
    assert small == pytest.approx(fixed_s + 0.050, abs=0.005)


def test_a_split_at_the_factor_of_break_even_is_as_fast_as_a_jpeg() -> None:
    jpeg = {"4g": [400.0, 500.0], "fast": [300.0]}
    instant = {"4g": [350.0, 300.0], "fast": [310.0]}
    assert break_even_factor(instant, jpeg, 50.0) == 1.0  # of 1, 4 and -0.2
    assert wins(instant, jpeg) == 2
    assert wins(jpeg, jpeg) == 0


def test_sizes_are_scaled_to_a_number_of_channels() -> None:
    payload = Payload(STEM, 1, "int8")
    for data in (b"x" * 1024, b"x" * 3072):
        payload.add(data, 0.004)
    assert payload.facts(2.0) == {"kib": 4.0, "encode_ms": 4.0, "f1": None}


def test_the_job_on_a_clip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "split.json"
    size = ("--max-width", "320", "--max-height", "180", "--seconds", "1", "--frames", "1")
    traces = ("--indices", "0", "--offloads", "2", "--mbps", "50", "--device-factors", "20")
    assert main(["--clips", "market1906", *size, *traces, "--output", str(output)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == json.loads(output.read_text())
    assert output.with_suffix(".png").stat().st_size > 0
    assert result["traces"] == {"4g": ["4g_00"], "5g": ["5g_00"], "50_mbps": ["constant 50 Mbps"]}
    rows = result["rows"]
    assert [row["coding"] for row in rows[:3]] == ["JPEG 95", "JPEG 70", "nothing"]
    assert len(rows) == 3 + 5 * 2 * 2
    assert rows[2]["split"] == DEVICE
    assert rows[2]["e2e_ms"]["4g"] == [pytest.approx(20 * 1e3 * INFERENCE_S[FULL_HD], rel=0.01)]
    wide = {row["channels"]: row["kib"] for row in rows if (row["split"], row["coding"]) == ("block 8", "int8")}
    assert wide[1024] == pytest.approx(6.4 * wide[160], rel=0.01)
    latencies = [row["e2e_50_mbps_ms"] for row in rows if (row["coding"], row["channels"]) == ("int8", 160)]
    assert latencies == sorted(latencies), "the later the split, the more the slow device has to compute"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--offloads", "0"], "--offloads"),
        (["--weights", "random"], "model.weights=random"),
        (["model.engine=fused"], "use model.engine=eager"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--clips", "market1906", "--seconds", "1", "--output", str(tmp_path / "x.json")]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
