"""The upstream implementation's outputs, where they are at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Folder of the golden sets."""
    return shared / "data" / "golden"


@pytest.fixture(scope="session")
def units(golden: Path) -> dict[str, np.ndarray]:
    """Small inputs and outputs of each upstream function."""
    return dict(np.load(golden / "golden_units.npz"))
