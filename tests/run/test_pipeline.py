"""One run through the pipeline with an executor of the test: what is published, and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import msgspec
import numpy as np
import pytest
from rich.console import Console

from vitmalis.errors import UserError
from vitmalis.records import (
    FRAMES_FILE,
    OFFLOADS_FILE,
    FrameRecord,
    OffloadRecord,
    RecordsInfo,
    write_frames,
    write_offloads,
)
from vitmalis.types import Detections
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.run.config import EvaluationConfig, composed
from vitmalis_jobs.run.directory import RunDirectory, read_summaries
from vitmalis_jobs.run.execute import RunResult, Tag
from vitmalis_jobs.run.fingerprint import fingerprint_of
from vitmalis_jobs.run.page.files import read_page
from vitmalis_jobs.run.pipeline import make_run, run_evaluation
from vitmalis_jobs.run.prepare import prepare_run
from vitmalis_jobs.run.records import RunRecords
from vitmalis_jobs.run.resolve import resolve_run
from vitmalis_jobs.run.resources import Resources
from vitmalis_jobs.run.spec import PreparedRun

FPS, FRAMES = 10, 20
BOX = Detections.of([[10, 10, 50, 50]], [0.9], [0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("job")
    with av.open(str(folder / "clip.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(FRAMES):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((96, 160, 3), 5 * i, np.uint8), format="rgb24")))
        out.mux(stream.encode())
    return folder


@pytest.fixture
def config(folder: Path, tmp_path: Path) -> EvaluationConfig:
    overrides = [
        "video=file",
        f"video.path={folder}/clip.mp4",
        "trace=constant",
        "eval.seconds=2",
        f"mlflow.tracking_uri=sqlite:///{folder}/mlflow.db",
        f"mlflow.artifact_dir={folder}/artifacts",
        f"sweep.index={tmp_path}/index",
    ]
    return composed(overrides)


def played(directory: Path) -> RunRecords:
    frames = [
        FrameRecord(
            frame_index=i,
            capture_time_s=i / FPS,
            render_time_s=(i + 1) / FPS,
            source="none" if i < 5 else "tracker",
            result_frame_index=-1 if i < 5 else 0,
            shown_frame_index=-1 if i < 5 else i,
            detections=Detections.empty() if i < 5 else BOX,
        )
        for i in range(FRAMES)
    ]
    offloads = [
        OffloadRecord(offload_id=0, frame_index=0, start_time_s=0.0, e2e_latency_s=0.5, detections=BOX),
        OffloadRecord(offload_id=1, frame_index=5, start_time_s=0.5, status="lost", reason="gone"),
    ]
    info = RecordsInfo(policy="trackb2b", clip="clip")
    write_frames(directory / FRAMES_FILE, frames, info)
    write_offloads(directory / OFFLOADS_FILE, offloads, info)
    return RunRecords(frames, offloads)


@pytest.fixture
def run(config: EvaluationConfig, folder: Path, tmp_path: Path) -> Callable[..., Any]:
    """Make a run with an executor that does `during` while the clip plays; returns the store and the MLflow run."""

    def evaluate(
        during: Callable[[], None],
        reference: Detections = BOX,
        busy: Sequence[str] = (),
        whole: bool = True,
        config: EvaluationConfig = config,
    ) -> Any:
        def executor(
            run: PreparedRun, directory: Path, resources: Resources, terminal: Terminal, tag: Tag
        ) -> RunResult:
            tag({"model_id": run.model_id})
            during()
            return RunResult(played(directory), [reference] * FRAMES, {"server_exits": 1.0}, busy, whole)

        console = Console(file=(tmp_path / "said.txt").open("w"), width=120)
        directory = RunDirectory(tmp_path / "sweep" / "0", tmp_path / "sweep", 0, ("policy=trackb2b",))
        directory.path.mkdir(parents=True, exist_ok=True)
        terminal = Terminal(console)
        try:
            with directory.summary_on_failure():
                prepared = prepare_run(resolve_run(config), terminal)
                make_run(prepared, directory, executor, Resources(), terminal, fingerprint_of(prepared))
        finally:
            console.file.close()
        store = Store(config.mlflow.tracking_uri, "evaluation", folder / "artifacts")
        (latest, *_) = store.client.search_runs([store.experiment_id], order_by=["attributes.start_time DESC"])
        return store, latest

    return evaluate


def test_a_finished_run_holds_everything(run: Callable[..., Any], tmp_path: Path) -> None:
    store, latest = run(lambda: None)
    assert latest.info.status == "FINISHED"
    assert latest.data.metrics["f1/rendering"] == pytest.approx(2 * 15 / (2 * 15 + 5))
    assert latest.data.metrics["f1/inference"] == 1.0
    assert latest.data.metrics["traffic/lost_offloads"] == 1
    assert latest.data.params["policy.quality"] == "95"
    tags = latest.data.tags
    wanted = {"clip": "clip", "trace": "constant_12", "policy": "trackb2b", "clock": "realtime", "link": "emulated"}
    assert {key: tags[key] for key in wanted if key != "trace"} == {k: v for k, v in wanted.items() if k != "trace"}
    for key in (
        "git_commit",
        "config_hash",
        "trace",
        "transport",
        "host.cpu",
        "stand_in.model",
        "stand_in.link",
        "sweep",
        "model_id",
        "fingerprint",
    ):
        assert tags[key]
    assert "stand_in.video" not in tags  # the user's own footage stands for nothing
    artifacts = {f.path for f in store.client.list_artifacts(latest.info.run_id)}
    figures = {"latency.png", "rendering_f1.png", "rendered.png", "rendered.mp4"}
    assert artifacts >= figures | {"run.html", "config.yaml", "frames.parquet", "offloads.parquet"}
    curve = store.client.get_metric_history(latest.info.run_id, "f1/rendering_over_time")
    assert [point.step for point in curve] == [0, 1]
    e2e = store.client.get_metric_history(latest.info.run_id, "offload/e2e_s")
    assert [(point.step, point.value) for point in e2e] == [(0, 0.5)]
    assert latest.info.run_name.startswith("trackb2b-clip-")
    assert {each.dataset.name: each.tags[0].value for each in latest.inputs.dataset_inputs} == {
        "clip": "clip",
        tags["trace"]: "trace",
    }
    said = (tmp_path / "said.txt").read_text()
    for words in ("rendering F1", "0.857", "rendered.mp4", "stand-in model"):
        assert words in said
    assert re.search(r"look: \S+run\.html\n +video: ", said)


def test_a_rerun_in_the_same_folder_leaves_nothing_of_the_earlier_run(
    run: Callable[..., Any], config: EvaluationConfig, tmp_path: Path
) -> None:
    folder = tmp_path / "sweep" / "0"
    folder.mkdir(parents=True)
    videos, plots = ("run.mp4", "rendered.mp4"), ("latency.png", "rendering_f1.png", "rendered.png", "decision_7.png")
    for name in ("run.html", "decisions.parquet", ".decisions.part", "trace.mahimahi", *videos, *plots):
        (folder / name).touch()
    bare = msgspec.structs.replace(config.output, page=False, figures=False, video_seconds=0)
    run(lambda: None, config=msgspec.structs.replace(config, output=bare))
    left = {path.name for path in folder.iterdir()}
    assert left - {"logs"} == {"config.yaml", "frames.parquet", "offloads.parquet", "summary.json"}
    assert "look:" not in (tmp_path / "said.txt").read_text()


def test_the_page_of_a_run_has_its_metrics_trace_and_stand_ins(run: Callable[..., Any], tmp_path: Path) -> None:
    _, latest = run(lambda: None)
    (path,) = tmp_path.rglob("run.html")
    page = read_page(path).document
    assert page.metrics["rendering_f1"] == pytest.approx(latest.data.metrics["f1/rendering"], rel=1e-5)
    assert page.stand_ins["link"] == latest.data.tags["stand_in.link"]
    assert page.capacity is not None
    assert page.capacity.uplink_mbps == [12.0]
    assert page.facts["clip"].startswith("clip: 20 frames at 10 FPS")


def test_a_clip_in_which_nothing_is_to_be_found_has_no_f1(run: Callable[..., Any], tmp_path: Path) -> None:
    _, latest = run(lambda: None, Detections.empty())
    assert latest.info.status == "FINISHED"
    assert not {"f1/rendering", "f1/inference", "f1/rendering_over_time"} & latest.data.metrics.keys()
    said = (tmp_path / "said.txt").read_text()
    assert "warning: the references of clip hold no box, so that F1 says nothing" in said
    assert re.search(r"rendering F1 +- *\n", said)


@pytest.mark.parametrize(
    ("error", "status"),
    [(RuntimeError("broken"), "FAILED"), (UserError("yours"), "FAILED"), (KeyboardInterrupt(), "KILLED")],
)
def test_a_run_that_ends_early_says_how(
    run: Callable[..., Any], config: EvaluationConfig, folder: Path, tmp_path: Path, error: BaseException, status: str
) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        run(fail)
    store = Store(config.mlflow.tracking_uri, "evaluation", folder / "artifacts")
    (latest, *_) = store.client.search_runs([store.experiment_id], order_by=["attributes.start_time DESC"])
    assert latest.info.status == status
    assert not store.client.search_runs([store.experiment_id], "attributes.status = 'RUNNING'")
    (summary,) = read_summaries(tmp_path / "sweep")
    assert summary["status"] == status
    assert summary["error"] == str(error)


def test_the_comparison_has_a_row_a_run_and_says_what_failed(tmp_path: Path) -> None:
    for number, policy in enumerate(("back2back", "trackb2b", "nope")):
        place = RunDirectory(tmp_path / str(number), tmp_path, number, ("trace=4g", f"policy={policy}"))
        if policy == "nope":
            with contextlib.suppress(UserError), place.summary_on_failure():
                raise UserError("no such\npolicy")
        else:
            place.write_summary("FINISHED", {"rendering_f1": 0.25 * (number + 1), "e2e_latency_s_median": 0.5})
    path = tmp_path / "table.txt"
    with path.open("w") as file:
        Terminal(Console(file=file)).comparison(read_summaries(tmp_path), tmp_path)
    lines = path.read_text().splitlines()
    rows = {words[0]: words for words in map(str.split, lines) if words}
    assert rows["back2back"][1] == "0.250"
    assert rows["trackb2b"][1:4] == ["0.500", "-", "500"]
    assert rows["nope"][1] == "failed"
    assert any(line.endswith("policy=nope: no such policy") for line in lines)
    assert not any("*" in line for line in lines)
    assert not any("4g" in line for line in lines[:5])  # the same in every run


@pytest.mark.parametrize("method", ["comparison", "tally"])
def test_the_end_of_a_sweep_marks_runs_on_a_busy_machine(tmp_path: Path, method: str) -> None:
    for number, (busy, lost) in enumerate(((0.0, 0), (1.0, 31))):
        place = RunDirectory(tmp_path / str(number), tmp_path, number, (f"trace={'45'[number]}g",))
        place.write_summary("FINISHED", {"rendering_f1": 0.5, "lost_frames": lost, "busy_machine": busy})
    path = tmp_path / "table.txt"
    with path.open("w") as file:
        getattr(Terminal(Console(file=file)), method)(read_summaries(tmp_path), tmp_path)
    lines = path.read_text().splitlines()
    assert lines[-1].startswith("warning: 1 of 2 runs were played while the machine was busy or slow (*)")
    assert "clock=virtual" in lines[-1]
    if method == "comparison":
        quiet, busy_row = (next(line.split() for line in lines if f"{number}g " in line) for number in "45")
        assert (quiet[1], quiet[-1]) == ("0.500", "0")
        assert (busy_row[1], busy_row[-1]) == ("0.500*", "31")


def test_summaries_are_small_json(tmp_path: Path) -> None:
    RunDirectory(tmp_path).write_summary("FINISHED", {"rendering_f1": 1.0}, run_id="x")
    assert json.loads((tmp_path / "summary.json").read_text())["run_id"] == "x"


def test_a_warning_while_resolving_finds_its_log(config: EvaluationConfig, tmp_path: Path) -> None:
    """Hydra's log file is opened at the first line, which may come before any process has made the folder."""
    broken = msgspec.structs.replace(config, trace=config.trace | {"mbps": -1})
    with pytest.raises(UserError, match="mbps"):
        run_evaluation(broken, RunDirectory(tmp_path / "run"), terminal=Terminal(Console(file=io.StringIO())))
    assert (tmp_path / "run" / "logs").is_dir()


def test_a_run_whose_server_was_restarted_is_not_taken_over(run: Callable[..., Any], config: EvaluationConfig) -> None:
    run(lambda: None, whole=False)
    assert not list(Path(config.sweep.index).rglob("*.json"))
    run(lambda: None)
    assert len(list(Path(config.sweep.index).rglob("*.json"))) == 1


def test_a_run_on_a_busy_machine_says_so_everywhere_and_is_not_taken_over(
    run: Callable[..., Any], config: EvaluationConfig, tmp_path: Path
) -> None:
    _, latest = run(lambda: None, busy=["other programs took 47% of the processor time", "inference took 2.1 times"])
    assert latest.info.status == "FINISHED"
    assert latest.data.metrics["run/busy_machine"] == 1.0
    assert latest.data.tags["busy_machine"].startswith("other programs took 47% of the processor time; inference")
    assert "do not trust this result" in latest.data.tags["mlflow.note.content"]
    assert not list(Path(config.sweep.index).rglob("*.json"))
    *_, last = (tmp_path / "said.txt").read_text().splitlines()
    assert last.startswith("warning: do not trust this result. The machine was busy or slow: other programs took 47%")
    assert "clock=virtual" in last
    (summary,) = read_summaries(tmp_path / "sweep")
    assert summary["metrics"]["busy_machine"] == 1.0
    assert summary["busy_machine"][1] == "inference took 2.1 times"
