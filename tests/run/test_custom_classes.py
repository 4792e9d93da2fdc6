"""Classes of other packages in configurations: their form, what counts in a fingerprint, and what reading them runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from vitmalis.client.session import ClientSession, read_session, write_session
from vitmalis.errors import UserError
from vitmalis.extensions import ExtensionPoint
from vitmalis.offload import OffloadDecision
from vitmalis.policy import ClientState, Policy, build_policy
from vitmalis.policy.base import check_decision
from vitmalis.regions import ModelGeometry, RegionGrid
from vitmalis.tracker import CustomTracker
from vitmalis.types import Configuration
from vitmalis.video.clips import resolve_clip
from vitmalis.video.spec import VideoSpec
from vitmalis_jobs.common.custom_classes import custom_classes_folded
from vitmalis_jobs.evaluation.finished_run import CACHED_OR_COMPUTED, run_references
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.processes import importing_environment
from vitmalis_jobs.run.stored_config import read_config

GRID = RegionGrid(960, 540, window=5)
MASK = np.ones(GRID.shape, bool)


class Half(Policy):
    def __init__(self, quality: int, ratio: float = 0.5) -> None:
        self._quality = quality

    def decide(self, state: ClientState) -> OffloadDecision:
        return OffloadDecision(Configuration(quality=self._quality))


class Undecided(Policy):
    pass


def test_options_of_a_custom_tracker_and_video_are_kept_apart_from_what_is_known_of_all() -> None:
    folded = custom_classes_folded(
        {
            "policy": {"_target_": "mylab.policies.Thrifty", "quality": 80},
            "video": {"name": "frames", "_target_": "mylab.videos.Frames", "folder": "f"},
            "client": {
                "threads": 1,
                "tracker": {"_target_": "mylab.trackers.Mine", "reach": 3, "times": {"step_s": 1}},
            },
        }
    )
    assert folded["policy"] == {"name": "Thrifty", "_target_": "mylab.policies.Thrifty", "quality": 80}
    assert folded["video"] == {"name": "frames", "target": "mylab.videos.Frames", "options": {"folder": "f"}}
    tracker = {"name": "custom", "label": "Mine", "target": "mylab.trackers.Mine", "options": {"reach": 3}}
    assert folded["client"] == {"threads": 1, "tracker": tracker | {"times": {"step_s": 1}}}


def test_options_of_a_custom_model_are_those_of_its_class() -> None:
    section = {"_target_": "mylab.detectors.Mine", "threshold": 3, "max_width": 640}
    folded = custom_classes_folded({"model": section})["model"]
    assert folded["custom"] == {"target": "mylab.detectors.Mine", "options": {"threshold": 3}}
    assert (folded["name"], folded["source"], folded["max_width"], folded["max_height"]) == ("Mine", "custom", 640, 540)
    assert custom_classes_folded({"model": folded})["model"] == folded, "a job that a run starts gets it in this form"


def test_shipped_choices_stay_as_they_are() -> None:
    values = {"video": {"name": "walkS"}, "policy": {"name": "fixed"}, "client": {"tracker": {"name": "flow_cache"}}}
    assert custom_classes_folded(values) == values


def test_reading_a_run_imports_nothing_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hostile.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    kinds = {"policy": "Policy", "client.tracker": "Tracker", "model": "Detector"}
    config = composed([f"+{section}._target_=hostile.{kind}" for section, kind in kinds.items()])
    (tmp_path / "config.yaml").write_bytes(msgspec.yaml.encode(config))
    read = read_config(tmp_path / "config.yaml")
    assert read.policy_kind == "hostile.Policy"
    with pytest.raises(UserError, match=r"names 'hostile\.Detector' as its model, a program .* --trust-model uses it"):
        run_references(VideoSpec("clip", "clip.mp4", 30.0, 0, 3, 960, 540), read, CACHED_OR_COMPUTED, range(1))
    assert isinstance(read.client.tracker, CustomTracker)
    session = ClientSession(
        VideoSpec("clip", "clip.mp4", 30.0, 0, 3, 960, 540),
        "tcp://127.0.0.1:5555",
        str(tmp_path),
        ModelGeometry(5, 2, 16, 4),
        policy_kind="hostile.Policy",
        tracker=read.client.tracker,
    )
    write_session(session, tmp_path / "session.json")
    assert read_session(tmp_path / "session.json") == session
    assert "hostile" not in sys.modules


def test_a_class_is_found_by_its_dotted_name_and_its_options_are_checked() -> None:
    name = f"{__name__}.Half"
    assert build_policy(name, quality=70).decide(None).configuration.quality == 70  # type: ignore[arg-type]
    with pytest.raises(UserError, match=f"policy '{name}' needs quality: give a value"):
        build_policy(name)
    with pytest.raises(UserError, match="quality=high: Expected `int`"):
        build_policy(name, quality="high")
    with pytest.raises(UserError, match="Undecided' lacks decide: define what its base leaves open"):
        build_policy(f"{__name__}.Undecided")
    with pytest.raises(UserError, match=r"policy '\.\.mylab\.Thrifty' is unknown: choose one of back2back"):
        build_policy("..mylab.Thrifty")


class Outer:
    class Inner(Half):
        pass


def test_a_nested_class_is_found_and_a_missing_one_is_named() -> None:
    assert build_policy(f"{__name__}.Outer.Inner", quality=70).decide(None).configuration.quality == 70  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"class 'Outer' has no 'Iner': did you mean Inner\?"):
        build_policy(f"{__name__}.Outer.Iner")
    with pytest.raises(UserError, match=rf"module '{__name__}' has no 'Outr': did you mean Outer\?"):
        build_policy(f"{__name__}.Outr.Inner.Deeper")
    with pytest.raises(UserError, match=r"there is no module 'vitmalis\.nothing' here"):
        build_policy("vitmalis.nothing.Outer.Inner")


def test_a_client_process_finds_what_this_process_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    command = [sys.executable, "-c", "import only_here, vitmalis.client"]
    assert subprocess.run(command, env=os.environ | importing_environment(1), cwd="/").returncode == 0


def test_a_module_that_lacks_a_package_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needy.py").write_text("import package_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    point: ExtensionPoint[Policy] = ExtensionPoint("policy", "vitmalis.policies", Policy, {})
    with pytest.raises(UserError, match="its module needs 'package_that_is_not_there', which is not installed"):
        point.find("needy.Mine")


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Configuration(), "decide\\(\\) returned Configuration"),
        (OffloadDecision(Configuration(quality=101)), "quality=101: choose 1 to 100"),
        (OffloadDecision(Configuration(tau_d=3)), "tau_d=3: choose 0, 1 or 2"),
        (OffloadDecision(Configuration(), downsample_mask=MASK[1:]), "give bool"),
        (
            OffloadDecision(Configuration(), MASK, frame_downsampling=2),
            "chose downsample_mask and frame_downsampling=2, but a frame is sent in one way: choose one",
        ),
    ],
)
def test_a_decision_that_no_client_can_carry_out_is_one_line(decision: OffloadDecision, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_decision(decision, GRID)


SOURCE = """
import numpy as np
from vitmalis.video.source import VideoSource

class Plain(VideoSource):
    size, frames = (32, 16), 3
    def __init__(self, fps=10.0, shape=(16, 32, 3), given=3):
        self.fps, self._shape, self._given = fps, shape, given
    def images(self):
        return iter([np.zeros(self._shape, np.uint8)] * self._given)
"""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fps": 0}, "fps is 0: it must be more than 0"),
        ({"shape": [16, 30, 3]}, r"image 0 is uint8 \(16, 30, 3\): give uint8 \(16, 32, 3\), RGB"),
        ({"given": 2}, "ends after 2 images, and says frames=3"),
    ],
)
def test_a_source_that_is_not_what_it_says_is_one_line(
    options: dict, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sources.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=message):
        resolve_clip("plain", target="sources.Plain", options=options, cache_dir=tmp_path)
    assert not list(tmp_path.rglob("*.mp4"))
