"""One run of the estimator job: search, evaluation, export and report, target by target."""

from __future__ import annotations

import dataclasses
import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import optuna

from vitmalis.estimation.estimators import Target, save_estimator
from vitmalis.paths import atomic_path
from vitmalis.regions.grid import ModelGeometry
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.training.estimation.baselines import fit_linear, fit_mean
from vitmalis_jobs.training.estimation.card import CARD_FILE, card, frame_counts, hyperparameter_line
from vitmalis_jobs.training.estimation.config import EstimatorTrainingConfig
from vitmalis_jobs.training.estimation.error_tables import (
    SHORT,
    Pairs,
    TableRow,
    as_frame,
    markdown,
    mlflow_metrics,
    scatter,
)
from vitmalis_jobs.training.estimation.mlp import MlpHyperparameters, fit_mlp
from vitmalis_jobs.training.estimation.sample_set import PROFILE, SampleSet, digest_of
from vitmalis_jobs.training.estimation.search import best_note, finished, search_mlp
from vitmalis_jobs.training.estimation.splits import HELD_OUT_PARTS, Fit, evaluate_split, make_splits

log = logging.getLogger(__name__)


@dataclass
class EstimatorTraining:
    """Trains, evaluates and exports the estimators of one detector.

    Attributes:
        config: of the job.
        model_id: the detector that the samples were made with.
        geometry: of its decision regions.
        run: MLflow run that metrics and artifacts go to.
        results: rows of the tables so far.
        pairs: truths and estimates of the held-out parts so far.
        chosen: hyperparameters of the MLP of each target so far, and how they were found.
    """

    config: EstimatorTrainingConfig
    model_id: str
    geometry: ModelGeometry
    run: Run
    results: list[TableRow] = field(default_factory=list)
    pairs: Pairs = field(default_factory=dict)
    chosen: dict[Target, tuple[MlpHyperparameters, str]] = field(default_factory=dict)

    def train(self, rows: SampleSet) -> None:
        """Search, evaluate and export the estimators of one target.

        Args:
            rows: samples of both parts.
        """
        hyperparameters = self._search(rows.select(rows.parts == PROFILE))
        origin: dict[str, Any] = {"model": self.config.model.name, "model_id": self.model_id}
        fits: dict[str, Fit] = {
            "mlp": partial(fit_mlp, hyperparameters=hyperparameters, seed=self.config.search.seed, **origin),
            "linear": partial(fit_linear, **origin),
            "mean": partial(fit_mean, **origin),
        }
        self._evaluate(rows, fits)
        self._export(rows, fits)

    @property
    def folder(self) -> Path:
        """The folder that estimators are exported to; its name says which regions, unless they are the model's own."""
        folder, model = Path(self.config.export.folder), self.config.model
        if model.window is None and model.downsampling_factor == 2:
            return folder
        return folder.with_name(f"{folder.name}-w{self.geometry.window}-d{self.geometry.factor}")

    def _search(self, rows: SampleSet) -> MlpHyperparameters:
        trials = self.config.search.trials
        with Terminal.on_stderr().progress(f"{SHORT[rows.target]}: trials") as step:
            hyperparameters, study = search_mlp(
                rows, self.config.search, lambda study: step(finished(study), trials, best_note(study))
            )
        self._log_study(SHORT[rows.target], hyperparameters, study)
        how = (
            f"the best of {len(study.trials)} trials, error {study.best_value:.3f} of the offline mean's in validation"
        )
        self.chosen[rows.target] = hyperparameters, how
        return hyperparameters

    def _log_study(self, short: str, hyperparameters: MlpHyperparameters, study: optuna.Study) -> None:
        self.run.log_params({f"{short}.{name}": value for name, value in dataclasses.asdict(hyperparameters).items()})
        errors = {trial.number: float(trial.value) for trial in study.trials if trial.value is not None}
        self.run.log_curve(f"search/{short}_trial_error", list(errors), list(errors.values()))
        log.info("%s: trial %d is best: %s", short, study.best_trial.number, hyperparameter_line(hyperparameters))

    def _evaluate(self, rows: SampleSet, fits: dict[str, Fit]) -> None:
        for split in make_splits(rows, self.config.domains.walking, self.config.domains.other):
            log.info("evaluating %s: %s", SHORT[rows.target], split.title)
            for kind, evaluation in evaluate_split(rows, split, fits, self.config.search.seed).items():
                self.results.append(TableRow(split.name, split.title, rows.target, kind, evaluation.metrics))
                if split.name == HELD_OUT_PARTS and kind in fits:
                    self.pairs[rows.target, kind] = evaluation.truth, evaluation.estimate

    def _export(self, rows: SampleSet, fits: dict[str, Fit]) -> None:
        """Write the estimators trained on the profile parts of all clips, which are those of the held-out parts."""
        training = rows.select(rows.parts == PROFILE)
        for kind, fit in fits.items():
            (row,) = (r for r in self.results if (r.split, r.target, r.kind) == (HELD_OUT_PARTS, rows.target, kind))
            provenance = {
                "made_by": "python -m training.estimators",
                "date": datetime.now(UTC).date().isoformat(),
                "seed": self.config.search.seed,
                "samples": {"rows": len(training), "digest": digest_of(training), "frames": frame_counts(rows)},
                "plan": dataclasses.asdict(self.chosen[rows.target][0]) if kind == "mlp" else {},
                "held_out_parts": dataclasses.asdict(row.metrics),
            }
            regions = {"window": self.geometry.window, "downsampling_factor": self.geometry.factor}
            estimator = msgspec.structs.replace(fit(training), provenance=provenance, **regions)
            save_estimator(estimator, self.folder / f"{SHORT[rows.target]}_{kind}.json")

    def report(self, rows: SampleSet) -> str:
        """Write tables, plot and card, log them to MLflow, and return the tables.

        Args:
            rows: all samples, of any target.
        """
        order = list(dict.fromkeys(row.split for row in self.results))
        results = sorted(self.results, key=lambda row: order.index(row.split))
        tables, frame = markdown(results), as_frame(results)
        folder = Path(self.config.search.folder)
        texts = {
            folder / "tables.md": tables,
            folder / "tables.csv": frame.to_csv(index=False),
            folder / "tables.json": json.dumps(json.loads(frame.to_json(orient="records")), indent=1) + "\n",
            self.folder / CARD_FILE: card(rows, self.chosen, tables, self._facts()),
        }
        for path, text in texts.items():
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            self.run.log_artifact(path)
        plot = folder / "estimates.png"
        scatter(plot, self.pairs, f"{self.config.model.name}: held-out parts")
        self.run.log_artifact(plot)
        self.run.log_metrics(mlflow_metrics(results))
        return tables

    def _facts(self) -> dict[str, Any]:
        """What the card says besides data and scores."""
        return {
            "model": self.config.model.name,
            "model_id": self.model_id,
            "date": datetime.now(UTC).date().isoformat(),
            "seed": self.config.search.seed,
            "walking": ", ".join(f"`{name}`" for name in self.config.domains.walking),
            "other": ", ".join(f"`{name}`" for name in self.config.domains.other),
        }
