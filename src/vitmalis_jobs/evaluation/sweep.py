"""A sweep: the runs of one multirun command, its folder, its MLflow run above theirs, and the table at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConf
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from vitmalis.errors import UserError
from vitmalis.locks import file_lock
from vitmalis.names import check_path_part
from vitmalis.paths import remove_if_only
from vitmalis_jobs.common.storage_errors import storage_errors
from vitmalis_jobs.evaluation.sweep_page import sweep_note, sweep_tags, sweep_title
from vitmalis_jobs.run.directory import RUN_FILE, SWEEP_FILE, RunDirectory, read_summaries, read_sweep, write_json

if TYPE_CHECKING:
    from vitmalis_jobs.common.mlflow_store import Store

Overrides = Sequence[str]
"""Options of a run, as `key=value`."""
MAX_ROWS = 60
"""Most runs that the table at the end lists; a longer sweep is counted instead."""


_ONE_RUN_A_MACHINE = ("BasicLauncher", "SlurmLauncher")
"""Launchers that do not make runs side by side on one machine, as far as can be known here."""


class SweepRefused(BaseException):
    """A sweep cannot start. It is no `Exception`, because Hydra turns those of a callback into warnings."""


class Sweep:
    """The sweep of a command; without a folder until Hydra says that there is one.

    Attributes:
        directory: the sweep's folder; None for a single run.
        runs: how many runs it has; 0 where that is not known, as for a single run.
    """

    def __init__(self) -> None:
        self.directory: Path | None = None
        self.runs = 0
        self._mlflow: DictConfig | None = None
        self._new = False

    def open(
        self, directory: Path, command: list[str], mlflow: DictConfig, choices: Mapping[str, str] | None = None
    ) -> None:
        """Make the sweep's folder and its MLflow run, or go on with those that are there.

        Args:
            directory: of the sweep.
            command: the options that decide which runs it has and how they are numbered.
            mlflow: section `mlflow` of the configuration.
            choices: of the configuration's groups, such as `policy`, where they do not vary.

        Raises:
            UserError: the folder is no place for a sweep, or holds the runs of another command; the store cannot be
                opened.
        """
        check_place(directory)
        directory.mkdir(parents=True, exist_ok=True)
        store = _store(mlflow)
        with file_lock(directory / f"{SWEEP_FILE}.lock"):
            known = read_sweep(directory)
            if known and known["command"] != command:
                raise UserError(
                    f"sweep '{directory}' was made by another command ({' '.join(known['command'])}), whose runs would "
                    "be mixed with these: choose another sweep.name, or remove the folder"
                )
            run_id = str(known.get("run_id", ""))
            self._new = not known
            if known.get("store") != store.name or not store.reopen(run_id):
                tags = {"sweep": str(directory)} | sweep_tags(command, choices or {})
                run_id = store.create_parent(sweep_title(directory.name, command), tags)
            write_json(directory / SWEEP_FILE, known | {"command": command, "run_id": run_id, "store": store.name})
        self.directory, self._mlflow = directory, mlflow

    def count_runs(self, runs: int) -> None:
        """Note how many runs the sweep has, also in its folder, so that reports see how many have not been made."""
        self.runs = runs
        if self.directory is not None:
            with file_lock(self.directory / f"{SWEEP_FILE}.lock"):
                write_json(self.directory / SWEEP_FILE, read_sweep(self.directory) | {"runs": runs})

    def print_comparison(self) -> bool:
        """Print one table of all runs, nothing if none got far enough; returns whether any failed."""
        return print_comparison(self.directory) if self.directory else False

    def close(self, interrupted: bool, failed: bool) -> None:
        """End the sweep's MLflow run; remove that and the folder of a new sweep that was refused before its first run.

        Args:
            interrupted: whether the command was interrupted.
            failed: whether one of its runs failed.
        """
        if self.directory is None or self._mlflow is None:
            return
        run_id = str(read_sweep(self.directory).get("run_id", ""))
        if self._new and failed:
            remove_if_only(self.directory, (SWEEP_FILE, f"{SWEEP_FILE}.lock", "multirun.yaml"), Path.cwd())
        if not self.directory.exists():
            with suppress(UserError), storage_errors():
                _store(self._mlflow).delete(run_id)
            return
        summaries = read_summaries(self.directory)
        count = Counter(summary["status"] for summary in summaries)
        counts = {"runs_finished": count["FINISHED"], "runs_failed": count["FAILED"]}
        counts["runs_taken_over"] = sum(summary["skipped"] for summary in summaries)
        status = "KILLED" if interrupted else "FAILED" if failed else "FINISHED"
        with suppress(UserError), storage_errors():  # without the store the sweep's own results are still there
            store = _store(self._mlflow)
            note = sweep_note(summaries[:MAX_ROWS], store.experiment_id)
            store.end(run_id, status, {key: float(value) for key, value in counts.items()}, note)


_current: ContextVar[Sweep] = ContextVar("sweep")


@contextmanager
def current_sweep() -> Iterator[Sweep]:
    """The sweep of the command that runs in this block. Hydra makes its callbacks itself, so they find it here."""
    sweep = Sweep()
    token = _current.set(sweep)
    try:
        yield sweep
    finally:
        _current.reset(token)


def options_checked(batch: Sequence[Overrides], runs: int, check: Callable[[Overrides], None]) -> None:
    """Check the options of the current command's runs before the first of them, and show how far that is.

    Each value is checked once, in the first run that has it, as hundreds of runs would take minutes. That is enough:
    whether an option exists depends on the choice of the one group that it belongs to.

    Args:
        batch: the options of the runs to check, as `key=value`.
        runs: how many runs the whole sweep has.
        check: raises an exception for options of a run that cannot be composed.
    """
    from vitmalis_jobs.common.console import Terminal

    if sweep := _current.get(None):
        sweep.count_runs(runs)
    checked = runs_with_new_values(batch)
    with Terminal().progress(f"checking the options of {len(batch)} runs") as step:
        for done, overrides in enumerate(checked, start=1):
            check(overrides)
            step(done, len(checked))


def runs_with_new_values(batch: Iterable[Overrides]) -> list[Overrides]:
    """Those runs in which an option has a value that it has in no run before, in their order."""
    seen: set[str] = set()
    found = []
    for overrides in batch:
        if not seen.issuperset(overrides):
            found.append(overrides)
            seen.update(overrides)
    return found


def position_in_sweep(number: int) -> str:
    """Which run of the current command's sweep has this number from 0, such as `run 3 of 720`; empty if unknown."""
    sweep = _current.get(None)
    return f"run {number + 1} of {sweep.runs}" if sweep is not None and sweep.runs > 1 else ""


class SweepCallback(Callback):
    """Hydra's callback at the start of a sweep. The end is handled in `cli.py`, which also sees interruptions."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Open the sweep of the current command.

        Raises:
            SweepRefused: the folder belongs to another sweep, or the MLflow store cannot be opened.
        """
        try:
            check_name(str(config.sweep.name))
            with storage_errors():
                choices = config.hydra.runtime.choices
                _current.get().open(Path(config.hydra.sweep.dir), _command(config), config.mlflow, choices)
        except UserError as error:
            raise SweepRefused(error) from error
        if warning := side_by_side_warning(config.hydra.launcher, _clocks(config)):
            from vitmalis_jobs.common.console import Terminal

            Terminal().warn(warning)


def side_by_side_warning(launcher: Mapping[str, Any], clocks: str) -> str:
    """The warning for a launcher that makes runs side by side on one machine; empty for others.

    Args:
        launcher: section `hydra.launcher` of the configuration.
        clocks: names of the clocks that the runs have, with commas.
    """
    kind = str(launcher["_target_"]).rpartition(".")[2]
    if kind in _ONE_RUN_A_MACHINE or launcher.get("n_jobs") == 1 or "realtime" not in clocks.split(","):
        return ""
    return (
        "runs in real time side by side take each other's processor time, so that their latencies are too long; each "
        "measures that as load of other programs: make them one after the other (hydra/launcher=basic), or with "
        "clock=virtual, where they do not disturb each other"
    )


def run_directory(hydra: HydraConf) -> RunDirectory:
    """The folder of a run as Hydra has arranged it."""
    in_sweep = hydra.mode == RunMode.MULTIRUN
    return RunDirectory(
        path=Path(hydra.runtime.output_dir),
        sweep=Path(hydra.sweep.dir) if in_sweep else None,
        number=int(hydra.job.num) if in_sweep else 0,
        overrides=tuple(hydra.overrides.task),
    )


def print_comparison(sweep: Path) -> bool:
    """Print one table of all runs of a sweep, nothing if none got far enough; returns whether any failed."""
    summaries = read_summaries(sweep)
    if summaries:
        from vitmalis_jobs.common.console import Terminal

        if len(summaries) <= MAX_ROWS:
            Terminal().comparison(summaries, sweep)
        else:
            Terminal().tally(summaries, sweep)
    return any(summary["status"] == "FAILED" for summary in summaries)


def check_name(name: str) -> None:
    """Raise `UserError` for a sweep.name that leads out of the folder of sweeps or means another folder there."""
    parts = Path(name).parts
    if Path(name).is_absolute() or ".." in parts or not parts:
        raise UserError(f"sweep.name={name}: must be the name of a folder below runs/sweeps, without '..'")
    for part in parts:
        check_path_part("sweep.name", part)
    if taken := {"logs", ".hydra"} & set(parts):
        raise UserError(f"sweep.name={name}: '{taken.pop()}' is a folder inside of runs: choose another name")


def check_place(directory: Path) -> None:
    """Raise `UserError` for a folder inside that of a run."""
    for folder in (directory, *directory.absolute().parents):
        if (folder / RUN_FILE).exists():
            raise UserError(
                f"sweep '{directory}' would lie in the folder of a run, '{folder}': choose another sweep.name"
            )


def _clocks(config: DictConfig) -> str:
    """The clocks of a sweep's runs, with commas."""
    asked = [option.partition("=")[2] for option in _command(config) if option.startswith("clock=")]
    return asked[-1] if asked else str(config.clock.name)


def _command(config: DictConfig) -> list[str]:
    """The options that decide which runs a sweep has and how they are numbered."""
    params = [f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()]
    return params + [override for override in config.hydra.overrides.task if not override.startswith("sweep.")]


def _store(mlflow: DictConfig) -> Store:
    from vitmalis_jobs.common.mlflow_store import Store

    return Store(mlflow.tracking_uri, mlflow.experiment, Path(mlflow.artifact_dir))
