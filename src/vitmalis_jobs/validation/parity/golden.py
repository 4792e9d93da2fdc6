"""Golden sets: outputs of detectron2's own modules with random weights, the reference of the parity job.

A set is PREFIX.json (what it is), PREFIX.npz (arrays) and PREFIX.pt (weights); further files of arrays may lie
in the same folder.
"""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from torch import Tensor

from vitmalis.detector.checkpoint import load_checkpoint
from vitmalis.detector.config import DetectorConfig, PyramidConfig, RcnnConfig, VitConfig
from vitmalis.errors import UserError

Arrays = dict[str, np.ndarray]

DEFAULTS = DetectorConfig(name="golden", vit=VitConfig(embed_dim=48, depth=8, num_heads=3))
"""Detectron2's default values, for what a description leaves out."""

EVERYTHING: dict[str, Any] = {"score_threshold": 0.05, "max_detections": 1000}
"""Options of the head with which the `all_*` lists of every set were made."""


@dataclass(frozen=True)
class Case:
    """One image with detectron2's outputs.

    Attributes:
        name: in the set.
        image: RGB uint8 (height, width, 3).
        padded: (height, width) of what entered upstream's patch embedding; smaller than the image means cropped.
        output_size: (height, width) of the image that upstream was asked to find its boxes in.
        arrays: upstream's outputs by name.
        noise: of each array, upstream's fp32 result against its fp64 result, largest absolute difference, by index.
    """

    name: str
    image: np.ndarray
    padded: tuple[int, int]
    output_size: tuple[int, int]
    arrays: Arrays
    noise: dict[str, float]


@dataclass(frozen=True)
class GoldenSet:
    """A golden set in memory.

    Attributes:
        config: of the model that upstream ran.
        head: the part of it for the head.
        state: its weights.
        cases: images with their outputs.
        not_compared: arrays of the set that are left out, each with the reason.
    """

    config: DetectorConfig
    head: RcnnConfig
    state: dict[str, Tensor]
    cases: list[Case]
    not_compared: dict[str, str] = field(default_factory=dict)


def load_golden(prefix: Path) -> GoldenSet:
    """Read a golden set from its files.

    Args:
        prefix: path of its files without suffix.

    Raises:
        UserError: a file is missing or not of this format, or ours cannot represent the model of the set.
    """
    prefix = prefix.with_suffix("") if prefix.suffix in (".json", ".npz", ".pt") else prefix
    for suffix in (".json", ".npz", ".pt"):
        if not (path := Path(f"{prefix}{suffix}")).is_file():
            raise UserError(f"golden set: '{path}' does not exist; give the path of a set's files without suffix")
    try:
        about = json.loads(Path(f"{prefix}.json").read_text())
        spec = about["spec"]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"golden set: '{prefix}.json' is no description of a golden set ({error!r})") from error
    state, _ = load_checkpoint(Path(f"{prefix}.pt"))
    arrays, not_compared = _load_arrays(prefix, about.get("npz_arrays", {}))
    try:
        config, head = golden_config(spec, about.get("config", {}), state)
    except (KeyError, IndexError, TypeError) as error:
        raise UserError(f"golden set: the spec of '{prefix}.json' lacks or misuses {error}") from error
    cases = _cases(arrays, about, config.vit.patch_px, not_compared)
    if not cases:
        raise UserError(f"golden set: '{prefix}.npz' holds no image with outputs")
    return GoldenSet(config, head, state, cases, not_compared)


def _load_arrays(prefix: Path, listed: Mapping[str, Any]) -> tuple[Arrays, dict[str, str]]:
    """Load the arrays of PREFIX.npz and of the files in its folder that the description lists."""
    main = Path(f"{prefix}.npz")
    others = {prefix.with_name(str(entry[2])) for entry in listed.values() if len(entry) > 2}
    others |= {Path(f"{prefix}_{part}.npz") for part in ("blocks", "pad")}
    arrays: Arrays = {}
    for path in [main, *sorted(path for path in others - {main} if path.is_file())]:
        try:
            arrays |= np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError, BadZipFile, zlib.error) as error:
            raise UserError(f"golden set: '{path}' is no file of NumPy arrays ({error})") from error
    absent = {name: f"listed, but '{listed[name][2]}' is absent" for name in listed.keys() - arrays.keys()}
    return arrays, absent


def golden_config(
    spec: Mapping[str, Any], config: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[DetectorConfig, RcnnConfig]:
    """The configuration of the model that a set describes, and of its head.

    Args:
        spec: the options chosen for this set.
        config: what detectron2 fills in; its defaults stand for anything left out.
        state: the weights, whose shapes say for which sizes positions are held.

    Raises:
        UserError: ours cannot represent detectron2's model.
    """
    scales = config.get("simple_feature_pyramid", {}).get("scale_factors", (4.0, 2.0, 1.0, 0.5))
    vit = _vit_config(spec, config.get("vit", {}), state)
    head = _head_config(spec, config.get("rpn", {}), config.get("roi", {}))
    blocks = tuple(spec["global_blocks"])
    for fits, reason in (
        (vit.global_blocks == blocks, f"global_blocks {list(blocks)} do not end equal subsets"),
        (len(spec["box_fc_dims"]) == 1, f"box_fc_dims {spec['box_fc_dims']} are not one layer"),
        (config.get("input_format", "RGB") == "RGB", f"input_format {config.get('input_format')} is not RGB"),
    ):
        if not fits:
            raise UserError(f"golden set: {reason}; the models here cannot be that")
    result = DetectorConfig(
        name="golden",
        vit=vit,
        pyramid=PyramidConfig(channels=spec["out_channels"], strides=tuple(round(vit.patch_px / s) for s in scales)),
        head=head,
        classes=tuple(range(spec["num_classes"])),
        pixel_mean=tuple(config.get("pixel_mean", DEFAULTS.pixel_mean)),
        pixel_std=tuple(config.get("pixel_std", DEFAULTS.pixel_std)),
    )
    return result, head


def _vit_config(spec: Mapping[str, Any], vit: Mapping[str, Any], state: Mapping[str, Tensor]) -> VitConfig:
    patch_px = vit.get("patch_size", 16)
    blocks = spec["global_blocks"]
    tables = [len(state.get(f"backbone.net.blocks.{i}.attn.rel_pos_h", ())) for i in range(spec["depth"])]
    windowed = [size for i, size in enumerate(tables) if size and i not in blocks]
    positions = state["backbone.net.pos_embed"].shape[1]
    grid = math.isqrt(positions)  # one entry more, for a class token, does not change the root
    return VitConfig(
        embed_dim=spec["embed_dim"],
        depth=spec["depth"],
        num_heads=spec["num_heads"],
        subsets=max(1, len(blocks)),
        patch_px=patch_px,
        window=spec["window_size"] or DEFAULTS.vit.window,  # 0: every block is global
        position_grid=(grid, grid),
        class_position=positions != grid * grid,
        relative_positions=any(tables),
        relative_grid=spec["img_size"] // patch_px,
        relative_window=(windowed[0] + 1) // 2 if windowed else 0,
    )


def _head_config(spec: Mapping[str, Any], rpn: Mapping[str, Any], roi: Mapping[str, Any]) -> RcnnConfig:
    usual = RcnnConfig()
    before, after = (rpn.get(f"{when}_nms_topk_test", usual.proposals) for when in ("pre", "post"))
    if before != after:
        raise UserError(
            f"golden set: {before} proposals a level before suppression but {after} after; ours has one number"
        )
    sizes = rpn.get("anchor_sizes", [[size] for size in usual.anchor_sizes_px])
    return RcnnConfig(
        anchor_sizes_px=tuple(size for (size,) in sizes),
        aspect_ratios=tuple(rpn.get("aspect_ratios", usual.aspect_ratios)),
        proposals=before,
        proposal_nms_iou=rpn.get("nms_thresh", usual.proposal_nms_iou),
        box_convs=tuple(spec["box_conv_dims"]),
        box_width=spec["box_fc_dims"][0],
        score_threshold=spec.get("test_score_thresh", roi.get("test_score_thresh", usual.score_threshold)),
        nms_iou=roi.get("test_nms_thresh", usual.nms_iou),
        max_detections=roi.get("test_topk_per_image", usual.max_detections),
    )


def _cases(arrays: Arrays, about: Mapping[str, Any], patch_px: int, not_compared: dict[str, str]) -> list[Case]:
    """Group arrays `case/array`; a case without an image of its own is called `image_how`."""
    groups: dict[str, Arrays] = {}
    for name, value in arrays.items():
        case, _, array = name.rpartition("/")
        groups.setdefault(case, {})[array] = value
    images = {name: group["image"] for name, group in groups.items() if "image" in group}
    noise: Mapping[str, float] = about.get("fp32_minus_fp64_max_abs", {})
    cases = []
    for name, group in groups.items():
        outputs = {key: value for key, value in group.items() if key != "image"}
        source = name if name in images else _image_of(name, list(images))
        if source is None:
            not_compared |= {f"{name}/{key}": "no image" for key in outputs}
        elif outputs:
            # Scaled lists have no noise of their own on record; their scores are those of the image.
            known = {key: noise.get(f"{name}/{key}") for key in outputs}
            known["inst_scores"] = known.get("inst_scores") or noise.get(f"{source}/raw_scores")
            size = images[source].shape[:2]
            cases.append(
                Case(
                    name=name,
                    image=images[source],
                    padded=_padded(about.get("per_image", {}), groups, [name, source], patch_px) or size,
                    output_size=_output_size(name) or size,
                    arrays=outputs,
                    noise={key: float(value) for key, value in known.items() if value is not None},
                )
            )
    return cases


def _padded(
    per_image: Mapping[str, Any], groups: Mapping[str, Arrays], names: Sequence[str], patch_px: int
) -> tuple[int, int] | None:
    """What entered the patch embedding, from the description or from the features of the first case that tells."""
    for name in names:
        if shape := per_image.get(name, {}).get("padded_shape"):
            return shape[-2], shape[-1]
        if "last_feat" in groups.get(name, {}):
            rows, cols = groups[name]["last_feat"].shape[-2:]
            return rows * patch_px, cols * patch_px
    return None


def _output_size(case: str) -> tuple[int, int] | None:
    """The size in a name like `img1_out360x600`."""
    found = re.search(r"_out(\d+)x(\d+)$", case)
    return (int(found[1]), int(found[2])) if found else None


def _image_of(case: str, images: Sequence[str]) -> str | None:
    fitting = [name for name in images if case.startswith(f"{name}_")]
    return max(fitting, key=len, default=None)
