"""The report of a small study whose records are written as runs write them."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vitmalis.client.session import SESSION_FILE, ClientSession, write_session
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
from vitmalis.regions import ModelGeometry
from vitmalis.types import Detections
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.evaluation.study import figures
from vitmalis_jobs.evaluation.study.cli import main, write_report
from vitmalis_jobs.evaluation.study.geometry import regions_table
from vitmalis_jobs.evaluation.study.offload_table import offload_table
from vitmalis_jobs.evaluation.study.runs import ordered, paper_numbers, read_study
from vitmalis_jobs.evaluation.study.subsets import BY_FOOTAGE, level_table
from vitmalis_jobs.evaluation.study.tables import estimates, option_differences, other_scores, overview, reasons
from vitmalis_jobs.run.directory import RUN_FILE, SWEEP_FILE, write_json


def write_run(
    folder: Path,
    number: int,
    policy: str,
    clip: str,
    f1: float,
    status: str = "FINISHED",
    *asked: str,
    clock: str = "virtual",
    busy: bool = False,
    geometry: ModelGeometry | None = None,
    start_s: float | None = None,
    trace: str = "4g_00",
    source: str = "generated",
    stand_ins: dict[str, str] | None = None,
    **further: float,
) -> None:
    place = folder / str(number)
    info = RecordsInfo(policy=policy, clip=clip, trace=trace, clock=clock)
    write_frames(place / FRAMES_FILE, [FrameRecord(frame_index=0, capture_time_s=0.0, render_time_s=0.1)], info)
    estimation = {"estimation_s": 0.001, "optimization_s": 0.0005, "motion_s": 0.002} if policy == "vitmalis" else {}
    offloads = [
        OffloadRecord(
            offload_id=i, frame_index=10 * i, start_time_s=float(i), encode_s=0.01, decode_s=0.02, network_s=0.1,
            inference_s=0.3, e2e_latency_s=0.43, **estimation,  # type: ignore[arg-type]
        )
        for i in range(3)
    ]  # fmt: skip
    lost = OffloadRecord(offload_id=3, frame_index=31, start_time_s=9.0, status="lost")
    write_offloads(place / OFFLOADS_FILE, [*offloads, lost], info)
    stages = ("e2e_latency", "network", "inference", "encode", "decode")
    metrics = {"rendering_f1": f1, "inference_f1": 0.9, "frames": 1.0, "offload_interval_frames_median": 10.0}
    metrics["payload_kib_median"] = 50.0
    metrics |= {f"{name}_s_median": 0.1 if policy == "vitmalis" else 0.2 for name in stages}
    metrics |= {"lost_offloads": 1.0, "lost_frames": 2.0} | ({"busy_machine": 1.0} if busy else {}) | further
    overrides = [f"policy={policy}", f"video={clip}", "output.video_seconds=0", *asked]
    stand_ins = {"model": "a small one"} if stand_ins is None else stand_ins
    summary = {"status": status, "overrides": overrides, "metrics": metrics, "stand_ins": stand_ins}
    summary |= {} if start_s is None else {"trace": {"start_s": start_s, "source": source}}
    if geometry is not None:
        video = VideoSpec(name=clip, path="", fps=30.0, width=960, height=540, start_frame=0, frames=1)
        write_session(ClientSession(video, "tcp://127.0.0.1:1", "", geometry), place / SESSION_FILE)
    (place / "summary.json").write_text(json.dumps(summary | ({"error": "<b>broke</b>"} if status == "FAILED" else {})))


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    number = 0
    for clip in range(6):
        for policy, f1 in (("vitmalis", 0.6), ("trackb2b", 0.5), ("back2back", 0.2)):
            write_run(tmp_path / "sweep", number, policy, f"clip{clip}", f1 + 0.01 * clip)
            number += 1
    write_run(tmp_path / "sweep", number, "vitmalis", "odd", 0.9)  # a clip that the others lack
    write_run(tmp_path / "sweep", number + 1, "trackb2b", "odd", 0.0, "FAILED")
    return tmp_path / "sweep"


class Tags(HTMLParser):
    """Notes what a page shows."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.explained: list[bool] = []
        self.text = ""
        self.bold = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.images += [dict(attrs)["data-file"] or ""] if tag == "img" else []
        self.explained += [bool(dict(attrs).get("title"))] if tag == "th" else []
        self.bold += tag == "b"

    def handle_data(self, data: str) -> None:
        self.text += data


def test_files_of_a_users_own_are_clips_and_traces_and_no_variants(tmp_path: Path) -> None:
    for number, (policy, name) in enumerate((p, n) for p in ("vitmalis", "trackb2b") for n in ("walk", "drive")):
        asked = (f"video.path=clips/{name}.mp4", f"trace.path={name}.csv")
        write_run(tmp_path / "sweep", number, policy, name, 0.5, "FINISHED", *asked, trace=name)
    study = read_study([tmp_path / "sweep"])
    assert study.policies == ["trackb2b", "vitmalis"]
    assert sorted(study.runs["clip"]) == ["drive", "drive", "walk", "walk"]


def test_intervals_are_since_the_offload_before_also_a_lost_one(tmp_path: Path) -> None:
    """Frames 0, 10, 20 (lost) and 35, which is sent a second time: intervals of 10 and 15."""
    write_run(tmp_path, 0, "dds", "walk", 0.5)
    rows = [(0, "ok", -1), (10, "ok", -1), (20, "lost", -1), (35, "ok", -1), (35, "ok", 3)]
    offloads = [
        OffloadRecord(offload_id=i, frame_index=frame, start_time_s=0.0, status=status, second_round_of=first)
        for i, (frame, status, first) in enumerate(rows)
    ]
    write_offloads(tmp_path / "0" / OFFLOADS_FILE, offloads, RecordsInfo(policy="dds", clip="walk"))
    intervals = offload_table(read_study([tmp_path]).runs)["interval_frames"]
    assert intervals.fillna(-1).tolist() == [-1, 10, 15, -1]


def test_a_study_without_what_is_compared_has_no_section_of_differences(tmp_path: Path) -> None:
    for number, window in enumerate((1, 2)):
        asked = f"client.in_flight={window}"
        write_run(tmp_path / "sweep", number, "cached", "walk", 0.5, "FINISHED", asked, cpu_s=45.0 * window - 30.0)
    write_report(read_study([tmp_path / "sweep"]), tmp_path / "report", "sweep")
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Paired differences of rendering F1" not in page
    assert "1 min of processor time" in page  # 15 and 60 s
    assert "Every clip" in page


def test_files_of_one_name_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "sweep", 0, "vitmalis", "walk", 0.5, "FINISHED", "video.path=sunny/walk.mp4")
    write_run(tmp_path / "sweep", 1, "vitmalis", "walk", 0.7, "FINISHED", "video.path=./sunny/walk.mp4")
    assert list(read_study([tmp_path / "sweep"]).runs["rendering_f1"]) == [0.7]  # of equal runs the last one counts
    write_run(tmp_path / "sweep", 2, "vitmalis", "walk", 0.9, "FINISHED", "video.path=rainy/walk.mp4")
    with pytest.raises(UserError, match=r"runs of clip walk played different files of this name \(.*rainy.*sunny"):
        read_study([tmp_path / "sweep"])


def test_the_page_shows_every_figure_and_says_what_is_missing(
    sweep: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no other job has measured anything
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    assert main([str(sweep), "--tracking-uri", uri, "--no-mlflow"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["statuses"] == {"FINISHED": 19, "FAILED": 1}
    assert result["order"].endswith("the same order")
    report = sweep / "report"
    page = Tags()
    page.feed((report / "report.html").read_text())
    assert page.images == ["fig8.png", "fig9.png", "fig11.png", "breakdown.png"]
    assert "There is no figure, as they hardly vary" in page.text
    assert all((report / name).stat().st_size > 5000 for name in page.images)
    assert all((report / name).with_suffix(".svg").is_file() for name in page.images)
    assert page.bold == 0  # an error's text is shown, not obeyed
    assert "failed, <b>broke</b>" in page.text
    assert "left out of comparisons: 1 pair of clip and trace without all policies" in page.text
    assert (
        "ViTMAlis gains 0.100 rendering F1 against TrackB2B over 6 pairs of clip and trace (95 % interval" in page.text
    )
    assert "here ViTMAlis > TrackB2B > Back2Back; in the paper" in page.text
    assert len(page.explained) > 20
    assert all(page.explained)
    assert "stand-in model: a small one" in page.text
    assert "50" in page.text  # network time saved
    assert (report / "runs.csv").read_text().count("\n") == 20
    assert (report / "time_saved_by_vitmalis_compared_with_trackb2b.csv").is_file()


def test_the_report_says_how_often_each_reason_decided(tmp_path: Path) -> None:
    for number, (clip, shares) in enumerate((("a", {"knee": 0.5, "stale": 0.5}), ("b", {"knee": 1.0}))):
        write_run(tmp_path, 2 * number, "vitmalis", clip, 0.6)
        path = tmp_path / str(2 * number) / "summary.json"
        summary = json.loads(path.read_text())
        summary["metrics"] |= {f"share_decided_{reason}": share for reason, share in shares.items()}
        path.write_text(json.dumps(summary))
        write_run(tmp_path, 2 * number + 1, "trackb2b", clip, 0.5)
    table = reasons(read_study([tmp_path]).runs, ["trackb2b", "vitmalis"])
    assert table.to_dict("records") == [{"policy": "vitmalis", "knee, %": 75.0, "stale, %": 25.0}]


def test_the_report_says_how_far_off_estimates_are(tmp_path: Path) -> None:
    for number, (clip, bias, error) in enumerate((("a", 0.02, 10.0), ("b", -0.04, 20.0))):
        write_run(tmp_path, 2 * number, "freshness", clip, 0.6)
        path = tmp_path / str(2 * number) / "summary.json"
        summary = json.loads(path.read_text())
        summary["metrics"] |= {"inference_f1_bias": bias, "payload_error_percent_median": error}
        path.write_text(json.dumps(summary))
        write_run(tmp_path, 2 * number + 1, "trackb2b", clip, 0.5)
    runs = read_study([tmp_path]).runs
    (row,) = estimates(runs, ["trackb2b", "freshness"]).to_dict("records")
    assert row == {"policy": "freshness", "error of size, %": 15.0, "bias of F1": pytest.approx(-0.01)}
    assert estimates(runs[runs["policy"] == "trackb2b"], ["trackb2b"]).empty


def test_runs_on_a_busy_machine_are_marked_wherever_they_count(
    sweep: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(sweep, 1, "trackb2b", "clip0", 0.5, busy=True)
    assert main([str(sweep), "--no-mlflow"]) == 0
    assert json.loads(capsys.readouterr().out)["busy_runs"] == 1
    report = sweep / "report"
    page = Tags()
    page.feed((report / "report.html").read_text())
    assert "1 of 19 runs were played while the machine was busy or slow (*)" in page.text
    assert "clock=virtual" in page.text
    assert page.text.count("* with runs that were played while the machine was busy or slow") == 13  # tables, figures
    names = [line.split(",")[0] for line in (report / "policies.csv").read_text().splitlines()]
    assert names == ["policy", "back2back", "trackb2b *", "vitmalis"]
    assert "frames lost" in (report / "policies.csv").read_text()
    assert "TrackB2B *" in (report / "fig8.svg").read_text()
    assert "vitmalis,trackb2b *" in (report / "paired_differences_of_rendering_f1.csv").read_text()


def test_offloads_that_were_lost_have_no_durations(sweep: Path) -> None:
    table = offload_table(read_study([sweep]).runs)
    assert len(table) == 19 * 3
    assert table["interval_frames"].dropna().unique().tolist() == [10.0]
    assert table.loc[table["policy"] == "back2back", "estimation_ms"].isna().all()


def test_estimation_counts_whenever_it_was_made(tmp_path: Path) -> None:
    offloads = [
        OffloadRecord(offload_id=i, frame_index=i, start_time_s=float(i), estimation_s=estimation_s, ahead_s=ahead_s)
        for i, (estimation_s, ahead_s) in enumerate([(0.009, None), (0.001, 0.008), (None, None)])
    ]
    write_offloads(tmp_path / OFFLOADS_FILE, offloads, RecordsInfo(policy="freshness", clip="clip"))
    run = {"policy": "freshness", "clip": "clip", "trace": "4g_00", "run_dir": str(tmp_path)}
    assert offload_table(pd.DataFrame([run]))["estimation_ms"].tolist()[:2] == pytest.approx([9.0, 9.0])


def test_a_study_of_one_pair_says_that_it_has_no_interval(tmp_path: Path) -> None:
    write_run(tmp_path, 0, "vitmalis", "clip", 0.6)
    write_run(tmp_path, 1, "trackb2b", "clip", 0.5)
    assert main([str(tmp_path), "--no-mlflow"]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "too few for an interval: 1 pair<" in page
    assert "on 1 pair of clip and trace: too few to tell" in page


def test_a_policy_without_any_result_takes_no_latencies_from_others(tmp_path: Path) -> None:
    """All offloads were lost or declined: rendering F1 0, and no metric of results."""
    for number, clip in enumerate(("a", "b")):
        write_run(tmp_path, 2 * number, "trackb2b", clip, 0.5, rendering_f1_after_first_result=0.75)
        write_run(tmp_path, 2 * number + 1, "reducto", clip, 0.0)
        summary = tmp_path / str(2 * number + 1) / "summary.json"
        content = json.loads(summary.read_text())
        content["metrics"] = {"rendering_f1": 0.0, "frames": 1.0}
        summary.write_text(json.dumps(content))
    runs = read_study([tmp_path]).runs
    table = overview(runs, ["trackb2b", "reducto"]).set_index("policy")
    shown = ["rendering F1, median", "inference F1, mean", "E2E, ms", "interval, frames"]
    assert table.loc["trackb2b", shown].tolist() == [0.5, 0.9, 200.0, 10.0]
    assert table.loc["reducto", shown].fillna(-1).tolist() == [0.0, -1, -1, -1]
    (row, none) = level_table(runs, ["trackb2b", "reducto"], BY_FOOTAGE)["after the first result, mean"]
    assert (row, np.isnan(none)) == (0.75, True)
    assert main([str(tmp_path), "--no-mlflow"]) == 0


def test_figures_of_an_earlier_report_are_no_files_of_this_one(tmp_path: Path) -> None:
    sweep, report = tmp_path / "sweep", tmp_path / "report"
    for number, policy in enumerate(("trackb2b", "vitmalis")):
        write_run(sweep, number, policy, "clip", 0.5)
    report.mkdir()
    (report / "sensitivity.png").touch()
    names = {path.name for path in write_report(read_study([sweep]), report, "sweep")}
    assert {"report.html", "runs.csv", "policies.csv", "fig8.png", "fig8.svg"} <= names
    assert "sensitivity.png" not in names


def test_runs_in_which_nothing_is_to_be_found_have_no_f1(tmp_path: Path) -> None:
    """Earlier versions gave them F1 1, or 0 with recall 1; a perfect run shows boxes."""
    for number, (clip, f1) in enumerate((("street", 0.5), ("black", 1.0), ("dark", 0.0), ("perfect", 1.0))):
        write_run(tmp_path, number, "trackb2b", clip, f1)
        path = tmp_path / str(number) / "summary.json"
        summary = json.loads(path.read_text())
        summary["metrics"]["rendering_recall"] = 0.5 if clip == "street" else 1.0
        path.write_text(json.dumps(summary))
    box = Detections.of([[0, 0, 9, 9]], [0.9], [0])
    frame = FrameRecord(frame_index=0, capture_time_s=0.0, render_time_s=0.1, detections=box)
    info = RecordsInfo(policy="trackb2b", clip="perfect", trace="4g_00", clock="virtual")
    write_frames(tmp_path / "3" / FRAMES_FILE, [frame], info)
    runs = read_study([tmp_path]).runs.set_index("clip")
    assert runs["rendering_f1"].dropna().to_dict() == {"street": 0.5, "perfect": 1.0}
    assert runs["inference_f1"].dropna().index.tolist() == ["street", "perfect"]
    assert main([str(tmp_path), "--no-mlflow"]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert "2 pairs without F1, as their clips show nothing" in page


def test_a_policy_with_several_options_is_shown_as_several(tmp_path: Path) -> None:
    for number, estimator in enumerate(("mlp", "mean")):
        write_run(tmp_path, number, "vitmalis", "clip", 0.6, "FINISHED", f"policy.estimator={estimator}")
    write_run(tmp_path, 2, "trackb2b", "clip", 0.5)
    assert read_study([tmp_path]).policies == [
        "trackb2b", "vitmalis (policy.estimator=mlp)", "vitmalis (policy.estimator=mean)"
    ]  # fmt: skip


def test_a_study_is_read_from_another_folder_than_its_runs_were_made_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path / "runs" / "sweeps" / "mine", 0, "vitmalis", "clip", 0.6)
    path = tmp_path / "runs" / "sweeps" / "mine" / "0" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run_dir": "runs/sweeps/mine/0"}))
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    study = read_study([Path("../runs/sweeps/mine")])
    assert (study.runs["rendering_f1"].tolist(), len(offload_table(study.runs))) == ([0.6], 3)


def test_clocks_are_not_mixed(tmp_path: Path) -> None:
    write_run(tmp_path, 0, "vitmalis", "clip", 0.6)
    write_run(tmp_path, 1, "vitmalis", "clip", 0.5, clock="realtime")
    with pytest.raises(UserError, match="choose one with --clock"):
        read_study([tmp_path])
    assert read_study([tmp_path], "realtime").runs["rendering_f1"].tolist() == [0.5]


def test_parts_of_a_trace_are_not_mixed(tmp_path: Path) -> None:
    write_run(tmp_path / "old", 0, "vitmalis", "clip", 0.6)
    write_run(tmp_path / "new", 0, "trackb2b", "clip", 0.5, start_s=37.0)
    with pytest.raises(UserError, match=r"runs of clip over 4g_00 played .* \(from 0 s on and from 37 s on\)"):
        read_study([tmp_path / "old", tmp_path / "new"])
    write_run(tmp_path / "new", 1, "vitmalis", "clip", 0.7, start_s=37.0)
    study = read_study([tmp_path / "old", tmp_path / "new"])
    assert study.runs["rendering_f1"].tolist() == [0.5, 0.7], "the last of equal runs counts"
    assert study.runs["trace_start_s"].tolist() == [37.0, 37.0]
    write_run(tmp_path / "new", 2, "back2back", "clip", 0.7, start_s=37.0, source="file")
    with pytest.raises(UserError, match=r"over 4g_00 played different traces of this name \(file and generated\)"):
        read_study([tmp_path / "new"])
    for number, start_s in enumerate((0.0, 60.0), 2):
        write_run(tmp_path / "asked", number, "vitmalis", "clip", 0.7, "FINISHED", f"trace.start_s={start_s:g}",
                  start_s=start_s)  # fmt: skip
    assert read_study([tmp_path / "asked"]).policies == [f"vitmalis (trace.start_s={start:g})" for start in (0, 60)]


def test_a_missing_or_empty_sweep_is_a_users_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="there is no such folder"):
        read_study([tmp_path / "none"])
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), "--no-mlflow"]) == 2
    assert "it holds no runs of a sweep" in capsys.readouterr().err


def test_the_papers_numbers_are_those_of_known_policies() -> None:
    numbers = paper_numbers()
    assert numbers["rendering_f1_median"]["vitmalis"] == 0.530
    assert set(numbers["rendering_f1_median"]) <= {path.stem for path in (conf_dir() / "policy").glob("*.yaml")}


def test_the_papers_policies_come_first_and_others_as_they_appear() -> None:
    seen = ["zeta", "vitmalis (policy.knee=chord)", "alpha", "vitmalis", "back2back", "oracle"]
    assert ordered(seen) == ["back2back", "vitmalis (policy.knee=chord)", "vitmalis", "zeta", "alpha", "oracle"]


def test_a_report_takes_a_policy_that_it_has_never_heard_of(tmp_path: Path) -> None:
    for number, (policy, f1) in enumerate((("mine", 0.7), ("vitmalis", 0.6), ("trackb2b", 0.5))):
        write_run(tmp_path, number, policy, "clip", f1)
    assert main([str(tmp_path), "--no-mlflow"]) == 0
    assert read_study([tmp_path]).policies == ["trackb2b", "vitmalis", "mine"]
    assert (tmp_path / "report" / "policies.csv").read_text().splitlines()[3].startswith("mine,1,0.7,,")


def test_what_other_jobs_measured_is_shown_with_its_origin(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vitmalis_jobs.evaluation.study import external_results

    monkeypatch.chdir(sweep.parent)
    assert [section.title for section in external_results.sections(read_study([sweep]).runs, sweep / "report")] == [
        "Estimators of vitdet_tiny (Table II)"
    ]
    row = {"regions": "object-free", "share": 1.0, "restoration_point": 4, "time_ratio": 0.6, "f1": 0.9}
    rows = [{"clip": clip, "downsampled_share": 0.7, "frames": 1, **row} for clip in ("all", "other")]
    result = {"model": "vitdet_tiny", "model_id": "0123abc", "rows": rows}
    external_results.RESTORATION_POINTS.parent.mkdir(parents=True)
    external_results.RESTORATION_POINTS.write_text(json.dumps(result))
    points, estimators = external_results.sections(read_study([sweep]).runs, sweep / "report")
    assert "0123abc, not by this study" in points.words[0]
    (row,) = points.rows
    assert [cell for _, cell, _ in row] == ["object-free", "1", "4", "0.600", "0.900", "0.700"]
    titles = ["Method", "Metric", "MAE", "RMSE", "MAPE (%)", "R2", "Bias", "Regret"]
    assert [column.title for column in estimators.columns] == titles
    assert [column.cells[0] for column in estimators.columns[:2]] == ["MLP", "Size (KiB)"]


def test_runs_of_several_windows_and_factors_are_compared_by_them(tmp_path: Path) -> None:
    """Each (w, d) is a variant of its policy, whether an option or the model itself says the window."""
    f1 = {(5, 2): 0.5, (5, 4): 0.6, (9, 2): 0.7, (9, 4): 0.8}
    for number, ((window, factor), value) in enumerate(f1.items()):
        asked = [f"model.window={'null' if window == 5 else 9}", f"model.downsampling_factor={factor}"]
        regions = ModelGeometry(window, factor, patch_px=16, restoration_points=4)
        write_run(tmp_path, number, "vitmalis", "walkS", value, "FINISHED", *asked, geometry=regions)
    study = read_study([tmp_path])
    assert study.policies == [f"vitmalis (w={window}, d={factor})" for window, factor in f1]
    table = regions_table(study.runs)
    assert table[["policy", "w", "d", "region, px"]].to_numpy().tolist() == [
        ["vitmalis", 5, 2, 160], ["vitmalis", 5, 4, 320], ["vitmalis", 9, 2, 288], ["vitmalis", 9, 4, 576],
    ]  # fmt: skip
    assert table["rendering F1"].tolist() == pytest.approx(list(f1.values()))
    assert table["E2E, ms"].tolist() == pytest.approx([100.0] * 4)
    assert main([str(tmp_path), "--no-mlflow"]) == 0
    report = tmp_path / "report"
    assert {"geometry.png", "geometry.svg", "window_and_downsampling_factor.csv"} <= {p.name for p in report.iterdir()}


def test_a_study_of_one_window_and_factor_has_no_section_for_them(tmp_path: Path) -> None:
    regions = ModelGeometry(5, 2, patch_px=16, restoration_points=4)
    for number, policy in enumerate(("trackb2b", "vitmalis")):
        write_run(tmp_path, number, policy, "walkS", 0.5, geometry=regions)
    assert read_study([tmp_path]).policies == ["trackb2b", "vitmalis"]
    assert regions_table(read_study([tmp_path]).runs).empty


def test_variants_are_compared_with_the_first_of_their_policy(tmp_path: Path) -> None:
    number = 0
    for clip in range(6):
        for truths, f1 in (("[]", 0.5), ("[size]", 0.5), ("[f1]", 0.6 + 0.01 * clip)):
            asked = "FINISHED", f"policy.inject={truths}", "trace.index=0"
            write_run(tmp_path, number, "freshness", f"clip{clip}", f1, *asked)
            number += 1
        write_run(tmp_path, number, "vitmalis", f"clip{clip}", 0.4)
        number += 1
    study = read_study([tmp_path])
    table = option_differences(study.runs, study.policies).set_index("policy")
    assert list(table.index) == ["freshness (policy.inject=[size])", "freshness (policy.inject=[f1])"]
    assert set(table["compared with"]) == {"freshness (policy.inject=[])"}
    assert table["mean difference"].tolist() == pytest.approx([0.0, 0.125])
    assert table["pairs"].tolist() == [6, 6]


def test_scores_of_other_fields_are_compared_where_all_runs_have_them() -> None:
    scores = {"streaming_ap": 0.3, "streaming_ap_50": 0.5, "idf1": 0.6, "mota": 0.4, "id_switches": 12.0}
    runs = pd.DataFrame(
        {"policy": policy, "clip": clip, "trace": "t", **{name: value + more for name, value in scores.items()}}
        for policy, more in (("trackb2b", 0.0), ("vitmalis", 0.1))
        for clip in ("a", "b")
    )
    table = other_scores(runs, ["trackb2b", "vitmalis"])
    assert table["sAP"].tolist() == pytest.approx([0.3, 0.4])
    assert table["identity switches"].tolist() == pytest.approx([12.0, 12.1])
    assert "F1 of masks" not in table
    masked = other_scores(runs.assign(rendering_mask_f1=0.7), ["trackb2b", "vitmalis"])
    assert masked["F1 of masks"].tolist() == pytest.approx([0.7, 0.7])
    assert other_scores(runs.drop(columns="idf1"), ["trackb2b", "vitmalis"]).empty, "runs of an earlier version"


@pytest.mark.parametrize(("encode_ms", "drawn"), [([10.0, 10.0, 10.0], False), ([9.0, 10.0, 12.0], True)])
def test_codec_times_are_drawn_where_they_vary(encode_ms: list[float], drawn: bool, tmp_path: Path) -> None:
    offloads = pd.DataFrame({"policy": "TrackB2B", "encode_ms": encode_ms, "decode_ms": [n / 2 for n in encode_ms]})
    assert (figures.codec(tmp_path, offloads, ["TrackB2B"]) is not None) == drawn
    assert (tmp_path / "fig10.png").exists() == drawn


def test_a_report_on_a_sweep_that_is_not_complete_says_how_many_runs_are_not_made(tmp_path: Path) -> None:
    sweep = tmp_path / "s"
    for number in range(2):
        write_run(sweep, number, "trackb2b", f"clip{number}", 0.5)
    assert read_study([sweep]).statuses == {"FINISHED": 2}, "an older sweep does not say how many runs it has"
    for content, unmade in (({"command": [], "runs": 5}, 3), ({"command": [], "runs": 2}, 0), ({"runs": 5}, 0)):
        write_json(sweep / SWEEP_FILE, content)
        study = read_study([sweep])
        assert study.statuses["NOT MADE"] == unmade
        said = [f"sweep {sweep}: 3 runs not made yet; its command goes on with them"]
        assert study.problems == (said if unmade else [])


@pytest.mark.parametrize(("name", "expected"), [("s/0", "is the folder of a run, no sweep"), ("", "give the folder")])
def test_what_is_no_sweep_is_refused(name: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(Path("s"), 0, "trackb2b", "clip", 0.5)
    (tmp_path / "s" / "0" / RUN_FILE).touch()
    with pytest.raises(UserError, match=expected):
        read_study([Path(name)])
