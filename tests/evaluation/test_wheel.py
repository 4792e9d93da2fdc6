"""A wheel of this repository in a fresh environment: it evaluates and reports in a folder that is no checkout."""

from __future__ import annotations

import os
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from vitmalis_jobs.run.page.files import read_page

ROOT = Path(__file__).parents[2]
CARRIED = (
    "hydra_plugins/vitmalis_sweeper.py",
    "vitmalis_jobs/conf/evaluate.yaml",
    "vitmalis_jobs/conf/hydra/help/evaluate.yaml",
    "vitmalis_jobs/run/page/assets/page.html.j2",
    "vitmalis_jobs/evaluation/study/page.html.j2",
    "vitmalis/detector/weights/vitdet_tiny.pt",
    "vitmalis/estimation/data/vitdet_tiny/accuracy_mlp.json",
    "vitmalis/video/manifest.toml",
    "vitmalis-0.1.0.dist-info/licenses/LICENSE",
)
RUN = ("policy=vitmalis", "video=walkS", "eval.seconds=2", "clock=virtual", "latency=paper_testbed", "output.page=true")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if built.returncode:
        pytest.skip(f"no wheel can be built here: {built.stderr.strip().splitlines()[-1:]}")
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_carries_what_the_jobs_read(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert set(CARRIED) <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "docs/"))]


def test_an_installed_wheel_evaluates_and_reports_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    environment, here = tmp_path / "environment", tmp_path / "elsewhere"
    here.mkdir()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    install = ["install", "--quiet", "--no-deps", "--ignore-installed", "--prefix", str(environment), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    (own,) = environment.glob("lib/python*/site-packages")
    (own / "others.pth").write_text(f"{site.getsitepackages()[0]}\n")  # its dependencies; the wheel comes before them

    def vitmalis(*arguments: str) -> str:
        python = str(environment / "bin" / "python")
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        code = f"import vitmalis; assert vitmalis.__file__.startswith({str(environment)!r}), vitmalis.__file__"
        subprocess.run([python, "-c", code], cwd=here, env=variables, check=True)
        command = [python, str(environment / "bin" / "vitmalis"), *arguments]
        done = subprocess.run(command, cwd=here, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "play a clip" in vitmalis("--help")
    vitmalis("evaluate", "-m", *RUN, "sweep.name=mine")
    pages = set(here.rglob("*.html"))  # one in the run's folder, one among MLflow's artifacts
    assert {read_page(page).document.policy for page in pages} == {"vitmalis"}
    vitmalis("report", "mine")
    assert set(here.rglob("*.html")) > pages
