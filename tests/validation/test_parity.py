"""The comparison with upstream: equal models pass, different ones fail, and a broken set gives a one-line error."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitmalis.detector.config import DetectorConfig, PyramidConfig, RcnnConfig, VitConfig
from vitmalis.detector.detector import image_tensor
from vitmalis.detector.rcnn import RcnnDetector, select_boxes
from vitmalis.errors import UserError
from vitmalis_jobs.validation.parity.golden import EVERYTHING, load_golden
from vitmalis_jobs.validation.parity.job import main

SPEC = {
    "embed_dim": 24,
    "depth": 6,
    "num_heads": 2,
    "window_size": 5,
    "global_blocks": [2, 5],
    "img_size": 96,
    "out_channels": 16,
    "num_classes": 3,
    "box_conv_dims": [16],
    "box_fc_dims": [24],
    "test_score_thresh": 0.01,
}
HEAD = RcnnConfig(box_convs=(16,), box_width=24, score_threshold=0.01, proposals=200)
CONFIG = DetectorConfig(
    name="small",
    vit=VitConfig(embed_dim=24, depth=6, num_heads=2, subsets=2, window=5, relative_grid=6),
    pyramid=PyramidConfig(channels=16),
    head=HEAD,
    classes=(0, 1, 2),
)


@torch.inference_mode()
def outputs(model: RcnnDetector, image: np.ndarray) -> dict[str, Any]:
    size = image.shape[:2]
    pixels = model.prepare(image_tensor(image))
    features = model.backbone.net(pixels)
    levels = model.backbone.pyramid(features)
    proposals = model.proposal_generator(levels, [size])[0]
    logits, boxes = model.roi_heads(levels, proposals.boxes)
    arrays: dict[str, Any] = {
        "image": image,
        "last_feat": features.numpy(),
        "p2_every2": levels[0][..., ::2, ::2].numpy(),
        "p6": levels[4].numpy(),
        "prop_boxes": proposals.boxes.numpy(),
        "prop_logits": proposals.logits.numpy(),
        "given_boxes": proposals.boxes[:7].numpy(),
        "given_cls_logits": logits[:7].numpy(),
    }
    for name, head in (("raw", HEAD), ("all", RcnnConfig(**EVERYTHING))):
        found = select_boxes(logits, boxes, size, head, CONFIG.classes)
        arrays |= {f"{name}_boxes": found.boxes_xyxy, f"{name}_scores": found.scores, f"{name}_classes": found.labels}
    return arrays


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set in the golden format, of another size, depth and window, made by our own model."""
    prefix = tmp_path_factory.mktemp("golden") / "golden_small"
    torch.manual_seed(0)
    model = RcnnDetector(CONFIG, HEAD).eval()
    state = {
        name: torch.randn_like(value) * (0.3 if "rel_pos" in name else 0.1) + ("norm" in name and "weight" in name)
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    torch.save(state, f"{prefix}.pt")
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    arrays = {f"img0/{name}": value for name, value in outputs(model, image).items()}
    for part, factor in (("boxes", 0.5), ("scores", 1), ("classes", 1)):
        arrays[f"img0_out45x75/inst_{part}"] = arrays[f"img0/raw_{part}"] * factor
    arrays |= {"img0/surprise": np.zeros(3), "img0_lone/raw_boxes": np.zeros((1, 4))}
    np.savez(f"{prefix}.npz", **arrays)
    about = {
        "spec": SPEC,
        "config": {"rpn": {"pre_nms_topk_test": 200, "post_nms_topk_test": 200}},
        "per_image": {"img0": {"padded_shape": [1, 3, 96, 160]}},
    }
    Path(f"{prefix}.json").write_text(json.dumps(about))
    return prefix


def copied(small: Path, folder: Path) -> Path:
    for suffix in (".json", ".npz", ".pt"):
        shutil.copy(f"{small}{suffix}", folder / f"copy{suffix}")
    return folder / "copy"


def test_the_description_gives_the_whole_model(small: Path) -> None:
    golden = load_golden(small)
    assert golden.config.vit == VitConfig(
        embed_dim=24, depth=6, num_heads=2, subsets=2, window=5, relative_grid=6, relative_window=5
    )
    assert golden.head == HEAD
    assert golden.config.pyramid == CONFIG.pyramid
    assert golden.cases[0].padded == (96, 160)


def test_a_faithful_model_passes(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(small), "--device", "cpu", "--output", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    result = json.loads(text)
    assert text == (tmp_path / "golden_small.json").read_text()
    assert result["passed"]
    assert (result["device"], result["precision"]) == ("cpu", "fp32")
    assert result["tf32"].startswith("off")
    stages = result["largest_error"]
    assert stages.keys() >= {"last_feat", "p2", "p6", "proposals", "box_head_cls_logits", "raw_end_to_end"}
    assert all(stage["passed"] for stage in stages.values())
    assert stages["all_given_proposals"]["unpaired_golden"] == 0
    assert result["images"]["img0"][0]["tolerance"] == 1e-4
    assert stages["inst_end_to_end"]["pairs"] == stages["raw_end_to_end"]["pairs"] > 0
    assert result["not_compared"].keys() == {"img0_lone/raw_boxes", "img0/surprise"}


@pytest.mark.parametrize(
    ("tensor", "fails"),
    [
        ("backbone.net.blocks.2.attn.rel_pos_w", "last_feat"),
        ("backbone.simfp_2.5.weight", "p2"),
        ("proposal_generator.rpn_head.anchor_deltas.bias", "proposals"),
        ("roi_heads.box_predictor.cls_score.bias", "raw_given_proposals"),
    ],
)
def test_a_wrong_weight_fails_its_stage(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tensor: str, fails: str
) -> None:
    prefix = copied(small, tmp_path)
    state = torch.load(f"{prefix}.pt", weights_only=True)
    state[tensor].flatten()[1] += 0.05
    torch.save(state, f"{prefix}.pt")
    assert main([str(prefix), "--output", str(tmp_path)]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["passed"]
    assert not result["largest_error"][fails]["passed"]


def rewritten(prefix: Path, changes: dict[str, np.ndarray | None]) -> None:
    """Replace arrays of a set, or take them out."""
    arrays = {**np.load(f"{prefix}.npz"), **changes}
    np.savez(f"{prefix}.npz", **{name: value for name, value in arrays.items() if value is not None})


@pytest.mark.parametrize(
    ("array", "change", "fails"),
    [
        ("img0/last_feat", 2e-4, "last_feat"),
        ("img0/p2_every2", np.nan, "p2"),
        ("img0/prop_boxes", 0.02, "proposals"),
        ("img0/prop_logits", np.nan, "proposals"),
        ("img0/raw_scores", 2e-4, "raw_given_proposals"),
        ("img0_out45x75/inst_boxes", 0.02, "inst_end_to_end"),
        ("img0_out45x75/inst_scores", 2e-4, "inst_end_to_end"),
        ("img0_out45x75/inst_classes", 1, "inst_end_to_end"),
    ],
)
def test_one_wrong_number_fails_its_stage(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], array: str, change: float, fails: str
) -> None:
    prefix = copied(small, tmp_path)
    wrong = np.load(f"{prefix}.npz")[array].copy()
    wrong.flat[3] += change
    rewritten(prefix, {array: wrong})
    assert main([str(prefix), "--output", str(tmp_path)]) == 1
    text = capsys.readouterr().out
    stages = json.loads(text, parse_constant=pytest.fail)["largest_error"]  # plain JSON knows no NaN and no infinity
    assert not stages[fails]["passed"]


def test_another_shape_fails(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = copied(small, tmp_path)
    rewritten(prefix, {"img0/p6": np.zeros((1, 16, 1, 1), np.float32)})
    assert main([str(prefix), "--output", str(tmp_path)]) == 1
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["largest_error"]["p6"]["error"] > 1e9


def test_a_set_without_some_arrays_passes(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Absent arrays are not compared; the features then give the size that entered detectron2."""
    prefix = copied(small, tmp_path)
    gone = {f"img0/{name}": None for name in ("given_boxes", "prop_boxes", "all_scores", "p6")}
    rewritten(prefix, gone)
    about = json.loads(Path(f"{prefix}.json").read_text())
    del about["per_image"]
    Path(f"{prefix}.json").write_text(json.dumps(about))
    assert main([str(prefix), "--output", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["largest_error"].keys() == {"last_feat", "p2", "raw_end_to_end", "inst_end_to_end"}
    assert result["not_compared"].keys() >= {"img0/given_cls_logits", "img0/prop_logits", "img0/all_boxes"}


def test_measured_noise_widens_tolerances_below_it(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prefix = copied(small, tmp_path)
    about = json.loads(Path(f"{prefix}.json").read_text())
    about["fp32_minus_fp64_max_abs"] = {"img0/last_feat": 1e-3, "img0/p6": 1e-6, "img0/raw_scores": 5e-5}
    Path(f"{prefix}.json").write_text(json.dumps(about))
    assert main([str(prefix), "--output", str(tmp_path)]) == 0
    rows = {(row["stage"]): row for row in json.loads(capsys.readouterr().out)["images"]["img0"]}
    assert rows["last_feat"]["tolerance"] == pytest.approx(3e-3)
    assert rows["p6"]["tolerance"] == 1e-4
    assert rows["raw_end_to_end"]["tolerance_score"] == pytest.approx(2e-4)
    assert rows["raw_given_proposals"]["tolerance_score"] == 1e-4


def test_broken_sets_are_one_line(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def error_of(prefix: Path) -> str:
        assert main([str(prefix), "--output", str(tmp_path)]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.count("\n") == 1
        return shown.err

    assert "none.json' does not exist" in error_of(tmp_path / "none")
    prefix = copied(small, tmp_path)
    Path(f"{prefix}.npz").write_bytes(b"hello")
    assert "copy.npz' is no file of NumPy arrays" in error_of(prefix)
    Path(f"{prefix}.npz").write_bytes(Path(f"{small}.npz").read_bytes()[:-2000])
    assert "copy.npz' is no file of NumPy arrays" in error_of(prefix)
    prefix = copied(small, tmp_path)
    Path(f"{prefix}.json").write_text("{}")
    assert "copy.json' is no description of a golden set" in error_of(prefix)
    Path(f"{prefix}.json").write_text(json.dumps({"spec": {"depth": 6, "global_blocks": [2, 5]}}))
    assert "embed_dim" in error_of(prefix)
    Path(f"{prefix}.json").write_text(json.dumps({"spec": {**SPEC, "global_blocks": [1, 5]}}))
    assert "global_blocks [1, 5] do not end equal subsets" in error_of(prefix)
    Path(f"{prefix}.json").write_text(json.dumps({"spec": {**SPEC, "embed_dim": 48}}))
    assert "do not fit this model" in error_of(prefix)


def test_a_path_with_a_suffix_is_accepted(small: Path) -> None:
    assert load_golden(Path(f"{small}.json")).config == load_golden(small).config
    with pytest.raises(UserError, match="give the path"):
        load_golden(small.parent)


def test_upstream_set(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(shared / "data" / "golden" / "golden_tiny"), "--output", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out)
    stages = result["largest_error"]
    assert stages.keys() >= {"patch_embed", "blocks", "last_feat", "p2", "p6", "rpn_logits", "rpn_deltas", "proposals"}
    assert stages["all_given_proposals"]["error_score"] < 1e-5
    assert stages["all_end_to_end"]["unpaired_golden"] == stages["all_end_to_end"]["unpaired_ours"] == 0
    assert result["images"].keys() == {"img0", "img1", "img2_upstream_nopad", "img2_div32", "img1_out360x600"}
    assert result["not_compared"] == {}
