"""A decision drawn from what a run left behind."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import av
import cv2
import msgspec
import numpy as np
import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from tests.evaluation.tiny_sweep import make_clip
from vitmalis.client.session import SESSION_FILE, ClientSession, write_session
from vitmalis.explanation import DecisionExplanation
from vitmalis.metrics import summarise
from vitmalis.records import (
    DECISIONS_FILE,
    FRAMES_FILE,
    OFFLOADS_FILE,
    DecisionRecord,
    OffloadRecord,
    RecordsInfo,
    write_decisions,
    write_frames,
    write_offloads,
)
from vitmalis.regions import ModelGeometry
from vitmalis.types import Detections
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.evaluation.explain import main
from vitmalis_jobs.evaluation.study import external_results
from vitmalis_jobs.run.config import composed, typed
from vitmalis_jobs.run.directory import RunDirectory
from vitmalis_jobs.run.figures.decision_plot import chosen_mask, draw_regions, low_mask, most_varied, outcome_text
from vitmalis_jobs.run.pipeline import run_evaluation

GEOMETRY = ModelGeometry(window=5, factor=2, patch_px=16, restoration_points=4)
DECISION = DecisionRecord(
    offload_id=1,
    frame_index=3,
    explanation=DecisionExplanation(
        region_types=np.array([[2, 1]], np.int8),
        region_motion=np.array([[0.25, 0.75]], np.float32),
        relevance=np.array([[1.0, 0.0]]),
        frame_motion=0.125,
        frames_since_offload=3,
        retention=1.0,
        uplink_mbps=10.0,
        rtt_s=0.04,
        tau_d=np.array([0, 1, 2]),
        quality=np.array([95, 70, 70]),
        restoration_point=np.array([0, 3, 3]),
        payload_bytes=np.array([5e4, 2e4, 1e4]),
        e2e_latency_s=np.array([0.6, 0.4, 0.3]),
        f1=np.array([0.9, 0.8, 0.4]),
        frontier=np.array([2, 1, 0]),
        knee=1,
        chosen=1,
        reason="knee",
        tracked=Detections.of([[10, 10, 60, 90]], [0.9], [0]),
    ),
)


def explained(**changes: object) -> DecisionExplanation:
    return dataclasses.replace(DECISION.explanation, **changes)  # type: ignore[arg-type]


OFFLOADS = [
    OffloadRecord(offload_id=0, frame_index=0, start_time_s=0.0, status="lost", reason="gone"),
    OffloadRecord(
        offload_id=1,
        frame_index=3,
        start_time_s=0.3,
        payload_bytes=25_000,
        e2e_latency_s=0.5,
        estimated_payload_bytes=2e4,
        estimated_e2e_latency_s=0.4,
    ),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Folder of a run of two offloads over a clip of 320x160, known to an MLflow store next to it."""
    with av.open(str(tmp_path / "clip.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 160, "yuv420p"
        for i in range(6):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((160, 320, 3), 40 * i, np.uint8), format="rgb24")))
        out.mux(stream.encode())
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    overrides = ["policy=vitmalis", "video=file", f"video.path={tmp_path}/clip.mp4", f"mlflow.tracking_uri={uri}"]
    overrides.append(f"mlflow.artifact_dir={tmp_path}/artifacts")
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = typed(compose("evaluate", overrides=overrides))
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "config.yaml").write_bytes(msgspec.yaml.encode(config))
    video = VideoSpec("clip", str(tmp_path / "clip.mp4"), 10.0, 0, 6, 320, 160)
    write_session(ClientSession(video, "tcp://127.0.0.1:1", str(directory), GEOMETRY), directory / SESSION_FILE)
    info = RecordsInfo(policy="vitmalis", clip="clip")
    write_frames(directory / FRAMES_FILE, [], info)
    write_offloads(directory / OFFLOADS_FILE, OFFLOADS, info)
    lost = DecisionRecord(offload_id=0, frame_index=0, explanation=explained(region_types=np.array([[2, 2]], np.int8)))
    write_decisions(directory / DECISIONS_FILE, [lost, DECISION], info)
    store = Store(uri, "evaluation", tmp_path / "artifacts")
    with store.run("run", {"run_dir": str(directory)}) as logged:
        (directory / "summary.json").write_text(json.dumps({"run_id": logged.run_id}))
    return directory


def run_id(run: Path) -> str:
    return json.loads((run / "summary.json").read_text())["run_id"]


def test_a_run_is_named_by_its_folder_or_its_id_and_keeps_the_picture(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = f"sqlite:///{run.parent}/mlflow.db"
    arguments = ["--no-reference", "--tracking-uri", uri]
    assert main([str(run), *arguments]) == 0, "one with many region types, which returned"
    assert main([run_id(run), "--offload", "0", *arguments]) == 0
    assert capsys.readouterr().out.split() == [str(run / "decision_1.png"), str(run / "decision_0.png")]
    plot = cv2.imread(str(run / "decision_1.png"))
    assert plot is not None
    assert plot.shape[1] > 1000
    store = Store(uri, "evaluation", run.parent / "artifacts")
    kept = {artifact.path for artifact in store.client.list_artifacts(run_id(run))}
    assert {"decision_0.png", "decision_1.png"} <= kept


def test_a_run_on_the_virtual_clock_can_be_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(Path("clip.mp4"))
    options = ["policy=vitmalis", "video=file", "video.path=clip.mp4", "clock=virtual", "latency=paper_testbed"]
    options += ["model.max_width=320", "model.max_height=192"]
    options += ["output.page=false", "output.figures=false", "output.video_seconds=0"]
    run_evaluation(composed(options), RunDirectory(Path("run")), terminal=Terminal.on_stderr())
    assert not list(Path("run").glob("*.png")), "a study asks for records alone"
    assert main(["run", "--no-reference"]) == 0
    assert len(list(Path("run").glob("decision_*.png"))) == 1


def test_the_reference_of_a_frame_is_computed_where_it_is_missing(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([str(run), "--offload", "1"]) == 0
    assert (run / "decision_1.png").exists()


def test_a_study_shows_a_decision_of_a_run_that_explains_itself(run: Path, tmp_path: Path) -> None:
    runs = pd.DataFrame([{"run_dir": str(run), "policy": "vitmalis", "clip": "walk", "trace": "4g_00"}])
    regions, decision, *_ = external_results.sections(runs, tmp_path / "report")
    assert regions.image is not None
    assert decision.image is not None
    assert (regions.image.name, decision.image.name) == ("fig7.png", "fig3.png")
    assert "vitmalis on walk, 4g_00" in regions.words[0]
    assert cv2.imread(str(regions.image)).shape == (160, 320, 3)
    assert cv2.imread(str(decision.image)).shape[1] > 1000
    (tmp_path / "clip.mp4").unlink()
    lost, *_ = external_results.sections(runs, tmp_path / "report")
    assert "could not be drawn: video 'clip': there is no file" in lost.words[0]


def change_config(run: Path, **model: object) -> None:
    """Change the model in a run's configuration, as someone may have who had its folder."""
    config = msgspec.yaml.decode((run / "config.yaml").read_bytes())
    config["model"] |= model
    (run / "config.yaml").write_bytes(msgspec.yaml.encode(config))


def test_the_folder_of_a_run_chooses_no_store(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert main([str(run), "--no-reference"]) == 0
    store = Store(f"sqlite:///{run.parent}/mlflow.db", "evaluation", run.parent / "artifacts")
    assert not store.client.list_artifacts(run_id(run))  # the store that its configuration names


@pytest.mark.parametrize(
    "model",
    [
        {"source": "detectron2", "config": "evil.py", "weights": "w.pkl"},
        {"source": "detectron2", "config": "evil.yaml", "weights": "w.pkl"},
        {"weights": "https://example.org/w.pkl"},
        {"source": "custom", "custom": {"target": "evil.Detector", "options": {}}},
    ],
)
def test_the_folder_of_a_run_runs_no_program_and_chooses_no_address(
    run: Path, model: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    monkeypatch.syspath_prepend(str(run))
    for name, text in (("evil.py", "open('proof', 'w')"), ("evil.yaml", "model: {_target_: os.mkdir, path: proof}")):
        Path(name).write_text(text)
    change_config(run, **model)
    assert main([str(run)]) == 2
    assert "--trust-model uses it" in capsys.readouterr().err
    assert main([str(run), "--no-reference"]) == 0
    assert not Path("proof").exists()


def test_a_live_source_that_a_folder_names_is_not_opened(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    session = json.loads((run / SESSION_FILE).read_text())
    session["video"]["live"] = True
    session["video"]["path"] = f"videotestsrc ! filesink location={run}/proof ! appsink"
    (run / SESSION_FILE).write_text(json.dumps(session))
    assert main([str(run), "--no-reference"]) == 2
    assert "was live" in capsys.readouterr().err
    assert not (run / "proof").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "--offload", "7"], "--offload 7: this run has offloads 0 to 1"),
        (["nowhere"], "run 'nowhere': no such folder, and there is no MLflow store"),
        ([""], "give the folder of a run, or its MLflow run id"),
        (["{run}/.."], "' is no folder of a run; those are runs/evaluations/DAY/TIME and runs/sweeps/SWEEP/NUMBER"),
        (["0123", "--tracking-uri", "sqlite:///{run}/../mlflow.db"], "neither a folder nor a run id"),
    ],
)
def test_mistakes_are_one_line(
    run: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run)
    assert main([argument.format(run=run) for argument in arguments]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1


def test_a_run_without_explanations_says_which_have_some(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / DECISIONS_FILE).unlink()
    assert main([str(run)]) == 2
    assert "does not explain its decisions: take a run of vitmalis" in capsys.readouterr().err


def test_what_is_drawn_is_what_was_decided() -> None:
    mask = chosen_mask(DECISION)
    assert mask is not None
    assert mask.tolist() == [[False, True]]
    assert chosen_mask(dataclasses.replace(DECISION, explanation=explained(chosen=0))) is None
    assert most_varied([DECISION], OFFLOADS[:1]) is None, "a lost offload has nothing to compare with"


def test_regions_are_drawn_as_they_were_sent_where_that_is_on_record() -> None:
    grid, image = GEOMETRY.grid(320, 160), np.full((160, 320, 3), 120, np.uint8)
    sent = dataclasses.replace(OFFLOADS[1], region_map="LC")
    mask = low_mask(sent, DECISION, grid)
    assert mask is not None
    assert mask.tolist() == [[True, False]]
    drawn, before = (draw_regions(image, grid, DECISION, offload) for offload in (sent, OFFLOADS[1]))
    assert (drawn[100:150, 170:310] != before[100:150, 170:310]).any(), "nothing of the second region was sent"
    assert (drawn[100:150, 100:150] == before[100:150, 100:150]).all()


def test_the_plot_of_a_decision_has_its_cached_candidates(run: Path) -> None:
    info = RecordsInfo(policy="freshness", clip="clip")
    cached = dataclasses.replace(DECISION, explanation=explained(cached_regions=np.array([0, 1, 0])))
    write_decisions(run / DECISIONS_FILE, [cached], info)
    assert main([str(run), "--no-reference"]) == 0
    write_decisions(
        run / DECISIONS_FILE, [dataclasses.replace(DECISION, explanation=explained(cached_regions=np.array([1])))], info
    )
    assert main([str(run), "--no-reference"]) == 2, "as many as there are candidates"


def test_errors_of_estimates_are_shares_of_what_came() -> None:
    metrics = summarise([], OFFLOADS, None)
    assert metrics["payload_error_percent_median"] == pytest.approx(20.0)
    assert metrics["e2e_latency_error_percent_median"] == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "region_types": np.zeros((1, 3), np.int8),
                "region_motion": np.zeros((1, 3)),
                "relevance": np.zeros((1, 3)),
            },
            "the 1 x 2 of the clip",
        ),
        ({"region_types": np.array([[2, 7]], np.int8)}, "the 1 x 2 of the clip"),
        ({"region_motion": np.array([[0.5, np.nan]], np.float32)}, "over other candidates"),
        ({"chosen": 3}, "over other candidates"),
        ({"knee": -1}, "over other candidates"),
        ({"frontier": np.array([0, 9])}, "over other candidates"),
        ({"tau_d": np.array([0, 1, 9])}, "over other candidates"),
        ({"tau_d": np.array([], np.int64)}, "over other candidates"),
        ({"f1": np.array([0.5])}, "over other candidates"),
        ({"e2e_latency_s": np.array([0.6, 1e308, 0.3])}, "over other candidates"),
        ({"reason": "<b>whim"}, "over other candidates"),
        ({"reason": 41 * "m"}, "over other candidates"),
        ({"tracked": Detections.of([[0, 0, 1e30, 9]], [0.9], [0])}, "boxes that no detector returns"),
        ({"tracked": Detections.of([[0, 0, 9, 9]], [0.9], [99])}, "boxes that no detector returns"),
    ],
)
def test_explanations_that_do_not_fit_the_clip_are_refused(
    run: Path, changes: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = dataclasses.replace(DECISION, explanation=explained(**changes))
    write_decisions(run / DECISIONS_FILE, [shown], RecordsInfo(policy="vitmalis", clip="clip"))
    assert main([str(run), "--no-reference"]) == 2
    assert message in capsys.readouterr().err


def test_a_reason_of_a_policy_of_another_package_is_shown_as_it_is(run: Path) -> None:
    shown = dataclasses.replace(DECISION, explanation=explained(reason="whim"))
    write_decisions(run / DECISIONS_FILE, [shown], RecordsInfo(policy="mine", clip="clip"))
    assert main([str(run), "--no-reference"]) == 0
    assert (run / "decision_1.png").stat().st_size > 0


@pytest.mark.parametrize(
    ("offload", "message"),
    [
        (dataclasses.replace(OFFLOADS[1], frame_index=6), "not of the 6 frames of the clip"),
        (dataclasses.replace(OFFLOADS[1], offload_id=7), "offloads that they do not have"),
        (dataclasses.replace(OFFLOADS[1], e2e_latency_s=float("inf")), "values that no run has"),
        (dataclasses.replace(OFFLOADS[1], status="eaten"), "values that no run has"),
    ],
)
def test_offloads_that_do_not_fit_the_clip_are_refused(
    run: Path, offload: OffloadRecord, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_offloads(run / OFFLOADS_FILE, [OFFLOADS[0], offload], RecordsInfo(policy="vitmalis", clip="clip"))
    assert main([str(run), "--no-reference"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 10**9), ("height", 0), ("start_frame", -1), ("fps", 0), ("window", 0), ("factor", 10**6)],
)
def test_a_session_states_sizes_that_can_be(
    run: Path, name: str, value: int, capsys: pytest.CaptureFixture[str]
) -> None:
    session = json.loads((run / SESSION_FILE).read_text())
    session["geometry" if name in session["geometry"] else "video"][name] = value
    (run / SESSION_FILE).write_text(json.dumps(session))
    assert main([str(run), "--no-reference"]) == 2
    assert "session.json' is no client session" in capsys.readouterr().err


def test_the_outcome_in_words() -> None:
    assert outcome_text(DECISION.explanation, OFFLOADS[1], 0.5).splitlines() == [
        "tau_d 1, quality 70, restoration point 3",
        "at the knee",
        "size     expected 20 KiB, was 24",
        "latency  expected 400 ms, was 500",
        "F1       expected 0.80, was 0.50",
    ]
    lost = outcome_text(DECISION.explanation, OFFLOADS[0], None)
    assert lost.splitlines()[-1] == "F1       expected 0.80, unknown"


def test_the_outcome_of_a_decision_of_bandit_names_its_reward() -> None:
    untried = explained(reason="explore", payload_bytes=np.zeros(3), e2e_latency_s=np.zeros(3))
    assert outcome_text(untried, OFFLOADS[1], 0.5).splitlines()[2:] == [
        "size     was 24 KiB",
        "latency  was 500 ms",
        "F1       was 0.50",
        "reward   expected 0.80: agreement of tracked boxes with the next result",
    ]
