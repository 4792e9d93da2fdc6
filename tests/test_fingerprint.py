"""Every cache misses when code that matters changes, and hits when a comment or an unrelated module does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from vitmalis import fingerprint
from vitmalis.fingerprint import DETECTORS, SOURCES, code_fingerprint, digest, imported_modules
from vitmalis_jobs.common.latency_tables import MEASURED_BY
from vitmalis_jobs.run.fingerprint import RUN_MODULES

DETECTOR = "vitmalis.detector.detector"
CACHES = {
    "references": ("vitmalis.references", DETECTOR, DETECTORS),
    "inference": ("vitmalis.virtual.server", DETECTOR, DETECTORS),
    "tables": (MEASURED_BY,),
    "runs": RUN_MODULES,
}


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of our packages that a test may edit."""
    for package in fingerprint.PACKAGES:
        for path in (SOURCES / package).rglob("*.py"):
            copy = tmp_path / path.relative_to(SOURCES)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    monkeypatch.setattr(fingerprint, "SOURCES", tmp_path)
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    """As a new process would start: fingerprints are read once in a process."""
    code_fingerprint.cache_clear()
    fingerprint._source.cache_clear()
    fingerprint._path.cache_clear()
    fingerprint._folder.cache_clear()


def caches() -> dict[str, str]:
    forget()
    return {name: code_fingerprint(*modules) for name, modules in CACHES.items()}


@pytest.mark.parametrize(
    ("module", "missed"),
    [
        ("vitmalis/types.py", {"references", "inference", "tables", "runs"}),
        ("vitmalis/video/spec.py", {"references", "inference", "tables", "runs"}),
        ("vitmalis/detector/postprocess.py", {"references", "inference", "tables", "runs"}),
        ("vitmalis/detector/vit.py", {"references", "inference", "tables", "runs"}),
        ("vitmalis/detector/rcnn.py", {"references", "inference", "tables", "runs"}),
        ("vitmalis/detector/fused/kernels/plain.py", {"references", "inference", "tables", "runs"}),
        ("vitmalis/references.py", {"references", "runs"}),
        ("vitmalis/codec/packing.py", {"inference", "tables", "runs"}),
        ("vitmalis/network/wire/messages.py", {"inference", "runs"}),
        ("vitmalis/server/admission.py", {"inference", "runs"}),
        ("vitmalis/server/decoding.py", {"inference", "runs"}),
        ("vitmalis/server/worker.py", {"runs"}),
        ("vitmalis/client/header.py", {"inference", "runs"}),
        ("vitmalis/client/machine.py", {"runs"}),
        ("vitmalis/explanation.py", {"tables", "runs"}),
        ("vitmalis/offload.py", {"inference", "tables", "runs"}),
        ("vitmalis/network/emulation/link.py", {"runs"}),
        ("vitmalis/network/emulation/relay.py", {"runs"}),
        ("vitmalis_jobs/profiling/latency/stages.py", {"tables"}),
        ("vitmalis_jobs/profiling/latency/measure.py", {"tables"}),
        ("vitmalis_jobs/profiling/latency/job.py", set()),
        ("vitmalis_jobs/profiling/latency/figure.py", set()),
        ("vitmalis_jobs/evaluation/prune.py", set()),
        ("vitmalis/video/fetch.py", set()),
    ],
)
def test_a_changed_statement_makes_the_caches_miss_that_depend_on_it(
    sources: Path, module: str, missed: set[str]
) -> None:
    before = caches()
    with (sources / module).open("a") as file:
        file.write("\nCHANGED = 1\n")
    after = caches()
    assert {name for name in CACHES if before[name] != after[name]} == missed


def test_comments_and_docstrings_do_not_count(sources: Path) -> None:
    before = caches()
    for path in sources.rglob("*.py"):
        path.write_text(path.read_text() + "\n# a remark\n")
    path = sources / "vitmalis" / "types.py"
    path.write_text(path.read_text().replace('"""', '"""Other words. ', 1))
    assert caches() == before


def test_measured_tables_do_not_depend_on_how_they_are_stored_and_shown() -> None:
    used = set(imported_modules(MEASURED_BY))
    others = {f"vitmalis_jobs.common.{name}" for name in ("mlflow_store", "console", "progress", "plotting", "cli")}
    assert "vitmalis_jobs.profiling.latency.stages" in used
    assert not used & others


def test_answers_do_not_depend_on_how_a_client_decides() -> None:
    """A changed estimator, policy or tracker leaves the inference cache as it is."""
    packages = {".".join(name.split(".")[:2]) for name in imported_modules(*CACHES["inference"])}
    assert not packages & {"vitmalis.policy", "vitmalis.estimation", "vitmalis.tracker", "vitmalis.explanation"}
    client = [name for name in imported_modules(*CACHES["inference"]) if name.startswith("vitmalis.client.")]
    assert client == ["vitmalis.client.header"]


def test_the_version_of_an_imported_library_counts(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = caches()
    real = fingerprint._version
    monkeypatch.setattr(fingerprint, "_version", lambda name: "0.0" if name == "torch" else real(name))
    assert all(after != before[name] for name, after in caches().items())


def test_imports_are_followed_through_packages_functions_and_relative_names(sources: Path) -> None:
    (sources / "vitmalis" / "one.py").write_text(
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from vitmalis import metrics\n"
        "def call():\n    from . import two\n"
    )
    (sources / "vitmalis" / "two.py").write_text("import vitmalis.errors as e\nimport numpy\n")
    forget()
    assert imported_modules("vitmalis.one") == ["vitmalis", "vitmalis.errors", "vitmalis.one", "vitmalis.two"]
    assert imported_modules("somewhere.else") == []


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder on the path: a package with a policy, and a module that it imports."""
    (tmp_path / "ownlab").mkdir()
    (tmp_path / "ownlab" / "__init__.py").write_text("")
    (tmp_path / "ownlab" / "policies.py").write_text(
        "import numpy\nfrom ownhelpers import gain\nfrom . import shared\n"
    )
    (tmp_path / "ownlab" / "shared.py").write_text("import vitmalis.errors\n")
    (tmp_path / "ownlab" / "other.py").write_text("")
    (tmp_path / "ownhelpers.py").write_text("gain = 2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    forget()
    return tmp_path


def test_a_users_module_counts_with_all_that_it_imports_and_is_not_installed(own_package: Path) -> None:
    ours = ["vitmalis", "vitmalis.errors"]
    used = ["ownhelpers", "ownlab", "ownlab.policies", "ownlab.shared"]
    assert imported_modules("ownlab.policies") == [*used, *ours]
    before = code_fingerprint("ownlab.policies")
    for module, matters in (("ownlab/other.py", False), ("ownlab/shared.py", True), ("ownhelpers.py", True)):
        with (own_package / module).open("a") as file:
            file.write("CHANGED = 1\n")
        forget()
        after = code_fingerprint("ownlab.policies")
        assert (after != before) == matters, module
        before = after


def test_a_users_package_counts_by_its_code_where_it_is_installed_too(
    own_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = own_package / "site-packages"
    installed.mkdir()
    for name in ("ownlab", "ownhelpers.py"):
        (own_package / name).rename(installed / name)
    monkeypatch.syspath_prepend(str(installed))
    forget()
    assert imported_modules("ownlab.policies") == [
        "ownlab",
        "ownlab.policies",
        "ownlab.shared",
        "vitmalis",
        "vitmalis.errors",
    ]


def test_a_set_in_the_code_has_one_fingerprint_in_every_process() -> None:
    first, second = frozenset(("a", "b", "c")), frozenset(("c", "b", "a"))
    assert (
        fingerprint._constant((first, 1)) == fingerprint._constant((second, 1)) != fingerprint._constant((first, 1.0))
    )


def test_a_digest_depends_on_the_order_of_what_it_is_made_of() -> None:
    assert digest([1, "a"]) == digest([1, "a"]) != digest(["a", 1])
    assert len(digest({})) == 64
