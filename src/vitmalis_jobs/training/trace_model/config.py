"""The typed configuration of the trace fit: `conf/fit_traces.yaml`."""

from __future__ import annotations

from typing import Annotated

import msgspec

from vitmalis_jobs.common.config import Count, Section


class TraceFitConfig(Section, frozen=True):
    """The configuration of the trace fit: all of `conf/fit_traces.yaml`.

    Attributes:
        source: folder of the measured traces.
        fit: False keeps the parameters of the package, and writes neither them nor traces.
        uplink_regimes, rtt_regimes: regimes of the rate and of the round-trip time in large groups of traces.
        few_regimes: regimes of both in small groups.
        split_from: smallest group of traces that is split by coverage.
        max_slope: bound on the autoregression inside a regime.
        restarts, iterations: random starts of a fit, and EM steps of each at most.
        compare_seeds: seeds of the generator besides 0 that the page compares with.
        folder: gets the generated traces.
        model_path, page, figure: files that are written.
    """

    source: str
    fit: bool
    uplink_regimes: Count
    rtt_regimes: Count
    few_regimes: Count
    split_from: Annotated[int, msgspec.Meta(ge=2)]
    max_slope: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    restarts: Count
    iterations: Count
    seed: Annotated[int, msgspec.Meta(ge=0)]
    compare_seeds: Annotated[int, msgspec.Meta(ge=0)]
    folder: str
    model_path: str
    page: str
    figure: str
