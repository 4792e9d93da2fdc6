"""Attention kernels compile for an H100 without one, and leave their programs enough of its memory and registers."""

import os
import subprocess
import sys

COMPILE = """
import subprocess, tempfile
from pathlib import Path
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from vitmalis.detector.fused.kernels import mixed, plain, window
from vitmalis.detector.fused.kernels.settings import HOPPER

INTEGERS = {"COUNTS", "CELL", "TOKEN", "WINDOW", "BLOCK", "COORDINATE"}
DIVISIBLE = {"channels", "plan_stride", "frame_tokens", "batch_tokens"}

def check(kernel, constants, tile):
    constants |= {"BM": tile.queries, "D": 64, "DP": 64, "RELATIVE": True, "PRECISION": "tf32"}
    pointers = [name for name in kernel.arg_names if name.isupper() and name not in constants]
    types = {name: "i32" for name in kernel.arg_names} | {"scale": "fp32"} | {name: "constexpr" for name in constants}
    types |= {name: "*i32" if name in INTEGERS else "*bf16" for name in pointers}
    attributes = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(kernel.arg_names) if types[name].startswith("*") or name in DIVISIBLE
    }
    options = {"num_warps": tile.warps, "num_stages": tile.stages}
    source = ASTSource(kernel, types, constants, attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    assert compiled.metadata.shared <= 227 << 10
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "kernel.ptx").write_text(compiled.asm["ptx"])
        assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
        command = [assembler, "-v", "--gpu-name=sm_90a", "kernel.ptx", "-o", "kernel.cubin"]
        report = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stderr
    assert "0 bytes spill stores, 0 bytes spill loads" in report, report

keys = {"BN": HOPPER.block_keys}
check(window._window_attention, {"W": 9, "BN": 128}, HOPPER.window)
check(plain._plain_attention, keys | {"SEGMENTS": 1, "WIDTH": 120, "COLS": 120, "STRIDE": 128}, HOPPER.plain)
check(mixed._mixed_attention, keys | {"BC": 32, "FACTOR": 2}, HOPPER.mixed)
"""


def test_attention_compiles_for_a_gpu_that_is_not_here() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
