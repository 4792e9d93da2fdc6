"""Hyperparameter search of an MLP with Optuna (paper, section VI): resumable, pruned and seeded."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import Timeout
from optuna.trial import FrozenTrial, Trial, TrialState

from vitmalis.errors import UserError
from vitmalis.estimation.estimators import AnyEstimator, Target
from vitmalis.locks import file_lock
from vitmalis.paths import share_with_group
from vitmalis_jobs.training.estimation.baselines import check_covered, fit_mean
from vitmalis_jobs.training.estimation.config import SearchOptions
from vitmalis_jobs.training.estimation.mlp import TARGET_LOSSES, MlpHyperparameters, fit_mlp
from vitmalis_jobs.training.estimation.regression_metrics import RegressionMetrics
from vitmalis_jobs.training.estimation.sample_set import SampleSet, clip_folds, digest_of

log = logging.getLogger(__name__)

FIRST_WIDTHS = ((128, 64), (16,))
"""Hidden layers of the first trials: the paper's 128-64-1, and a small MLP, as the samples of one F1 are few."""

ERRORS: dict[Target, tuple[str, ...]] = {"payload_bytes": ("mae", "rmse", "mape"), "f1": ("rmse",)}
"""Errors whose mean a trial is scored by. Of the F1 only the squared one: the absolute error is least at the median."""

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""States of the trials that count."""
_ORIGIN: dict[str, Any] = {"model": "", "model_id": ""}


def search_mlp(
    rows: SampleSet, options: SearchOptions, after_trial: Callable[[optuna.Study], None] = lambda _: None
) -> tuple[MlpHyperparameters, optuna.Study]:
    """Search the hyperparameters that estimate unseen clips best.

    The study lies in `search.folder` and is named after target, samples, folds and seed: started again, it continues
    with the trials that are left; other samples begin another study.

    Args:
        rows: training samples; folds of them validate.
        options: of the search.
        after_trial: called before the first and after every trial.

    Returns:
        The best hyperparameters, and the study.

    Raises:
        UserError: another process searches in this folder, no trial was completed, or the samples are too few.
    """
    for mask in clip_folds(rows, options.folds):
        check_covered(rows.select(~mask), rows.select(mask))
    folder = Path(options.folder)
    try:
        with file_lock(folder / "study.lock", timeout=0):
            study = _open_study(rows, options)
            share_with_group(folder / "study.db")
            left = options.trials - finished(study)
            after_trial(study)
            if left > 0:
                study.optimize(
                    lambda trial: _objective(trial, rows, options), left, options.timeout_s,
                    callbacks=[lambda study, _: after_trial(study)],
                )  # fmt: skip
    except Timeout as error:
        raise UserError(
            f"{folder}: another process searches here; wait for it or give another search.folder"
        ) from error
    if not any(trial.state == TrialState.COMPLETE for trial in study.trials):
        raise UserError(f"no trial for {rows.target} was completed in time: raise search.timeout_s")
    return hyperparameters_of(study.best_trial), study


def finished(study: optuna.Study) -> int:
    """Number of the trials of a study that count."""
    return sum(trial.state in FINISHED for trial in study.trials)


def best_note(study: optuna.Study) -> str:
    """The lowest error so far, as a note of a progress bar; empty before the first complete trial."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    errors = [trial.value for trial in complete if trial.value is not None]
    return f"best {min(errors):.3f}" if errors else ""


def _open_study(rows: SampleSet, options: SearchOptions) -> optuna.Study:
    """Create or reopen the study of these samples; its first trials are `FIRST_WIDTHS`, where the space has them."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{Path(options.folder) / 'study.db'}"
    clips = sorted(set(rows.clips.tolist()))
    data = f"{rows.frames}_frames_of_{len(clips)}_clips-{digest_of(rows)}"
    name = f"{rows.target}-{data}-{options.folds}_folds-seed_{options.seed}"
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=0)
    study = optuna.create_study(storage=storage, study_name=name, pruner=pruner, load_if_exists=True)
    _describe(study, rows, clips)
    for trial in study.get_trials(states=(TrialState.RUNNING,)):  # of a killed process, as we hold the lock
        study.tell(trial.number, state=TrialState.FAIL)
    # A sampler with the same seed would draw its first trials again, so the seed grows with the trials.
    study.sampler = optuna.samplers.TPESampler(seed=options.seed + len(study.trials))
    known = [t.user_attrs.get("first") for t in study.trials if t.state in (*FINISHED, TrialState.WAITING)]
    for widths in FIRST_WIDTHS:
        within = set(widths) <= set(options.widths) and options.layers[0] <= len(widths) <= options.layers[1]
        if within and list(widths) not in known:
            study.enqueue_trial(_first_trial(options, widths), user_attrs={"first": widths})
    return study


def _describe(study: optuna.Study, rows: SampleSet, clips: list[str]) -> None:
    """Note what the study's axis and samples are, as optuna-dashboard shows them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([f"error of {rows.target} / offline mean's"])
    for fact, value in (("frames", rows.frames), ("rows", len(rows)), ("clips", clips)):
        study.set_user_attr(fact, value)


def _first_trial(options: SearchOptions, widths: tuple[int, ...]) -> dict[str, Any]:
    """An architecture with the default training, within the search space."""
    default = MlpHyperparameters()
    layers = {"layers": len(widths)} | {f"width_{layer + 1}": width for layer, width in enumerate(widths)}
    epochs = int(np.clip(default.epochs, *options.epochs))
    names = ("learning_rate", "weight_decay", "batch", "dropout", "input_noise", "loss")
    return {**layers, "epochs": epochs, "log_target": True, **{n: getattr(default, n) for n in names}}


def _suggested(trial: Trial, rows: SampleSet, options: SearchOptions) -> MlpHyperparameters:
    """Draw hyperparameters from the search space."""
    layers = trial.suggest_int("layers", *options.layers)
    for layer in range(layers):
        trial.suggest_categorical(f"width_{layer + 1}", options.widths)
    trial.suggest_float("learning_rate", 5e-4, 2e-2, log=True)
    trial.suggest_float("weight_decay", 1e-6, 0.1, log=True)
    trial.suggest_int("epochs", *options.epochs, log=True)
    trial.suggest_categorical("batch", (128, 256, 512, 1024))
    trial.suggest_float("dropout", 0.0, 0.2)
    trial.suggest_float("input_noise", 0.0, 0.2)
    trial.suggest_categorical("loss", TARGET_LOSSES[rows.target])
    if rows.target == "payload_bytes":
        trial.suggest_categorical("log_target", (True, False))
    return hyperparameters_of(trial)


def hyperparameters_of(trial: Trial | FrozenTrial) -> MlpHyperparameters:
    """Hyperparameters of a trial, whose layers have parameters of their own."""
    values = dict(trial.params)
    widths = tuple(values.pop(f"width_{layer + 1}") for layer in range(values.pop("layers")))
    return MlpHyperparameters(widths=widths, **values)


def _objective(trial: Trial, rows: SampleSet, options: SearchOptions) -> float:
    """Mean over the folds of the error relative to the offline mean's; below 1 is better than the offline mean."""
    mlp = _suggested(trial, rows, options)
    ratios: list[float] = []
    errors: list[RegressionMetrics] = []
    for fold, mask in enumerate(clip_folds(rows, options.folds)):
        training, validation = rows.select(~mask), rows.select(mask)
        own = _metrics(validation, fit_mlp(training, mlp, options.seed + fold, **_ORIGIN))
        base = _metrics(validation, fit_mean(training, **_ORIGIN))
        ratios.append(float(np.mean([getattr(own, name) / getattr(base, name) for name in ERRORS[rows.target]])))
        errors.append(own)
        trial.report(float(np.mean(ratios)), fold)
        if fold + 1 < options.folds and trial.should_prune():
            raise optuna.TrialPruned
    for name in ("mae", "rmse", "mape", "r2"):
        mean = float(np.mean([getattr(own, name) for own in errors]))
        if np.isfinite(mean):  # JSON has no word for others
            trial.set_user_attr(name, mean)
    return float(np.mean(ratios))


def _metrics(rows: SampleSet, estimator: AnyEstimator) -> RegressionMetrics:
    """Errors of the differences that a choice is made by."""
    return RegressionMetrics.of(rows.relative, rows.relative_estimate(estimator), rows.weights)
