"""The estimated cost of offloads."""

from __future__ import annotations

import numpy as np
import pytest

from tests.server.blob_server import GEOMETRY
from tests.server.conftest import offload
from vitmalis.server.cost import estimated_cost
from vitmalis.types import Configuration

SIZE = (960, 540)


def test_the_cost_of_a_plain_frame_follows_from_its_tokens() -> None:
    assert estimated_cost(offload(1, SIZE), GEOMETRY) == pytest.approx(50 + 2040 + 2040**2 / 2600)
    assert estimated_cost(offload(1, (16, 16)), GEOMETRY) == pytest.approx(50 + 4 + 4**2 / 2600)


def test_downsampled_regions_are_cheap_up_to_the_restoration_point() -> None:
    everything = np.ones((4, 6), bool)
    full, low = 2040 + 2040**2 / 2600, 510 + 510**2 / 2600
    costs = [estimated_cost(offload(1, SIZE, Configuration(1, 90, p), everything), GEOMETRY) for p in range(5)]
    assert costs == pytest.approx([50 + (p * low + (4 - p) * full) / 4 for p in range(5)])
