"""Make what was trained the package's own: `python -m training.install PATH`.

PATH is what a training job wrote: a folder of estimators, the weights of a detector or of its mask head, or
`trace_model.json`. Training itself never changes the package. What is there already is replaced with `--replace` only.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from vitmalis.command_line import CommandLine
from vitmalis.detector import build_model, load_checkpoint, load_detector, load_into, preset
from vitmalis.detector.checkpoint import MASK_HEADS
from vitmalis.detector.detector import EMBEDDED_MASK_HEADS, EMBEDDED_WEIGHTS, WEIGHTS
from vitmalis.errors import UserError
from vitmalis.estimation.estimator_files import decode_estimator
from vitmalis.estimation.estimators import KINDS
from vitmalis.estimation.shipped import package_folder, pair_files
from vitmalis.network.traces.generate import TraceModel
from vitmalis.paths import atomic_path, file_sha256
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.training.estimation.card import CARD_FILE
from vitmalis_jobs.training.segmentation.config import DETECTOR_SHA256

TRACE_MODEL_FILE = "trace_model.json"


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "training.install",
        "Make what was trained the package's own: estimators, detector weights, or a trace_model.json.",
        {
            "runs/training/estimators/vitdet_tiny": "new estimators",
            "runs/training/vitdet_tiny/best.pt --replace": "weights in the place of the package's",
        },
        "Training itself never changes the package; what it has is replaced with --replace only.",
    )
    parser.add_argument("path", type=Path, metavar="PATH", help="what a training job wrote below runs/training")
    parser.add_argument("--replace", action="store_true", help="replace what the package has")
    return parser


def install(path: Path, *, replace: bool = False) -> None:
    """Copy the files of a training into the package, all or none of them, and print where they go.

    Raises:
        UserError: it is no result of a training that can come with the package, or others would be replaced.
    """
    copies = {source: target for source, target in installations(path) if not _equal(source, target)}
    existing = [target.name for target in copies.values() if target.exists()]
    if existing and not replace:
        raise UserError(f"'{path}' would replace {', '.join(existing)} of the package: add --replace to do so")
    for source, target in copies.items():
        with atomic_path(target) as temporary:
            temporary.write_bytes(source.read_bytes())
        print(f"{source} -> {target}")
        if target.name in EMBEDDED_WEIGHTS.values():
            print("the package's mask head was trained on the former weights: train another (python -m training.masks)")
    if not copies:
        print(f"the package has '{path}' already")


def installations(path: Path) -> Iterator[tuple[Path, Path]]:
    """The files of a training, each with its place in the package.

    Raises:
        UserError: there is no such result, or it is damaged.
    """
    if path.is_dir() and any(path.glob("size_*.json")):
        yield from _estimators(path)
    elif path.suffix == ".pt":
        yield path, _place_of_weights(path)
    elif path.name == TRACE_MODEL_FILE and path.is_file():
        _decoded_trace_model(path)
        yield path, Path(str(files("vitmalis.network.traces"))) / TRACE_MODEL_FILE
    else:
        raise UserError(
            f"'{path}' is no result of a training: give a folder of python -m training.estimators, a .pt file of "
            f"training.detector or training.masks, or the {TRACE_MODEL_FILE} of training.traces"
        )


def _estimators(folder: Path) -> Iterator[tuple[Path, Path]]:
    """All kinds of estimators, which the tables of their card compare, and the card."""
    for kind in KINDS:
        for source in pair_files("", kind, folder):
            if not source.is_file():
                raise UserError(f"'{source}' is missing: python -m training.estimators writes all kinds")
            place = package_folder(decode_estimator(source.read_bytes(), str(source)))
            yield source, place / source.name
    yield folder / CARD_FILE, place / CARD_FILE


def _place_of_weights(path: Path) -> Path:
    """Where the package keeps the weights of the model that a file says it is of; the file must be loadable."""
    state, metadata = load_checkpoint(path)
    name = _model_name(metadata)
    if name not in EMBEDDED_WEIGHTS:
        raise UserError(
            f"'{path}' has weights of {f'model {name}' if name else 'an unknown model'}, which do not come with the "
            f"package (those of {', '.join(EMBEDDED_WEIGHTS)} do): use them with model.weights={path}"
        )
    of_mask_head = [tensor.startswith(MASK_HEADS) for tensor in state]
    if all(of_mask_head):
        head = build_model(preset(name).with_task("instances")).mask_branch
        assert head is not None
        load_into(nn.ModuleDict({"mask_head": head}), state, str(path))
        _check_detector(path, metadata, WEIGHTS / EMBEDDED_WEIGHTS[name])
        return WEIGHTS / EMBEDDED_MASK_HEADS[name]
    if any(of_mask_head):
        raise UserError(f"'{path}' has a detector and its mask head: install the file of the mask head alone")
    load_detector(name, weights=path)
    return WEIGHTS / EMBEDDED_WEIGHTS[name]


def _model_name(metadata: dict[str, Any]) -> str:
    """The name of the model in the configuration that a training wrote; empty where there is none."""
    found: Any = metadata
    for key in ("config", "model", "name"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else ""


def _check_detector(path: Path, metadata: dict[str, Any], detector: Path) -> None:
    """Raise `UserError` if a mask head was trained on other weights than those of the package's detector."""
    if metadata.get(DETECTOR_SHA256, file_sha256(detector)) != file_sha256(detector):
        raise UserError(
            f"'{path}' was trained on another detector than the package's: install that one before, or train a mask "
            "head for the package's (python -m training.masks)"
        )


def _decoded_trace_model(path: Path) -> TraceModel:
    try:
        return msgspec.json.decode(path.read_bytes(), type=TraceModel)
    except msgspec.DecodeError as error:
        raise UserError(f"'{path}' is damaged ({error}): fit it again with python -m training.traces") from error


def _equal(source: Path, target: Path) -> bool:
    return target.is_file() and source.read_bytes() == target.read_bytes()


main = option_job(command_line, lambda options: install(options.path, replace=options.replace))


if __name__ == "__main__":
    sys.exit(main())
