"""The table of a measured server, for `latency=h200`: `python -m profiling.server_table RESULT.json ...`.

Made from results of `python -m profiling.inference` on a GPU, one for each model, or from those of the prototype of the
fused engine (`--prototype FOLDER`, with its `backbone2.json` and `detector2.json`). One JSON object goes to standard
output and to `--output`; the lines LM_inf that follow from it, with their R^2, to standard error. The table in the
package is `vitmalis/virtual/h200.json`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from vitmalis.command_line import CommandLine
from vitmalis.detector.config import preset
from vitmalis.errors import UserError
from vitmalis.untrusted_files import damage_reported
from vitmalis.virtual.measured_testbed import MeasuredTime, ModelTimes, ServerTable
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit

PROTOTYPE = "prototype of the fused engine, not measured since"
PROTOTYPE_NOTES = (
    "random weights: times do not depend on them",
    "backbone_ms is the replay of a CUDA graph for a mask that is on the GPU; medians of 12",
    "detector_ms is from pixels on the host to boxes on the host, with a new mask each time and 3.5 ms to plan it on "
    "the CPU; it was measured with vitdet_l at restoration point 4 only",
    "not measured: restoration points 1 to 3 but for half of the regions, point 0, smaller frames, another window or "
    "factor, decoding of JPEGs; vitmalis.virtual.measured_testbed says what is taken instead",
)
COLUMNS = (
    "model",
    "restoration_point",
    "plain_ms",
    "half_ms",
    "all_ms",
    "intercept_ms",
    "slope_ms",
    "r2",
    "backbone_r2",
)
SHOWN = {"plain": 0.0, "half": 0.5, "all": 1.0}
"""Shares of downsampled regions that the table shows."""


def prototype_table(folder: Path, date: str) -> ServerTable:
    """Read the results of the prototype: ViTDet-L and B at 1088x1920 (padded 1080p), window 9, factor 2.

    Raises:
        UserError: a file is missing or not what the prototype writes.
    """
    backbone, detector = (_read(folder / name) for name in ("backbone2.json", "detector2.json"))
    with damage_reported(f"'{folder}'", "give the folder of the prototype's results"):
        whole_ms = {float(name.split()[1]): row["ms"] for name, row in detector["end to end"].items()}
        return ServerTable(
            card=backbone["about"]["gpu"],
            date=date,
            torch=backbone["about"]["torch"],
            precision="bf16",
            code=PROTOTYPE,
            width_px=1920,
            height_px=1080,
            window=9,
            downsampling_factor=2,
            notes=PROTOTYPE_NOTES,
            models={
                "vitdet_l": _prototype_times(backbone["speed L"], whole_ms),
                "vitdet_b": _prototype_times(backbone["B"]["speed"], {}),
            },
        )


def _prototype_times(rows: Sequence[dict[str, Any]], whole_ms: dict[float, float]) -> tuple[MeasuredTime, ...]:
    return tuple(
        MeasuredTime(
            share=row["share"],
            restoration_point=row["point"],
            flop_ratio=row["flop_ratio"],
            backbone_ms=row["graph"]["ms"],
            detector_ms=whole_ms.get(row["share"]) if row["point"] in (0, 4) else None,
        )
        for row in rows
    )


def inference_table(paths: Sequence[Path]) -> ServerTable:
    """Combine results of `profiling.inference`, one for each model, all of one card, precision and frame size.

    Raises:
        UserError: a file is missing or no such result, or they do not go together.
    """
    results = {path: _read(path) for path in paths}
    with damage_reported(" ".join(map(str, paths)), "give results of `python -m profiling.inference`"):
        facts = {path: _facts(result) for path, result in results.items()}
        first = facts[paths[0]]
        for path, own in facts.items():
            if different := [name for name, value in own.items() if value != first[name] and name != "date"]:
                name = different[0]
                raise UserError(f"'{path}' has {name} {own[name]}, '{paths[0]}' has {first[name]}: measure alike")
        models = {result["model"]: _measured_times(result) for result in results.values()}
        return ServerTable(**first, models=models)


def _facts(result: dict[str, Any]) -> dict[str, Any]:
    """Provenance of a result of `profiling.inference`."""
    return {
        "card": result["card"],
        "date": result["date"],
        "torch": result["torch"],
        "precision": result["precision"],
        "code": f"commit {result['git_commit']}, engine {result['engine']}",
        "width_px": result["width"],
        "height_px": result["height"],
        "window": result["window"],
        "downsampling_factor": result["downsampling_factor"],
        "notes": ("random weights: times do not depend on them",),
    }


def _measured_times(result: dict[str, Any]) -> tuple[MeasuredTime, ...]:
    rows = [
        MeasuredTime(
            share=row["downsampled_share"],
            restoration_point=row["restoration_point"],
            flop_ratio=row["flop_ratio"],
            backbone_ms=row["vit_ms"],
            detector_ms=row["detector_ms"],
        )
        for row in result["rows"]
    ]
    plain = MeasuredTime(share=0.0, restoration_point=0, flop_ratio=1.0, **result["plain"])
    return (plain, *rows)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"'{path}' does not exist")
    with damage_reported(f"'{path}'", "give a result of the job"):
        return dict(json.loads(path.read_bytes()))


def lines(table: ServerTable, percent: int = 100) -> list[dict[str, Any]]:
    """LM_inf of every model and restoration point, by the percentage of downsampled regions."""
    rows = []
    for model in table.models:
        times = ModelTimes(table, model)
        for point in range(preset(model).vit.subsets + 1):
            fit, backbone = times.fit(point, percent), times.backbone_fit(point, percent)
            rows.append(
                {
                    "model": model,
                    "restoration_point": point,
                    **{f"{name}_ms": round(1e3 * times.inference_s(share, point), 2) for name, share in SHOWN.items()},
                    "intercept_ms": round(1e3 * fit.intercept_s, 2),
                    "slope_ms": round(1e3 * fit.slope_s, 4) + 0.0,  # no negative zero
                    "r2": round(fit.r2, 3),
                    "backbone_r2": round(backbone.r2, 3),
                }
            )
    return rows


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "profiling.server_table",
        "Make the table of a measured server, for latency=h200, from results of profiling.inference on its GPU.",
        {
            "vitdet_b.json vitdet_l.json": "results that were measured on the server",
        },
    )
    parser.add_argument(
        "results",
        nargs="*",
        default=[],
        type=Path,
        metavar="RESULT",
        help="files of profiling.inference, one for each model",
    )
    parser.add_argument(
        "--prototype", type=Path, metavar="FOLDER", help="the prototype's results, in their place (default: none)"
    )
    parser.add_argument("--date", default="", help="day on which the prototype was measured, such as 2026-03-01")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/profiling/server_table.json"), help="file of the result"
    )
    return parser


def convert(options: argparse.Namespace) -> None:
    """Read, print and store the table.

    Raises:
        UserError: neither or both kinds of results are given, or they cannot be read.
    """
    if bool(options.results) == (options.prototype is not None):
        raise UserError("give results of profiling.inference, or --prototype FOLDER")
    if options.prototype is None:
        table = inference_table(options.results)
    else:
        table = prototype_table(options.prototype, options.date)
    title = f"LM_inf on {table.card}, ms over the percentage of downsampled regions"
    Terminal.on_stderr().table(title, lines(table), COLUMNS)
    emit(msgspec.to_builtins(table), options.output)


main = option_job(command_line, convert)


if __name__ == "__main__":
    sys.exit(main())
