"""Train the estimators of payload size and accuracy: `python -m training.estimators` (conf/train_estimators.yaml).

Reads the samples of `python -m profiling.samples`, searches the MLPs with Optuna (a search that was ended goes on),
fits the paper's two alternatives, judges all on held-out samples (the paper's Table II) and exports them.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import msgspec
import optuna
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from vitmalis.detector import load_detector
from vitmalis.errors import UserError
from vitmalis.estimation.estimators import Target, save_estimator
from vitmalis.paths import atomic_path
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.common.mlflow_store import Run, Store
from vitmalis_jobs.training.estimation.baselines import fit_linear, fit_mean
from vitmalis_jobs.training.estimation.card import card, describe, frames
from vitmalis_jobs.training.estimation.mlp import MlpPlan, fit_mlp
from vitmalis_jobs.training.estimation.samples import PROFILE, SampleSet, digest_of, read_samples, sample_set
from vitmalis_jobs.training.estimation.search import FINISHED, SearchPlan, search_mlp
from vitmalis_jobs.training.estimation.splits import HELD_OUT, Fit, judge, splits
from vitmalis_jobs.training.estimation.tables import SHORT, Pairs, Result, as_frame, markdown, metrics, scatter

log = logging.getLogger(__name__)


@dataclass
class Training:
    """One run of the job.

    Attributes:
        config: of conf/train_estimators.yaml.
        plan: of the search.
        model_id: the detector whose samples are learned from.
        run: where metrics and artifacts go.
        folder: for tables and pictures, and for the study.
        results: what was judged so far.
    """

    config: DictConfig
    plan: SearchPlan
    model_id: str
    run: Run
    folder: Path
    results: list[Result] = field(default_factory=list)
    pairs: Pairs = field(default_factory=dict)
    plans: dict[Target, tuple[MlpPlan, str]] = field(default_factory=dict)

    def learn(self, rows: SampleSet) -> None:
        """Search, judge and export the estimators of one target."""
        learned = rows.select(rows.parts == PROFILE)
        short = SHORT[rows.target]
        with progress(f"{short}: trials", self.plan.trials) as tell:
            plan, study = search_mlp(learned, self.plan, self.folder, lambda study: tell(study))
        self._log_study(short, plan, study)
        how = (
            f"the best of {len(study.trials)} trials, error {study.best_value:.3f} of the offline mean's in validation"
        )
        self.plans[rows.target] = plan, how
        origin: dict[str, Any] = {"model": str(self.config.model), "model_id": self.model_id}
        fits: dict[str, Fit] = {
            "mlp": partial(fit_mlp, plan=plan, seed=self.plan.seed, **origin),
            "linear": partial(fit_linear, **origin),
            "mean": partial(fit_mean, **origin),
        }
        self._judge(rows, fits)
        self._export(rows, fits)

    def _judge(self, rows: SampleSet, fits: dict[str, Fit]) -> None:
        made = splits(rows, tuple(self.config.domains.walking), tuple(self.config.domains.other))
        for split in made:
            log.info("judging %s: %s", SHORT[rows.target], split.title)
            for kind, judged in judge(rows, split, fits, self.plan.seed).items():
                self.results.append(Result(split.name, split.title, rows.target, kind, judged.scores))
                if split.name == HELD_OUT and kind in fits:
                    self.pairs[rows.target, kind] = judged.truth, judged.estimate

    def _export(self, rows: SampleSet, fits: dict[str, Fit]) -> None:
        """Write the estimators that learned from the profile parts of all clips: those of the held-out parts."""
        learned = rows.select(rows.parts == PROFILE)
        for kind, fit in fits.items():
            held_out = next(r for r in self.results if (r.split, r.target, r.kind) == (HELD_OUT, rows.target, kind))
            plan = dataclasses.asdict(self.plans[rows.target][0]) if kind == "mlp" else {}
            provenance = {
                "made_by": "python -m training.estimators",
                "date": datetime.now(UTC).date().isoformat(),
                "seed": self.plan.seed,
                "samples": {"rows": len(learned), "digest": digest_of(learned), "frames": frames(rows)},
                "plan": plan,
                "held_out_parts": dataclasses.asdict(held_out.scores),
            }
            estimator = msgspec.structs.replace(fit(learned), provenance=provenance)
            save_estimator(estimator, Path(self.config.export.folder) / f"{SHORT[rows.target]}_{kind}.json")

    def _log_study(self, short: str, plan: MlpPlan, study: optuna.Study) -> None:
        self.run.log_params({f"{short}.{name}": value for name, value in dataclasses.asdict(plan).items()})
        finished = [trial for trial in study.trials if trial.value is not None]
        values = [float(trial.value) for trial in finished if trial.value is not None]
        self.run.log_curve(f"{short}_trial_error", [trial.number for trial in finished], values)
        log.info("%s: trial %d is best: %s", short, study.best_trial.number, describe(plan))

    def report(self, rows: SampleSet) -> str:
        """Write tables, picture and card, log them, and return the tables."""
        order = list(dict.fromkeys(result.split for result in self.results))
        results = sorted(self.results, key=lambda result: order.index(result.split))
        tables, frame = markdown(results), as_frame(results)
        facts = {
            "model": self.config.model,
            "model_id": self.model_id,
            "date": datetime.now(UTC).date().isoformat(),
            "seed": self.plan.seed,
            "walking": ", ".join(f"`{name}`" for name in self.config.domains.walking),
            "other": ", ".join(f"`{name}`" for name in self.config.domains.other),
        }
        texts = {
            self.folder / "tables.md": tables,
            self.folder / "tables.csv": frame.to_csv(index=False),
            self.folder / "tables.json": json.dumps(json.loads(frame.to_json(orient="records")), indent=1) + "\n",
            Path(self.config.export.folder) / "card.md": card(rows, self.plans, tables, facts),
        }
        for path, text in texts.items():
            with atomic_path(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
            self.run.log_artifact(path)
        picture = self.folder / "estimates.png"
        scatter(picture, self.pairs, f"{self.config.model}: held-out parts")
        self.run.log_artifact(picture)
        self.run.log_metrics(metrics(results))
        return tables


@contextmanager
def progress(title: str, total: int) -> Iterator[Any]:
    """A bar on standard error that follows a study; log lines where nobody watches."""
    console = Console(stderr=True)
    columns = (
        TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.fields[best]}"),
    )  # fmt: skip
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total, best="")

        def tell(study: optuna.Study) -> None:
            done = [trial for trial in study.trials if trial.state in FINISHED]
            values = [trial.value for trial in done if trial.state == optuna.trial.TrialState.COMPLETE]
            best = f"best {min(value for value in values if value is not None):.3f}" if values else ""
            bar.update(task, completed=len(done), best=best)
            if not console.is_terminal:
                log.info("%s %d/%d %s", title, len(done), total, best)

        yield tell


def samples_folder(config: DictConfig) -> tuple[Path, str]:
    """Folder of the samples, and the id of the model that they were made with: the folder's name.

    Raises:
        UserError: `samples.folder` is not given and the model cannot be loaded.
    """
    if config.samples.folder is not None:
        return Path(config.samples.folder), Path(config.samples.folder).name
    model_id = load_detector(config.model).model_id
    return Path("runs/profiling/samples") / model_id, model_id


def make_schedule(config: DictConfig) -> SearchPlan:
    """How long to search.

    Raises:
        UserError: a number that makes no sense.
    """
    values: Any = OmegaConf.to_container(config.search, resolve=True)
    values.pop("folder")
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return SearchPlan(**fields)


def run_training(config: DictConfig) -> str:
    """Train as configured; return the tables."""
    torch.set_num_threads(1)
    plan = make_schedule(config)
    folder, model_id = samples_folder(config)
    samples = read_samples(folder)
    store = Store(config.mlflow.tracking_uri, config.mlflow.experiment, Path(config.mlflow.artifact_dir))
    tags = {"job": "train_estimators", "model": str(config.model), "model_id": model_id}
    with store.run(f"estimators of {config.model}", tags) as run:
        run.log_params({f"search.{name}": value for name, value in dataclasses.asdict(plan).items()})
        training = Training(config, plan, model_id, run, Path(config.search.folder))
        targets: tuple[Target, ...] = ("payload_bytes", "f1")
        for target in targets:
            training.learn(sample_set(samples, target))
        return training.report(sample_set(samples, "f1"))


@hydra.main(version_base=None, config_path=str(conf_dir()), config_name="train_estimators")
def main(config: DictConfig) -> None:
    """Entry point."""
    try:
        print(run_training(config))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
