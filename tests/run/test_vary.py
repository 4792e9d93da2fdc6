"""`vary`: options that one run of a sweep sets together."""

from __future__ import annotations

import pytest

from vitmalis.errors import UserError
from vitmalis_jobs.run.config import composed, flat
from vitmalis_jobs.run.vary import variation


def test_its_options_are_those_of_the_run() -> None:
    varied = composed(["trace=4g", "vary={trace.rtt_scale:2,eval.iou_threshold:0.75}"])
    assert flat(varied) == flat(composed(["trace=4g", "trace.rtt_scale=2", "eval.iou_threshold=0.75"]))


def test_other_options_follow_the_ones_that_it_sets() -> None:
    assert composed(["policy=vitmalis", "vary={model.window:5}"]).policy["window"] == 5


def test_null_changes_nothing() -> None:
    assert flat(composed(["vary=null"])) == flat(composed([]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("vary=2", r"vary=2: give options in braces, such as vary=\{trace.rtt_scale:2\}"),
        ("vary={trace.rt_scale:2}", r"vary=\{trace.rt_scale:2\}: there is no option trace.rt_scale in this run"),
        ("vary={trace:2}", r"vary=\{trace:2\}: trace is a section; give single options of it, trace.<option>"),
        ("vary={eval.iou_threshold:2}", "eval.iou_threshold=2"),
    ],
)
def test_what_is_no_option_is_refused(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        composed([given])


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["policy=fixed"], ""),
        (["policy=fixed", "vary=null"], ""),
        (["vary={trace.rtt_scale:2}"], "trace.rtt_scale=2"),
        (["vary={a.b:0.5,c:x}", "policy=fixed"], "a.b=0.5, c=x"),
    ],
)
def test_a_variation_has_a_name(overrides: list[str], named: str) -> None:
    assert variation(overrides) == named
