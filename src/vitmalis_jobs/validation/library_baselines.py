"""Our plain ViT compared with those of transformers, timm and detectron2: `python -m validation.library_baselines`.

All do the same work: an image to the features of the last block, without pyramid, neck or head; ViT-B (or L, H) with
windows of 9, four global blocks, absolute and decomposed relative positions; random weights, one precision for all.
Ours runs eagerly. Times are medians of pairs in one process, for which a GPU is waited for; peak memory is measured in
a child process for each model. Detectron2 takes part where it is installed. One JSON object goes to standard output and
to `runs/library_baselines.json`. Exit status 1 says that a bar was missed; bars are of ViT-B in fp32 on a CPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vitmalis.command_line import CommandLine
from vitmalis.detector import checked_device, preset
from vitmalis.detector.devices import AUTO
from vitmalis.detector.precision import AUTOCAST, arithmetic
from vitmalis.errors import UserError
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.cli import job_parser, option_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine import card_name
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.timing import Pairs, Stopwatch
from vitmalis_jobs.validation.library_models import MODELS, WINDOW, frozen

PATCH_PX = 16
SIZES = ("1088x1920", "544x960")
BARS: dict[str, dict[str, float]] = {
    "transformers": {"time_ratio": 0.65, "memory_ratio": 0.5},
    "timm": {"time_ratio": 0.75},
}
"""Largest ratio of our time or memory to the library's, at every size, for ViT-B in fp32 on a CPU."""

LIBRARIES = ("transformers", "timm", "detectron2")

COLUMNS = (
    "tokens",
    "library",
    "time_ratio",
    "ours_s",
    "library_s",
    "memory_ratio",
    "ours_peak_mib",
    "library_peak_mib",
    "met",
)


def installed_libraries() -> list[str]:
    """The libraries that are compared with unless others are named; detectron2 only where it can be imported."""
    return [name for name in LIBRARIES if name != "detectron2" or find_spec(name)]


class Setting(NamedTuple):
    """What is equal for all models that are compared.

    Attributes:
        model: the preset whose transformer is compared.
        device: where the models run.
        precision: one of `AUTOCAST`, by autocast and PyTorch's flags for fp32 products.
    """

    model: str
    device: torch.device
    precision: str

    @property
    def bars(self) -> Mapping[str, Mapping[str, float]]:
        """The bars that apply; none but for ViT-B in fp32 on a CPU."""
        return BARS if (self.model, self.device.type, self.precision) == ("vitdet_b", "cpu", "fp32") else {}

    def built(self, name: str, height_px: int, width_px: int) -> nn.Module:
        """A model as it predicts, on the device, with relative positions that are not zero."""
        model = MODELS[name](preset(self.model).with_geometry(WINDOW).vit, height_px, width_px)
        return frozen(model).to(self.device)

    def image(self, height_px: int, width_px: int) -> Tensor:
        """Random pixels on the device, normalised: (1, 3, H, W)."""
        pixels = torch.randn(1, 3, height_px, width_px, generator=torch.Generator().manual_seed(0))
        return pixels.to(self.device)


def timed(setting: Setting, library: str, height_px: int, width_px: int, repeats: int) -> Pairs:
    """Paired durations of our model and a library's, after first runs of each."""
    image, pairs = setting.image(height_px, width_px), Pairs(Stopwatch(setting.device))
    runs = [partial(setting.built(name, height_px, width_px), image) for name in ("ours", library)]
    with torch.inference_mode(), arithmetic(setting.device, setting.precision):
        for run in runs:
            pairs.stopwatch.warm_up(run)
        for _ in range(repeats):
            pairs.add(*runs)
    return pairs


def peak_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on other systems a child's figure starts from its parent's
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def peak_gpu_bytes(device: torch.device) -> int:
    """Most memory of a GPU that this process had in use so far, in bytes."""
    return torch.cuda.max_memory_allocated(device)


def memory_of_run(setting: Setting, name: str, height_px: int, width_px: int) -> int:
    """Bytes by which one forward pass raises the peak of this process, with model and image in memory before.

    On a GPU it is the peak of the GPU's memory, else of the resident memory.
    """
    model, image = setting.built(name, height_px, width_px), setting.image(height_px, width_px)
    peak = peak_bytes if setting.device.type == "cpu" else partial(peak_gpu_bytes, setting.device)
    with torch.inference_mode(), arithmetic(setting.device, setting.precision):
        before = peak()
        model(image)
    return peak() - before


def memory_in_child(setting: Setting, name: str, height_px: int, width_px: int, threads: int) -> int:
    """`memory_of_run` in a process of its own, bytes.

    Raises:
        UserError: the process failed; for lack of memory, most likely.
    """
    command = [
        sys.executable,
        "-m",
        "vitmalis_jobs.validation.library_baselines",
        "--memory-of",
        name,
        "--sizes",
        f"{height_px}x{width_px}",
        "--threads",
        str(threads),
        *(f"--{field}={value}" for field, value in setting._asdict().items()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise UserError(f"memory of {name} at {height_px}x{width_px} could not be measured ({said[0]})")
    return int(json.loads(done.stdout)["peak_bytes"])


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every library at every size.

    Raises:
        UserError: a process that measures memory fails.
    """
    terminal, rows, setting = Terminal.on_stderr(), [], setting_of(options)
    done, total = 0, len(options.sizes) * len(options.libraries)
    for height_px, width_px in options.sizes:
        size = f"{height_px}x{width_px}"
        terminal.step(done, total, "library baselines", f"memory of our model, {size}")
        our_bytes = memory_in_child(setting, "ours", height_px, width_px, options.threads)
        for library in options.libraries:
            terminal.step(done, total, "library baselines", f"memory of {library}, {size}")
            library_bytes = memory_in_child(setting, library, height_px, width_px, options.threads)
            terminal.step(done, total, "library baselines", f"time of {library}, {size}")
            pairs = timed(setting, library, height_px, width_px, options.repeats)
            rows.append(as_row(library, (height_px, width_px), pairs, our_bytes, library_bytes, setting.bars))
            terminal.note(json.dumps(rows[-1]))  # minutes of work, not to be lost with those that follow
            done += 1
    terminal.step(total, total, "library baselines")
    return {
        "model": f"ViT of {setting.model}, from an image to the last block's features",
        "window": WINDOW,
        "device": str(setting.device),
        "card": card_name(setting.device),
        "precision": setting.precision,
        "engine": "eager",
        "threads": options.threads,
        "torch": torch.__version__,
        "time": "median over pairs of our time / the library's, in one process, alternating which is first",
        "memory": "peak of a process after one forward pass less its peak before, model built: resident, or a GPU's",
        "bars": setting.bars,
        "bars_met": all(row["met"] for row in rows),
        "rows": rows,
    }


def setting_of(options: argparse.Namespace) -> Setting:
    """What the command line chooses for all models; raises `UserError` for a device that is not there."""
    return Setting(options.model, checked_device(options.device, "--device"), options.precision)


def as_row(
    library: str,
    size_px: tuple[int, int],
    pairs: Pairs,
    our_bytes: int,
    library_bytes: int,
    bars: Mapping[str, Mapping[str, float]] = BARS,
) -> dict[str, Any]:
    """One library at one size, and whether its bars are met."""
    our_ms, library_ms = pairs.median_ms
    row: dict[str, Any] = {
        "tokens": "x".join(str(side // PATCH_PX) for side in size_px),
        "library": library,
        "time_ratio": round(pairs.ratio, 4),
        "memory_ratio": round(our_bytes / library_bytes, 4),
        "ours_s": round(our_ms / 1e3, 4),
        "library_s": round(library_ms / 1e3, 4),
        "ours_peak_mib": round(our_bytes / 2**20, 1),
        "library_peak_mib": round(library_bytes / 2**20, 1),
        "pairs": len(pairs.ours_ms),
    }
    return {**row, "met": all(row[name] <= bar for name, bar in bars.get(library, {}).items())}


def size(text: str) -> tuple[int, int]:
    """Read `HEIGHTxWIDTH` in pixels, both multiples of the patch."""
    height_px, width_px = (int(part) for part in text.split("x"))
    if min(height_px, width_px) < PATCH_PX or height_px % PATCH_PX or width_px % PATCH_PX:
        raise argparse.ArgumentTypeError(f"'{text}': both sides must be multiples of {PATCH_PX}")
    return height_px, width_px


def command_line() -> CommandLine:
    """The options of this job."""
    parser = job_parser(
        "validation.library_baselines",
        "Compare speed and memory of our plain ViT with those of transformers, timm and detectron2.",
        {
            "": "ViT-B on the CPU, all installed libraries",
            "--libraries timm --sizes 256x256 --repeats 1": "a quick look",
        },
        "Exit status 1: on a CPU, ours is not as much faster or smaller as its bars ask for.",
    )
    parser.add_argument(
        "--sizes", type=size, nargs="+", metavar="HEIGHTxWIDTH", default=[size(text) for text in SIZES],
        help=f"sizes of images in pixels (default: {' '.join(SIZES)})",
    )  # fmt: skip
    parser.add_argument(
        "--libraries", nargs="+", choices=LIBRARIES, default=installed_libraries(),
        help="libraries to compare with (default: those that are installed)",
    )  # fmt: skip
    parser.add_argument("--model", choices=("vitdet_b", "vitdet_l", "vitdet_h"), default="vitdet_b", help="whose ViT")
    parser.add_argument("--device", default=AUTO, help="as PyTorch names it (default: a GPU where there is one)")
    parser.add_argument("--precision", choices=list(AUTOCAST), default="fp32", help="arithmetic of the models")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of measurements of each library")
    parser.add_argument("--threads", type=int, default=1, help="PyTorch threads")
    parser.add_argument("--memory-of", choices=list(MODELS), help=argparse.SUPPRESS)  # for our own child processes
    parser.add_argument("--output", type=Path, default=Path("runs/library_baselines.json"), help="file of the result")
    return parser


def profile(options: argparse.Namespace) -> bool:
    """Compare, print and store the result; returns whether all bars are met."""
    check_positive(options, "repeats", "threads")
    torch.set_num_threads(options.threads)
    if options.memory_of:
        peak = memory_of_run(setting_of(options), options.memory_of, *options.sizes[0])
        print(json.dumps({"peak_bytes": peak}))
        return True
    meter = LoadMeter()
    result = compare(options)
    Terminal.on_stderr().table(f"our ViT of {options.model} and the libraries'", result["rows"], COLUMNS)
    emit(result, options.output, meter.load())
    return bool(result["bars_met"])


main = option_job(command_line, profile)


if __name__ == "__main__":
    sys.exit(main())
