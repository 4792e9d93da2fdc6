"""How batches are cut into launches: by hand, and compared with every other way."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitmalis.detector.fused.batches import LAUNCH_FLOPS, launches
from vitmalis.detector.fused.plan import PLAIN

TOKEN = LAUNCH_FLOPS / 1000
"""Operations of a token where a launch costs as much as 1000 tokens of padding."""


@pytest.mark.parametrize(
    ("buckets", "cut"),
    [
        ([], []),
        ([512], [[0]]),
        ([PLAIN, PLAIN], [[0, 1]]),
        ([768, 768, 768], [[0, 1, 2]]),
        ([768, 1792], [[1], [0]]),  # 1024 tokens of padding
        ([1024, 1792], [[1, 0]]),  # 768
        ([1024, 1792, 1024], [[1], [0, 2]]),  # 2 x 768
        ([PLAIN, 8192, PLAIN, 8192], [[1, 3], [0, 2]]),
    ],
)
def test_cuts_by_hand(buckets: list[int], cut: list[list[int]]) -> None:
    assert launches(buckets, TOKEN) == cut


def test_without_padding_costs_there_is_one_launch() -> None:
    """At restoration point 0 nothing is computed for a token of padding."""
    assert launches([256, 8192, 512], 0) == [[1, 2, 0]]


def partitions(places: list[int]) -> Iterator[list[list[int]]]:
    """Every way to cut places into groups."""
    if not places:
        yield []
        return
    first, *others = places
    for rest in partitions(others):
        yield [[first], *rest]
        for index in range(len(rest)):
            yield [*rest[:index], [first, *rest[index]], *rest[index + 1 :]]


@given(st.lists(st.integers(1, 12).map(lambda count: 256 * count), min_size=1, max_size=5))
def test_no_other_way_costs_less(buckets: list[int]) -> None:
    def cost(cut: list[list[int]]) -> float:
        padding = sum(max(buckets[place] for place in group) - buckets[place] for group in cut for place in group)
        return len(cut) * LAUNCH_FLOPS + padding * TOKEN

    found = launches(buckets, TOKEN)
    assert sorted(place for group in found for place in group) == list(range(len(buckets)))
    assert all(buckets[group[0]] == max(buckets[place] for place in group) for group in found)
    assert cost(found) == pytest.approx(min(cost(cut) for cut in partitions(list(range(len(buckets))))))
