"""The latency job: what it measures, the lines it fits, and the runs that start it."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import msgspec
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from tests.virtual.test_virtual_client import TABLES
from vitmalis.detector import preset
from vitmalis.errors import UserError
from vitmalis.estimation.latency import load_latency_tables, save_latency_tables
from vitmalis.regions.grid import RegionGrid
from vitmalis.types import BoolMask, Detections, RgbImage
from vitmalis.video.encode import write_clip
from vitmalis_jobs.common.config import checked
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.latency_tables import busy_reasons
from vitmalis_jobs.common.machine import processor
from vitmalis_jobs.common.machine_load import LoadMeter, MachineLoad
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.profiling.latency.config import FrameSize, LatencyConfig
from vitmalis_jobs.profiling.latency.durations import CodecDurations, measure_codec, measure_inference, typical_mask
from vitmalis_jobs.profiling.latency.fitting import fit_point, is_poor
from vitmalis_jobs.profiling.latency.job import profile
from vitmalis_jobs.profiling.latency.measure import encode_table, read_frames, read_inputs
from vitmalis_jobs.profiling.latency.stages import spread
from vitmalis_jobs.run import latency_tables as tables
from vitmalis_jobs.run.config import EvaluationConfig, typed
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.resources import Resources

CONF = Path(__file__).parents[2] / "conf"
GRID = RegionGrid(960, 540, window=5)  # 4 x 6 regions of 10 x 10 patches, the last row of 10 x 4


def quiet(*_: object) -> None:
    """A progress callback that does nothing."""


def noise(width: int, height: int) -> RgbImage:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def latency_config(*overrides: str) -> LatencyConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return checked(compose("profile_latency", overrides=list(overrides)), LatencyConfig)


def evaluation_config(*overrides: str) -> EvaluationConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return typed(compose("evaluate", overrides=list(overrides)))


@given(st.integers(0, 24), st.integers(0, 1000))
def test_a_typical_mask_has_its_regions_and_about_its_share_of_patches(count: int, seed: int) -> None:
    mask = typical_mask(GRID, count, np.random.default_rng(seed))
    assert mask.sum() == count
    assert abs(GRID.region_patches[mask].sum() / GRID.region_patches.sum() - count / 24) < 0.05


def test_codec_durations_of_every_case() -> None:
    grid = RegionGrid(96, 64, window=1)
    reported: list[float] = []
    durations = measure_codec(
        [noise(96, 64), noise(96, 64)], grid, (0, 3, 6), (70, 100), 2, np.random.default_rng(0),
        lambda done, total, task: reported.append(total - done),
    )  # fmt: skip
    assert reported == list(range(23, -1, -1))
    cases = {(count, quality) for count in (0, 3, 6) for quality in (70, 100)}
    for by_case in (durations.encode_s, durations.decode_s):
        assert {case: len(values) for case, values in by_case.items()} == dict.fromkeys(cases, 4)
        assert all(value > 0 for values in by_case.values() for value in values)


class Stub:
    """A detector that records its calls: (restoration point, N_d)."""

    def __init__(self) -> None:
        self.geometry = preset("vitdet_tiny").geometry
        self.asked: list[tuple[int, int]] = []

    def detect(self, image: RgbImage) -> Detections:
        self.asked.append((0, 0))
        return Detections.empty()

    def detect_patches(
        self, patches: np.ndarray, image_size: tuple[int, int], downsample_mask: BoolMask, restoration_point: int
    ) -> Detections:
        self.asked.append((restoration_point, int(downsample_mask.sum())))
        return Detections.empty()


def test_inference_is_measured_in_a_random_order_after_a_round_that_is_not_counted() -> None:
    stub = Stub()
    durations = measure_inference(
        [noise(330, 320)], stub, (0, 2, 6), range(3), 4, np.random.default_rng(0), quiet  # type: ignore[arg-type]
    )  # fmt: skip
    cases = [(0, 0), *((point, count) for count in (2, 6) for point in range(3))]
    assert {case: len(values) for case, values in durations.items()} == dict.fromkeys(cases, 4)
    warming, rounds = stub.asked[:4], [stub.asked[at : at + 7] for at in range(4, 32, 7)]
    assert set(warming) == {(0, 0), (0, 6), (1, 6), (2, 6)}
    assert all(sorted(one) == sorted(cases) for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_a_line_through_medians() -> None:
    durations = {(0, 0): [9.0, 0.4, 0.4], (4, 8): [0.3, 0.3, 5.0], (4, 16): [0.2], (4, 24): [0.1], (2, 8): [7.0]}
    fit = fit_point(durations, 4)
    assert (fit.intercept_s, fit.slope_s, fit.r2) == pytest.approx((0.4, -0.0125, 1.0))
    assert (fit.residual_s, fit.largest_residual_s) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert (fit.restoration_point, fit.samples) == (4, 4)


def test_residuals_of_a_line_by_hand() -> None:
    # Least squares through (0, 1), (1, 3), (2, 2): 1.5 + 0.5 n; misses -0.5, 1, -0.5.
    fit = fit_point({(0, 0): [1.0], (1, 1): [3.0], (1, 2): [2.0]}, 1)
    assert (fit.intercept_s, fit.slope_s) == pytest.approx((1.5, 0.5))
    assert fit.r2 == pytest.approx(1 - 1.5 / 2)
    assert fit.residual_s == pytest.approx(0.5**0.5)
    assert fit.largest_residual_s == pytest.approx(1.0)


def test_a_flat_line_is_no_poor_fit_but_a_noisy_one_is() -> None:
    flat = {(0, 0): [0.300], (0, 8): [0.303], (0, 16): [0.299], (0, 24): [0.302]}
    noisy = {(1, 24): [0.20], (1, 16): [0.35], (1, 8): [0.22], (0, 0): [0.30]}
    assert fit_point(flat, 0).r2 < 0.5
    assert not is_poor(fit_point(flat, 0), flat, r2=0.9, residual=0.03)
    assert is_poor(fit_point(noisy, 1), noisy, r2=0.9, residual=0.03)


def test_the_encode_table_has_medians_in_order() -> None:
    values = {(6, 90): [3.0], (0, 90): [5.0, 9.0, 4.0], (0, 70): [1.0, 2.0], (6, 70): [0.5]}
    table = encode_table(CodecDurations(encode_s=values))
    assert (table.downsampled_regions, table.qualities) == ((0, 6), (70, 90))
    assert table.encode_s == ((1.5, 5.0), (0.5, 3.0))


def small_job(folder: Path, **changes: object) -> LatencyConfig:
    """A job on frames of 192x96 pixels of one small file."""
    if not (folder / "clip.mp4").exists():
        write_clip(folder / "clip.mp4", [noise(192, 96)] * 3, 10.0, (192, 96))
    config = latency_config(f"mlflow.tracking_uri='sqlite:///{folder}/mlflow.db'")
    clips = {"file": {"path": str(folder / "clip.mp4"), "seconds": 0.2}}
    fixed = {"clips": clips, "frame": FrameSize(width=192, height=96), "repeats": 1}
    return msgspec.structs.replace(config, **{**fixed, "output": str(folder / "tables.json"), **changes})


def run_small(config: LatencyConfig, folder: Path) -> dict:
    store = Store(config.mlflow.tracking_uri, "profiling", folder / "artifacts")
    with store.run("latency", {}) as run:
        return profile(config, read_inputs(config, quiet), Terminal.on_stderr(), run)


def test_the_whole_job_on_small_frames_and_the_other_hosts_half(tmp_path: Path) -> None:
    result = run_small(small_job(tmp_path), tmp_path)
    found = load_latency_tables(tmp_path / "tables.json")
    assert (found.model, found.model_id, found.regions) == ("vitdet_tiny", result["model_id"], 2)
    assert found.encode.downsampled_regions == (0, 1, 2)
    assert [fit.restoration_point for fit in found.inference] == [0, 1, 2, 3, 4]
    assert found.inference_s(1, 4) == pytest.approx(found.inference[4].intercept_s + found.inference[4].slope_s)
    assert found.host["client_threads"] == 1
    facts = {"device": "cpu", "card": processor(), "precision": "fp32", "engine": "eager"}
    assert {name: result[name] for name in facts} == facts
    assert found.host["card"] == facts["card"]
    stages = found.stages
    assert stages is not None
    assert min(stages.prepare_s, stages.motion_s, stages.estimation_s, stages.downsampled.inference_s) > 0
    assert stages.tracking_step_s + 10 * stages.tracking_object_s > 0
    assert set(stages.spread) == {"encode", "decode", "inference", "tracking", "motion"}
    assert (tmp_path / "tables.png").stat().st_size > 10_000
    for row in result["inference"]:  # what is shown is what was fitted
        assert row["median_ms"]["0"] - row["intercept_ms"] == pytest.approx(row["residual_ms"]["0"], abs=0.2)

    other = {"server_tables": str(tmp_path / "tables.json"), "output": str(tmp_path / "both.json")}
    run_small(small_job(tmp_path, device="phone", **other), tmp_path)
    both = load_latency_tables(tmp_path / "both.json")
    assert (both.device, both.server) == ("phone", found.server)
    assert (both.inference, both.decode_s) == (found.inference, found.decode_s)
    assert both.host["server"] == found.host
    assert both.stages is not None
    # The server's time, as it was measured there.
    assert both.stages.downsampled.inference_s == stages.downsampled.inference_s
    with pytest.raises(UserError, match="server_tables"):
        run_small(small_job(tmp_path, frame=FrameSize(width=96, height=96), **other), tmp_path)


def test_clips_that_cannot_be_had_are_named(tmp_path: Path) -> None:
    config = small_job(tmp_path, clips={"drive_day": {"folder": str(tmp_path)}})
    with pytest.raises(UserError, match="none of the clips is available here: drive_day: "):
        read_frames(config, quiet)


def test_tables_are_measured_once_for_each_frame_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path))
    measured: list[tables.TablesKey] = []

    def measure(config: EvaluationConfig, key: tables.TablesKey, path: Path, terminal: Terminal) -> None:
        measured.append(key)
        save_latency_tables(TABLES, path)

    monkeypatch.setattr(tables, "_measure", measure)
    spec = resolve_run(evaluation_config("server.threads=2"))
    first = tables.run_tables(spec, "some-model", 960, 540, Resources(), Terminal())
    assert tables.run_tables(spec, "some-model", 960, 540, Resources(), Terminal()) == first
    assert tables.run_tables(spec, "some-model", 810, 540, Resources(), Terminal()) != first
    assert [(key.width_px, key.server_threads) for key in measured] == [(960, 2), (810, 2)]
    assert first.is_relative_to(tmp_path)


def test_factors_change_a_copy_of_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path))

    def path_of(*options: str) -> Path:
        spec = resolve_run(evaluation_config("clock=virtual", "latency=paper_testbed", *options))
        return tables.run_tables(spec, "some-model", 960, 540, Resources(), Terminal())

    before, after = path_of(), path_of("latency.factors.inference=0.5")
    assert after == path_of("latency.factors.inference=0.5") != before == path_of()
    halved, whole = (load_latency_tables(path).inference_s(0, 0) for path in (after, before))
    assert halved == pytest.approx(0.5 * whole)


def test_a_server_on_another_host_is_not_measured_here() -> None:
    spec = resolve_run(evaluation_config("server.spawn=false", "server.address=tcp://edge:5555"))
    with pytest.raises(UserError, match=r"tcp://edge:5555.*server_tables"):
        tables.run_tables(spec, "some-model", 960, 540, Resources(), Terminal())


def test_tables_of_a_busy_machine_serve_one_process_and_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path))
    loads = [MachineLoad(others=0.5), MachineLoad(throttled=0.4), MachineLoad(others=0.1)]
    measurements = iter(loads)

    def measure(config: EvaluationConfig, key: tables.TablesKey, path: Path, terminal: Terminal) -> None:
        save_latency_tables(msgspec.structs.replace(TABLES, host=next(measurements).facts), path)

    monkeypatch.setattr(tables, "_measure", measure)
    spec = resolve_run(evaluation_config())

    def shares(resources: Resources) -> tuple[float, float]:
        path = tables.run_tables(spec, "some-model", 960, 540, resources, Terminal())
        host = load_latency_tables(path).host
        return host["other_load"], host["throttled_periods"]

    sweep = Resources()
    assert [shares(sweep), shares(sweep)] == [(0.5, 0.0)] * 2  # runs that are compared with each other share them
    said = capsys.readouterr().out.replace("\n", " ")
    assert said.count("measured while other programs took 50% of the processor time") == 1
    assert shares(Resources()) == (0.0, 0.4)  # the next command measures again, ...
    assert [shares(Resources()), shares(Resources()), shares(sweep)] == [(0.1, 0.0)] * 3  # ... until it is quiet


@pytest.mark.parametrize("others", [0.0, 0.5])
def test_the_job_stores_tables_of_a_busy_machine_under_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], others: float
) -> None:
    monkeypatch.setenv("VITMALIS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(LoadMeter, "load", lambda _: MachineLoad(others))
    path = Path(run_small(small_job(tmp_path, output=None), tmp_path)["tables"])
    assert path.name.endswith(".busy.json") == (others > 0)
    assert list(path.parent.glob("*.json")) == [path]
    reasons = busy_reasons(load_latency_tables(path))
    assert reasons == (("other programs took 50% of the processor time",) if others else ())
    assert ("they are not kept, and runs measure again" in capsys.readouterr().err) == (others > 0)


def test_the_job_is_reported_what_the_run_is(tmp_path: Path) -> None:
    run = evaluation_config("model.window=7", f"model.weights='{tmp_path}/my \"odd\" weights.pt'", "server.threads=2")
    key = tables.TablesKey(
        model="vitdet_tiny", model_id="x", width_px=810, height_px=540, device="cpu", client_threads=1,
        server_threads=2, engine="eager", compiled=False,
    )  # fmt: skip
    job = latency_config(*tables._overrides(run, key, tmp_path / "a=b.json"))
    assert job.model == run.model
    assert (job.frame.width, job.frame.height, job.server_threads) == (810, 540, 2)
    assert job.output == str(tmp_path / "a=b.json")
    assert job.mlflow == msgspec.structs.replace(run.mlflow, experiment="profiling")


def test_a_job_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_overrides", lambda *_: ["no_such_option=1"])
    key = tables.TablesKey(
        model="vitdet_tiny",
        model_id="x",
        width_px=96,
        height_px=96,
        device="cpu",
        client_threads=1,
        server_threads=1,
        engine="eager",
        compiled=False,
    )
    with pytest.raises(UserError, match="latency tables could not be measured"):
        tables._measure(evaluation_config(), key, tmp_path / "tables.json", Terminal())


def test_a_run_shows_what_the_job_reports_as_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real job in its own process, on the frames of one small file."""
    write_clip(tmp_path / "clip.mp4", [noise(192, 96)] * 3, 10.0, (192, 96))
    ask = tables._overrides
    small = [*(f"~clips.{name}" for name in latency_config().clips), "+clips.file={path: clip.mp4, seconds: 0.2}"]
    monkeypatch.setattr(tables, "_overrides", lambda *key: [*ask(*key), *small, "repeats=1"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(CONF.parent / "src"))
    key = tables.TablesKey(
        model="vitdet_tiny", model_id="x", width_px=192, height_px=96, device="cpu", client_threads=1, server_threads=1,
        engine="eager", compiled=False,
    )  # fmt: skip
    shown: list[tuple[float, float, str]] = []

    class Recording(Terminal):
        def step(self, done: float, total: float, task: str = "", note: str = "") -> None:
            shown.append((done, total, note))

    tables._measure(evaluation_config(), key, tmp_path / "tables.json", Recording())
    assert load_latency_tables(tmp_path / "tables.json").width_px == 192
    codec = [(done, total) for done, total, note in shown if note == "encoding and decoding"]
    assert codec[0][0] == 1
    assert codec[-1] == (42, 42)  # 2 frames, 3 numbers of regions, 7 qualities
    assert {note for _, _, note in shown} >= {"inference", "frames sent whole"}
    assert '"progress"' not in (tmp_path / "tables.log").read_text()


def test_medians_do_not_mind_one_interruption() -> None:
    durations = {(0, 0): [0.3, 0.3, 3.0], (4, 24): [0.1, 0.1, 0.1]}
    assert fit_point(durations, 4).intercept_s == pytest.approx(median(durations[0, 0]))


def test_the_spread_is_that_of_logarithms_around_the_median() -> None:
    assert spread([[1.0, 1.0, np.e], [5.0]]) == pytest.approx(
        (1 / 3) ** 0.5
    )  # logarithms 0, 0, 1; one alone says nothing
    assert spread([]) == 0.0
