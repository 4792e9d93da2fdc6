"""The heap gives back what lies free below what stays."""

from __future__ import annotations

import subprocess
import sys

import pytest

FRAGMENTED = """
import ctypes, sys
import psutil
from vitmalis.server.heap import HeapTrimmer
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def rss_mb(): return psutil.Process().memory_info().rss / 2**20
small = 100_000  # below glibc's threshold for mappings of their own
blocks = [libc.malloc(small) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, small)
pin = libc.malloc(small)
for block in blocks:
    libc.free(block)
before = rss_mb()
trimmer = HeapTrimmer(interval_s=0.0)
assert trimmer.trim()
assert not HeapTrimmer(interval_s=1000.0).trim(), "too soon"
print(before - rss_mb())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_free_memory_below_a_block_that_stays_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", FRAGMENTED], capture_output=True, text=True, timeout=60, check=True)
    assert float(done.stdout) > 80.0
