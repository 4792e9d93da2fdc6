"""The sweeper of evaluations. Hydra takes plugins from the package `hydra_plugins` alone, so that it lies here."""

from __future__ import annotations

from collections.abc import Sequence

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper


class EachValueSweeper(BasicSweeper):
    """Hydra's own sweeper, which checks each value of a sweep once before the first run, and shows that it does."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Check the options of runs, as `options_checked` describes.

        Raises:
            HydraException: a choice or an option does not exist.
        """
        from vitmalis_jobs.evaluation.sweep import options_checked  # here, as Hydra imports plugins for every program

        check = super().validate_batch_is_legal
        runs = sum(map(len, self.overrides or []))
        options_checked(batch, runs, lambda overrides: check([overrides]))
