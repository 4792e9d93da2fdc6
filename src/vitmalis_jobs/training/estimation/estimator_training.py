"""One run of the estimator job: search, evaluation, export and report, target by target."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import msgspec
import optuna

from vitmalis.estimation.estimator_files import save_estimator
from vitmalis.estimation.estimators import KINDS, Target
from vitmalis.estimation.features import PAPER_ACCURACY_FEATURES
from vitmalis.estimation.latency import LatencyTables
from vitmalis.paths import atomic_path
from vitmalis.regions.grid import ModelGeometry
from vitmalis.virtual.testbed import paper_testbed
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.common.mlflow_run import Run
from vitmalis_jobs.training.estimation.baselines import fit_linear, fit_mean
from vitmalis_jobs.training.estimation.card import CARD_FILE, card, frame_counts, hyperparameter_line
from vitmalis_jobs.training.estimation.clip_tables import ClipRow, clip_tables, rows_by_clip, spread_metrics
from vitmalis_jobs.training.estimation.config import EstimatorTrainingConfig
from vitmalis_jobs.training.estimation.deviations import deviations
from vitmalis_jobs.training.estimation.error_tables import (
    SHORT,
    TableRow,
    as_frame,
    markdown,
    mlflow_metrics,
    scatter,
)
from vitmalis_jobs.training.estimation.mlp import MlpHyperparameters, fit_mlp
from vitmalis_jobs.training.estimation.regret import UPLINKS_MBPS, decision_regret
from vitmalis_jobs.training.estimation.sample_set import PROFILE, SampleSet, digest_of
from vitmalis_jobs.training.estimation.search import best_note, finished, search_mlp
from vitmalis_jobs.training.estimation.splits import (
    HELD_OUT_CLIPS,
    HELD_OUT_PARTS,
    PAPER_INPUTS,
    Fit,
    Split,
    SplitEvaluation,
    evaluate_split,
    make_splits,
)

log = logging.getLogger(__name__)

REGRET_FRAME = (960, 540)
"""(width, height) of the frames for whose regions the latencies behind decision regret are computed, pixels."""


@dataclass
class EstimatorTraining:
    """Trains, evaluates and exports the estimators of one detector.

    Attributes:
        config: of the job.
        model_id: the detector that the samples were made with.
        geometry: of its decision regions.
        run: MLflow run that metrics and artifacts go to.
        results: rows of the tables so far.
        clips: rows of the clips one by one so far, where they are wanted.
        pairs: estimates of the held-out parts so far, by target and kind.
        chosen: hyperparameters of the MLP of each target so far, and how they were found.
    """

    config: EstimatorTrainingConfig
    model_id: str
    geometry: ModelGeometry
    run: Run
    results: list[TableRow] = field(default_factory=list)
    clips: list[ClipRow] = field(default_factory=list)
    pairs: dict[tuple[Target, str], SplitEvaluation] = field(default_factory=dict)
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
        compared = dict(fits)
        if rows.target == "f1":
            compared[PAPER_INPUTS] = lambda known: fits["mlp"](known.with_features(PAPER_ACCURACY_FEATURES))
        self._export(rows, fits, self._evaluate(rows, compared))

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

    def _evaluate(self, rows: SampleSet, fits: dict[str, Fit]) -> dict[str, SplitEvaluation]:
        """Evaluate all splits; returns the estimates, by kind, from which the errors of the estimators are taken."""
        of_split: dict[str, dict[str, SplitEvaluation]] = {}
        for split in make_splits(rows, self.config.domains.walking, self.config.domains.other):
            log.info("evaluating %s: %s", SHORT[rows.target], split.title)
            of_split[split.name] = evaluate_split(rows, split, fits, self.config.search.seed)
            for kind, evaluation in of_split[split.name].items():
                self.results += self._table_rows(split, kind, evaluation)
                if split.name == HELD_OUT_CLIPS and self.config.held_out_clips.each:
                    self.clips += rows_by_clip(evaluation, partial(self._table_rows, split, kind))
        self.pairs |= {(rows.target, kind): evaluation for kind, evaluation in of_split[HELD_OUT_PARTS].items()}
        return of_split.get(HELD_OUT_CLIPS, of_split[HELD_OUT_PARTS])

    def _table_rows(self, split: Split, kind: str, evaluation: SplitEvaluation) -> Iterator[TableRow]:
        target = evaluation.rows.target
        if target == "payload_bytes":
            yield TableRow(split.name, split.title, target, kind, evaluation.metrics)
            return
        regret = decision_regret(evaluation.rows, evaluation.estimate, self._testbed)
        yield TableRow(split.name, split.title, target, kind, evaluation.metrics, regret)
        yield TableRow(split.name, split.title, "relative", kind, evaluation.relative_metrics)

    @cached_property
    def _testbed(self) -> LatencyTables:
        """Latencies of the decisions whose regret is reported."""
        grid, points = self.geometry.grid(*REGRET_FRAME), self.geometry.restoration_points
        return paper_testbed(self.model_id, self.config.model.name, grid, points)

    def _export(self, rows: SampleSet, fits: dict[str, Fit], unseen: dict[str, SplitEvaluation]) -> None:
        """Write the estimators trained on the profile parts of all clips, which are those of the held-out parts.

        Args:
            rows: samples of both parts.
            fits: kind of estimator to its training.
            unseen: kind to estimates of rows that were not learned from.
        """
        training = rows.select(rows.parts == PROFILE)
        for kind, fit in fits.items():
            provenance = {
                "made_by": "python -m training.estimators",
                "date": datetime.now(UTC).date().isoformat(),
                "seed": self.config.search.seed,
                "samples": {"rows": len(training), "digest": digest_of(training), "frames": frame_counts(rows)},
                "plan": dataclasses.asdict(self.chosen[rows.target][0]) if kind == "mlp" else {},
                "held_out_parts": dataclasses.asdict(self.pairs[rows.target, kind].metrics),
            }
            errors, spreads = deviations(unseen[kind].rows, unseen[kind].relative)
            about: dict[str, Any] = {"window": self.geometry.window, "downsampling_factor": self.geometry.factor}
            about |= {"provenance": provenance, "errors": errors, "spreads": spreads}
            estimator = msgspec.structs.replace(fit(training), **about)
            save_estimator(estimator, self.folder / f"{SHORT[rows.target]}_{kind}.json")

    def report(self, rows: SampleSet) -> str:
        """Write tables, plot and card, log them to MLflow, and return the tables.

        Args:
            rows: all samples, of any target.
        """
        order = list(dict.fromkeys(row.split for row in self.results))
        results = sorted(self.results, key=lambda row: order.index(row.split))
        tables, frame = markdown(results) + clip_tables(self.clips), as_frame(results)
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
        scatter(
            plot,
            {pair: found for pair, found in self.pairs.items() if pair[1] in KINDS},
            f"{self.config.model.name}: held-out parts",
        )
        self.run.log_artifact(plot)
        self.run.log_metrics(mlflow_metrics(results) | spread_metrics(self.clips))
        return tables

    def _facts(self) -> dict[str, Any]:
        """What the card says besides data and scores."""
        return {
            "model": self.config.model.name,
            "model_id": self.model_id,
            "date": datetime.now(UTC).date().isoformat(),
            "seed": self.config.search.seed,
            "uplinks": ", ".join(f"{uplink:g}" for uplink in UPLINKS_MBPS),
            "walking": ", ".join(f"`{name}`" for name in self.config.domains.walking),
            "other": ", ".join(f"`{name}`" for name in self.config.domains.other),
        }
