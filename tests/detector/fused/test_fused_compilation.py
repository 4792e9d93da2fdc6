"""All kernels compile for an H100 without one, and its memory and registers suffice for their programs."""

import os
import subprocess
import sys

COMPILE = """
import subprocess, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vitmalis.detector.fused.kernels import int8, mixed, pixels, plain, rows, window
from vitmalis.detector.fused.kernels.settings import HOPPER, power_of_two

TYPES = {
    "*u8": {"BYTES"},
    "*i32": {"COUNTS", "CELL", "TOKEN", "WINDOW", "BLOCK", "COORDINATE", "PATCH", "ORDER"},
    "*fp32": {"X", "GAIN", "BIAS", "POSITIONS", "TOKENS", "PIXELS"},
    "fp32": {"scale", "eps", "m0", "m1", "m2", "s0", "s1", "s2"},
}
DIVISIBLE = {"channels", "plan_stride", "frame_tokens", "batch_tokens", "mixed_tokens"}

WHOLE = {"*i8": {"ROWS", "WEIGHT"}, "*fp32": {"SCALE", "ROW_SCALE"}}

def type_of(name, constants, whole):
    named = [kind for kind, names in (WHOLE if whole else TYPES).items() if name in names]
    return "constexpr" if name in constants else named[0] if named else "*bf16" if name.isupper() else "i32"

def check(kernel, constants, warps=4, stages=3, whole=False):
    types = {name: type_of(name, constants, whole) for name in kernel.arg_names}
    attributes = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(kernel.arg_names) if types[name].startswith("*") or name in DIVISIBLE
    }
    source = ASTSource(kernel, types, constants, attributes)
    options = {"num_warps": warps, "num_stages": stages}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert compiled.metadata.shared <= 227 << 10
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.ptx").write_text(compiled.asm["ptx"])
        assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
        command = [assembler, "-v", "--gpu-name=sm_90a", "kernel.ptx", "-o", "kernel.cubin"]
        report = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stderr
    assert "0 bytes spill stores, 0 bytes spill loads" in report, report

def check_attention(kernel, constants, tile, width=64):
    heads = {"BM": tile.queries, "D": width, "DP": power_of_two(width), "RELATIVE": True, "PRECISION": "tf32"}
    check(kernel, heads | constants, tile.warps, tile.stages)

keys = {"BN": HOPPER.block_keys}
check_attention(window._window_attention, {"W": 9, "BN": 128}, HOPPER.window)
plain_line = {"SEGMENTS": 1, "WIDTH": 120, "COLS": 120, "STRIDE": 128}
check_attention(plain._plain_attention, keys | plain_line, HOPPER.plain)
check_attention(mixed._mixed_attention, keys | {"BC": 32, "FACTOR": 2}, HOPPER.mixed)
for width in (64, 80):
    check_attention(window._window_attention, {"W": 14, "BN": 256}, HOPPER.wide_window, width)
check_attention(window._window_attention, {"W": 9, "BN": 128}, HOPPER.window, 80)
row = {"C": 1024, "BC": 1024, "BR": HOPPER.rows}
check(rows._add_norm, row | {"NORM": True})
check(rows._embed_norm, row)
check(rows._restore_norm, row | {"SIDE": 18, "FACTOR": 2})
patch = {"SIDE": 16, "BK": 1024, "FACTOR": 2, "BR": HOPPER.rows}
check(pixels._patch_pixels, patch)
check(pixels._image_pixels, patch)
check(pixels._restored_pixels, patch | {"REGION": 18})
hidden = {"C": 4096, "BC": 4096, "BR": HOPPER.rows, "LARGEST": 127, "SMALLEST": 1e-12, "GELU": True}
check(int8._quantise_rows, hidden, whole=True)
tile = HOPPER.product
shape = {"C": 4096, "N": 1024, "BM": tile.rows, "BN": tile.cols, "BK": tile.depth, "GROUP": 8}
check(int8._scaled_product, shape, tile.warps, tile.stages, whole=True)
"""


def test_kernels_compile_for_a_gpu_that_is_not_here() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
