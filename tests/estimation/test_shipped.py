from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vitmalis.errors import UserError
from vitmalis.estimation import LinearEstimator, load_pair, save_estimator, shipped
from vitmalis.estimation.estimators import FEATURES, Target
from vitmalis.estimation.shipped import package_folder, pair_files
from vitmalis.regions.grid import RegionGrid
from vitmalis_jobs.validation.synthetic_tables import synthetic_tables

TARGETS: dict[str, Target] = {"size": "payload_bytes", "accuracy": "f1"}


def linear(target: Target, **regions: int) -> LinearEstimator:
    return LinearEstimator(
        target=target, features=FEATURES[target], model="small", model_id="one",
        coefficients=np.zeros(len(FEATURES[target])), intercept=0.5, **regions,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for short, target in TARGETS.items():
        save_estimator(linear(target), tmp_path / f"{short}_linear.json")
    return tmp_path


def test_a_pair(folder: Path) -> None:
    pair = load_pair("small", "linear", folder)
    assert (pair.size.target, pair.accuracy.target) == ("payload_bytes", "f1")
    assert pair.stand_in(synthetic_tables("small", "one")) == ""


def test_samples_of_another_model_id_make_a_stand_in(folder: Path) -> None:
    pair = load_pair("small", "linear", str(folder))
    tables = synthetic_tables("small", "two")
    assert pair.stand_in(tables) == "estimators learned from samples of small one, used with two"


def test_samples_of_other_regions_make_a_stand_in_that_says_which() -> None:
    pair = load_pair("vitdet_tiny", window=9, downsampling_factor=4)
    tables = msgspec.structs.replace(synthetic_tables("vitdet_tiny", "two"), window=9, downsampling_factor=4)
    assert pair.stand_in(tables) == (
        f"estimators learned from samples of vitdet_tiny {pair.size.model_id} (window 5, downsampling factor 2), "
        "used with two (window 9, downsampling factor 4)"
    )
    assert pair.grid(RegionGrid(960, 540, window=9, factor=4)) == RegionGrid(960, 540, window=5)


def test_the_nearest_regions_are_those_of_the_same_factor_then_of_the_nearest_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    for window, factor in ((5, 2), (9, 2), (5, 4)):
        for short, target in TARGETS.items():
            estimator = linear(target, window=window, downsampling_factor=factor)
            save_estimator(estimator, tmp_path / f"small-w{window}-d{factor}" / f"{short}_linear.json")
    found = {
        (window, factor): pair_files("small", "linear", window=window, downsampling_factor=factor)[0].parent.name
        for window, factor in ((5, 2), (8, 2), (14, 2), (9, 4), (9, 3))
    }
    assert found == {
        (5, 2): "small-w5-d2", (8, 2): "small-w9-d2", (14, 2): "small-w9-d2",
        (9, 4): "small-w5-d4", (9, 3): "small-w5-d4",  # 27 patches a side: 20 are nearer than 18
    }  # fmt: skip
    assert load_pair("small", "linear", window=9, downsampling_factor=3).size.downsampling_factor == 4
    places = {(w, d): package_folder(linear("f1", window=w, downsampling_factor=d)) for w, d in ((9, 2), (9, 4))}
    assert places == {(9, 2): tmp_path / "small-w9-d2", (9, 4): tmp_path / "small-w9-d4"}


def test_the_commands_that_make_estimators_name_the_regions() -> None:
    commands = r"profiling\.samples model=vitdet_x model\.window=9 model\.downsampling_factor=3`, then"
    with pytest.raises(UserError, match=commands):
        load_pair("vitdet_x", window=9, downsampling_factor=3)


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
