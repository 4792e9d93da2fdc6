from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import torch

from tests.training.synthetic_samples import synthetic_samples


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """One torch thread, with which results are the same everywhere."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def samples() -> pd.DataFrame:
    """Synthetic profiling samples of three clips."""
    return synthetic_samples()
