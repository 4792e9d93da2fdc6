"""The samples job: frames, moments, trial offloads, files, and the whole worker."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from vitmalis.detector import preset
from vitmalis.errors import UserError
from vitmalis.estimation.features import configuration_space
from vitmalis.matching import MatchRule
from vitmalis.regions.motion import Motion, MotionAnalyzer, MotionOptions
from vitmalis.tracker import LucasKanadeOptions
from vitmalis.types import BoolMask, Detections, RgbImage
from vitmalis.video.encode import write_clip
from vitmalis.video.spec import VideoSpec, open_video
from vitmalis_jobs.common.config import checked
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.profiling.samples.config import SamplesConfig
from vitmalis_jobs.profiling.samples.job import find_clips, make_chunks
from vitmalis_jobs.profiling.samples.moments import Moment, replay, sampled_frames, staleness, track_boxes
from vitmalis_jobs.profiling.samples.outcomes import Sample, Trials, candidates_to_try, sample_moment
from vitmalis_jobs.profiling.samples.storage import SampleFolder, summary
from vitmalis_jobs.profiling.samples.worker import Chunk, Sampler
from vitmalis_jobs.training.estimation.sample_set import read_samples

CONF = Path(__file__).parents[2] / "conf"
WIDTH, HEIGHT = 336, 320  # 3 x 2 regions of 160 px, the last column partial
ROWS, COLS = 2, 3


def square(left: int) -> RgbImage:
    """A textured square on grey."""
    image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
    image[100:164, left : left + 64] = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return image


class Stub:
    """A detector that always finds one box and counts its calls."""

    name, model_id = "stub", "0123456789ab"

    def __init__(self) -> None:
        self.geometry = preset("vitdet_tiny").geometry
        self.asked: Counter[str] = Counter()
        self.images: list[RgbImage] = []

    def detect(self, image: RgbImage) -> Detections:
        self.asked["plain"] += 1
        self.images.append(image)
        return Detections.of([[10, 100, 74, 164]], [0.9], [0])

    def detect_patches(
        self, patches: np.ndarray, image_size: tuple[int, int], downsample_mask: BoolMask, restoration_point: int
    ) -> Detections:
        assert image_size == (HEIGHT, WIDTH)
        assert len(patches) == self.geometry.grid(WIDTH, HEIGHT).tokens(downsample_mask)
        self.asked[f"point {restoration_point}"] += 1
        # Later restoration sees the box less exactly.
        return Detections.of([[10 + 16 * restoration_point, 100, 74 + 16 * restoration_point, 164]], [0.9], [0])


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> VideoSpec:
    path = tmp_path_factory.mktemp("clip") / "square.mp4"
    write_clip(path, (square(10 + 4 * step) for step in range(20)), 10.0, (WIDTH, HEIGHT))
    return VideoSpec("square", str(path), 10.0, 0, 20, WIDTH, HEIGHT)


def moment(region_motion: np.ndarray, tracked: Detections | None = None) -> Moment:
    return Moment(7, square(10), Motion(region_motion.astype(np.float32), 0.25), tracked or Detections.empty(), 3)


@given(st.integers(1, 200), st.integers(1, 60), st.floats(0, 5))
def test_sampled_frames_are_distinct_and_more_of_them_keep_the_first(frames: int, count: int, warmup_s: float) -> None:
    spec = VideoSpec("x", "x", 10.0, 0, frames, 2, 2)
    chosen = sampled_frames(spec, count, warmup_s)
    first = min(round(10 * warmup_s), frames // 2)
    assert len(set(chosen)) == len(chosen) == min(count, frames - first)
    assert all(first <= frame < frames for frame in chosen)
    assert sampled_frames(spec, count + 5, warmup_s)[: len(chosen)] == chosen


def test_sampled_frames_spread_over_the_part() -> None:
    chosen = sorted(sampled_frames(VideoSpec("x", "x", 10.0, 0, 100, 2, 2), 8, 0))
    assert max(np.diff([0, *chosen, 100])) <= 25


def test_staleness_is_drawn_from_the_limits_and_never_reaches_before_the_part() -> None:
    spec = VideoSpec("x", "x", 20.0, 0, 100, 2, 2)
    ages = [staleness(spec, frame, (0.2, 0.5), seed=1) for frame in range(50, 100)]
    assert min(ages) >= 4
    assert max(ages) <= 10
    assert len(set(ages)) > 3
    assert staleness(spec, 60, (0.2, 0.5), seed=1) == ages[10]
    assert staleness(spec, 2, (0.2, 0.5), seed=1) == 2


def test_a_moment_knows_the_tracked_boxes_of_an_earlier_frame(clip: VideoSpec) -> None:
    stub = Stub()
    analyzer = MotionAnalyzer(stub.geometry.grid(WIDTH, HEIGHT))
    found = list(replay(clip, {4: 2, 9: 9}, stub, analyzer, LucasKanadeOptions(), 0.5))  # type: ignore[arg-type]
    assert [(m.frame_index, m.staleness_frames) for m in found] == [(4, 2), (9, 9)]
    # The last one's result belongs to frame 0, where the square begins at 10; it has moved by 9 * 4 px since.
    np.testing.assert_allclose(found[1].tracked.boxes_xyxy, [[46, 100, 110, 164]], atol=3)
    images = list(open_video(clip))
    np.testing.assert_array_equal(stub.images, [images[2], images[0]])
    np.testing.assert_array_equal(found[0].image, images[4])
    assert found[1].motion.frame_motion < 0.5


def test_boxes_of_the_frame_itself_stay_where_they_are() -> None:
    boxes = Detections.of([[1, 2, 3, 4]], [0.9], [0])
    assert track_boxes(boxes, [square(10)], LucasKanadeOptions()) is boxes


def test_the_whole_space_or_some_of_every_point_and_quality() -> None:
    space = configuration_space()
    assert len(candidates_to_try(space, 7, seed=0)) == len(space) == 77
    few = candidates_to_try(space, 2, seed=0)
    for tau_d in (1, 2):
        rows = few.tau_d == tau_d
        assert set(few.quality[rows]) == set(range(70, 101, 5))
        assert Counter(few.restoration_point[rows].tolist()) == dict.fromkeys(range(5), 2)
    for seed in range(5):  # two or three, as the reference may be dealt as well
        tried = candidates_to_try(space, 2, seed)
        qualities = tried.quality[tried.tau_d == 0]
        assert 95 in qualities
        assert len(qualities) in (2, 3)
    assert len(candidates_to_try(space, 1, seed=0)) in (11, 12)
    assert candidates_to_try(space, 2, seed=1).quality.tolist() != few.quality.tolist()


def test_nothing_is_inferred_twice() -> None:
    stub = Stub()
    trials = Trials(square(10), stub.geometry.grid(WIDTH, HEIGHT), stub)  # type: ignore[arg-type]
    none, some = np.zeros((ROWS, COLS), np.bool_), np.eye(ROWS, COLS, dtype=np.bool_)
    for point in (0, 1, 4):
        trials.result(none, 80, point)  # nothing to restore: the plain model at every point
        trials.result(some, 80, point)
        trials.result(some.copy(), 80, point)
    assert stub.asked == {"plain": 1, "point 0": 1, "point 1": 1, "point 4": 1}
    assert len(trials.payload(some, 80)) < len(trials.payload(none, 80)) < len(trials.payload(none, 100))


def test_samples_of_a_moment() -> None:
    motion = np.array([[0.5, 0.2, 0.0], [0.3, 0.0, 0.0]])
    known = Detections.of([[10, 100, 74, 150]], [0.9], [0])  # in the first region alone
    stub = Stub()
    rows = sample_moment(
        moment(motion, known), configuration_space(), stub, MatchRule(), clip="c", part="eval"  # type: ignore[arg-type]
    )  # fmt: skip
    assert len(rows) == 77
    by = {(row.tau_d, row.quality, row.restoration_point): row for row in rows}
    full, cmr, both = by[0, 70, 0], by[1, 70, 4], by[2, 70, 4]
    assert (full.downsampled_regions, cmr.downsampled_regions, both.downsampled_regions) == (0, 2, 5)
    assert (full.downsampled_motion, full.frame_motion, full.regions) == (0.0, 0.25, 6)
    assert cmr.downsampled_motion == pytest.approx(0.5)
    assert both.relevance_mean == pytest.approx(1 / 6)
    assert both.relevance_std == pytest.approx(np.std([1, 0, 0, 0, 0, 0]))
    assert (both.uncertainty, both.downsampled_uncertainty) == (pytest.approx(0.1), 0)  # the object is in a DOR
    # The stub's boxes move by 16 px a point: IoU 1, 0.6, 0.33, 0.14, 0.
    assert [by[2, 70, point].f1 for point in range(5)] == [1, 1, 0, 0, 0]
    assert [(r.tp, r.fp, r.fn) for r in (by[2, 70, 1], by[2, 70, 2])] == [(1, 0, 0), (0, 1, 1)]
    assert full.f1 == 1
    assert by[2, 70, 0].payload_bytes == both.payload_bytes < full.payload_bytes < by[0, 100, 0].payload_bytes
    assert {(row.clip, row.part, row.frame_index, row.staleness_frames) for row in rows} == {("c", "eval", 7, 3)}
    assert {row.moments for row in rows} == {"tracked"}


def test_equal_masks_share_their_inferences() -> None:
    stub = Stub()
    sample_moment(moment(np.full((ROWS, COLS), 1 / 6)), configuration_space(), stub, MatchRule(), clip="c", part="eval")  # type: ignore[arg-type]
    # No static region: tau_d 1 and 2 are the same. 7 qualities and the reference in the plain model.
    assert stub.asked == {"plain": 8, **{f"point {point}": 7 for point in range(5)}}


def some_samples(clip: str, part: str, frame_index: int) -> list[Sample]:
    stub = Stub()
    at = Moment(frame_index, square(10), Motion(np.full((ROWS, COLS), 1 / 6, np.float32), 0.2), Detections.empty(), 3)
    space = configuration_space(qualities=(70, 90))
    return sample_moment(at, space, stub, MatchRule(), clip=clip, part=part)  # type: ignore[arg-type]


def test_frames_are_merged_into_one_file_a_clip_that_the_training_reads(tmp_path: Path) -> None:
    folder = SampleFolder(tmp_path, "stub", "abc", {"seed": 1})
    for part, frame in (("profile", 3), ("profile", 12), ("eval", 3)):
        folder.save_frame(some_samples("walk", part, frame), frame)
    folder.save_frame(some_samples("walk-fast", "eval", 5), 5)  # another clip whose name begins alike
    path = folder.merge("walk")
    assert path == tmp_path / "abc" / "walk.parquet"
    assert folder.merge("none") is None
    table = read_samples(tmp_path / "abc")
    assert len(table) == 3 * 22
    assert summary(path)["frames_by_part"] == {"profile": 2, "eval": 1}
    other = SampleFolder(tmp_path, "stub", "abc", {"seed": 2})
    assert not other.frame_path("walk", "eval", 3).exists()


def config_of(*overrides: str) -> SamplesConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return checked(compose("profile_samples", overrides=list(overrides)), SamplesConfig)


def test_the_configuration_composes_for_every_model() -> None:
    config = config_of("model=vitdet_l", "frames_per_clip.eval=0")
    assert (config.model.name, config.frames_per_clip) == ("vitdet_l", {"profile": 10, "eval": 0})
    assert len(configuration_space(config.qualities, config.tau_ds, config.restoration_points)) == 77
    with pytest.raises(UserError, match="workers=0"):
        config_of("workers=0")


def test_what_is_sampled_is_not_sampled_again_and_clips_take_turns(tmp_path: Path, clip: VideoSpec) -> None:
    config = config_of("frames_per_clip={profile: 5, eval: 2}", "warmup_s=0")
    folder = SampleFolder(tmp_path, "stub", "abc", config.settings())
    parts: list = [(clip, "a", "profile"), (clip, "a", "eval"), (clip, "b", "profile")]
    wanted = sampled_frames(clip, 5, 0)
    folder.frame_path("a", "profile", wanted[0]).touch()
    chunks = list(make_chunks(parts, config, folder))
    assert [(chunk.clip, chunk.part, set(chunk.frames)) for chunk in chunks] == [
        ("a", "profile", set(wanted[1:4])),
        ("a", "eval", set(wanted[:2])),
        ("b", "profile", set(wanted[:3])),
        ("a", "profile", {wanted[4]}),
        ("b", "profile", set(wanted[3:])),
    ]


def test_clips_that_are_not_available_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = msgspec.structs.replace(config_of(), clips={"drive_day": {"folder": str(tmp_path)}})
    with pytest.raises(UserError, match=r"none of the clips is available here: drive_day: .*drive_day"):
        find_clips(config, Terminal.on_stderr())
    with pytest.raises(UserError, match=r"only=.*nowhere"):
        find_clips(msgspec.structs.replace(config, only=["nowhere"]), Terminal.on_stderr())
    capsys.readouterr()
    path = tmp_path / "clip.mp4"
    write_clip(path, [square(10)] * 20, 10.0, (WIDTH, HEIGHT))
    both = {"file": {"path": str(path), "seconds": 1}, **config.clips}
    parts, left_out = find_clips(msgspec.structs.replace(config, clips=both), Terminal.on_stderr())
    assert [(spec.frames, clip, part) for spec, clip, part in parts] == [(10, "file", "profile"), (10, "file", "eval")]
    assert set(left_out) == {"drive_day"}
    assert "warning: drive_day is left out: " in capsys.readouterr().err


def test_tracker_and_motion_options_are_those_of_the_client_and_tell_samples_apart() -> None:
    config = config_of("client.tracker.scale=0.25", "client.motion.history=9")
    assert config.client.tracker == LucasKanadeOptions(scale=0.25)
    assert config.client.motion == MotionOptions(history=9)
    assert config.settings() != config_of().settings()
    assert config_of().client.tracker == LucasKanadeOptions()
    assert config_of().client.motion == MotionOptions()


def test_no_frame_is_begun_after_the_budget_or_an_interruption(
    tmp_path: Path, clip: VideoSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SamplesConfig, "load_detector", lambda self: Stub())
    config = config_of(f"folder='{tmp_path}'", "qualities=[90]", "warmup_s=0")
    chunk = Chunk(clip, "square", "profile", [3, 6])
    stop = multiprocessing.get_context("spawn").Event()
    Sampler(config, 0.0, stop).run(chunk)
    stop.set()
    Sampler(config, float("inf"), stop).run(chunk)
    assert not list(tmp_path.glob("*/frames/*/*.parquet"))
    stop.clear()
    Sampler(config, float("inf"), stop).run(chunk)
    assert len(list(tmp_path.glob("*/frames/*/*.parquet"))) == 2
