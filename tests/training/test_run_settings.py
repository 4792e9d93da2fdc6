"""A training run continues with what it began with: settings that change what is learned are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitmalis.errors import UserError
from vitmalis_jobs.common.config import Section, checked, compose
from vitmalis_jobs.training.detection.config import DetectorTrainingConfig
from vitmalis_jobs.training.detection.run_settings import Settings, run_settings, with_content
from vitmalis_jobs.training.detection.state import TrainingState
from vitmalis_jobs.training.segmentation.config import MaskTrainingConfig

JOBS: dict[str, type[Section]] = {"train_detector": DetectorTrainingConfig, "train_masks": MaskTrainingConfig}


def settings(job: str, *overrides: str) -> Settings:
    return run_settings(checked(compose(job, overrides), JOBS[job]))


def continued(folder: Path, begun: Settings, now: Settings) -> None:
    """Begin a run in a folder, and start it again there with other settings."""
    state = TrainingState.fresh(torch.nn.Linear(2, 2), 1e-3, 0.05)
    state.settings = begun
    state.save(folder / "last.pt")
    state.settings = now
    state.restore_from(folder)


@pytest.mark.parametrize("job", JOBS)
def test_length_places_and_pace_of_a_run_may_change(job: str, tmp_path: Path) -> None:
    overrides = [
        *("train.folder=elsewhere", "train.hours=9", "train.device=cpu", "train.threads=2", "train.workers=3"),
        *("train.checkpoint_every_s=1", "train.evaluate_every_s=2", "train.log_every_steps=3", "export.path=b.pt"),
        *("mlflow.experiment=other", "held_out.frames_per_profile=1"),
    ]
    continued(tmp_path, settings(job), settings(job, *overrides))


@pytest.mark.parametrize(
    ("job", "override", "before"),
    [
        ("train_detector", "start.weights=best.pt", "null"),
        ("train_detector", "start.window=14", "null"),
        ("train_detector", "train.seed=7", "1906"),
        ("train_detector", "model.name=vitdet_b", "vitdet_tiny"),
        ("train_detector", "street.share=0.1", ""),
        ("train_detector", "clips.weights.drive_day=9", ""),
        ("train_masks", "start.weights=best.pt", "null"),
        ("train_masks", "train.objects=3", "16"),
        ("train_masks", "rendered.scenes=2", "14"),
        ("train_masks", "stages.0.until=0.5", ""),
        ("train_masks", "whole_frames.share=0.2", "0.1"),
    ],
)
def test_what_changes_what_is_learned_is_refused(job: str, override: str, before: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        continued(tmp_path, settings(job), settings(job, override))
    name, _, value = override.partition("=")
    section = ".".join(name.split(".")[:2]).removesuffix(".0")
    message = str(refused.value)
    assert message.startswith(f"{section}=")
    assert value in message
    assert f": the run in train.folder={tmp_path} began with {section}={before}" in message
    assert message.endswith("; continue it with that, or give another train.folder")


def test_a_file_counts_by_its_content_where_the_state_does_not_hold_it(tmp_path: Path) -> None:
    first = with_content(settings("train_masks", "start.weights=a.pt"), "start.weights", 64 * "1")
    renamed = with_content(settings("train_masks", "start.weights=b.pt"), "start.weights", 64 * "1")
    changed = with_content(settings("train_masks", "start.weights=a.pt"), "start.weights", 64 * "2")
    continued(tmp_path, first, renamed)
    message = (
        r"start\.weights=a\.pt \(sha256 222222222222\): .* began with start\.weights=a\.pt \(sha256 111111111111\)"
    )
    with pytest.raises(UserError, match=message):
        continued(tmp_path, first, changed)


def test_a_checkpoint_without_settings_continues(tmp_path: Path) -> None:
    continued(tmp_path, {}, settings("train_detector"))
