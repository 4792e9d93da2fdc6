"""What every estimator keeps to, whatever its kind; and what its file must not be."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitmalis.errors import UserError
from vitmalis.estimation import (
    AnyEstimator,
    ConfigurationTable,
    LinearEstimator,
    MlpEstimator,
    OfflineMeanEstimator,
    configuration_space,
    load_estimator,
    save_estimator,
)
from vitmalis.estimation.estimators import FEATURES, KINDS, Target
from vitmalis.estimation.features import PAPER_ACCURACY_FEATURES

SPACE = configuration_space()
TARGETS: tuple[Target, ...] = ("payload_bytes", "f1")


def feature_rows(target: Target, seed: int) -> np.ndarray:
    """A frame's rows: the whole space, with contents drawn at random."""
    random = np.random.default_rng(seed)
    columns = {"tau_d": SPACE.tau_d, "quality": SPACE.quality, "restoration_point": SPACE.restoration_point}
    columns["downsampled_regions"] = SPACE.tau_d * 6
    drawn = {name: np.full(len(SPACE), random.random()) for name in FEATURES[target] if name not in columns}
    return np.column_stack([{**columns, **drawn}[name] for name in FEATURES[target]]).astype(np.float64)


def mlp(target: Target, widths: tuple[int, ...] = (16, 8), seed: int = 0) -> MlpEstimator:
    random = np.random.default_rng(seed)
    sides = (len(FEATURES[target]), *widths, 1)
    return MlpEstimator(
        target=target, features=FEATURES[target], model="m", model_id="id",
        mean=feature_rows(target, 0).mean(axis=0), scale=np.full(sides[0], 10.0),
        weights=tuple(random.normal(size=pair).astype(np.float32) for pair in pairwise(sides)),
        biases=tuple(random.normal(size=side).astype(np.float32) for side in sides[1:]),
        output_mean=0.5, output_scale=0.3, output="log" if target == "payload_bytes" else "identity",
    )  # fmt: skip


def linear(target: Target) -> LinearEstimator:
    features = FEATURES[target]
    return LinearEstimator(
        target=target, features=features, model="m", model_id="id",
        coefficients=np.linspace(0.001, 0.004, len(features)), intercept=0.25,
    )  # fmt: skip


def mean(target: Target) -> OfflineMeanEstimator:
    rows = np.column_stack([SPACE.tau_d, SPACE.quality, SPACE.restoration_point])
    keys = ("tau_d", "quality", "restoration_point") if target == "f1" else ("tau_d", "quality")
    configurations = np.unique(rows[:, : len(keys)], axis=0)
    return OfflineMeanEstimator(
        target=target, features=FEATURES[target], model="m", model_id="id",
        means=ConfigurationTable(keys, configurations, np.linspace(0.1, 0.9, len(configurations))),
    )  # fmt: skip


ALL = [make(target) for target in TARGETS for make in (mlp, linear, mean)]
NAMES = [f"{estimator.target}-{estimator.kind}" for estimator in ALL]
every_estimator = pytest.mark.parametrize("estimator", ALL, ids=NAMES)


def test_every_kind_is_here() -> None:
    assert [estimator.kind for estimator in ALL] == [*KINDS, *KINDS]


@every_estimator
@settings(max_examples=20)
@given(seed=st.integers(0, 10**6))
def test_one_finite_possible_value_a_row_and_the_same_again(estimator: AnyEstimator, seed: int) -> None:
    rows = feature_rows(estimator.target, seed)
    before = rows.copy()
    values = estimator.predict(rows)
    assert values.shape == (77,)
    assert values.dtype == np.float64
    assert np.isfinite(values).all()
    assert (values >= (1 if estimator.target == "payload_bytes" else 0)).all()
    assert estimator.target == "payload_bytes" or (values <= 1).all()
    assert (estimator.predict(rows) == values).all()
    assert (rows == before).all()


@every_estimator
def test_rows_do_not_influence_each_other(estimator: AnyEstimator) -> None:
    rows = feature_rows(estimator.target, 5)
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_allclose(estimator.predict(rows[order]), estimator.predict(rows)[order], rtol=1e-5)
    np.testing.assert_allclose(estimator.predict(rows[:1]), estimator.predict(rows)[:1], rtol=1e-5)
    assert estimator.predict(rows[:0]).shape == (0,)


@every_estimator
def test_rows_of_another_width_are_refused(estimator: AnyEstimator) -> None:
    rows = feature_rows(estimator.target, 0)
    for wrong in (rows[:, 1:], rows[0], np.column_stack([rows, rows])):
        with pytest.raises(ValueError, match="features are"):
            estimator.predict(wrong)


@every_estimator
def test_a_file_holds_all_of_it(estimator: AnyEstimator, tmp_path: Path) -> None:
    path = tmp_path / "estimator.json"
    save_estimator(estimator, path)
    loaded = load_estimator(path, estimator.target)
    assert type(loaded) is type(estimator)
    assert (loaded.kind, loaded.target, loaded.features) == (estimator.kind, estimator.target, estimator.features)
    assert (loaded.model, loaded.model_id, loaded.provenance) == ("m", "id", {})
    rows = feature_rows(estimator.target, 3)
    assert (loaded.predict(rows) == estimator.predict(rows)).all()
    save_estimator(loaded, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@every_estimator
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 99}, "has version 99, this program reads 2"),
        ({"kind": "forest"}, "kind 'forest', not one of mlp, linear, mean"),
        ({"target": "colour"}, "estimates 'colour'"),
        ({"features": ["tau_d", "colour"]}, "takes colour, but only tau_d, .* are given"),
        ({"features": 3}, "is not an estimator file"),
    ],
)
def test_another_file_is_recognised(
    estimator: AnyEstimator, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = changed(estimator, tmp_path, change)
    with pytest.raises(UserError, match=message) as error:
        load_estimator(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("part", ["weights", "biases", "mean"])
@pytest.mark.parametrize("damage", ["short", "shape", "nan", "text", "gone"])
def test_a_damaged_mlp_is_refused(part: str, damage: str, tmp_path: Path) -> None:
    fields = stored(mlp("f1"), tmp_path)
    place = fields if part == "mean" else fields[part]
    key: Any = "mean" if part == "mean" else 0
    if damage == "short":
        place[key]["data"] = place[key]["data"][:8]
    elif damage == "shape":
        place[key]["shape"] = [2, 2]
    elif damage == "nan":
        place[key] = {"dtype": "<f8", "shape": [1], "data": "AAAAAAAA+H8="}
    elif damage == "text":
        place[key] = "0.5"
    else:
        del fields[part]
    path = tmp_path / "damaged.json"
    path.write_text(json.dumps(fields))
    with pytest.raises(UserError, match="is damaged"):
        load_estimator(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "mlp"}', "\x00\x01"])
def test_what_is_no_estimator_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not an estimator file"):
        load_estimator(path)


def test_a_file_that_is_not_there_or_estimates_something_else(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no such estimator.*training\.estimators"):
        load_estimator(tmp_path / "absent.json")
    save_estimator(linear("f1"), tmp_path / "f1.json")
    with pytest.raises(UserError, match="estimates 'f1', not payload_bytes"):
        load_estimator(tmp_path / "f1.json", "payload_bytes")


def test_an_mlp_by_hand() -> None:
    estimator = MlpEstimator(
        target="payload_bytes", features=FEATURES["payload_bytes"], model="m", model_id="id",
        mean=np.array([1.0, 0, 0, 0, 80]), scale=np.array([1.0, 1, 1, 1, 10]),
        weights=(np.array([[1, -1], [0, 0], [0, 0], [2, 0], [1, 1]], np.float32), np.array([[3], [5]], np.float32)),
        biases=(np.array([0.5, 0], np.float32), np.array([1], np.float32)),
        output_mean=2.0, output_scale=10.0, output="identity",
    )  # fmt: skip
    rows = np.array([[2, 0, 0, 0.25, 90], [1, 9, 9, 0, 60]], np.float64)
    # hidden: relu(1 + 0.5 + 1 + 0.5) = 3 and relu(-1 + 1) = 0; then relu(0.5 - 2) = 0 and relu(-2) = 0
    assert estimator.predict(rows).tolist() == [(3 * 3 + 1) * 10 + 2, 1 * 10 + 2]


def test_a_line_by_hand_and_its_limits() -> None:
    features = FEATURES["payload_bytes"]
    line = LinearEstimator(
        target="payload_bytes", features=features, model="m", model_id="id",
        coefficients=np.array([-10.0, -1, 0, 0, 2]), intercept=-100.0,
    )  # fmt: skip
    assert line.predict(np.array([[1, 5, 0.5, 0.5, 90], [2, 24, 0, 0, 50]], np.float64)).tolist() == [65, 1]


def test_an_offline_mean_knows_what_was_profiled_and_no_more() -> None:
    estimator = mean("f1")
    row = feature_rows("f1", 0)[[40]]
    known = (estimator.means.configurations == [row[0, 0], row[0, 1], row[0, 2]]).all(axis=1)
    assert estimator.predict(row) == estimator.means.values[known]
    row[0, 1] = 72
    with pytest.raises(UserError, match=r"offline mean of f1: tau_d=\d, quality=72, restoration_point=\d was never"):
        estimator.predict(row)


@every_estimator
def test_errors_and_spreads_by_configuration(estimator: AnyEstimator, tmp_path: Path) -> None:
    rows = feature_rows(estimator.target, 4)
    assert estimator.error(rows).tolist() == estimator.spread(rows).tolist() == [0.0] * 77  # it does not say
    tau_d = np.array([[0], [2]])
    tables = {
        "errors": ConfigurationTable(("tau_d",), tau_d, np.array([0.01, 0.04])),
        "spreads": ConfigurationTable(("tau_d",), tau_d, np.array([0.25, 0.5])),
    }
    save_estimator(msgspec.structs.replace(estimator, **tables), tmp_path / "estimator.json")
    loaded = load_estimator(tmp_path / "estimator.json")
    # tau_d 1 is not in the tables. What is learned of a payload is a share of it.
    known = rows[:, estimator.features.index("tau_d")] == 0
    unit = estimator.predict(rows) if estimator.target == "payload_bytes" else 1.0
    assert (loaded.error(rows) == np.where(known, 0.01, 0.04) * unit).all()
    assert (loaded.spread(rows) == np.where(known, 0.25, 0.5) * unit).all()
    with pytest.raises(ValueError, match="features are"):
        loaded.error(rows[:, 1:])


def test_an_mlp_with_hyperbolic_tangents_by_hand() -> None:
    estimator = MlpEstimator(
        target="f1", features=PAPER_ACCURACY_FEATURES, model="m", model_id="id",
        mean=np.zeros(8), scale=np.full(8, 2.0),
        weights=(np.array([[-0.5], *[[0.0]] * 7], np.float32), np.array([[0.1]], np.float32)),
        biases=(np.array([0.5], np.float32), np.array([0.9], np.float32)),
        output_mean=0.0, output_scale=1.0, output="identity", activation="tanh",
    )  # fmt: skip
    rows = np.zeros((3, 8))
    rows[:, 0] = [0, 1, 2]
    expected = [0.9 + 0.1 * np.tanh(0.5), 0.9 + 0.1 * np.tanh(0.25), 0.9]
    np.testing.assert_allclose(estimator.predict(rows), expected, atol=1e-7)


def stored(estimator: AnyEstimator, folder: Path) -> dict[str, Any]:
    save_estimator(estimator, folder / "whole.json")
    return json.loads((folder / "whole.json").read_text())


def changed(estimator: AnyEstimator, folder: Path, change: dict[str, Any]) -> Path:
    path = folder / "changed.json"
    path.write_text(json.dumps({**stored(estimator, folder), **change}))
    return path
