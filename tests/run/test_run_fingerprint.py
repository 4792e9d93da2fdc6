"""A run's identity changes with everything its results depend on, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from vitmalis.network.traces import Trace, constant_trace
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.detectors import loaded_detector
from vitmalis_jobs.run import fingerprint as module
from vitmalis_jobs.run.config import EvaluationConfig, composed
from vitmalis_jobs.run.fingerprint import configured_model_id, files_digest, identify, trace_digest
from vitmalis_jobs.run.spec import RunSpec


def configured(*overrides: str) -> EvaluationConfig:
    return composed(["clock=virtual", *overrides])


@pytest.fixture
def world(tmp_path: Path) -> Path:
    (tmp_path / "clip.mp4").write_bytes(b"pictures")
    (tmp_path / "tables.json").write_text("{}")
    for name in ("size_mlp.json", "accuracy_mlp.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def planned(world: Path, *overrides: str, clip: dict[str, object] | None = None, trace: Trace | None = None) -> RunSpec:
    config = configured("policy=vitmalis", *overrides)
    spec = VideoSpec("clip", str(world / "clip.mp4"), 30.0, 0, 10, 320, 192)
    options = config.policy_options | {"estimators": str(world), "latency_tables": str(world / "tables.json")}
    return RunSpec(
        config,
        msgspec.structs.replace(spec, **(clip or {})),
        trace or constant_trace(12.0, 20.0),
        options,
        latency_tables=world / "tables.json",
    )


def digest(plan: RunSpec) -> str:
    found = identify(plan)
    assert found is not None
    return found.digest()


def test_the_same_run_has_the_same_identity(world: Path) -> None:
    first = digest(planned(world))
    assert len(first) == 32
    assert digest(planned(world)) == first


@pytest.mark.parametrize(
    "change",
    ["mlflow.experiment=x", "mlflow.tracking_uri=sqlite:///y", "output.film_seconds=0", "sweep.name=x",
     "sweep.rerun=true", "references.workers=1", "inference_cache.enabled=false"],
)  # fmt: skip
def test_where_results_are_kept_does_not_count(world: Path, change: str) -> None:
    assert digest(planned(world, change)) == digest(planned(world))


def test_names_and_places_of_files_do_not_count(world: Path) -> None:
    (world / "other.mp4").write_bytes(b"pictures")
    renamed = {"name": "other", "path": str(world / "other.mp4"), "note": "the same bytes"}
    assert digest(planned(world, clip=renamed)) == digest(planned(world))


@pytest.mark.parametrize("change", ["policy.quality=[80]", "eval.iou_threshold=0.6", "latency.seed=1"])
def test_what_was_asked_for_counts(world: Path, change: str) -> None:
    change = change.replace("policy.quality=", "policy.qualities=")
    assert digest(planned(world, change)) != digest(planned(world))


@pytest.mark.parametrize("part", [{"start_frame": 1}, {"frames": 9}, {"fps": 25.0}, {"width": 322}, {"height": 190}])
def test_the_played_part_counts(world: Path, part: dict[str, object]) -> None:
    assert digest(planned(world, clip=part)) != digest(planned(world))


@pytest.mark.parametrize("name", ["clip.mp4", "tables.json", "size_mlp.json", "accuracy_mlp.json"])
def test_the_content_of_files_counts(world: Path, name: str) -> None:
    before = digest(planned(world))
    (world / name).write_bytes(b"other content")
    assert digest(planned(world)) != before


def test_the_trace_counts_as_it_is_played(world: Path) -> None:
    base, seen = constant_trace(12.0, 20.0), set()
    longer = Trace("x", base.time_s, base.uplink_mbps, base.rtt_ms, duration_s=base.duration_s + 1)
    exact = Trace("x", base.time_s, base.uplink_mbps, base.rtt_ms, np.array([5, 9]), base.duration_s)
    for trace in (base, base.scaled(0.5), constant_trace(12.0, 21.0), longer, exact):
        seen.add(digest(planned(world, trace=trace)))
    assert len(seen) == 5
    renamed = Trace("another", base.time_s, base.uplink_mbps, base.rtt_ms, duration_s=base.duration_s)
    assert trace_digest(renamed) == trace_digest(base)
    without = [planned(world, "link=none", trace=trace) for trace in (base, base.scaled(0.5))]
    assert digest(without[0]) == digest(without[1]), "without emulation the trace is not played"


@pytest.mark.parametrize("ingredient", ["code_fingerprint", "configured_model_id", "clip_digest"])
def test_code_libraries_and_weights_count(world: Path, ingredient: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(planned(world))
    monkeypatch.setattr(module, ingredient, lambda *_: "another")
    assert digest(planned(world)) != before


def test_the_machine_counts_in_real_time_only(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    virtual, real = digest(planned(world)), digest(planned(world, "clock=realtime"))
    assert virtual != real
    monkeypatch.setattr(module, "processor", lambda: "another")
    assert digest(planned(world)) == virtual
    assert digest(planned(world, "clock=realtime")) != real


def test_a_live_source_has_none(world: Path) -> None:
    assert identify(planned(world, clip={"live": True})) is None


def test_files_count_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    assert files_digest([tmp_path / "one", None]) != files_digest([None, tmp_path / "one"])


def test_the_model_is_known_without_loading_it() -> None:
    model = configured().model
    assert configured_model_id(model) == loaded_detector(model).model_id
