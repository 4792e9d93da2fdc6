"""docs/extend.md as a reader would follow it: its files in an empty folder, its commands there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from PIL import Image

from vitmalis.errors import UserError
from vitmalis.paths import cache_dir
from vitmalis.video.clips import resolve_clip
from vitmalis.video.spec import open_video
from vitmalis_jobs.run.config import composed
from vitmalis_jobs.run.resolve import resolve_run

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extend.md").read_text()
ARCH = "ssdlite320_mobilenet_v3_large"
VIRTUAL = ["clock=virtual", "latency=paper_testbed", "eval.seconds=1.5"]
SMALL = [
    "model.max_width=320",
    "model.max_height=192",
    "references.workers=1",
    "output.page=false",
    "output.figures=false",
]


def write_project(folder: Path, *, only: str = "") -> None:
    """Write the page's files, whose first line names each, below a folder."""
    blocks = re.findall(r"^```\w+\n# ([\w./]+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    for name, content in blocks:
        if name.startswith(only):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mylab-project")
    write_project(folder)
    clip = resolve_clip("market1906", seconds=2, max_width=320, max_height=240, cache_dir=cache_dir())
    (folder / "frames").mkdir()
    for index, image in enumerate(open_video(clip)):
        Image.fromarray(image).save(folder / "frames" / f"{index:04d}.png")
    return folder


@pytest.fixture
def run(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python in the project, where nothing but this checkout and the project itself can be imported."""

    def started(*arguments: str, path: Path = project) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join([str(ROOT / "src"), str(path)])
        environment = os.environ | {"PYTHONPATH": paths, "VITMALIS_CACHE": str(cache_dir().absolute())}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=200)

    return started


def evaluate(*options: str) -> list[str]:
    return ["-m", "vitmalis_jobs.evaluation", "--config-dir", "conf", *options, *VIRTUAL, *SMALL]


def last_run(project: Path) -> Path:
    return max(
        (project / "runs" / "evaluations").glob("*/*/summary.json"), key=lambda path: path.stat().st_mtime
    ).parent


def test_the_page_shows_every_file_that_it_lists(project: Path) -> None:
    written = {
        str(path.relative_to(project)) for path in project.rglob("*") if path.suffix != ".png" and path.is_file()
    }
    modules = {f"mylab/{kind}.py" for kind in ("policies", "trackers", "videos", "detectors")}
    choices = {"policy/thrifty.yaml", "tracker/template.yaml", "video/frames.yaml", "model/ssdlite.yaml"}
    assert written >= {*modules, "test_mylab.py", "pyproject.toml"} | {f"conf/{choice}" for choice in choices}


def test_its_classes_keep_the_contracts(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mylab.py")
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout


def test_its_command_plays_its_classes_and_again_only_after_one_of_them_has_changed(
    project: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    chosen = ["policy=thrifty", "tracker=template", "video=frames", "model=ssdlite", "model.weights=null"]
    command = evaluate("-m", *chosen, "sweep.name=mine")
    done = run(*command)
    assert done.returncode == 0, done.stderr
    (directory,) = (project / "runs" / "sweeps" / "mine").glob("[0-9]*")
    config = msgspec.yaml.decode((directory / "config.yaml").read_bytes())
    assert config["policy"] == {"name": "thrifty", "_target_": "mylab.policies.Thrifty", "latency_threshold_s": 0.5}
    assert config["client"]["tracker"]["options"] == {"reach_px": 40}
    assert config["model"]["custom"]["target"] == "mylab.detectors.Torchvision"
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["metrics"]["frames"] == 24
    assert "tracker" not in summary["stand_ins"], "its durations are configured"
    again = run(*command)
    assert "an equal run has finished" in again.stdout + again.stderr
    path = project / "mylab" / "policies.py"
    path.write_text(path.read_text().replace("70 if", "60 if"))
    edited = run(*command)
    assert edited.returncode == 0, edited.stderr
    assert "an equal run has finished" not in edited.stdout + edited.stderr


def test_entry_points_are_choices_without_a_configuration(
    project: Path, tmp_path: Path, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    write_project(tmp_path, only="mylab/")
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    groups = about["entry-points"].items()
    sections = [f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in of.items()) for group, of in groups]
    installed = tmp_path / "mylab-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mylab\nVersion: 0.1\n")
    (installed / "entry_points.txt").write_text("\n\n".join(sections))
    options = ["policy=thrifty", "+policy.latency_threshold_s=0.3", "tracker=template"]
    options += ["video=frames", "+video.folder=frames", "+video.fps=16"]
    options += ["model=ssdlite", f"+model.arch={ARCH}", "+model.weights=null"]
    done = run("-m", "vitmalis_jobs.evaluation", *options, *VIRTUAL, *SMALL, path=tmp_path)
    assert done.returncode == 0, done.stderr
    stand_ins = json.loads((last_run(project) / "summary.json").read_text())["stand_ins"]
    assert stand_ins["tracker"] == "durations of lucas_kanade for 'template', which says none (times)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["policy=thrifty", "policy.latency_treshold_s=1"], "did you mean policy.latency_threshold_s?"),
        (["policy=thrifti"], "policy=thrifti is unknown: did you mean thrifty?"),
        (["policy=thrifty", "policy._target_=mylab.policies.Thrifti"], "has no 'Thrifti': did you mean Thrifty?"),
    ],
)
def test_a_mistake_is_one_line(
    options: list[str], message: str, run: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = run(*evaluate(*options))
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["policy._target_=mylab.nothing.Thrifty"], "there is no module 'mylab.nothing' here"),
        (["policy._target_=elsewhere.Thrifty"], "start with PYTHONPATH=FOLDER, the folder that elsewhere lies in"),
        (["policy._target_=mylab.trackers.TemplateMatching"], "is no subclass of vitmalis.policy.base.Policy"),
        (["policy._target_=Thrifty"], "choose one of back2back"),
        (["policy.latency_threshold_s=soon"], "latency_threshold_s=soon: Expected `float`"),
        (["+policy.speed=1"], "got an unexpected keyword argument 'speed'"),
        (["+client.tracker.speed=1"], "got an unexpected keyword argument 'speed'"),
        (["+client.tracker.times.step=1"], "client.tracker.times=.*unknown field `step`"),
        (["model._target_=mylab.trackers.TemplateMatching"], "is no subclass of vitmalis.detector.base_detector"),
        (["+model.speed=1"], "got an unexpected keyword argument 'speed'"),
        (["policy=fixed"], "model ssdlite has restoration points 0 to 0, not 4"),
        (["video._target_=mylab.videos.Folder"], "module 'mylab.videos' has no 'Folder'"),
    ],
)
def test_a_wrong_class_or_option_is_found_before_anything_is_prepared(
    options: list[str], message: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project))
    chosen = ["policy=thrifty", "tracker=template", "video=frames", "model=ssdlite", "model.weights=null"]
    config = composed([f"hydra.searchpath=[file://{project / 'conf'}]", *chosen, *VIRTUAL, *options])
    with pytest.raises(UserError, match=message):
        resolve_run(config)
