"""Errors of estimates: the four metrics of the paper's Table II."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """Errors of the estimates of n samples.

    Attributes:
        mae, rmse: mean absolute and root mean square error, in the unit of the target.
        mape: mean absolute percentage error; samples whose truth is 0 have none and are left out.
        r2: coefficient of determination: 1 is perfect, 0 is as good as the mean of these samples.
        samples: n.
        without_mape: samples left out of `mape`.
    """

    mae: float
    rmse: float
    mape: float
    r2: float
    samples: int
    without_mape: int

    @classmethod
    def of(cls, truth: NDArray[np.float64], estimate: NDArray[np.float64]) -> RegressionMetrics:
        """Compare estimates (n,) with truths (n,); r2 is NaN where all truths are equal, mape where all are 0."""
        error = estimate - truth
        positive = truth > 0
        spread = float(((truth - truth.mean()) ** 2).sum())
        return cls(
            mae=float(np.abs(error).mean()),
            rmse=float(np.sqrt((error**2).mean())),
            mape=100 * float(np.abs(error[positive] / truth[positive]).mean()) if positive.any() else float("nan"),
            r2=1 - float((error**2).sum()) / spread if spread > 0 else float("nan"),
            samples=len(truth),
            without_mape=int((~positive).sum()),
        )
