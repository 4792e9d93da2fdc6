"""A run's policy before anything starts: mistakes come before measurements, stand-ins are said."""

from __future__ import annotations

from pathlib import Path

import av
import msgspec
import numpy as np
import pytest
from hydra import compose, initialize_config_dir

from vitmalis.errors import UserError
from vitmalis.estimation import load_latency_tables, save_latency_tables
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.common.console import Terminal
from vitmalis_jobs.run import latency_tables as tables
from vitmalis_jobs.run.config import EvaluationConfig, typed
from vitmalis_jobs.run.spec import make_plan, stand_ins


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plan") / "clip.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(10):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((96, 160, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode())
    return path


def configured(clip: Path, **policy: str) -> EvaluationConfig:
    overrides = ["policy=vitmalis", "video=file", f"video.path={clip}", "trace=constant", "eval.seconds=1"]
    overrides += [f"policy.{key}={value}" for key, value in policy.items()]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return typed(compose("evaluate", overrides=overrides))


def test_missing_estimators_are_told_before_tables_are_measured(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "latency_tables", lambda *_: pytest.fail("measured for a policy that cannot be"))
    with pytest.raises(UserError, match=r"no estimators of model .*training\.estimators"):
        make_plan(configured(clip, estimators=str(tmp_path)), Terminal())


def test_missing_tables_are_measured_and_given_to_the_client(
    clip: Path, vitmalis_options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "latency_tables", lambda *_: Path(vitmalis_options["latency_tables"]))
    plan = make_plan(configured(clip, estimators=vitmalis_options["estimators"]), Terminal())
    session = plan.session("tcp://127.0.0.1:1", "", Path("unused"))
    assert session.policy_options["latency_tables"] == vitmalis_options["latency_tables"]


def test_estimators_of_another_model_are_a_stand_in(
    clip: Path, tmp_path: Path, vitmalis_options: dict[str, str]
) -> None:
    own = load_latency_tables(Path(vitmalis_options["latency_tables"]))
    save_latency_tables(msgspec.structs.replace(own, model_id="retrained"), tmp_path / "tables.json")
    foreign = vitmalis_options | {"latency_tables": str(tmp_path / "tables.json")}
    assert "policy" not in stand_ins(make_plan(configured(clip, **vitmalis_options), Terminal()))
    said = stand_ins(make_plan(configured(clip, **foreign), Terminal()))["policy"]
    assert said == "estimators learned from samples of vitdet_tiny vitdet_tiny-test, used with retrained"


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["latency=paper_testbed"], "add clock=virtual"),
        (["policy=oracle"], "only the virtual clock"),
        (["clock=virtual", "server.spawn=false"], "no server elsewhere"),
        (["clock=virtual", "video=camera"], "plays in real time only"),
    ],
)
def test_what_cannot_be_had_on_a_clock_is_refused(overrides: list[str], told: str) -> None:
    with pytest.raises(UserError, match=told), initialize_config_dir(str(conf_dir()), version_base="1.3"):
        make_plan(typed(compose("evaluate", overrides=overrides)), Terminal())
