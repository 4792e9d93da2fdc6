"""What `model.*` says reaches server and references alike."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from vitmalis.detector import load_detector
from vitmalis.errors import UserError
from vitmalis_jobs.common.config import conf_dir
from vitmalis_jobs.run import processes
from vitmalis_jobs.run.config import EvaluationConfig, config_hash, typed
from vitmalis_jobs.run.resolve import chosen


def configured(*overrides: str) -> EvaluationConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return typed(compose("evaluate", overrides=["trace=constant", "video=file", "video.path=x.mp4", *overrides]))


@pytest.mark.parametrize("name", ["vitdet_tiny", "vitdet_b", "vitdet_l", "vitdet_h"])
def test_every_model_has_its_own_window_unless_told(name: str) -> None:
    assert configured(f"model={name}").model.window is None
    assert configured(f"model={name}", "model.window=9").model.detector_options["window"] == 9


def test_a_window_is_at_least_one_token() -> None:
    with pytest.raises(UserError, match=r"model\.window=0: expected `int` >= 1"):
        configured("model.window=0")


def test_server_and_references_run_the_same_window(tmp_path: Path) -> None:
    usual, narrow = configured(), configured("model.window=3")
    assert config_hash(usual) != config_hash(narrow)
    with processes.server(narrow, tmp_path) as server:
        assert server.process is not None
        served = server.process.facts["model_id"]
    assert served == load_detector("vitdet_tiny", **narrow.model.detector_options).model_id
    assert served != load_detector("vitdet_tiny", **usual.model.detector_options).model_id


def test_only_the_server_compiles() -> None:
    config = configured("model.compile=true")
    assert config.model.compile
    assert config.model.detector_options == configured().model.detector_options


def test_a_run_says_which_engine_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    config = chosen(configured("model.device=cpu"))
    assert config.model.engine == config.model.detector_options["engine"] == "eager"
    with pytest.raises(UserError, match=r"model\.engine=fused cannot run vitdet_tiny: it needs a CUDA GPU, not cpu"):
        chosen(configured("model.device=cpu", "model.engine=fused"))
