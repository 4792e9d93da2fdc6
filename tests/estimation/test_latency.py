from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator

from vitmalis.errors import UserError
from vitmalis.estimation import (
    Candidates,
    EncodeTable,
    InferenceFit,
    LatencyTables,
    configuration_space,
    e2e_latency_s,
    load_latency_tables,
    save_latency_tables,
)
from vitmalis.types import Configuration

ENCODE = EncodeTable(
    downsampled_regions=(0, 8, 24), qualities=(70, 90, 100), encode_s=((10, 12, 20), (8, 9, 16), (4, 5, 6))
)


def fit(point: int, intercept_s: float, slope_s: float) -> InferenceFit:
    return InferenceFit(
        restoration_point=point, intercept_s=intercept_s, slope_s=slope_s, r2=0.99, residual_s=0.001,
        largest_residual_s=0.002, samples=5,
    )  # fmt: skip


TABLES = LatencyTables(
    device="laptop", server="box", model="vitdet_tiny", model_id="id", width_px=960, height_px=540, regions=24,
    encode=ENCODE, decode_s=0.004, inference=tuple(fit(point, 0.4, -0.002 * point) for point in range(5)),
    host={"cpu": "some"},
)  # fmt: skip


def test_encoding_times_at_the_knots_between_them_and_beyond() -> None:
    regions, quality = np.array([0, 8, 24, 4, 16, 12, 30, -1]), np.array([70, 90, 100, 70, 100, 80, 101, 95])
    # 12, 80: a quarter of the way between 8.5 and 4.5; beyond the edges: the corner, and half-way along the edge
    assert TABLES.encode_s(regions, quality).tolist() == pytest.approx([10, 9, 6, 9, 11, 7.5, 6, 16])


@given(st.lists(st.tuples(st.floats(0, 24), st.floats(70, 100)), min_size=1))
def test_interpolation_agrees_with_scipys(points: list[tuple[float, float]]) -> None:
    axes = (ENCODE.downsampled_regions, ENCODE.qualities)
    scipy_table = RegularGridInterpolator(axes, np.array(ENCODE.encode_s, float))
    regions, quality = np.array(points).T
    np.testing.assert_allclose(TABLES.encode_s(regions, quality), scipy_table(points), rtol=1e-9)


def test_a_table_of_one_row_and_column_is_constant() -> None:
    table = EncodeTable(downsampled_regions=(0,), qualities=(95,), encode_s=((0.02,),))
    assert table.at([0, 24], [70, 100]).tolist() == [0.02, 0.02]


def test_equation_2_by_hand() -> None:
    space = Candidates.of([Configuration(0, 70, 0), Configuration(1, 90, 4)])
    latency_s = e2e_latency_s(TABLES, space, [0, 8], [100_000, 25_000], uplink_mbps=8.0, rtt_s=0.05)
    by_hand = [10 + 0.1 + 0.004 + 0.4 + 0.05, 9 + 0.025 + 0.004 + (0.4 - 8 * 0.008) + 0.05]
    assert latency_s.tolist() == pytest.approx(by_hand)


@given(st.floats(0.5, 200), st.floats(0, 0.5), st.integers(0, 99))
def test_more_bytes_take_longer_and_a_faster_link_does_not(mbps: float, rtt_s: float, seed: int) -> None:
    space = configuration_space()
    random = np.random.default_rng(seed)
    regions, size = random.integers(0, 25, len(space)), random.uniform(1e3, 1e6, len(space))
    latency_s = e2e_latency_s(TABLES, space, regions, size, mbps, rtt_s)
    assert latency_s.shape == (77,)
    assert (e2e_latency_s(TABLES, space, regions, size * 1.5, mbps, rtt_s) > latency_s).all()
    assert (e2e_latency_s(TABLES, space, regions, size, mbps * 2, rtt_s) < latency_s).all()
    np.testing.assert_allclose(e2e_latency_s(TABLES, space, regions, size, mbps, rtt_s + 1), latency_s + 1)


def test_an_inference_time_is_never_negative() -> None:
    tables = LatencyTables(
        **{**fields(TABLES), "inference": (fit(0, 0.1, 0.0), fit(2, 0.1, -0.01))}  # point 1 was not measured
    )
    assert tables.inference_s([0, 5, 24], [2, 2, 2]).tolist() == pytest.approx([0.1, 0.05, 0.0])
    for point in (1, 3, -1):
        with pytest.raises(UserError, match=r"restoration points \[0, 2\], not all of"):
            tables.inference_s([0, 0], [0, point])


@pytest.mark.parametrize("mbps", [0.0, -1.0, float("nan")])
def test_a_dead_link_is_a_mistake_of_the_caller(mbps: float) -> None:
    with pytest.raises(ValueError, match="uplink_mbps"):
        e2e_latency_s(TABLES, configuration_space(), np.zeros(77), np.ones(77), mbps, 0.0)


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    save_latency_tables(TABLES, tmp_path / "tables.json")
    assert load_latency_tables(tmp_path / "tables.json") == TABLES


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 1}, "has version 1, this program reads 2"),
        ({"decode_s": -1.0}, "decode_s"),
        ({"decode_s": "soon"}, "does not hold"),
        ({"surprise": 1}, "surprise"),
        ({"inference": []}, "restoration points"),
        ({"encode": {"downsampled_regions": [8, 0], "qualities": [70], "encode_s": [[1], [1]]}}, "ascending"),
        ({"encode": {"downsampled_regions": [0, 8], "qualities": [70], "encode_s": [[1]]}}, "2 rows of 1"),
        ({"encode": {"downsampled_regions": [0], "qualities": [70], "encode_s": [[-1]]}}, "not negative"),
    ],
)
def test_another_file_is_refused(change: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tables.json"
    save_latency_tables(TABLES, path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UserError, match=message):
        load_latency_tables(path)


def test_a_file_that_is_not_there_or_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such latency tables; .*profiling\.latency"):
        load_latency_tables(tmp_path / "absent.json")
    (tmp_path / "text.json").write_text("hello")
    with pytest.raises(UserError, match="does not hold latency tables"):
        load_latency_tables(tmp_path / "text.json")


def fields(tables: LatencyTables) -> dict:
    return {name: getattr(tables, name) for name in tables.__struct_fields__}
