"""policy=dds by hand: what is sent in the first round, and what a second one sends."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.policy import ClientState, build_policy
from vitmalis.policy.base import check_decision
from vitmalis.regions import RegionGrid
from vitmalis.types import Configuration

STATE = ClientState(1, RegionGrid(960, 540, window=5), 0.1, 0.1)


def test_the_first_round_has_low_resolution_everywhere_and_requests_feedback() -> None:
    decision = build_policy("dds", low_quality=60, restoration_point=2).decide(STATE)
    assert decision.configuration == Configuration(2, 60, 2)
    assert decision.downsample_mask.shape == (4, 6)
    assert decision.downsample_mask.all()
    assert (decision.feedback.low_score, decision.feedback.high_score) == (0.45, 0.5)


def test_the_second_round_has_full_resolution_where_the_server_asks() -> None:
    feedback = build_policy("dds", quality=90, restoration_point=2).decide(STATE).feedback
    asked = np.zeros((4, 6), bool)
    asked[1, 2] = True
    second = feedback.second_round(asked)
    assert second.configuration == Configuration(2, 90, 2)
    assert np.argwhere(~second.downsample_mask).tolist() == [[1, 2]]
    assert second.feedback is None, "there is no third round"


def test_a_frame_that_is_asked_back_whole_is_sent_as_it_is() -> None:
    second = build_policy("dds").decide(STATE).feedback.second_round(np.ones((4, 6), bool))
    assert (second.configuration, second.downsample_mask) == (Configuration(0, 95, 0), None)


@pytest.mark.parametrize(
    ("option", "value"),
    [("quality", 0), ("low_quality", 101), ("restoration_point", -1), ("low_score", 0.5), ("low_score", -0.1)],
)
def test_an_option_out_of_range_is_named(option: str, value: float) -> None:
    with pytest.raises(UserError, match=rf"policy\.{option}={value}: give a"):
        build_policy("dds", **{option: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"low_score": 0.6}, "scores=(0.6, 0.5)"),
        ({"high_score": float("nan")}, "scores=(0.45, nan)"),
        ({"configuration": Configuration(0, 95, 0)}, "tau_d=0"),
        ({"configuration": Configuration(2, 101, 0)}, "quality=101"),
        ({"configuration": Configuration(2, 95, -1)}, "restoration_point=-1"),
    ],
)
def test_a_request_for_feedback_out_of_range_is_named(changes: dict[str, Any], named: str) -> None:
    decision = build_policy("dds").decide(STATE)
    wrong = replace(decision, feedback=replace(decision.feedback, **changes))
    with pytest.raises(UserError, match=rf"requests feedback with {re.escape(named)}: choose"):
        check_decision(wrong, STATE.grid)


def test_a_smaller_frame_has_no_regions_to_ask_back() -> None:
    decision = replace(build_policy("dds").decide(STATE), downsample_mask=None, frame_downsampling=2)
    with pytest.raises(UserError, match="requests feedback with frame_downsampling=2: choose 1"):
        check_decision(decision, STATE.grid)
