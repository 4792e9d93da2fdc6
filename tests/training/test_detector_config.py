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
from vitmalis_jobs.training.detection.street_frames import StreetFrame, StreetFrames
from vitmalis_jobs.training.detection.training_data import training_stream


def composed(*overrides: str) -> DetectorTrainingConfig:
    return checked(compose("train_detector", overrides), DetectorTrainingConfig)


FRAME = LabelledFrame(Path("frame.jpg"), 0, (960, 540), Targets.of([], []))


def test_the_shipped_configuration_fits_its_type_and_makes_a_stream() -> None:
    config = composed()
    stream = training_stream(config, [LabelledClip("drive_day", [FRAME], [])], StreetFrames([], []), [FRAME])
    assert config.train.hours is not None
    assert config.train.progress(10, 1800.0) == pytest.approx(1800 / (3600 * config.train.hours))
    assert stream.stages[-1].until == 1.0
    assert config.model.name in PRESETS


def shares(config: DetectorTrainingConfig, clips: tuple[str, ...], *, street: bool) -> dict[str, float]:
    """Share of the samples of each source, where only these clips are there, and perhaps street frames."""
    frames = StreetFrames([StreetFrame(FRAME.path, "place", FRAME.size, FRAME.targets)] if street else [], [])
    labelled = [LabelledClip(name, [FRAME], []) for name in clips]
    return {source.name: source.share for source in training_stream(config, labelled, frames, [FRAME]).sources}


def test_the_sources_have_the_configured_shares_and_those_of_absent_ones() -> None:
    config = composed("clips.weights={drive_day: 3, indoor: 1}", "rendered.share=0.35", "street.share=0.45")
    clips = ("drive_day", "indoor")
    rendered = {"rendered": 0.35}
    whole = {"drive_day": 0.15, "indoor": 0.05, "street": 0.45} | rendered
    assert shares(config, clips, street=True) == pytest.approx(whole)
    assert shares(config, ("drive_day",), street=True) == pytest.approx({"drive_day": 0.2, "street": 0.45} | rendered)
    assert shares(config, clips, street=False) == pytest.approx({"drive_day": 0.4875, "indoor": 0.1625} | rendered)
    assert shares(config, (), street=True) == pytest.approx({"street": 0.65} | rendered)
    real = composed("rendered.share=0", "street.share=0")
    assert shares(real, ("drive_day",), street=False) == {"drive_day": 1.0}


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
        ("whole_frames.size=[480, 270]", r"whole_frames\.size\[1\]=270: expected `int` that's a multiple of 32"),
        ("train.batch_scale=0", r"train\.batch_scale=0: expected `int` >= 1"),
        ("stages=[]", r"stages=\[\]: expected `array` of length >= 1"),
        ("stages.0.until=1.5", r"stages\[0\]\.until=1\.5"),
        ("stages.1.sizes=[[100, 64]]", r"stages\[1\]\.sizes\[0\]\[0\]=100: expected `int` that's a multiple of 32"),
        ("stages.1.sizes=[[64]]", r"stages\[1\]\.sizes\[0\]=\[64\]: expected `array` of length 2"),
        ("clips.weights={drive_day: -1}", r"clips\.weights.*: expected `float` > 0\.0"),
        ("+clips.weights.drive_mars=1", r"clips\.weights: there is no clip 'drive_mars': choose among .*drive_day"),
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
