"""Exports of a run: their numbers by hand, and what pycocotools, motmetrics, supervision and Rerun make of them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.evaluation.finished_folder import finished_folder
from tests.run.page.small_run import FRAMES, HEIGHT, PERSON, REFERENCES, WIDTH, images, small_run
from vitmalis.errors import UserError
from vitmalis.matching import iou_matrix
from vitmalis.types import Detections
from vitmalis_jobs.evaluation.export.coco import write_coco
from vitmalis_jobs.evaluation.export.job import export, main
from vitmalis_jobs.evaluation.export.mot import write_mot
from vitmalis_jobs.evaluation.export.rerun_log import write_rerun

RUN = small_run(Path("clip.mp4"))


def test_coco_has_the_references_as_annotations_and_what_was_shown_as_results(tmp_path: Path) -> None:
    truth, found = (json.loads(path.read_text()) for path in write_coco(RUN, tmp_path))
    assert [image["id"] for image in truth["images"]] == [0, 1, 2, 3]
    assert {(image["width"], image["height"]) for image in truth["images"]} == {(WIDTH, HEIGHT)}
    assert truth["categories"][0] == {"id": 1, "name": "person"}
    assert len(truth["categories"]) == 80
    person = {"category_id": 1, "bbox": [20.0, 30.0, 40.0, 80.0], "area": 3200.0, "iscrowd": 0}
    kept = [{key: row[key] for key in person} for row in truth["annotations"]]
    assert kept == [person] * 3, "the last frame has no reference"
    assert [(row["id"], row["image_id"]) for row in truth["annotations"]] == [(1, 0), (2, 1), (3, 2)]
    shown = [(row["image_id"], row["category_id"], row["bbox"]) for row in found]
    assert shown == [(2, 1, [22, 30, 40, 80]), (2, 3, [200, 40, 80, 50]), (3, 1, [20, 30, 40, 80])]


def coco_ap50(folder: Path) -> float:
    """AP of the class person at IoU 0.5, as pycocotools computes it."""
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "annotations.json"))
        scores = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "bbox")
        scores.params.catIds = [1]
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    return float(scores.stats[1])


def test_pycocotools_computes_the_ap_of_what_was_shown(tmp_path: Path) -> None:
    """By score: a wrong person (0.9, frame 3), then a right one (0.88, frame 2) of three.

    Precision is 1/2 up to a recall of 1/3, and COCO averages it at recalls 0, 0.01, ..., 1: 34 of them are at most 1/3.
    """
    write_coco(RUN, tmp_path)
    assert coco_ap50(tmp_path) == pytest.approx(34 / 101 / 2)


def test_pycocotools_finds_the_references_perfect(tmp_path: Path) -> None:
    frames = [dataclasses.replace(frame, detections=REFERENCES[frame.frame_index]) for frame in FRAMES]
    perfect = dataclasses.replace(RUN, records=dataclasses.replace(RUN.records, frames=frames))
    write_coco(perfect, tmp_path)
    assert coco_ap50(tmp_path) == pytest.approx(1.0)


def test_coco_without_references_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs the run's references: leave --no-reference out"):
        write_coco(dataclasses.replace(RUN, references=None), tmp_path)


def test_mot_has_tracks_of_what_was_shown_and_of_the_references(tmp_path: Path) -> None:
    sequence, results, truth = write_mot(RUN, tmp_path)
    assert truth == tmp_path / "gt" / "gt.txt"
    assert truth.read_text().splitlines() == [f"{n},1,21.0000,31.0000,40.0000,80.0000,1,1,1" for n in (1, 2, 3)]
    assert results.read_text().splitlines() == [
        "3,1,23.0000,31.0000,40.0000,80.0000,0.8765,-1,-1,-1",
        "3,2,201.0000,41.0000,80.0000,50.0000,0.6000,-1,-1,-1",
        "4,1,21.0000,31.0000,40.0000,80.0000,0.9000,-1,-1,-1",
    ]
    assert "seqLength=4" in sequence.read_text()


def test_mot_keeps_an_overlap_on_its_side_of_the_threshold(tmp_path: Path) -> None:
    """Two boxes of 5 x 5 px, one 1.666 px to the right: IoU (5 - 1.666) / (5 + 1.666), 1e-4 above 0.5."""
    boxes = [Detections.of([[x, 10, x + 5, 15]], [0.9], [0]) for x in (10.004, 11.67)]
    frames = [dataclasses.replace(RUN.records.frames[0], detections=boxes[0])]
    run = dataclasses.replace(RUN, records=dataclasses.replace(RUN.records, frames=frames), references=[boxes[1]])
    _, *tracks = write_mot(run, tmp_path)
    read = [np.loadtxt(path, delimiter=",", usecols=(2, 3, 4, 5), ndmin=2) for path in tracks]
    overlap = iou_matrix(*(np.concatenate([side[:, :2], side[:, :2] + side[:, 2:]], axis=1) for side in read))
    assert overlap.item() > 0.5


def test_motmetrics_reads_the_tracks(tmp_path: Path) -> None:
    """One of three references is found, with a wrong car and a wrong person: MOTA is 1 - (2 + 2 + 0) / 3."""
    motmetrics = pytest.importorskip("motmetrics")
    _, results, truth = write_mot(RUN, tmp_path)
    tracks = [motmetrics.io.loadtxt(str(path), fmt="mot15-2D", min_confidence=-1) for path in (truth, results)]
    scores = motmetrics.MOTAccumulator()
    for frame in (1, 2, 3, 4):
        known, shown = (of.xs(frame) if frame in of.index else of.iloc[:0] for of in tracks)
        sides = [rows[["X", "Y", "Width", "Height"]].to_numpy(np.float32) for rows in (known, shown)]
        boxes = [np.concatenate([side[:, :2], side[:, :2] + side[:, 2:]], axis=1) for side in sides]
        overlap = iou_matrix(*boxes)
        scores.update(known.index, shown.index, np.where(overlap < 0.5, np.nan, 1 - overlap), frameid=frame)
    row = motmetrics.metrics.create().compute(scores, metrics=["mota", "num_switches", "num_objects"], name="run")
    assert row["mota"]["run"] == pytest.approx(1 - 4 / 3)
    assert (row["num_switches"]["run"], row["num_objects"]["run"]) == (0, 3)
    assert tracks[1].xs(3)[["X", "Y"]].to_numpy().tolist() == [[22, 30], [200, 40]], "the reader counts from 0 again"


def test_rerun_holds_frames_boxes_and_series(tmp_path: Path) -> None:
    reader = pytest.importorskip("rerun.chunk").RrdReader
    (path,) = write_rerun(RUN, iter(images()), tmp_path)
    assert path.name == "run.rrd"
    content = path.read_bytes()
    assert content.startswith(b"RRF")
    (other,) = write_rerun(RUN, iter(images()), tmp_path / "other")
    first, second = (reader(each).recordings()[0].recording_id for each in (path, other))
    assert first != second, "the viewer would show runs of one id as one"
    for entity in (b"/camera/shown", b"/camera/reference", b"/f1", b"/latency/e2e_latency_s"):
        assert entity in content, entity
    assert b"/camera/shown/masks" not in content, "of a run without masks"


def test_rerun_that_is_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(UserError, match=r"pip install 'vitmalis\[rerun\]'"):
        write_rerun(RUN, iter(images()), tmp_path)


def test_detections_become_those_of_supervision() -> None:
    supervision = pytest.importorskip("supervision")
    found = Detections.of(*PERSON).to_supervision()
    assert isinstance(found, supervision.Detections)
    assert found.xyxy.tolist() == [PERSON[0]]
    assert found.confidence.tolist() == pytest.approx(PERSON[1])
    assert (found.class_id.tolist(), found.data["class_name"].tolist()) == ([0], ["person"])
    assert len(Detections.empty().to_supervision()) == 0


def test_supervision_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vitmalis\[supervision\]'"):
        Detections.empty().to_supervision()


def test_the_command_writes_into_the_runs_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished_folder(tmp_path)
    assert main([str(folder), "--format", "mot", "--no-reference"]) == 0
    printed = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == [folder / "export" / "mot" / name for name in ("seqinfo.ini", "results.txt")]
    assert main([str(folder), "--format", "coco", "--no-reference", "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: --format coco needs the run's references")
    assert not (tmp_path / "out").exists()


def test_a_live_run_has_no_frames_for_rerun(tmp_path: Path) -> None:
    session = RUN.session
    live = msgspec.structs.replace(session, video=msgspec.structs.replace(session.video, live=True))
    with pytest.raises(UserError, match="was live, so that its frames are gone"):
        export(dataclasses.replace(RUN, session=live), "rerun", tmp_path)
