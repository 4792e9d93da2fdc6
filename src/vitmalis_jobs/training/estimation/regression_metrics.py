"""Errors of estimates: the four metrics of the paper's Table II, and the bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """Errors of the estimates of n samples; means are weighted where the samples have weights.

    Attributes:
        mae, rmse: mean absolute and root mean square error, in the unit of the target.
        mape: mean absolute percentage error; samples whose truth is not above 0 have none and are left out.
        r2: coefficient of determination: 1 is perfect, 0 is as good as the mean of these samples.
        bias: mean of estimate minus truth, in the unit of the target.
        samples: n.
        without_mape: samples left out of `mape`.
    """

    mae: float
    rmse: float
    mape: float
    r2: float
    bias: float
    samples: int
    without_mape: int

    @classmethod
    def of(
        cls,
        truth: NDArray[np.float64],
        estimate: NDArray[np.float64],
        weights: NDArray[np.float64] | None = None,
    ) -> RegressionMetrics:
        """Compare estimates (n,) with truths (n,); r2 is NaN where all truths are equal, mape where none is above 0.

        Args:
            truth, estimate: (n,).
            weights: of the samples (n,), positive; None if all count the same.
        """
        weights = np.ones(len(truth)) if weights is None else weights
        error = estimate - truth
        positive = truth > 0
        variance = float(np.average((truth - np.average(truth, weights=weights)) ** 2, weights=weights))
        mean_square = float(np.average(error**2, weights=weights))
        relative = np.abs(error[positive] / truth[positive])
        return cls(
            mae=float(np.average(np.abs(error), weights=weights)),
            rmse=float(np.sqrt(mean_square)),
            mape=100 * float(np.average(relative, weights=weights[positive])) if positive.any() else float("nan"),
            r2=1 - mean_square / variance if variance > 0 else float("nan"),
            bias=float(np.average(error, weights=weights)),
            samples=len(truth),
            without_mape=int((~positive).sum()),
        )
