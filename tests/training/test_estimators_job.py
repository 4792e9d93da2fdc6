"""The whole estimator job on a small hand-made sample set; its tables against independent formulas."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from vitmalis.errors import UserError
from vitmalis.estimation import configuration_space, load_pair
from vitmalis.estimation.estimators import FEATURES
from vitmalis.regions.grid import RegionGrid
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.common.mlflow_store import Store
from vitmalis_jobs.training.estimation.config import EstimatorTrainingConfig
from vitmalis_jobs.training.estimation.sample_set import COLUMNS, FRAME, read_samples
from vitmalis_jobs.training.estimators import SHIPPED_SAMPLES, samples_folder, train_estimators

MODEL_ID = "abc123"


def composed(folder: Path | None = None, *overrides: str) -> EstimatorTrainingConfig:
    places = [] if folder is None else [
        f"samples.folder={folder / MODEL_ID}", f"search.folder={folder / 'search'}", f"export.folder={folder / 'out'}",
        f"mlflow.tracking_uri=sqlite:///{folder / 'mlflow.db'}", f"mlflow.artifact_dir={folder / 'artifacts'}",
    ]  # fmt: skip
    return checked(compose("train_estimators", [*places, *overrides]), EstimatorTrainingConfig)


SMALL = (
    "search.trials=2", "search.folds=2", "search.epochs=[2,4]", "search.widths=[8,64,128]", "held_out_clips.each=true",
)  # fmt: skip


def write_samples(folder: Path) -> pd.DataFrame:
    """Two walking clips and a driving one, three frames of each part, all 77 configurations."""
    random, space, regions = np.random.default_rng(7), configuration_space(), RegionGrid(960, 540, 5).shape
    tables = []
    for clip in ("walkA", "walkB", "driveA"):
        for part in ("profile", "eval"):
            for frame in range(3):
                motion, share, relevance = random.uniform(0.05, 0.5), random.uniform(0, 1), random.uniform(0, 0.4)
                moving = np.where(space.tau_d > 0, share, 0.0)
                objects, unsure = int(random.choice([10, 25, 40])), random.uniform(0.1, 0.5)
                found = np.round(objects * np.clip(1 - moving * relevance * (1 + space.restoration_point), 0, 1))
                columns = {
                    "clip": clip, "part": part, "moments": "tracked", "frame_index": frame,
                    "tau_d": space.tau_d, "quality": space.quality,
                    "restoration_point": space.restoration_point, "downsampled_regions": 8 * space.tau_d,
                    "downsampled_motion": moving, "frame_motion": motion, "relevance_mean": relevance,
                    "relevance_std": relevance / 2, "f1": found / objects,
                    "uncertainty": unsure, "downsampled_uncertainty": unsure / 3 * (space.tau_d > 0),
                    "tp": found.astype(int), "fp": (objects - found).astype(int), "fn": (objects - found).astype(int),
                    "payload_bytes": (3e4 * np.exp(motion + space.quality / 40 - moving)).astype(int),
                }  # fmt: skip
                tables.append(pd.DataFrame({**columns, "regions": int(np.prod(regions))}))
    samples = pd.concat(tables, ignore_index=True)
    folder.mkdir(parents=True)
    for clip, table in samples.groupby("clip"):
        table.to_parquet(folder / f"{clip}.parquet")
    assert set(COLUMNS) <= set(samples)
    return samples


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, str]:
    folder = tmp_path_factory.mktemp("estimators")
    samples = write_samples(folder / MODEL_ID)
    threads = torch.get_num_threads()
    tables = train_estimators(composed(folder, *SMALL))
    torch.set_num_threads(threads)
    return folder, samples, tables


def five(truth: np.ndarray, estimate: np.ndarray, weights: np.ndarray) -> tuple[float, float, float, float, float]:
    """MAE, RMSE, MAPE, R2 and bias, computed another way: samples with integer weights as often as they count."""
    truth, estimate = np.repeat(truth, weights), np.repeat(estimate, weights)
    gap, positive = estimate - truth, truth != 0
    relative = np.abs(gap[positive] / truth[positive])
    return (
        float(np.mean(np.abs(gap))),
        float(np.std(gap - gap.mean()) ** 2 + gap.mean() ** 2) ** 0.5,
        (100 * float(relative.mean())),
        1 - float(np.mean(gap**2) / np.var(truth)),
        float(gap.mean()),
    )


METRICS = ["mae", "rmse", "mape", "r2", "bias"]


def boxes(samples: pd.DataFrame) -> np.ndarray:
    return (2 * samples["tp"] + samples["fp"] + samples["fn"]).to_numpy()


def test_the_offline_mean_in_every_table(ran: tuple[Path, pd.DataFrame, str]) -> None:
    folder, samples, _ = ran
    table = pd.read_csv(folder / "search" / "tables.csv").set_index(["split", "target", "kind"])
    walking = samples["clip"].str.startswith("walk")
    profile, held_out = samples["part"] == "profile", samples["part"] == "eval"
    expected = {
        "held_out_parts": (profile, held_out),
        "walking_to_walking": (profile & walking, held_out & walking),
        "walking_to_other": (profile & walking, held_out & ~walking),
        "all_to_other": (profile, held_out & ~walking),
    }
    assert set(table.index.get_level_values("split")) == {*expected, "held_out_clips"}
    key = ["tau_d", "quality"]
    sizes = samples[samples["restoration_point"] == 0]
    for split, (training, evaluation) in expected.items():
        means = sizes[training[sizes.index]].groupby(key)["payload_bytes"].mean().rename("estimate")
        joined = sizes[evaluation[sizes.index]].join(means, on=key)
        row = table.loc[(split, "size", "mean")]
        truth, estimate = joined["payload_bytes"].to_numpy() / 1024, joined["estimate"].to_numpy() / 1024
        assert tuple(row[METRICS]) == pytest.approx(five(truth, estimate, np.ones(len(truth), int)))
        assert row["samples"] == len(joined)
        assert table.loc[(split, "accuracy", "mean"), "samples"] == evaluation.sum()
        assert 0 <= table.loc[(split, "accuracy", "mean"), "regret"] < 0.5


def test_the_inputs_of_the_paper_are_compared_and_not_exported(ran: tuple[Path, pd.DataFrame, str]) -> None:
    folder, _, tables = ran
    assert "| MLP, the paper's inputs | Accuracy (F1) |" in tables
    assert "| MLP, the paper's inputs | Size (KiB) |" not in tables
    rmse = pd.read_csv(folder / "search" / "tables.csv").set_index(["split", "target", "kind"])["rmse"]
    assert rmse["held_out_parts", "accuracy", "mlp"] != rmse["held_out_parts", "accuracy", "mlp_paper"]
    assert {path.stem for path in (folder / "out").glob("accuracy_*.json")} == {
        "accuracy_mlp", "accuracy_linear", "accuracy_mean",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["mlp", "linear", "mean"])
def test_exported_estimators_are_those_of_the_table(ran: tuple[Path, pd.DataFrame, str], kind: str) -> None:
    folder, samples, _ = ran
    pair = load_pair("vitdet_tiny", kind, folder / "out")
    rows = json.loads((folder / "search" / "tables.json").read_text())
    held = samples[samples["part"] == "eval"]
    for short, estimator, unit in (("size", pair.size, 1024), ("accuracy", pair.accuracy, 1)):
        used = held[(held["restoration_point"] == 0)] if short == "size" else held
        estimate = estimator.predict(used[list(FEATURES[estimator.target])].to_numpy(float))
        weights = np.ones(len(used), int) if short == "size" else boxes(used)
        expected = five(used[estimator.target].to_numpy(float) / unit, estimate / unit, weights)
        (row,) = [r for r in rows if (r["split"], r["target"], r["kind"]) == ("held_out_parts", short, kind)]
        assert [row[name] for name in METRICS] == pytest.approx(expected)
        assert estimator.errors is not None
        assert estimator.spreads is not None
        assert estimator.spread(used[list(FEATURES[estimator.target])].to_numpy(float)).max() > 0
        assert estimator.provenance["samples"]["frames"] == {
            clip: {"profile": 3, "eval": 3} for clip in ("driveA", "walkA", "walkB")
        }
        assert str(folder) not in json.dumps(estimator.provenance)


def test_metrics_artifacts_and_files(ran: tuple[Path, pd.DataFrame, str]) -> None:
    folder, _, tables = ran
    store = Store(f"sqlite:///{folder / 'mlflow.db'}", "training", folder / "artifacts")
    run = store.client.search_runs([store.experiment_id])[-1]
    assert run.info.status == "FINISHED"
    assert run.data.tags["model_id"] == MODEL_ID
    row = next(r for r in json.loads((folder / "search" / "tables.json").read_text()) if r["target"] == "size")
    assert run.data.metrics[f"{row['split']}/size_{row['kind']}_mae_kib"] == pytest.approx(row["mae"])
    artifacts = {entry.path for entry in store.client.list_artifacts(run.info.run_id)}
    assert artifacts == {"tables.md", "tables.csv", "tables.json", "estimates.png", "card.md"}
    card = (folder / "out" / "card.md").read_text()
    assert tables in card
    assert "| walkA | 3 | 3 |" in card
    assert "### Walking to driving and cycling" in card
    assert len(list((folder / "out").iterdir())) == 7


def test_started_again_it_searches_no_further_and_returns_the_same_tables(ran: tuple[Path, pd.DataFrame, str]) -> None:
    folder, _, before = ran
    assert train_estimators(composed(folder, *SMALL)) == before
    studies = optuna.get_all_study_summaries(f"sqlite:///{folder / 'search' / 'study.db'}")
    assert sorted(study.study_name.split("-")[0] for study in studies) == ["f1", "payload_bytes"]
    assert [study.n_trials for study in studies] == [2, 2]


def test_the_shipped_configuration() -> None:
    config = composed()
    assert (config.search.trials, config.search.epochs, config.search.timeout_s) == (40, (30, 200), None)
    assert {128, 64} <= set(config.search.widths)
    assert config.export.folder == config.search.folder == "runs/training/estimators/vitdet_tiny"
    assert samples_folder(composed(Path("x")))[1] == MODEL_ID


def test_the_shipped_samples_are_of_both_parts_of_the_embedded_clips() -> None:
    folder, model_id = samples_folder(composed(None, "samples.folder=shipped"))
    samples = read_samples(folder)
    assert (folder.name, model_id) == (SHIPPED_SAMPLES.name, "96192a333d71")
    assert set(samples["clip"]) == {"market1906", "walkS", "walkB", "walkR", "driveN", "cycleS"}
    assert len(samples.drop_duplicates(FRAME)) == 336
    assert (samples.groupby("clip")["part"].nunique() == 2).all()
    with pytest.raises(UserError, match=r"samples\.folder=shipped: these are of vitdet_tiny, not of vitdet_b"):
        samples_folder(composed(None, "samples.folder=shipped", "model=vitdet_b"))


def test_another_model_has_its_own_folders() -> None:
    config = composed(None, "model=vitdet_b")
    assert config.model.name == "vitdet_b"
    assert config.export.folder == config.search.folder == "runs/training/estimators/vitdet_b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.trials=0", r"search\.trials=0: expected `int` >= 1"),
        ("search.layers=[2,1]", r"search\.layers=\[2, 1\]: give the fewest \(at least 1\) and the most"),
        ("search.epochs=[0,5]", r"search\.epochs=\[0, 5\]: give the fewest"),
        ("search.folds=1", r"search\.folds=1: expected `int` >= 2"),
        ("search.widths=[]", r"search\.widths=\[\]"),
        ("search.seed=x", r"search\.seed=x: expected `int`, got `str`"),
        ("domains.walking=walk*", r"domains\.walking=walk\*: expected `array`"),
        ("+search.trails=3", r"search: object contains unknown field `trails`"),
        ("samples.folder=[a]", r"samples\.folder=\['a'\]: expected `str \| null`"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        composed(None, override)
    assert "\n" not in str(caught.value)


def test_every_clip_is_left_out_in_turn_and_printed_with_the_spread(ran: tuple[Path, pd.DataFrame, str]) -> None:
    folder, samples, tables = ran
    _, _, own = tables.partition("### Held-out clips, one by one: Size (KiB)")
    lines = {line.split(" | ")[0].strip("| "): line for line in own.partition("###")[0].splitlines() if "|" in line}
    assert set(lines) == {"Clip", "---", "driveA", "walkA", "walkB", "mean", "deviation"}
    sizes = samples[samples["restoration_point"] == 0]
    others = sizes[(sizes["clip"] != "walkA") & (sizes["part"] == "profile")]
    estimate = others.groupby(["tau_d", "quality"])["payload_bytes"].mean().rename("estimate")
    left_out = sizes[sizes["clip"] == "walkA"].join(estimate, on=["tau_d", "quality"])
    rmse_kib = float(np.sqrt(((left_out["estimate"] - left_out["payload_bytes"]) ** 2).mean())) / 1024
    heads = [cell.strip() for cell in lines["Clip"].split("|")]
    cells = [cell.strip() for cell in lines["walkA"].split("|")]
    assert float(cells[heads.index("RMSE, Offline mean")]) == pytest.approx(rmse_kib, abs=0.006)
    assert "### Held-out clips, one by one: Accuracy (F1)" in tables
    assert tables in (folder / "out" / "card.md").read_text()
