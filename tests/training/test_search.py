from __future__ import annotations

from pathlib import Path

import msgspec
import optuna
import pandas as pd
import pytest

from vitmalis.errors import UserError
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.estimation.baselines import check_covered
from vitmalis_jobs.training.estimation.config import EstimatorTrainingConfig, SearchOptions
from vitmalis_jobs.training.estimation.sample_set import PROFILE, sample_set
from vitmalis_jobs.training.estimation.search import search_mlp


def small_search(folder: Path, **changes: object) -> SearchOptions:
    overrides = ["search.trials=3", "search.folds=2", "search.epochs=[1,2]", "search.widths=[8,64,128]"]
    config = checked(compose("train_estimators", [*overrides, f"search.folder={folder}"]), EstimatorTrainingConfig)
    return msgspec.structs.replace(config.search, **changes)


def test_too_few_samples_are_an_error_before_the_search(samples: pd.DataFrame, tmp_path: Path) -> None:
    rows = sample_set(samples[(samples["clip"] == "walkA") | (samples["tau_d"] == 0)], "f1")
    with pytest.raises(
        UserError, match=r"4 configurations such as tau_d=2, quality=70, restoration_point=0 are in none"
    ):
        search_mlp(rows, small_search(tmp_path))
    with pytest.raises(UserError, match="in none of the 24 frames"):
        check_covered(rows.select(rows.clips != "walkA"), rows)


def test_a_killed_search_continues(samples: pd.DataFrame, tmp_path: Path) -> None:
    rows = sample_set(samples, "payload_bytes")
    rows = rows.select(rows.parts == PROFILE)

    def killed(study: optuna.Study) -> None:
        if len(study.trials) == 2:
            study.ask()  # a trial that a killed process leaves running
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search_mlp(rows, small_search(tmp_path), killed)
    _, study = search_mlp(rows, small_search(tmp_path))
    states = [trial.state.name for trial in study.trials]
    assert (states[2], len(states)) == ("FAIL", 4)
    first = study.trials[0]
    assert [first.params[name] for name in ("layers", "width_1", "width_2")] == [2, 128, 64]
    assert [t.user_attrs["first"] for t in study.trials if "first" in t.user_attrs] == [[128, 64]]
    drawn = [trial.params["learning_rate"] for trial in study.trials if trial.params]
    assert len(set(drawn)) == len(drawn)  # the sampler does not start again
    chosen, again = search_mlp(rows, small_search(tmp_path))
    assert len(again.trials) == 4
    assert chosen.learning_rate == again.best_trial.params["learning_rate"]
    _, longer = search_mlp(rows, small_search(tmp_path, trials=4))
    assert len(longer.trials) == 5


def test_other_samples_have_another_study(samples: pd.DataFrame, tmp_path: Path) -> None:
    names = set()
    for table in (samples, samples.assign(f1=samples["f1"] * 0.9)):
        rows = sample_set(table, "f1")
        names.add(search_mlp(rows, small_search(tmp_path, trials=1))[1].study_name)
    assert len(names) == 2


def test_a_study_says_what_it_searches(samples: pd.DataFrame, tmp_path: Path) -> None:
    rows = sample_set(samples, "f1")
    _, study = search_mlp(rows, small_search(tmp_path, trials=1))
    clips = sorted(set(samples["clip"]))
    assert study.study_name.startswith(f"f1-{rows.frames}_frames_of_{len(clips)}_clips-")
    assert study.metric_names == ["error of f1 / offline mean's"]
    assert study.user_attrs == {"frames": rows.frames, "rows": len(rows), "clips": clips}
    assert {"mae", "rmse", "r2"} <= set(study.best_trial.user_attrs)


def test_a_search_without_a_finished_trial_is_an_error(samples: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no trial for f1 .* raise search\.timeout_s"):
        search_mlp(sample_set(samples, "f1"), small_search(tmp_path, timeout_s=0.0))
