"""Our ViTDet compared with detectron2's, stage by stage: `python -m validation.parity GOLDEN_SET`.

Runs the model of a golden set (`golden.py`) on its images. One JSON object goes to standard output and to
`runs/profiling/parity`: the largest absolute error of each stage over all images, then of each image. Exit status:
0 inside the tolerances, 1 above, 2 for a set that cannot be read.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from vitmalis.command_line import CommandLine
from vitmalis.detector.checkpoint import load_into
from vitmalis.detector.config import RcnnConfig
from vitmalis.detector.devices import AUTO, checked_device
from vitmalis.detector.precision import arithmetic
from vitmalis.detector.rcnn import RcnnDetector
from vitmalis.errors import UserError
from vitmalis.types import Detections
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine import card_name
from vitmalis_jobs.validation.parity.box_assignment import Boxes, pair
from vitmalis_jobs.validation.parity.golden import EVERYTHING, Case, GoldenSet, load_golden
from vitmalis_jobs.validation.parity.golden_run import Run

TOLERANCES = {"features": 1e-4, "boxes_px": 1e-2, "scores": 1e-4}

NOISE_FACTOR = 3
"""Both fp32 results may be off by the noise, and other machines may round further than the one it was measured on."""

RULES = {
    "noise": f"where {NOISE_FACTOR} times the set's own difference between fp32 and fp64 is above a tolerance of dense "
    "arrays, it takes the tolerance's place (see 'tolerance' of each stage)",
    "lists": "compared as sets, one to one; an unpaired member is excused only if an overlap at the suppression "
    "threshold, the score threshold or the end of the list decides about it, or if proposals differ for that reason",
    "given_proposals": "our second stage on upstream's proposals: the tolerances hold as they are",
    "end_to_end": "the proposals' rounding (up to 1e-3 px) moves scores of the second stage, on upstream's side as on "
    "ours: the set's difference between fp32 and fp64 of the score list, once for each side, is added to the tolerance "
    "of scores; 'scores_above_plain_tolerance' counts the pairs that need it",
}

KINDS = ((r"given_probs", "scores"), (r"given_pred_boxes", "boxes_px"), (r"", "features"))
STAGES = (
    (r"block\d+", "blocks"),
    (r"rpn_obj_.*", "rpn_logits"),
    (r"rpn_delta_.*", "rpn_deltas"),
    (r"given_", "box_head_"),
)
"""Start of an array's name -> what it holds, and the stage that it is reported under."""


LISTS: dict[str, dict[str, Any]] = {"raw": {}, "all": EVERYTHING, "inst": {}}
"""Lists of detections -> options of the head that differ for them; `inst` is scaled to an output size."""


def dense_stages(run: Run, case: Case) -> Iterator[dict[str, Any]]:
    """Compare every array of the case that is not a list of boxes."""
    for name, golden in case.arrays.items():
        base, _, step = name.partition("_every")
        if base not in run.outputs:
            continue
        ours = run.outputs[base].detach().cpu()
        if step:
            ours = ours[..., :: int(step), :: int(step)]
        kind = next(kind for start, kind in KINDS if re.match(start, name))
        stage = next((re.sub(start, stage, base) for start, stage in STAGES if re.match(start, base)), base)
        noise = case.noise.get(name)
        tolerance = max(TOLERANCES[kind], NOISE_FACTOR * (noise or 0.0))
        same_size = ours.numel() == golden.size and (ours.shape == golden.shape or stage == "blocks")
        error = float(np.abs(ours.numpy().reshape(golden.shape) - golden).max(initial=0.0)) if same_size else np.inf
        error = error if np.isfinite(error) else sys.float_info.max  # JSON has no infinity
        yield {
            "stage": stage,
            "array": name,
            "kind": kind,
            "error": error,
            "tolerance": tolerance,
            "noise": noise,
            "passed": error <= tolerance,
        }


def list_stages(run: Run, case: Case, head: RcnnConfig) -> Iterator[dict[str, Any]]:
    """Compare proposals and detections of the case as sets."""
    arrays = case.arrays
    unpaired = 0  # proposals that only one side has
    if {"prop_boxes", "prop_logits"} <= arrays.keys():
        result = pair(
            Boxes(arrays["prop_boxes"], arrays["prop_logits"]),
            Boxes(run.proposals.boxes.cpu().numpy(), run.proposals.logits.cpu().numpy()),
            {**TOLERANCES, "scores": max(TOLERANCES["scores"], NOISE_FACTOR * case.noise.get("prop_logits", 0.0))},
            nms_iou=head.proposal_nms_iou,
        )
        unpaired = max(result["unpaired_golden"], result["unpaired_ours"])
        yield {"stage": "proposals", "array": "prop_*", **result}
    for name, settings in LISTS.items():
        parts = [f"{name}_{part}" for part in Boxes._fields]
        if not arrays.keys() >= set(parts):
            continue
        golden = Boxes(*(arrays[part] for part in parts))
        chosen = msgspec.structs.replace(head, **settings)
        if "prop_boxes" in arrays:
            found = run.detections(torch.from_numpy(arrays["prop_boxes"]), chosen, scaled=name == "inst")
            yield {"stage": f"{name}_given_proposals", "array": f"{name}_*", **pair_detections(golden, found, chosen)}
        result = pair_detections(
            golden,
            run.detections(run.proposals.boxes, chosen, scaled=name == "inst"),
            chosen,
            score_noise=2 * case.noise.get(f"{name}_scores", 0.0),
            excused=2 * unpaired * len(run.model.config.classes),
        )
        yield {"stage": f"{name}_end_to_end", "array": f"{name}_*", **result}


def pair_detections(golden: Boxes, found: Detections, head: RcnnConfig, **allowed: Any) -> dict[str, Any]:
    """Pair upstream's detections with ours."""
    ours = Boxes(found.boxes_xyxy, found.scores, found.labels)
    return pair(golden, ours, TOLERANCES, nms_iou=head.nms_iou, min_score=head.score_threshold, **allowed)


def compare(golden: GoldenSet, device: torch.device) -> dict[str, Any]:
    """Run ours on a device on every case of a set; `passed` says whether every error is inside its tolerance.

    Products are computed in fp32 with all bits, as a GPU's TF32 is off by more than the tolerances.

    Raises:
        UserError: the weights do not fit the model that the set describes.
    """
    model = RcnnDetector(golden.config, golden.head)
    load_into(model, golden.state, "of the golden set")
    model.to(device).eval().requires_grad_(False)
    cases: dict[str, list[dict[str, Any]]] = {}
    not_compared = dict(golden.not_compared)
    for case in golden.cases:
        with torch.inference_mode(), arithmetic(device, "fp32"):
            run = Run(model, case)
            cases[case.name] = [*dense_stages(run, case), *list_stages(run, case, golden.head)]
        not_compared |= left_out(case, cases[case.name])
        failed = [stage["array"] for stage in cases[case.name] if not stage["passed"]]
        print(f"{case.name}: {len(cases[case.name])} comparisons, failed: {failed or 'none'}", file=sys.stderr)
    compared = [stage for stages in cases.values() for stage in stages]
    if not compared:
        raise UserError("golden set: none of its arrays has a name that is known here; nothing was compared")
    return {
        "passed": all(stage["passed"] for stage in compared),
        "tolerances": TOLERANCES,
        "largest_error": largest_errors(compared),
        "rules": RULES,
        "torch": torch.__version__,
        "device": str(device),
        "card": card_name(device),
        "precision": "fp32",
        "tf32": "off in matrix products and convolutions",
        "engine": "eager",
        "images": cases,
        "not_compared": not_compared,
    }


def largest_errors(compared: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per stage, over all arrays of all images: the largest of each kind of error, counts, and whether all passed."""
    result: dict[str, dict[str, Any]] = {}
    for row in compared:
        stage = result.setdefault(row["stage"], {"passed": True})
        for key in row.keys() & {"error", "error_px", "error_score"}:
            stage[key] = max(stage.get(key, 0.0), row[key])
        for key in row.keys() & {"pairs", "unpaired_golden", "unpaired_ours", "scores_above_plain_tolerance"}:
            stage[key] = stage.get(key, 0) + row[key]
        stage["passed"] &= row["passed"]
    return result


def left_out(case: Case, compared: list[dict[str, Any]]) -> dict[str, str]:
    """Arrays of a case that nothing was compared with."""
    done = {row["array"] for row in compared}
    inputs_and_lists = {"given_boxes"} | {name for name in case.arrays if f"{name.split('_')[0]}_*" in done}
    return {f"{case.name}/{name}": "no such output here" for name in case.arrays.keys() - done - inputs_and_lists}


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.parity",
        "Compare the detector with golden outputs of detectron2's ViTDet, stage by stage.",
        {
            "data/golden/vitdet_b": "the golden set of ViTDet-B, where you have it (docs/detector.md)",
        },
        f"Tolerances (absolute): {TOLERANCES}. Exit status: 0 inside, 1 above, 2 for a set that cannot be read.",
    )
    parser.add_argument("prefix", metavar="PREFIX", type=Path, help="path of PREFIX.json, PREFIX.npz and PREFIX.pt")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads")
    parser.add_argument("--device", default=AUTO, help="as PyTorch names it (default: a GPU where there is one)")
    parser.add_argument("--output", type=Path, default=Path("runs/profiling/parity"), help="folder of the result")
    return parser


def check(options: argparse.Namespace) -> bool:
    """Compare, print and store the result; false if an error is above its tolerance."""
    torch.set_num_threads(max(1, options.threads))
    device = checked_device(options.device, "--device")
    result = {"prefix": str(options.prefix), **compare(load_golden(options.prefix), device)}
    emit(result, options.output / f"{options.prefix.name}.json")
    return bool(result["passed"])


main = option_job(command_line, check)
