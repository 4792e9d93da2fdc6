"""Signals end the work once and leave what keeps its results alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from vitmalis.process import Interrupts

BOTH = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers_restored() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in BOTH}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_ends_the_block_and_the_second_breaks_nothing(number: signal.Signals) -> None:
    interrupts, kept = Interrupts(), []
    try:
        with interrupts.raised():
            signal.raise_signal(number)
            kept.append("not reached")
    except KeyboardInterrupt:
        signal.raise_signal(signal.SIGINT)
        kept.append("records")
    assert kept == ["records"]


def test_a_signal_before_the_block_counts_at_its_start() -> None:
    interrupts = Interrupts()
    signal.raise_signal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        pytest.fail("entered")
