"""The fingerprint of a run changes with everything that its results depend on, and with nothing else."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vitmalis import fingerprint as fingerprints
from vitmalis.fingerprint import code_fingerprint
from vitmalis.network.traces import Trace, constant_trace
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.run import fingerprint as module
from vitmalis_jobs.run.config import EvaluationConfig, composed
from vitmalis_jobs.run.fingerprint import files_digest, fingerprint_of, trace_digest
from vitmalis_jobs.run.prepare import prepare_model
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun, RunSpec


def configured(*overrides: str) -> EvaluationConfig:
    return composed(["clock=virtual", *overrides])


@pytest.fixture
def world(tmp_path: Path) -> Path:
    (tmp_path / "clip.mp4").write_bytes(b"images")
    (tmp_path / "tables.json").write_text("{}")
    for name in ("size_mlp.json", "accuracy_mlp.json"):
        (tmp_path / name).write_text("{}")
    return tmp_path


def prepared(
    world: Path, *overrides: str, clip: dict[str, object] | None = None, trace: Trace | None = None
) -> PreparedRun:
    config = configured("policy=vitmalis", *overrides)
    model = resolve_run(configured()).model
    spec = RunSpec(config, "clip", trace or constant_trace(12.0, 20.0), model)
    video = VideoSpec("clip", str(world / "clip.mp4"), 30.0, 0, 10, 320, 192)
    return PreparedRun(
        spec,
        msgspec.structs.replace(video, **(clip or {})),
        model_id="model",
        policy_options=config.policy_options | {"estimators": str(world), "latency_tables": str(world / "tables.json")},
        latency_tables=world / "tables.json",
    )


def digest(run: PreparedRun) -> str:
    found = fingerprint_of(run)
    assert found is not None
    return found.digest()


def test_the_same_run_has_the_same_fingerprint(world: Path) -> None:
    first = digest(prepared(world))
    assert len(first) == 32
    assert digest(prepared(world)) == first


@pytest.mark.parametrize(
    "change",
    ["mlflow.experiment=x", "mlflow.tracking_uri=sqlite:///y", "output.video_seconds=0", "sweep.name=x",
     "sweep.rerun=true", "references.workers=1", "inference_cache.enabled=false"],
)  # fmt: skip
def test_where_results_are_kept_does_not_count(world: Path, change: str) -> None:
    assert digest(prepared(world, change)) == digest(prepared(world))


def test_names_and_places_of_files_do_not_count(world: Path) -> None:
    (world / "other.mp4").write_bytes(b"images")
    renamed = {"name": "other", "path": str(world / "other.mp4"), "note": "the same bytes"}
    assert digest(prepared(world, clip=renamed)) == digest(prepared(world))


@pytest.mark.parametrize(
    "change",
    [
        "policy.quality=[80]", "eval.iou_threshold=0.6", "latency.seed=1",
        "references.hysteresis={appear: 0.6, stay: 0.4}",
    ],
)  # fmt: skip
def test_what_was_asked_for_counts(world: Path, change: str) -> None:
    change = change.replace("policy.quality=", "policy.qualities=")
    assert digest(prepared(world, change)) != digest(prepared(world))


@pytest.mark.parametrize("part", [{"start_frame": 1}, {"frames": 9}, {"fps": 25.0}, {"width": 322}, {"height": 190}])
def test_the_played_part_counts(world: Path, part: dict[str, object]) -> None:
    assert digest(prepared(world, clip=part)) != digest(prepared(world))


@pytest.mark.parametrize("name", ["clip.mp4", "tables.json", "size_mlp.json", "accuracy_mlp.json"])
def test_the_content_of_files_counts(world: Path, name: str) -> None:
    before = digest(prepared(world))
    (world / name).write_bytes(b"other content")
    assert digest(prepared(world)) != before


def test_the_trace_counts_as_it_is_played(world: Path) -> None:
    base, seen = constant_trace(12.0, 20.0), set()
    longer = Trace("x", base.time_s, base.uplink_mbps, base.rtt_ms, duration_s=base.duration_s + 1)
    exact = Trace("x", base.time_s, base.uplink_mbps, base.rtt_ms, np.array([5, 9]), base.duration_s)
    for trace in (base, base.scaled(0.5), constant_trace(12.0, 21.0), longer, exact):
        seen.add(digest(prepared(world, trace=trace)))
    assert len(seen) == 5
    renamed = Trace("another", base.time_s, base.uplink_mbps, base.rtt_ms, duration_s=base.duration_s)
    assert trace_digest(renamed) == trace_digest(base)
    without = [prepared(world, "link=none", trace=trace) for trace in (base, base.scaled(0.5))]
    assert digest(without[0]) == digest(without[1]), "without emulation the trace is not played"


def test_the_code_counts(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(prepared(world))
    monkeypatch.setattr(module, "code_fingerprint", lambda *_: "another")
    assert digest(prepared(world)) != before


def test_the_weights_count(world: Path) -> None:
    run = prepared(world)
    assert digest(dataclasses.replace(run, model_id="another")) != digest(run)


TRACKER = "from vitmalis.tracker import LucasKanadeTracker\nclass Mine(LucasKanadeTracker):\n    STEP = {step}\n"


def test_a_tracker_of_another_package_counts_by_its_code_and_its_files(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(world))
    module, weights = world / "own_trackers.py", world / "weights.txt"
    named = "+client.tracker._target_=own_trackers.Mine", f"+client.tracker.weights={weights}"
    seen = {digest(prepared(world))}
    for step, content in ((1, "a"), (1, "b"), (2, "b")):
        module.write_text(TRACKER.format(step=step))
        weights.write_text(content)
        for cached in (code_fingerprint, fingerprints._source, fingerprints._path, fingerprints._folder):
            cached.cache_clear()
        config = composed(["clock=virtual", "policy=vitmalis", *named])
        run = prepared(world)
        seen.add(digest(dataclasses.replace(run, spec=dataclasses.replace(run.spec, config=config))))
    assert len(seen) == 4


def test_the_machine_counts_in_real_time_only(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    virtual, real = digest(prepared(world)), digest(prepared(world, "clock=realtime"))
    assert virtual != real
    monkeypatch.setattr(module, "processor", lambda: "another")
    assert digest(prepared(world)) == virtual
    assert digest(prepared(world, "clock=realtime")) != real


def test_a_live_source_has_none(world: Path) -> None:
    assert fingerprint_of(prepared(world, clip={"live": True})) is None


def test_files_count_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("1")
    assert files_digest([tmp_path / "one", None]) != files_digest([None, tmp_path / "one"])


def test_the_model_id_is_known_without_loading_the_model() -> None:
    spec = resolve_run(configured())
    assert prepare_model(spec.model) == Resources().detector(spec.config.model).model_id
