"""Search of architecture and training with Optuna (paper, section VI): resumable, pruned, seeded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState

from vitmalis.errors import UserError
from vitmalis_jobs.training.estimation.baselines import check_covered, fit_mean
from vitmalis_jobs.training.estimation.mlp import LOSSES, MlpPlan, fit_mlp
from vitmalis_jobs.training.estimation.samples import SampleSet, digest_of, time_folds
from vitmalis_jobs.training.estimation.scores import Scores

log = logging.getLogger(__name__)

PAPER_WIDTHS = (128, 64)
"""Hidden layers of the paper's MLPs: 128-64-1. Tried first."""

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_ORIGIN: dict[str, Any] = {"model": "", "model_id": ""}


@dataclass(frozen=True)
class SearchPlan:
    """How long and where to search.

    Attributes:
        trials: how many in all, over all sittings.
        timeout_s: of one sitting and target; None for no limit. A trial that has begun is finished.
        folds: consecutive blocks of each clip's frames, each validated on once.
        widths: choices for a hidden layer.
        layers: fewest and most hidden layers.
        epochs: fewest and most passes.
        seed: of sampler, initial weights and batches.
    """

    trials: int = 40
    timeout_s: float | None = None
    folds: int = 3
    widths: tuple[int, ...] = (32, 64, 128, 256)
    layers: tuple[int, int] = (1, 3)
    epochs: tuple[int, int] = (30, 200)
    seed: int = 1906

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UserError(f"search.trials={self.trials}: give at least 1")
        for name in ("layers", "epochs"):
            low, high = getattr(self, name)
            if not 1 <= low <= high:
                raise UserError(f"search.{name}={[low, high]}: give the fewest (at least 1) and the most")


def search_mlp(
    rows: SampleSet, plan: SearchPlan, folder: Path, after_trial: Callable[[optuna.Study], None] = lambda _: None
) -> tuple[MlpPlan, optuna.Study]:
    """Find a plan that estimates unseen stretches of the clips well.

    The study lies in `folder/study.db` and is named after target, samples and folds: started again, it goes on with
    the trials that are left; other samples begin another one.

    Args:
        rows: samples for training; folds of them validate.
        plan: how long and where.
        folder: of the study.
        after_trial: called after every trial, for a progress bar.

    Returns:
        The best plan, and the study.

    Raises:
        UserError: another process searches in this folder, no trial was completed, or the samples are too few.
    """
    for mask in time_folds(rows, plan.folds):
        check_covered(rows.select(~mask), rows.select(mask))
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "study.lock", timeout=0)
    try:
        with lock:
            study = _opened(rows, plan, folder)
            left = plan.trials - sum(trial.state in FINISHED for trial in study.trials)
            after_trial(study)
            if left > 0:
                study.optimize(
                    lambda trial: _objective(trial, rows, plan), left, plan.timeout_s,
                    callbacks=[lambda study, _: after_trial(study)],
                )  # fmt: skip
    except Timeout as error:
        raise UserError(
            f"{folder}: another process searches here; wait for it or give another search.folder"
        ) from error
    if not any(trial.state == TrialState.COMPLETE for trial in study.trials):
        raise UserError(f"no trial for {rows.target} was completed in time: raise search.timeout_s")
    return planned(study.best_trial, rows), study


def _opened(rows: SampleSet, plan: SearchPlan, folder: Path) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{folder / 'study.db'}"
    name = f"{rows.target}-{digest_of(rows)}-{plan.folds}-{plan.seed}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0)
    study = optuna.create_study(storage=storage, study_name=name, pruner=pruner, load_if_exists=True)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # of a process that was killed: we hold the lock
        study.tell(trial.number, state=TrialState.FAIL)
    # A sampler that starts anew would draw its first trials a second time: the seed moves on with the trials.
    study.sampler = optuna.samplers.TPESampler(seed=plan.seed + len(study.trials))
    paper = _paper_trial(plan)
    known = (*FINISHED, TrialState.WAITING)
    if not any(trial.state in known and trial.user_attrs.get("paper") for trial in study.trials):
        study.enqueue_trial(paper, user_attrs={"paper": True})
    return study


def _paper_trial(plan: SearchPlan) -> dict[str, Any]:
    """The paper's architecture with the trainer's defaults, as far as the space has them."""
    default = MlpPlan()
    widths = {f"width_{layer + 1}": width for layer, width in enumerate(PAPER_WIDTHS)}
    epochs = int(np.clip(default.epochs, *plan.epochs))
    names = ("learning_rate", "weight_decay", "batch", "dropout", "input_noise", "loss")
    return {"layers": 2, **widths, "epochs": epochs, "log_target": True, **{n: getattr(default, n) for n in names}}


def _suggested(trial: Trial, rows: SampleSet, plan: SearchPlan) -> MlpPlan:
    layers = trial.suggest_int("layers", *plan.layers)
    for layer in range(layers):
        trial.suggest_categorical(f"width_{layer + 1}", plan.widths)
    trial.suggest_float("learning_rate", 5e-4, 2e-2, log=True)
    trial.suggest_float("weight_decay", 1e-6, 0.1, log=True)
    trial.suggest_int("epochs", *plan.epochs, log=True)
    trial.suggest_categorical("batch", (128, 256, 512, 1024))
    trial.suggest_float("dropout", 0.0, 0.2)
    trial.suggest_float("input_noise", 0.0, 0.2)
    trial.suggest_categorical("loss", tuple(LOSSES))
    if rows.target == "payload_bytes":
        trial.suggest_categorical("log_target", (True, False))
    return planned(trial, rows)


def planned(trial: Trial | FrozenTrial, rows: SampleSet) -> MlpPlan:
    """What a trial's parameters mean."""
    values = dict(trial.params)
    widths = tuple(values.pop(f"width_{layer + 1}") for layer in range(values.pop("layers")))
    return MlpPlan(widths=widths, **values)


def _objective(trial: Trial, rows: SampleSet, plan: SearchPlan) -> float:
    """Mean over the folds of the error relative to the offline mean's; below 1 is better than it."""
    mlp = _suggested(trial, rows, plan)
    ratios: list[float] = []
    for fold, mask in enumerate(time_folds(rows, plan.folds)):
        learned, held = rows.select(~mask), rows.select(mask)
        estimator = fit_mlp(learned, mlp, plan.seed + fold, **_ORIGIN)
        own = Scores.of(held.values, estimator.predict(held.features))
        mean = Scores.of(held.values, fit_mean(learned, **_ORIGIN).predict(held.features))
        ratios.append(_relative(own, mean, rows.target))
        trial.report(float(np.mean(ratios)), fold)
        if fold + 1 < plan.folds and trial.should_prune():
            raise optuna.TrialPruned
    return float(np.mean(ratios))


def _relative(own: Scores, other: Scores, target: str) -> float:
    """Mean ratio of MAE and RMSE, and for the size of MAPE: an F1 near 0 makes a MAPE of noise."""
    names = ("mae", "rmse", "mape") if target == "payload_bytes" else ("mae", "rmse")
    return float(np.mean([getattr(own, name) / getattr(other, name) for name in names]))
