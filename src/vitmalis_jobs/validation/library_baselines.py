"""Our plain ViT-B compared with those of transformers and timm: `python -m validation.library_baselines`.

All do the same work: an image to the features of the last block, without pyramid, neck or head; 768 channels, 12
blocks, windows of 9, global blocks 2, 5, 8 and 11, absolute and decomposed relative positions; fp32, random weights.
Times are medians of pairs in one process; peak memory is measured in a child process for each model. One JSON object
goes to standard output and to `runs/library_baselines.json`. Exit status 1 says that a bar was missed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitmalis.detector import preset
from vitmalis.detector.vit import ViT
from vitmalis.errors import UserError
from vitmalis_jobs.common.arguments import check_positive
from vitmalis_jobs.common.cli import program, run_job
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.job_output import emit
from vitmalis_jobs.common.machine_load import LoadMeter
from vitmalis_jobs.common.timing import Pairs

PATCH_PX = 16
WINDOW = 9
SIZES = ("1088x1920", "544x960")
BARS: dict[str, dict[str, float]] = {
    "transformers": {"time_ratio": 0.65, "memory_ratio": 0.5},
    "timm": {"time_ratio": 0.75},
}
"""Largest ratio of our time or memory to the library's, at every size."""

Forward = Callable[[Tensor], object]

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


def ours(height_px: int, width_px: int) -> Forward:
    """The backbone of `vitdet_b`; it takes any size."""
    return frozen(ViT(preset("vitdet_b").with_geometry(WINDOW).vit))


def transformers(height_px: int, width_px: int) -> Forward:
    """Transformers' `VitDetBackbone`, relative positions made for this size: nothing has to be resized for them."""
    from transformers import VitDetBackbone, VitDetConfig

    config = VitDetConfig(
        image_size=(height_px, width_px),  # a pair is understood by its layers, though the type says int
        window_size=WINDOW,
        window_block_indices=[block for block in range(12) if block % 3 != 2],
        use_relative_position_embeddings=True,
        use_absolute_position_embeddings=True,
    )
    return frozen(VitDetBackbone(config))


def timm(height_px: int, width_px: int) -> Forward:
    """Timm's `samvit_base_patch16` (segment anything's ViT-B), its neck left out."""
    from timm import create_model

    model = create_model(
        "samvit_base_patch16", img_size=(height_px, width_px), window_size=WINDOW, neck_chans=0, num_classes=0
    )
    model.neck = nn.Identity()
    return frozen(model).forward_features


def frozen(model: nn.Module) -> Any:
    """The model as it predicts, with relative positions that are not zero."""
    for name, parameter in model.named_parameters():
        if "rel_pos" in name:
            nn.init.normal_(parameter, std=0.02)
    return model.eval().requires_grad_(False)


MODELS: dict[str, Callable[[int, int], Forward]] = {"ours": ours, "transformers": transformers, "timm": timm}


def random_image(height_px: int, width_px: int) -> Tensor:
    """Random pixels, normalised: (1, 3, H, W)."""
    return torch.randn(1, 3, height_px, width_px, generator=torch.Generator().manual_seed(0))


def timed(library: str, height_px: int, width_px: int, repeats: int) -> Pairs:
    """Paired durations of our model and a library's, after a first run of each."""
    runs = [MODELS[name](height_px, width_px) for name in ("ours", library)]
    image, pairs = random_image(height_px, width_px), Pairs()
    with torch.inference_mode():
        for run in runs:
            run(image)
        for _ in range(repeats):
            pairs.add(lambda: runs[0](image), lambda: runs[1](image))
    return pairs


def peak_bytes() -> int:
    """Largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # on other systems a child's figure starts from its parent's
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def memory_of_run(name: str, height_px: int, width_px: int) -> int:
    """Bytes by which one forward pass raises this process's resident peak, with model and image in memory before."""
    model, image = MODELS[name](height_px, width_px), random_image(height_px, width_px)
    with torch.inference_mode():
        before = peak_bytes()
        model(image)
    return peak_bytes() - before


def memory_in_child(name: str, height_px: int, width_px: int, threads: int) -> int:
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
    ]
    done = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise UserError(f"memory of {name} at {height_px}x{width_px} could not be measured ({said[0]})")
    return int(json.loads(done.stdout)["peak_bytes"])


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Measure every library at every size.

    Raises:
        UserError: a process that measures memory fails.
    """
    terminal, rows = Terminal.on_stderr(), []
    done, total = 0, len(options.sizes) * len(options.libraries)
    for height_px, width_px in options.sizes:
        size = f"{height_px}x{width_px}"
        terminal.step(done, total, "library baselines", f"memory of our model, {size}")
        our_bytes = memory_in_child("ours", height_px, width_px, options.threads)
        for library in options.libraries:
            terminal.step(done, total, "library baselines", f"memory of {library}, {size}")
            library_bytes = memory_in_child(library, height_px, width_px, options.threads)
            terminal.step(done, total, "library baselines", f"time of {library}, {size}")
            pairs = timed(library, height_px, width_px, options.repeats)
            rows.append(as_row(library, (height_px, width_px), pairs, our_bytes, library_bytes))
            terminal.note(json.dumps(rows[-1]))  # minutes of work, not to be lost with those that follow
            done += 1
    terminal.step(total, total, "library baselines")
    return {
        "model": "ViT-B of ViTDet, from an image to the last block's features",
        "window": WINDOW,
        "precision": "fp32",
        "threads": options.threads,
        "torch": torch.__version__,
        "time": "median over pairs of our time / the library's, in one process, alternating which is first",
        "memory": "resident peak of a process after one forward pass less its peak before, model built",
        "bars": BARS,
        "bars_met": all(row["met"] for row in rows),
        "rows": rows,
    }


def as_row(library: str, size_px: tuple[int, int], pairs: Pairs, our_bytes: int, library_bytes: int) -> dict[str, Any]:
    """One library at one size, and whether its bars are met."""
    our_ms, library_ms = pairs.median_ms
    row: dict[str, Any] = {
        "tokens": "x".join(str(side // PATCH_PX) for side in size_px),
        "library": library,
        "time_ratio": round(pairs.ratio, 4),
        "memory_ratio": round(our_bytes / library_bytes, 4),
        "ours_s": round(our_ms / 1e3, 3),
        "library_s": round(library_ms / 1e3, 3),
        "ours_peak_mib": round(our_bytes / 2**20, 1),
        "library_peak_mib": round(library_bytes / 2**20, 1),
        "pairs": len(pairs.ours_ms),
    }
    return {**row, "met": all(row[name] <= bar for name, bar in BARS[library].items())}


def size(text: str) -> tuple[int, int]:
    """Read `HEIGHTxWIDTH` in pixels, both multiples of the patch."""
    height_px, width_px = (int(part) for part in text.split("x"))
    if min(height_px, width_px) < PATCH_PX or height_px % PATCH_PX or width_px % PATCH_PX:
        raise argparse.ArgumentTypeError(f"'{text}': both sides must be multiples of {PATCH_PX}")
    return height_px, width_px


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job of the command line and return the exit status of `run_job`."""
    parser = argparse.ArgumentParser(
        prog=program("validation.library_baselines"), description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("--sizes", type=size, nargs="+", default=[size(text) for text in SIZES], help="HEIGHTxWIDTH")
    parser.add_argument("--libraries", nargs="+", choices=list(BARS), default=list(BARS))
    parser.add_argument("--repeats", type=int, default=3, help="pairs of each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory-of", choices=list(MODELS), help=argparse.SUPPRESS)  # for our own child processes
    parser.add_argument("--output", type=Path, default=Path("runs/library_baselines.json"))
    options = parser.parse_args(arguments)
    return run_job(lambda: profile(options))


def profile(options: argparse.Namespace) -> bool:
    """Compare, print and store the result; returns whether all bars are met."""
    check_positive(options, "repeats", "threads")
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(json.dumps({"peak_bytes": memory_of_run(options.memory_of, *options.sizes[0])}))
        return True
    meter = LoadMeter()
    result = compare(options)
    Terminal.on_stderr().table("our ViT-B and the libraries'", result["rows"], COLUMNS)
    emit(result, options.output, meter.load())
    return bool(result["bars_met"])


if __name__ == "__main__":
    sys.exit(main())
