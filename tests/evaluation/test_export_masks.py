"""Masks in exports of a run: which object has a pixel, and what pycocotools, supervision and Rerun make of them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest

from tests.run.page.small_run import FRAMES, HEIGHT, PERSON, REFERENCES, WIDTH, images, small_run
from vitmalis.errors import UserError
from vitmalis.instance_masks import MASK_SIDE, filled_masks, pasted, quantized, window_in_frame
from vitmalis.types import Detections
from vitmalis_jobs.evaluation.export.coco import write_coco
from vitmalis_jobs.evaluation.export.coco_rle import encoded
from vitmalis_jobs.evaluation.export.mots import write_mots
from vitmalis_jobs.evaluation.export.object_map import NOTHING, object_map
from vitmalis_jobs.evaluation.export.rerun_log import BACKGROUND, write_rerun
from vitmalis_jobs.run.page.build import PlayedRun

RUN = small_run(Path("clip.mp4"))


def with_masks(detections: Detections) -> Detections:
    """A triangle, a ring, both, or what is left of them in each box."""
    rows, cols = np.mgrid[:MASK_SIDE, :MASK_SIDE]
    ring = np.abs(np.hypot(rows - 13.5, cols - 13.5) - 9) < 4
    masks = np.resize(np.stack([rows > cols, ring, ring | (rows < 3)]), (len(detections), MASK_SIDE, MASK_SIDE))
    return dataclasses.replace(detections, masks=np.where(masks, 255, 0).astype(np.uint8))


def masked_run() -> PlayedRun:
    frames = [dataclasses.replace(frame, detections=with_masks(frame.detections)) for frame in FRAMES]
    references = [with_masks(reference) for reference in REFERENCES]
    return dataclasses.replace(RUN, references=references, records=dataclasses.replace(RUN.records, frames=frames))


def test_pycocotools_reads_the_masks_of_a_run(tmp_path: Path) -> None:
    """Each is what pasting gives, and average precision of masks is computed from them."""
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    run = masked_run()
    write_coco(run, tmp_path)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(tmp_path / "annotations.json"))
        found = truth.loadRes(str(tmp_path / "results.json"))
        scores = COCOeval(truth, truth.loadRes(truth.loadAnns(truth.getAnnIds())), "segm")
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    assert scores.stats[0] == pytest.approx(1), "of the references themselves"
    shown = FRAMES[2].detections.above(run.rule.score_threshold)
    annotations = found.loadAnns(found.getAnnIds(imgIds=[2]))
    assert len(annotations) == len(shown) == 2
    for annotation, mask, box in zip(annotations, with_masks(shown).masks_or_boxes, shown.boxes_xyxy, strict=True):
        expected = pasted(mask, box, (0, 0, WIDTH, HEIGHT))
        np.testing.assert_array_equal(found.annToMask(annotation), expected)
    person, *_ = json.loads((tmp_path / "annotations.json").read_text())["annotations"]
    assert person["area"] == truth.annToMask(person).sum()


@pytest.mark.parametrize("seed", range(5))
def test_any_mask_anywhere_is_encoded_as_pycocotools_does(seed: int) -> None:
    """Also over the whole height of the frame, where runs go on in the next column, and beyond the frame."""
    masks = pytest.importorskip("pycocotools.mask")
    draws = np.random.default_rng(seed)
    corners = draws.uniform(-40, 120, (2, 2))
    for box in (np.concatenate([corners.min(axis=0), corners.max(axis=0)]), np.array([10, -5, 90, 70])):
        for mask in (np.full((MASK_SIDE, MASK_SIDE), 255, np.uint8), quantized(draws.random((1, 28, 28)))[0]):
            left, top, *_ = window = window_in_frame(box, (100, 64))
            segmentation = encoded(pasted(mask, box, window), (left, top), (100, 64))
            drawn = np.asfortranarray(pasted(mask, box, (0, 0, 100, 64)), np.uint8)
            assert segmentation == {"size": [64, 100], "counts": masks.encode(drawn)["counts"].decode()}


def test_a_pixel_is_of_the_object_with_the_highest_score() -> None:
    """Of three filled boxes in a row of pixels, the second is in front, and what is beyond the frame is cut off."""
    boxes = [[0, 0, 4, 1], [2, 0, 6, 1], [5, 0, 99, 1]]
    objects = Detections.of(boxes, [0.7, 0.9, 0.8], [0, 0, 2], filled_masks(3))
    expected = [0, 0, 1, 1, 1, 1, 2, 2]
    assert object_map(objects, (8, 1)).tolist() == [expected]
    assert object_map(objects.select([2, 0, 1]), (8, 1)).tolist() == [[[1, 2, 0][row] for row in expected]]
    assert (object_map(Detections.empty(), (8, 2)) == NOTHING).all()


def test_mots_has_tracks_of_masks_that_do_not_overlap(tmp_path: Path) -> None:
    """Frame, id, class, height, width and run lengths; pycocotools finds the pixels that `object_map` gives each."""
    coding = pytest.importorskip("pycocotools.mask")
    sequence, results, truth = write_mots(masked_run(), tmp_path)
    assert (sequence.name, truth) == ("seqinfo.ini", tmp_path / "gt" / "gt.txt")
    rows = [line.split(" ") for line in results.read_text().splitlines()]
    assert [row[:5] for row in rows] == [
        ["3", "1", "2", str(HEIGHT), str(WIDTH)],
        ["3", "2", "1", str(HEIGHT), str(WIDTH)],
        ["4", "1", "2", str(HEIGHT), str(WIDTH)],
    ]
    owners = object_map(with_masks(FRAMES[2].detections.above(0.5)), (WIDTH, HEIGHT))
    for row, text in enumerate(rows[:2]):
        drawn = coding.decode({"size": [HEIGHT, WIDTH], "counts": text[5].encode()})
        np.testing.assert_array_equal(drawn, owners == row)
    assert [line.split(" ")[:3] for line in truth.read_text().splitlines()] == [[n, "1", "2"] for n in "123"]


def test_mots_leaves_out_what_it_has_no_class_for_and_what_others_hide(tmp_path: Path) -> None:
    """A bus, a person half behind it, and a person whom that one hides."""
    boxes = [[0, 0, 40, 40], [20, 0, 60, 40], [25, 5, 55, 35]]
    objects = Detections.of(boxes, [0.9, 0.8, 0.7], [5, 0, 0], filled_masks(3))
    frames = [dataclasses.replace(FRAMES[0], detections=objects)]
    run = dataclasses.replace(RUN, references=None, records=dataclasses.replace(RUN.records, frames=frames))
    _, results = write_mots(run, tmp_path)
    assert [line.split(" ")[:3] for line in results.read_text().splitlines()] == [["1", "2", "2"]]


def test_mots_without_masks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs masks, and this run has none"):
        write_mots(RUN, tmp_path)


def test_rerun_holds_the_classes_of_the_pixels_of_masks(tmp_path: Path) -> None:
    """Also those of frames on which nothing is shown, or the viewer would show the masks before."""
    reader = pytest.importorskip("rerun.chunk").RrdReader
    (path,) = write_rerun(masked_run(), iter(images()), tmp_path)
    chunks = [chunk for chunk in reader(path).stream() if chunk.entity_path == "/camera/shown/masks"]
    drawn = [
        np.array(buffer, np.uint8).reshape(HEIGHT, WIDTH)
        for chunk in chunks
        for row in chunk.to_record_batch().column("SegmentationImage:buffer").to_pylist()
        for buffer in row
    ]
    shown = [with_masks(frame.detections.above(0.5)) for frame in FRAMES]
    expected = [np.append(each.labels, BACKGROUND)[object_map(each, (WIDTH, HEIGHT))] for each in shown]
    np.testing.assert_array_equal(drawn, expected)


def test_masks_become_those_of_supervision() -> None:
    """Drawn in a frame whose size is given; its annotators colour the object's pixels and no others."""
    supervision = pytest.importorskip("supervision")
    person = with_masks(Detections.of(*PERSON))
    assert person.to_supervision().mask is None, "without the size of the frame"
    assert Detections.of(*PERSON).to_supervision((WIDTH, HEIGHT)).mask is None, "without masks"
    assert with_masks(Detections.empty()).to_supervision((WIDTH, HEIGHT)).mask.shape == (0, HEIGHT, WIDTH)
    found = person.to_supervision((WIDTH, HEIGHT))
    expected = pasted(person.masks_or_boxes[0], person.boxes_xyxy[0], (0, 0, WIDTH, HEIGHT))
    assert found.area.tolist() == [expected.sum()]
    annotated = supervision.MaskAnnotator(opacity=1).annotate(np.zeros((HEIGHT, WIDTH, 3), np.uint8), found)
    np.testing.assert_array_equal(annotated.any(axis=-1), expected)
