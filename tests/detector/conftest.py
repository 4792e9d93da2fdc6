"""The upstream implementation's outputs, where they are at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read by Triton when a module with kernels is imported


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Folder of the golden sets."""
    return shared / "data" / "golden"


@pytest.fixture(scope="session")
def units(golden: Path) -> dict[str, np.ndarray]:
    """Small inputs and outputs of each upstream function."""
    return dict(np.load(golden / "golden_units.npz"))
