from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from vitmalis.detector import PRESETS
from vitmalis.errors import UserError
from vitmalis.video.standin import PROFILES
from vitmalis.video.standin.clip import SEEDS
from vitmalis_jobs.training.detector import make_schedule, make_stream

CONF = Path(__file__).parents[2] / "conf"


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        return compose("train_detector", overrides=list(overrides))


def test_the_shipped_configuration_makes_a_plan_and_a_stream() -> None:
    config = composed()
    plan, stream = make_schedule(config), make_stream(config, [])
    assert plan.progress(10, 1800.0) == pytest.approx(1800 / (3600 * config.train.hours))
    assert stream.stages[-1].until == 1.0
    assert all(side % 32 == 0 for stage in stream.stages for size in stage.sizes for side in size)
    assert config.model in PRESETS


def test_scenes_that_are_played_or_judged_by_are_not_learned() -> None:
    config = composed()
    assert max(*SEEDS.values(), config.held_out.frames_per_profile) < config.rendered.first_seed
    assert set(config.rendered.profiles) == set(PROFILES)


@pytest.mark.parametrize("overrides", [("train.steps=10",), ("train.hours=null",)])
def test_the_length_is_given_once(overrides: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"train\.hours=.* train\.steps="):
        make_schedule(composed(*overrides))
    assert make_schedule(composed("train.hours=null", "train.steps=10")).progress(5, 0.0) == 0.5
