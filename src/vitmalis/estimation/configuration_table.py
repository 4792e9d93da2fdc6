"""A number for each configuration: a part of estimator files."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class ConfigurationTable(msgspec.Struct, frozen=True, eq=False):
    """Values by configuration, or by some of what makes one.

    Attributes:
        keys: names of the features that a value depends on.
        configurations: int64 (k, len(keys)), unique rows.
        values: float64 (k,).

    Raises:
        ValueError: the shapes do not fit, or the table is empty.
    """

    keys: tuple[str, ...]
    configurations: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        if self.configurations.shape != (len(self.values), len(self.keys)) or not len(self.values):
            raise ValueError(f"configurations {self.configurations.shape} and values {self.values.shape} do not fit")

    def find(self, rows: FloatArray, names: tuple[str, ...]) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Look up feature rows.

        Args:
            rows: (n, F).
            names: of the F features.

        Returns:
            The value of each row (n,), and whether it is in the table (n,); where it is not, the value means nothing.
        """
        columns = [names.index(key) for key in self.keys]
        same = (rows[:, None, columns] == self.configurations).all(axis=2)
        return self.values[same.argmax(axis=1)], same.any(axis=1)
