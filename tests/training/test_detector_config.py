from __future__ import annotations

from pathlib import Path

import pytest

from vitmalis.detector import PRESETS
from vitmalis.errors import UserError
from vitmalis.video.standin import PROFILES
from vitmalis.video.standin.clip import SEEDS
from vitmalis_jobs.common.config import checked, compose
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig
from vitmalis_jobs.training.detection.labelled_clips import LabelledClip, LabelledFrame
from vitmalis_jobs.training.detection.labels import Targets
from vitmalis_jobs.training.detection.street_frames import StreetFrames
from vitmalis_jobs.training.detection.training_data import training_stream


def composed(*overrides: str) -> DetectorTrainingConfig:
    return checked(compose("train_detector", overrides), DetectorTrainingConfig)


def test_the_shipped_configuration_fits_its_type_and_makes_a_stream() -> None:
    config = composed()
    frame = LabelledFrame(Path("frame.jpg"), 0, Targets.of([], []))
    stream = training_stream(config, [LabelledClip("drive_day", [frame], [])], StreetFrames([], []))
    assert config.train.hours is not None
    assert config.train.progress(10, 1800.0) == pytest.approx(1800 / (3600 * config.train.hours))
    assert stream.stages[-1].until == 1.0
    assert config.model.name in PRESETS


def test_scenes_that_are_played_or_validated_on_are_not_trained_on() -> None:
    config = composed()
    assert max(*SEEDS.values(), config.held_out.frames_per_profile) < config.rendered.first_seed
    assert set(config.rendered.profiles) == set(PROFILES)


@pytest.mark.parametrize("overrides", [("train.steps=10",), ("train.hours=null",)])
def test_the_length_is_given_once(overrides: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"train\.hours=.* and train\.steps=.*: give one and null the other"):
        composed(*overrides)
    assert composed("train.hours=null", "train.steps=10").train.progress(5, 0.0) == 0.5


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.learning_rate=fast", r"train\.learning_rate=fast: expected `float`, got `str`"),
        ("train.warm_up=2", r"train\.warm_up=2: expected `float` <= 1\.0"),
        ("train.threads=0", r"train\.threads=0: expected `int` >= 1"),
        ("train.bf16=maybe", r"train\.bf16=maybe: expected `bool`, got `str`"),
        ("+train.lerning_rate=1", r"train: object contains unknown field `lerning_rate`"),
        ("+trian=1", "unknown field `trian`"),
        ("stages=[]", r"stages=\[\]: expected `array` of length >= 1"),
        ("stages.0.until=1.5", r"stages\[0\]\.until=1\.5"),
        ("stages.1.sizes=[[100, 64]]", r"stages\[1\]\.sizes\[0\]\[0\]=100: expected `int` that's a multiple of 32"),
        ("stages.1.sizes=[[64]]", r"stages\[1\]\.sizes\[0\]=\[64\]: expected `array` of length 2"),
        ("clips.weights={drive_day: -1}", r"clips\.weights.*: expected `float` > 0\.0"),
        ("+clips.weights.drive_night=1", r"clips\.weights: there is no clip 'drive_night': choose among .*drive_day"),
        ("rendered.profiles=[walkX]", r"rendered\.profiles: there is no 'walkX': choose among walkS"),
        ("rendered.share=0.7", r"rendered\.share=0\.7 and street\.share=0\.4 are more than 1 together"),
        ("street.one_scene=[a, '']", r"street\.one_scene\[1\]=: expected `str` of length >= 1"),
        ("held_out.consecutive=0", r"held_out\.consecutive=0"),
        ("model.weights=a.pt", r"model\.weights=a\.pt is for evaluations: training starts from start\.weights="),
        ("model.window=9", r"model\.window=9 .*start\.window"),
        ("export.path=null", r"export\.path=None: expected `str`, got `null`"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(override: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        composed(override)
    assert "\n" not in str(caught.value)
