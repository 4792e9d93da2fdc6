"""What the documentation names exists: modules, jobs of `vitmalis`, configurations, files and links."""

from __future__ import annotations

import importlib.util
import itertools
import pkgutil
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from vitmalis import testing
from vitmalis.detector.custom_detector import DETECTOR
from vitmalis.policy import POLICY
from vitmalis.tracker import TRACKER
from vitmalis.video.source import SOURCE
from vitmalis_jobs.cli import JOBS

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")])
CONFIGURATIONS = sorted(ROOT.glob("conf/**/*.yaml"))
PACKAGES = [ROOT, ROOT / "src", ROOT / "src" / "vitmalis", ROOT / "src" / "vitmalis_jobs"]
"""Folders that paths in the documentation start from, besides the folder of the page."""
OURS = ("vitmalis", "vitmalis_jobs", "evaluation", "profiling", "training", "validation")
UPSTREAM = ("modeling", "projects")
"""Folders of detectron2, which the pages on the detector name."""
TOP = ("conf", "docs", "src", "tests", "notebooks", "vitmalis", "vitmalis_jobs", *OURS)
ENTRY_POINTS = {point.group for point in (DETECTOR, POLICY, TRACKER, SOURCE)}
FILE_OF_THE_PAGE = re.compile(r"^```\w+\n# ([\w./]+)$", re.MULTILINE)
"""A file that the page gives whole, in a block whose first line names it."""
JOB = re.compile(r"vitmalis ([a-z]+)(?: ([a-z-]+))?(?! ?\.\.\.)\b")


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a checkout")
    return set(listed.stdout.splitlines())


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def code(page: Path) -> list[str]:
    """The page's code: indented or fenced lines, and what stands between backquotes; all of a configuration file."""
    if page.suffix == ".yaml":
        return page.read_text().splitlines()
    text = re.sub(r"\\\n\s*", "", page.read_text())
    fenced = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    blocks = [line for line in prose.splitlines() if line.startswith("    ")]
    inline = [" ".join(part.split()) for part in re.findall(r"`([^`]+)`", prose)]
    return [*itertools.chain.from_iterable(block.splitlines() for block in fenced), *blocks, *inline]


@pytest.mark.parametrize("page", [*PAGES, *CONFIGURATIONS], ids=name_of)
def test_modules_that_a_page_runs_exist(page: Path) -> None:
    named = re.findall(r"python -m ([\w.]*\w)", "\n".join(code(page)))
    missing = [name for name in named if name.split(".")[0] in OURS and not name.endswith(".NAME") and not runs(name)]
    assert not missing


def runs(module: str) -> bool:
    """Whether `python -m` finds the module, and finds something to run in it."""
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return False
    if found is None or found.origin is None:
        return False
    path = Path(found.origin)
    return (path.with_name("__main__.py") if path.name == "__init__.py" else path).is_file()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_names_on_a_page_exist(page: Path) -> None:
    named = {name for text in code(page) for name in re.findall(r"\bvitmalis(?:_jobs)?(?:\.\w+)+", text)}
    assert not [name for name in sorted(named) if not can_be_imported(name)]


def can_be_imported(name: str) -> bool:
    if name in ENTRY_POINTS:
        return True
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_jobs_that_a_page_names_exist(page: Path) -> None:
    named = [JOB.match(text.strip()) for text in code(page)]
    missing = [match[0] for match in named if match and not {match[1], f"{match[1]} {match[2]}"} & set(JOBS)]
    assert not missing


def test_every_job_has_a_row_in_the_table_of_its_folder() -> None:
    folders = ("evaluation", "profiling", "training", "validation")
    tables = {folder: (ROOT / folder / "README.md").read_text() for folder in folders}
    jobs = [(name, module.split(".")[0]) for name, (module, _) in JOBS.items()]
    assert not [
        name
        for name, folder in jobs
        if folder in tables and not re.search(rf"^\|.*`vitmalis {name}\b(?!-)", tables[folder], re.MULTILINE)
    ]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_choices_that_a_page_makes_exist(page: Path) -> None:
    """`experiment=fig8` needs conf/experiment/fig8.yaml; `mine` and the like stand for the reader's own."""
    for group in ("experiment", "clips", "latency", "link", "trace", "clock", "server"):
        names = {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")} | {"NAME", "mine"}
        for values in re.findall(rf"(?<![\w.-]){group}=([\w,]+)", "\n".join(code(page))):
            assert set(values.split(",")) <= names, f"{group}={values}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_options_that_a_page_sets_are_known(page: Path) -> None:
    options = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf").glob("*.yaml")}
    sections: dict[str, set[str]] = {}
    for name, values in itertools.chain.from_iterable(job.items() for job in options.values()):
        sections.setdefault(name, set()).update(values if isinstance(values, dict) else ())
    for section, key in re.findall(r"(?<![\w.+/])([a-z_]+)\.([a-z_]+)=", "\n".join(code(page))):
        groups = [yaml.safe_load(path.read_text()) or {} for path in (ROOT / "conf" / section).glob("*.yaml")]
        known = sections.get(section, set()).union(*groups)
        assert section in ("hydra", "video") or key in known, f"{section}.{key}"


@pytest.mark.parametrize("page", [*PAGES, *CONFIGURATIONS], ids=name_of)
def test_files_that_a_page_names_exist(page: Path, tracked: set[str]) -> None:
    folders = {str(parent) for name in tracked for parent in Path(name).parents}
    paths = [part for text in code(page) for part in re.split(r"[\s,;:()]+|\.$|\.\s", text) if is_path(part)]
    given = set(FILE_OF_THE_PAGE.findall(page.read_text()))
    assert not [path for path in paths if path not in given and not exists(path.rstrip("/"), tracked | folders)]


def is_path(text: str) -> bool:
    """Whether a word is the path of a file of this project, spelt out."""
    plain = re.fullmatch(r"[\w./-]+", text) is not None and "/" in text
    spelt_out = "mine" not in text and "NAME" not in text
    return plain and spelt_out and not text.startswith(UPSTREAM) and (text.split("/")[0] in TOP or text.endswith(".py"))


def exists(path: str, known: set[str]) -> bool:
    return any(str((base / path).relative_to(ROOT)) in known for base in PACKAGES)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.exists(), target
        if heading:
            assert heading in headings(other), target


def test_the_api_has_a_page_for_every_contract_suite_and_its_overview_names_every_page() -> None:
    folder = ROOT / "docs" / "api"
    shown = set(re.findall(r"^::: ([\w.]+)$", (folder / "testing.md").read_text(), re.MULTILINE))
    assert {getattr(testing, name).__module__ for name in testing.__all__} <= shown
    linked = set(re.findall(r"^\| \[[^\]]+\]\(([\w.]+)\)", (folder / "index.md").read_text(), re.MULTILINE))
    assert {page.name for page in folder.iterdir()} - {"index.md"} == linked


def test_every_image_has_a_row_with_its_source_and_licence() -> None:
    rows = [line for line in (ROOT / "docs" / "videos.md").read_text().splitlines() if line.startswith("| `images/")]
    named = {name for row in rows for name in re.findall(r"`images/([\w.-]+)`", row)}
    assert {path.name for path in (ROOT / "docs" / "images").iterdir()} <= named


def test_the_diagram_of_the_architecture_shows_the_layers_that_are_checked() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    diagram = [line.split() for line in page.split("```")[1].splitlines()]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = [layer for contract in contracts for layer in contract.get("layers", [])]
    assert layers
    for names in (layer.split(" | ") for layer in layers):
        assert any(set(names) <= set(line) for line in diagram), names


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
