from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.estimation import LinearEstimator, load_pair, save_estimator
from vitmalis.estimation.estimators import FEATURES, Target

TARGETS: dict[str, Target] = {"size": "payload_bytes", "accuracy": "f1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for short, target in TARGETS.items():
        estimator = LinearEstimator(
            target=target, features=FEATURES[target], model="small", model_id="one",
            coefficients=np.zeros(len(FEATURES[target])), intercept=0.5,
        )  # fmt: skip
        save_estimator(estimator, tmp_path / f"{short}_linear.json")
    return tmp_path


def test_a_pair(folder: Path) -> None:
    pair = load_pair("small", "linear", folder)
    assert (pair.size.target, pair.accuracy.target) == ("payload_bytes", "f1")
    assert pair.stand_in("one") == ""


def test_samples_of_another_model_id_make_a_stand_in(folder: Path) -> None:
    pair = load_pair("small", "linear", str(folder))
    assert pair.stand_in("two") == "estimators learned from samples of small one, used with two"


def test_what_is_not_there_is_said_with_the_way_to_it(folder: Path) -> None:
    with pytest.raises(UserError, match=r"size_mlp.json, accuracy_mlp.json missing .*profiling\.samples model=small"):
        load_pair("small", "mlp", folder)
    with pytest.raises(UserError, match=r"no estimators of model 'vitdet_x' .*training\.estimators model=vitdet_x"):
        load_pair("vitdet_x")


def test_wrong_kind_and_wrong_model(folder: Path) -> None:
    with pytest.raises(UserError, match="kind 'forest' is unknown; choose one of mlp, linear, mean"):
        load_pair("small", "forest", folder)
    with pytest.raises(UserError, match="are for model 'small', not 'large'"):
        load_pair("large", "linear", folder)


def test_size_and_accuracy_are_not_confused(folder: Path) -> None:
    (folder / "accuracy_linear.json").replace(folder / "size_linear.json")
    (folder / "accuracy_linear.json").write_bytes((folder / "size_linear.json").read_bytes())
    with pytest.raises(UserError, match="estimates 'f1', not payload_bytes"):
        load_pair("small", "linear", folder)


def test_a_client_estimates_without_torch() -> None:
    code = "import sys, vitmalis.estimation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
