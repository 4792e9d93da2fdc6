"""Several runs at once: where each leaves its result, and the table that compares them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from hydra.core.hydra_config import HydraConf
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True, slots=True)
class RunPlace:
    """Where a run belongs.

    Attributes:
        directory: its own folder.
        sweep: folder of the sweep it is part of, or None.
        number: its place in the sweep.
        overrides: what was asked for on the command line.
    """

    directory: Path
    sweep: Path | None = None
    number: int = 0
    overrides: tuple[str, ...] = ()

    @classmethod
    def of(cls, hydra: HydraConf) -> RunPlace:
        """As Hydra has arranged it."""
        swept = hydra.mode == RunMode.MULTIRUN
        return cls(
            directory=Path(hydra.runtime.output_dir),
            sweep=Path(hydra.sweep.dir) if swept else None,
            number=int(hydra.job.num) if swept else 0,
            overrides=tuple(hydra.overrides.task),
        )

    def write_summary(self, status: str, metrics: dict[str, float], **facts: Any) -> None:
        """Leave a small JSON file for comparisons."""
        summary = {"status": status, "overrides": self.overrides, "metrics": metrics, **facts}
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / SUMMARY_FILE).write_text(json.dumps(summary, indent=2) + "\n")

    @contextmanager
    def summary_on_failure(self) -> Iterator[None]:
        """A run that does not get to its end says so to whoever compares."""
        try:
            yield
        except BaseException as error:
            status = "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"
            self.write_summary(status, {}, error=" ".join(str(error).split()))
            raise


class SweepCallback(Callback):
    """Hydra tells it that a sweep starts; the comparison is printed when all is over, also when a run failed."""

    directory: ClassVar[Path | None] = None

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Note the sweep's folder."""
        SweepCallback.directory = Path(config.hydra.sweep.dir)


def read_summaries(sweep: Path) -> list[dict[str, Any]]:
    """The summaries of a sweep's runs so far, in the order of their numbers."""
    paths = sorted(sweep.glob(f"*/{SUMMARY_FILE}"), key=lambda path: (len(path.parent.name), path.parent.name))
    return [json.loads(path.read_text()) for path in paths]


def print_comparison(sweep: Path) -> bool:
    """Print one table of all runs of a sweep, nothing if none got far enough; returns whether any failed."""
    summaries = read_summaries(sweep)
    if summaries:
        from evaluation.terminal import Terminal

        Terminal().comparison(summaries, sweep)
    return any(summary["status"] == "FAILED" for summary in summaries)
